// Snapshots, by the page. Nothing is left of what is done here: other files begin with an empty cluster.
import { statSync } from 'node:fs';
import { enter, expect, shot, test } from './cluster';
import { accessible, row, state, watched } from './see';

test('a snapshot is taken, carried away, and gone on from under another name until that ends', async ({ page, cluster }) => {
  test.setTimeout(90_000);
  const wrong = watched(page);
  await cluster.submit({ name: 'photo', image: await cluster.program('steady'), args: ['2', '400', '20'] });
  await state(cluster, 'photo').toBe('running');
  await enter(page, cluster, '/tasks/photo');
  await expect(page.locator('pre.log')).toContainText('step 3:');
  await expect(page.locator('.snapshots')).toContainText('None.');
  await page.getByRole('button', { name: 'Capture' }).click();
  const taken = page.locator('[data-snapshot]');
  await expect(taken).toHaveCount(1);
  await expect(taken).toContainText('by hand');
  await expect(page.locator('.toast').last()).toContainText('of photo is kept');
  await expect(page.locator('.lanes [data-mark=snapshot]')).toHaveCount(1);
  await expect(page.locator('.legend')).toContainText('snapshot');
  const id = (await taken.getAttribute('data-snapshot'))!;
  const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: `Download: snapshot ${id}` }).click()]);
  expect(file.suggestedFilename()).toBe(`photo-${id}.snap`);
  expect(statSync(await file.path()).size).toBeGreaterThan(1 << 16);
  await taken.scrollIntoViewIfNeeded();
  await shot(page, 'snapshots');
  await accessible(page);
  await page.getByRole('button', { name: `Resume as…: snapshot ${id}` }).click();
  const dialog = page.getByRole('dialog');
  const name = dialog.getByLabel('Name');
  await expect(name).toHaveValue('photo-2');
  await name.fill('a b');
  await expect(dialog.getByRole('alert')).toContainText('cannot be a name');
  await name.fill('photo');
  await expect(dialog.getByRole('alert')).toHaveText('there is a task of this name');
  await expect(dialog.getByRole('button', { name: 'Resume' })).toBeDisabled();
  await shot(page, 'resume');
  await accessible(page);
  await name.fill('again');
  await page.keyboard.press('Enter');
  await expect(page).toHaveURL(`${cluster.url}/tasks/again`);
  await expect(page.locator('[data-fact=snapshot]')).toContainText('it went on from number');
  await expect(page.locator('.title .state')).toHaveText('running');
  // Not from its beginning, and to its end.
  await expect(page.locator('pre.log')).toContainText('step 3:');
  await expect(page.locator('.title .state')).toHaveText('succeeded', { timeout: 40_000 });
  // The one that it has gone on from, and the one that this is a copy of.
  for (const task of ['again', 'photo']) {
    await page.goto(`${cluster.url}/tasks/${task}`);
    await page.getByRole('button', { name: /^Remove…: snapshot/ }).click();
    await dialog.getByRole('button', { name: 'Remove' }).click();
    await expect(taken).toHaveCount(0);
  }
  // By the table, of all that are chosen; and what cannot be is said.
  await cluster.submit({ name: 'still', image: await cluster.program('steady'), args: ['1', '100000', '50'], snapshot_every: 1 });
  await cluster.submit({ name: 'other', image: await cluster.program('steady'), args: ['1', '100000', '50'] });
  for (const name of ['still', 'other']) await state(cluster, name).toBe('running');
  await page.goto(`${cluster.url}/tasks`);
  for (const name of ['still', 'other']) await expect(row(page, name).locator('.state')).toHaveText('running');
  for (const name of ['other', 'still']) await page.getByLabel(`Choose ${name}`, { exact: true }).check();
  await page.getByRole('button', { name: 'Capture' }).click();
  await expect(page.locator('.toast').last()).toHaveText(/2 snapshots are kept/);
  await page.goto(`${cluster.url}/tasks/still`);
  await expect(page.locator('[data-fact=snapshot]')).toContainText('one every 1.0 s');
  await expect(page.locator('.snapshots')).toContainText('by itself');
  await expect(page.locator('.snapshots')).toContainText('by hand');
  await page.route('**/v1/tasks/still/snapshots', (route) => (route.request().method() === 'POST' ? route.fulfill({ status: 409, json: { status: 409, title: '16 snapshots of still are kept: remove one first' } }) : route.continue()));
  await page.getByRole('button', { name: 'Capture' }).click();
  await expect(page.locator('.toast.is-bad')).toContainText('16 snapshots of still are kept');
  for (const name of ['still', 'other', 'photo', 'again']) {
    await cluster.ask('POST', `/v1/tasks/${name}/cancel`);
    await expect.poll(async () => (await cluster.ask('DELETE', `/v1/tasks/${name}`)).status).toBe(204);
  }
  expect(wrong).toEqual([]);
});
