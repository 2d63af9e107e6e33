//! Time since the machine started, by the processor's virtual counter, and its timer, which brings the processor back into
//! the kernel.

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{CNTFRQ_EL0, CNTKCTL_EL1, CNTV_CTL_EL0, CNTV_CVAL_EL0, CNTVCT_EL0, Readable, Writeable};
use core::sync::atomic::{AtomicU64, Ordering};
use wayfare_unikernel_abi::NEVER;

const SECOND: u64 = 1_000_000_000;

static START: AtomicU64 = AtomicU64::new(0);
static FREQUENCY: AtomicU64 = AtomicU64::new(1);
/// For when the timer is set.
static ALARM: AtomicU64 = AtomicU64::new(NEVER);

fn counter() -> u64 {
    barrier::isb(barrier::SY);
    CNTVCT_EL0.get()
}

/// Lets the node read the counter too. Gives what it was, and by how much it goes up in a second.
pub fn init() -> (u64, u64) {
    let (began, frequency) = (counter(), CNTFRQ_EL0.get());
    assert!(frequency != 0, "the firmware has not said how fast the counter is");
    START.store(began, Ordering::Relaxed);
    FREQUENCY.store(frequency, Ordering::Relaxed);
    CNTV_CTL_EL0.set(0);
    CNTKCTL_EL1.write(CNTKCTL_EL1::EL0VCTEN::SET);
    (began, frequency)
}

/// How many of one there are, when the other one is given and so many of each make a second.
fn scale(value: u64, per_second: u64, of: u64) -> u64 {
    (u128::from(value) * u128::from(per_second) / u128::from(of)) as u64
}

/// Nanoseconds since the start.
pub fn nanos() -> u64 {
    scale(counter() - START.load(Ordering::Relaxed), SECOND, FREQUENCY.load(Ordering::Relaxed))
}

/// Lets the processor come back into the kernel at that time, or a little after.
pub fn set_alarm(at: u64) {
    if ALARM.swap(at, Ordering::Relaxed) == at {
        return;
    }
    if at == NEVER {
        CNTV_CTL_EL0.set(0);
        return;
    }
    let ticks = scale(at, FREQUENCY.load(Ordering::Relaxed), SECOND).saturating_add(1);
    CNTV_CVAL_EL0.set(START.load(Ordering::Relaxed).saturating_add(ticks));
    CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::SET);
}

/// The timer has interrupted, and is to do so no more.
pub fn rang() {
    ALARM.store(NEVER, Ordering::Relaxed);
    CNTV_CTL_EL0.set(0);
    barrier::isb(barrier::SY);
}
