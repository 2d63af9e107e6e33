//! What holds for every plan of every policy, and optima that are known.

use proptest::prelude::*;
use wayfare_sched::rng::Rng;
use wayfare_sched::simulate::Moves;
use wayfare_sched::units::{SECOND, nanos, seconds};
use wayfare_sched::{
    Busy, Cluster, Estimate, ImageId, Node, Objective, Placement, Plan, Policy, TaskSpec, bounds, engine, migrate,
    plan, simulate, tune,
};

const OBJECTIVES: [Objective; 2] = [Objective::Makespan, Objective::MeanResponse];

fn node() -> impl Strategy<Value = Node> {
    let offer = (1u32..9, 1u64..17, any::<bool>(), prop::sample::subsequence(vec!["ssd", "eu"], 0..3));
    let speed = prop_oneof![Just(1.0), Just(1.0), Just(2.0), 0.25..4.0f64];
    let rest = (speed, prop::bool::weighted(0.1), 0u32..100, prop::sample::subsequence(vec![1u64, 2], 0..2));
    (offer, rest).prop_map(|((cores, gb, gpu, labels), (speed, cordoned, reserved_cores, images))| Node {
        gpu,
        labels: labels.into_iter().map(String::from).collect(),
        speed,
        cordoned,
        reserved_cores,
        images: images.into_iter().map(ImageId).collect(),
        ..Node::new(0, cores, gb)
    })
}

fn cluster() -> impl Strategy<Value = Cluster> {
    prop::collection::vec(node(), 1..6).prop_map(|mut nodes| {
        for (i, node) in nodes.iter_mut().enumerate() {
            node.id.0 = i as u32 * 3;
            node.is_initiator = i == 0;
        }
        Cluster { nodes }
    })
}

/// One on whose nodes something runs already.
fn busy_cluster() -> impl Strategy<Value = Cluster> {
    let ends = prop::collection::vec(prop::collection::vec(1u64..60, 0..4), 6);
    (cluster(), ends).prop_map(|(mut cluster, ends)| {
        for (node, ends) in cluster.nodes.iter_mut().zip(ends) {
            let (cores, memory) = (node.usable_cores() / 3, node.usable_memory() / 3);
            node.busy = ends.into_iter().map(|s| Busy { end: s * SECOND, cores, memory }).collect();
        }
        cluster
    })
}

fn tasks(most: usize) -> impl Strategy<Value = Vec<TaskSpec>> {
    let demand = (prop_oneof![Just(50u32), Just(100), 1u32..500], 0u64..6_000_000_000, prop::bool::weighted(0.1));
    let wish = (prop::option::weighted(0.1, prop_oneof![Just("ssd"), Just("eu")]), prop::bool::weighted(0.1));
    let rest = (0u64..3, prop_oneof![Just(0u64), 0u64..1_000_000_000], 0i32..2, 0.01..100.0f64, 0.0..0.6f64);
    let task = (demand, wish, rest).prop_map(
        |((cores, memory, gpu), (label, local_only), (image, transfer, priority, s, cv))| TaskSpec {
            cores,
            memory,
            gpu,
            labels: label.into_iter().map(String::from).collect(),
            local_only,
            image: ImageId(image),
            transfer,
            priority,
            work: Estimate { seconds: s, cv },
            ..TaskSpec::new(0, s)
        },
    );
    prop::collection::vec(task, 0..most).prop_map(|mut tasks| {
        tasks.iter_mut().enumerate().for_each(|(i, t)| t.id.0 = 7 * i as u64);
        tasks
    })
}

/// Every task once, or refused for a reason; where it may be; never more than there is, at any time.
fn holds(cluster: &Cluster, tasks: &[TaskSpec], actual: &[f64], plan: &Plan, local: bool) -> Result<(), TestCaseError> {
    let mut seen = vec![0; tasks.len()];
    let mut changes: Vec<Vec<(u64, i64, i64)>> = vec![Vec::new(); cluster.nodes.len()];
    for p in &plan.placements {
        let (task, node) = (&tasks[p.index as usize], &cluster.nodes[p.at as usize]);
        prop_assert_eq!((task.id, node.id), (p.task, p.node));
        prop_assert_eq!(node.refuses(task), None);
        prop_assert!(p.end >= p.start + node.run(actual[p.index as usize]), "ends before it can have run: {:?}", p);
        prop_assert!(!p.reason.to_string().is_empty() && !p.reason.to_string().contains('\n'));
        seen[p.index as usize] += 1;
        let (cores, memory) = (i64::from(task.cores), task.memory as i64);
        changes[p.at as usize].extend([(p.start, cores, memory), (p.end, -cores, -memory)]);
    }
    for (node, changes) in cluster.nodes.iter().zip(&mut changes) {
        for busy in &node.busy {
            let (cores, memory) = (i64::from(busy.cores), busy.memory as i64);
            changes.extend([(0, cores, memory), (busy.end, -cores, -memory)]);
        }
    }
    for (id, why) in &plan.refused {
        let i = tasks.iter().position(|t| t.id == *id).unwrap();
        seen[i] += 1;
        prop_assert!(local || cluster.refuses(&tasks[i]).as_ref() == Some(why), "{why}");
    }
    prop_assert!(seen.iter().all(|&n| n == 1), "{seen:?}");
    for (node, changes) in cluster.nodes.iter().zip(&mut changes) {
        // What ends makes room for what starts at that moment.
        changes.sort();
        let (mut cores, mut memory) = (0, 0);
        for &(at, c, m) in changes.iter() {
            (cores, memory) = (cores + c, memory + m);
            let (most, all) = (i64::from(node.usable_cores()), node.usable_memory() as i64);
            prop_assert!(cores <= most && memory <= all, "{cores} of {most} cores, {memory} of {all} bytes at {at}");
        }
    }
    Ok(())
}

fn exact(tasks: &[TaskSpec]) -> Vec<f64> {
    tasks.iter().map(TaskSpec::seconds).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_keeps_to_what_there_is(cluster in cluster(), tasks in tasks(40), seed in any::<u64>()) {
        for (policy, _) in Policy::ALL {
            for objective in OBJECTIVES {
                let plan = plan(&cluster, &tasks, policy, objective, seed);
                holds(&cluster, &tasks, &exact(&tasks), &plan, policy == Policy::Local)?;
            }
        }
    }

    #[test]
    fn so_does_one_of_many_different_demands(cluster in cluster(), tasks in tasks(200), seed in any::<u64>()) {
        let actual = simulate::outcomes(&tasks, &mut Rng::new(seed));
        for objective in OBJECTIVES {
            holds(&cluster, &tasks, &exact(&tasks), &plan(&cluster, &tasks, Policy::List, objective, seed), false)?;
            let real = simulate::run(&cluster, &tasks, &actual, Policy::List, objective, seed);
            holds(&cluster, &tasks, &actual, &real, false)?;
        }
    }

    #[test]
    fn so_does_what_comes_of_it(cluster in cluster(), tasks in tasks(40), seed in any::<u64>()) {
        let actual = simulate::outcomes(&tasks, &mut Rng::new(seed));
        for (policy, _) in Policy::ALL {
            for objective in OBJECTIVES {
                let plan = simulate::run(&cluster, &tasks, &actual, policy, objective, seed);
                holds(&cluster, &tasks, &actual, &plan, policy == Policy::Local)?;
            }
        }
        for objective in OBJECTIVES {
            let settings = engine::Settings { objective, patience: 30 * SECOND, ..engine::Settings::default() };
            let plan = simulate::drive(&cluster, &tasks, &actual, settings);
            holds(&cluster, &tasks, &actual, &plan, false)?;
        }
    }

    #[test]
    fn so_does_one_beside_what_runs_already(cluster in busy_cluster(), mut tasks in tasks(40), seed in any::<u64>()) {
        for (policy, _) in Policy::ALL {
            for objective in OBJECTIVES {
                let plan = plan(&cluster, &tasks, policy, objective, seed);
                holds(&cluster, &tasks, &exact(&tasks), &plan, policy == Policy::Local)?;
            }
        }
        tasks.retain(|t| cluster.refuses(t).is_none());
        let least = bounds::makespan(&cluster, &tasks, &exact(&tasks));
        for (policy, _) in Policy::ALL.into_iter().filter(|p| p.0 != Policy::Local) {
            let plan = plan(&cluster, &tasks, policy, Objective::Makespan, seed);
            prop_assert!(plan.value(Objective::Makespan) >= least - 1e-6, "{policy}: {least}");
        }
    }

    #[test]
    fn nothing_beats_a_bound(cluster in cluster(), mut tasks in tasks(40), seed in any::<u64>()) {
        tasks.retain(|t| cluster.refuses(t).is_none());
        let actual = simulate::outcomes(&tasks, &mut Rng::new(seed));
        let least = (bounds::makespan(&cluster, &tasks, &actual), bounds::mean_response(&cluster, &tasks, &actual));
        for (policy, _) in Policy::ALL.into_iter().filter(|p| p.0 != Policy::Local) {
            for objective in OBJECTIVES {
                let plan = simulate::run(&cluster, &tasks, &actual, policy, objective, seed);
                let (makespan, mean) = (plan.value(Objective::Makespan), plan.value(Objective::MeanResponse));
                prop_assert!(makespan >= least.0 - 1e-6 && mean >= least.1 - 1e-6, "{policy}: {makespan} {mean} {least:?}");
            }
        }
    }

    #[test]
    fn with_exact_estimates_the_list_is_never_worse_than_memory_first(cluster in cluster(), mut tasks in tasks(40)) {
        // A priority comes before the objective.
        tasks.iter_mut().for_each(|t| t.priority = 0);
        for objective in OBJECTIVES {
            let list = plan(&cluster, &tasks, Policy::List, objective, 1).value(objective);
            let memory = plan(&cluster, &tasks, Policy::MemoryFirst, objective, 1).value(objective);
            prop_assert!(list <= memory, "{objective:?}: {list} > {memory}");
        }
    }

    #[test]
    fn search_is_never_worse_than_what_it_starts_from(cluster in cluster(), tasks in tasks(40), seed in any::<u64>()) {
        let start = plan(&cluster, &tasks, Policy::EarliestFinish, Objective::Makespan, 1).makespan();
        prop_assert!(plan(&cluster, &tasks, Policy::LocalSearch, Objective::Makespan, seed).makespan() <= start);
    }

    #[test]
    fn the_same_seed_makes_the_same_plan(cluster in cluster(), tasks in tasks(30), seed in any::<u64>()) {
        for (policy, _) in Policy::ALL {
            let make = || plan(&cluster, &tasks, policy, Objective::Makespan, seed);
            prop_assert_eq!(make(), make());
        }
    }

    #[test]
    fn a_more_urgent_task_never_starts_after_one_that_asks_for_the_same(mut tasks in tasks(30)) {
        tasks.iter_mut().for_each(|t| *t = TaskSpec { priority: t.priority, work: t.work, ..TaskSpec::new(t.id.0, 1.0) });
        let cluster = Cluster { nodes: vec![Node::new(0, 3, 16)] };
        for (policy, _) in Policy::ALL.into_iter().filter(|p| p.0 != Policy::Local) {
            let plan = plan(&cluster, &tasks, policy, Objective::Makespan, 1);
            let starts = |priority| {
                let of = |p: &&Placement| tasks[p.index as usize].priority == priority;
                plan.placements.iter().filter(of).map(|p| p.start).collect::<Vec<_>>()
            };
            prop_assert!(starts(1).iter().max() <= starts(0).iter().min().or(Some(&u64::MAX)), "{policy}");
        }
    }

    #[test]
    fn small_sets_are_within_grahams_bound_of_the_optimum(
        work in prop::collection::vec(1u32..100, 1..8),
        speeds in prop::collection::vec(1u32..4, 2..4),
    ) {
        let (cluster, tasks) = machines(&speeds, &work);
        let optimum = brute_force(&speeds, &work);
        let same = speeds.windows(2).all(|w| w[0] == w[1]);
        let m = speeds.len() as f64;
        // Graham 1969 for equal machines; Friesen 1987 for longest first on uniform ones.
        let ratio = if same { 4.0 / 3.0 - 1.0 / (3.0 * m) } else { 5.0 / 3.0 };
        for policy in [Policy::List, Policy::EarliestFinish, Policy::LocalSearch] {
            let got = plan(&cluster, &tasks, policy, Objective::Makespan, 1).value(Objective::Makespan);
            prop_assert!(got >= optimum.0 - 1e-6 && got <= optimum.0 * ratio + 1e-6, "{policy}: {got}, optimum {}", optimum.0);
        }
        let mean = plan(&cluster, &tasks, Policy::List, Objective::MeanResponse, 1).mean_response();
        prop_assert!(mean >= optimum.1 - 1e-6 && (!same || mean <= optimum.1 + 1e-6), "{mean}, optimum {}", optimum.1);
    }
}

/// One-core machines and one-core tasks.
fn machines(speeds: &[u32], work: &[u32]) -> (Cluster, Vec<TaskSpec>) {
    let node = |(i, &speed): (usize, &u32)| Node { speed: f64::from(speed), ..Node::new(i as u32, 1, 8) };
    let tasks = work.iter().enumerate().map(|(i, &w)| TaskSpec::new(i as u64, f64::from(w))).collect();
    (Cluster { nodes: speeds.iter().enumerate().map(node).collect() }, tasks)
}

/// The least makespan and the least mean response, by trying all assignments; on each machine the shortest first.
fn brute_force(speeds: &[u32], work: &[u32]) -> (f64, f64) {
    let mut work = work.to_vec();
    work.sort_unstable();
    let mut best = (f64::MAX, f64::MAX);
    for code in 0..speeds.len().pow(work.len() as u32) {
        let mut ends = vec![0.0; speeds.len()];
        let (mut code, mut sum) = (code, 0.0);
        for &w in &work {
            let at = code % speeds.len();
            code /= speeds.len();
            ends[at] += f64::from(w) / f64::from(speeds[at]);
            sum += ends[at];
        }
        best = (best.0.min(ends.into_iter().fold(0.0, f64::max)), best.1.min(sum / work.len() as f64));
    }
    best
}

#[test]
fn known_optima_are_found() {
    let check = |speeds: &[u32], work: &[u32], optimum: f64| {
        assert!((brute_force(speeds, work).0 - optimum).abs() < 1e-9);
        let (cluster, tasks) = machines(speeds, work);
        let list = plan(&cluster, &tasks, Policy::List, Objective::Makespan, 1).value(Objective::Makespan);
        let search = plan(&cluster, &tasks, Policy::LocalSearch, Objective::Makespan, 1).value(Objective::Makespan);
        assert!((list.min(search) - optimum).abs() < 1e-6, "{speeds:?} {work:?}: {list} {search}, not {optimum}");
    };
    check(&[1, 1], &[4, 3, 3], 6.0);
    check(&[1, 1], &[5, 4, 3, 3, 3], 9.0);
    check(&[1, 1, 1], &[5, 5, 4, 4, 3, 3], 8.0);
    check(&[1, 2], &[6, 6, 3], 6.0);
    check(&[1, 3], &[9, 3], 3.0);
    check(&[1, 1], &[7], 7.0);
}

#[test]
fn memory_first_is_as_the_thesis_says() {
    let cluster = simulate::thesis_cluster();
    let big = |id| TaskSpec { memory: 7_000_000_000, cores: 50, ..TaskSpec::new(id, 10.0) };
    let tasks: Vec<_> = (0..7).map(big).collect();
    let plan = plan(&cluster, &tasks, Policy::MemoryFirst, Objective::Makespan, 1);
    // Local while it fits; then most free memory: 16, 16, then of 9, 9 and 8 the first 9; then everybody waits.
    let at: Vec<u32> = plan.placements.iter().map(|p| p.at).collect();
    assert_eq!(at, [0, 1, 2, 1, 2, 3, 0]);
    assert_eq!(plan.placements[6].start, 10 * SECOND);
    assert_eq!(plan.placements[0].reason.to_string(), "the initiating node has room");
    assert!(plan.placements[1].reason.to_string().ends_with("most memory was free: 16.0 GB"));
}

#[test]
fn a_far_image_makes_a_near_node_better() {
    let mut cluster = Cluster { nodes: vec![Node::new(0, 1, 8), Node { speed: 2.0, ..Node::new(1, 1, 8) }] };
    cluster.nodes[0].images = vec![ImageId(5)];
    let task = |seconds| [TaskSpec { image: ImageId(5), transfer: 1_875_000_000, ..TaskSpec::new(1, seconds) }];
    let at = |seconds| plan(&cluster, &task(seconds), Policy::EarliestFinish, Objective::Makespan, 1).placements[0];
    // 1500 Mbit/s: ten seconds for the image. 12 s here against 10 + 6; 30 s here against 10 + 15.
    assert_eq!((at(12.0).at, at(30.0).at), (0, 1));
    assert_eq!(at(30.0).reason.to_string(), "ends here soonest, at 25.0 s, though its image needs 10.0 s");
    assert_eq!(seconds(at(30.0).end), 25.0);
}

#[test]
fn who_can_never_run_is_refused_at_once_and_told_why() {
    let mut cluster = simulate::thesis_cluster();
    cluster.nodes[0].reserved_cores = 50;
    let check = |task: TaskSpec, why: &str| {
        let plan = plan(&cluster, &[task, TaskSpec::new(9, 1.0)], Policy::List, Objective::Makespan, 1);
        assert_eq!(plan.refused[0].1.to_string(), format!("refused: {why}"));
        assert_eq!(plan.placements.len(), 1);
    };
    let task = TaskSpec::new(1, 1.0);
    check(TaskSpec { cores: 801, ..task.clone() }, "it asks for 8.01 cores, and the largest node has 8");
    check(
        TaskSpec { cores: 400, local_only: true, ..task.clone() },
        "it asks for 4 cores, and the largest node has 3.5",
    );
    check(TaskSpec { memory: 17_000_000_000, ..task.clone() }, "it asks for 17.0 GB, and the largest node has 16.0 GB");
    check(TaskSpec { gpu: true, ..task.clone() }, "no node that would do has a GPU");
    check(TaskSpec { labels: vec!["eu".into()], ..task.clone() }, "no node that would do has the label eu");
    cluster.nodes.iter_mut().for_each(|n| n.cordoned = true);
    assert_eq!(cluster.refuses(&task).unwrap().to_string(), "refused: every node is cordoned");
    assert_eq!(Cluster::default().refuses(&task).unwrap().to_string(), "refused: there is no node");
}

#[test]
fn missed_deadlines_are_counted() {
    let cluster = Cluster { nodes: vec![Node::new(0, 1, 8)] };
    let tasks: Vec<_> = (0..3).map(|i| TaskSpec { deadline: Some(nanos(15.0)), ..TaskSpec::new(i, 10.0) }).collect();
    assert_eq!(plan(&cluster, &tasks, Policy::List, Objective::Makespan, 1).late(&tasks), 2);
}

#[test]
fn the_engine_does_as_well_as_the_plan() {
    let cluster = simulate::thesis_cluster();
    for (n, worse) in [(100, 1.03), (500, 1.01)] {
        let mut rng = Rng::new(n as u64);
        let tasks = simulate::thesis_tasks(n, 0.15, &mut rng);
        let actual = simulate::outcomes(&tasks, &mut rng);
        for objective in OBJECTIVES {
            let list = simulate::run(&cluster, &tasks, &actual, Policy::List, objective, 1).value(objective);
            let wide = tune::width(&cluster, &tasks, 1);
            let settings = engine::Settings { objective, wide, ..engine::Settings::default() };
            let engine = simulate::drive(&cluster, &tasks, &actual, settings).value(objective);
            assert!(engine <= list * worse, "{n} {objective:?}: {engine}, planned {list}");
        }
    }
}

#[test]
fn absurd_numbers_make_a_plan_all_the_same() {
    let absurd = [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e300, 1e9, 1.0];
    let far = |id: u32, x: f64| {
        let mut node = Node { speed: x, ..Node::new(id, 2, 8) };
        (node.link.bandwidth, node.link.latency) = (x, u64::MAX);
        node
    };
    let cluster = Cluster { nodes: absurd.iter().enumerate().map(|(i, &x)| far(i as u32, x)).collect() };
    let odd = |id: usize| TaskSpec {
        cores: [0, 50, 100][id % 3],
        memory: [0, 1 << 32][id % 2],
        transfer: [0, u64::MAX][id / 7 % 2],
        work: Estimate { seconds: absurd[id % 7], cv: [0.0, f64::NAN][id / 28] },
        ..TaskSpec::new(id as u64, 1.0)
    };
    for most in [28, 56] {
        let tasks: Vec<_> = (0..most).map(odd).collect();
        for (policy, _) in Policy::ALL.into_iter().filter(|p| p.0 != Policy::Local) {
            for objective in OBJECTIVES {
                let plan = plan(&cluster, &tasks, policy, objective, 1);
                assert_eq!(plan.placements.len(), most, "{policy}");
                assert!(plan.value(objective).is_finite());
            }
        }
        assert_eq!(simulate::drive(&cluster, &tasks, &exact(&tasks), Default::default()).placements.len(), most);
    }
}

#[test]
fn policies_have_names() {
    for (policy, name) in Policy::ALL {
        assert_eq!((policy.to_string().as_str(), name.parse()), (name, Ok(policy)));
    }
    let error = "ga".parse::<Policy>().unwrap_err().to_string();
    assert_eq!(error, "a policy is one of list, local, memory-first, mbct-ga, earliest-finish, local-search");
}

#[test]
fn moving_what_runs_pays_where_nodes_differ_and_estimates_are_poor() {
    let moves = Some(Moves { dirty: 10e6, weighing: migrate::Settings::default() });
    let (mut with, mut without, mut moved) = (0.0, 0.0, 0);
    for seed in 0..20 {
        let cluster = simulate::speed_classes(16, 4);
        let mut rng = Rng::new(seed);
        let tasks = simulate::thesis_tasks(200, 0.5, &mut rng);
        let actual = simulate::outcomes(&tasks, &mut rng);
        let bound = bounds::makespan(&cluster, &tasks, &actual);
        let run = |moves| simulate::drive_with(&cluster, &tasks, &actual, Default::default(), moves);
        let ((stays, none), (goes, some)) = (run(None), run(moves));
        assert!(none == 0 && stays.placements.len() == 200 && goes.placements.len() == 200);
        let (stays, goes) = (stays.value(Objective::Makespan), goes.value(Objective::Makespan));
        assert!(goes >= bound * 0.999, "{goes} {bound}");
        (with, without, moved) = (with + goes / bound, without + stays / bound, moved + some);
    }
    assert!(moved > 20 && with < without * 0.99, "{moved} moves, {with} against {without}");
}
