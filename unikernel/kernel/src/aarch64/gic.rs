//! Interrupts: ARM's controller of the second kind, or of the third, whose part for the processor is in the processor.

use crate::smp;
use crate::tree::Tree;
use aarch64_cpu::registers::{MPIDR_EL1, Readable};
use core::arch::asm;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use spin::Once;

/// The virtual timer's line, on every board that keeps to ARM's rules.
pub const TIMER: u32 = 27;
/// That of a processor's being told by another one to come into the kernel.
pub const CALLED_IN: u32 = 0;
/// Lines from here on are interrupts of no device.
const NONE: u32 = 1020;
/// The line in what is taken.
const NUMBER: u32 = 0x3ff;
/// Devices' lines come after the processor's own.
const OWN: usize = 32;

// The distributor's registers.
const CONTROL: u64 = 0x000;
const TYPE: u64 = 0x004;
const GROUP: u64 = 0x080;
const ENABLE: u64 = 0x100;
const DISABLE: u64 = 0x180;
const PRIORITY: u64 = 0x400;
const TARGET: u64 = 0x800;
const KIND: u64 = 0xc00;
const CALL: u64 = 0xf00;
const ROUTE: u64 = 0x6000;
/// Of the third kind: it knows processors by affinity, and what is no secure interrupt is on.
const BY_AFFINITY: u32 = 1 << 4;
const GROUP_1: u32 = 1 << 1;
const BUSY: u32 = 1 << 31;

// The registers for the processor, of the second kind.
const MASK: u64 = 0x004;
const ACKNOWLEDGE: u64 = 0x00c;
const END: u64 = 0x010;

// The registers beside the processor, of the third kind.
const REDISTRIBUTOR_TYPE: u64 = 0x008;
const REDISTRIBUTOR_WAKE: u64 = 0x014;
const SLEEPS: u32 = 1 << 1;
const ASLEEP: u32 = 1 << 2;
const LAST: u64 = 1 << 4;
const TWICE: u64 = 1 << 1;
/// Bytes of those of one processor, at most.
const OF_EACH: u64 = 4 * LINES;
/// Where those of a processor are that are like the distributor's.
const LINES: u64 = 0x1_0000;

/// All have the same one: the kernel is not interrupted by another.
const MIDDLE: u8 = 0xa0;

struct Gic {
    distributor: u64,
    /// Of the second kind: the registers for the processor.
    processor: Option<u64>,
    /// Of the third: the registers beside the processors.
    beside: Range<u64>,
}

static GIC: Once<Gic> = Once::new();

/// By processor, what it is to the controller: of the second kind, its bit; of the third, its affinity.
static KNOWN_AS: [AtomicU64; smp::MOST] = [const { AtomicU64::new(0) }; smp::MOST];

/// Which processor this is.
pub fn affinity() -> u64 {
    MPIDR_EL1.get() & 0xff_00ff_ffff
}

fn read(at: u64) -> u32 {
    // SAFETY: a register of the controller, mapped for the kernel alone.
    unsafe { (at as *const u32).read_volatile() }
}

fn write(at: u64, value: u32) {
    // SAFETY: likewise.
    unsafe { (at as *mut u32).write_volatile(value) };
}

/// Finds the controller and sets it up: no device interrupts yet. Gives the registers that stay in use, for so many processors.
///
/// Runs on the boot tables, where all registers are as they lie.
pub fn init(tree: &Tree, processors: usize) -> [Range<u64>; 2] {
    let second = tree.first(&["arm,cortex-a15-gic", "arm,gic-400", "arm,cortex-a7-gic"]);
    let third = tree.first(&["arm,gic-v3"]);
    let node = second.or(third).expect("the device tree tells of no interrupt controller that is known");
    let registers = |index| node.registers(index).expect("an interrupt controller has registers");
    let (distributor, other) = (registers(0), registers(1));
    let gic = GIC.call_once(|| Gic {
        distributor: distributor.start,
        processor: second.map(|_| other.start),
        beside: other.clone(),
    });
    let lines = (read(gic.distributor + TYPE) as usize & 31) * 32 + 32;
    for word in (0..lines as u64 / 32).map(|word| word * 4) {
        write(gic.distributor + DISABLE + word, !0);
        if gic.processor.is_none() {
            write(gic.distributor + GROUP + word, !0);
        }
    }
    match gic.processor {
        Some(_) => write(gic.distributor + CONTROL, 1),
        None => {
            let settled = || while read(gic.distributor + CONTROL) & BUSY != 0 {};
            write(gic.distributor + CONTROL, BY_AFFINITY);
            settled();
            write(gic.distributor + CONTROL, BY_AFFINITY | GROUP_1);
            settled();
        }
    }
    init_own();
    let most = processors as u64 * OF_EACH;
    match gic.processor {
        Some(_) => [distributor, other],
        // Nothing more is asked of what is beside the processor, if there is one only.
        None if processors == 1 => [distributor, 0..0],
        None => [distributor, other.start..other.end.min(other.start + most)],
    }
}

/// Sets up this processor's own.
pub fn init_own() {
    let gic = gic();
    let (own, known_as) = match gic.processor {
        Some(processor) => {
            write(processor + MASK, 0xff);
            write(processor, 1);
            // The first byte says which one this processor is.
            (gic.distributor, u64::from(read(gic.distributor + TARGET) & 0xff))
        }
        None => (gic.init_third() + LINES, affinity()),
    };
    KNOWN_AS[smp::this()].store(known_as, Ordering::Relaxed);
    for line in [TIMER, CALLED_IN] {
        set_priority(own, line as usize);
        write(own + ENABLE, 1 << line);
    }
}

/// Has a processor come into the kernel.
pub fn call_in(processor: usize) {
    let to = KNOWN_AS[processor].load(Ordering::Relaxed);
    // SAFETY: a barrier. What was done before is seen by whoever comes.
    unsafe { asm!("dsb ishst", options(nostack, preserves_flags)) };
    match gic().processor {
        Some(_) => write(gic().distributor + CALL, (to as u32) << 16 | CALLED_IN),
        None => {
            // Which of sixteen beside each other, and which sixteen.
            let (within, row) = (1u64 << (to & 0xf), to >> 4 & 0xf);
            let level = |shift: u32| to >> shift & 0xff;
            let all =
                within | level(8) << 16 | level(16) << 32 | row << 44 | level(32) << 48 | u64::from(CALLED_IN) << 24;
            // SAFETY: the processor's register of a controller of this kind.
            unsafe { asm!("msr S3_0_C12_C11_5, {}", "isb", in(reg) all, options(nostack, preserves_flags)) };
        }
    }
}

impl Gic {
    /// Gives where the registers beside this processor are.
    fn init_third(&self) -> u64 {
        let all = &self.beside;
        let mut own = all.start;
        loop {
            let kind = read(own + REDISTRIBUTOR_TYPE);
            // Here the highest part comes directly before the others.
            let affinity = affinity() >> 8 & 0xff00_0000 | affinity() & 0xff_ffff;
            if u64::from(read(own + REDISTRIBUTOR_TYPE + 4)) == affinity {
                break;
            }
            own += if u64::from(kind) & TWICE != 0 { 4 * LINES } else { 2 * LINES };
            let ends = u64::from(kind) & LAST != 0 || own >= all.end;
            assert!(!ends, "the interrupt controller does not know this processor");
        }
        let wake = read(own + REDISTRIBUTOR_WAKE) & !SLEEPS;
        write(own + REDISTRIBUTOR_WAKE, wake);
        while read(own + REDISTRIBUTOR_WAKE) & ASLEEP != 0 {}
        write(own + LINES + GROUP, !0);
        write(own + LINES + DISABLE, !0);
        // SAFETY: the processor's registers of a controller of this kind: they are to be used, let everything through, and
        // are on.
        unsafe {
            asm!(
                "mrs {0}, S3_0_C12_C12_5", "orr {0}, {0}, #1", "msr S3_0_C12_C12_5, {0}", "isb",
                "msr S3_0_C4_C6_0, {1}", "msr S3_0_C12_C12_7, {2}", "isb",
                out(reg) _, in(reg) 0xffu64, in(reg) 1u64, options(nostack)
            );
        }
        own
    }
}

fn gic() -> &'static Gic {
    GIC.get().expect("interrupts are set up")
}

/// The interrupt that there is, which is then taken, and what [`end`] is to be told; `None` if it is there no more.
pub fn take() -> Option<(u32, u32)> {
    let taken = match gic().processor {
        // With the processor that has called.
        Some(processor) => read(processor + ACKNOWLEDGE),
        None => {
            let number: u64;
            // SAFETY: as above. Devices are asked only when it is known that they want something.
            unsafe { asm!("mrs {}, S3_0_C12_C12_0", "dsb sy", out(reg) number, options(nostack)) };
            number as u32
        }
    };
    let number = taken & NUMBER;
    (number < NONE).then_some((number, taken))
}

/// It was taken.
pub fn end(taken: u32) {
    match gic().processor {
        Some(processor) => write(processor + END, taken),
        // SAFETY: as above.
        None => unsafe { asm!("msr S3_0_C12_C12_1, {}", "isb", in(reg) u64::from(taken), options(nostack)) },
    }
}

fn set_priority(registers: u64, line: usize) {
    // SAFETY: a byte for each line.
    unsafe { ((registers + PRIORITY + line as u64) as *mut u8).write_volatile(MIDDLE) };
}

fn known(line: usize) -> bool {
    (OWN..NONE as usize).contains(&line)
}

/// Says of a line that devices only pulse it.
pub fn set_pulsed(line: usize) {
    if known(line) {
        let at = gic().distributor + KIND + line as u64 / 16 * 4;
        write(at, read(at) | 2 << (line % 16 * 2));
    }
}

/// No interrupts of a line.
pub fn mask(line: usize) {
    if known(line) {
        write(gic().distributor + DISABLE + line as u64 / 32 * 4, 1 << (line % 32));
    }
}

/// Interrupts of a line, for this processor.
pub fn unmask(line: usize) {
    if !known(line) {
        return;
    }
    let gic = gic();
    set_priority(gic.distributor, line);
    // SAFETY: a byte, or eight, for each line. The first byte says which one this processor is.
    unsafe {
        match gic.processor {
            Some(_) => {
                let this = ((gic.distributor + TARGET) as *const u8).read_volatile();
                ((gic.distributor + TARGET + line as u64) as *mut u8).write_volatile(this);
            }
            None => ((gic.distributor + ROUTE + line as u64 * 8) as *mut u64).write_volatile(affinity()),
        }
    }
    write(gic.distributor + ENABLE + line as u64 / 32 * 4, 1 << (line % 32));
}
