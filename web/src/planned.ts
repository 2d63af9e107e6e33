// What a plan is, and how its tasks are laid beside each other to be drawn.
import { ask, type SetRequest } from './api';

/** As the API has it (`PlanView`), the parts that are drawn. */
export interface Plan {
  tasks: { name: string; node: string; start_s: number; end_s: number; late: boolean; why: string }[];
  refused: { name: string; why: string }[];
  makespan_s: number;
  lower_bound_s: number;
  late: number;
}

// The path is in the description of controllers that plan; this page also works with those that do not.
const asked = ask as (method: 'post', path: string, names: object, body: unknown) => Promise<unknown>;
export const plan = (set: SetRequest) => asked('post', '/v1/plan', {}, { set }) as Promise<Plan>;

export interface Lane {
  node: string;
  tasks: Plan['tasks'];
}

/** Lanes in which no two tasks overlap, those of one node together: each task goes into the first that is free when it starts. */
export function lanes(tasks: Plan['tasks']): Lane[] {
  const by = new Map<string, Lane[]>();
  for (const task of [...tasks].sort((a, b) => a.start_s - b.start_s || b.end_s - a.end_s)) {
    let all = by.get(task.node);
    if (!all) by.set(task.node, (all = []));
    const lane = all.find((lane) => lane.tasks.at(-1)!.end_s <= task.start_s + 1e-9);
    if (lane) lane.tasks.push(task);
    else all.push({ node: task.node, tasks: [task] });
  }
  return [...by.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).flatMap(([, all]) => all);
}
