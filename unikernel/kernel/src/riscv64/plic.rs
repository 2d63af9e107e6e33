//! Interrupts of devices: the platform-level interrupt controller, of which each line is a source.
//!
//! A line that has interrupted does so no more until the controller is told that it was dealt with. That is told when
//! somebody listens to it again.

use crate::tree::{Node, Tree};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use riscv::register::sie;
use wayfare_unikernel_abi::PAGE;

/// Where its registers are, if there is one: those of each line, and those of this processor.
static LINES: AtomicU64 = AtomicU64::new(0);
static ENABLED: AtomicU64 = AtomicU64::new(0);
static TAKEN: AtomicU64 = AtomicU64::new(0);
/// Lines that there are; the first one is 1.
static LINES_LEN: AtomicUsize = AtomicUsize::new(0);

/// As a processor's own controller numbers what comes from devices, for the mode that this kernel is in.
const EXTERNAL: u32 = 9;

/// Finds it: no device interrupts yet. Gives the pages that its registers are in.
pub fn init(tree: &Tree, hart: u64) -> [Range<u64>; 3] {
    const NONE: [Range<u64>; 3] = [const { 0..0 }; 3];
    let Some(plic) = tree.first(&["riscv,plic0", "sifive,plic-1.0.0"]) else { return NONE };
    let (Some(registers), Some(context)) = (plic.registers(0), context(tree, plic, hart)) else { return NONE };
    let lines = plic.number("riscv,ndev", 0).unwrap_or(0).min(1023);
    let enabled = registers.start + 0x2000 + context * 0x80;
    let taken = registers.start + 0x20_0000 + context * 0x1000;
    LINES.store(registers.start, Ordering::Relaxed);
    ENABLED.store(enabled, Ordering::Relaxed);
    TAKEN.store(taken, Ordering::Relaxed);
    LINES_LEN.store(lines as usize, Ordering::Relaxed);
    // SAFETY: its registers, which are as they lie before there is paging: which lines may interrupt, and from which
    // priority on. Interrupts come only when a thread runs.
    unsafe {
        (0..=u64::from(lines / 32)).for_each(|word| ((enabled + 4 * word) as *mut u32).write_volatile(0));
        (taken as *mut u32).write_volatile(0);
        sie::set_sext();
    }
    [registers.start, enabled & !(PAGE - 1), taken].map(|from| from..from + PAGE)
}

/// The number of this processor, in this mode, to the controller.
fn context(tree: &Tree, plic: Node, hart: u64) -> Option<u64> {
    let mut processors = tree.find("/cpus")?.children();
    let processor = processors.find(|of| of.registers(0).is_some_and(|number| number.start == hart))?;
    let own = processor.children().find_map(|of| of.text("compatible")?.eq("riscv,cpu-intc").then_some(of))?;
    let handle = own.number("phandle", 0)?;
    let told =
        |index| Some((plic.number("interrupts-extended", index)?, plic.number("interrupts-extended", index + 1)?));
    let number = (0..).map_while(|context| told(2 * context)).position(|of| of == (handle, EXTERNAL))?;
    Some(number as u64)
}

/// Lets a line interrupt: as long as its device asks for it.
pub fn unmask(line: usize) {
    if line == 0 || line > LINES_LEN.load(Ordering::Relaxed) {
        return;
    }
    let priority = (LINES.load(Ordering::Relaxed) + 4 * line as u64) as *mut u32;
    let enabled = (ENABLED.load(Ordering::Relaxed) + 4 * (line as u64 / 32)) as *mut u32;
    // SAFETY: its registers, mapped for the kernel alone, and such a line is there.
    unsafe {
        priority.write_volatile(1);
        enabled.write_volatile(enabled.read_volatile() | 1 << (line % 32));
        done().write_volatile(line as u32);
    }
}

/// The register that tells which line interrupts, and is told that it was dealt with.
fn done() -> *mut u32 {
    (TAKEN.load(Ordering::Relaxed) + 4) as *mut u32
}

/// Takes an interrupt, if one is there: its line, which is masked now.
pub fn take() -> Option<usize> {
    // SAFETY: as above; one has come, so there is a controller.
    let line = unsafe { done().read_volatile() };
    (line != 0).then_some(line as usize)
}
