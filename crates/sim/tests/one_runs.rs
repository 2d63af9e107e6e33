//! Exactly one host runs a task, whatever happens, and at whatever moment: a link that breaks or stands still, a host
//! that dies, both. The moments are all those at which anything happens in an undisturbed move: before, at and after
//! each message, write and action.
//!
//! [`World`] itself checks after every single event that no two hosts run or own the task.

mod common;

use common::{MODES, check, moments, moves_again, small};
use wayfare_sim::world::End;
use wayfare_sim::{Fault, MILLI, SECOND, World};
use wayfare_transfer::Mode;
use wayfare_transfer::source::Phase;

/// Breaks things at every moment of a move in every mode.
fn at_every_moment(name: &str, faults: &[(u64, Fault)], allowed: impl Fn(Mode, &End) -> bool) {
    let mut runs = 0;
    for mode in MODES {
        let moments = moments(mode);
        runs += moments.len();
        assert!(moments.len() > 30, "{} moments", moments.len());
        for at in moments {
            let make = || {
                let mut world = small(mode);
                faults.iter().for_each(|(after, fault)| world.plan(at + after, fault.clone()));
                world
            };
            check(&format!("{name} in {mode:?} at {at}"), make, |world| {
                world.run_until(at + 600 * MILLI, |_| false);
                let end = world.settle(20 * SECOND);
                assert!(allowed(mode, &end), "{end:?}");
                if matches!(end, End::Runs(_)) {
                    moves_again(world);
                }
            });
        }
    }
    println!("{name}: {runs} moments");
}

fn runs(_: Mode, end: &End) -> bool {
    matches!(end, End::Runs(_))
}

#[test]
fn a_link_that_breaks_at_any_moment_leaves_one_owner() {
    at_every_moment("a reset", &[(0, Fault::Reset(0, 1, false))], runs);
    at_every_moment("a cut", &[(0, Fault::Cut(0, 1, false)), (300 * MILLI, Fault::Heal(0, 1))], runs);
}

#[test]
fn a_link_that_goes_silent_at_any_moment_leaves_one_owner() {
    at_every_moment("silence", &[(0, Fault::Reset(0, 1, true))], runs);
    at_every_moment("a long silence", &[(0, Fault::Cut(0, 1, true)), (500 * MILLI, Fault::Heal(0, 1))], runs);
    at_every_moment("a standstill", &[(0, Fault::Stall(0, 1, 400 * MILLI))], |mode, end| {
        runs(mode, end) && *end == End::Runs(1)
    });
}

#[test]
fn a_source_that_dies_at_any_moment_leaves_one_owner() {
    // What it still had of a task that was committed is lost with it: the task goes on from the source's disk.
    for silent in [false, true] {
        at_every_moment("the source's death", &[(0, Fault::Kill(0, silent)), (300 * MILLI, Fault::Restart(0))], runs);
    }
}

#[test]
fn a_destination_that_dies_at_any_moment_leaves_one_owner() {
    // What has not come to its disk, the source has kept.
    for silent in [false, true] {
        at_every_moment(
            "the destination's death",
            &[(0, Fault::Kill(1, silent)), (300 * MILLI, Fault::Restart(1))],
            runs,
        );
    }
}

#[test]
fn two_that_die_at_once_leave_one_owner() {
    let both = [
        (0, Fault::Kill(0, true)),
        (0, Fault::Kill(1, true)),
        (100 * MILLI, Fault::Restart(0)),
        (300 * MILLI, Fault::Restart(1)),
    ];
    at_every_moment("the death of both", &both, runs);
}

#[test]
fn a_move_that_is_called_off_at_any_moment_stays_or_goes() {
    at_every_moment("calling off", &[(0, Fault::Cancel)], runs);
}

#[test]
fn while_nobody_can_be_asked_the_task_stands_still_and_intact() {
    // The link is cut when `Commit` is out, and stays so.
    let mut unknown = 0;
    for at in moments(Mode::PreCopy) {
        let mut world: World = small(Mode::PreCopy);
        world.plan(at, Fault::Cut(0, 1, false));
        world.run_until(3 * SECOND, |_| false);
        if world.hosts[0].outbound(wayfare_sim::world::TASK).is_some_and(|move_| *move_.phase() == Phase::Unknown) {
            unknown += 1;
            let held = world.hosts[0].task(wayfare_sim::world::TASK).unwrap();
            let same = held.guest.program().unmoved(held.guest.steps());
            assert_eq!(held.guest.digest(), same.digest());
        }
        assert!(matches!(world.settle(10 * SECOND), End::Runs(_)));
    }
    assert!(unknown > 0, "no cut fell between commit and its confirmation");
}
