//! Prints what the scheduler achieves: Table 5-3 of the thesis for every policy, distance to the lower bounds, and how long
//! planning takes. `cargo run --release -p wayfare-sched --example figures`

use std::time::Instant;
use wayfare_sched::rng::Rng;
use wayfare_sched::simulate::{acceleration, drive, outcomes, run, speed_classes, thesis_cluster, thesis_tasks};
use wayfare_sched::{Action, Cluster, Engine, NodeId, Objective, Policy, TaskId, TaskSpec, bounds, engine, plan};

fn main() {
    for cv in [0.15, 0.5] {
        table(cv);
    }
    scale();
    shapes();
    events();
}

fn value(cluster: &Cluster, tasks: &[TaskSpec], actual: &[f64], policy: Policy, objective: Objective) -> f64 {
    run(cluster, tasks, actual, policy, objective, 1).value(objective)
}

fn table(cv: f64) {
    let cluster = thesis_cluster();
    println!("cv {cv}: A (5-9) in %, makespan / bound, mean response / bound; nine sets as in Table 5-3");
    let mut worse = 0;
    let mut sums = vec![(0.0, [0.0; 3], [0.0; 3]); Policy::ALL.len()];
    for (size, n) in [100, 500, 1000].into_iter().enumerate() {
        for set in 0..3 {
            let mut rng = Rng::new(100 * n as u64 + set);
            let tasks = thesis_tasks(n, cv, &mut rng);
            let actual = outcomes(&tasks, &mut rng);
            let local = run(&cluster, &tasks, &actual, Policy::Local, Objective::Makespan, 1);
            let least = bounds::makespan(&cluster, &tasks, &actual);
            let mean = bounds::mean_response(&cluster, &tasks, &actual);
            let mut list = (0.0, 0.0);
            for (i, (policy, _)) in Policy::ALL.into_iter().enumerate() {
                let off = run(&cluster, &tasks, &actual, policy, Objective::Makespan, 1);
                let quick = value(&cluster, &tasks, &actual, policy, Objective::MeanResponse);
                sums[i].0 += 100.0 * acceleration(&local, &off) / 9.0;
                let makespan = off.value(Objective::Makespan);
                sums[i].1[size] += makespan / least / 3.0;
                sums[i].2[size] += quick / mean / 3.0;
                if policy == Policy::List {
                    list = (makespan, quick);
                } else if matches!(policy, Policy::MemoryFirst | Policy::MbctGa) {
                    worse += usize::from(makespan < list.0) + usize::from(quick < list.1);
                }
            }
        }
    }
    println!(
        "{:16} {:>6}   {:>6} {:>6} {:>6}   {:>6} {:>6} {:>6}",
        "", "A", "100", "500", "1000", "100", "500", "1000"
    );
    for ((_, name), (a, m, r)) in Policy::ALL.into_iter().zip(sums) {
        println!("{name:16} {a:6.2}   {:6.3} {:6.3} {:6.3}   {:6.3} {:6.3} {:6.3}", m[0], m[1], m[2], r[0], r[1], r[2]);
    }
    println!("sets and objectives where memory-first or mbct-ga beats list: {worse} of 36\n");
}

/// The fastest of a few.
fn timed<T>(times: u32, mut f: impl FnMut() -> T) -> (T, f64) {
    let mut best = f64::MAX;
    let mut last = None;
    for _ in 0..times {
        let start = Instant::now();
        last = Some(f());
        best = best.min(start.elapsed().as_secs_f64());
    }
    (last.unwrap(), best)
}

fn scale() {
    let cluster = thesis_cluster();
    for (n, cv) in [(100, 0.0), (100, 0.15), (500, 0.15), (1000, 0.0), (1000, 0.15)] {
        let tasks = thesis_tasks(n, cv, &mut Rng::new(7));
        let (_, ga) = timed(1, || plan(&cluster, &tasks, Policy::MbctGa, Objective::Makespan, 1));
        let (_, list) = timed(9, || plan(&cluster, &tasks, Policy::List, Objective::Makespan, 1));
        let (ga, list, times) = (ga * 1e3, list * 1e3, ga / list);
        println!("planning {n} tasks, cv {cv}: mbct-ga {ga:.1} ms, list {list:.2} ms, {times:.0} times faster");
    }
    let cluster = speed_classes(10_000, 16);
    for n in [100_000, 1_000_000] {
        // The mix has tasks so long that nothing else counts at 100,000; a set of even lengths has not.
        for even in [false, true] {
            let mut rng = Rng::new(9);
            let mut tasks = thesis_tasks(n, 0.3, &mut rng);
            let mut actual = outcomes(&tasks, &mut rng);
            if even {
                actual.iter_mut().for_each(|s| *s = 10.0 + 30.0 * rng.unit());
            }
            tasks.iter_mut().zip(&actual).for_each(|(t, &s)| t.work.seconds = s);
            for objective in [Objective::Makespan, Objective::MeanResponse] {
                let (p, s) = timed(3, || plan(&cluster, &tasks, Policy::List, objective, 1));
                let bound = match objective {
                    Objective::Makespan => bounds::makespan(&cluster, &tasks, &actual),
                    Objective::MeanResponse => bounds::mean_response(&cluster, &tasks, &actual),
                };
                let (set, ratio) = (if even { "10 to 40 s" } else { "the mix" }, p.value(objective) / bound);
                println!("{n} tasks ({set}), 10000 nodes, {objective:?}: {:.1} ms, {ratio:.3} of the bound", s * 1e3);
            }
            if n == 100_000 {
                let (p, s) = timed(1, || drive(&cluster, &tasks, &actual, engine::Settings::default()));
                let ratio = p.value(Objective::Makespan) / bounds::makespan(&cluster, &tasks, &actual);
                println!("  the engine, event by event: {:.0} ms, {ratio:.3} of the bound", s * 1e3);
            }
        }
    }
}

/// Demands that are all different: every task is a shape of its own.
fn shapes() {
    let cluster = speed_classes(10_000, 16);
    let mut rng = Rng::new(13);
    let mut tasks = thesis_tasks(100_000, 0.0, &mut rng);
    for task in &mut tasks {
        (task.cores, task.memory) = (10 + rng.below(200) as u32, rng.below(4_000_000_000) as u64);
    }
    let seconds: Vec<f64> = tasks.iter().map(TaskSpec::seconds).collect();
    let (p, s) = timed(1, || plan(&cluster, &tasks, Policy::List, Objective::Makespan, 1));
    let ratio = p.value(Objective::Makespan) / bounds::makespan(&cluster, &tasks, &seconds);
    println!("100000 tasks, no two of which ask for the same: {:.0} ms, {ratio:.3} of the bound", s * 1e3);
}

/// What one event costs, with what it has the engine start, at 10,000 nodes with 100,000 tasks that wait or run.
fn events() {
    let cluster = speed_classes(10_000, 16);
    let mut rng = Rng::new(11);
    let mut tasks = thesis_tasks(120_000, 0.3, &mut rng);
    tasks.iter_mut().for_each(|t| t.work.seconds *= rng.lognormal(0.3));
    let mut engine = Engine::new(engine::Settings::default());
    cluster.nodes.iter().for_each(|n| engine.handle_joined(0, n.clone()));
    let (first, later) = tasks.split_at(100_000);
    let owner = |t: &TaskSpec| ["a", "b", "c", "d"][t.id.0 as usize % 4];
    let mut running = Vec::new();
    first.iter().for_each(|t| engine.handle_arrived(0, owner(t), t.clone()).unwrap());
    drain(&mut engine, &mut running);
    println!("events at 10000 nodes, {:?} tasks that wait and run: median, 99 %, most, in us", engine.counts());
    let mut report = |name, event: &mut dyn FnMut(&mut Engine, &mut Vec<TaskId>)| {
        let mut took: Vec<f64> = (0..2_000)
            .map(|_| {
                let start = Instant::now();
                event(&mut engine, &mut running);
                drain(&mut engine, &mut running);
                start.elapsed().as_secs_f64() * 1e6
            })
            .collect();
        took.sort_by(f64::total_cmp);
        println!("  {name:10} {:7.1} {:7.1} {:7.1}", took[1_000], took[1_980], took[1_999]);
    };
    let mut next = later.iter().cloned();
    report("arrived", &mut |e, _| {
        next.next().into_iter().for_each(|t| e.handle_arrived(0, owner(&t), t).unwrap());
    });
    let mut pick = Rng::new(3);
    report("ended", &mut |e, r| e.handle_ended(0, r.swap_remove(pick.below(r.len()))));
    let mut ids = (0..).step_by(7);
    report("cancelled", &mut |e, _| e.handle_cancelled(0, TaskId(ids.next().unwrap())));
    let mut nodes = (0..).step_by(3);
    report("lost", &mut |e, _| e.handle_lost(0, NodeId(nodes.next().unwrap())));
    let mut nodes = cluster.nodes.iter().step_by(3).cloned();
    report("joined", &mut |e, _| e.handle_joined(0, nodes.next().unwrap()));
    let mut nodes = (0..).step_by(3);
    report("cordoned", &mut |e, _| e.handle_cordoned(0, NodeId(nodes.next().unwrap()), true));
}

/// All that is to be done now.
fn drain(engine: &mut Engine, running: &mut Vec<TaskId>) {
    while let Some(action) = engine.poll(0) {
        if let Action::Start { task, .. } = action {
            running.push(task);
        }
    }
}
