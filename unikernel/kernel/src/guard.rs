//! The watchdog: the agent says that it is there, and when it does not for too long, the machine has failed.
//!
//! It is the timer's interrupts that find out. A kernel that comes to no interrupt any more is not found out: for that a
//! board would need a watchdog of its own, and a driver for it. Seconds are counted one for each look, however many have
//! passed: a machine that its host, or somebody's debugger, has not let run has not been silent.

use crate::clock;
use core::sync::atomic::{AtomicU64, Ordering};
use wayfare_unikernel_abi::{NEVER, SECOND};

/// Seconds of silence that are too many; 0 if none are.
static LIMIT: AtomicU64 = AtomicU64::new(0);
/// How many there were.
static SILENT: AtomicU64 = AtomicU64::new(0);
/// When the next one will have passed.
static NEXT: AtomicU64 = AtomicU64::new(NEVER);

/// The agent is there, and will say so again within so many seconds; with 0, it may say no more.
pub fn heard(limit: u64) {
    SILENT.store(0, Ordering::Relaxed);
    let before = LIMIT.swap(limit, Ordering::Relaxed);
    if (before == 0) != (limit == 0) {
        let next = if limit == 0 { NEVER } else { clock::nanos().saturating_add(SECOND) };
        NEXT.store(next, Ordering::Relaxed);
    }
}

/// Looks, now. Gives when to look again at the latest; or how many seconds it was too silent for.
pub fn look(now: u64) -> Result<u64, u64> {
    let next = NEXT.load(Ordering::Relaxed);
    if now < next {
        return Ok(next);
    }
    let next = now.saturating_add(SECOND);
    NEXT.store(next, Ordering::Relaxed);
    let silent = SILENT.fetch_add(1, Ordering::Relaxed);
    if silent < LIMIT.load(Ordering::Relaxed) { Ok(next) } else { Err(silent) }
}
