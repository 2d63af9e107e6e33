//! The processors beside the one that boots. They are started all at once, without a table that names them: whoever comes
//! draws a number. One after the other they come through the stack that the first one has left.

use super::{apic, traps};
use crate::{clock, smp, space};
use core::arch::{asm, global_asm};
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use wayfare_unikernel_abi::PAGE;
use x86_64::instructions::tlb;
use x86_64::registers::control::Cr3;

/// Where they begin: in real mode, so below 1 MiB, at a page's beginning.
const BEGIN: u64 = 0x8000;
/// Processors may need so long to hear of the start, nanoseconds, after which it is said again. Between their reset and that
/// the clock is set: those that need more than this takes (10 ms, says the specification of 1997) lack what is asked of
/// processors here.
const START: u64 = 200_000;

global_asm!(
    r#"
    .section .boot.text, "ax"
    .code16
    others_begin:
        cli
        cld
        movw %cs, %ax
        movw %ax, %ds
        lgdtl others_gdt - others_begin
        movl %cr0, %eax
        orl $1, %eax
        movl %eax, %cr0
        ljmpl $16, $others_32
    others_gdt:
        .word 31
        .long boot_gdt
    others_end:

    .code32
    others_32:
        movw $24, %ax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        # From here on as the first one did, which has left its tables.
        movl %cr4, %eax
        orl $((1 << 5) | (1 << 9) | (1 << 10)), %eax
        movl %eax, %cr4
        movl $boot_pml4, %eax
        movl %eax, %cr3
        movl $0xC0000080, %ecx
        rdmsr
        orl $((1 << 8) | (1 << 11)), %eax
        wrmsr
        # As after a reset, but with caches
        movl $((1 << 31) | (1 << 16) | (1 << 5) | (1 << 4) | (1 << 1) | 1), %eax
        movl %eax, %cr0
        ljmpl $8, $others_64
    .code64
    others_64:
        xorl %eax, %eax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        movw %ax, %fs
        movw %ax, %gs
    2:  movl $1, %eax
        xchgl %eax, others_turn
        testl %eax, %eax
        jz 3f
        pause
        jmp 2b
    3:  movq {top}, %rax
        movq %rax, %cr3
        movq $boot_stack_end, %rsp
        xorl %ebp, %ebp
        call {come}
        testq %rax, %rax
        jz 4f
        movq %rax, %rsp
        movl $0, others_turn
        call {begin}
    4:  movl $0, others_turn
    5:  cli
        hlt
        jmp 5b

    .section .bss
    .balign 4
    others_turn: .skip 4

    .text
    "#,
    top = sym TOP,
    come = sym come,
    begin = sym begin,
    options(att_syntax),
);

unsafe extern "C" {
    static others_begin: u8;
    static others_end: u8;
}

/// There is a place for them to begin.
static IS_PREPARED: AtomicBool = AtomicBool::new(false);
/// The highest table.
static TOP: AtomicU64 = AtomicU64::new(0);

/// By processor: its number to the interrupt controllers.
static NUMBERS: [AtomicU32; smp::MOST] = [const { AtomicU32::new(0) }; smp::MOST];

/// Whether they can begin in a range of memory.
pub fn fit(memory: Range<u64>) -> bool {
    memory.contains(&BEGIN) && memory.contains(&(BEGIN + PAGE - 1))
}

/// Puts there what they begin with. Whatever the boot loader had there was read.
///
/// Runs on the boot tables.
pub fn prepare() {
    let (from, to) = (&raw const others_begin, &raw const others_end);
    // SAFETY: it is memory that is not given out, and far less than a page.
    unsafe { core::ptr::copy_nonoverlapping(from, BEGIN as *mut u8, to as usize - from as usize) };
    IS_PREPARED.store(true, Ordering::Relaxed);
}

/// Goes over to the first processor's own stack, has the others come, and lets the first thread run.
pub fn run() -> ! {
    smp::first_stack();
    NUMBERS[0].store(apic::number(), Ordering::Relaxed);
    TOP.store(Cr3::read_raw().0.start_address().as_u64(), Ordering::Relaxed);
    // SAFETY: of the stack that is left nothing is needed any more.
    unsafe {
        asm!("mov rsp, {}", "xor ebp, ebp", "call {}", "ud2", in(reg) smp::stack(0), sym start, options(noreturn));
    }
}

extern "C" fn start() -> ! {
    if IS_PREPARED.load(Ordering::Relaxed) {
        apic::start_others(BEGIN);
        wait_until(clock::nanos() + START);
        apic::start_others(BEGIN);
    }
    traps::run()
}

fn wait_until(nanos: u64) {
    while clock::nanos() < nanos {
        core::hint::spin_loop();
    }
}

/// One has come, and waits until it may enter the kernel. Gives its stack there; 0 if it is one too many.
extern "C" fn come() -> u64 {
    smp::lock();
    // Whatever it has kept since it knows the tables.
    tlb::flush_all();
    let room = if smp::has_room() { space::stack(smp::STACK) } else { None };
    match room {
        Some(stack) => {
            let number = smp::join();
            smp::set_stack(number, stack);
            NUMBERS[number].store(apic::number(), Ordering::Relaxed);
            stack
        }
        None => {
            smp::unlock();
            0
        }
    }
}

/// It is on its own stack, in the kernel.
extern "C" fn begin() -> ! {
    traps::init();
    apic::init_own();
    traps::run()
}

/// Has a processor come into the kernel.
pub fn call_in(processor: usize) {
    apic::call_in(NUMBERS[processor].load(Ordering::Relaxed));
}

/// How often all were to forget what they know of the tables, and how often each has.
static FORGOTTEN: AtomicU64 = AtomicU64::new(0);
static SEEN: [AtomicU64; smp::MOST] = [const { AtomicU64::new(0) }; smp::MOST];

/// This processor has come in: what it knows of the tables may be old.
pub fn catch_up() {
    let all = FORGOTTEN.load(Ordering::Relaxed);
    if SEEN[smp::this()].swap(all, Ordering::Relaxed) != all {
        tlb::flush_all();
    }
}

/// The others forget what they know of the tables: those who run threads now, by coming in; all others, before they do
/// anything with the node's memory. Comes back when nobody uses what he knew before.
pub fn forget() {
    if smp::is_alone() {
        return;
    }
    let all = FORGOTTEN.load(Ordering::Relaxed) + 1;
    FORGOTTEN.store(all, Ordering::SeqCst);
    SEEN[smp::this()].store(all, Ordering::Relaxed);
    let outside = || smp::others().filter(|other| smp::is_outside(*other));
    outside().for_each(smp::call_in);
    while outside().next().is_some() {
        core::hint::spin_loop();
    }
}
