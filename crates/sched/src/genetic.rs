//! The thesis's policy for tasks with a history, as a baseline (5.1.2 (2)); it calls it MBCT, least mean completion time.
//!
//! An individual says for each task which node it is on (5-3). Its cost is (5-5)
//!
//! ```text
//! C = sum over tasks (t_exec + q_j Tavg_j) + sum over nodes (E_cpu + E_mem)        q_j, Tavg_j: number and mean run time
//! E = max(0, demand on j - capacity of j) / (mean demand of a task on j) * Tavg_j      of the tasks on node j
//! ```
//! and its fitness 1/C (5-6). Each generation, 30 % of the individuals survive, drawn by roulette; the others are bred from
//! the survivors by single-point crossover; 30 % of the children have one task put elsewhere; 500 generations.
//!
//! Put right here: (5-7) and (5-8) as printed turn into a reward where a node is under-used, so that most fitness values are
//! negative; they are clamped at zero, and zero for an empty node. Left as it is: (5-2) does not know cores, so that equal
//! numbers on each node are the optimum, which is what the thesis blames its policy for (5.2.3); and roulette on 1/C hardly
//! prefers anything. The size of the population is not given; 100 here. The best individual of all generations is the plan.

use crate::greedy::{admit, replay};
use crate::model::{Cluster, TaskSpec};
use crate::plan::{Plan, Reason};
use crate::rng::Rng;
use alloc::vec;
use alloc::vec::Vec;

/// Of the evolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Individuals, at least 2.
    pub population: usize,
    /// Generations.
    pub generations: usize,
    /// Part that survives, 0 to 1.
    pub survive: f64,
    /// Part of the children that mutate, 0 to 1.
    pub mutate: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { population: 100, generations: 500, survive: 0.3, mutate: 0.3 }
    }
}

/// What (5-5) knows of a node's tasks.
#[derive(Clone, Copy, Default)]
struct Load {
    count: f64,
    run: f64,
    cores: f64,
    memory: f64,
}

struct Problem<'a> {
    cluster: &'a Cluster,
    /// Run time at speed 1, cores, bytes.
    tasks: Vec<(f64, f64, f64)>,
    /// Which nodes will do for each task, as a place in `able`.
    class: Vec<u32>,
    able: Vec<Vec<u16>>,
}

impl Problem<'_> {
    /// (5-5), seconds.
    fn cost(&self, genes: &[u16], loads: &mut Vec<Load>) -> f64 {
        loads.clear();
        loads.resize(self.cluster.nodes.len(), Load::default());
        for (&(run, cores, memory), &at) in self.tasks.iter().zip(genes) {
            let load = &mut loads[at as usize];
            load.count += 1.0;
            load.run += run;
            load.cores += cores;
            load.memory += memory;
        }
        let mut cost = 0.0;
        for (load, node) in loads.iter().zip(&self.cluster.nodes) {
            if load.count > 0.0 {
                let run = load.run / node.speed();
                let mean = run / load.count;
                let penalty = |demand: f64, capacity: f64| {
                    if demand > capacity { (demand - capacity) / (demand / load.count) * mean } else { 0.0 }
                };
                cost += run + load.count * load.count * mean;
                cost += penalty(load.cores, f64::from(node.usable_cores()));
                cost += penalty(load.memory, node.usable_memory() as f64);
            }
        }
        cost
    }

    fn any(&self, task: usize, rng: &mut Rng) -> u16 {
        let able = &self.able[self.class[task] as usize];
        able[rng.below(able.len())]
    }
}

/// The plan that has evolved; each node runs its tasks in the order of submission.
pub fn plan(cluster: &Cluster, tasks: &[TaskSpec], settings: Settings, seed: u64) -> Plan {
    let mut plan = Plan::default();
    let order = admit(cluster, tasks, &mut plan);
    let mut problem = Problem { cluster, tasks: Vec::new(), class: Vec::new(), able: Vec::new() };
    for &i in &order {
        let task = &tasks[i as usize];
        let will = |n: &u16| cluster.nodes[*n as usize].refuses(task).is_none();
        let able: Vec<u16> = (0..cluster.nodes.len().min(1 << 16) as u32).map(|n| n as u16).filter(will).collect();
        let known = problem.able.iter().position(|a| *a == able).unwrap_or_else(|| {
            problem.able.push(able);
            problem.able.len() - 1
        });
        problem.class.push(known as u32);
        problem.tasks.push((task.seconds(), f64::from(task.cores), task.memory as f64));
    }
    if order.is_empty() {
        return plan;
    }
    let (genes, cost) = evolve(&problem, settings, &mut Rng::new(seed));
    let fixed: Vec<_> = order.iter().zip(genes).map(|(&i, at)| (i, u32::from(at), Reason::Evolved { cost })).collect();
    replay(cluster, tasks, &fixed, None, &mut plan);
    plan
}

fn evolve(problem: &Problem<'_>, settings: Settings, rng: &mut Rng) -> (Vec<u16>, f64) {
    let n = problem.tasks.len();
    let size = settings.population.max(2);
    let survivors = ((size as f64 * settings.survive) as usize).clamp(1, size);
    let mut loads = Vec::new();
    let mut people: Vec<(Vec<u16>, f64)> = (0..size)
        .map(|_| {
            let genes: Vec<u16> = (0..n).map(|t| problem.any(t, rng)).collect();
            let cost = problem.cost(&genes, &mut loads);
            (genes, cost)
        })
        .collect();
    let mut best = people[0].clone();
    let mut wheel = vec![0.0; size];
    for _ in 0..settings.generations {
        if let Some(found) = people.iter().min_by(|a, b| a.1.total_cmp(&b.1))
            && found.1 < best.1
        {
            best.clone_from(found);
        }
        let mut sum = 0.0;
        for (slot, person) in wheel.iter_mut().zip(&people) {
            sum += 1.0 / person.1;
            *slot = sum;
        }
        let mut next: Vec<(Vec<u16>, f64)> = (0..survivors)
            .map(|_| {
                let drawn = rng.unit() * sum;
                people[wheel.partition_point(|w| *w <= drawn).min(size - 1)].clone()
            })
            .collect();
        while next.len() < size {
            let (one, other) = (rng.below(survivors), rng.below(survivors));
            let cut = rng.below(n + 1);
            let mut child = next[one].0.clone();
            child[cut..].copy_from_slice(&next[other].0[cut..]);
            if rng.unit() < settings.mutate {
                let task = rng.below(n);
                child[task] = problem.any(task, rng);
            }
            let cost = problem.cost(&child, &mut loads);
            next.push((child, cost));
        }
        people = next;
    }
    people.push(best);
    people.into_iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or_default()
}
