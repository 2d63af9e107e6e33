//! The engine when things happen that no plan foresees.

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use wayfare_sched::engine::{Chance, Settings};
use wayfare_sched::units::SECOND;
use wayfare_sched::{
    Action, Engine, Estimate, ImageId, Link, Nanos, Node, NodeId, Objective, Reason, Refusal, TaskId, TaskSpec,
};

fn engine(nodes: &[Node]) -> Engine {
    let mut engine = Engine::new(Settings::default());
    nodes.iter().for_each(|n| engine.handle_joined(0, n.clone()));
    engine
}

/// All that is to be done at that time.
fn actions(engine: &mut Engine, now: Nanos) -> Vec<Action> {
    std::iter::from_fn(|| engine.poll(now)).collect()
}

/// Tasks that are started at that time.
fn started(engine: &mut Engine, now: Nanos) -> Vec<u64> {
    let id = |a| match a {
        Action::Start { task, .. } => Some(task.0),
        Action::Stop { .. } => None,
    };
    actions(engine, now).into_iter().filter_map(id).collect()
}

fn arrive(engine: &mut Engine, owner: &str, id: u64, seconds: f64) {
    engine.handle_arrived(0, owner, TaskSpec::new(id, seconds)).unwrap();
}

#[test]
fn cores_that_free_go_to_the_longest() {
    let mut e = engine(&[Node::new(0, 2, 8)]);
    for (id, seconds) in [(1, 10.0), (2, 30.0), (3, 20.0), (4, 40.0)] {
        arrive(&mut e, "", id, seconds);
    }
    assert_eq!(started(&mut e, 0), [4, 2]);
    assert_eq!((e.counts(), e.node_of(TaskId(4)), e.node_of(TaskId(1))), ((2, 2), Some(NodeId(0)), None));
    e.handle_ended(5 * SECOND, TaskId(2));
    assert_eq!(started(&mut e, 5 * SECOND), [3]);
    // Told twice, or of what never was.
    e.handle_ended(6 * SECOND, TaskId(2));
    e.handle_ended(6 * SECOND, TaskId(99));
    assert_eq!(started(&mut e, 6 * SECOND), []);
}

#[test]
fn for_the_mean_response_the_smallest_is_first() {
    let mut e = Engine::new(Settings { objective: Objective::MeanResponse, ..Settings::default() });
    e.handle_joined(0, Node::new(0, 1, 8));
    for (id, seconds) in [(1, 20.0), (2, 10.0), (3, 30.0)] {
        arrive(&mut e, "", id, seconds);
    }
    let first = actions(&mut e, 0);
    let reason = Reason::Smallest { waiting: 2 };
    assert_eq!(first, [Action::Start { task: TaskId(2), node: NodeId(0), end: 10 * SECOND, reason }]);
}

#[test]
fn sets_of_one_owner_may_be_for_different_ends() {
    let mut e = engine(&[Node::new(0, 1, 8)]);
    let objective = Some(Objective::MeanResponse);
    for (id, seconds, objective) in [(1, 5.0, None), (2, 50.0, None), (3, 20.0, objective), (4, 10.0, objective)] {
        e.handle_arrived(0, "", TaskSpec { objective, ..TaskSpec::new(id, seconds) }).unwrap();
    }
    let mut order = Vec::new();
    for round in 0..4 {
        let now = round * 100 * SECOND;
        let next = started(&mut e, now);
        assert_eq!(next.len(), 1);
        e.handle_ended(now + 50 * SECOND, TaskId(next[0]));
        order.extend(next);
    }
    // Those that wait for their own answers, smallest first; then those of which the last one counts, longest first.
    assert_eq!(order, [4, 3, 2, 1]);
}

#[test]
fn owners_share_by_weight_whoever_has_more_tasks_or_came_first() {
    let mut e = engine(&[Node::new(0, 4, 8)]);
    e.set_weight("lab", 3.0);
    let mut running = BTreeSet::new();
    (0..4000).for_each(|i| arrive(&mut e, "hog", i, 10.0));
    (4000..6000).for_each(|i| arrive(&mut e, "lab", i, 10.0));
    let mut lab = 0;
    for round in 0..200 {
        let now = round * 10 * SECOND;
        for task in std::mem::take(&mut running) {
            e.handle_ended(now, TaskId(task));
        }
        running.extend(started(&mut e, now));
        assert_eq!(running.len(), 4);
        lab += running.iter().filter(|t| **t >= 4000).count();
    }
    assert!((590..=610).contains(&lab), "{lab} of 800, not three quarters");
}

#[test]
fn twice_the_weight_is_twice_the_cores_in_the_long_run_from_when_it_is_said() {
    let mut e = engine(&[Node::new(0, 4, 64)]);
    // More of both than will run, of lengths that are not known exactly.
    for id in 0..4000 {
        arrive(&mut e, if id % 2 == 0 { "a" } else { "b" }, id, 5.0 + (id % 7) as f64);
    }
    let (mut ends, mut now) = (BTreeSet::new(), 0);
    let mut run_until = |e: &mut Engine, end: Nanos| {
        while now < end {
            for id in started(e, now) {
                let took = 4.0 + (id * 7919 % 9) as f64;
                ends.insert((now + (took * SECOND as f64) as Nanos, id));
            }
            let (at, id) = ends.pop_first().unwrap();
            now = at;
            e.handle_ended(now, TaskId(id));
        }
        (e.charged("a"), e.charged("b"))
    };
    let (a, b) = run_until(&mut e, 1000 * SECOND);
    assert!((0.95..1.05).contains(&(a / b)) && (3800.0..4200.0).contains(&(a + b)), "{a} {b}");
    e.set_weight("b", 2.0);
    let (more_a, more_b) = run_until(&mut e, 3000 * SECOND);
    let (a, b) = (more_a - a, more_b - b);
    assert!((1.9..2.1).contains(&(b / a)) && (7800.0..8200.0).contains(&(a + b)), "{a} {b}");
    assert_eq!(e.charged("nobody"), 0.0);
}

#[test]
fn a_priority_does_not_get_ahead_of_another_owner() {
    let mut e = engine(&[Node::new(0, 1, 8)]);
    for (owner, id, priority) in [("a", 1, 9), ("a", 2, 9), ("a", 3, 10), ("b", 4, 0)] {
        e.handle_arrived(0, owner, TaskSpec { priority, ..TaskSpec::new(id, 10.0) }).unwrap();
    }
    assert_eq!(started(&mut e, 0), [3]);
    e.handle_ended(10 * SECOND, TaskId(3));
    assert_eq!(started(&mut e, 10 * SECOND), [4]);
}

#[test]
fn a_lost_nodes_tasks_go_on_elsewhere_from_the_last_synced_state() {
    let mut e = engine(&[Node::new(0, 1, 8)]);
    arrive(&mut e, "", 1, 100.0);
    assert_eq!(started(&mut e, 0), [1]);
    e.handle_synced(TaskId(1), 70.0);
    e.handle_lost(80 * SECOND, NodeId(0));
    assert_eq!((e.counts(), actions(&mut e, 80 * SECOND)), ((1, 0), vec![]));
    assert_eq!(e.stranded(TaskId(1)), Some(Refusal::NoNodes));
    e.handle_joined(90 * SECOND, Node { speed: 2.0, ..Node::new(1, 1, 8) });
    let reason = Reason::Longest { waiting: 0 };
    let start = Action::Start { task: TaskId(1), node: NodeId(1), end: 105 * SECOND, reason };
    assert_eq!((e.stranded(TaskId(1)), actions(&mut e, 90 * SECOND)), (None, vec![start]));
}

#[test]
fn who_is_cancelled_is_gone_or_stopped() {
    let mut e = engine(&[Node::new(0, 1, 8)]);
    (1..=3).for_each(|i| arrive(&mut e, "", i, 10.0));
    assert_eq!(started(&mut e, 0), [1]);
    e.handle_cancelled(0, TaskId(2));
    e.handle_cancelled(0, TaskId(1));
    e.handle_cancelled(0, TaskId(1));
    assert_eq!(actions(&mut e, 0), [Action::Stop { task: TaskId(1), node: NodeId(0) }]);
    e.handle_ended(SECOND, TaskId(1));
    assert_eq!(started(&mut e, SECOND), [3]);
    // One that is being stopped is not started anew because its node is lost.
    e.handle_cancelled(SECOND, TaskId(3));
    e.handle_lost(SECOND, NodeId(0));
    assert_eq!((actions(&mut e, SECOND), e.counts()), (vec![], (0, 0)));
}

#[test]
fn a_task_that_moves_takes_its_room_along() {
    let mut e = engine(&[Node::new(0, 1, 8)]);
    arrive(&mut e, "", 1, 100.0);
    arrive(&mut e, "", 2, 10.0);
    assert_eq!(started(&mut e, 0), [1]);
    assert!(!e.handle_moved(SECOND, TaskId(1), NodeId(7)), "there is no such node");
    e.handle_cordoned(SECOND, NodeId(0), true);
    e.handle_joined(SECOND, Node { speed: 2.0, ..Node::new(1, 1, 8) });
    e.handle_cordoned(SECOND, NodeId(0), false);
    assert!(!e.handle_moved(SECOND, TaskId(2), NodeId(1)), "it does not run");
    assert!(e.handle_moved(SECOND, TaskId(1), NodeId(1)));
    assert_eq!((started(&mut e, SECOND), e.node_of(TaskId(1))), (vec![2], Some(NodeId(1))));
    assert!(!e.handle_moved(SECOND, TaskId(1), NodeId(0)), "no room");
    e.handle_ended(SECOND, TaskId(1));
    assert_eq!(e.counts(), (0, 1));
}

#[test]
fn what_others_bring_to_a_cordoned_node_counts_there() {
    let mut e = engine(&[Node::new(0, 2, 8), Node::new(1, 2, 8)]);
    e.handle_cordoned(0, NodeId(1), true);
    arrive(&mut e, "", 1, 10.0);
    assert_eq!(started(&mut e, 0), [1]);
    assert!(e.handle_moved(SECOND, TaskId(1), NodeId(1)));
    assert!(e.handle_running(SECOND, "", TaskSpec::new(2, 10.0), NodeId(1), 0.0));
    // It is full; and a task that is known is not brought anew.
    assert!(!e.handle_running(SECOND, "", TaskSpec::new(3, 10.0), NodeId(1), 0.0));
    assert!(!e.handle_running(SECOND, "", TaskSpec::new(1, 10.0), NodeId(0), 0.0));
    assert_eq!((e.node_of(TaskId(1)), e.node_of(TaskId(2))), (Some(NodeId(1)), Some(NodeId(1))));
    e.handle_cordoned(2 * SECOND, NodeId(1), false);
    (3..6).for_each(|id| arrive(&mut e, "", id, 10.0));
    assert_eq!(started(&mut e, 2 * SECOND), [3, 4]);
    e.handle_lost(3 * SECOND, NodeId(1));
    assert_eq!(e.counts(), (3, 2));
}

#[test]
fn a_cordoned_node_gets_nothing_until_it_is_not() {
    let mut e = engine(&[Node::new(0, 2, 8)]);
    arrive(&mut e, "", 1, 10.0);
    assert_eq!(started(&mut e, 0), [1]);
    e.handle_cordoned(0, NodeId(0), true);
    assert_eq!(e.handle_arrived(0, "", TaskSpec::new(2, 1.0)), Err(Refusal::Cordoned));
    e.handle_cordoned(0, NodeId(0), false);
    arrive(&mut e, "", 2, 10.0);
    assert_eq!(started(&mut e, 0), [2]);
}

#[test]
fn refusals_are_at_once() {
    let mut e = Engine::new(Settings { queue: 2, ..Settings::default() });
    assert_eq!(e.handle_arrived(0, "", TaskSpec::new(1, 1.0)), Err(Refusal::NoNodes));
    e.handle_joined(0, Node::new(0, 1, 8));
    let wide = TaskSpec { cores: 200, ..TaskSpec::new(1, 1.0) };
    assert_eq!(e.handle_arrived(0, "", wide), Err(Refusal::Cores { asks: 200, most: 100 }));
    arrive(&mut e, "", 1, 1.0);
    assert_eq!(e.handle_arrived(0, "", TaskSpec::new(1, 1.0)), Err(Refusal::Known));
    arrive(&mut e, "", 2, 1.0);
    assert_eq!(e.handle_arrived(0, "", TaskSpec::new(3, 1.0)), Err(Refusal::QueueFull { waiting: 2 }));
}

#[test]
fn small_tasks_do_not_keep_a_large_one_waiting_for_ever() {
    let mut e = engine(&[Node::new(0, 4, 8)]);
    let (mut next, mut now) = (100, 0);
    (0..4).for_each(|i| arrive(&mut e, "", i, 10.0));
    let mut running: Vec<u64> = started(&mut e, 0);
    e.handle_arrived(0, "", TaskSpec { cores: 400, ..TaskSpec::new(99, 5.0) }).unwrap();
    // One of four ends every two and a half seconds, and there is always another that is longer.
    while !running.contains(&99) {
        assert!(now < 400 * SECOND, "it has waited for {now} ns");
        now += 5 * SECOND / 2;
        e.handle_arrived(now, "", TaskSpec::new(next, 10.0)).unwrap();
        next += 1;
        if !running.is_empty() {
            e.handle_ended(now, TaskId(running.remove(0)));
        }
        running.extend(started(&mut e, now));
    }
    assert!(now >= 300 * SECOND);
}

#[test]
fn the_last_long_task_waits_for_the_fast_node() {
    let mut e = engine(&[Node { speed: 4.0, ..Node::new(0, 1, 8) }, Node { speed: 0.5, ..Node::new(1, 1, 8) }]);
    arrive(&mut e, "", 1, 40.0);
    arrive(&mut e, "", 2, 40.0);
    arrive(&mut e, "", 3, 4.0);
    // The fast one ends both in 20 s; the slow one would need 80 for one of them.
    assert_eq!(started(&mut e, 0), [1, 3]);
    assert_eq!(e.node_of(TaskId(3)), Some(NodeId(1)));
    e.handle_ended(10 * SECOND, TaskId(1));
    assert_eq!(started(&mut e, 10 * SECOND), [2]);
}

#[test]
fn but_not_when_the_fast_node_is_gone() {
    let mut e = engine(&[Node { speed: 4.0, ..Node::new(0, 1, 8) }, Node { speed: 0.5, ..Node::new(1, 1, 8) }]);
    arrive(&mut e, "", 1, 40.0);
    arrive(&mut e, "", 2, 40.0);
    assert_eq!(started(&mut e, 0), [1]);
    e.handle_lost(SECOND, NodeId(0));
    assert_eq!(started(&mut e, SECOND).len(), 1);
    assert_eq!(e.counts(), (1, 1));
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    Arrived(u8, u32, u64, f64),
    Ended(usize),
    Failed(usize),
    Cancelled(u64),
    Joined(u32, u32, u8),
    Lost(u32),
    Cordoned(u32, bool),
    Moved(usize, u32),
    Moving(usize, u32),
    Stayed(usize),
    Measured(u32, u8),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0u8..3, prop_oneof![Just(50u32), Just(100), 1u32..400], 0u64..4_000_000_000, 0.1..50.0f64)
            .prop_map(|(o, c, m, s)| Event::Arrived(o, c, m, s)),
        6 => any::<usize>().prop_map(Event::Ended),
        1 => any::<usize>().prop_map(Event::Failed),
        1 => (0u64..100).prop_map(Event::Cancelled),
        2 => (0u32..6, 1u32..5, 0u8..3).prop_map(|(n, c, s)| Event::Joined(n, c, s)),
        1 => (0u32..6).prop_map(Event::Lost),
        1 => (0u32..6, any::<bool>()).prop_map(|(n, c)| Event::Cordoned(n, c)),
        1 => (any::<usize>(), 0u32..6).prop_map(|(i, n)| Event::Moved(i, n)),
        2 => (any::<usize>(), 0u32..6).prop_map(|(i, n)| Event::Moving(i, n)),
        1 => any::<usize>().prop_map(Event::Stayed),
        1 => (0u32..6, 0u8..3).prop_map(|(n, s)| Event::Measured(n, s)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_no_node_is_overfull_and_no_task_is_lost(events in prop::collection::vec(event(), 0..120)) {
        let mut e = Engine::new(Settings { patience: 20 * SECOND, ..Settings::default() });
        let mut nodes: BTreeMap<u32, Node> = BTreeMap::new();
        let mut known: BTreeMap<u64, TaskSpec> = BTreeMap::new();
        let mut running: BTreeMap<u64, u32> = BTreeMap::new();
        let mut coming: BTreeMap<u64, u32> = BTreeMap::new();
        let mut stopping: BTreeSet<u64> = BTreeSet::new();
        let mut now = 0;
        for (i, event) in events.into_iter().enumerate() {
            now += SECOND;
            match event {
                Event::Arrived(owner, cores, memory, seconds) => {
                    let task = TaskSpec { cores, memory, ..TaskSpec::new(i as u64, seconds) };
                    let fits = nodes.values().any(|n| n.refuses(&task).is_none());
                    let taken = e.handle_arrived(now, ["a", "b", "c"][owner as usize], task.clone());
                    prop_assert_eq!(taken.is_ok(), fits, "{:?}", taken);
                    if fits {
                        known.insert(i as u64, task);
                    }
                }
                Event::Ended(i) if !running.is_empty() => {
                    let task = *running.keys().nth(i % running.len()).unwrap();
                    e.handle_ended(now, TaskId(task));
                    running.remove(&task);
                    known.remove(&task);
                    stopping.remove(&task);
                }
                Event::Failed(i) if !running.is_empty() => {
                    let task = *running.keys().nth(i % running.len()).unwrap();
                    e.handle_failed(now, TaskId(task));
                    running.remove(&task);
                    if stopping.remove(&task) {
                        known.remove(&task);
                    }
                }
                Event::Moved(i, to) if !running.is_empty() => {
                    let task = *running.keys().nth(i % running.len()).unwrap();
                    if e.handle_moved(now, TaskId(task), NodeId(to)) {
                        running.insert(task, to);
                        coming.remove(&task);
                    }
                }
                Event::Moving(i, to) if !running.is_empty() => {
                    let task = *running.keys().nth(i % running.len()).unwrap();
                    if e.handle_moving(now, TaskId(task), NodeId(to)) {
                        prop_assert_eq!(coming.insert(task, to), None);
                    }
                }
                Event::Stayed(i) if !running.is_empty() => {
                    let task = *running.keys().nth(i % running.len()).unwrap();
                    e.handle_stayed(now, TaskId(task));
                    coming.remove(&task);
                }
                Event::Measured(n, speed) => {
                    let speed = [0.5, 1.0, 3.0][speed as usize];
                    let link = Link { bandwidth: 1e6, latency: 0 };
                    prop_assert_eq!(e.handle_measured(now, NodeId(n), speed, link, vec![]), nodes.contains_key(&n));
                }
                Event::Cancelled(task) => {
                    e.handle_cancelled(now, TaskId(task));
                    if running.contains_key(&task) {
                        stopping.insert(task);
                    } else {
                        known.remove(&task);
                    }
                }
                Event::Joined(..) | Event::Lost(_) => {
                    let n = match event {
                        Event::Joined(n, cores, speed) => {
                            let node = Node { speed: [0.5, 1.0, 3.0][speed as usize], ..Node::new(n, cores, 4) };
                            nodes.insert(n, node.clone());
                            e.handle_joined(now, node);
                            n
                        }
                        Event::Lost(n) => {
                            nodes.remove(&n);
                            e.handle_lost(now, NodeId(n));
                            n
                        }
                        _ => unreachable!(),
                    };
                    let gone: Vec<u64> = running.iter().filter(|r| *r.1 == n).map(|r| *r.0).collect();
                    for task in gone {
                        running.remove(&task);
                        if stopping.remove(&task) {
                            known.remove(&task);
                        }
                    }
                    coming.retain(|_, to| *to != n);
                }
                Event::Cordoned(n, cordoned) => {
                    e.handle_cordoned(now, NodeId(n), cordoned);
                    nodes.entry(n).and_modify(|n| n.cordoned = cordoned);
                }
                _ => {}
            }
            coming.retain(|task, _| running.contains_key(task));
            for action in actions(&mut e, now) {
                match action {
                    Action::Start { task, node, end, .. } => {
                        prop_assert!(end > now && known.contains_key(&task.0));
                        prop_assert_eq!(nodes[&node.0].refuses(&known[&task.0]), None);
                        prop_assert_eq!(running.insert(task.0, node.0), None);
                    }
                    Action::Stop { task, node } => prop_assert_eq!(running.get(&task.0), Some(&node.0)),
                }
            }
            for chance in e.chances(5) {
                let (task, node) = (chance.task.0, &nodes[&chance.to.0]);
                prop_assert!(running[&task] == chance.from.0 && !coming.contains_key(&task) && chance.there > chance.here);
                prop_assert!(node.refuses(&known[&task]).is_none() && !stopping.contains(&task));
            }
            for (n, node) in &nodes {
                let there = || running.iter().chain(&coming).filter(|r| r.1 == n).map(|r| &known[r.0]);
                let (cores, memory) = (there().map(|t| t.cores).sum::<u32>(), there().map(|t| t.memory).sum::<u64>());
                prop_assert!(cores <= node.usable_cores() && memory <= node.usable_memory());
            }
            prop_assert_eq!(e.counts(), (known.len() - running.len(), running.len()));
        }
        // Everything that can run does in the end.
        while let Some((&task, _)) = running.first_key_value() {
            now += SECOND;
            e.handle_ended(now, TaskId(task));
            running.remove(&task);
            known.remove(&task);
            for action in actions(&mut e, now) {
                if let Action::Start { task, node, .. } = action {
                    running.insert(task.0, node.0);
                }
            }
        }
        for (&id, task) in &known {
            prop_assert!(nodes.values().all(|n| n.refuses(task).is_some()), "{id} was never started");
            prop_assert!(e.stranded(TaskId(id)).is_some());
        }
    }
}

/// Fast and slow, one core each.
fn two_speeds() -> Engine {
    engine(&[Node { speed: 4.0, ..Node::new(0, 1, 8) }, Node::new(1, 1, 8)])
}

#[test]
fn a_chance_is_what_runs_slowly_while_nothing_runs_where_it_is_fast() {
    let mut e = two_speeds();
    arrive(&mut e, "", 1, 400.0);
    assert_eq!(started(&mut e, 0), [1]);
    assert!(e.handle_running(0, "", TaskSpec::new(2, 200.0), NodeId(1), 0.0));
    assert_eq!(e.chances(9), [], "the fast one is taken");
    e.handle_ended(100 * SECOND, TaskId(1));
    assert_eq!(started(&mut e, 100 * SECOND), []);
    let left = Estimate::exact(100.0);
    let chance = Chance { task: TaskId(2), from: NodeId(1), to: NodeId(0), left, here: 1.0, there: 4.0 };
    assert_eq!((e.chances(9), e.chances(0)), (vec![chance], vec![]));
    // On its way it has room at both.
    assert!(e.handle_moving(100 * SECOND, TaskId(2), NodeId(0)));
    assert!(!e.handle_moving(100 * SECOND, TaskId(2), NodeId(0)));
    arrive(&mut e, "", 3, 10.0);
    assert_eq!((started(&mut e, 100 * SECOND), e.chances(9)), (vec![], vec![]));
    assert!(e.handle_moved(100 * SECOND, TaskId(2), NodeId(0)));
    assert_eq!((started(&mut e, 100 * SECOND), e.node_of(TaskId(3))), (vec![3], Some(NodeId(1))));
    e.handle_ended(125 * SECOND, TaskId(2));
    arrive(&mut e, "", 4, 10.0);
    assert_eq!(started(&mut e, 125 * SECOND), [4]);
}

#[test]
fn room_that_was_kept_for_a_move_is_free_again_when_it_does_not_happen() {
    for how in 0..4 {
        let mut e = two_speeds();
        assert!(e.handle_running(0, "", TaskSpec::new(1, 100.0), NodeId(1), 0.0));
        assert!(e.handle_moving(0, TaskId(1), NodeId(0)));
        match how {
            0 => e.handle_stayed(SECOND, TaskId(1)),
            1 => e.handle_ended(SECOND, TaskId(1)),
            2 => e.handle_lost(SECOND, NodeId(1)),
            _ => {
                e.handle_lost(SECOND, NodeId(0));
                e.handle_joined(SECOND, Node { speed: 4.0, ..Node::new(0, 1, 8) });
            }
        }
        // What waits anew, or has come now, begins there.
        if how != 2 {
            arrive(&mut e, "", 2, 100.0);
        }
        assert_eq!(started(&mut e, SECOND).len(), 1, "{how}");
        let there = [1, 2].into_iter().filter(|id| e.node_of(TaskId(*id)) == Some(NodeId(0))).count();
        assert_eq!(there, 1, "{how}");
    }
}

#[test]
fn a_node_that_is_found_to_be_slower_keeps_its_tasks_for_longer() {
    let mut e = engine(&[Node::new(0, 2, 8)]);
    arrive(&mut e, "", 1, 100.0);
    assert_eq!(started(&mut e, 0), [1]);
    let link = Link { bandwidth: 1e6, latency: 0 };
    assert!(e.handle_measured(50 * SECOND, NodeId(0), 0.5, link, vec![]));
    assert!(!e.handle_measured(50 * SECOND, NodeId(9), 0.5, link, vec![]));
    assert_eq!((e.counts(), e.node_of(TaskId(1))), ((0, 1), Some(NodeId(0))));
    e.handle_joined(50 * SECOND, Node::new(1, 1, 8));
    // Half of it is done, and the rest takes twice as long.
    let left = Estimate::exact(50.0);
    let chance = Chance { task: TaskId(1), from: NodeId(0), to: NodeId(1), left, here: 0.5, there: 1.0 };
    assert_eq!(e.chances(1), [chance]);
    // It has its core still.
    arrive(&mut e, "", 2, 10.0);
    arrive(&mut e, "", 3, 10.0);
    arrive(&mut e, "", 4, 10.0);
    assert_eq!(started(&mut e, 50 * SECOND).len(), 2);
}

#[test]
fn what_is_left_of_a_task_that_takes_longer_than_thought() {
    let exact = Estimate::exact(60.0);
    assert_eq!((exact.left(0.0), exact.left(20.0), exact.left(90.0)), (60.0, 40.0, 0.0));
    let sure = Estimate { seconds: 60.0, cv: 0.1 };
    let unsure = Estimate { seconds: 60.0, cv: 1.0 };
    assert!((sure.left(20.0) - 40.0).abs() < 0.1, "{}", sure.left(20.0));
    // By hand: sigma = 0.8326; S(60) = 1/2, S = 1/4 at 60 exp(0.6745 sigma) = 105.2.
    assert!((unsure.left(60.0) - 45.2).abs() < 0.1, "{}", unsure.left(60.0));
    assert!(unsure.left(600.0) > unsure.left(60.0) && sure.left(600.0) < unsure.left(600.0));
    for done in [f64::NAN, -1.0, f64::INFINITY, 1e300] {
        assert!(unsure.left(done).is_finite() && unsure.left(done) >= 0.0);
    }
}

#[test]
fn of_nodes_that_are_alike_the_one_that_has_the_image_gets_the_task() {
    let slow = |id| Node { link: Link { bandwidth: 1e6, latency: 0 }, ..Node::new(id, 1, 8) };
    let mut e = engine(&[slow(0), slow(1), Node { images: vec![ImageId(7)], ..slow(2) }]);
    let task = |id, image| TaskSpec { image: ImageId(image), transfer: 5_000_000, ..TaskSpec::new(id, 10.0) };
    let start = |e: &mut Engine, id, image| {
        e.handle_arrived(0, "", task(id, image)).unwrap();
        match actions(e, 0)[..] {
            [Action::Start { node, end, .. }] => (node.0, end / SECOND),
            ref other => panic!("{other:?}"),
        }
    };
    assert_eq!(start(&mut e, 1, 7), (2, 10));
    // The only one that has it is taken: it is sent.
    assert_eq!(start(&mut e, 2, 7).1, 15);
    e.handle_ended(0, TaskId(2));
    assert!(e.handle_measured(0, NodeId(1), 1.0, slow(1).link, vec![ImageId(9)]));
    // Or will be: it is on its way there.
    assert_eq!((start(&mut e, 3, 9), start(&mut e, 4, 7)), ((1, 10), (0, 15)));
    // A node that was lost may have lost it.
    e.handle_lost(0, NodeId(2));
    e.handle_joined(0, slow(2));
    assert_eq!(start(&mut e, 5, 7), (2, 15));
}

#[test]
fn what_waited_for_a_fast_node_does_not_when_that_is_slow_now() {
    let mut e = engine(&[Node { speed: 10.0, ..Node::new(0, 1, 8) }, Node::new(1, 1, 8)]);
    arrive(&mut e, "", 1, 100.0);
    arrive(&mut e, "", 2, 100.0);
    // Ten seconds, and ten again, are less than a hundred.
    assert_eq!((started(&mut e, 0), e.node_of(TaskId(1))), (vec![1], Some(NodeId(0))));
    e.handle_joined(SECOND, Node { speed: 0.5, ..Node::new(0, 1, 8) });
    assert_eq!(started(&mut e, SECOND).len(), 2);
}

#[test]
fn nothing_waits_for_a_node_that_is_little_faster() {
    let mut e = engine(&[Node::new(0, 1, 8), Node { speed: 0.95, ..Node::new(1, 1, 8) }]);
    (1..=3).for_each(|id| arrive(&mut e, "", id, 60.0));
    assert_eq!(started(&mut e, 0).len(), 2);
}
