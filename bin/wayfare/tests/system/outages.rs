//! Outages in a row, between two nodes with networks of their own: a link that goes silent, nodes that are killed, clocks that
//! differ. The clients of a service are beside its standby, and each of their numbered samples has one answer, the right one.

use crate::support::cluster::{Node, PATIENCE, found, free_port, join, owner, until};
use crate::support::link::{FAST, Linked, slow};
use crate::support::samples::sample;
use crate::support::space::inside;
use crate::support::steady::{is_unbroken, start};
use rustix::process::Signal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use wayfare_sim::Trace;
use wayfare_sim::proxy::{Shape, Way};

/// Outages in the test; `WAYFARE_OUTAGES` has more.
const OUTAGES: u64 = 10;

/// One node runs it, and the other one has a state of it that it could go on from.
fn is_safe(nodes: [&Node; 2], task: &str) -> bool {
    let [a, b] = nodes.map(|node| node.pair(task));
    let (Some(a), Some(b)) = (a, b) else { return false };
    let roles = [a["role"].as_str().unwrap(), b["role"].as_str().unwrap()];
    let synced = [&a, &b].iter().all(|pair| pair["connected"] == true && pair["sync"].as_u64().unwrap() > 0);
    synced && (roles == ["primary", "standby"] || roles == ["standby", "primary"])
}

/// A number that follows from another one and looks like any.
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

#[test]
fn no_answer_is_lost_or_doubled_in_outages_in_a_row() {
    inside("outages::no_answer_is_lost_or_doubled_in_outages_in_a_row", |apart| {
        // Better and worse, second by second; and then gone, again and again.
        let mut text = String::new();
        for i in 0..900 {
            let (rate, delay) = [(160, 5), (40, 20), (8, 60), (20, 40)][i % 4];
            text += &format!("{i},{rate}000000,{delay}\n");
        }
        let shape = Shape { trace: Some(Trace::parse(&text).unwrap()), ..Shape::new(FAST, Duration::ZERO) };
        let mut linked = if apart { Linked::apart(shape) } else { Linked::local(shape) };
        let outages = std::env::var("WAYFARE_OUTAGES").map_or(OUTAGES, |n| n.parse().unwrap());
        let port = if apart { 9000 } else { free_port() };
        linked.b.start("monitor", &["--publish", &port.to_string()], "monitor", &[]);
        linked.b.run(&["migrate", "monitor", "--to", "a"]).ok();
        linked.a.run(&["protect", "monitor", "--standby", "b", "--policy", "fixed:300ms"]).ok();
        let stop = AtomicBool::new(false);
        // Clients have the network of the node that they are beside.
        let beside = linked.b.space.clone();
        std::thread::scope(|scope| {
            let client = scope.spawn(|| match &beside {
                Some(space) => space.within(|| sample(port, &stop)),
                None => sample(port, &stop),
            });
            let over = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let mut seed = 0x9e37_79b9_7f4a_7c15;
                for outage in (0..outages).take_while(|_| !stop.load(Ordering::SeqCst)) {
                    let began = Instant::now();
                    // Whoever is right about the other copy, there is one in the end.
                    until("one runs and one stands by", PATIENCE, || is_safe(linked.nodes(), "monitor"));
                    let safe = began.elapsed();
                    // At any moment of a sync.
                    std::thread::sleep(Duration::from_millis(next(&mut seed) % 400));
                    let at = owner("monitor", linked.nodes()).name;
                    if at == "b" && next(&mut seed).is_multiple_of(2) {
                        linked.b.run(&["failback", "monitor"]).ok();
                        // Before that it has no standby.
                        until("it has its standby", PATIENCE, || is_safe(linked.nodes(), "monitor"));
                    }
                    // Where one follows the other that soon, the standby has up to four seconds' patience.
                    let long = if next(&mut seed).is_multiple_of(2) { 500 } else { 4500 };
                    let long = Duration::from_millis(long + next(&mut seed) % 1000);
                    let kind = next(&mut seed) % 4;
                    match kind {
                        // The server dies, or the server that is the standby now: its clients are at the gateway.
                        0 => {
                            linked.a.kill();
                            std::thread::sleep(long);
                            linked.a.serve();
                        }
                        1 => {
                            linked.proxy.silence();
                            std::thread::sleep(long);
                            linked.proxy.restore();
                        }
                        _ => {
                            linked.down();
                            std::thread::sleep(long);
                            linked.up();
                        }
                    }
                    eprintln!("outage {outage}: kind {kind}, {long:?}; it ran on {at}; safe after {safe:?}");
                }
                until("one runs and one stands by", PATIENCE, || is_safe(linked.nodes(), "monitor"));
            }));
            stop.store(true, Ordering::SeqCst);
            let answers = client.join();
            if over.is_err() || answers.is_err() {
                eprintln!("{}\n{}", linked.a.log(), linked.b.log());
            }
            over.unwrap();
            let answers = answers.unwrap();
            eprintln!("{answers} samples, each answered once");
            assert!(answers > outages * 20);
        });
    });
}

/// The node where the task runs is killed when so much of a sync has gone, in each phase of it.
#[test]
fn a_node_may_die_in_each_phase_of_a_sync() {
    let mut linked = Linked::both_ways(slow(Duration::ZERO));
    start(&linked.a, "t", "100000");
    linked.a.run(&["protect", "t", "--standby", "b", "--policy", "fixed:1s", "--stay"]).ok();
    // What one sync takes of the link.
    let sync = || linked.a.pair("t").unwrap()["bytes"].as_u64().unwrap();
    until("there is a second one", PATIENCE, || linked.a.pair("t").unwrap()["sync"].as_u64().unwrap() > 1);
    let bytes = sync();
    for part in [0, 1, 20, 50, 80, 99, 100, 101] {
        until("b stands by", PATIENCE, || is_safe(linked.nodes(), "t") && linked.a.state("t") == "running");
        linked.proxy.cut_after(Way::Up, bytes * part / 100 + 2000);
        until("the link breaks", PATIENCE, || linked.a.pair("t").is_none_or(|pair| pair["connected"] == false));
        linked.a.kill();
        linked.b.wait("t", "running");
        let known = linked.b.output("t").lines().count();
        until("it goes on", PATIENCE, || linked.b.output("t").lines().count() > known + 5);
        is_unbroken(&linked.b.output("t"));
        linked.proxy.restore();
        linked.a.serve();
        until("a stands by", PATIENCE, || is_safe(linked.nodes(), "t"));
        linked.b.run(&["failback", "t"]).ok();
        is_unbroken(&linked.a.output("t"));
    }
}

/// A link that is slow, far, and gone every other second: syncs do not pile up, the task does not go to and fro all the time,
/// and there is one copy in the end.
#[test]
fn a_link_that_flaps_is_neither_filled_nor_followed() {
    const SECONDS: u64 = 30;
    const RATE: u64 = 500_000;
    let mut text = String::from("t_s,rate_bps,delay_ms\n0,80000000,5\n");
    for i in 0..SECONDS {
        // From the sixth second on.
        let rate = if i % 2 == 0 { RATE * 8 } else { 0 };
        text += &format!("{},{rate},400\n", 6 + i);
    }
    text += &format!("{},80000000,5\n", 6 + SECONDS);
    let shape = Shape { trace: Some(Trace::parse(&text).unwrap()), ..Shape::new(FAST, Duration::ZERO) };
    let began = Instant::now();
    let linked = Linked::both_ways(shape);
    let (a, b) = (&linked.a, &linked.b);
    // A state sent whole takes the link two of its seconds.
    const ARGS: [&str; 2] = ["1", "12000"];
    a.start("t", &["--cpus", "0.1"], "steady", &[&ARGS[..], &["10"]].concat());
    a.run(&["protect", "t", "--standby", "b"]).ok();
    let begins = Duration::from_secs(6);
    std::thread::sleep(begins.saturating_sub(began.elapsed()));
    let before = linked.proxy.stats().up + linked.back.as_ref().unwrap().stats().up;
    let (mut moves, mut at) = (0, "a");
    while began.elapsed() < begins + Duration::from_secs(SECONDS) {
        // Where it can be heard: the gateway has the last word.
        let now = if b.state("t") == "running" { "b" } else { "a" };
        moves += u32::from(now != std::mem::replace(&mut at, now));
        std::thread::sleep(Duration::from_millis(100));
    }
    let passed = linked.proxy.stats().up + linked.back.as_ref().unwrap().stats().up - before;
    let room = RATE * SECONDS / 2;
    let outages = SECONDS / 2;
    eprintln!("{passed} bytes of {room}, and {moves} times to and fro in {outages} outages");
    assert!(moves <= outages as u32 / 3, "{moves} times to and fro");
    assert!(passed < room * 3 / 4, "{passed} bytes of {room}");
    until("one runs and one stands by", PATIENCE, || is_safe(linked.nodes(), "t"));
    let expected = a.home.plain("steady", &[&ARGS[..], &["0"]].concat());
    let output = owner("t", linked.nodes()).output("t");
    assert!(!output.is_empty() && expected.starts_with(&output), "{output}");
}

/// A node whose wall clock is behind, and that stood still for a while, so that all it measures jumps.
#[test]
fn clocks_that_differ_and_jump_do_no_harm() {
    let (mut a, mut b) = (Node::new("a"), Node::new("b"));
    found(&mut a);
    join(&a, &mut b);
    b.wrong = Some("-200s");
    b.serve();
    start(&a, "t", "100000");
    a.run(&["protect", "t", "--standby", "b", "--policy", "fixed:300ms", "--stay"]).ok();
    let nodes = [&a, &b];
    until("b stands by", PATIENCE, || is_safe(nodes, "t"));
    // The standby sleeps: nobody is suspected for that when it wakes.
    b.signal(Signal::STOP);
    std::thread::sleep(Duration::from_secs(2));
    b.signal(Signal::CONT);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!((a.state("t"), b.state("t")), ("running".into(), "none".into()));
    // The node where it runs does: it wakes to hear that it was replaced.
    a.signal(Signal::STOP);
    b.wait("t", "running");
    a.signal(Signal::CONT);
    a.wait("t", "left");
    until("a stands by", PATIENCE, || is_safe(nodes, "t"));
    b.run(&["failback", "t"]).ok();
    is_unbroken(&a.output("t"));
}
