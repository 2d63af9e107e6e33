//! Time since the machine started, and when a processor is to come back into the kernel.

use crate::arch::clock as arch;
use crate::smp;
use core::sync::atomic::{AtomicU64, Ordering};
use wayfare_unikernel_abi::{Clock, NEVER, SECOND, ratio, scale};

/// What `arch` has found out.
pub struct Measured {
    /// What the counter was.
    pub counter: u64,
    /// By how much it goes up in a second.
    pub frequency: u64,
    /// Ticks of the timer in a second.
    pub timer: u64,
}

static START: AtomicU64 = AtomicU64::new(0);
static NANOS: AtomicU64 = AtomicU64::new(0);
/// Ticks of the timer in a nanosecond.
static TIMER: AtomicU64 = AtomicU64::new(0);
/// By processor: for when its timer is set.
static ALARMS: [AtomicU64; smp::MOST] = [const { AtomicU64::new(NEVER) }; smp::MOST];

/// Sets the clock.
pub fn init(measured: &Measured) -> Clock {
    let clock = Clock::new(measured.counter, measured.frequency);
    START.store(clock.start, Ordering::Relaxed);
    NANOS.store(clock.nanos, Ordering::Relaxed);
    TIMER.store(ratio(measured.timer, SECOND), Ordering::Relaxed);
    clock
}

/// Nanoseconds since the start.
pub fn nanos() -> u64 {
    let clock = Clock { start: START.load(Ordering::Relaxed), nanos: NANOS.load(Ordering::Relaxed) };
    clock.at(arch::counter())
}

/// When a processor comes back into the kernel by itself.
pub fn alarm(processor: usize) -> u64 {
    ALARMS[processor].load(Ordering::Relaxed)
}

/// Lets this processor come back into the kernel at that time, or a little after.
pub fn set_alarm(at: u64) {
    // Setting it costs more than looking.
    if ALARMS[smp::this()].swap(at, Ordering::Relaxed) == at {
        return;
    }
    let ticks = |at: u64| scale(at.saturating_sub(nanos()), TIMER.load(Ordering::Relaxed)).saturating_add(1);
    arch::start_timer((at != NEVER).then(|| ticks(at)));
}

/// This processor's timer has interrupted, and is to do so no more.
pub fn rang() {
    ALARMS[smp::this()].store(NEVER, Ordering::Relaxed);
    arch::start_timer(None);
}
