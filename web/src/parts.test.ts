import { expect, it } from 'vitest';
import { bytes, cores, rate, size, span, speed, words } from './format';
import { visible, ROW } from './rows';
import { natural, ran, select, type Choice } from './select';
import { apply, taken } from './changes';
import { lanes, more } from './planned';
import type { Node, Task } from './api';

const task = (name: string, more: Partial<Task> = {}): Task => ({
  name, set: 's', owner: 'admin', image: 'ab', args: [], cores: 1, memory: 1024, priority: 0, state: 'running', node: 'a', offloaded: false, gpu: false, labels: [],
  why: '', attempt: 1, submitted: 1, started: 1000, ...more,
});
const choice: Choice = { text: '', states: new Set(), sort: 'name', down: false };

it('figures are shown as people read them', () => {
  expect([0, 1023, 1536, 64 << 20, 3e12].map(bytes)).toEqual(['0 B', '1023 B', '1.5 KiB', '64 MiB', '2.7 TiB']);
  expect([12, 1500, 125e6].map(rate)).toEqual(['12 B/s', '1.5 kB/s', '125 MB/s']);
  expect([0.2, 7.25, 250, 4200, 61_000, 7_260_000, 200_000_000].map(span)).toEqual(['0.20 ms', '7.3 ms', '250 ms', '4.2 s', '1 min 1 s', '2 h 1 min', '2 d 7 h']);
  expect([0.1 + 0.2, 4].map(cores)).toEqual(['0.3', '4']);
  expect([1, 0.33, 9.96, 24].map(speed)).toEqual(['1.0x', '0.3x', '10x', '24x']);
});

it('sizes and arguments are read as they are typed', () => {
  expect(['64', '64k', '256 MiB', '1.5G', '1tb'].map(size)).toEqual([64, 65_536, 268_435_456, 1_610_612_736, 2 ** 40]);
  expect(['', 'x', '-1', '1 x', '1e3'].map(size)).toEqual([NaN, NaN, NaN, NaN, NaN]);
  expect(words(`12 'two words' "a \\"b\\"" '' c\\ d`)).toEqual(['12', 'two words', 'a "b"', '', 'c d']);
  expect(words('  ')).toEqual([]);
});

it('tasks are found by all words, by state, node and set, and sorted', () => {
  const all = [task('t-10'), task('t-2', { state: 'failed', node: 'b' }), task('u', { args: ['Sort'], set: 'night', started: 500 })];
  const names = (to: Partial<Choice>) => select(all, { ...choice, ...to }, 2000).map((task) => task.name);
  expect(names({})).toEqual(['t-2', 't-10', 'u']);
  expect(names({ down: true })).toEqual(['u', 't-10', 't-2']);
  expect(names({ down: true, sort: 'time' })).toEqual(['u', 't-2', 't-10']);
  expect(names({ text: 'night sort' })).toEqual(['u']);
  expect(names({ text: 'night x' })).toEqual([]);
  expect(names({ states: new Set(['failed']) })).toEqual(['t-2']);
  expect(names({ node: 'a', set: 's' })).toEqual(['t-10']);
  expect(natural('a9', 'a10')).toBeLessThan(0);
  expect(ran(task('t', { ended: 4000 }), 9000)).toBe(3000);
});

it('ten thousand tasks are looked through and sorted', () => {
  const all = Array.from({ length: 10_000 }, (_, i) => task(`task-${(i * 7919) % 10_000}`, { submitted: i }));
  const names = select(all, { ...choice, text: 'task 99' }, 0).map((task) => task.name);
  const expected = Array.from({ length: 10_000 }, (_, i) => i).filter((i) => `${i}`.includes('99'));
  expect(names).toEqual(expected.map((i) => `task-${i}`));
});

it('a change is taken in, and a task that goes elsewhere is seen to fly', () => {
  const [all, nodes] = [new Map([['t', task('t')]]), new Map<string, Node>()];
  const hear = (to: Partial<Task>) => apply({ kind: 'task', at: 5, task: task('t', to) }, all, nodes);
  expect(hear({ state: 'moving', to: 'b' })).toEqual({ task: 't', from: 'a', to: 'b', at: 5 });
  expect(hear({ node: 'b' })).toBeUndefined();
  // A failover.
  expect(hear({ node: 'c' })).toEqual({ task: 't', from: 'b', to: 'c', at: 5 });
  expect(taken(all.values()).get('c')).toMatchObject({ cores: 1, memory: 1024 });
  expect(hear({ node: 'c', state: 'succeeded' })).toBeUndefined();
  expect(taken(all.values()).size).toBe(0);
  apply({ kind: 'removed', at: 6, name: 't', set: 's' }, all, nodes);
  expect(all.size).toBe(0);
});

it('of a long table only the rows exist that are seen', () => {
  expect(visible(0, 10 * ROW, 10_000)).toEqual({ first: 0, last: 18 });
  expect(visible(1000 * ROW, 10 * ROW, 10_000)).toEqual({ first: 992, last: 1018 });
  // One that has become short.
  expect(visible(1000 * ROW, 10 * ROW, 3)).toEqual({ first: 0, last: 3 });
});

it('planned tasks lie in lanes in which none overlaps another, those of a node together', () => {
  const at = (name: string, node: string, start_s: number, end_s: number) => ({ name, node, start_s, end_s, late: false, why: '' });
  const all = lanes([at('d', 'b', 0, 5), at('a', 'a', 0, 4), at('c', 'a', 4, 6), at('b', 'a', 1, 2)]);
  expect(all.map((lane) => [lane.node, lane.tasks.map((task) => task.name).join()])).toEqual([
    ['a', 'a,c'],
    ['a', 'b'],
    ['b', 'd'],
  ]);
  expect(lanes([])).toEqual([]);
});

it('plans are compared in per cent', () => {
  expect([more(12, 10), more(9, 10), more(10, 10), more(1, 0)]).toEqual(['+20 %', '−10 %', '±0 %', '']);
});
