//! Local search on a static plan: tasks leave the node that ends last, for others or in exchange for theirs.
//!
//! Starts from the earliest finish. Only the two nodes that a move touches are run again, so that a move costs what
//! their tasks cost. Every step makes the objective smaller, so that the result is never worse than the start.

use crate::greedy::{earliest_finish, replay};
use crate::model::{Cluster, TaskSpec};
use crate::plan::{Objective, Plan, Reason};
use crate::rng::Rng;
use crate::timeline::Timeline;
use crate::units::{nanos, seconds};
use alloc::vec::Vec;

/// Tries without success after which the search ends.
const PATIENCE: usize = 2_000;

struct State<'a> {
    cluster: &'a Cluster,
    tasks: &'a [TaskSpec],
    /// Each node's tasks, in the order in which they start.
    rows: Vec<Vec<u32>>,
    /// Each node's last end and sum of ends, seconds.
    marks: Vec<(f64, f64)>,
}

impl State<'_> {
    fn mark(&self, at: usize, row: &[u32]) -> (f64, f64) {
        let mut line = Timeline::new(&self.cluster.nodes[at]);
        row.iter().fold((0.0, 0.0), |(last, sum), &i| {
            let task = &self.tasks[i as usize];
            let end = seconds(line.push(&self.cluster.nodes[at], task, task.seconds()).1);
            (f64::max(last, end), sum + end)
        })
    }

    fn fits(&self, at: usize, task: u32) -> bool {
        self.cluster.nodes[at].refuses(&self.tasks[task as usize]).is_none()
    }

    /// In its place by the order of the list.
    fn insert(&self, row: &mut Vec<u32>, task: u32, objective: Objective) {
        let order = |i: u32| {
            let t = &self.tasks[i as usize];
            let size = if objective == Objective::Makespan { -t.seconds() } else { t.area() };
            (core::cmp::Reverse(t.priority), size)
        };
        let mine = order(task);
        let at = row.partition_point(|&i| order(i) <= mine);
        row.insert(at, task);
    }
}

/// The earliest finish, made better while that is easy.
pub(crate) fn plan(cluster: &Cluster, tasks: &[TaskSpec], objective: Objective, seed: u64) -> Plan {
    let start = earliest_finish(cluster, tasks, objective);
    let nodes = cluster.nodes.len();
    if nodes < 2 || start.placements.is_empty() {
        return start;
    }
    let mut state = State { cluster, tasks, rows: (0..nodes).map(|_| Vec::new()).collect(), marks: Vec::new() };
    for p in &start.placements {
        state.rows[p.at as usize].push(p.index);
    }
    state.marks = (0..nodes).map(|n| state.mark(n, &state.rows[n])).collect();
    let mut rng = Rng::new(seed);
    let mut idle = 0;
    while idle < PATIENCE {
        idle += 1;
        let from = match objective {
            Objective::Makespan => {
                (0..nodes).max_by(|&a, &b| state.marks[a].0.total_cmp(&state.marks[b].0)).unwrap_or(0)
            }
            Objective::MeanResponse => rng.below(nodes),
        };
        let to = (from + 1 + rng.below(nodes - 1)) % nodes;
        if state.rows[from].is_empty() {
            continue;
        }
        let (mut ours, mut theirs) = (state.rows[from].clone(), state.rows[to].clone());
        let given = ours.remove(rng.below(ours.len()));
        if !state.fits(to, given) {
            continue;
        }
        if !theirs.is_empty() && rng.unit() < 0.7 {
            let taken = theirs.remove(rng.below(theirs.len()));
            if !state.fits(from, taken) {
                continue;
            }
            state.insert(&mut ours, taken, objective);
        }
        state.insert(&mut theirs, given, objective);
        let (a, b) = (state.mark(from, &ours), state.mark(to, &theirs));
        let (old_a, old_b) = (state.marks[from], state.marks[to]);
        let better = match objective {
            // Of nodes that end last together, one has to come down first.
            Objective::Makespan => a.0.max(b.0) < old_a.0.max(old_b.0),
            Objective::MeanResponse => a.1 + b.1 < old_a.1 + old_b.1,
        };
        if better {
            idle = 0;
            (state.rows[from], state.rows[to]) = (ours, theirs);
            (state.marks[from], state.marks[to]) = (a, b);
        }
    }
    finish(&state, start, objective)
}

fn finish(state: &State<'_>, start: Plan, objective: Objective) -> Plan {
    let mut was: Vec<Option<(u32, Reason)>> = state.tasks.iter().map(|_| None).collect();
    for p in &start.placements {
        was[p.index as usize] = Some((p.at, p.reason));
    }
    let run = |gain| {
        let mut plan = Plan { placements: Vec::with_capacity(start.placements.len()), refused: start.refused.clone() };
        let fixed: Vec<(u32, u32, Reason)> = (state.rows.iter().enumerate())
            .flat_map(|(n, row)| row.iter().map(move |&i| (i, n as u32)))
            .map(|(i, n)| match was[i as usize] {
                Some((at, reason)) if at == n => (i, n, reason),
                _ => (i, n, Reason::Moved { gain }),
            })
            .collect();
        replay(state.cluster, state.tasks, &fixed, None, &mut plan);
        plan
    };
    let gain = start.value(objective) - run(0).value(objective);
    // A kept reason may tell an end that has changed since: say the new one.
    let mut plan = run(nanos(gain));
    for p in &mut plan.placements {
        if let Reason::Earliest { end, .. } = &mut p.reason {
            *end = p.end;
        }
    }
    plan
}
