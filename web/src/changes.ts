// What a change makes of what is known.
import type { Change, Node, Task } from './api';

/** A task that went from one node to another. */
export interface Flight {
  task: string;
  from: string;
  to: string;
  at: number;
}
/** What a change makes of what is known; gives where a task has gone, if it has. */
export function apply(change: Change, all: Map<string, Task>, machines: Map<string, Node>): Flight | undefined {
  switch (change.kind) {
    case 'task': {
      const before = all.get(change.task.name);
      all.set(change.task.name, change.task);
      const { node, to, state, name } = change.task;
      if (state === 'moving' && node && to && before?.state !== 'moving') return { task: name, from: node, to, at: change.at };
      // A failover, or a move that was seen only when it was over.
      const alive = state === 'running' || state === 'starting' || state === 'moving';
      if (alive && before?.node && node && before.node !== node && before.state !== 'moving') {
        return { task: name, from: before.node, to: node, at: change.at };
      }
      return undefined;
    }
    case 'removed':
      all.delete(change.name);
      return undefined;
    case 'node':
      machines.set(change.node.name, change.node);
      return undefined;
    case 'gone':
      machines.delete(change.name);
      return undefined;
  }
}

/** What tasks have of each node, now: the controller tells of a node only when the node itself changes. */
export function taken(all: Iterable<Task>): Map<string, { tasks: Task[]; cores: number; memory: number }> {
  const by = new Map<string, { tasks: Task[]; cores: number; memory: number }>();
  for (const task of all) {
    if (!task.node || (task.state !== 'running' && task.state !== 'starting' && task.state !== 'moving')) continue;
    const at = by.get(task.node);
    if (at) {
      at.tasks.push(task);
      at.cores += task.cores;
      at.memory += task.memory;
    } else by.set(task.node, { tasks: [task], cores: task.cores, memory: task.memory });
  }
  return by;
}
