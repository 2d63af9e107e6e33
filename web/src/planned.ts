// What a plan is, and how its tasks are laid beside each other to be drawn.
import { ask, type Plan, type PlanRequest, type SetRequest } from './api';

type Laid = Pick<Plan['tasks'][number], 'node' | 'start_s' | 'end_s'>;

export type Policy = NonNullable<PlanRequest['policy']>;
/** All; the first is what the controller goes by. */
export const POLICIES = Object.keys({
  list: 0,
  local: 0,
  'memory-first': 0,
  'mbct-ga': 0,
  'earliest-finish': 0,
  'local-search': 0,
} satisfies Record<Policy, 0>) as Policy[];

export interface Planned {
  plan: Plan;
  /** What the controller's own way gives, where another was asked for. */
  usual?: Plan;
}

export async function plan(set: SetRequest, policy: Policy, seed: number): Promise<Planned> {
  const make = (policy: Policy, seed: number): Promise<Plan> => ask('post', '/v1/plan', {}, { set, policy, seed });
  if (policy === 'list' && seed === 0) return { plan: await make(policy, seed) };
  const [made, usual] = await Promise.all([make(policy, seed), make('list', 0)]);
  return { plan: made, usual };
}

/** By how much a figure is more than another, in per cent; nothing where there is nothing to compare. */
export function more(value: number, than: number): string {
  if (!(than > 0)) return '';
  const percent = Math.round((value / than - 1) * 1000) / 10;
  return `${percent > 0 ? '+' : percent < 0 ? '−' : '±'}${Math.abs(percent)} %`;
}

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
