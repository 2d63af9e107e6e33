//! Late-binding list dispatch: when cores free, the first task of the list that fits takes them.
//!
//! Events are in a heap, and [`waiting`] finds the first that fits without going through the list, so that a decision is
//! O(log n) in tasks and nodes.
//!
//! Nodes of different speeds: with plain longest-first, the last long task lies on a slow node and everybody waits for it.
//! So there is a target for the makespan, and a node takes the longest task *that it can end by then*, which also fills it
//! to the brim. When nothing runs and tasks are left, the target was too near, and rises (the dual approximation of Hochbaum
//! and Shmoys 1988, in one pass). Where tasks really run, the target is what is left to do over what the cluster can do, and
//! the fastest nodes that a task can have take it in any case.

mod waiting;

use crate::model::{Busy, Cluster, ImageId, Node, TaskSpec};
use crate::plan::{Objective, Placement, Plan, Reason};
use crate::units::{self, nanos, seconds};
use crate::{Nanos, bounds};
use alloc::collections::{BTreeMap, BTreeSet, BinaryHeap};
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;
use waiting::{Class, Offer, Waiting};

/// How to dispatch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub objective: Objective,
    /// Makespan: how much more a task of many cores counts than a narrow one of the same length; see [`key`].
    pub wide: f64,
    /// Makespan: the first target is so much of a mean run beyond what could be if tasks were a liquid; or no target.
    pub slack: Option<f64>,
}

/// A list plan. `actual` are the run times that come out, seconds at speed 1, where these are not the estimates; decisions
/// see only the estimates, and that something has ended.
pub(crate) fn dispatch(cluster: &Cluster, tasks: &[TaskSpec], actual: Option<&[f64]>, rule: Rule) -> Plan {
    let mut list = List::new(cluster, tasks, rule);
    list.run(actual);
    list.plan
}

/// Where a task stands in the list: least first. For makespan, by length times cores^`wide`: narrow tasks fill the gaps
/// that wide ones leave, so that they had better come later.
pub(crate) fn key(task: &TaskSpec, objective: Objective, wide: f64) -> u64 {
    match objective {
        Objective::Makespan => u64::MAX - nanos(task.seconds() * scale(task.cores, wide)),
        Objective::MeanResponse => nanos(task.area()),
    }
}

/// (Hundredths of) cores^`wide`.
pub(crate) fn scale(cores: u32, wide: f64) -> f64 {
    if wide == 0.0 || cores == 100 { 1.0 } else { libm::pow(f64::from(cores.max(1)) / 100.0, wide) }
}

/// Seconds in which so many core seconds could be done, and `slack` of a run of mean size longer.
///
/// Sets of few and large tasks need more room than sets of many: what a node has left at the end is a part of a task.
pub(crate) fn liquid(left: f64, mean: f64, power: f64, cores: f64, slack: f64) -> f64 {
    (left + mean * cores * slack) / power.max(1e-9)
}

/// Where numbers of what ran before begin, behind those of placements.
const BEFORE: u32 = 1 << 31;

/// Whether it matters to a task's run time where it runs.
pub(crate) fn several_speeds(cluster: &Cluster) -> bool {
    cluster.nodes.windows(2).any(|w| w[0].speed() != w[1].speed())
}

#[derive(Clone, Copy)]
struct Free {
    cores: u32,
    memory: u64,
    class: u32,
    speed: f64,
    /// When it was last looked at.
    at: Nanos,
}

struct List<'a> {
    cluster: &'a Cluster,
    tasks: &'a [TaskSpec],
    rule: Rule,
    queue: Waiting,
    nodes: Vec<Free>,
    images: BTreeMap<(u32, ImageId), Nanos>,
    waiting: usize,
    target: Option<Nanos>,
    /// Core seconds at speed 1 that wait.
    area: f64,
    /// Of what runs: core speed, and core speed times its expected end in seconds.
    running: (f64, f64),
    /// What ran before the plan began, each with its node's place.
    before: Vec<(u32, Busy)>,
    /// Core speed of all nodes, and cores.
    power: f64,
    cores: f64,
    plan: Plan,
}

impl<'a> List<'a> {
    fn new(cluster: &'a Cluster, tasks: &'a [TaskSpec], rule: Rule) -> Self {
        let (nodes, classes) = classes(cluster);
        let mut refused = Vec::new();
        let (queue, accepted) = Waiting::new(tasks, &classes, rule, |i| {
            refused.extend(cluster.refuses(&tasks[i]).map(|why| (tasks[i].id, why)));
        });
        let mut before = Vec::new();
        for (n, node) in cluster.nodes.iter().enumerate().filter(|(_, node)| !node.cordoned && !node.busy.is_empty()) {
            before.extend(node.taken().map(|busy| (n as u32, busy)));
        }
        let rate = |&(n, busy): &(u32, Busy)| cluster.nodes[n as usize].speed() * f64::from(busy.cores) / 100.0;
        let running =
            before.iter().fold((0.0, 0.0), |sum: (f64, f64), b| (sum.0 + rate(b), sum.1 + rate(b) * seconds(b.1.end)));
        let open = || cluster.nodes.iter().filter(|n| !n.cordoned);
        let mut list = Self {
            cluster,
            tasks,
            rule,
            queue,
            nodes,
            images: BTreeMap::new(),
            waiting: accepted.len(),
            target: None,
            area: accepted.iter().map(|&(i, _)| tasks[i as usize].area()).sum(),
            running,
            before,
            power: open().map(|n| n.speed() * f64::from(n.usable_cores()) / 100.0).sum(),
            cores: open().map(|n| f64::from(n.usable_cores()) / 100.0).sum(),
            plan: Plan { placements: Vec::with_capacity(accepted.len()), refused },
        };
        if let Some(slack) = rule.slack {
            let seconds: Vec<f64> = tasks.iter().map(TaskSpec::seconds).collect();
            list.target = Some(list.within(0, slack).max(nanos(bounds::makespan(cluster, tasks, &seconds) * 1.001)));
        }
        list
    }

    fn run(&mut self, actual: Option<&[f64]>) {
        let mut ends: BinaryHeap<Reverse<(Nanos, u32)>> = BinaryHeap::new();
        // What ran before the plan began stands behind all placements.
        ends.extend(self.before.iter().enumerate().map(|(i, b)| Reverse((b.1.end, BEFORE + i as u32))));
        let open =
            |n: &u32| !self.cluster.nodes[*n as usize].cordoned && self.cluster.nodes[*n as usize].usable_cores() > 0;
        let mut order: Vec<u32> = (0..self.nodes.len() as u32).filter(open).collect();
        order.sort_by(|&a, &b| self.nodes[b as usize].speed.total_cmp(&self.nodes[a as usize].speed));
        let mut now = 0;
        loop {
            for &node in &order {
                // A plan may go back to when a node was left alone; what really happens cannot.
                let at = if actual.is_some() { now } else { self.nodes[node as usize].at };
                self.fill(node, at, actual, &mut ends);
            }
            while let Some(Reverse((end, placed))) = ends.pop() {
                now = end;
                let node = self.release(placed);
                if let (Some(_), Some(slack)) = (actual, self.rule.slack) {
                    self.target = Some(self.within(now, slack));
                }
                // What ends at once is freed before anything is chosen.
                let same = ends.peek().is_some_and(|Reverse((next, p))| *next == end && self.place(*p) == node);
                if !same {
                    self.fill(node, now, actual, &mut ends);
                }
            }
            if self.waiting == 0 {
                break;
            }
            let Some(target) = &mut self.target else { break };
            *target = target.saturating_add(*target / 64 + 1);
        }
    }

    /// When all could have ended, if tasks were a liquid, and so much of a mean run later.
    fn within(&self, now: Nanos, slack: f64) -> Nanos {
        let left = self.area + (self.running.1 - seconds(now) * self.running.0).max(0.0);
        let liquid = nanos(liquid(left, self.area / self.waiting.max(1) as f64, self.power, self.cores, slack));
        now.saturating_add(liquid)
    }

    fn place(&self, placed: u32) -> u32 {
        match placed.checked_sub(BEFORE) {
            Some(i) => self.before[i as usize].0,
            None => self.plan.placements[placed as usize].at,
        }
    }

    fn release(&mut self, placed: u32) -> u32 {
        if let Some(i) = placed.checked_sub(BEFORE) {
            let (at, busy) = self.before[i as usize];
            let node = &mut self.nodes[at as usize];
            self.running.0 -= node.speed * f64::from(busy.cores) / 100.0;
            self.running.1 -= node.speed * f64::from(busy.cores) / 100.0 * seconds(busy.end);
            node.cores += busy.cores;
            node.memory += busy.memory;
            return at;
        }
        let placement = self.plan.placements[placed as usize];
        let task = &self.tasks[placement.index as usize];
        self.track(&placement, -1.0);
        let node = &mut self.nodes[placement.at as usize];
        node.cores += task.cores;
        node.memory += task.memory;
        placement.at
    }

    /// Keeps `running` true when a task starts (1) or has ended (-1).
    fn track(&mut self, placement: &Placement, sign: f64) {
        let task = &self.tasks[placement.index as usize];
        let speed = self.nodes[placement.at as usize].speed;
        let rate = sign * speed * f64::from(task.cores) / 100.0;
        self.running.0 += rate;
        self.running.1 += rate * (seconds(placement.start) + task.seconds() / speed);
    }

    fn fill(&mut self, n: u32, now: Nanos, actual: Option<&[f64]>, ends: &mut BinaryHeap<Reverse<(Nanos, u32)>>) {
        self.nodes[n as usize].at = now;
        while self.waiting > 0 {
            let free = self.nodes[n as usize];
            // The longest, at speed 1, that ends in time.
            let most = self.target.map_or(f64::MAX, |target| target.saturating_sub(now) as f64 * free.speed);
            let (cores, memory, class, speed) = (free.cores, free.memory, free.class, free.speed);
            let offer = Offer { cores, memory, class, speed, most, late: actual.is_some() };
            let Some(index) = self.queue.take_first(&offer) else { return };
            self.waiting -= 1;
            let task = &self.tasks[index as usize];
            let node = &self.cluster.nodes[n as usize];
            let fetch = self.fetch(n, node, task, now);
            let end = units::end(now, fetch, node.run(actual.map_or(task.seconds(), |a| a[index as usize])));
            let waiting = self.waiting as u32;
            let reason = match (self.rule.objective, self.target) {
                (Objective::Makespan, None) => Reason::Longest { waiting },
                (Objective::Makespan, Some(by)) => Reason::LongestInTime { waiting, by },
                (Objective::MeanResponse, _) => Reason::Smallest { waiting },
            };
            self.nodes[n as usize].cores -= task.cores;
            self.nodes[n as usize].memory -= task.memory;
            ends.push(Reverse((end, self.plan.placements.len() as u32)));
            let placement = Placement { task: task.id, node: node.id, index, at: n, start: now, end, reason };
            self.area -= task.area();
            self.track(&placement, 1.0);
            self.plan.placements.push(placement);
        }
    }

    fn fetch(&mut self, n: u32, node: &Node, task: &TaskSpec, now: Nanos) -> Nanos {
        if task.transfer == 0 {
            return 0;
        }
        let come = self.images.entry((n, task.image)).or_insert_with(|| now.saturating_add(node.fetch(task)));
        come.saturating_sub(now)
    }
}

/// What each node has free, and the classes. Cordoned nodes have nothing.
fn classes(cluster: &Cluster) -> (Vec<Free>, Vec<Class<'_>>) {
    type Offer<'n> = (u64, bool, bool, &'n [String]);
    let mut known: BTreeMap<Offer<'_>, u32> = BTreeMap::new();
    let mut classes: Vec<Class<'_>> = Vec::new();
    let nodes = cluster.nodes.iter().map(|node| {
        if node.cordoned {
            return Free { cores: 0, memory: 0, class: 0, speed: 0.0, at: 0 };
        }
        let offer = (node.speed().to_bits(), node.gpu, node.is_initiator, node.labels.as_slice());
        let class = *known.entry(offer).or_insert_with(|| {
            classes.push(Class { sample: node, rooms: BTreeSet::new() });
            classes.len() as u32 - 1
        });
        let (cores, memory) = (node.usable_cores(), node.usable_memory());
        classes[class as usize].rooms.insert((cores, memory));
        let (cores, memory) = node.free();
        Free { cores, memory, class, speed: node.speed(), at: 0 }
    });
    (nodes.collect(), classes)
}
