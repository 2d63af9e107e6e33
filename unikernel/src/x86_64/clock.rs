//! Time since the machine started, by the processor's counter, of which the PIT says how fast it runs.

use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU64, Ordering};
use x86_64::instructions::port::Port;

/// Of the PIT, Hz.
const PIT: u64 = 1_193_182;
/// For so many of its ticks it is compared: 5 ms.
const TICKS: u16 = 5966;

static START: AtomicU64 = AtomicU64::new(0);
static PER_SECOND: AtomicU64 = AtomicU64::new(1_000_000_000);

fn counter() -> u64 {
    // SAFETY: every x86-64 processor has it.
    unsafe { _rdtsc() }
}

/// Compares the two.
pub fn init() {
    let (mut command, mut data) = (Port::<u8>::new(0x43), Port::<u8>::new(0x40));
    let mut count = || {
        // SAFETY: latches channel 0 and reads it, low byte first.
        unsafe {
            command.write(0);
            u16::from(data.read()) | u16::from(data.read()) << 8
        }
    };
    // A machine without one counts nothing: after so many looks it is not waited for.
    const LOOKS: u32 = 1_000_000;
    // SAFETY: channel 0 counts down from 65535 again and again, and interrupts are off.
    unsafe {
        Port::<u8>::new(0x43).write(0x34);
        Port::<u8>::new(0x40).write(0xff);
        Port::<u8>::new(0x40).write(0xff);
    }
    let (from, began) = (count(), counter());
    let passed = (0..LOOKS).map(|_| from.wrapping_sub(count())).find(|passed| *passed >= TICKS);
    let took = counter() - began;
    if let Some(passed) = passed {
        PER_SECOND.store(took * PIT / u64::from(passed), Ordering::Relaxed);
    }
    START.store(began, Ordering::Relaxed);
}

/// Nanoseconds since the start.
pub fn nanos() -> u64 {
    let ticks = u128::from(counter() - START.load(Ordering::Relaxed));
    (ticks * 1_000_000_000 / u128::from(PER_SECOND.load(Ordering::Relaxed).max(1))) as u64
}
