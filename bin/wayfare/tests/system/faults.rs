//! Links that break and agents that die in the middle of a move: in the end exactly one node has the task, it has done
//! what it would have done anyway, and the same move, tried again, succeeds.
//!
//! A move passes all of its phases within some milliseconds on a good link. Here round trips take a quarter of a second,
//! so that the agent's own lines of progress say when to strike; and links break after every so many bytes, at whatever
//! the two are saying then.

use crate::support::cluster::{Move, Node, PATIENCE, owner, until};
use crate::support::guest;
use crate::support::link::{FAST, Linked, slow};
use crate::support::space::inside;
use crate::support::steady::{SIZE, is_unbroken, is_unbroken_but_for_crashes, start, unmoved};
use std::time::{Duration, Instant};
use wayfare_sim::proxy::{Shape, Way};
use wayfare_transfer::Mode;

/// What the agents call the phases of a move that wait for the other side, in order.
const PHASES: [&str; 6] =
    ["offering", "compiling there", "comparing", "copying", "switching", "waiting for the word that it runs there"];
/// Long enough for each of them to be seen.
const ROUND_TRIP: Duration = Duration::from_millis(250);

/// Moves a task, however often that must be tried until what a fault has left behind is cleared away.
#[track_caller]
fn again(from: &Node, to: &Node, name: &str) {
    let began = Instant::now();
    loop {
        let done = from.run(&["migrate", name, "--to", to.name]);
        if done.status == Some(0) {
            return;
        }
        assert!(done.stderr.contains("stays where it is"), "{done:?}");
        let logs = || format!("{done:?}\n{}\n{}", from.log(), to.log());
        assert!(began.elapsed() < Duration::from_secs(30), "it cannot be moved any more: {}", logs());
        eprintln!("{name}: not yet: {}", done.stderr.trim());
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// After a fault that is over: one node has the task, which moves to `b` now if it is not there, and back to `a`.
#[track_caller]
fn recovers(linked: &Linked, name: &str, check: fn(&str)) {
    let Linked { a, b, .. } = linked;
    let at = owner(name, linked.nodes());
    check(&at.output(name));
    if at.name == a.name {
        again(a, b, name);
    }
    check(&b.output(name));
    again(b, a, name);
    assert_eq!(owner(name, linked.nodes()).name, "a");
    check(&a.output(name));
}

#[test]
fn a_link_may_break_after_any_number_of_bytes() {
    let linked = Linked::local(Shape::new(FAST, Duration::ZERO));
    let (a, b, proxy) = (&linked.a, &linked.b, &linked.proxy);
    let steps = "1500";
    // What an undisturbed move takes, the program included and not.
    let measure = |name: &str| {
        start(a, name, steps);
        let before = proxy.stats();
        again(a, b, name);
        let after = proxy.stats();
        (after.up - before.up, after.down - before.down)
    };
    measure("first");
    let (up, down) = measure("second");
    let program = std::fs::metadata(guest("steady")).unwrap().len();
    assert!(up > 3 << 20 && down > 300, "{up} {down}");
    // The handshake, the offer, the program, the pages, the last words.
    let early = [1, 60, 300, 700, 1500, 4000, program, program + 3000].map(|at| (Way::Up, at, true));
    let evenly = (1..=8).map(|part| (Way::Up, up * part / 8, false));
    let end = [30, 600].map(|left| (Way::Up, up - left, false));
    // A message of the destination's has some 25 bytes on the wire.
    let answers = [1, 100].map(|at| (Way::Down, at, false));
    let last = (0..12).map(|n| (Way::Down, down + 48 - 12 * n, false));
    let cuts: Vec<_> = early.into_iter().chain(evenly).chain(end).chain(answers).chain(last).collect();
    let (mut stayed, mut late) = (0, 0);
    for (n, (way, at, cold)) in cuts.iter().enumerate() {
        let name = format!("t{n}");
        start(a, &name, steps);
        if *cold {
            b.forget_programs();
        }
        let passed = || match way {
            Way::Up => proxy.stats().up,
            Way::Down => proxy.stats().down,
        };
        let goal = passed() + at;
        proxy.cut_after(*way, *at);
        let mut moving = Move::begin(a, b, &name);
        let began = Instant::now();
        // It may have been shorter than the one that was measured.
        while passed() < goal && b.state(&name) != "running" && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_millis(50));
        let cut = passed() >= goal;
        proxy.cut_after(*way, u64::MAX >> 1);
        proxy.restore();
        let end = moving.end();
        let at = owner(&name, linked.nodes());
        is_unbroken(&at.output(&name));
        assert_eq!(end.is_ok(), at.name == "b", "{name}: {end:?}");
        if at.name == "a" {
            stayed += 1;
            again(a, b, &name);
        } else if cut {
            late += 1;
        }
    }
    eprintln!("{stayed} of {} moves were cut off, {late} others too late", cuts.len());
    assert!(stayed > cuts.len() / 2);
    let whole = a.home.plain("steady", &[SIZE, steps, "0"]);
    for n in 0..cuts.len() {
        let name = format!("t{n}");
        b.wait(&name, "exited");
        assert_eq!(b.output(&name), whole, "{name}");
    }
}

/// Waits until a move is in a phase.
#[track_caller]
fn reaches(moving: &mut Move, phase: &str) {
    if !moving.reaches(phase) {
        let end = moving.end();
        panic!("it was never {phase:?}, but {:?}, and ended as {end:?}", moving.phases);
    }
}

/// Lets the link go down as soon as a move is in a phase, first for a moment, then until it has been noticed.
fn goes_down(apart: bool, phase: &str) {
    let linked = match apart {
        // The last word is not to be on this side of the cable already when that is pulled.
        true => Linked::apart(slow(2 * ROUND_TRIP)),
        false => Linked::local(slow(2 * ROUND_TRIP)),
    };
    let (a, b) = (&linked.a, &linked.b);
    start(a, "t", "100000");
    if phase == "comparing" {
        // Only with pages that are there from before.
        recovers(&linked, "t", is_unbroken);
    }
    for for_long in [false, true] {
        if phase == "compiling there" {
            b.forget_programs();
        }
        let mut moving = Move::begin(a, b, "t");
        reaches(&mut moving, phase);
        linked.down();
        if for_long {
            let began = Instant::now();
            // What was on its way then may have brought it into the next phase.
            let (in_doubt, is_sure) = (phase == PHASES[4] || phase == PHASES[5], phase != PHASES[5]);
            until(&format!("a cut while {phase} is noticed"), PATIENCE, || {
                let (here, there) = (a.state("t"), b.state("t"));
                assert!(here != "running" || there != "running", "{phase}: it runs twice");
                // Or it came too late, and all had been said.
                (in_doubt && matches!(here.as_str(), "unknown" | "left")) || (is_sure && here == "running")
            });
            assert!(began.elapsed() < Duration::from_secs(45));
        } else {
            std::thread::sleep(Duration::from_millis(1500));
        }
        linked.up();
        let end = moving.end();
        let at = owner("t", linked.nodes());
        assert_eq!(end.is_ok(), at.name == "b", "{phase}: {end:?}");
        if let Err(e) = end {
            assert!(!e.contains('\n') && !e.is_empty(), "{e:?}");
        }
        recovers(&linked, "t", is_unbroken);
    }
}

#[test]
fn a_cable_may_be_pulled_in_any_phase() {
    inside("faults::a_cable_may_be_pulled_in_any_phase", |apart| {
        unmoved();
        std::thread::scope(|scope| {
            for phase in PHASES {
                scope.spawn(move || goes_down(apart, phase));
            }
        });
    });
}

#[test]
fn a_node_that_cannot_be_reached_is_named_and_the_task_stays() {
    inside("faults::a_node_that_cannot_be_reached_is_named_and_the_task_stays", |apart| {
        let linked = if apart { Linked::apart(slow(ROUND_TRIP)) } else { Linked::local(slow(ROUND_TRIP)) };
        start(&linked.a, "t", "100000");
        linked.down();
        let began = Instant::now();
        let done = linked.a.run(&["migrate", "t", "--to", "b"]).fails("stays where it is");
        assert!(done.stderr.contains(&linked.proxy.address().to_string()), "{done:?}");
        assert!(began.elapsed() < Duration::from_secs(15));
        linked.up();
        recovers(&linked, "t", is_unbroken);
    });
}

/// Kills an agent as soon as a move is in a phase, and starts it again.
fn dies(victim: &str, mode: Mode, phases: &[&str]) {
    let mut linked = Linked::local(slow(ROUND_TRIP));
    start(&linked.a, "t", "100000");
    // The last one is after the end: whoever has been told that it moved need not care any more.
    for phase in phases.iter().copied().chain(["done"]) {
        if phase == "compiling there" {
            linked.b.forget_programs();
        }
        let mut moving = Move::begin_by(&linked.a, &linked.b, "t", mode, None);
        if phase == "done" {
            moving.end().unwrap();
        } else {
            reaches(&mut moving, phase);
        }
        let node = if victim == "a" { &mut linked.a } else { &mut linked.b };
        node.kill();
        std::thread::sleep(Duration::from_millis(100));
        node.serve();
        let _ = moving.end();
        eprintln!("{victim} was killed while {phase} ({mode:?})");
        recovers(&linked, "t", is_unbroken_but_for_crashes);
    }
}

#[test]
fn a_source_may_be_killed_in_any_phase() {
    dies("a", Mode::PreCopy, &PHASES);
}

#[test]
fn a_destination_may_be_killed_in_any_phase() {
    dies("b", Mode::PreCopy, &PHASES);
}

/// Where a move by post-copy differs: the task has gone, and its pages have not.
const LATE: [&str; 3] = ["switching", PHASES[5], "sending late pages"];

#[test]
fn a_source_may_be_killed_before_the_last_late_page() {
    dies("a", Mode::PostCopy, &LATE);
}

#[test]
fn a_destination_may_be_killed_before_the_last_late_page() {
    dies("b", Mode::PostCopy, &LATE);
}
