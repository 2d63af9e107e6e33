// What a plan is, and how its tasks are laid beside each other to be drawn.
import { ask, type Plan, type SetRequest } from './api';

type Laid = Pick<Plan['tasks'][number], 'node' | 'start_s' | 'end_s'>;

export const plan = (set: SetRequest): Promise<Plan> => ask('post', '/v1/plan', {}, { set });

export interface Lane<T> {
  node: string;
  tasks: T[];
}

/** Lanes in which no two tasks overlap, those of one node together: each task goes into the first that is free when it starts. */
export function lanes<T extends Laid>(tasks: T[]): Lane<T>[] {
  const by = new Map<string, Lane<T>[]>();
  for (const task of [...tasks].sort((a, b) => a.start_s - b.start_s || b.end_s - a.end_s)) {
    let all = by.get(task.node);
    if (!all) by.set(task.node, (all = []));
    const lane = all.find((lane) => lane.tasks.at(-1)!.end_s <= task.start_s + 1e-9);
    if (lane) lane.tasks.push(task);
    else all.push({ node: task.node, tasks: [task] });
  }
  return [...by.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).flatMap(([, all]) => all);
}
