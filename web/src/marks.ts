// What became of a task, at one glance: what its history says in words, its snapshots and its syncs, as marks at a time and a node.
import type { Moment, Snapshot } from './api';

export type Kind = 'move' | 'failover' | 'again' | 'snapshot' | 'sync';
export const KINDS: Kind[] = ['move', 'failover', 'again', 'snapshot', 'sync'];

export interface Mark {
  at: number;
  kind: Kind;
  /** The lane that it is drawn in. */
  node: string;
  /** Of a move. */
  cost?: Cost;
}
/** What a move cost, as the controller has written it down. */
export interface Cost {
  /** Milliseconds. */
  downtime: number;
  bytes: number;
}
export interface Sync {
  at: number;
  /** The standby's node. */
  node: string;
  count: number;
}

export function cost(why: string): Cost | undefined {
  const found = /: it came from .+, stood still for ([\d.]+) ms, ([\d.]+) MiB were sent$/.exec(why);
  return found ? { downtime: Number(found[1]), bytes: Number(found[2]) * 2 ** 20 } : undefined;
}

/** What kind of thing a moment is, if it is more than another state. */
export function kind(moment: Moment, before: Moment | undefined): Kind | undefined {
  // Each reason stays as it is until there is another one.
  const isNew = !before || before.why !== moment.why || before.node !== moment.node;
  if (isNew && (cost(moment.why) || /^it was moved here from /.test(moment.why))) return 'move';
  if (isNew && /^its standby here took over from /.test(moment.why)) return 'failover';
  // The first start is none that needs a mark.
  if (before?.attempt && moment.attempt > before.attempt) return 'again';
  return undefined;
}

/** All marks, the earliest first. */
export function marks(history: Moment[], snapshots: Snapshot[], syncs: Sync[]): Mark[] {
  const all: Mark[] = [];
  history.forEach((moment, i) => {
    const is = kind(moment, history[i - 1]);
    if (is && moment.node) all.push({ at: moment.at, kind: is, node: moment.node, cost: cost(moment.why) });
  });
  for (const { at, node } of snapshots) all.push({ at, kind: 'snapshot', node });
  for (const { at, node } of syncs) all.push({ at, kind: 'sync', node });
  return all.sort((a, b) => a.at - b.at);
}

/** Syncs that are remembered for a drawing. */
const SYNCS = 300;

/** Those that were seen, with what is heard of one standby now; the same list, if that is no new one. */
export function synced(seen: Sync[], pair: { standby: string; syncs: number; age?: number | null }, now: number): Sync[] {
  const last = seen.filter((sync) => sync.node === pair.standby).at(-1);
  if (pair.age == null || last?.count === pair.syncs) return seen;
  return [...seen.slice(1 - SYNCS), { at: now - pair.age, node: pair.standby, count: pair.syncs }];
}

/** A name that nobody has, like this one. */
export function another(name: string, isTaken: (name: string) => boolean): string {
  const [, stem, n] = /^(.*?)-(\d{1,6})$/.exec(name) ?? [, name, '1'];
  for (let i = Number(n) + 1; ; i++) {
    const next = `${stem!.slice(0, 40)}-${i}`;
    if (!isTaken(next)) return next;
  }
}
