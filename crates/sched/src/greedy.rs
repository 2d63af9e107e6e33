//! `local`, `memory-first` and the earliest finish: policies that go through the tasks once, and what runs a static plan.

use crate::Nanos;
use crate::model::{Cluster, Node, TaskSpec};
use crate::plan::{Objective, Placement, Plan, Reason};
use crate::timeline::Timeline;
use crate::units;
use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;

/// Seconds at speed 1 of the task at that place: what comes out, or what is estimated.
fn run_time(tasks: &[TaskSpec], actual: Option<&[f64]>, i: usize) -> f64 {
    actual.map_or_else(|| tasks[i].seconds(), |a| a[i])
}

/// Splits off tasks that never fit anywhere. Returns the places of the others, in the order of submission, the urgent before
/// the rest.
pub(crate) fn admit(cluster: &Cluster, tasks: &[TaskSpec], plan: &mut Plan) -> Vec<u32> {
    let mut order = Vec::with_capacity(tasks.len());
    for (i, task) in tasks.iter().enumerate() {
        match cluster.refuses(task) {
            Some(why) => plan.refused.push((task.id, why)),
            None => order.push(i as u32),
        }
    }
    order.sort_by_key(|&i| Reverse(tasks[i as usize].priority));
    order
}

/// Everything on the initiator, in the order of submission: the thesis's T_local (5-9). What cannot run there is refused.
pub(crate) fn local(cluster: &Cluster, tasks: &[TaskSpec], actual: Option<&[f64]>) -> Plan {
    let alone = Cluster { nodes: cluster.nodes.iter().filter(|n| n.is_initiator).cloned().collect() };
    let mut plan = Plan::default();
    let order = admit(&alone, tasks, &mut plan);
    let Some(at) = cluster.nodes.iter().position(|n| n.is_initiator) else { return plan };
    let fixed: Vec<_> = order.into_iter().map(|i| (i, at as u32, Reason::Local)).collect();
    replay(cluster, tasks, &fixed, actual, &mut plan);
    plan
}

/// Runs tasks, each on its node, each node's in the order given, each as soon as there is room for it.
pub(crate) fn replay(
    cluster: &Cluster,
    tasks: &[TaskSpec],
    fixed: &[(u32, u32, Reason)],
    actual: Option<&[f64]>,
    plan: &mut Plan,
) {
    let mut lines: Vec<Timeline> = cluster.nodes.iter().map(Timeline::new).collect();
    for &(index, at, reason) in fixed {
        let (task, node) = (&tasks[index as usize], &cluster.nodes[at as usize]);
        let (start, end) = lines[at as usize].push(node, task, run_time(tasks, actual, index as usize));
        plan.placements.push(Placement { task: task.id, node: node.id, index, at, start, end, reason });
    }
}

/// `memory-first` (5.1.2 (1)): the first in line goes to the initiator if it has room, else to the node with the most free
/// memory of those that have; if none has, everybody waits until something ends. Looks at every node for each task.
pub(crate) fn memory_first(cluster: &Cluster, tasks: &[TaskSpec], actual: Option<&[f64]>) -> Plan {
    let mut plan = Plan::default();
    let order = admit(cluster, tasks, &mut plan);
    let mut free: Vec<(u32, u64)> = cluster.nodes.iter().map(Node::free).collect();
    let mut images: Vec<Timeline> = cluster.nodes.iter().map(Timeline::new).collect();
    // When what comes back to which node: cores and memory.
    let mut ends: BinaryHeap<Reverse<(Nanos, u32, u32, u64)>> = BinaryHeap::new();
    for (n, node) in cluster.nodes.iter().enumerate() {
        ends.extend(node.taken().map(|busy| Reverse((busy.end, n as u32, busy.cores, busy.memory))));
    }
    let mut now = 0;
    for index in order {
        let task = &tasks[index as usize];
        let at = loop {
            let able = |n: &usize| {
                let (cores, memory) = free[*n];
                cores >= task.cores && memory >= task.memory && cluster.nodes[*n].lacks(task).is_none()
            };
            let best = (0..cluster.nodes.len())
                .filter(able)
                .max_by_key(|&n| (cluster.nodes[n].is_initiator, free[n].1, Reverse(n)));
            if let Some(best) = best {
                break best;
            }
            let Some(Reverse((end, at, cores, memory))) = ends.pop() else { return plan };
            now = end;
            let node = &mut free[at as usize];
            *node = (node.0 + cores, node.1 + memory);
        };
        let node = &cluster.nodes[at];
        let reason = if node.is_initiator { Reason::LocalFits } else { Reason::MostMemory { free: free[at].1 } };
        free[at] = (free[at].0 - task.cores, free[at].1 - task.memory);
        let fetch = images[at].expect(node, task, now);
        let end = units::end(now, fetch, node.run(run_time(tasks, actual, index as usize)));
        let at = at as u32;
        ends.push(Reverse((end, at, task.cores, task.memory)));
        plan.placements.push(Placement { task: task.id, node: node.id, index, at, start: now, end, reason });
    }
    plan
}

/// Each task, longest first (smallest first for the mean response), where it ends soonest by the estimates, with the time
/// that its image takes to get there: HEFT (Topcuoglu, Hariri, Wu 2002) without precedence. Looks at every node for each task.
pub(crate) fn earliest_finish(cluster: &Cluster, tasks: &[TaskSpec], objective: Objective) -> Plan {
    let mut plan = Plan::default();
    let mut order = admit(cluster, tasks, &mut plan);
    order.sort_by(|&a, &b| {
        let (a, b) = (&tasks[a as usize], &tasks[b as usize]);
        b.priority.cmp(&a.priority).then(match objective {
            Objective::Makespan => b.seconds().total_cmp(&a.seconds()),
            Objective::MeanResponse => a.area().total_cmp(&b.area()),
        })
    });
    let mut lines: Vec<Timeline> = cluster.nodes.iter().map(Timeline::new).collect();
    for index in order {
        let task = &tasks[index as usize];
        let ends = cluster.nodes.iter().enumerate().filter(|(_, n)| n.refuses(task).is_none()).map(|(n, node)| {
            let start = lines[n].earliest(task);
            let fetch = lines[n].fetch(node, task, start);
            (units::end(start, fetch, node.run(task.seconds())), n, fetch)
        });
        let Some((end, at, fetch)) = ends.min() else { continue };
        let node = &cluster.nodes[at];
        let (start, end_there) = lines[at].push(node, task, task.seconds());
        debug_assert_eq!(end, end_there);
        let reason = Reason::Earliest { end, fetch };
        plan.placements.push(Placement { task: task.id, node: node.id, index, at: at as u32, start, end, reason });
    }
    plan
}
