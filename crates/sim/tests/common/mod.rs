//! What the tests of moves share: a small world, and a run that is told again in words when it fails.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use wayfare_sim::world::{End, TASK};
use wayfare_sim::{Condition, Fault, MILLI, Nanos, Program, SECOND, Settings, Shape, World};
use wayfare_transfer::Mode;

pub const MODES: [Mode; 4] = [Mode::PreCopy, Mode::Stop, Mode::Hybrid, Mode::PostCopy];

/// When the first move of a small world begins.
pub const START: Nanos = 5 * MILLI;

/// 10 MB/s and 1 ms one way between two hosts; the task is about to be moved.
pub fn small(mode: Mode) -> World {
    let mut world = World::new(2, &Shape::new(10_000_000, MILLI), &Settings::default(), &Program::small(1), 1);
    world.plan(START, Fault::Move(1, mode));
    world
}

/// Runs `run` on what `make` makes; if that fails, once more and with words.
pub fn check<T>(name: &str, make: impl Fn() -> World, run: impl Fn(&mut World) -> T) -> T {
    let result = catch_unwind(AssertUnwindSafe(|| run(&mut make())));
    result.unwrap_or_else(|_| {
        let mut world = make();
        world.tell();
        let again = catch_unwind(AssertUnwindSafe(|| {
            run(&mut world);
        }));
        panic!("{name} failed{}:\n{}", if again.is_ok() { ", but not again" } else { "" }, world.story());
    })
}

/// The moments at which something happens in a move that nothing disturbs, and just before.
pub fn moments(mode: Mode) -> Vec<Nanos> {
    let mut world = small(mode);
    world.run_until(SECOND, |world| world.now() > START + MILLI && world.hosts.iter().all(|host| host.is_quiet()));
    assert_eq!(world.settle(SECOND), End::Runs(1));
    let end = world.outcomes()[0].ended + 5 * MILLI;
    let all = world.instants().into_iter().filter(|at| (START..end).contains(at));
    all.flat_map(|at| [at - 1, at]).collect()
}

/// A task that runs somewhere can be moved, whatever was before.
pub fn moves_again(world: &mut World) {
    let from = world.whereabouts().expect("it runs");
    let to = 1 - from.min(1);
    let now = world.now();
    world.plan(now, Fault::Move(to, Mode::PreCopy));
    world.run_until(now + MILLI, |_| false);
    world.run_until(now + 5 * SECOND, |world| world.hosts.iter().all(|host| host.is_quiet()));
    let end = world.settle(SECOND);
    assert!(
        end == End::Runs(to) && world.hosts[to].task(TASK).is_some_and(|slot| slot.condition == Condition::Running),
        "another move ends with {end:?}: {:?}",
        world.outcomes().last()
    );
}
