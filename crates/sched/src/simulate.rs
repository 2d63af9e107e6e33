//! The thesis's experiment on a simulated cluster, for every policy: run times come out other than estimated.
//!
//! Tables 5-1 (task mix) and 5-2 (cluster) are the thesis's. It does not publish run times; those of [`MIX`] are invented, so
//! that T_local is about that of Table 5-3. What a task takes is its estimate times a lognormal number of mean 1.

use crate::Nanos;
use crate::engine::{Action, Chance, Engine, SLACK, Settings};
use crate::migrate::{self, Move};
use crate::model::{Cluster, Estimate, ImageId, Link, Node, NodeId, TaskId, TaskSpec};
use crate::plan::{Objective, Placement, Plan, Policy};
use crate::rng::Rng;
use crate::{greedy, list, tune, units};
use alloc::collections::{BTreeMap, BinaryHeap};
use alloc::vec::Vec;
use core::cmp::Reverse;

/// Table 5-1: name, probability, memory in bytes, hundredths of a core; and an invented run time, seconds.
pub const MIX: [(&str, f64, u64, u32, f64); 9] = [
    ("maze", 0.02, 400_000_000, 50, 12.0),
    ("sha256", 0.30, 400_000_000, 100, 30.0),
    ("13queens", 0.10, 400_000_000, 50, 45.0),
    ("quicksort", 0.14, 400_000_000, 50, 20.0),
    ("hashzip", 0.30, 400_000_000, 100, 40.0),
    ("dynamic", 0.04, 400_000_000, 50, 18.0),
    ("huffman", 0.06, 400_000_000, 50, 25.0),
    ("calcpi", 0.02, 400_000_000, 50, 60.0),
    ("matrix", 0.02, 400_000_000, 50, 35.0),
];

/// Table 5-2: the initiator with 4 cores and 8 GB, servers with 8/16, 8/16 and 4/8. The first node is the initiator.
pub fn thesis_cluster() -> Cluster {
    let initiator = Node { is_initiator: true, ..Node::new(0, 4, 8) };
    Cluster { nodes: [initiator, Node::new(1, 8, 16), Node::new(2, 8, 16), Node::new(3, 4, 8)].into() }
}

/// `n` tasks of the mix, with the coefficient of variation that their estimates have.
pub fn thesis_tasks(n: usize, cv: f64, rng: &mut Rng) -> Vec<TaskSpec> {
    tasks_of(&MIX.map(|kind| kind.4), n, cv, rng)
}

/// The same, of programs that run for so many seconds at speed 1.
pub fn tasks_of(times: &[f64; MIX.len()], n: usize, cv: f64, rng: &mut Rng) -> Vec<TaskSpec> {
    let task = |id| {
        let mut drawn = rng.unit();
        let kind = MIX.iter().position(|k| {
            drawn -= k.1;
            drawn < 0.0
        });
        let kind = kind.unwrap_or(MIX.len() - 1);
        let ((_, _, memory, cores, _), seconds) = (MIX[kind], times[kind]);
        TaskSpec {
            memory,
            cores,
            image: ImageId(kind as u64),
            work: Estimate { seconds, cv },
            ..TaskSpec::new(id as u64, seconds)
        }
    };
    (0..n).map(task).collect()
}

/// `n` four-core nodes of 8 GB in so many classes of speed, from 0.5 to 2, evenly spread.
pub fn speed_classes(n: usize, classes: usize) -> Cluster {
    let speed = |i: usize| 0.5 + 1.5 * (i % classes) as f64 / (classes.max(2) - 1) as f64;
    Cluster { nodes: (0..n).map(|i| Node { speed: speed(i), ..Node::new(i as u32, 4, 8) }).collect() }
}

/// What the tasks will really take: seconds at speed 1.
pub fn outcomes(tasks: &[TaskSpec], rng: &mut Rng) -> Vec<f64> {
    tasks.iter().map(|t| t.seconds() * rng.lognormal(t.work.cv)).collect()
}

/// What happens when tasks that take `actual` seconds, at speed 1, are run by a policy that knows only estimates. Static plans
/// keep their nodes and orders; late binding sees what has ended.
pub fn run(
    cluster: &Cluster,
    tasks: &[TaskSpec],
    actual: &[f64],
    policy: Policy,
    objective: Objective,
    seed: u64,
) -> Plan {
    match policy {
        Policy::List => {
            let (rule, _) = tune::rule(cluster, tasks, objective, seed);
            let target = list::several_speeds(cluster) && objective == Objective::Makespan;
            list::dispatch(cluster, tasks, Some(actual), list::Rule { slack: target.then_some(SLACK), ..rule })
        }
        Policy::Local => greedy::local(cluster, tasks, Some(actual)),
        Policy::MemoryFirst => greedy::memory_first(cluster, tasks, Some(actual)),
        Policy::MbctGa | Policy::EarliestFinish | Policy::LocalSearch => {
            let mut fixed = crate::plan(cluster, tasks, policy, objective, seed);
            fixed.placements.sort_by_key(|p| p.start);
            let rows: Vec<_> = fixed.placements.iter().map(|p: &Placement| (p.index, p.at, p.reason)).collect();
            let mut plan = Plan { placements: Vec::with_capacity(rows.len()), refused: fixed.refused };
            greedy::replay(cluster, tasks, &rows, Some(actual), &mut plan);
            plan
        }
    }
}

/// The same by the engine, as things happen: tasks of one owner that all arrive at 0.
pub fn drive(cluster: &Cluster, tasks: &[TaskSpec], actual: &[f64], settings: Settings) -> Plan {
    drive_with(cluster, tasks, actual, settings, None).0
}

/// What is written anew by tasks that are moved while they run, and what a move has to be worth.
#[derive(Clone, Copy, Debug)]
pub struct Moves {
    /// Bytes per second that a task writes anew.
    pub dirty: f64,
    /// See there.
    pub weighing: migrate::Settings,
}

struct Run {
    at: u32,
    /// Seconds at speed 1 that are done when it begins there.
    done: f64,
    begins: Nanos,
    /// Seconds for which it is held up before it leaves: copied while it runs, and standing still.
    held_up: f64,
    /// Where in the plan it stands.
    place: usize,
    /// What is said of it that is of an earlier stay does not count.
    stay: u32,
}

/// What becomes of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ended,
    /// It runs on the other node.
    Moved(NodeId),
}

/// [`drive`]; with `moves`, tasks are moved while they run where that pays. Each task stands in the plan once, from where it
/// began to when it has ended, on the node where it ended. Gives how many moves there were as well.
pub fn drive_with(
    cluster: &Cluster,
    tasks: &[TaskSpec],
    actual: &[f64],
    settings: Settings,
    moves: Option<Moves>,
) -> (Plan, usize) {
    let mut engine = Engine::new(settings);
    let places: BTreeMap<NodeId, u32> = cluster.nodes.iter().enumerate().map(|(n, node)| (node.id, n as u32)).collect();
    let indices: BTreeMap<TaskId, u32> = tasks.iter().enumerate().map(|(i, task)| (task.id, i as u32)).collect();
    let mut plan = Plan::default();
    for node in &cluster.nodes {
        engine.handle_joined(0, node.clone());
    }
    for task in tasks {
        if let Err(why) = engine.handle_arrived(0, "", task.clone()) {
            plan.refused.push((task.id, why));
        }
    }
    let (mut events, mut runs) = (BinaryHeap::new(), BTreeMap::new());
    let (mut now, mut moved) = (0, 0);
    loop {
        while let Some(action) = engine.poll(now) {
            let Action::Start { task, node, end, reason } = action else { continue };
            let (index, at) = (indices[&task], places[&node]);
            // Its image's way is in the expected end, and comes true; its run does not.
            let node = &cluster.nodes[at as usize];
            let run = |seconds| node.run(seconds);
            let fetch = (end - now).saturating_sub(run(tasks[index as usize].seconds().max(1e-3)));
            let end = units::end(now, fetch, run(actual[index as usize]));
            events.push(Reverse((end, task, 0, Event::Ended)));
            let (begins, place) = (now + fetch, plan.placements.len());
            runs.insert(task, Run { at, done: 0.0, begins, held_up: 0.0, place, stay: 0 });
            plan.placements.push(Placement { task, node: node.id, index, at, start: now, end, reason });
        }
        let chances = if moves.is_some() { engine.chances(8) } else { Vec::new() };
        for chance in chances {
            let Some(Moves { dirty, weighing }) = moves else { break };
            let (from, to) =
                (&cluster.nodes[places[&chance.from] as usize], &cluster.nodes[places[&chance.to] as usize]);
            let link = Link {
                bandwidth: from.link.bandwidth.min(to.link.bandwidth),
                latency: from.link.latency.saturating_add(to.link.latency),
            };
            let memory = tasks[indices[&chance.task] as usize].memory;
            let Chance { left, here, there, .. } = chance;
            let verdict = migrate::weigh(&Move { left, here, there, wait: 0.0, memory, dirty, link }, &weighing);
            if let Some(run) = runs.get_mut(&chance.task).filter(|_| verdict.go)
                && engine.handle_moving(now, chance.task, chance.to)
            {
                run.held_up = verdict.cost;
                let there = now + units::nanos(verdict.copy);
                events.push(Reverse((there, chance.task, run.stay, Event::Moved(chance.to))));
            }
        }
        let Some(Reverse((at, task, stay, event))) = events.pop() else { return (plan, moved) };
        now = at;
        let Some(run) = runs.get_mut(&task).filter(|run| run.stay == stay) else { continue };
        match event {
            Event::Ended => {
                plan.placements[run.place].end = now;
                engine.handle_ended(now, task);
                runs.remove(&task);
            }
            Event::Moved(to) => {
                if !engine.handle_moved(now, task, to) {
                    continue;
                }
                moved += 1;
                let ran = (units::seconds(now.saturating_sub(run.begins)) - run.held_up).max(0.0);
                run.done += ran * cluster.nodes[run.at as usize].speed();
                (run.at, run.begins, run.stay) = (places[&to], now, run.stay + 1);
                let node = &cluster.nodes[run.at as usize];
                (plan.placements[run.place].node, plan.placements[run.place].at) = (to, run.at);
                let left = (actual[indices[&task] as usize] - run.done).max(0.0);
                events.push(Reverse((units::end(now, 0, node.run(left)), task, run.stay, Event::Ended)));
            }
        }
    }
}

/// (5-9): A = (T_local - T_off) / T_local, 0 to 1.
pub fn acceleration(local: &Plan, offloaded: &Plan) -> f64 {
    let local = local.makespan() as f64;
    if local > 0.0 { 1.0 - offloaded.makespan() as f64 / local } else { 0.0 }
}
