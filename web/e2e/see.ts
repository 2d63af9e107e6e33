// How tests look at the page.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Page } from '@playwright/test';
import { expect, type Cluster } from './cluster';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** No finding of the accessibility check is serious. */
export async function accessible(page: Page) {
  await page.evaluate(axe);
  const found = await page.evaluate(async () => {
    const { violations } = await (window as never as { axe: { run(): Promise<{ violations: { id: string; impact: string; nodes: { html: string; failureSummary: string }[] }[] }> } }).axe.run();
    return violations.map(({ id, impact, nodes }) => ({ id, impact, html: nodes.slice(0, 3).map((node) => `${node.html.slice(0, 160)} ${node.failureSummary}`) }));
  });
  expect(found.filter(({ impact }) => impact === 'serious' || impact === 'critical')).toEqual([]);
}

/** What the browser refuses, or throws, is a failure. */
export function watched(page: Page): string[] {
  const wrong: string[] = [];
  page.on('pageerror', (e) => wrong.push(e.message));
  page.on('console', (message) => {
    const text = message.text();
    if (message.type() === 'error' && !/status of (4|502|504)|ERR_/.test(text)) wrong.push(text);
  });
  page.on('request', (request) => {
    const host = new URL(request.url()).hostname;
    if (!['127.0.0.1', ''].includes(host)) wrong.push(`asks ${host}`);
  });
  return wrong;
}

export const row = (page: Page, name: string) => page.locator(`tr[data-task="${name}"]`);
export const state = (cluster: Cluster, name: string) => expect.poll(async () => (await cluster.task(name)).state, { timeout: 30_000 });
