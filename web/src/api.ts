// What the page asks the controller, typed from the API's own description: a path, a body or an answer that is not as the API
// has it does not pass the type check.
import type { components, paths } from './api.gen';

type Schemas = components['schemas'];
export type Task = Schemas['TaskView'];
export type State = Schemas['TaskState'];
export type Node = Schemas['NodeView'];
export type Moment = Schemas['Moment'];
export type Standby = Schemas['StandbyView'];
export type OnNode = Schemas['OnNode'];
export type Who = Schemas['WhoView'];
export type Role = Schemas['Role'];
export type Token = Schemas['TokenView'];
export type Change = Schemas['Event'];
export type SetRequest = Schemas['SetRequest'];
export type TaskRequest = Schemas['TaskRequest'];
export type Moved = Schemas['Moved'];
export type Wrong = Schemas['Wrong'];
export type Invitation = Schemas['Invitation'];
export type NodeWish = Schemas['NodeWish'];
export type Unikernel = Schemas['UnikernelView'];
export type PlanRequest = Schemas['PlanRequest'];
export type Plan = Schemas['PlanView'];
export type Snapshot = Schemas['SnapshotView'];
export type Destination = Schemas['DestinationView'];
export type Usage = Schemas['UsageView'];

type Method = 'get' | 'post' | 'put' | 'delete';
type Having<M extends Method> = { [P in keyof paths]: paths[P][M] extends { responses: unknown } ? P : never }[keyof paths];
type Json<R> = R extends { content: { 'application/json': infer T } } ? T : undefined;
type Answer<O> = O extends { responses: { 200: infer R } } ? Json<R> : O extends { responses: { 201: infer R } } ? Json<R> : undefined;
// What need not be said may be left out, and is not said as null.
type Body<O> = O extends { requestBody?: infer B } ? (NonNullable<B> extends { content: { 'application/json': infer T } } ? NonNullable<T> : undefined) : undefined;
type Names<P> = P extends `${string}{${infer N}}${infer Rest}` ? { [K in N]: string } & Names<Rest> : unknown;

/** An answer that is none. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    title: string,
    readonly errors: Wrong[] = [],
  ) {
    super(title);
  }
}

/** What is called when a session has ended. */
export const session = { ended: () => {} };

/** What `first.js` has asked for. */
declare global {
  interface Window {
    first?: Record<string, Promise<Response>>;
  }
}
function early(url: string): Promise<Response> | undefined {
  const answer = window.first?.[url];
  // It is as it was then: good once.
  delete window.first?.[url];
  return answer;
}

async function fetched(method: string, url: string, init: RequestInit): Promise<Response> {
  let answer: Response;
  try {
    // The header is what another site's page cannot say for us.
    const headers = { 'x-wayfare': '1', ...init.headers };
    answer = await ((method === 'get' && early(url)) || fetch(url, { ...init, method: method.toUpperCase(), headers }));
  } catch {
    throw new Problem(0, 'the controller cannot be reached');
  }
  if (answer.ok) return answer;
  if (answer.status === 401 && !url.endsWith('/v1/session')) session.ended();
  const said = await answer.json().catch(() => ({}));
  throw new Problem(answer.status, said.title ?? `${answer.status} ${answer.statusText}`, said.errors);
}

export const address = (path: string, names: Record<string, string> = {}) =>
  path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(names[name] ?? ''));

/** Asks the API for something. */
export async function ask<M extends Method, P extends Having<M>>(
  method: M,
  path: P,
  names: Names<P>,
  body?: Body<paths[P][M]>,
): Promise<Answer<paths[P][M]>> {
  const json = body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } };
  const answer = await fetched(method, address(path, names as Record<string, string>), json);
  const has = (answer.headers.get('content-type') ?? '').includes('json');
  return (has ? await answer.json() : undefined) as Answer<paths[P][M]>;
}

/** Brings a program to the controller, which compiles it. */
export async function bring(digest: string, module: Uint8Array): Promise<void> {
  const body = new Blob([module as BlobPart]);
  await fetched('put', address('/v1/images/{digest}', { digest }), { body, headers: { 'content-type': 'application/wasm' } });
}

/** Whether the controller has a program. */
export async function has(digest: string): Promise<boolean> {
  try {
    await fetched('get', address('/v1/images/{digest}', { digest }), {});
    return true;
  } catch (e) {
    if (e instanceof Problem && e.status === 404) return false;
    throw e;
  }
}

/** An image for a machine without an operating system, and what its file is called. */
export async function image(isa: string, wish: Record<string, string>): Promise<{ name: string; file: Blob }> {
  const said = new URLSearchParams(Object.entries(wish).filter(([, value]) => value));
  const answer = await fetched('post', `${address('/v1/unikernels/{isa}', { isa })}?${said}`, {});
  const name = /filename="([^"]+)"/.exec(answer.headers.get('content-disposition') ?? '')?.[1];
  return { name: name ?? `${isa}.img`, file: await answer.blob() };
}

/** What a task has written, and writes, until it ends or `signal` says so. */
export async function follow(name: string, signal: AbortSignal, more: (text: string) => void): Promise<void> {
  const answer = await fetched('get', `${address('/v1/tasks/{name}/logs', { name })}?follow=true`, { signal });
  const reader = answer.body!.getReader();
  const decoder = new TextDecoder();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    more(decoder.decode(value, { stream: true }));
  }
}
