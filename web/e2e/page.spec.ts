// The page, as a person uses it: each test goes on where the one before has left the cluster.
import { readFileSync } from 'node:fs';
import type { Page } from '@playwright/test';
import { enter, expect, fresh, guest, shot, test, type Cluster } from './cluster';
import { accessible, row, state, watched } from './see';

test.describe.configure({ mode: 'serial' });

test('nobody is let in without a token, and the one of the address is taken out of it', async ({ page, cluster }) => {
  const wrong = watched(page);
  const answer = await page.goto(cluster.url);
  expect(answer!.headers()['content-security-policy']).toContain("script-src 'self'");
  await expect(page.getByRole('heading', { name: 'Sign in' })).toBeVisible();
  await accessible(page);
  await page.getByLabel('Token').fill('nonsense');
  await page.getByRole('button', { name: 'Sign in' }).click();
  await expect(page.getByRole('alert')).toHaveText('no such token is good here');
  await shot(page, 'sign-in');
  await page.getByLabel('Token').fill(cluster.token);
  await page.keyboard.press('Enter');
  await expect(page.getByRole('heading', { name: 'Overview' })).toBeVisible();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await expect(page.getByRole('heading', { name: 'Sign in' })).toBeVisible();
  await enter(page, cluster, '/nodes');
  expect(page.url()).toBe(`${cluster.url}/nodes`);
  await expect(page.locator('tr[data-row]')).toHaveCount(3);
  const cookies = await page.context().cookies();
  expect(cookies).toMatchObject([{ httpOnly: true, sameSite: 'Strict' }]);
  expect(wrong).toEqual([]);
});

test('a task is submitted by the form, with its program, and what is wrong is said while it is typed', async ({ page, cluster }) => {
  const wrong = watched(page);
  await enter(page, cluster, '/submit');
  await page.locator('input[type=file]').first().setInputFiles(guest('steady'));
  await expect(page.getByText('steady.wasm')).toBeVisible();
  await page.locator('input[name=name]').fill('<script>');
  await expect(page.locator('[data-wrong=name]')).toHaveText(/cannot be a name/);
  await page.locator('input[name=cores]').fill('5000');
  await expect(page.locator('[data-wrong=cores]')).toHaveText('5000 is not 0.01 to 1024');
  await page.locator('input[name=memory]').fill('much');
  await expect(page.locator('[data-wrong=memory]')).toBeVisible();
  // What it goes on from is one of three.
  await expect(page.locator('input[name=snapshot_every]')).toBeDisabled();
  await page.getByLabel('it goes on from its last snapshot').check();
  await page.locator('input[name=snapshot_every]').fill('0.5');
  await expect(page.locator('[data-wrong=snapshot_every]')).toHaveText('0.5 is not 1 to 86400');
  await shot(page, 'submit-wrong');
  await accessible(page);
  await page.getByLabel('it begins anew').check();
  await page.locator('input[name=name]').fill('sim');
  await page.locator('input[name=cores]').fill('0.5');
  await page.locator('input[name=memory]').fill('64 MiB');
  await page.locator('input[name=args]').fill("8 100000 20 '<script>alert(1)</script>'");
  await page.getByRole('button', { name: 'Submit' }).click();
  await expect(page).toHaveURL(`${cluster.url}/tasks/sim`);
  await expect(page.locator('.title .state')).toHaveText('running');
  // What it was given, and what it writes, is text.
  await expect(page.locator('pre.log')).toContainText('<script>alert(1)</script>');
  await expect(page.locator('pre.log')).toContainText('step 3:');
  expect(await page.locator('pre.log script, .facts script').count()).toBe(0);
  expect(wrong).toEqual([]);
});

test('a running task moves to another node while its page is watched', async ({ page, cluster, context }) => {
  const wrong = watched(page);
  await enter(page, cluster, '/tasks/sim');
  const from = (await cluster.task('sim')).node;
  const to = from === 'node3' ? 'node2' : 'node3';
  await expect(page.locator('[data-fact=node]')).toContainText(from);
  const map = await context.newPage();
  await map.goto(`${cluster.url}/`);
  await expect(map.locator(`[data-node="${from}"] .dots a`)).toHaveCount(1);
  const flight = map.locator('[data-flight=sim]').waitFor({ state: 'attached', timeout: 15_000 });
  await page.getByRole('button', { name: 'Move to…' }).click();
  const dialog = page.getByRole('dialog');
  const line = dialog.locator(`[data-to=${to}]`);
  await expect(line).toContainText('processors and');
  for (const figure of ['took', 'downtime']) await expect(line.locator(`[data-figure=${figure}]`)).toHaveText(/^\d+(\.\d+)? (ms|s)$/);
  const predicted = (await line.locator('[data-figure=downtime]').textContent())!;
  await shot(page, 'move');
  await accessible(page);
  await line.getByRole('button', { name: `Move: ${to}` }).click();
  await flight;
  await shot(map, 'overview-moving');
  await expect(page.locator('.toast')).toContainText(`sim is on ${to}: it stood still for`);
  // What was thought stands beside what became of it.
  const still = dialog.locator('[data-moved]').getByRole('row', { name: 'Stood still' }).getByRole('cell');
  await expect(still.first()).toHaveText(predicted);
  await expect(still.last()).toHaveText(/^\d+(\.\d+)? ms$/);
  await shot(page, 'moved');
  await accessible(page);
  await dialog.locator('.dialog-body').getByRole('button', { name: 'Close' }).click();
  await expect(dialog).toHaveCount(0);
  await expect(page.locator('.lanes [data-mark=move]')).toHaveCount(1);
  await expect(page.locator('[data-fact=node]')).toContainText(to);
  await expect(page.locator('.timeline')).toContainText(to);
  await expect(map.locator(`[data-node="${to}"] .dots a`)).toHaveCount(1);
  // Its log goes on, and its charts are there.
  const steps = async () => Number(/step (\d+):(?!.*step \d+:)/s.exec((await page.locator('pre.log').textContent()) ?? '')?.[1] ?? 0);
  const before = await steps();
  await expect.poll(steps).toBeGreaterThan(before);
  await expect(page.locator('.chart canvas')).toHaveCount(3);
  await expect(page.locator('.chart').nth(0)).toContainText(/Processor \d+ %/);
  await expect(page.locator('.chart').nth(2)).toContainText(/Memory written anew \d+(\.\d)? \wB\/s/);
  await page.waitForTimeout(2500);
  await shot(page, 'task');
  await accessible(page);
  await accessible(map);
  expect(wrong).toEqual([]);
});

test('tasks are filtered, sorted, chosen, cancelled and deleted', async ({ page, cluster }) => {
  const wrong = watched(page);
  const queens = await cluster.program('queens');
  const sleeper = await cluster.program('steady');
  await cluster.submit({ name: 'quick', image: queens, args: ['6'], count: 3, labels: [] });
  await cluster.submit({ name: 'bad', image: queens, args: ['x', 'y', 'z'] });
  await cluster.submit({ name: 'long', image: sleeper, args: ['1', '100000', '50'], count: 2 });
  await enter(page, cluster, '/tasks');
  await expect(page.locator('tr[data-task]')).toHaveCount(7);
  await expect(row(page, 'quick-3').locator('.state')).toHaveText('succeeded');
  await page.keyboard.press('/');
  await page.keyboard.type('long');
  await expect(page.locator('tr[data-task]')).toHaveCount(2);
  await page.getByLabel('Search').fill('');
  await page.getByRole('button', { name: /^succeeded/ }).click();
  await expect(row(page, 'sim')).toHaveCount(0);
  await page.getByRole('button', { name: /^succeeded/ }).click();
  await page.getByRole('columnheader', { name: 'Name' }).getByRole('button').click();
  await expect(page.locator('tr[data-task]').first()).toHaveAttribute('data-task', 'bad');
  await shot(page, 'tasks');
  await accessible(page);
  await page.getByLabel('Choose long-1').check();
  await page.getByLabel('Choose long-2').check();
  await page.getByRole('button', { name: 'Cancel', exact: true }).click();
  await expect(row(page, 'long-1').locator('.state')).toHaveText('cancelled');
  await expect(row(page, 'long-2').locator('.state')).toHaveText('cancelled');
  await page.getByLabel('Choose long-1').check();
  await page.getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await expect(row(page, 'long-1')).toHaveCount(0);
  expect(wrong).toEqual([]);
});

test('a set of JSON is refused with its line, and then taken', async ({ page, cluster }) => {
  const wrong = watched(page);
  await enter(page, cluster, '/submit');
  await page.getByRole('tab', { name: 'Many, as JSON' }).click();
  const editor = page.getByLabel('The set, as JSON');
  await editor.fill('{\n  "name": "night",\n  "tasks": [\n    {"name": "a" "image": "queens.wasm"}\n  ]\n}');
  await expect(page.locator('.faults')).toContainText('line 4, column 18 "," or "}" is missing');
  await editor.fill('{\n  "name": "night",\n  "tasks": [\n    {"name": "a", "image": "queens.wasm", "args": ["6"], "memory": 67108864},\n    {"name": "sim", "image": "queens.wasm", "cores": "four"}\n  ]\n}');
  await expect(page.locator('.faults')).toContainText('no program of this name was chosen');
  await page.locator('input[type=file]').first().setInputFiles(guest('queens'));
  await expect(page.locator('.faults li')).toHaveText([/^line 5, column \d+ tasks\[1\]\.cores is a text, where a number is needed/]);
  await expect(page.locator('.gutter .is-bad')).toHaveText('5');
  await shot(page, 'submit-json-wrong');
  await accessible(page);
  // What only the controller knows is told at its line, too.
  await editor.fill('{\n  "name": "night",\n  "tasks": [\n    {"name": "a", "image": "queens.wasm", "args": ["6"], "memory": 67108864},\n    {"name": "sim", "image": "queens.wasm", "memory": 67108864}\n  ]\n}');
  await page.getByRole('button', { name: 'Submit 2 tasks' }).click();
  await expect(page.locator('.faults li').first()).toContainText('line 5');
  await editor.fill((await editor.inputValue()).replace('"sim"', '"b"'));
  await page.getByRole('button', { name: 'Submit 2 tasks' }).click();
  await expect(page).toHaveURL(`${cluster.url}/tasks?set=night`);
  await expect(row(page, 'b').locator('.state')).toHaveText('succeeded');
  expect(wrong).toEqual([]);
});

test('a set is shown as a plan before it is sent, and nothing of it is done', async ({ page, cluster }) => {
  const wrong = watched(page);
  await enter(page, cluster, '/submit');
  await page.getByRole('tab', { name: 'Many, as JSON' }).click();
  await page.locator('input[type=file]').first().setInputFiles(guest('queens'));
  const editor = page.getByLabel('The set, as JSON');
  await editor.fill(
    '{"name": "later", "tasks": [{"name": "later", "image": "queens.wasm", "args": ["9"], "memory": 67108864, "cores": 2, "count": 9, "estimate": 4},\n{"name": "wide", "image": "queens.wasm", "cores": 64}]}',
  );
  await page.getByRole('button', { name: 'Plan it' }).click();
  await expect(page.locator('[data-planned]')).toHaveCount(9);
  await expect(page.locator('.compared')).toHaveCount(0);
  await expect(page.getByText(/done in \S+ \S+; no plan is done before \S+ \S+/)).toBeVisible();
  await expect(page.locator('.faults')).toContainText('it asks for 64 cores');
  await shot(page, 'submit-plan');
  await accessible(page);
  // Whatever else decides is shown beside that.
  const policies = await page.getByLabel('Policy').locator('option').evaluateAll((all) => all.map((one) => (one as HTMLOptionElement).value));
  expect(policies).toEqual(['list', 'local', 'memory-first', 'mbct-ga', 'earliest-finish', 'local-search']);
  for (const policy of policies.slice(1)) {
    await page.getByLabel('Policy').selectOption(policy);
    await expect(page.locator('.compared')).toHaveCount(0);
    await page.getByRole('button', { name: 'Plan it' }).click();
    await expect(page.locator('[data-plan=made]')).toContainText(`${policy}, seed 0`);
    await expect(page.locator('[data-plan=usual]')).toContainText('list, seed 0');
  }
  // Alone on the controller's node it takes longer.
  await page.getByLabel('Policy').selectOption('local');
  await page.getByLabel('Seed').fill('x');
  await expect(page.getByRole('button', { name: 'Plan it' })).toBeDisabled();
  await page.getByLabel('Seed').fill('7');
  await page.getByRole('button', { name: 'Plan it' }).click();
  await expect(page.locator('[data-plan=made]')).toContainText(/local, seed 7.* \+\d+(\.\d)? %/);
  await shot(page, 'submit-plan-compared');
  await accessible(page);
  // What would take too long is refused, with the reason.
  await page.getByLabel('Policy').selectOption('mbct-ga');
  await editor.fill((await editor.inputValue()).replace('"count": 9', '"count": 90000'));
  await page.getByRole('button', { name: 'Plan it' }).click();
  await expect(page.locator('.faults')).toContainText('mbct-ga would take too long for 90001 tasks');
  await page.goto(`${cluster.url}/tasks`);
  await expect(row(page, 'later-1')).toHaveCount(0);
  expect(wrong).toEqual([]);
});

test('a node is cordoned, labelled, drained and taken back, and another is invited', async ({ page, cluster }) => {
  const wrong = watched(page);
  const node = (await cluster.task('sim')).node;
  await enter(page, cluster, `/nodes/${node}`);
  await expect(page.getByRole('cell', { name: 'sim' })).toBeVisible();
  await page.getByLabel('New label').fill('zone=a');
  await page.getByRole('button', { name: 'Add', exact: true }).click();
  await expect(page.locator('.labels .tag')).toContainText('zone=a');
  await page.getByRole('button', { name: 'Cordon' }).click();
  await expect(page.locator('.title .state')).toHaveText('cordoned');
  await page.getByRole('button', { name: 'Drain…' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Drain' }).click();
  await expect(page.locator('.toast').last()).toContainText('Moved: sim → node');
  await shot(page, 'node');
  await accessible(page);
  await page.getByRole('button', { name: 'Uncordon' }).click();
  await expect(page.locator('.title .state')).toHaveText('ready');
  await expect(page.getByRole('button', { name: 'Remove…' })).toBeDisabled();
  await page.goto(`${cluster.url}/nodes`);
  await page.getByRole('button', { name: 'Add nodes…' }).click();
  await page.getByLabel('Machines').fill('2');
  await page.getByLabel('Name', { exact: true }).fill('edge');
  await page.getByRole('button', { name: 'Show the command' }).click();
  await expect(page.locator('.copied code').last()).toContainText('--name edge2');
  await shot(page, 'nodes-add');
  await accessible(page);
  await page.keyboard.press('Escape');
  await expect(page.getByRole('dialog')).toHaveCount(0);
  await accessible(page);
  expect(wrong).toEqual([]);
});

test('many nodes are invited by a text, each with its command and its labels', async ({ page, cluster }) => {
  const wrong = watched(page);
  await enter(page, cluster, '/nodes');
  await page.getByRole('button', { name: 'Add nodes…' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('tab', { name: 'A list, as JSON' }).click();
  const editor = dialog.getByLabel('The nodes, as JSON');
  await editor.fill('[\n  {"name": "gw1", "labels": ["zone=a"]},\n  {"name": "gw1"},\n  {"name": "node1", "label": 1},\n  {"name": "a_b", "labels": ["x y"]}\n]');
  await expect(dialog.locator('.faults li')).toHaveText([
    /^line 3, column 12 \[1\]\.name gw1 stands here twice/,
    /^line 4, column 12 \[2\]\.name there is a node named node1 already/,
    /^line 4, column 30 \[2\]\.label is not known here/,
    /^line 5, column 12 \[3\]\.name cannot be a node's name/,
    /^line 5, column \d+ \[3\]\.labels\[0\] cannot be a label/,
  ]);
  await expect(dialog.getByRole('button', { name: 'Invite', exact: true })).toBeDisabled();
  await shot(page, 'nodes-many-wrong');
  await accessible(page);
  const nodes = [{ name: 'gw1', labels: ['zone=a', 'gpu'] }, { name: 'gw2' }];
  await dialog.locator('input[type=file]').setInputFiles({ name: 'nodes.json', mimeType: 'application/json', buffer: Buffer.from(JSON.stringify(nodes)) });
  await dialog.getByRole('button', { name: 'Invite 2 nodes' }).click();
  await expect(dialog.locator('.commands li')).toHaveCount(2);
  await expect(dialog.locator('.commands li').first()).toContainText('--name gw1');
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
  await dialog.locator('.commands li').nth(1).getByRole('button', { name: 'Copy' }).click();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toMatch(/^wayfare node join wf1-\S+ --name gw2 && wayfare node serve/);
  await dialog.getByRole('button', { name: 'Copy all' }).click();
  expect((await page.evaluate(() => navigator.clipboard.readText())).split('\n').length).toBe(2);
  const [file] = await Promise.all([page.waitForEvent('download'), dialog.getByRole('button', { name: 'Download as a script' }).click()]);
  const script = readFileSync(await file.path(), 'utf8');
  expect(script).toMatch(/^#!\/bin\/sh\n/);
  await shot(page, 'nodes-many');
  await accessible(page);
  await page.keyboard.press('Escape');
  // The machine joins by the script while nobody looks.
  await page.goto('about:blank');
  const gw1 = await cluster.join(script, 'gw1');
  await enter(page, cluster, '/nodes');
  await expect(page.locator('tr[data-row=gw1]')).toContainText('zone=a');
  await expect(page.locator('tr[data-row=gw1]')).toContainText('gpu');
  await gw1();
  // Not to be in the way of what comes.
  await expect(page.locator('tr[data-row=gw1]')).toContainText('lost', { timeout: 20_000 });
  expect((await cluster.ask('DELETE', '/v1/nodes/gw1')).status).toBe(204);
  expect(wrong).toEqual([]);
});

test('an image for a board is downloaded, or it is said how to get one', async ({ page, cluster }) => {
  const wrong = watched(page);
  const kinds = (await cluster.ask<{ isa: string; missing?: string }[]>('GET', '/v1/unikernels')).body;
  const missing = 'there is no kernel in /x/unikernel/riscv64.elf or /usr/lib/wayfare/unikernel/riscv64.elf: `./x unikernel` builds it';
  // One that was not built.
  await page.route('**/v1/unikernels', async (route) => {
    const all = await (await route.fetch()).json();
    await route.fulfill({ json: all.map((one: { isa: string }) => (one.isa === 'riscv64' ? { isa: 'riscv64', formats: ['elf', 'raw'], bytes: null, missing } : one)) });
  });
  await enter(page, cluster, '/nodes');
  await page.getByRole('button', { name: 'Add nodes…' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('tab', { name: 'Bare machines' }).click();
  await expect(dialog.locator('[data-isa=riscv64]')).toContainText('`./x unikernel` builds it');
  await expect(dialog.getByRole('button', { name: 'Download the image for riscv64' })).toBeDisabled();
  await dialog.getByLabel('Name').fill('node1');
  await expect(dialog.locator('.wrong')).toContainText('there is a node named node1 already');
  await dialog.getByLabel('Name').fill('pi1');
  await shot(page, 'nodes-bare');
  await accessible(page);
  if (kinds.find(({ isa }) => isa === 'aarch64')?.missing) {
    await expect(dialog.getByRole('button', { name: 'Download the image for aarch64' })).toBeDisabled();
  } else {
    await dialog.getByLabel('Form of the image for aarch64').selectOption('raw');
    const get = dialog.getByRole('button', { name: 'Download the image for aarch64' });
    const [file] = await Promise.all([page.waitForEvent('download'), get.click()]);
    expect(file.suggestedFilename()).toBe('pi1.img');
    // It begins as Linux's images do.
    expect(readFileSync(await file.path()).subarray(56, 60).toString('latin1')).toBe('ARM\x64');
    await expect(dialog.getByRole('status')).toContainText('wayfare unikernel run pi1.img');
    // A name is used once.
    await dialog.getByLabel('Name').fill('pi1');
    await get.click();
    await expect(page.locator('.toast').last()).toContainText('there is a node named pi1');
  }
  expect(wrong).toEqual([]);
});

test('a standby is given by hand, failed over to, and takes over when the node is killed', async ({ page, cluster }) => {
  test.setTimeout(90_000);
  const wrong = watched(page);
  await cluster.submit({ name: 'kept', image: await cluster.program('steady'), args: ['4', '100000', '20'], labels: [] });
  await state(cluster, 'kept').toBe('running');
  const from = (await cluster.task('kept')).node;
  const to = from === 'node3' ? 'node2' : 'node3';
  await enter(page, cluster, '/tasks/kept');
  await page.getByRole('button', { name: 'Give it a standby…' }).click();
  await page.getByRole('dialog').getByLabel('Node').selectOption(to);
  await page.getByRole('dialog').getByRole('button', { name: 'Give it a standby' }).click();
  await page.getByRole('link', { name: 'Standbys' }).click();
  const pair = page.locator('[data-pair=kept]');
  await expect(pair).toContainText(`${from} → ${to}`);
  await expect(pair).toContainText(' old');
  await shot(page, 'standbys');
  await accessible(page);
  await pair.getByRole('button', { name: 'Fail over' }).click();
  await expect(pair).toContainText(`${to} → ${from}`, { timeout: 30_000 });
  await expect.poll(async () => (await cluster.task('kept')).node, { timeout: 20_000 }).toBe(to);
  // Its node dies while its page is looked at.
  await page.goto(`${cluster.url}/tasks/kept`);
  await expect(page.locator('[data-fact=node]')).toContainText(to);
  await expect(page.locator('.chart')).toHaveCount(6);
  await expect(page.locator('.synced')).toContainText(`syncs to ${from}: `);
  await expect(page.locator('.legend')).toContainText('sync');
  cluster.kill(Number(to.slice(4)));
  await expect(page.locator('[data-fact=node]')).not.toContainText(to, { timeout: 40_000 });
  await state(cluster, 'kept').toBe('running');
  await expect(page.locator('.lanes [data-mark=failover]')).not.toHaveCount(0);
  await shot(page, 'task-after-failover');
  await page.goto(`${cluster.url}/`);
  await expect(page.locator('.attention')).toContainText(`${to} is lost`);
  await expect(page.locator(`[data-node=${to}]`)).toContainText('lost');
  await shot(page, 'overview-lost');
  await accessible(page);
  expect(wrong).toEqual([]);
});

test('what a role may not do is not offered', async ({ page, cluster }) => {
  const wrong = watched(page);
  await enter(page, cluster, '/access');
  await page.getByLabel('Name').fill('guest');
  await page.getByRole('button', { name: 'Make it' }).click();
  const token = (await page.locator('.copied code').textContent())!;
  await accessible(page);
  await shot(page, 'access');
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByLabel('Token').fill(token);
  await page.keyboard.press('Enter');
  await page.getByRole('link', { name: 'Tasks' }).click();
  await expect(row(page, 'sim')).toBeVisible();
  for (const name of ['Submit', 'Access']) await expect(page.getByRole('link', { name })).toHaveCount(0);
  await expect(page.locator('main input[type=checkbox]')).toHaveCount(0);
  await page.goto(`${cluster.url}/tasks/sim`);
  await expect(page.locator('.title .state')).toHaveText('running');
  await expect(page.locator('main .actions')).toHaveCount(0);
  // It sees that there are snapshots, and does nothing with them.
  expect((await cluster.ask('POST', '/v1/tasks/sim/snapshots')).status).toBe(201);
  await page.reload();
  await expect(page.locator('[data-snapshot]').first()).toContainText('by hand');
  await expect(page.locator('.snapshots').locator('a, button')).toHaveCount(0);
  // Who operates does what there is to do with tasks, and nothing with nodes and tokens.
  const operator = (await cluster.ask<{ token: string }>('POST', '/v1/tokens', { name: 'operator', role: 'operate' })).body.token;
  await page.getByRole('button', { name: 'Sign out' }).click();
  await enter(page, cluster, '/nodes/node1', operator);
  await expect(page.locator('.title .state')).toHaveText('ready');
  await expect(page.locator('main .actions')).toHaveCount(0);
  await expect(page.getByRole('link', { name: 'Access' })).toHaveCount(0);
  await page.getByRole('link', { name: 'Submit' }).click();
  await expect(page.getByRole('tab', { name: 'One task' })).toBeVisible();
  await page.goto(`${cluster.url}/tasks/sim`);
  await expect(page.getByRole('button', { name: 'Move to…' })).toBeEnabled();
  expect(wrong).toEqual([]);
});

/** The dialog for new nodes, and a plan, as they are in the dark, on a phone and in Chinese. */
async function adding(page: Page, cluster: Cluster, name: string) {
  await page.goto(`${cluster.url}/nodes`);
  await page.locator('.title button').click();
  const tabs = page.getByRole('dialog').getByRole('tab');
  await tabs.nth(1).click();
  await page.getByRole('dialog').locator('textarea').fill('[{"name": "gw1"},\n{"name": "gw1"}]');
  await expect(page.locator('.faults')).toBeVisible();
  await shot(page, `${name}-nodes-many`);
  await accessible(page);
  await tabs.nth(2).click();
  await expect(page.locator('[data-isa]')).toHaveCount(3);
  await shot(page, `${name}-nodes-bare`);
  await accessible(page);
  const across = () => page.evaluate(() => { const body = document.querySelector('.dialog-body')!; return body.scrollWidth - body.clientWidth; });
  expect(await across()).toBeLessThanOrEqual(0);
  await page.goto(`${cluster.url}/submit`);
  await page.getByRole('tab').nth(1).click();
  await page.locator('.editor textarea').fill(`{"name": "p", "tasks": [{"name": "p", "image": "${'ab'.repeat(32)}", "count": 6, "memory": 67108864, "estimate": 3}]}`);
  await page.locator('.preview select').selectOption('local');
  await page.locator('.preview button').click();
  await expect(page.locator('.compared')).toBeVisible();
  await page.locator('.compared').scrollIntoViewIfNeeded();
  expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0);
  await shot(page, `${name}-submit-plan`);
  await accessible(page);
}

/** Where a task may go, and one that goes on from its snapshot. */
async function going(page: Page, cluster: Cluster, name: string) {
  await page.goto(`${cluster.url}/tasks/sim`);
  const actions = page.locator('main > .actions button');
  await actions.first().click();
  await expect(page.locator('[data-to] [data-figure=downtime]').first()).toHaveText(/\d/);
  await shot(page, `${name}-move`);
  await accessible(page);
  const across = () => page.evaluate(() => { const body = document.querySelector('.dialog-body')!; return body.scrollWidth - body.clientWidth; });
  expect(await across(), `${name} move`).toBeLessThanOrEqual(0);
  await page.keyboard.press('Escape');
  const snapshots = page.locator('.snapshots');
  await snapshots.scrollIntoViewIfNeeded();
  await expect(page.locator('.chart canvas')).toHaveCount(3);
  await page.waitForTimeout(2500);
  await shot(page, `${name}-snapshots`);
  await page.locator('[data-snapshot] button').first().click();
  await shot(page, `${name}-resume`);
  await accessible(page);
}

test('dark, on a phone, and in Chinese', async ({ browser, cluster }) => {
  test.setTimeout(150_000);
  const pages = ['/', '/tasks', '/tasks/sim', '/nodes', '/standbys', '/submit'];
  for (const [name, options] of Object.entries({
    dark: { colorScheme: 'dark' },
    phone: { viewport: { width: 390, height: 780 }, isMobile: true, hasTouch: true },
    chinese: { locale: 'zh-CN' },
  } as const)) {
    const context = await browser.newContext(options);
    await fresh(context);
    const page = await context.newPage();
    const wrong = watched(page);
    await enter(page, cluster);
    await adding(page, cluster, name);
    await going(page, cluster, name);
    for (const path of pages) {
      await page.goto(cluster.url + path);
      await expect(page.locator('h1')).toBeVisible();
      await page.waitForTimeout(300);
      await shot(page, `${name}${path.replaceAll('/', '-').replace(/-$/, '-overview')}`);
      await accessible(page);
      // No column is squeezed to nothing by the others.
      for (const cell of await page.locator('.rows th').all()) expect((await cell.boundingBox())!.width, `${name} ${path}`).toBeGreaterThan(30);
      // Nothing stands out at the side.
      expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), `${name} ${path}`).toBeLessThanOrEqual(0);
    }
    if (name === 'chinese') {
      expect(await page.locator('html').getAttribute('lang')).toBe('zh-CN');
      await expect(page.getByRole('link', { name: '任务' })).toBeVisible();
      // What the controller says is in Chinese, too.
      const { why } = await cluster.task('sim');
      await page.goto(`${cluster.url}/tasks/sim`);
      await expect(page.locator('[data-fact=why]')).toHaveText(/[\u4e00-\u9fff]/);
      await expect(page.locator('[data-fact=why]')).not.toHaveText(why);
      for (const moment of await page.locator('.timeline li > :last-child').all()) await expect(moment).toHaveText(/[\u4e00-\u9fff]/);
    }
    if (name === 'dark') {
      const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const dark = await ground();
      await page.getByLabel('Colours').selectOption('light');
      expect(await ground()).not.toBe(dark);
    }
    expect(wrong).toEqual([]);
    await context.close();
  }
});

test('when the controller goes, the page says so, and when it is back all is seen again', async ({ page, cluster }) => {
  test.setTimeout(90_000);
  await enter(page, cluster, '/tasks');
  const count = await page.locator('tr[data-task]').count();
  await cluster.end();
  await expect(page.locator('.live.is-lost')).toHaveText('connection lost');
  await cluster.again();
  await expect(page.locator('.live.is-live')).toBeVisible({ timeout: 30_000 });
  await cluster.submit({ name: 'after', image: await cluster.program('queens'), args: ['6'] });
  await expect(row(page, 'after').locator('.state')).toHaveText('succeeded', { timeout: 40_000 });
  await expect(page.locator('tr[data-task]')).toHaveCount(count + 1);
});
