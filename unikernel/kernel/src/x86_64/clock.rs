//! Time since the machine started, by the processor's counter, and the timer that brings the processor back into the
//! kernel. The PIT says how fast both are.

use super::apic;
use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU64, Ordering};
use wayfare_unikernel_abi::NEVER;
use x86_64::instructions::port::Port;

/// Of the PIT, Hz.
const PIT: u64 = 1_193_182;
/// For so many of its ticks it is compared: 5 ms.
const TICKS: u16 = 5966;

static START: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds of a tick of the counter, times 2^32.
static SCALE: AtomicU64 = AtomicU64::new(0);
/// Ticks of the timer in a nanosecond, times 2^32.
static TIMER: AtomicU64 = AtomicU64::new(0);
/// For when the timer is set.
static ALARM: AtomicU64 = AtomicU64::new(NEVER);

fn counter() -> u64 {
    // SAFETY: every x86-64 processor has it.
    unsafe { _rdtsc() }
}

/// Compares them. Gives what the counter was, and by how much it goes up in a second.
pub fn init() -> (u64, u64) {
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
    apic::start_timer(u32::MAX);
    let (from, began) = (count(), counter());
    let passed = (0..LOOKS).map(|_| from.wrapping_sub(count())).find(|passed| *passed >= TICKS);
    let (took, timer) = (counter() - began, u32::MAX - apic::timer());
    apic::start_timer(0);
    // Without a PIT: as if the counter ran at 1 GHz.
    let (frequency, timer_frequency) = match passed {
        Some(passed) => {
            let per_second = |ticks: u64| (ticks * PIT / u64::from(passed)).max(1);
            (per_second(took), per_second(u64::from(timer)))
        }
        None => (1_000_000_000, 1_000_000_000),
    };
    let scaled = |of: u64, by: u64| ((u128::from(of) << 32) / u128::from(by)) as u64;
    START.store(began, Ordering::Relaxed);
    SCALE.store(scaled(1_000_000_000, frequency), Ordering::Relaxed);
    TIMER.store(scaled(timer_frequency, 1_000_000_000), Ordering::Relaxed);
    (began, frequency)
}

fn scale(ticks: u64, by: &AtomicU64) -> u64 {
    ((u128::from(ticks) * u128::from(by.load(Ordering::Relaxed))) >> 32) as u64
}

/// Nanoseconds since the start.
pub fn nanos() -> u64 {
    scale(counter() - START.load(Ordering::Relaxed), &SCALE)
}

/// Lets the processor come back into the kernel at that time, or a little after.
pub fn set_alarm(at: u64) {
    // Setting it costs more than looking.
    if ALARM.swap(at, Ordering::Relaxed) == at {
        return;
    }
    let ticks = match at {
        NEVER => 0,
        at => scale(at.saturating_sub(nanos()), &TIMER).clamp(1, u64::from(u32::MAX)) as u32,
    };
    apic::start_timer(ticks);
}

/// The timer has interrupted.
pub fn rang() {
    ALARM.store(NEVER, Ordering::Relaxed);
}
