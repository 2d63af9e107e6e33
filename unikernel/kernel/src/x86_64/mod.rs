//! x86-64: a PC, or a machine that is less than one, as `qemu -M microvm`: with a serial port, a PIT, a TSC and the usual
//! interrupt controllers. Its devices are those that the command line names, and those on PCI.

mod apic;
mod boot;
pub mod clock;
mod loader;
mod others;
pub mod paging;
mod pci;
mod traps;

pub use apic::unmask;
pub use others::{call_in, catch_up};
pub use traps::Context;

use crate::tables::{self, Part};
use crate::{Found, frames};
use core::arch::asm;
use core::fmt;
use spin::Mutex;
use uart_16550::SerialPort;
use wayfare_unikernel_abi::RANDOM;
use x86_64::instructions::{hlt, interrupts, port::Port};

/// Below lie the boot loader's things.
const LOW: u64 = 1 << 20;
/// Where QEMU's `isa-debug-exit` is put: whatever is written there ends it.
const EXIT: u16 = 0xf4;

// SAFETY: the first serial port of a PC.
static SERIAL: Mutex<SerialPort> = Mutex::new(unsafe { SerialPort::new(0x3f8) });

extern "C" fn main(at: u64, magic: u32) -> ! {
    SERIAL.lock().init();
    let mut found = Found::new();
    let [text, rodata, data, payload, report] = tables::own_parts();
    frames::init(0);
    let mut others_fit = false;
    // They follow each other. What lies above 4 GiB is out of reach while the first tables are made: these come from
    // below.
    loader::read(at, magic, &mut found, &mut |memory| {
        others_fit |= others::fit(memory.clone());
        if memory.start <= report.from && report.to <= memory.end {
            crate::report::has_page();
        }
        frames::add(memory.start.max(LOW).max(report.to), memory.end);
    });
    const RDRAND: u32 = 1 << 30;
    if core::arch::x86_64::__cpuid(1).ecx & RDRAND != 0 {
        found.features |= RANDOM;
    }
    if others_fit {
        others::prepare();
    }
    pci::find(&mut found);
    let registers = |from| Part::registers(from..from + apic::LEN);
    let [first, second, third, fourth] = pci::parts(&found);
    let (local, io) = (registers(apic::LOCAL), registers(apic::IO));
    paging::init(&[text, rodata, data, payload, report, local, io, first, second, third, fourth]);
    traps::init();
    apic::init();
    apic::reset_others();
    pci::route(&found);
    crate::begin(&found, &clock::init());
    others::run()
}

/// Writes to the console.
pub struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write(text.as_bytes());
        Ok(())
    }
}

/// Writes bytes to the console as they are.
pub fn write(bytes: &[u8]) {
    let mut serial = SERIAL.lock();
    bytes.iter().for_each(|byte| serial.send_raw(*byte));
}

/// A lock that whoever panicked may hold does not keep the panic from being told.
pub fn unlock_console() {
    // SAFETY: the others stand still, and this one will do nothing else any more.
    unsafe { SERIAL.force_unlock() };
}

/// What was written there is in memory when the machine is reset, which may forget what is in caches.
pub fn write_back(bytes: &[u8]) {
    const LINE: usize = 64;
    for at in (bytes.as_ptr().addr() & !(LINE - 1)..bytes.as_ptr().addr() + bytes.len()).step_by(LINE) {
        // SAFETY: a line of what is there. Every x86-64 processor has the instruction.
        unsafe { asm!("clflush [{}]", in(reg) at, options(nostack, preserves_flags)) };
    }
    // SAFETY: waits for that.
    unsafe { asm!("mfence", options(nostack, preserves_flags)) };
}

/// Resets the machine: by the chipset's register, by the keyboard's controller, and where there is neither (`microvm`), by an
/// exception for which nothing is there, which is what a processor stops at.
pub fn reset() -> ! {
    const CHIPSET: u16 = 0xcf9;
    const KEYBOARD: u16 = 0x64;
    // SAFETY: nothing is to go on.
    unsafe {
        Port::<u8>::new(CHIPSET).write(0x02);
        Port::<u8>::new(CHIPSET).write(0x06);
        Port::<u8>::new(KEYBOARD).write(0xfe);
        let nothing = [0u16; 5];
        asm!("lidt [{}]", "int3", in(reg) &raw const nothing, options(noreturn))
    }
}

/// Ends the machine. Under QEMU its exit status is `2 * code + 1`; elsewhere it stands still.
pub fn exit(code: u8) -> ! {
    // SAFETY: a port that nothing else has.
    unsafe { Port::new(EXIT).write(u32::from(code)) };
    stand_still()
}

/// This processor does nothing any more.
pub fn stand_still() -> ! {
    loop {
        interrupts::disable();
        hlt();
    }
}
