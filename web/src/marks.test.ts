import { expect, it } from 'vitest';
import type { Moment, Snapshot } from './api';
import { another, cost, kind, marks, synced } from './marks';

const moment = (at: number, why: string, more: Partial<Moment> = {}): Moment => ({ at, why, state: 'running', node: 'a', attempt: 1, ...more });
const snapshot = (at: number): Snapshot => ({ id: at, task: 't', node: 'b', at, bytes: 1, done: 1, by_hand: true });

it('what a move cost is read from what the controller says of it', () => {
  expect(cost('it was moved here: it came from node1, stood still for 3.2 ms, 4.5 MiB were sent')).toEqual({ downtime: 3.2, bytes: 4.5 * 2 ** 20 });
  expect(cost('it ends sooner here: it came from a, stood still for 120.0 ms, 0.0 MiB were sent')).toEqual({ downtime: 120, bytes: 0 });
  expect(cost('its standby here took over from node1')).toBeUndefined();
});

it('moves, failovers and new starts are told apart, and each is one mark', () => {
  const moved = 'it was moved here: it came from a, stood still for 3.2 ms, 4.1 MiB were sent';
  const history = [
    moment(0, 'it waits until a node has room', { state: 'waiting', node: null, attempt: 0 }),
    moment(0, 'the initiating node has room', { state: 'starting' }),
    moment(1, 'the initiating node has room'),
    moment(2, 'it is on its way to b', { state: 'moving' }),
    moment(3, moved, { node: 'b' }),
    // Its standby was taken away, say: the reason is as it was.
    moment(4, moved, { node: 'b' }),
    moment(5, 'its standby here took over from b', { node: 'c' }),
    moment(6, 'it was moved here from c', { node: 'd' }),
    moment(7, 'd was lost: it goes on from its snapshot of 1.5 s ago', { state: 'waiting', node: null }),
    moment(8, 'the initiating node has room', { state: 'starting', attempt: 2 }),
    moment(9, 'the initiating node has room', { attempt: 2 }),
  ];
  expect(history.map((one, i) => kind(one, history[i - 1]))).toEqual([
    undefined, undefined, undefined, undefined, 'move', undefined, 'failover', 'move', undefined, 'again', undefined,
  ]);
  expect(marks(history, [snapshot(4)], [{ at: 2, node: 'c', count: 7 }])).toEqual([
    { at: 2, kind: 'sync', node: 'c' },
    { at: 3, kind: 'move', node: 'b', cost: { downtime: 3.2, bytes: 4.1 * 2 ** 20 } },
    { at: 4, kind: 'snapshot', node: 'b' },
    { at: 5, kind: 'failover', node: 'c' },
    { at: 6, kind: 'move', node: 'd' },
    { at: 8, kind: 'again', node: 'a' },
  ]);
});

it('a sync is seen once, each standby for itself', () => {
  let seen = synced([], { standby: 'b', syncs: 0, age: null }, 1000);
  expect(seen).toEqual([]);
  seen = synced(seen, { standby: 'b', syncs: 3, age: 200 }, 1000);
  expect(seen).toEqual([{ at: 800, node: 'b', count: 3 }]);
  expect(synced(seen, { standby: 'b', syncs: 3, age: 1200 }, 2000)).toBe(seen);
  seen = synced(seen, { standby: 'c', syncs: 3, age: 100 }, 2000);
  expect(synced(seen, { standby: 'b', syncs: 4, age: 0 }, 3000).map(({ at, node }) => [at, node])).toEqual([[800, 'b'], [1900, 'c'], [3000, 'b']]);
});

it('a name is found that nobody has', () => {
  const taken = new Set(['sim', 'sim-2', 't-9']);
  const of = (name: string) => another(name, (one) => taken.has(one));
  expect([of('sim'), of('t-9'), of('new')]).toEqual(['sim-3', 't-10', 'new-2']);
  expect(of('x'.repeat(48)).length).toBeLessThanOrEqual(48);
});
