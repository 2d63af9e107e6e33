//! x86-64: a PC, or a machine that is less than one, as `qemu -M microvm`: with a serial port, a PIT, a TSC and the usual
//! interrupt controllers. Its devices are those that the command line names, and those on PCI.

mod apic;
mod boot;
pub mod clock;
mod loader;
pub mod paging;
mod pci;
mod traps;

pub use apic::unmask;
pub use traps::Context;

use crate::tables::{self, Part};
use crate::{Found, frames};
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
    let [text, rodata, data, payload] = tables::own_parts();
    frames::init(0);
    // The payload follows the kernel. What lies above 4 GiB is out of reach while the first tables are made: these come from
    // below.
    loader::read(at, magic, &mut found, &mut |memory| {
        frames::add(memory.start.max(LOW).max(payload.to), memory.end);
    });
    const RDRAND: u32 = 1 << 30;
    if core::arch::x86_64::__cpuid(1).ecx & RDRAND != 0 {
        found.features |= RANDOM;
    }
    pci::find(&mut found);
    let registers = |from| Part::registers(from..from + apic::LEN);
    let [first, second, third, fourth] = pci::parts(&found);
    let (local, io) = (registers(apic::LOCAL), registers(apic::IO));
    paging::init(&[text, rodata, data, payload, local, io, first, second, third, fourth]);
    traps::init();
    apic::init();
    pci::route(&found);
    crate::begin(&found, &clock::init());
    traps::run()
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
    // SAFETY: there is one processor, and it will do nothing else any more.
    unsafe { SERIAL.force_unlock() };
}

/// Ends the machine. Under QEMU its exit status is `2 * code + 1`; elsewhere it stands still.
pub fn exit(code: u8) -> ! {
    // SAFETY: a port that nothing else has.
    unsafe { Port::new(EXIT).write(u32::from(code)) };
    loop {
        interrupts::disable();
        hlt();
    }
}
