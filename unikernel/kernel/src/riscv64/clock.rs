//! Time since the machine started, by the processor's counter, and the timer that brings the processor back into the kernel,
//! which is the firmware's.

use crate::tree::Tree;
use core::sync::atomic::{AtomicU64, Ordering};
use riscv::register::{scounteren, sie, time};
use wayfare_unikernel_abi::NEVER;

const SECOND: u64 = 1_000_000_000;

static START: AtomicU64 = AtomicU64::new(0);
static FREQUENCY: AtomicU64 = AtomicU64::new(1);
/// For when the timer is set.
static ALARM: AtomicU64 = AtomicU64::new(NEVER);

/// Lets the node read the counter too. Gives what it was, and by how much it goes up in a second.
pub fn init(tree: &Tree) -> (u64, u64) {
    let told = tree.find("/cpus").and_then(|all| {
        let of = |node: crate::tree::Node| node.number("timebase-frequency", 0);
        of(all).or_else(|| all.children().find_map(of))
    });
    let Some(frequency) = told.filter(|frequency| *frequency != 0) else {
        panic!("the device tree does not say how fast the counter is")
    };
    let (began, frequency) = (time::read64(), frequency.into());
    START.store(began, Ordering::Relaxed);
    FREQUENCY.store(frequency, Ordering::Relaxed);
    sbi_rt::set_timer(NEVER);
    // SAFETY: the counter tells nothing that nobody may know; interrupts come only when a thread runs.
    unsafe {
        scounteren::set_tm();
        sie::set_stimer();
    }
    (began, frequency)
}

/// How many of one there are, when the other one is given and so many of each make a second.
fn scale(value: u64, per_second: u64, of: u64) -> u64 {
    (u128::from(value) * u128::from(per_second) / u128::from(of)) as u64
}

/// Nanoseconds since the start.
pub fn nanos() -> u64 {
    scale(time::read64() - START.load(Ordering::Relaxed), SECOND, FREQUENCY.load(Ordering::Relaxed))
}

/// Lets the processor come back into the kernel at that time, or a little after.
pub fn set_alarm(at: u64) {
    // Setting it costs more than looking.
    if ALARM.swap(at, Ordering::Relaxed) == at {
        return;
    }
    sbi_rt::set_timer(match at {
        NEVER => NEVER,
        at => {
            let ticks = scale(at, FREQUENCY.load(Ordering::Relaxed), SECOND).saturating_add(1);
            START.load(Ordering::Relaxed).saturating_add(ticks)
        }
    });
}

/// The timer has interrupted, and is to do so no more.
pub fn rang() {
    ALARM.store(NEVER, Ordering::Relaxed);
    sbi_rt::set_timer(NEVER);
}
