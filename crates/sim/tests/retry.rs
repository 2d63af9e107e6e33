//! A move that failed is tried again, and what had arrived is not sent again.

mod common;

use wayfare_sim::host::Fails;
use wayfare_sim::world::{End, TASK};
use wayfare_sim::{Fault, MILLI, Program, SECOND, Settings, Shape, World};
use wayfare_transfer::{Mode, source::Phase};

const BYTES: u64 = 2000 * 4096;

fn large(settings: &Settings) -> World {
    let program = Program { pages: 2000, filled: 2000, hot: 100, step: 5 * MILLI, grow: None, ..Program::small(5) };
    let mut world = World::new(2, &Shape::new(10_000_000, MILLI), settings, &program, 5);
    world.plan(5 * MILLI, Fault::Move(1, Mode::PreCopy));
    world
}

fn again(world: &mut World) -> u64 {
    let before = world.net.sent(0, 1);
    let now = world.now();
    world.plan(now, Fault::Heal(0, 1));
    world.plan(now + MILLI, Fault::Move(1, Mode::PreCopy));
    world.run_until(now + 2 * MILLI, |_| false);
    assert_eq!(world.settle(10 * SECOND), End::Runs(1));
    assert_eq!(world.outcomes().last().unwrap().phase, Phase::Done);
    assert!(world.hosts[1].task(TASK).unwrap().guest.missing() == 0);
    world.net.sent(0, 1) - before
}

#[test]
fn pages_that_came_before_the_link_broke_are_not_sent_again() {
    let mut world = large(&Settings::default());
    world.plan(500 * MILLI, Fault::Cut(0, 1, false));
    world.run_until(SECOND, |_| false);
    let first = world.net.sent(0, 1);
    assert_eq!(world.whereabouts(), Some(0));
    assert!((BYTES / 2..BYTES * 7 / 10).contains(&first), "{first}");
    let second = again(&mut world);
    // What was on its way or has changed since comes on top, and the digests.
    assert!(second < BYTES * 6 / 10, "{second} bytes after {first}, of {BYTES}");
    assert!(first + second < BYTES * 12 / 10, "{second} bytes after {first}, of {BYTES}");
    println!("{BYTES} bytes of memory: {first} sent before the link broke, {second} by the second try");
}

#[test]
fn after_a_refusal_at_the_very_end_hardly_anything_is_sent() {
    let mut world = large(&Settings { fails: Some(Fails::Prepare), ..Settings::default() });
    world.run_until(2 * SECOND, |_| false);
    let first = world.net.sent(0, 1);
    assert_eq!(world.whereabouts(), Some(0));
    assert!(matches!(&world.outcomes()[0].phase, Phase::Failed(_)));
    let second = again(&mut world);
    assert!(first > BYTES && second < BYTES / 10, "{second} bytes after {first}, of {BYTES}");
    println!("{BYTES} bytes of memory: {first} sent before the refusal, {second} by the second try");
}

#[test]
fn a_task_that_comes_back_brings_only_what_it_has_changed() {
    let mut world = large(&Settings::default());
    world.run_until(2 * SECOND, |_| false);
    assert_eq!(world.whereabouts(), Some(1));
    let now = world.now();
    world.plan(now, Fault::Move(0, Mode::PreCopy));
    world.run_until(now + 2 * MILLI, |_| false);
    assert_eq!(world.settle(10 * SECOND), End::Runs(0));
    let back = world.net.sent(1, 0);
    assert!(back < BYTES / 5, "{back} of {BYTES}");
}
