//! Into the kernel and out again: exceptions, interrupts, calls.
//!
//! Whatever comes, the processor and the stub write what was interrupted into the context of the thread that runs (its end
//! is the stack that the processor is told to use), and the kernel goes on on the processor's own stack, which the context
//! names.

use super::apic;
use crate::threads::threads;
use crate::{calls, clock, smp, space};
use core::arch::{asm, global_asm};
use spin::Once;
use wayfare_unikernel_abi::{Fault, NODE, Rights};
use x86_64::VirtAddr;
use x86_64::instructions::tables::load_tss;
use x86_64::registers::control::Cr2;
use x86_64::registers::segmentation::{CS, Segment};
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::idt::InterruptDescriptorTable;
use x86_64::structures::tss::TaskStateSegment;

/// What the processor and the stubs leave of a thread.
#[repr(C, align(16))]
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

// Of `registers`, which are pushed last to first.
const R10: usize = 5;
const RBP: usize = 8;
const RDI: usize = 9;
const RSI: usize = 10;
const RDX: usize = 12;
const RCX: usize = 13;
const RAX: usize = 14;

/// A thread while it does not run.
#[repr(C, align(16))]
pub struct Context {
    frame: Frame,
    /// Of the processor that runs it: the end of its stack in the kernel, and its number.
    stack: u64,
    processor: usize,
    floats: [u8; 512],
}

const KERNEL_CODE: u16 = 0x08;
const USER_DATA: u64 = 0x18 | 3;
const USER_CODE: u64 = 0x20 | 3;
/// Interrupts on.
const FLAGS: u64 = 0x202;
/// What floating point begins with: all exceptions masked.
const CONTROL_WORD: u16 = 0x37f;
const MXCSR: u32 = 0x1f80;
/// Below a stack's end code may keep things (of the ABI).
const RED_ZONE: u64 = 128;

impl Context {
    /// Of no thread.
    pub const EMPTY: Context = Context {
        frame: Frame { registers: [0; 15], vector: 0, error: 0, rip: 0, cs: 0, flags: 0, rsp: 0, ss: 0 },
        stack: 0,
        processor: 0,
        floats: [0; 512],
    };

    /// Of a thread that begins at `entry`, unprivileged.
    pub fn begin(entry: u64, argument: u64, stack: u64) -> Context {
        let mut context = Context::EMPTY;
        // As after a call.
        let (rip, rsp) = (entry, stack - 8);
        context.frame = Frame { rip, cs: USER_CODE, flags: FLAGS, rsp, ss: USER_DATA, ..context.frame };
        context.frame.registers[RDI] = argument;
        context.floats[..2].copy_from_slice(&CONTROL_WORD.to_le_bytes());
        context.floats[24..28].copy_from_slice(&MXCSR.to_le_bytes());
        context
    }

    /// What waits for interrupts, in the kernel of the processor that has this stack there.
    pub fn idle(stack: u64) -> Context {
        let mut context = Context::begin((&raw const trap_idle) as u64, 0, stack);
        (context.frame.cs, context.frame.ss, context.stack) = (KERNEL_CODE.into(), 0, stack);
        context.processor = smp::this();
        context
    }

    /// The call that it makes: number and arguments.
    pub fn call(&self) -> (usize, [usize; 4]) {
        let register = |of: usize| self.frame.registers[of] as usize;
        (register(RAX), [RDI, RSI, RDX, R10].map(register))
    }

    /// What it is told of a call.
    pub fn set_result(&mut self, result: isize) {
        self.frame.registers[RAX] = result as u64;
    }

    /// Where it is.
    pub fn at(&self) -> u64 {
        self.frame.rip
    }

    /// Its stack.
    pub fn stack(&self) -> u64 {
        self.frame.rsp
    }

    /// Lets it go on elsewhere, and tell what happened.
    pub fn divert(&mut self, to: usize, address: Option<u64>, fault: Fault) {
        let frame = &mut self.frame;
        let told = [(RDI, frame.rip), (RSI, frame.registers[RBP]), (RDX, address.unwrap_or(0)), (RCX, fault as u64)];
        told.into_iter().for_each(|(register, value)| frame.registers[register] = value);
        // As after a call.
        frame.rsp = ((frame.rsp - RED_ZONE) & !15) - 8;
        frame.rip = to as u64;
    }

    /// Another thread is to run: keeps what the processor still has of this one.
    pub fn put_aside(&mut self) {
        // SAFETY: 512 bytes, aligned to 16.
        unsafe { asm!("fxsave64 [{}]", in(reg) self.floats.as_mut_ptr(), options(nostack, preserves_flags)) };
    }

    /// This thread is to run, on this processor.
    pub fn take_up(&mut self, processor: usize) {
        (self.processor, self.stack) = (processor, smp::stack(processor));
        // SAFETY: what `put_aside` has left, or `begin`.
        unsafe { asm!("fxrstor64 [{}]", in(reg) self.floats.as_ptr(), options(nostack, preserves_flags)) };
        let end = VirtAddr::from_ptr(&raw const self.frame) + size_of::<Frame>() as u64;
        // SAFETY: the processor, whose own it is, reads it only when it next comes into the kernel. The field is not aligned.
        unsafe { (&raw mut TSS[processor].interrupt_stack_table[0]).write_unaligned(end) };
    }
}

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
    .set vector, 0
    .rept 0x50
        .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30
            stub vector, 1
        .else
            stub vector, 0
        .endif
        .set vector, vector + 1
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
        mov rsp, [rsp + {frame}]
        call {handler}
    .global trap_leave
    trap_leave:
        mov rsp, rax
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
    .global trap_idle
    trap_idle:
        hlt
        jmp trap_idle
    "#,
    handler = sym handle,
    frame = const size_of::<Frame>(),
);

unsafe extern "C" {
    static trap_stubs: u8;
    static trap_idle: u8;
}

// By processor.
static mut TSS: [TaskStateSegment; smp::MOST] = [const { TaskStateSegment::new() }; smp::MOST];
static GDT: [Once<GlobalDescriptorTable>; smp::MOST] = [const { Once::new() }; smp::MOST];
static IDT: Once<InterruptDescriptorTable> = Once::new();

const DIVIDE: u64 = 0;
const INVALID: u64 = 6;
const PAGE: u64 = 14;
/// `ud1 eax, eax`: how the node calls. A KVM that interprets privileged code lets neither `syscall` nor `int` come here,
/// but exceptions it does; and how compiled code traps (`ud2`) is another one.
const CALL: [u8; 3] = [0x0f, 0xb9, 0xc0];
// In a page fault's error: what was tried.
const IS_WRITE: u64 = 1 << 1;
const IS_FETCH: u64 = 1 << 4;

/// Sets up segments and what comes into the kernel, for this processor.
pub fn init() {
    let tss = &raw const TSS;
    // SAFETY: only `Context::take_up` changes it, with a write of which the processor sees all or nothing.
    let tss = unsafe { &(*tss)[smp::this()] };
    let mut task = None;
    let gdt = GDT[smp::this()].call_once(|| {
        let mut gdt = GlobalDescriptorTable::new();
        gdt.append(Descriptor::kernel_code_segment());
        gdt.append(Descriptor::kernel_data_segment());
        gdt.append(Descriptor::user_data_segment());
        gdt.append(Descriptor::user_code_segment());
        task = Some(gdt.append(Descriptor::tss_segment(tss)));
        gdt
    });
    gdt.load();
    if let Some(task) = task {
        // SAFETY: both are of the table that was just loaded, which is never changed.
        unsafe {
            CS::set_reg(x86_64::structures::gdt::SegmentSelector(KERNEL_CODE));
            load_tss(task);
        }
    }
    let idt = IDT.call_once(|| {
        let mut idt = InterruptDescriptorTable::new();
        let stub = |vector: u64| VirtAddr::from_ptr(&raw const trap_stubs) + vector * 16;
        // SAFETY: each stub is for its vector, in 16 bytes, and there is a stack 0 as soon as a thread runs.
        unsafe {
            idt.divide_error.set_handler_addr(stub(0)).set_stack_index(0);
            idt.debug.set_handler_addr(stub(1)).set_stack_index(0);
            idt.non_maskable_interrupt.set_handler_addr(stub(2)).set_stack_index(0);
            idt.breakpoint.set_handler_addr(stub(3)).set_stack_index(0);
            idt.overflow.set_handler_addr(stub(4)).set_stack_index(0);
            idt.bound_range_exceeded.set_handler_addr(stub(5)).set_stack_index(0);
            idt.invalid_opcode.set_handler_addr(stub(6)).set_stack_index(0);
            idt.device_not_available.set_handler_addr(stub(7)).set_stack_index(0);
            idt.double_fault.set_handler_addr(stub(8)).set_stack_index(0);
            idt.invalid_tss.set_handler_addr(stub(10)).set_stack_index(0);
            idt.segment_not_present.set_handler_addr(stub(11)).set_stack_index(0);
            idt.stack_segment_fault.set_handler_addr(stub(12)).set_stack_index(0);
            idt.general_protection_fault.set_handler_addr(stub(13)).set_stack_index(0);
            idt.page_fault.set_handler_addr(stub(14)).set_stack_index(0);
            idt.x87_floating_point.set_handler_addr(stub(16)).set_stack_index(0);
            idt.alignment_check.set_handler_addr(stub(17)).set_stack_index(0);
            idt.simd_floating_point.set_handler_addr(stub(19)).set_stack_index(0);
            for vector in apic::LINES..=apic::SPURIOUS {
                idt[vector as u8].set_handler_addr(stub(vector)).set_stack_index(0);
            }
        }
        idt
    });
    idt.load();
}

/// Only the node's program calls: what looks like it in compiled code is a trap.
fn is_call(at: u64) -> bool {
    NODE.contains(&at) && space::read(at, CALL.len() as u64).is_ok_and(|bytes| bytes == CALL)
}

/// Comes into the kernel; gives the context of the thread that goes on.
extern "C" fn handle(context: &Context) -> *const Context {
    let frame = &context.frame;
    let fault = (frame.vector == PAGE).then(Cr2::read_raw);
    let is_exception = frame.vector < apic::LINES;
    if !smp::enter(context.processor) || (is_exception && frame.cs == u64::from(KERNEL_CODE)) {
        panic!(
            "exception {} ({:#x}) at {:#x}, address {:#x}, stack {:#x}",
            frame.vector,
            frame.error,
            frame.rip,
            fault.unwrap_or(0),
            frame.rsp
        );
    }
    // SAFETY: this is the entry, and it was not entered before.
    let threads = unsafe { threads() };
    match frame.vector {
        INVALID if is_call(frame.rip) => {
            threads.current().frame.rip += CALL.len() as u64;
            calls::call(threads);
        }
        // The same thread goes on.
        PAGE => {
            let how = match frame.error {
                error if error & IS_FETCH != 0 => Rights::Execute,
                error if error & IS_WRITE != 0 => Rights::Write,
                _ => Rights::Read,
            };
            calls::touched(threads, fault.unwrap_or(0), how);
            smp::leave(true);
            return context;
        }
        DIVIDE | INVALID => calls::faulted(threads, Fault::Instruction, None),
        apic::TIMER => {
            clock::rang();
            apic::end();
        }
        // What there is to do is done by whoever comes in, and goes out again.
        apic::CALLED_IN => apic::end(),
        apic::SPURIOUS => {}
        vector if (apic::LINES..apic::TIMER).contains(&vector) => {
            let line = (vector - apic::LINES) as usize;
            apic::mask(line);
            apic::end();
            threads.interrupted(line);
        }
        _ => calls::die(threads.current(), Fault::Access, None),
    }
    threads.go_on()
}

/// This processor, which is in the kernel, leaves it for the first time: to whichever thread there is.
pub fn run() -> ! {
    // SAFETY: an entry as `handle` is one.
    let threads = unsafe { threads() };
    threads.set_idle(Context::idle(smp::stack(smp::this())));
    let context = threads.go_on();
    // SAFETY: leaves the kernel as `handle` does; nothing of this stack is needed any more.
    unsafe { asm!("jmp trap_leave", in("rax") context, options(noreturn)) }
}
