//! The processor's counter, and its timer. The PIT says how fast both are.

use super::apic;
use crate::clock::Measured;
use core::arch::x86_64::_rdtsc;
use x86_64::instructions::port::Port;

/// Of the PIT, Hz.
const PIT: u64 = 1_193_182;
/// For so many of its ticks it is compared: 5 ms.
const TICKS: u16 = 5966;

/// The processor's counter.
pub fn counter() -> u64 {
    // SAFETY: every x86-64 processor has it.
    unsafe { _rdtsc() }
}

/// Has the timer interrupt after so many ticks; never, if there are none.
pub fn start_timer(ticks: Option<u64>) {
    // Who is woken too early looks again.
    apic::start_timer(ticks.map_or(0, |ticks| ticks.min(u32::MAX.into()) as u32));
}

/// Compares them.
pub fn init() -> Measured {
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
    Measured { counter: began, frequency, timer: timer_frequency }
}
