//! AArch64: a machine that hands over a device tree, with a serial port that is known and a GIC, as `qemu -M virt` is one, and
//! the Raspberry Pi 4 from its firmware on.

mod boot;
pub mod clock;
mod gic;
mod others;
pub mod paging;
mod traps;

pub use gic::unmask;
pub use others::{call_in, catch_up};
pub use traps::Context;

use crate::tables::{self, Part};
use crate::tree::{Node, Tree};
use crate::{Found, ecam};
use aarch64_cpu::asm::wfi;
use aarch64_cpu::registers::{ID_AA64ISAR0_EL1, Readable};
use core::arch::asm;
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use wayfare_unikernel_abi::RANDOM;

/// Where QEMU puts the device tree if it takes the kernel for no Linux: at the beginning of its memory.
const TREE: u64 = 0x4000_0000;
/// So far all is as it lies on the boot tables.
const BOOT_END: u64 = 512 << 30;

// An interrupt is three numbers: whose it is, which, and how it is shown.
const SHARED: u32 = 0;
const FIRST_SHARED: usize = 32;
const PULSED: u32 = 0b0011;

/// A kind of serial port, by its registers.
struct Serial {
    compatible: &'static str,
    /// What it is doing, and the bit that says that it takes another byte if it is as said.
    state: u64,
    bit: u32,
    ready: bool,
    /// What switches it on, if that is left to the kernel.
    control: Option<(u64, u32)>,
}

/// ARM's, and the smaller one of two that a Raspberry Pi has. What is written to their first register they send.
const SERIALS: [Serial; 2] = [
    Serial { compatible: "arm,pl011", state: 0x18, bit: 1 << 5, ready: false, control: Some((0x30, 1 | 1 << 8)) },
    Serial { compatible: "brcm,bcm2835-aux-uart", state: 0x14, bit: 1 << 5, ready: true, control: None },
];

/// Where the serial port's registers are, if there is one, and of which kind it is.
static SERIAL: AtomicU64 = AtomicU64::new(0);
static KIND: AtomicUsize = AtomicUsize::new(0);

extern "C" fn main(told: u64) -> ! {
    let told = if told.is_multiple_of(8) && told < BOOT_END { told } else { 0 };
    // SAFETY: a boot loader leaves the tree's address there, or 0; at the other one is memory. On the boot tables all is as
    // it lies.
    let tree = unsafe { Tree::at(told).or_else(|| Tree::at(TREE)) };
    let Some(tree) = tree else { panic!("there is no device tree") };
    let serial = serial(&tree);
    POWER.store(power(&tree), Ordering::Relaxed);
    let count = others::find(&tree);
    let [distributor, interface] = gic::init(&tree, count);
    let mut found = Found::new();
    tree.command_line(&mut found);
    devices(&tree, &mut found);
    if ID_AA64ISAR0_EL1.get() >> 60 != 0 {
        found.features |= RANDOM;
    }
    let [text, rodata, data, payload, report] = tables::own_parts();
    // They follow each other.
    tree.give_out(text.from..report.to);
    let [serial, distributor, interface] = [serial, distributor, interface].map(Part::registers);
    paging::init(&[text, rodata, data, payload, report, serial, distributor, interface]);
    traps::init();
    crate::begin(&found, &clock::init());
    others::run()
}

/// Finds the serial port, which its firmware has set up. Gives its registers.
fn serial(tree: &Tree) -> Range<u64> {
    let known = |node: &Node| SERIALS.iter().any(|kind| node.is(kind.compatible));
    let port = tree.console().filter(known).or_else(|| tree.first(&SERIALS.each_ref().map(|kind| kind.compatible)));
    let Some((port, registers)) = port.and_then(|port| Some((port, port.registers(0)?))) else { return 0..0 };
    let number = SERIALS.iter().position(|kind| port.is(kind.compatible)).unwrap_or(0);
    if let Some((control, bits)) = SERIALS[number].control {
        let control = (registers.start + control) as *mut u32;
        // SAFETY: a register of it; on the boot tables it is as it lies.
        unsafe { control.write_volatile(control.read_volatile() | bits) };
    }
    KIND.store(number, Ordering::Relaxed);
    SERIAL.store(registers.start, Ordering::Relaxed);
    registers
}

/// The devices that the node knows what to do with.
fn devices(tree: &Tree, found: &mut Found) {
    tree.each("virtio,mmio", &mut |node| {
        let number = |index| node.number("interrupts", index);
        let (Some(registers), Some(SHARED), Some(line)) = (node.registers(0), number(0), number(1)) else { return };
        let line = line as usize + FIRST_SHARED;
        found.add_device(registers.start, registers.end - registers.start, line);
        if number(2).is_some_and(|how| how & PULSED != 0) {
            gic::set_pulsed(line);
        }
    });
    let line = |[kind, line, _]: [u32; 3]| (kind == SHARED).then_some(line as usize + FIRST_SHARED);
    ecam::find(tree, BOOT_END, line, found);
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
    let kind = &SERIALS[KIND.load(Ordering::Relaxed)];
    if serial == 0 {
        return;
    }
    for byte in bytes {
        // SAFETY: its registers, mapped for the kernel alone.
        unsafe {
            while (((serial + kind.state) as *const u32).read_volatile() & kind.bit != 0) != kind.ready {}
            (serial as *mut u32).write_volatile(u32::from(*byte));
        }
    }
}

/// There is no lock that keeps a panic from being told.
pub fn unlock_console() {}

/// How the firmware is asked to end the machine.
static POWER: AtomicU32 = AtomicU32::new(NOBODY);
const NOBODY: u32 = 0;
const HYPERVISOR: u32 = 1;
const MONITOR: u32 = 2;

fn power(tree: &Tree) -> u32 {
    match tree.first(&["arm,psci-1.0", "arm,psci-0.2"]).and_then(|node| node.text("method")) {
        Some("hvc") => HYPERVISOR,
        Some("smc") => MONITOR,
        _ => NOBODY,
    }
}

/// Asks the firmware for something.
fn ask(what: u64, [a, b, c]: [u64; 3]) -> Option<i64> {
    let answer: i64;
    // SAFETY: whoever asks knows what it does to the machine; it keeps no register below `x18`.
    unsafe {
        match POWER.load(Ordering::Relaxed) {
            HYPERVISOR => {
                asm!("hvc #0", inout("x0") what => answer, in("x1") a, in("x2") b, in("x3") c, clobber_abi("C"), options(nostack));
            }
            MONITOR => {
                asm!("smc #0", inout("x0") what => answer, in("x1") a, in("x2") b, in("x3") c, clobber_abi("C"), options(nostack));
            }
            _ => return None,
        }
    }
    Some(answer)
}

/// What was written there is in memory when the machine is reset, which may forget what is in caches.
pub fn write_back(bytes: &[u8]) {
    let caches: u64;
    // SAFETY: asks the processor what its caches are like.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) caches, options(nomem, nostack, preserves_flags)) };
    let line = 4usize << (caches >> 16 & 15);
    for at in (bytes.as_ptr().addr() & !(line - 1)..bytes.as_ptr().addr() + bytes.len()).step_by(line) {
        // SAFETY: a line of what is there.
        unsafe { asm!("dc cvac, {}", in(reg) at, options(nostack, preserves_flags)) };
    }
    // SAFETY: waits for that.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}

/// Resets the machine. Without firmware that does it, it stands still.
pub fn reset() -> ! {
    const RESET: u64 = 0x8400_0009;
    let _ = ask(RESET, [0; 3]);
    stand_still()
}

/// What was tried to end the machine. What is asked of nobody is an exception, and leads back to [`go_on_ending`].
static TRIED: AtomicU32 = AtomicU32::new(0);

/// Ends the machine. Under QEMU its exit status is `2 * code + 1`; elsewhere it is off.
pub fn exit(code: u8) -> ! {
    const EXIT: u64 = 0x20;
    const APPLICATION_EXIT: u64 = 0x20026;
    let block = [APPLICATION_EXIT, u64::from(code) * 2 + 1];
    TRIED.store(1, Ordering::Relaxed);
    // SAFETY: what an emulator (or a debugger) that listens is asked by; it reads the block.
    unsafe { asm!("hlt #0xf000", inout("x0") EXIT => _, in("x1") &raw const block, options(nostack)) };
    go_on_ending();
    stand_still()
}

/// Tries what is left if the machine was to end and did not; comes back if it was not to.
fn go_on_ending() {
    const OFF: u64 = 0x8400_0008;
    let tried = TRIED.load(Ordering::Relaxed);
    if tried == 0 {
        return;
    }
    TRIED.store(tried + 1, Ordering::Relaxed);
    if tried == 1 {
        let _ = ask(OFF, [0; 3]);
    }
    stand_still()
}

/// This processor does nothing any more: in the kernel it is not interrupted.
pub fn stand_still() -> ! {
    loop {
        wfi();
    }
}
