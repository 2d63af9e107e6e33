//! x86-64: a machine that boots by PVH, with a serial port, a PIT, a TSC and the usual interrupt controllers, as `qemu -M
//! microvm` has them. Its devices are those that the command line names.

mod apic;
mod boot;
pub mod clock;
mod others;
pub mod paging;
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

/// `struct hvm_start_info` of the PVH boot protocol, version 1.
#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    modules_at: u64,
    command_line: u64,
    rsdp: u64,
    map_at: u64,
    map_entries: u32,
    reserved: u32,
}

/// `struct hvm_memmap_table_entry`.
#[repr(C)]
#[derive(Clone, Copy)]
struct MapEntry {
    at: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

const MAGIC: u32 = 0x336e_c578;
const RAM: u32 = 1;
/// Below lie the boot loader's things.
const LOW: u64 = 1 << 20;
/// Where QEMU's `isa-debug-exit` is put: whatever is written there ends it.
const EXIT: u16 = 0xf4;

// SAFETY: the first serial port of a PC.
static SERIAL: Mutex<SerialPort> = Mutex::new(unsafe { SerialPort::new(0x3f8) });

extern "C" fn main(info: &'static StartInfo) -> ! {
    SERIAL.lock().init();
    if info.magic != MAGIC || info.version < 1 {
        panic!("this was not booted by PVH, version 1");
    }
    let mut found = Found::new();
    command_line(info, &mut found);
    const RDRAND: u32 = 1 << 30;
    if core::arch::x86_64::__cpuid(1).ecx & RDRAND != 0 {
        found.features |= RANDOM;
    }
    let [text, rodata, data, payload, report] = tables::own_parts();
    // They follow each other.
    let used = report.to;
    frames::init(0);
    let mut others_fit = false;
    for i in 0..info.map_entries.min(128) as u64 {
        // SAFETY: the boot loader says that it is there; the first GiB is mapped.
        let entry = unsafe { *((info.map_at + i * size_of::<MapEntry>() as u64) as *const MapEntry) };
        // What lies above the first GiB is out of reach while the first tables are made: these come from below.
        if entry.kind == RAM {
            others_fit |= others::fit(entry.at..entry.at.saturating_add(entry.size));
            frames::add(entry.at.max(LOW).max(used), entry.at.saturating_add(entry.size));
        }
    }
    if others_fit {
        others::prepare();
    }
    let registers = |from| Part::registers(from..from + apic::LEN);
    paging::init(&[text, rodata, data, payload, report, registers(apic::LOCAL), registers(apic::IO)]);
    traps::init();
    apic::init();
    apic::reset_others();
    crate::begin(&found, &clock::init());
    others::run()
}

/// Reads the command line, and which devices it says there are: `virtio_mmio.device=SIZE@ADDRESS:LINE`, as for Linux.
fn command_line(info: &StartInfo, found: &mut Found) {
    if info.command_line == 0 {
        return;
    }
    let text = info.command_line as *const u8;
    let byte = |at: usize| {
        // SAFETY: the boot loader says that it is there, and that it ends with a zero; the first GiB is mapped.
        unsafe { *text.add(at) }
    };
    let len = (0..4096).find(|at| byte(*at) == 0).unwrap_or(0);
    // SAFETY: as above.
    let text = unsafe { core::slice::from_raw_parts(text, len) };
    found.set_command_line(text);
    for word in text.split(|byte| *byte == b' ') {
        let Some((physical, len, line)) = core::str::from_utf8(word).ok().and_then(device) else { continue };
        found.add_device(physical, len, line);
    }
}

fn device(word: &str) -> Option<(u64, u64, usize)> {
    let (size, rest) = word.strip_prefix("virtio_mmio.device=")?.split_once('@')?;
    let mut rest = rest.split(':');
    let address = rest.next()?.strip_prefix("0x")?;
    let (number, unit) = match size.strip_suffix('K') {
        Some(number) => (number, 1024),
        None => (size, 1),
    };
    let size = number.parse::<u64>().ok()?.checked_mul(unit)?;
    Some((u64::from_str_radix(address, 16).ok()?, size, rest.next()?.parse().ok()?))
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
