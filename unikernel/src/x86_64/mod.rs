//! x86-64: a machine that boots by PVH, with a serial port, a PIT and a TSC, as `qemu -M microvm` has them.

mod boot;
pub mod clock;
pub mod paging;
mod traps;

use crate::frames;
use core::arch::asm;
use core::fmt;
use paging::Rights;
use spin::Mutex;
use uart_16550::SerialPort;
use x86_64::instructions::{hlt, interrupts, port::Port};

unsafe extern "C" {
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __end: u8;
}

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
    clock::init();
    if info.magic != MAGIC || info.version < 1 {
        panic!("this was not booted by PVH, version 1");
    }
    let address = |symbol: *const u8| symbol as u64;
    // SAFETY: only their addresses are taken.
    let (text, text_end, rodata_end, end) =
        unsafe { (address(&__text_start), address(&__text_end), address(&__rodata_end), address(&__end)) };
    let payload = crate::payload_place().map(|(at, len)| (at, (at + len).next_multiple_of(frames::FRAME)));
    // The payload follows the kernel.
    let used = payload.map_or(end, |(_, end)| end);
    for i in 0..info.map_entries.min(128) as u64 {
        // SAFETY: the boot loader says that it is there; the first GiB is mapped.
        let entry = unsafe { *((info.map_at + i * size_of::<MapEntry>() as u64) as *const MapEntry) };
        // What lies above the first GiB is out of reach while the first tables are made: these come from below.
        if entry.kind == RAM {
            frames::add(entry.at.max(LOW).max(used), entry.at.saturating_add(entry.size));
        }
    }
    let (from, to) = payload.unwrap_or((end, end));
    let parts = [
        (text, text_end, Rights::Execute),
        (text_end, rodata_end, Rights::Read),
        (rodata_end, end, Rights::Write),
        (from, to, Rights::Read),
    ];
    paging::init(&parts);
    traps::init();
    crate::memory::init();
    let stack = crate::memory::STACK + crate::memory::STACK_SIZE;
    // SAFETY: the stack's pages come as they are touched, and nothing of the old one is needed any more.
    unsafe {
        asm!("mov rsp, {stack}", "xor ebp, ebp", "call {start}", "ud2", stack = in(reg) stack, start = sym start, options(noreturn))
    }
}

extern "C" fn start() -> ! {
    crate::start()
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
    // SAFETY: there is one thread, and it will do nothing else any more.
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

/// Random bytes from the processor. `false` where it has none, or fails to give them.
pub fn entropy(buf: &mut [u8]) -> bool {
    let Some(source) = x86_64::instructions::random::RdRand::new() else { return false };
    buf.chunks_mut(8).all(|chunk| {
        let Some(random) = (0..16).find_map(|_| source.get_u64()) else { return false };
        chunk.copy_from_slice(&random.to_le_bytes()[..chunk.len()]);
        true
    })
}
