//! The processors beside the one that boots. The firmware starts them (PSCI), and the device tree names them. What they know
//! of page tables and of code they forget without being interrupted: processors of this kind tell each other.

use super::paging::{MAIR, SCTLR_STRICT};
use super::{ask, clock, gic, traps};
use crate::tree::{Node, Tree};
use crate::{smp, space};
use aarch64_cpu::registers::{Readable, TCR_EL1, TTBR0_EL1};
use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub use gic::call_in;

/// PSCI: turns a processor on.
const ON: u64 = 0xc400_0003;

global_asm!(
    r#"
    .section .boot.text, "ax"
    .global others_begin
    others_begin:
        mov x19, x0
        b any_start
    # Privileged, and without paging
    .global others_go_on
    others_go_on:
        ldp x0, x1, [x19]
        ldr x2, [x19, #16]
        msr ttbr0_el1, x0
        msr tcr_el1, x1
        ldr x0, ={mair}
        msr mair_el1, x0
        tlbi vmalle1
        ic iallu
        dsb nsh
        isb
        ldr x0, ={sctlr}
        msr sctlr_el1, x0
        isb
        # Vector registers
        mov x0, #(3 << 20)
        msr cpacr_el1, x0
        isb
        mov sp, x2
        mov x29, xzr
        mov x30, xzr
        mov x0, x19
        bl {begin}
        brk #0
        .ltorg

    .text
    "#,
    mair = const MAIR,
    sctlr = const SCTLR_STRICT,
    begin = sym begin,
);

unsafe extern "C" {
    static others_begin: u8;
}

/// What a processor needs before it has page tables.
#[repr(C, align(64))]
struct Start {
    tables: AtomicU64,
    control: AtomicU64,
    stack: AtomicU64,
}

/// Those that may be started, by their affinities, and how many.
static FOUND: [AtomicU64; smp::MOST] = [const { AtomicU64::new(0) }; smp::MOST];
static FOUND_LEN: AtomicUsize = AtomicUsize::new(0);
static STARTS: [Start; smp::MOST] =
    [const { Start { tables: AtomicU64::new(0), control: AtomicU64::new(0), stack: AtomicU64::new(0) } }; smp::MOST];

/// Notes which processors there are beside this one. Gives how many there are with it.
pub fn find(tree: &Tree) -> usize {
    let all = tree.find("/cpus");
    let is_startable = |node: &Node| node.text("enable-method").is_some_and(|method| method == "psci");
    let everywhere = all.as_ref().is_some_and(is_startable);
    let is_processor = |node: &Node| node.text("device_type").is_some_and(|kind| kind == "cpu");
    let is_usable =
        |node: &Node| node.text("status").is_none_or(|status| status == "okay") && (everywhere || is_startable(node));
    let numbers = all.into_iter().flat_map(Node::children).filter(is_processor).filter(is_usable);
    let numbers = numbers.filter_map(|node| Some(node.registers(0)?.start)).filter(|number| *number != gic::affinity());
    // One place is this processor's.
    for (place, number) in FOUND[1..].iter().zip(numbers) {
        place.store(number, Ordering::Relaxed);
        FOUND_LEN.fetch_add(1, Ordering::Relaxed);
    }
    FOUND_LEN.load(Ordering::Relaxed) + 1
}

/// Goes over to the first processor's own stack, has the others come, and lets the first thread run.
pub fn run() -> ! {
    smp::first_stack();
    // SAFETY: of the stack that is left nothing is needed any more.
    unsafe { asm!("mov sp, {}", "mov x29, xzr", "bl {}", in(reg) smp::stack(0), sym start, options(noreturn)) }
}

extern "C" fn start() -> ! {
    let len = FOUND_LEN.load(Ordering::Relaxed);
    for (number, start) in FOUND[1..=len].iter().zip(&STARTS[1..]) {
        let Some(stack) = space::stack(smp::STACK) else { break };
        start.tables.store(TTBR0_EL1.get(), Ordering::Relaxed);
        start.control.store(TCR_EL1.get(), Ordering::Relaxed);
        start.stack.store(stack, Ordering::Relaxed);
        let place = (&raw const *start) as u64;
        // SAFETY: writes back a line of the cache, past which the processor reads it.
        unsafe { asm!("dc civac, {}", "dsb sy", in(reg) place, options(nostack, preserves_flags)) };
        // One that does not come is done without.
        let _ = ask(ON, [number.load(Ordering::Relaxed), (&raw const others_begin) as u64, place]);
    }
    traps::run()
}

/// One has come, with its tables and on its stack.
extern "C" fn begin(start: &'static Start) -> ! {
    smp::lock();
    let number = smp::join();
    smp::set_stack(number, start.stack.load(Ordering::Relaxed));
    traps::init();
    gic::init_own();
    clock::init_own();
    traps::run()
}

/// This processor has come in: it knows already whatever there was.
pub fn catch_up() {}
