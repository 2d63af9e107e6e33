//! Somebody on the link drops, doubles, delays, changes or forges records: each record of a move in turn. The channel
//! notices, and the move fails or succeeds as with any broken link.

mod common;

use common::{MODES, check, moves_again, small};
use wayfare_sim::hostile::Tamper;
use wayfare_sim::world::End;
use wayfare_sim::{Fault, MILLI, SECOND};

#[test]
fn no_record_can_be_dropped_doubled_delayed_or_changed_to_any_effect() {
    let all = [
        Tamper::Drop,
        Tamper::Duplicate,
        Tamper::Delay(1),
        Tamper::Delay(3),
        Tamper::Corrupt(3),
        Tamper::Corrupt(150),
        Tamper::Truncate,
        Tamper::Inject,
    ];
    let (mut runs, mut noticed) = (0, 0);
    for mode in MODES {
        for (from, to) in [(0, 1), (1, 0)] {
            let mut clean = small(mode);
            clean.run_until(200 * MILLI, |_| false);
            let records = clean.net.meddler(from, to).unwrap().seen();
            assert!(records >= 5, "{records} records");
            for (nth, tamper) in (0..records).flat_map(|nth| all.map(|tamper| (nth, tamper))) {
                let make = || {
                    let mut world = small(mode);
                    world.plan(0, Fault::Tamper(from, to, nth, tamper));
                    world
                };
                runs += 1;
                noticed += check(&format!("{tamper:?} of record {nth} from {from} in {mode:?}"), make, |world| {
                    world.run_until(SECOND, |_| false);
                    let violations: usize = world.hosts.iter().map(|host| host.violations.len()).sum();
                    let end = world.settle(10 * SECOND);
                    assert!(matches!(end, End::Runs(_)), "{end:?}");
                    moves_again(world);
                    usize::from(violations > 0)
                });
            }
        }
    }
    // The rest are records after which nothing came: silence ended those connections.
    assert!(noticed * 4 > runs * 3, "{noticed} of {runs} were noticed by the channel");
}
