//! The processors (harts) beside the one that boots: the firmware starts them, and does to them what cannot be done from
//! here: it interrupts them, and has them forget what they know of page tables and of code, wherever they are.

use super::traps;
use super::traps::{FLOATS_CLEAN, NODE_MEMORY};
use crate::tree::{Node, Tree};
use crate::{smp, space};
use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use riscv::register::{satp, sie};
use sbi_rt::HartMask;

global_asm!(
    r#"
    .section .boot.text, "ax"
    # The processor's number in a0. What else it is told may be what the first one was told (see `boot`): where its page tables
    # and its stack are said to be, it looks up by its number.
    .global others_begin
    others_begin:
        csrw sie, zero
        csrci sstatus, 2
        csrw sscratch, zero
        lla t0, {found}
        lla a1, {starts}
        li t1, {most}
    2:  addi t1, t1, -1
        beqz t1, 3f
        addi t0, t0, 8
        addi a1, a1, {start}
        ld t2, 0(t0)
        bne t2, a0, 2b
        ld t2, 8(a1)
        bnez t2, 4f
    # It has not been asked to come.
    3:  wfi
        j others_begin
    4:
        lla t0, trap
        csrw stvec, t0
        li t0, {status}
        csrs sstatus, t0
        ld t0, 0(a1)
        ld sp, 8(a1)
        sfence.vma
        csrw satp, t0
        sfence.vma
        fence.i
        mv fp, zero
        call {begin}
        unimp

    .text
    "#,
    status = const NODE_MEMORY | FLOATS_CLEAN,
    begin = sym begin,
    found = sym FOUND,
    starts = sym STARTS,
    start = const size_of::<Start>(),
    most = const smp::MOST,
);

unsafe extern "C" {
    static others_begin: u8;
}

/// What a processor needs before it has page tables.
#[repr(C)]
struct Start {
    tables: AtomicU64,
    stack: AtomicU64,
}

/// Those that may be started, by the order in which the device tree has them, and how many.
static FOUND: [AtomicUsize; smp::MOST] = [const { AtomicUsize::new(0) }; smp::MOST];
static FOUND_LEN: AtomicUsize = AtomicUsize::new(0);
static STARTS: [Start; smp::MOST] =
    [const { Start { tables: AtomicU64::new(0), stack: AtomicU64::new(0) } }; smp::MOST];

/// By processor: its number to the firmware.
static HARTS: [AtomicUsize; smp::MOST] = [const { AtomicUsize::new(0) }; smp::MOST];

/// Notes which processors there are beside this one.
pub fn find(tree: &Tree, hart: u64) {
    HARTS[0].store(hart as usize, Ordering::Relaxed);
    let is_processor = |node: &Node| node.text("device_type").is_some_and(|kind| kind == "cpu");
    let is_usable = |node: &Node| {
        node.text("status").is_none_or(|status| status == "okay") && node.text("mmu-type") != Some("riscv,none")
    };
    let all = tree.find("/cpus").into_iter().flat_map(Node::children).filter(is_processor).filter(is_usable);
    let numbers = all.filter_map(|node| Some(node.registers(0)?.start)).filter(|number| *number != hart);
    // One place is this processor's.
    for (place, number) in FOUND[1..].iter().zip(numbers) {
        place.store(number as usize, Ordering::Relaxed);
        FOUND_LEN.fetch_add(1, Ordering::Relaxed);
    }
}

/// Goes over to the first processor's own stack, has the others come, and lets the first thread run.
pub fn run() -> ! {
    smp::first_stack();
    // SAFETY: of the stack that is left nothing is needed any more.
    unsafe { asm!("mv sp, {}", "mv fp, zero", "call {}", in(reg) smp::stack(0), sym start, options(noreturn)) }
}

extern "C" fn start() -> ! {
    let len = FOUND_LEN.load(Ordering::Relaxed);
    let can = len > 0
        && sbi_rt::probe_extension(sbi_rt::Hsm).is_available()
        && sbi_rt::probe_extension(sbi_rt::Fence).is_available()
        && sbi_rt::probe_extension(sbi_rt::Ipi).is_available();
    if can {
        CAN_BE_CALLED.store(true, Ordering::Relaxed);
        for (hart, start) in FOUND[1..=len].iter().zip(&STARTS[1..]) {
            let Some(stack) = space::stack(smp::STACK) else { break };
            start.tables.store(satp::read().bits() as u64, Ordering::Relaxed);
            start.stack.store(stack, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            // One that does not come is done without.
            sbi_rt::hart_start(
                hart.load(Ordering::Relaxed),
                (&raw const others_begin) as usize,
                (&raw const *start) as usize,
            );
        }
    }
    enter()
}

/// One has come, with its tables and on its stack.
extern "C" fn begin(hart: usize, start: &'static Start) -> ! {
    smp::lock();
    let number = smp::join();
    HARTS[number].store(hart, Ordering::Relaxed);
    smp::set_stack(number, start.stack.load(Ordering::Relaxed));
    riscv::asm::sfence_vma_all();
    super::clock::init_own();
    enter()
}

/// There are others that may call this one in.
static CAN_BE_CALLED: AtomicBool = AtomicBool::new(false);

fn enter() -> ! {
    if CAN_BE_CALLED.load(Ordering::Relaxed) {
        // SAFETY: interrupts come only when a thread runs, or none.
        unsafe { sie::set_ssoft() };
    }
    traps::run()
}

fn mask(processor: usize) -> HartMask {
    HartMask::from_mask_base(1, HARTS[processor].load(Ordering::Relaxed))
}

/// Has a processor come into the kernel.
pub fn call_in(processor: usize) {
    let _ = sbi_rt::send_ipi(mask(processor));
}

/// This processor has come in: the firmware has told it whatever there was.
pub fn catch_up() {}

/// The others forget what they know of the tables. Comes back when they have.
pub fn forget() {
    if !smp::is_alone() {
        // Of all addresses.
        sbi_rt::remote_sfence_vma(HartMask::all(), 0, 0);
    }
}

/// The others see code that was written.
pub fn see_code() {
    if !smp::is_alone() {
        sbi_rt::remote_fence_i(HartMask::all());
    }
}
