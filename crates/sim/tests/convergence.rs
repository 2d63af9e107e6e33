//! When a task is frozen, for how long, and what that was predicted to be, on links without faults.

use wayfare_sim::host::Outcome;
use wayfare_sim::world::End;
use wayfare_sim::{Fault, MICRO, MILLI, Nanos, Program, SECOND, Settings, Shape, World};
use wayfare_transfer::source::{OnStall, Phase, Policy};
use wayfare_transfer::{Mode, Reason};

/// What a freeze takes besides the link, 1.5 ms in all, as the controller assumes.
fn settings() -> Settings {
    Settings {
        log: 300 * MICRO,
        freeze: 400 * MICRO,
        prepare: 800 * MICRO,
        checkpoint: 3600 * SECOND,
        ..Settings::default()
    }
}

struct Run {
    outcome: Outcome,
    downtime: Option<Nanos>,
    sent: u64,
}

fn run(rate: u64, delay: Nanos, program: &Program, policy: Policy) -> Run {
    run_as(Mode::PreCopy, &settings(), rate, delay, program, policy)
}

fn run_as(mode: Mode, settings: &Settings, rate: u64, delay: Nanos, program: &Program, policy: Policy) -> Run {
    let mut world = World::new(2, &Shape::new(rate, delay), settings, program, 1);
    world.policy = Policy { rtt: 2 * delay, ..policy };
    world.plan(5 * MILLI, Fault::Move(1, mode));
    world.run_until(10 * MILLI, |_| false);
    world.run_until(120 * SECOND, |world| !world.outcomes().is_empty());
    let outcome = world.outcomes().remove(0);
    let sent = world.net.sent(0, 1);
    let done = outcome.phase == Phase::Done;
    let downtime = world.runs().iter().find(|(_, host)| *host == 1).and_then(|(at, _)| Some(at - outcome.frozen?));
    assert_eq!(world.settle(SECOND), End::Runs(usize::from(done)));
    Run { outcome, downtime, sent }
}

/// Pages of noise: nothing packs, so that the bytes of a page are known beforehand.
fn writer(hot: u64, step: Nanos) -> Program {
    Program { pages: 3000, filled: 3000, hot, step, grow: None, wipe: false, end: None, ..Program::small(9) }
}

#[track_caller]
fn predicted_well(run: &Run) {
    let (downtime, predicted) = (run.downtime.unwrap(), run.outcome.progress.predicted);
    assert!(predicted < downtime * 2 && downtime < predicted * 2, "predicted {predicted}, was {downtime}");
}

#[test]
fn an_idle_task_takes_one_round() {
    let run = run(20_000_000, MILLI, &writer(0, MILLI), Policy::default());
    assert_eq!(run.outcome.rounds[0], 3000);
    assert!(run.outcome.rounds[1..].iter().all(|pages| *pages == 0), "{:?}", run.outcome.rounds);
    assert!(run.downtime.unwrap() <= 10 * MILLI, "{:?}", run.downtime);
    predicted_well(&run);
}

#[test]
fn rounds_of_a_slow_writer_shrink_until_the_bound_is_kept() {
    for (rate, delay, step) in
        [(20_000_000, MILLI, 2 * MILLI), (100_000_000, 100 * MICRO, 100 * MICRO), (5_000_000, 500 * MICRO, 4 * MILLI)]
    {
        let run = run(rate, delay, &writer(3000, step), Policy::default());
        let rounds = &run.outcome.rounds;
        assert!(rounds.len() >= 3 && rounds.windows(2).all(|w| w[1] < w[0]), "{rounds:?}");
        // A fifth more for what is written between the last look and the freeze.
        assert!(run.downtime.unwrap() <= 12 * MILLI, "{:?} after {rounds:?}", run.downtime);
        predicted_well(&run);
        println!("{rate} B/s: rounds {rounds:?}, predicted {}, was {:?}", run.outcome.progress.predicted, run.downtime);
    }
}

#[test]
fn a_writer_that_outruns_the_link_is_frozen_or_left_as_told() {
    // 20,000 pages a second, where 5,000 can be sent.
    let program = writer(3000, 50 * MICRO);
    let freeze = run(20_000_000, MILLI, &program, Policy::default());
    assert!(freeze.outcome.phase == Phase::Done && freeze.outcome.progress.stalled);
    assert!(freeze.outcome.rounds.len() <= 6, "{:?}", freeze.outcome.rounds);
    assert!(freeze.downtime.unwrap() > 100 * MILLI);
    predicted_well(&freeze);
    let give_up = run(20_000_000, MILLI, &program, Policy { on_stall: OnStall::GiveUp, ..Policy::default() });
    let Phase::Failed(refusal) = &give_up.outcome.phase else { panic!("{:?}", give_up.outcome) };
    assert_eq!(refusal.reason, Reason::Stalled);
    assert_eq!(give_up.downtime, None);
    assert!(give_up.outcome.frozen.is_none());
}

#[test]
fn what_a_writer_outruns_the_link_with_comes_after_it_in_a_hybrid_move() {
    let hybrid = |settings: &Settings, program: &Program| {
        run_as(Mode::Hybrid, settings, 20_000_000, MILLI, program, Policy::default())
    };
    let all = hybrid(&settings(), &writer(3000, 50 * MICRO));
    assert_eq!((&all.outcome.phase, all.outcome.rounds.len()), (&Phase::Done, 2));
    assert!(all.outcome.progress.late > 1500 && all.downtime.unwrap() < 10 * MILLI, "{:?}", all.outcome);
    // Most pages are written again before their turn has come, and are left out: else it would be twice as much as there
    // is.
    assert!(all.sent < 3000 * 4096 * 3 / 2, "{} bytes", all.sent);
    // What converges goes at once, within the bound.
    let calm = hybrid(&settings(), &writer(20, MILLI));
    assert!(calm.outcome.phase == Phase::Done && calm.outcome.progress.late == 0, "{:?}", calm.outcome);
    // To a node where pages cannot be late it goes as it would by pre-copy.
    let early = hybrid(&Settings { can_be_late: false, ..settings() }, &writer(3000, 50 * MICRO));
    assert!(early.outcome.phase == Phase::Done && early.outcome.progress.late == 0, "{:?}", early.outcome);
    assert!(early.outcome.progress.stalled);
}

#[test]
fn the_downtime_is_predicted_within_a_factor_of_two() {
    for rate in [5_000_000, 20_000_000, 125_000_000] {
        for delay in [100 * MICRO, MILLI, 10 * MILLI] {
            for (hot, step) in [(500, 10 * MILLI), (3000, MILLI), (200, 100 * MICRO)] {
                for bound in [20 * MILLI, 200 * MILLI] {
                    let policy = Policy { max_downtime: bound, ..Policy::default() };
                    predicted_well(&run(rate, delay, &writer(hot, step), policy));
                }
            }
        }
    }
}

#[test]
fn a_limit_is_respected_within_a_tenth() {
    for (limit, module) in [(2_000_000, 3000), (500_000, 3000), (2_000_000, 4_000_000)] {
        let program = Program { module, ..writer(100, 5 * MILLI) };
        let policy = Policy { limit: Some(limit), max_downtime: SECOND, ..Policy::default() };
        let run = run(50_000_000, MILLI, &program, policy);
        let time = (run.outcome.ended - run.outcome.began) as f64 / SECOND as f64;
        let rate = run.sent as f64 / time;
        assert!((0.85..1.1).contains(&(rate / limit as f64)), "{rate} B/s where {limit} are allowed");
    }
}
