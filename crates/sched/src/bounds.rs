//! What no plan can beat: the yardstick for makespan and mean response.
//!
//! A cluster with speeds is taken for uniform machines (Q||Cmax, Q||sum C) whose slots can be shared and left at will, so
//! that the bounds hold for every plan, and are not always reached.
//!
//! *Makespan*: the largest of
//! - the longest task on the fastest node that will do;
//! - core seconds of all tasks / core speed of all nodes; the same for memory;
//! - for every k, the core seconds of the k longest tasks / the speed of as many of the fastest cores as these can use at
//!   once: the optimum of the preemptive problem (Horvath, Lam, Sethi 1977), and so of its linear program.
//!
//! Where tasks run when a plan begins, their cores count from their ends on in the second of these, and are
//! left out of account in the others.
//!
//! *Mean response*: a task ends half of its run after the middle of it, and the middles are least when the whole cluster
//! works on one task after the other, the smallest first: sum of (A_before + a/2) / P + t/2 (Eastman, Even, Isaacs 1964;
//! for tasks of several cores the squashed area of Turek and others 1994).

use crate::model::{Cluster, TaskSpec};
use crate::units;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// Seconds before which the tasks, all there at 0, cannot be over. `seconds` are their true run times at speed 1.
pub fn makespan(cluster: &Cluster, tasks: &[TaskSpec], seconds: &[f64]) -> f64 {
    let mut speeds = speeds(cluster);
    let fastest = speeds.first().map_or(1.0, |s| s.0);
    let power: f64 = speeds.iter().map(|s| s.0 * s.1).sum();
    let memory: f64 = cluster.nodes.iter().filter(|n| !n.cordoned).map(|n| n.usable_memory() as f64 * n.speed()).sum();
    if power <= 0.0 || tasks.is_empty() {
        return 0.0;
    }
    let (mut area, mut bytes, mut longest) = (0.0, 0.0, 0.0_f64);
    let mut wishes: BTreeMap<(bool, bool, &[String]), f64> = BTreeMap::new();
    let mut order: Vec<(f64, f64)> = Vec::with_capacity(tasks.len());
    for (task, &seconds) in tasks.iter().zip(seconds) {
        let cores = f64::from(task.cores) / 100.0;
        area += cores * seconds;
        bytes += task.memory as f64 * seconds;
        order.push((seconds, cores));
        let fastest = if !task.local_only && !task.gpu && task.labels.is_empty() {
            fastest
        } else {
            *wishes.entry((task.local_only, task.gpu, &task.labels)).or_insert_with(|| {
                let able = cluster.nodes.iter().filter(|n| n.lacks(task).is_none());
                let speed = able.map(|n| n.speed()).fold(0.0, f64::max);
                if speed > 0.0 { speed } else { fastest }
            })
        };
        longest = longest.max(seconds / fastest.max(1e-6));
    }
    let mut best = longest.max(emptied(cluster, area, power));
    if memory > 0.0 {
        best = best.max(bytes / memory);
    }
    if speeds.len() > 1 {
        // Only as many of the longest as there are cores matter: select these before they are sorted.
        let cores: f64 = speeds.iter().map(|s| s.1).sum();
        let least = order.iter().map(|o| o.1).fold(f64::MAX, f64::min).max(0.01);
        let most = (cores / least) as usize + 1;
        if most < order.len() {
            order.select_nth_unstable_by(most, |a, b| b.0.total_cmp(&a.0));
            order.truncate(most);
        }
        order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let (mut done, mut speed, mut class) = (0.0, 0.0, 0);
        for (seconds, mut cores) in order {
            done += seconds * cores;
            while cores > 0.0 && class < speeds.len() {
                let taken = cores.min(speeds[class].1);
                speed += taken * speeds[class].0;
                speeds[class].1 -= taken;
                cores -= taken;
                if speeds[class].1 <= 0.0 {
                    class += 1;
                }
            }
            best = best.max(done / speed);
        }
    }
    best
}

/// Seconds below which the mean of the response times, from 0, cannot be. `seconds` are true run times at speed 1.
pub fn mean_response(cluster: &Cluster, tasks: &[TaskSpec], seconds: &[f64]) -> f64 {
    let speeds = speeds(cluster);
    let power: f64 = speeds.iter().map(|s| s.0 * s.1).sum();
    if power <= 0.0 || tasks.is_empty() {
        return 0.0;
    }
    let fastest = speeds[0].0;
    let runs: f64 = seconds.iter().map(|s| s / fastest).sum();
    let mut areas: Vec<f64> = tasks.iter().zip(seconds).map(|(t, s)| s * f64::from(t.cores) / 100.0).collect();
    areas.sort_unstable_by(f64::total_cmp);
    let (mut before, mut middles) = (0.0, 0.0);
    for area in areas {
        middles += (before + area / 2.0) / power;
        before += area;
    }
    (middles + runs / 2.0).max(runs) / tasks.len() as f64
}

/// Seconds until so many core seconds can be done, if what runs already keeps its cores until its end.
fn emptied(cluster: &Cluster, area: f64, power: f64) -> f64 {
    let mut busy: Vec<(f64, f64)> = Vec::new();
    for node in cluster.nodes.iter().filter(|n| !n.cordoned) {
        busy.extend(node.taken().map(|b| (units::seconds(b.end), node.speed() * f64::from(b.cores) / 100.0)));
    }
    busy.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut free = power - busy.iter().map(|b| b.1).sum::<f64>();
    let (mut now, mut left) = (0.0, area);
    for (end, cores) in busy {
        if left <= free * (end - now) {
            break;
        }
        left -= free * (end - now);
        (now, free) = (end, free + cores);
    }
    now + left / free.max(power * 1e-12)
}

/// Speeds, the highest first, each with how many cores have it.
fn speeds(cluster: &Cluster) -> Vec<(f64, f64)> {
    let usable = cluster.nodes.iter().filter(|n| !n.cordoned && n.usable_cores() > 0);
    let mut all: Vec<(f64, f64)> = usable.map(|n| (n.speed(), f64::from(n.usable_cores()) / 100.0)).collect();
    all.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    all.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Node;

    fn check(nodes: &[(u32, f64)], seconds: &[f64], expect: (f64, f64)) {
        let nodes = nodes.iter().enumerate().map(|(i, &(c, speed))| Node { speed, ..Node::new(i as u32, c, 16) });
        let cluster = Cluster { nodes: nodes.collect() };
        let tasks: Vec<_> = seconds.iter().enumerate().map(|(i, &s)| TaskSpec::new(i as u64, s)).collect();
        let got = (makespan(&cluster, &tasks, seconds), mean_response(&cluster, &tasks, seconds));
        assert!((got.0 - expect.0).abs() < 1e-9 && (got.1 - expect.1).abs() < 1e-9, "{got:?}, not {expect:?}");
    }

    #[test]
    fn bounds_by_hand() {
        // Two cores, 3 + 3 + 2: 8/2; middles 1/2 * (1 + 3.5 + 6.5) = 5.5/2... (0+1)/2 + (2+1.5)/2 + (5+1.5)/2 + 4, over 3.
        check(&[(2, 1.0)], &[3.0, 3.0, 2.0], (4.0, (0.5 + 1.75 + 3.25 + 4.0) / 3.0));
        // One long task.
        check(&[(2, 1.0)], &[9.0, 1.0], (9.0, 5.0 + (0.25 + 2.75 - 3.0)));
        // Speeds 4 and 1: two tasks of 8 need 16/5, the longer one alone only 2, so do these three: 18/5.
        check(&[(1, 1.0), (1, 4.0)], &[8.0, 8.0, 2.0], (3.6, (0.2 + 1.2 + 2.8 + 2.25) / 3.0));
        check(&[], &[1.0], (0.0, 0.0));
    }
}
