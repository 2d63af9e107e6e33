//! Prints what the scheduler achieves: Table 5-3 of the thesis for every policy, distance to the lower bounds, and how long
//! planning takes. `cargo run --release -p wayfare-sched --example figures`

use std::time::Instant;
use wayfare_sched::rng::Rng;
use wayfare_sched::simulate::{acceleration, outcomes, run, speed_classes, thesis_cluster, thesis_tasks};
use wayfare_sched::{Cluster, Objective, Policy, TaskSpec, bounds, plan};

fn main() {
    for cv in [0.15, 0.5] {
        table(cv);
    }
    scale();
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
    let tasks = thesis_tasks(1000, 0.0, &mut Rng::new(7));
    let (_, ga) = timed(1, || plan(&cluster, &tasks, Policy::MbctGa, Objective::Makespan, 1));
    let (_, list) = timed(5, || plan(&cluster, &tasks, Policy::List, Objective::Makespan, 1));
    println!("1000 tasks: mbct-ga {:.1} ms, list {:.2} ms, {:.0} times faster", ga * 1e3, list * 1e3, ga / list);
    let cluster = speed_classes(10_000, 16);
    for n in [100_000, 1_000_000] {
        let mut rng = Rng::new(9);
        let mut tasks = thesis_tasks(n, 0.3, &mut rng);
        let actual = outcomes(&tasks, &mut rng);
        tasks.iter_mut().zip(&actual).for_each(|(t, &s)| t.work.seconds = s);
        let least = bounds::makespan(&cluster, &tasks, &actual);
        for objective in [Objective::Makespan, Objective::MeanResponse] {
            let (p, s) = timed(3, || plan(&cluster, &tasks, Policy::List, objective, 1));
            let bound = match objective {
                Objective::Makespan => least,
                Objective::MeanResponse => bounds::mean_response(&cluster, &tasks, &actual),
            };
            println!(
                "{n} tasks, 10000 nodes, 16 speeds, {objective:?}: {:.1} ms, {:.3} of the bound",
                s * 1e3,
                p.value(objective) / bound
            );
        }
    }
}
