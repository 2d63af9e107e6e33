//! What the scheduler achieves, in simulated time: Table 5-3 of the thesis, how far from what no plan could beat, and how long
//! planning takes, beside the thesis's policies in the same run.

use super::overhead::processor_time;
use super::{Bench, Row, check_parts, control};
use anyhow::Result;
use std::time::Instant;
use wayfare_sched::rng::Rng;
use wayfare_sched::simulate::{Moves, drive_with, outcomes, speed_classes, thesis_cluster, thesis_tasks};
use wayfare_sched::table::{self, Experiment, PRINTED, SIZES};
use wayfare_sched::{
    Action, Cluster, Engine, NodeId, Objective, Policy, TaskId, TaskSpec, bounds, engine, migrate, plan,
};

/// What `--only` may name, and what measures it.
type Part = (&'static str, fn(&Bench) -> Result<Vec<Row>>);

const PARTS: [Part; 9] = [
    ("table", |args| Ok(table(args))),
    ("planning", |args| Ok(planning(args))),
    ("scale", |args| Ok(scale(args))),
    ("events", |args| Ok(events(args))),
    ("moves", |_| Ok(moves())),
    ("real", control::real),
    ("latency", control::latency),
    ("rate", control::rate),
    ("idle", control::idle),
];

/// The rows of the table.
///
/// # Errors
/// When a part does not exist.
pub fn measure(args: &Bench) -> Result<Vec<Row>> {
    check_parts(args, &PARTS.map(|part| part.0))?;
    let wanted = |part: &str| args.only.is_empty() || args.only.iter().any(|only| only == part);
    let mut rows = Vec::new();
    for (_, measure) in PARTS.iter().filter(|(part, _)| wanted(part)) {
        rows.extend(measure(args)?);
    }
    Ok(rows)
}

fn row(name: impl Into<String>, value: f64, unit: &'static str, target: Option<f64>, note: String) -> Row {
    Row { name: name.into(), value, unit, target, at_least: false, ratio: None, note }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (n, sum) = values.fold((0.0, 0.0), |(n, sum), value| (n + 1.0, sum + value));
    sum / f64::max(n, 1.0)
}

/// Table 5-3, with outcomes other than estimated.
fn table(_: &Bench) -> Vec<Row> {
    let policies = [Policy::List, Policy::MbctGa, Policy::MemoryFirst];
    let sets = table::rows(&Experiment::default(), &policies);
    let a = |p: usize| 100.0 * mean(sets.iter().map(|row| row.off[p].acceleration));
    let printed = mean(PRINTED.iter().flatten().copied());
    let note = format!("ideal 83.33; mbct-ga {:.2}, memory-first {:.2}; the thesis prints {printed:.2}", a(1), a(2));
    let mut rows = vec![Row { at_least: true, ..row("A, Table 5-3, mean of nine sets", a(0), "%", Some(82.5), note) }];
    for (size, target) in [1.09, 1.04, 1.02].into_iter().enumerate() {
        let of = |value: &dyn Fn(&table::Row) -> f64| {
            mean(sets.iter().filter(|row| row.size == size).map(|row| value(row) / row.bounds.0))
        };
        let by = |p: usize| of(&|row| row.off[p].makespan);
        let note = format!(
            "mbct-ga {:.3}, memory-first {:.3}; {:.3} if run times were known before",
            by(1),
            by(2),
            of(&|row| row.foreseen)
        );
        rows.push(row(format!("makespan / bound, {} tasks", SIZES[size]), by(0), "ratio", Some(target), note));
    }
    let large = || sets.iter().filter(|row| SIZES[row.size] == 1000);
    let response = |p: usize| mean(large().map(|row| row.off[p].mean_response / row.bounds.1));
    let note = format!("mbct-ga {:.3}, memory-first {:.3}", response(1), response(2));
    rows.push(row("mean response / bound, 1000 tasks", response(0), "ratio", Some(1.06), note));
    for cv in [0.15, 0.5] {
        let sets = table::rows(&Experiment { cv, ..Experiment::default() }, &policies);
        let mut worse = Vec::new();
        for row in &sets {
            for other in &row.off[1..] {
                let by = [other.makespan / row.off[0].makespan, other.mean_response / row.off[0].mean_response];
                worse.extend(by.into_iter().filter(|by| *by < 1.0));
            }
        }
        let most = worse.iter().map(|by| 100.0 * (1.0 - by)).fold(0.0, f64::max);
        let note = format!("of {}: sets, objectives, mbct-ga and memory-first; by {most:.2} % at most", 4 * sets.len());
        rows.push(row(format!("another policy is better, cv {cv}"), worse.len() as f64, "cases", Some(0.0), note));
    }
    rows
}

/// The fastest of a few, seconds.
fn timed<T>(times: u32, mut f: impl FnMut() -> T) -> (T, f64) {
    let began = Instant::now();
    let mut last = f();
    let mut best = began.elapsed().as_secs_f64();
    for _ in 1..times {
        let began = Instant::now();
        last = f();
        best = best.min(began.elapsed().as_secs_f64());
    }
    (last, best)
}

/// How much faster than the genetic algorithm the default policy plans.
fn planning(args: &Bench) -> Vec<Row> {
    let cluster = thesis_cluster();
    let of = |(n, cv): (usize, f64)| {
        let tasks = thesis_tasks(n, cv, &mut Rng::new(7));
        let by = |times, policy| timed(times, || plan(&cluster, &tasks, policy, Objective::Makespan, 1)).1;
        let (ga, list) = (by(args.runs, Policy::MbctGa), by(10 * args.runs, Policy::List));
        let note = format!("{:.2} ms against {:.1}", list * 1e3, ga * 1e3);
        let name = format!("planning, times mbct-ga, {n} tasks, cv {cv}");
        Row { at_least: true, ..row(name, ga / list, "times", Some(100.0), note) }
    };
    [(100, 0.15), (1000, 0.0), (1000, 0.15)].into_iter().map(of).collect()
}

/// Many tasks on many nodes of 16 speeds.
fn scale(args: &Bench) -> Vec<Row> {
    let cluster = speed_classes(10_000, 16);
    let mut rows = Vec::new();
    for (n, name, most, over) in [(100_000, "100 000", 50.0, 1.20), (1_000_000, "1 000 000", 1000.0, 1.08)] {
        let mut worst = (0.0, 0.0);
        let mut notes = (Vec::new(), Vec::new());
        // The mix has tasks so long that at 100,000 nothing else counts; a set of even lengths has not.
        for (even, set) in [(false, "the mix"), (true, "10 to 40 s")] {
            let mut rng = Rng::new(9);
            let mut tasks = thesis_tasks(n, 0.3, &mut rng);
            let mut actual = outcomes(&tasks, &mut rng);
            if even {
                actual.iter_mut().for_each(|s| *s = 10.0 + 30.0 * rng.unit());
            }
            tasks.iter_mut().zip(&actual).for_each(|(t, &s)| t.work.seconds = s);
            let bound = bounds::makespan(&cluster, &tasks, &actual);
            let (made, took) = timed(args.runs.min(5), || plan(&cluster, &tasks, Policy::List, Objective::Makespan, 1));
            let ratio = made.value(Objective::Makespan) / bound;
            worst = (f64::max(worst.0, took * 1e3), f64::max(worst.1, ratio));
            notes.0.push(format!("{set} {:.0}", took * 1e3));
            notes.1.push(format!("{set} {ratio:.3}"));
            if n == 100_000 && !even {
                let (_, took) = timed(1, || std::hint::black_box(naive(&cluster, &tasks)));
                notes.0.push(format!("a scan of all nodes for each task {:.0}", took * 1e3));
            }
        }
        rows.push(row(format!("{name} tasks, 10 000 nodes"), worst.0, "ms", Some(most), notes.0.join(", ")));
        rows.push(row("the same, makespan / LP bound", worst.1, "ratio", Some(over), notes.1.join(", ")));
    }
    // Every task is a shape of its own.
    let mut rng = Rng::new(13);
    let mut tasks = thesis_tasks(100_000, 0.0, &mut rng);
    for task in &mut tasks {
        (task.cores, task.memory) = (10 + rng.below(200) as u32, rng.below(4_000_000_000) as u64);
    }
    let seconds: Vec<f64> = tasks.iter().map(TaskSpec::seconds).collect();
    let (made, took) = timed(1, || plan(&cluster, &tasks, Policy::List, Objective::Makespan, 1));
    let ratio = made.value(Objective::Makespan) / bounds::makespan(&cluster, &tasks, &seconds);
    let note = format!("makespan / LP bound {ratio:.3}");
    rows.push(row("100 000 tasks, no two ask for the same", took * 1e3, "ms", None, note));
    rows
}

/// Longest first, each where it would end soonest if nodes were one fast core each, found by looking at every node.
fn naive(cluster: &Cluster, tasks: &[TaskSpec]) -> f64 {
    let mut order: Vec<f64> = tasks.iter().map(TaskSpec::area).collect();
    order.sort_by(|a, b| b.total_cmp(a));
    let pace: Vec<f64> = cluster.nodes.iter().map(|n| 100.0 / (n.speed() * f64::from(n.usable_cores()))).collect();
    let mut done = vec![0.0; pace.len()];
    for area in order {
        let (mut soonest, mut best) = (f64::MAX, 0);
        for (n, (done, pace)) in done.iter().zip(&pace).enumerate() {
            let end = done + area * pace;
            if end < soonest {
                (soonest, best) = (end, n);
            }
        }
        done[best] = soonest;
    }
    done.into_iter().fold(0.0, f64::max)
}

/// What one event costs with what it has the engine start, at 10,000 nodes with 100,000 tasks that wait or run.
fn events(_: &Bench) -> Vec<Row> {
    let cluster = speed_classes(10_000, 16);
    let mut rng = Rng::new(11);
    let mut tasks = thesis_tasks(120_000, 0.3, &mut rng);
    tasks.iter_mut().for_each(|t| t.work.seconds *= rng.lognormal(0.3));
    let mut engine = Engine::new(engine::Settings::default());
    cluster.nodes.iter().for_each(|n| engine.handle_joined(0, n.clone()));
    let (first, later) = tasks.split_at(100_000);
    let owner = |t: &TaskSpec| ["a", "b", "c", "d"][t.id.0 as usize % 4];
    let mut running = Vec::new();
    first.iter().for_each(|t| _ = engine.handle_arrived(0, owner(t), t.clone()));
    drain(&mut engine, &mut running);
    let mut rows = Vec::new();
    let mut report = |name: &str, event: &mut dyn FnMut(&mut Engine, &mut Vec<TaskId>)| {
        let (mut took, mut clock): (Vec<f64>, Vec<f64>) = (0..2_000)
            .map(|_| {
                let (began, ran) = (Instant::now(), processor_time());
                event(&mut engine, &mut running);
                drain(&mut engine, &mut running);
                ((processor_time() - ran) * 1e6, began.elapsed().as_secs_f64() * 1e6)
            })
            .unzip();
        took.sort_by(f64::total_cmp);
        clock.sort_by(f64::total_cmp);
        let (at, most) = ([1_000, 1_980], 1_999);
        let note = format!(
            "the slowest of 2000, of its own processor time; median {:.1}, 99 % {:.1}; by the clock, beside other work, {:.1} at most",
            took[at[0]], took[at[1]], clock[most]
        );
        rows.push(row(format!("event at that size: {name}"), took[most], "us", Some(100.0), note));
    };
    let mut next = later.iter().cloned();
    report("one more task", &mut |e, _| {
        next.next().into_iter().for_each(|t| _ = e.handle_arrived(0, owner(&t), t));
    });
    let mut pick = Rng::new(3);
    report("one ended", &mut |e, r| e.handle_ended(0, r.swap_remove(pick.below(r.len()))));
    let mut ids = (0..).step_by(7);
    report("one cancelled", &mut |e, _| ids.next().into_iter().for_each(|id| e.handle_cancelled(0, TaskId(id))));
    report("a look for moves that pay", &mut |e, _| _ = std::hint::black_box(e.chances(8)));
    let mut nodes = (0..).step_by(3);
    report("one lost node", &mut |e, _| nodes.next().into_iter().for_each(|id| e.handle_lost(0, NodeId(id))));
    let mut nodes = cluster.nodes.iter().step_by(3).cloned();
    report("one node back", &mut |e, _| nodes.next().into_iter().for_each(|node| e.handle_joined(0, node)));
    rows
}

/// What it is worth to move tasks that run to faster nodes that are free: sets of 20 tasks to a core, estimates that are off.
fn moves() -> Vec<Row> {
    let moves = Moves { dirty: DIRTY, weighing: migrate::Settings::default() };
    let of = |cv: f64| {
        let (mut stayed, mut went, mut count) = (Vec::new(), Vec::new(), 0);
        for seed in 0..SETS {
            let cluster = speed_classes(16, 4);
            let mut rng = Rng::new(seed);
            let tasks = thesis_tasks(1280, cv, &mut rng);
            let actual = outcomes(&tasks, &mut rng);
            let bound = bounds::makespan(&cluster, &tasks, &actual);
            let mut by = |moves| {
                let (plan, moved) = drive_with(&cluster, &tasks, &actual, engine::Settings::default(), moves);
                count += moved;
                plan.value(Objective::Makespan) / bound
            };
            stayed.push(by(None));
            went.push(by(Some(moves)));
        }
        let (stayed, went) = (mean(stayed.into_iter()), mean(went.into_iter()));
        let each = count as f64 / SETS as f64;
        let note = format!(
            "{went:.3} of the LP bound against {stayed:.3} without; {each:.0} moves in a set of 1280 on 16 nodes of 4 speeds"
        );
        row(format!("makespan with moves / without, cv {cv}"), went / stayed, "ratio", None, note)
    };
    [0.15, 0.5, 1.0].into_iter().map(of).collect()
}

/// Sets that are looked at.
const SETS: u64 = 20;
/// Bytes per second that a task writes anew, as far as moves are concerned.
const DIRTY: f64 = 10e6;

/// All that is to be done now.
fn drain(engine: &mut Engine, running: &mut Vec<TaskId>) {
    while let Some(action) = engine.poll(0) {
        if let Action::Start { task, .. } = action {
            running.push(task);
        }
    }
}
