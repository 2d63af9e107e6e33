//! Time since the machine started, by the processor's counter, and the time of day, as the cluster says it.

use core::sync::atomic::{AtomicU64, Ordering};
use wayfare_unikernel_abi::{Boot, Clock, SECOND};

/// What is to be added to the time since the start; 0 before somebody has said what time it is.
static WALL: AtomicU64 = AtomicU64::new(0);
static START: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds of a tick.
static SCALE: AtomicU64 = AtomicU64::new(0);

/// Takes over what the kernel has found out.
pub fn init(boot: &Boot) {
    START.store(boot.clock.start, Ordering::Relaxed);
    SCALE.store(boot.clock.nanos, Ordering::Relaxed);
}

fn counter() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has it.
    return unsafe { core::arch::x86_64::_rdtsc() };
    #[cfg(target_arch = "aarch64")]
    {
        let counter: u64;
        // SAFETY: the virtual counter, which the kernel lets this program read.
        unsafe { core::arch::asm!("isb", "mrs {}, cntvct_el0", out(reg) counter, options(nomem, nostack)) };
        counter
    }
    #[cfg(target_arch = "riscv64")]
    {
        let counter: u64;
        // SAFETY: likewise.
        unsafe { core::arch::asm!("rdtime {}", out(reg) counter, options(nomem, nostack)) };
        counter
    }
}

/// Nanoseconds since the start.
pub fn nanos() -> u64 {
    let clock = Clock { start: START.load(Ordering::Relaxed), nanos: SCALE.load(Ordering::Relaxed) };
    clock.at(counter())
}

/// Takes over what a node of the cluster says: nanoseconds since 1970. Small differences, which the way here makes, are left.
pub fn set_wall(unix: u64) {
    const SMALL: u64 = 500_000_000;
    if unix != 0 && wall().abs_diff(unix) > SMALL {
        WALL.store(unix.saturating_sub(nanos()), Ordering::Relaxed);
    }
}

/// Nanoseconds since 1970; 0 before anybody has said what time it is.
pub fn wall() -> u64 {
    match WALL.load(Ordering::Relaxed) {
        0 => 0,
        offset => offset + nanos(),
    }
}

/// Seconds since 1970, likewise.
pub fn unix() -> u64 {
    wall() / SECOND
}
