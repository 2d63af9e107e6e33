// A cluster for a file of tests: `wayfare up` with a directory and ports of its own.
import { test as base, expect, type BrowserContext, type Page } from '@playwright/test';
import { blake3 } from '@noble/hashes/blake3';
import { bytesToHex } from '@noble/hashes/utils';
import { spawn, type ChildProcess } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { extname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const target = resolve(process.env.WAYFARE_TARGET ?? fileURLToPath(new URL('../../target', import.meta.url)));
const wayfare = process.env.WAYFARE ?? join(target, 'release/wayfare');
export const shots = join(target, 'web-shots');
export const guest = (name: string) => join(target, 'guests', `${name}.wasm`);

let next = process.pid;

/** A port that is nobody's: none of those that the kernel gives to whoever asks for any, as a browser does, and each once. */
async function freePort(): Promise<number> {
  for (;;) {
    const port = 30_000 + (next++ % 2_700);
    const server = createServer().listen(port, '127.0.0.1');
    const free = await new Promise((go) => server.once('listening', () => go(true)).once('error', () => go(false)));
    if (!free) continue;
    await new Promise((go) => server.close(go));
    return port;
  }
}

type Said<T> = { status: number; body: T };

export class Cluster {
  private constructor(
    readonly url: string,
    readonly token: string,
    readonly state: string,
    public child: ChildProcess,
    private readonly args: string[],
  ) {}

  static async up(nodes = 3, more: string[] = []): Promise<Cluster> {
    const state = mkdtempSync(join(tmpdir(), 'wayfare-web-'));
    chmodSync(state, 0o700);
    const [listen, api] = [await freePort(), await freePort()];
    const args = ['up', '--nodes', String(nodes), '--listen', `127.0.0.1:${listen}`, '--api', `127.0.0.1:${api}`, ...more];
    const child = await Cluster.start(state, args);
    const { token } = JSON.parse(readFileSync(join(state, 'controller/access.json'), 'utf8'));
    const cluster = new Cluster(`http://127.0.0.1:${api}`, token, state, child, args);
    await expect.poll(async () => (await cluster.ask<unknown[]>('GET', '/v1/nodes')).body.length).toBe(nodes);
    return cluster;
  }

  private static async start(state: string, args: string[]): Promise<ChildProcess> {
    const child = spawn(wayfare, args, { env: { ...process.env, WAYFARE_STATE: state, XDG_CACHE_HOME: join(state, 'cache') } });
    let said = '';
    await new Promise<void>((go, fail) => {
      const timer = setTimeout(() => fail(new Error(`wayfare up says nothing: ${said}`)), 30_000);
      const hear = (chunk: Buffer) => {
        said += chunk;
        if (!said.includes('the web page: ')) return;
        clearTimeout(timer);
        go();
      };
      child.stdout!.on('data', hear);
      child.stderr!.on('data', (chunk: Buffer) => (said += chunk));
      child.once('exit', () => fail(new Error(`wayfare up has ended: ${said}`)));
    });
    return child;
  }

  async ask<T>(method: string, path: string, body?: unknown): Promise<Said<T>> {
    const raw = body instanceof Uint8Array;
    const answer = await fetch(this.url + path, {
      method,
      headers: { authorization: `Bearer ${this.token}` },
      body: body === undefined ? undefined : raw ? (body as BodyInit) : JSON.stringify(body),
    });
    const text = await answer.text();
    return { status: answer.status, body: (text.startsWith('{') || text.startsWith('[') ? JSON.parse(text) : text) as T };
  }

  /** Brings a guest program; gives its digest. */
  async program(name: string): Promise<string> {
    const module = new Uint8Array(readFileSync(guest(name)));
    const digest = bytesToHex(blake3(module));
    expect((await this.ask('PUT', `/v1/images/${digest}`, module)).status).toBe(204);
    return digest;
  }

  async submit(task: Record<string, unknown>) {
    const said = await this.ask('POST', '/v1/tasks', { memory: 64 << 20, cores: 0.25, ...task });
    expect(said.status, JSON.stringify(said.body)).toBe(201);
  }

  task = async (name: string) => (await this.ask<{ state: string; node: string; why: string }>('GET', `/v1/tasks/${name}`)).body;

  /** Makes a node of this machine, by a script that the page gives; the answer ends it. */
  async join(script: string, name: string): Promise<() => Promise<void>> {
    const dir = join(this.state, `machine-${name}`);
    mkdirSync(dir, { mode: 0o700 });
    const bin = join(dir, 'bin');
    mkdirSync(bin);
    // Several are on this machine: each listens at a port of its own.
    const listen = `127.0.0.1:${await freePort()}`;
    writeFileSync(join(bin, 'wayfare'), `#!/bin/sh\n[ "$2" = serve ] && set -- node serve --listen ${listen}\nexec "${wayfare}" "$@"\n`, { mode: 0o755 });
    writeFileSync(join(dir, 'join.sh'), script);
    const env = { ...process.env, PATH: `${bin}:${process.env.PATH}`, WAYFARE_STATE: join(dir, 'state'), XDG_CACHE_HOME: join(dir, 'cache') };
    mkdirSync(env.WAYFARE_STATE, { mode: 0o700 });
    const child = spawn('sh', [join(dir, 'join.sh'), name], { env, detached: true, stdio: 'ignore' });
    const ended = new Promise<void>((go) => child.once('exit', () => go()));
    await expect.poll(async () => (await this.ask('GET', `/v1/nodes/${name}`)).status, { timeout: 20_000 }).toBe(200);
    return () => {
      // The shell, and what it has begun.
      process.kill(-child.pid!, 'SIGTERM');
      return ended;
    };
  }

  /** Kills a node that is a process of its own. */
  kill(n: number) {
    process.kill(Number(readFileSync(join(this.state, `nodes/${n}/agent.pid`), 'utf8')), 'SIGKILL');
  }

  async end() {
    if (this.child.exitCode !== null) return;
    const ended = new Promise((go) => this.child.once('exit', go));
    this.child.kill('SIGTERM');
    await ended;
  }

  /** As after `end`: the same directory, the same ports. */
  async again() {
    this.child = await Cluster.start(this.state, this.args);
  }

  async down() {
    await this.end();
    rmSync(this.state, { recursive: true, force: true });
  }
}

const KINDS: Record<string, string> = { '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.html': 'text/html' };

/** For work on the page: with PAGE_FROM its files come from there, and the program need not be built for each change. */
export async function fresh(context: BrowserContext) {
  const from = process.env.PAGE_FROM;
  if (!from) return;
  await context.route(/^http:\/\/127\.0\.0\.1:\d+\/(?!v1|openapi)/, async (route) => {
    const { pathname } = new URL(route.request().url());
    const file = pathname.startsWith('/assets/') ? pathname : '/index.html';
    const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'";
    const headers = { 'content-type': KINDS[extname(file)] ?? '', 'content-security-policy': policy };
    await route.fulfill({ body: readFileSync(join(from, file)), headers });
  });
}

export const test = base.extend<object, { cluster: Cluster }>({
  context: async ({ context }, use) => {
    await fresh(context);
    await use(context);
  },
  cluster: [
    async ({}, use) => {
      mkdirSync(shots, { recursive: true });
      const cluster = await Cluster.up(3, ['--cpus', '4', '--memory', '2GiB']);
      await use(cluster);
      await cluster.down();
    },
    { scope: 'worker' },
  ],
});

/** Signs in, by the address that `wayfare up` shows. */
export async function enter(page: Page, cluster: Cluster, path = '/', token = cluster.token) {
  await page.goto(`${cluster.url}${path}#token=${token}`);
  await expect(page.locator('.live.is-live')).toBeVisible();
}

export const shot = (page: Page, name: string) => page.screenshot({ path: join(shots, `${name}.png`), animations: 'disabled' });
export { expect };
