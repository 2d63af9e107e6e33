// Which tasks are shown, and in which order: plain comparisons, as ten thousand are looked through for each change.
import type { State, Task } from './api';

export const STATES: State[] = ['waiting', 'starting', 'running', 'moving', 'succeeded', 'failed', 'cancelled'];
export const isOver = (state: State) => state === 'succeeded' || state === 'failed' || state === 'cancelled';

export interface Choice {
  text: string;
  states: ReadonlySet<State>;
  node?: string;
  set?: string;
  sort: Column;
  down: boolean;
}
export type Column = 'name' | 'state' | 'node' | 'time' | 'set' | 'owner' | 'submitted' | 'memory' | 'cores';

/** How long it has run, or ran, milliseconds. */
export function ran(task: Task, now: number): number {
  return task.started == null ? 0 : Math.max(0, (task.ended ?? now) - task.started);
}

function key(task: Task, column: Column, now: number): string | number {
  switch (column) {
    case 'state':
      return STATES.indexOf(task.state);
    case 'node':
      return task.node ?? '';
    case 'time':
      return ran(task, now);
    default:
      return task[column];
  }
}

export function select(tasks: Iterable<Task>, choice: Choice, now: number): Task[] {
  const words = choice.text.toLowerCase().split(/\s+/).filter(Boolean);
  const found: Task[] = [];
  for (const task of tasks) {
    if (choice.states.size && !choice.states.has(task.state)) continue;
    if (choice.node && task.node !== choice.node) continue;
    if (choice.set && task.set !== choice.set) continue;
    if (words.length) {
      const text = `${task.name} ${task.set} ${task.node ?? ''} ${task.owner} ${task.image} ${task.args.join(' ')}`.toLowerCase();
      if (!words.every((word) => text.includes(word))) continue;
    }
    found.push(task);
  }
  const sign = choice.down ? -1 : 1;
  if (choice.sort === 'name') return found.sort((a, b) => sign * natural(a.name, b.name));
  const keys = new Map(found.map((task) => [task, key(task, choice.sort, now)]));
  return found.sort((a, b) => {
    const [x, y] = [keys.get(a)!, keys.get(b)!];
    if (x !== y) return x < y ? -sign : sign;
    return natural(a.name, b.name);
  });
}

/** `t-2` before `t-10`. */
export function natural(a: string, b: string): number {
  if (a.length !== b.length) {
    const [x, y] = [a.replace(/\d+$/, ''), b.replace(/\d+$/, '')];
    if (x === y) return a.length - b.length;
  }
  return a < b ? -1 : a > b ? 1 : 0;
}
