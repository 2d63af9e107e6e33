//! The processor's counter, and its timer. The PIT says how fast both are.

use super::apic;
use crate::clock::Measured;
use core::arch::x86_64::_rdtsc;
use x86_64::instructions::port::Port;

/// Of the PIT, Hz.
const PIT: u64 = 1_193_182;
/// For so many of its ticks it is compared: 1.5 ms.
const TICKS: u16 = 1790;
/// So often.
const TIMES: usize = 3;

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

/// Compares them, several times: a machine that its host does not run for a moment meanwhile makes both look faster than they
/// are, and never slower, because the PIT is read within what is measured.
pub fn init() -> Measured {
    // SAFETY: channel 0 counts down from 65535 again and again, and interrupts are off.
    unsafe {
        Port::<u8>::new(0x43).write(0x34);
        Port::<u8>::new(0x40).write(0xff);
        Port::<u8>::new(0x40).write(0xff);
    }
    let start = counter();
    // Without a PIT: as if both ran at 1 GHz.
    let (mut frequency, mut timer) = (1_000_000_000, 1_000_000_000);
    for time in 0..TIMES {
        let Some(measured) = compare() else { break };
        let least = |so_far: u64, now: u64| if time == 0 { now } else { now.min(so_far) };
        (frequency, timer) = (least(frequency, measured.0), least(timer, measured.1));
    }
    apic::start_timer(0);
    Measured { counter: start, frequency, timer }
}

/// How often in a second the counter goes up, and the timer; `None` where there is no PIT.
fn compare() -> Option<(u64, u64)> {
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
    apic::start_timer(u32::MAX);
    let began = counter();
    let from = count();
    let passed = (0..LOOKS).map(|_| from.wrapping_sub(count())).find(|passed| *passed >= TICKS)?;
    let (took, timer) = (counter() - began, u32::MAX - apic::timer());
    let per_second = |ticks: u64| (ticks * PIT / u64::from(passed)).max(1);
    Some((per_second(took), per_second(u64::from(timer))))
}
