//! Exceptions: pages that are given out at the first touch, what compiled code means by its faults, and everything else,
//! which ends the machine.
//!
//! They are handled on a stack of their own, since the task's own may be what there is no more of. wasmtime's handler
//! jumps out of it when a trap is one of its code's, and may itself touch pages that are given out then: before it is
//! called, the next exception is given the other one of two stacks.

use crate::{frames, memory};
use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::tables::load_tss;
use x86_64::registers::control::Cr2;
use x86_64::registers::segmentation::{CS, Segment};
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::idt::InterruptDescriptorTable;
use x86_64::structures::tss::TaskStateSegment;

/// What the stubs below leave on the stack.
#[repr(C)]
struct Frame {
    registers: [u64; 15],
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    flags: u64,
    rsp: u64,
    ss: u64,
}

/// Of `registers`.
const RBP: usize = 8;

const DIVIDE: u64 = 0;
const INVALID: u64 = 6;
const PAGE: u64 = 14;
/// In a page fault's error: the page is there, and does not allow it.
const PRESENT: u64 = 1;

global_asm!(
    r#"
    .macro stub vector, has_error
    .balign 16
    .if \has_error == 0
        push 0
    .endif
        push \vector
        jmp trap
    .endm

    .text
    .balign 16
    .global trap_stubs
    trap_stubs:
    .irp vector, 0, 1, 2, 3, 4, 5, 6, 7
        stub \vector, 0
    .endr
    stub 8, 1
    stub 9, 0
    .irp vector, 10, 11, 12, 13, 14
        stub \vector, 1
    .endr
    .irp vector, 15, 16
        stub \vector, 0
    .endr
    stub 17, 1
    .irp vector, 18, 19, 20
        stub \vector, 0
    .endr
    .irp vector, 21
        stub \vector, 1
    .endr

    trap:
        push rax
        push rcx
        push rdx
        push rbx
        push rsi
        push rdi
        push rbp
        push r8
        push r9
        push r10
        push r11
        push r12
        push r13
        push r14
        push r15
        cld
        mov rdi, rsp
        call {handler}
        pop r15
        pop r14
        pop r13
        pop r12
        pop r11
        pop r10
        pop r9
        pop r8
        pop rbp
        pop rdi
        pop rsi
        pop rbx
        pop rdx
        pop rcx
        pop rax
        add rsp, 16
        iretq
    "#,
    handler = sym handle,
);

unsafe extern "C" {
    static trap_stubs: u8;
}

const STACK: usize = 32 << 10;
#[repr(C, align(4096))]
struct Stacks([[u8; STACK]; 2]);
static mut STACKS: Stacks = Stacks([[0; STACK]; 2]);

static mut TSS: TaskStateSegment = TaskStateSegment::new();
static SECOND: AtomicBool = AtomicBool::new(false);
static GDT: Once<GlobalDescriptorTable> = Once::new();
static IDT: Once<InterruptDescriptorTable> = Once::new();

/// Of wasmtime: comes back if the trap is none of its code's.
type Handler = extern "C" fn(usize, usize, bool, usize);
static HANDLER: AtomicUsize = AtomicUsize::new(0);
static INSIDE: AtomicBool = AtomicBool::new(false);

/// Sets up segments and exceptions.
pub fn init() {
    other_stack();
    // SAFETY: only `other_stack` changes it, with a write of which the processor sees all or nothing.
    let tss = unsafe { &*(&raw const TSS) };
    let mut code = None;
    let mut task = None;
    let gdt = GDT.call_once(|| {
        let mut gdt = GlobalDescriptorTable::new();
        code = Some(gdt.append(Descriptor::kernel_code_segment()));
        task = Some(gdt.append(Descriptor::tss_segment(tss)));
        gdt
    });
    gdt.load();
    if let (Some(code), Some(task)) = (code, task) {
        // SAFETY: both are of the table that was just loaded, which is never changed.
        unsafe {
            CS::set_reg(code);
            load_tss(task);
        }
    }
    let idt = IDT.call_once(|| {
        let mut idt = InterruptDescriptorTable::new();
        let stub = |vector: u64| VirtAddr::from_ptr(&raw const trap_stubs) + vector * 16;
        // SAFETY: each stub is a handler for its vector, in 16 bytes, and there is a stack 0.
        unsafe {
            idt.divide_error.set_handler_addr(stub(0)).set_stack_index(0);
            idt.debug.set_handler_addr(stub(1)).set_stack_index(0);
            idt.non_maskable_interrupt.set_handler_addr(stub(2)).set_stack_index(0);
            idt.breakpoint.set_handler_addr(stub(3)).set_stack_index(0);
            idt.invalid_opcode.set_handler_addr(stub(6)).set_stack_index(0);
            idt.device_not_available.set_handler_addr(stub(7)).set_stack_index(0);
            idt.double_fault.set_handler_addr(stub(8)).set_stack_index(0);
            idt.segment_not_present.set_handler_addr(stub(11)).set_stack_index(0);
            idt.stack_segment_fault.set_handler_addr(stub(12)).set_stack_index(0);
            idt.general_protection_fault.set_handler_addr(stub(13)).set_stack_index(0);
            idt.page_fault.set_handler_addr(stub(14)).set_stack_index(0);
            idt.x87_floating_point.set_handler_addr(stub(16)).set_stack_index(0);
            idt.alignment_check.set_handler_addr(stub(17)).set_stack_index(0);
            idt.simd_floating_point.set_handler_addr(stub(19)).set_stack_index(0);
        }
        idt
    });
    idt.load();
}

/// Gives the next exception the stack on which nothing is.
fn other_stack() {
    let second = SECOND.fetch_xor(true, Ordering::Relaxed);
    let end = VirtAddr::from_ptr(&raw const STACKS) + STACK as u64 * (1 + u64::from(second));
    // SAFETY: there is one thread, and the processor reads it only when the next exception comes. The field is not
    // aligned.
    unsafe { (&raw mut TSS.interrupt_stack_table[0]).write_unaligned(end) };
}

/// wasmtime says who is to be asked about faults of its code.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_init_traps(handler: Handler) -> i32 {
    HANDLER.store(handler as usize, Ordering::Release);
    0
}

extern "C" fn handle(frame: &Frame) {
    let fault = (frame.vector == PAGE).then(|| Cr2::read_raw());
    if INSIDE.swap(true, Ordering::Relaxed) {
        die(frame, fault, "in the handling of another exception");
    }
    if let Some(address) = fault
        && frame.error & PRESENT == 0
    {
        match memory::touch(address) {
            memory::Touch::Mapped => return INSIDE.store(false, Ordering::Relaxed),
            memory::Touch::NotThere => {}
            memory::Touch::Full => frames::set_exhausted(),
        }
    }
    if matches!(frame.vector, DIVIDE | INVALID | PAGE) {
        let handler = HANDLER.load(Ordering::Acquire);
        if handler != 0 {
            // SAFETY: only `wasmtime_init_traps` writes there.
            let handler = unsafe { core::mem::transmute::<usize, Handler>(handler) };
            // It does not come back if it knows the place.
            other_stack();
            INSIDE.store(false, Ordering::Relaxed);
            let address = fault.unwrap_or(0) as usize;
            handler(frame.rip as usize, frame.registers[RBP] as usize, fault.is_some(), address);
        }
    }
    if frames::is_exhausted() && fault.is_some_and(memory::is_linear) {
        // In a host function that works on the task's memory: it cannot go on, and with it its task.
        crate::end("out of memory");
    }
    die(frame, fault, "");
}

fn die(frame: &Frame, fault: Option<u64>, note: &str) -> ! {
    let what = if frames::is_exhausted() { "out of memory, " } else { "" };
    panic!(
        "{what}an exception {note}: vector {} error {:#x} at {:#x}, address {:#x}, stack {:#x}",
        frame.vector,
        frame.error,
        frame.rip,
        fault.unwrap_or(0),
        frame.rsp
    );
}
