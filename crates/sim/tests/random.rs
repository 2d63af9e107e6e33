//! Any mixture of moves and faults, thousands of them: `WAYFARE_SIM_SEEDS=100000` for more, `WAYFARE_SIM_FIRST=4711`
//! with `WAYFARE_SIM_SEEDS=1` to see one again, in words if it fails.

mod common;

use common::{MODES, check};
use wayfare_sim::host::Fails;
use wayfare_sim::hostile::Tamper;
use wayfare_sim::world::End;
use wayfare_sim::{Fault, MICRO, MILLI, Program, Rng, SECOND, Settings, Shape, World};
use wayfare_transfer::source::{OnStall, Policy};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn tamper(rng: &mut Rng) -> Tamper {
    let n = rng.below(5) as u32;
    let bit = rng.below(100_000) as u32;
    rng.pick(&[
        Tamper::Drop,
        Tamper::Duplicate,
        Tamper::Delay(n + 1),
        Tamper::Corrupt(bit),
        Tamper::Truncate,
        Tamper::Inject,
    ])
}

fn scenario(seed: u64) -> World {
    let rng = &mut Rng::new(seed);
    let hosts = 2 + rng.below(2) as usize;
    let mut shape = Shape::new(rng.pick(&[500_000, 5_000_000, 50_000_000]), rng.pick(&[50 * MICRO, MILLI, 20 * MILLI]));
    shape.loss = rng.pick(&[0.0, 0.0, 0.02]);
    shape.buffer = rng.pick(&[8 << 10, 256 << 10]);
    let pages = 4 + rng.below(60);
    let program = Program {
        seed: rng.draw(),
        pages,
        filled: rng.below(pages + 1),
        hot: rng.below(pages + 1),
        step: rng.pick(&[200 * MICRO, MILLI, 10 * MILLI]),
        grow: rng.pick(&[None, Some(50), Some(400)]),
        wipe: rng.chance(0.5),
        end: rng.pick(&[None, None, None, Some(2000), Some(300)]),
        state: rng.pick(&[0, 900, 300_000]),
        module: rng.pick(&[100, 3000, 600_000]),
    };
    let settings = Settings {
        log: rng.pick(&[20 * MICRO, 5 * MILLI]),
        freeze: rng.pick(&[20 * MICRO, 3 * MILLI]),
        land: rng.pick(&[100 * MICRO, 30 * MILLI]),
        prepare: rng.pick(&[100 * MICRO, 10 * MILLI]),
        checkpoint: 250 * MILLI,
        fails: rng.pick(&[None, None, None, Some(Fails::Admit), Some(Fails::Land), Some(Fails::Prepare)]),
        ..Settings::default()
    };
    let mut world = World::new(hosts, &shape, &settings, &program, rng.draw());
    world.policy = Policy {
        max_downtime: rng.pick(&[MILLI, 10 * MILLI, 300 * MILLI]),
        on_stall: rng.pick(&[OnStall::Freeze, OnStall::GiveUp]),
        limit: rng.pick(&[None, None, Some(300_000)]),
        rtt: 2 * MILLI,
    };
    for _ in 0..1 + rng.below(6) {
        let mode = rng.pick(&MODES);
        world.plan(20 * MILLI + rng.below(2500 * MILLI), Fault::Move(rng.below(hosts as u64) as usize, mode));
    }
    for _ in 0..rng.below(7) {
        let at = 15 * MILLI + rng.below(2800 * MILLI);
        let a = rng.below(hosts as u64) as usize;
        let b = (a + 1 + rng.below(hosts as u64 - 1) as usize) % hosts;
        let silent = rng.chance(0.5);
        let while_ = rng.below(1500 * MILLI);
        match rng.below(7) {
            0 => {
                world.plan(at, Fault::Cut(a, b, silent));
                world.plan(at + while_, Fault::Heal(a, b));
            }
            1 => world.plan(at, Fault::Reset(a, b, silent)),
            2 => world.plan(at, Fault::Stall(a, b, while_)),
            3 => {
                world.plan(at, Fault::Kill(a, silent));
                world.plan(at + while_, Fault::Restart(a));
            }
            4 => world.plan(at, Fault::Cancel),
            _ => world.plan(at, Fault::Tamper(a, b, rng.below(12), tamper(rng))),
        }
    }
    world
}

fn run(seed: u64) -> End {
    check(
        &format!("seed {seed}"),
        || scenario(seed),
        |world| {
            world.run_until(3500 * MILLI, |_| false);
            let end = world.settle(30 * SECOND);
            match end {
                End::Runs(_) | End::Ended(_) => {}
                End::Stalled(_) | End::Lost(..) => panic!("{end:?}: nobody has what is missing"),
                End::Unknown(_) => panic!("still in doubt, and all links are there"),
            }
            end
        },
    )
}

#[test]
fn any_mixture_of_moves_and_faults_leaves_one_owner() {
    let (first, seeds) = (number("WAYFARE_SIM_FIRST", 0), number("WAYFARE_SIM_SEEDS", 3000));
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get() as u64);
    let counts = std::thread::scope(|scope| {
        let part = |n: u64| move || (first + n..first + seeds).step_by(threads as usize).map(run).collect::<Vec<_>>();
        let threads: Vec<_> = (0..threads).map(|n| scope.spawn(part(n))).collect();
        let ends = threads.into_iter().flat_map(|thread| thread.join().expect("a seed failed, see above"));
        ends.fold([0; 2], |mut counts, end| {
            counts[usize::from(matches!(end, End::Ended(_)))] += 1;
            counts
        })
    });
    let [runs, ended] = counts;
    println!("{seeds} seeds from {first}: runs {runs}, ended {ended}");
}
