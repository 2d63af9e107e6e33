//! RISC-V, 64 bits: a machine with firmware below the kernel (SBI) that hands over a device tree, and a PLIC, as `qemu -M
//! virt` with OpenSBI is one.

mod boot;
pub mod clock;
mod others;
pub mod paging;
mod plic;
mod traps;

pub use others::{call_in, catch_up};
pub use plic::unmask;
pub use traps::Context;

use crate::tables::{self, Part};
use crate::tree::Tree;
use crate::{Found, ecam};
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

/// What the firmware has said ends with this: on a board the console is shared with it.
const START_OF_TEXT: u8 = 2;
/// And what the kernel has said, with this: the firmware may speak again.
const END_OF_TEXT: u8 = 3;

// The serial port's registers.
const DATA: u64 = 0;
const STATE: u64 = 5;
const READY: u8 = 1 << 5;

/// Where the serial port's registers are, if there is one that this kernel knows. Else the firmware writes.
static SERIAL: AtomicU64 = AtomicU64::new(0);
/// Where an emulator's register is that ends it, if there is one.
static EXIT: AtomicU64 = AtomicU64::new(0);

extern "C" fn main(hart: u64, told: u64) -> ! {
    let told = if told.is_multiple_of(8) { told } else { 0 };
    // SAFETY: the firmware leaves the tree's address there. Without paging all is as it lies.
    let Some(tree) = (unsafe { Tree::at(told) }) else { panic!("there is no device tree") };
    let serial = registers(&tree, &["ns16550a"], &SERIAL);
    write(&[START_OF_TEXT]);
    let exit = registers(&tree, &["sifive,test0", "sifive,test1"], &EXIT);
    let [lines, enabled, taken] = plic::init(&tree, hart);
    let mut found = Found::new();
    tree.command_line(&mut found);
    tree.each("virtio,mmio", &mut |node| {
        let (Some(registers), Some(line)) = (node.registers(0), node.number("interrupts", 0)) else { return };
        found.add_device(registers.start, registers.end - registers.start, line as usize);
    });
    ecam::find(&tree, u64::MAX, |[line, ..]| Some(line as usize), &mut found);
    let measured = clock::init(&tree);
    others::find(&tree, hart);
    let [text, rodata, data, payload, report] = tables::own_parts();
    // They follow each other. With the first frame that is taken the device tree may be gone.
    let memory = tree.give_out(text.from..report.to);
    let [serial, exit, lines, enabled, taken] = [serial, exit, lines, enabled, taken].map(Part::registers);
    paging::init(&[text, rodata, data, payload, report, serial, exit, lines, enabled, taken], memory.all());
    crate::begin(&found, &measured);
    others::run()
}

/// Finds a device of which one register is a byte, and all follow each other; notes where it is. Gives its registers.
fn registers(tree: &Tree, compatible: &[&str], place: &AtomicU64) -> Range<u64> {
    let is_plain = |node: &crate::tree::Node| node.number("reg-shift", 0).unwrap_or(0) == 0;
    let Some(registers) = tree.first(compatible).filter(is_plain).and_then(|node| node.registers(0)) else {
        return 0..0;
    };
    place.store(registers.start, Ordering::Relaxed);
    registers
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
    let serial = SERIAL.load(Ordering::Relaxed);
    for byte in bytes {
        if serial == 0 {
            ask_to_write(*byte);
            continue;
        }
        // SAFETY: its registers, mapped for the kernel alone.
        unsafe {
            while ((serial + STATE) as *const u8).read_volatile() & READY == 0 {}
            ((serial + DATA) as *mut u8).write_volatile(*byte);
        }
    }
}

/// Lets the firmware write: older ones know only the older way.
fn ask_to_write(byte: u8) {
    if sbi_rt::console_write_byte(byte).is_err() {
        #[expect(deprecated)]
        sbi_rt::legacy::console_putchar(byte.into());
    }
}

/// There is no lock that keeps a panic from being told.
pub fn unlock_console() {}

/// What was written there is in memory when the machine is reset: there is no instruction for it that every processor has, and
/// caches that forget what they have are the firmware's to write back.
pub fn write_back(_bytes: &[u8]) {}

/// Resets the machine. Firmware that cannot leaves it standing still.
pub fn reset() -> ! {
    write(&[END_OF_TEXT]);
    sbi_rt::system_reset(sbi_rt::ColdReboot, sbi_rt::SystemFailure);
    stand_still()
}

/// Ends the machine. Under QEMU its exit status is `2 * code + 1`; elsewhere it is off.
pub fn exit(code: u8) -> ! {
    const FAILED: u32 = 0x3333;
    let exit = EXIT.load(Ordering::Relaxed);
    if exit != 0 {
        // SAFETY: its register, mapped for the kernel alone.
        unsafe { (exit as *mut u32).write_volatile((u32::from(code) * 2 + 1) << 16 | FAILED) };
    }
    sbi_rt::system_reset(sbi_rt::Shutdown, sbi_rt::NoReason);
    stand_still()
}

/// This processor does nothing any more: in the kernel it is not interrupted.
pub fn stand_still() -> ! {
    loop {
        riscv::asm::wfi();
    }
}
