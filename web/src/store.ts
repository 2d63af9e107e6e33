// What the cluster is, as far as the page knows, and how that is kept true: all once, then every change as it happens. Tasks stand in
// a plain map, and what is shown is told at most every few hundredths of a second, so that ten thousand changes are one drawing.
import { signal } from '@preact/signals';
import { ask, session, Problem, type Change, type Node, type Standby, type Task, type Who } from './api';
import { apply, type Flight } from './changes';

export const who = signal<Who | null | undefined>(undefined);
export const connection = signal<'connecting' | 'live' | 'lost'>('connecting');
/** Grows when anything of the two maps has changed. */
export const version = signal(0);
/** All has been heard once. */
export const loaded = signal(false);
export const tasks = new Map<string, Task>();
export const nodes = new Map<string, Node>();
export const standbys = signal<Standby[]>([]);

/** Those that were seen last, for the map. */
export const flights = signal<Flight[]>([]);
const FLIGHTS = 24;

let timer: ReturnType<typeof setTimeout> | undefined;
function changed() {
  timer ??= setTimeout(() => {
    timer = undefined;
    version.value++;
  }, 30);
}

let source: EventSource | undefined;
let last = '';
let behind: Change[] | undefined;
let asked = 0;

function hear(change: Change) {
  if (behind) return void behind.push(change);
  const flight = apply(change, tasks, nodes);
  if (flight) flights.value = [...flights.value.slice(1 - FLIGHTS), flight];
  changed();
}

/** Asks for all, while changes wait. */
async function anew() {
  behind ??= [];
  const mine = ++asked;
  const [some, machines] = await Promise.all([ask('get', '/v1/tasks', {}), ask('get', '/v1/nodes', {})]);
  // Only the newest answer counts: one that was asked for before the events came may be older than they are.
  if (mine !== asked && (loaded.value || !source)) return;
  tasks.clear();
  nodes.clear();
  for (const task of some) tasks.set(task.name, task);
  for (const node of machines) nodes.set(node.name, node);
  const waiting = behind ?? [];
  if (mine === asked) behind = undefined;
  for (const change of waiting) apply(change, tasks, nodes);
  loaded.value = true;
  changed();
}

function listen() {
  source?.close();
  if (document.hidden) return;
  const from = last;
  const mine = new EventSource(from ? `/v1/events?after=${encodeURIComponent(from)}` : '/v1/events');
  source = mine;
  const all = () => anew().catch(() => mine === source && setTimeout(listen, 1000));
  mine.onopen = () => {
    connection.value = 'live';
    // After a pause what was missed comes by itself.
    if (!last) void all();
  };
  mine.onerror = () => {
    connection.value = 'lost';
    // The browser tries again by itself, unless the answer was a refusal.
    if (mine.readyState === EventSource.CLOSED && mine === source) {
      setTimeout(() => mine === source && void check().then(() => who.value && listen(), listen), 1000);
    }
  };
  for (const kind of ['task', 'removed', 'node', 'gone']) {
    mine.addEventListener(kind, (event) => {
      if (event.lastEventId) last = event.lastEventId;
      hear(JSON.parse(event.data));
    });
  }
  mine.addEventListener('missed', () => void all());
}

/** Figures that the controller has, but does not tell of when they change. */
async function look() {
  if (document.hidden || !who.value) return;
  try {
    for (const node of await ask('get', '/v1/nodes', {})) nodes.set(node.name, node);
    standbys.value = await ask('get', '/v1/standbys', {});
    changed();
  } catch {
    // The events' connection tells.
  }
}

/** Who asks; none if nobody is signed in. */
export async function check(): Promise<void> {
  try {
    who.value = await ask('get', '/v1/session', {});
  } catch (e) {
    if (e instanceof Problem && e.status === 401) who.value = null;
    else throw e;
  }
}

export async function signIn(token: string): Promise<void> {
  who.value = await ask('post', '/v1/session', {}, { token });
  begin();
}

export async function signOut(): Promise<void> {
  await ask('delete', '/v1/session', {});
  session.ended();
}

session.ended = () => {
  source?.close();
  source = undefined;
  last = '';
  loaded.value = false;
  asked++;
  behind = undefined;
  tasks.clear();
  nodes.clear();
  standbys.value = [];
  who.value = null;
};

/** Until what came first is drawn, milliseconds. */
const DRAWN = 50;

/** The first answer is for the eye, and nothing else is asked for before it is seen: what changes until the events are there is not in
 *  it, so all is asked for again then. */
function first() {
  const more = () => {
    if (who.value === null) return;
    listen();
    void look();
  };
  anew().then(
    () => setTimeout(more, DRAWN),
    (e) => (e instanceof Problem && e.status === 401) || more(),
  );
}

let began = false;
export function begin() {
  first();
  if (began) return;
  began = true;
  setInterval(look, 3000);
  // A browser has six connections for each address: a page that nobody sees gives its own back.
  document.addEventListener('visibilitychange', () => {
    if (!who.value) return;
    if (document.hidden) {
      source?.close();
      source = undefined;
    } else {
      listen();
      void look();
    }
  });
}

export const may = (role: 'operate' | 'admin') => who.value?.role === 'admin' || who.value?.role === role;
