//! Into the kernel and out again: exceptions, interrupts, calls.
//!
//! Whatever comes, the stub writes what was interrupted into the context of the thread that runs (while that runs, the
//! kernel's stack pointer is the end of it), and the kernel goes on on the processor's own stack, which the context names. What
//! waits when no thread runs is privileged, but on the stack pointer of the unprivileged.

use super::{gic, paging};
use crate::threads::{Threads, threads};
use crate::{calls, clock, smp};
use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{ELR_EL1, ESR_EL1, FAR_EL1, Readable, VBAR_EL1, Writeable};
use core::arch::{asm, global_asm};
use wayfare_unikernel_abi::{Fault, NODE, Rights};

/// What the stub leaves of a thread.
#[repr(C, align(16))]
struct Frame {
    registers: [u64; 31],
    sp: u64,
    pc: u64,
    state: u64,
}

/// The register that a call's number is in.
const NUMBER: usize = 8;
const FRAME_POINTER: usize = 29;
const LINK: usize = 30;

#[repr(C, align(16))]
struct Floats {
    vectors: [u128; 32],
    control: u64,
    status: u64,
}

/// A thread while it does not run.
#[repr(C, align(16))]
pub struct Context {
    frame: Frame,
    /// Of the processor that runs it: the end of its stack in the kernel, and its number.
    stack: u64,
    processor: usize,
    floats: Floats,
}

/// Privileged, on the stack pointer of the unprivileged; interrupts on. Of the node's threads it is 0.
const IDLE: u64 = 0b0100;

impl Context {
    /// Of no thread.
    pub const EMPTY: Context = Context {
        frame: Frame { registers: [0; 31], sp: 0, pc: 0, state: 0 },
        stack: 0,
        processor: 0,
        floats: Floats { vectors: [0; 32], control: 0, status: 0 },
    };

    /// Of a thread that begins at `entry`, unprivileged.
    pub fn begin(entry: u64, argument: u64, stack: u64) -> Context {
        let mut context = Context::EMPTY;
        (context.frame.pc, context.frame.sp, context.frame.registers[0]) = (entry, stack, argument);
        context
    }

    /// What waits for interrupts, in the kernel of the processor that has this stack there.
    pub fn idle(stack: u64) -> Context {
        let mut context = Context::begin((&raw const trap_idle) as u64, 0, stack);
        context.frame.state = IDLE;
        (context.stack, context.processor) = (stack, smp::this());
        context
    }

    /// The call that it makes: number and arguments.
    pub fn call(&self) -> (usize, [usize; 4]) {
        let register = |of: usize| self.frame.registers[of] as usize;
        (register(NUMBER), [0, 1, 2, 3].map(register))
    }

    /// What it is told of a call.
    pub fn set_result(&mut self, result: isize) {
        self.frame.registers[0] = result as u64;
    }

    /// Where it is.
    pub fn at(&self) -> u64 {
        self.frame.pc
    }

    /// Its stack.
    pub fn stack(&self) -> u64 {
        self.frame.sp
    }

    /// Lets it go on elsewhere, and tell what happened.
    pub fn divert(&mut self, to: usize, address: Option<u64>, fault: Fault) {
        let frame = &mut self.frame;
        let told = [frame.pc, frame.registers[FRAME_POINTER], address.unwrap_or(0), fault as u64];
        frame.registers[..4].copy_from_slice(&told);
        frame.registers[LINK] = 0;
        frame.sp &= !15;
        frame.pc = to as u64;
    }

    /// Another thread is to run: keeps what the processor still has of this one.
    pub fn put_aside(&mut self) {
        // SAFETY: 32 vectors and two registers, which is what there is room for.
        unsafe {
            asm!(
                ".arch_extension fp", ".arch_extension simd",
                "stp q0, q1, [{0}]", "stp q2, q3, [{0}, 32]", "stp q4, q5, [{0}, 64]", "stp q6, q7, [{0}, 96]",
                "stp q8, q9, [{0}, 128]", "stp q10, q11, [{0}, 160]", "stp q12, q13, [{0}, 192]",
                "stp q14, q15, [{0}, 224]", "stp q16, q17, [{0}, 256]", "stp q18, q19, [{0}, 288]",
                "stp q20, q21, [{0}, 320]", "stp q22, q23, [{0}, 352]", "stp q24, q25, [{0}, 384]",
                "stp q26, q27, [{0}, 416]", "stp q28, q29, [{0}, 448]", "stp q30, q31, [{0}, 480]",
                "mrs {1}, fpcr", "mrs {2}, fpsr", "add {0}, {0}, 512", "stp {1}, {2}, [{0}]",
                inout(reg) &raw mut self.floats => _, out(reg) _, out(reg) _, options(nostack, preserves_flags)
            );
        }
    }

    /// This thread is to run, on this processor.
    pub fn take_up(&mut self, processor: usize) {
        (self.processor, self.stack) = (processor, smp::stack(processor));
        // SAFETY: what `put_aside` has left, or `begin`; the kernel itself uses none of it.
        unsafe {
            asm!(
                ".arch_extension fp", ".arch_extension simd",
                "ldp q0, q1, [{0}]", "ldp q2, q3, [{0}, 32]", "ldp q4, q5, [{0}, 64]", "ldp q6, q7, [{0}, 96]",
                "ldp q8, q9, [{0}, 128]", "ldp q10, q11, [{0}, 160]", "ldp q12, q13, [{0}, 192]",
                "ldp q14, q15, [{0}, 224]", "ldp q16, q17, [{0}, 256]", "ldp q18, q19, [{0}, 288]",
                "ldp q20, q21, [{0}, 320]", "ldp q22, q23, [{0}, 352]", "ldp q24, q25, [{0}, 384]",
                "ldp q26, q27, [{0}, 416]", "ldp q28, q29, [{0}, 448]", "ldp q30, q31, [{0}, 480]",
                "add {0}, {0}, 512", "ldp {1}, {2}, [{0}]", "msr fpcr, {1}", "msr fpsr, {2}",
                inout(reg) &raw const self.floats => _, out(reg) _, out(reg) _,
                options(nostack, preserves_flags, readonly)
            );
        }
    }
}

global_asm!(
    r#"
    .macro stub kind
    .balign 128
        sub sp, sp, #{frame}
        stp x0, x1, [sp]
        mov x1, #\kind
        b trap
    .endm
    # The kernel has failed, its stack perhaps too.
    .macro stub_failed
    .balign 128
        b trap_failed
    .endm

    .text
    .balign 2048
    .global trap_stubs
    trap_stubs:
        # What waits
        stub_failed
        stub {interrupt}
        stub_failed
        stub_failed
        # The kernel
        stub_failed
        stub_failed
        stub_failed
        stub_failed
        # A thread
        stub {exception}
        stub {interrupt}
        stub_failed
        stub_failed
        # A thread of 32 bits: there is none.
        stub_failed
        stub_failed
        stub_failed
        stub_failed
    .balign 128
    # On the stack that the kernel began on
    trap_failed:
        adrp x0, boot_stack_end
        mov sp, x0
        bl {failed}
    trap:
        stp x2, x3, [sp, #16]
        stp x4, x5, [sp, #32]
        stp x6, x7, [sp, #48]
        stp x8, x9, [sp, #64]
        stp x10, x11, [sp, #80]
        stp x12, x13, [sp, #96]
        stp x14, x15, [sp, #112]
        stp x16, x17, [sp, #128]
        stp x18, x19, [sp, #144]
        stp x20, x21, [sp, #160]
        stp x22, x23, [sp, #176]
        stp x24, x25, [sp, #192]
        stp x26, x27, [sp, #208]
        stp x28, x29, [sp, #224]
        mrs x2, sp_el0
        stp x30, x2, [sp, #240]
        mrs x2, elr_el1
        mrs x3, spsr_el1
        stp x2, x3, [sp, #256]
        mov x0, sp
        ldr x2, [sp, #{frame}]
        mov sp, x2
        mov x29, xzr
        bl {handler}
    .global trap_leave
    trap_leave:
        mov sp, x0
        ldp x2, x3, [sp, #256]
        msr elr_el1, x2
        msr spsr_el1, x3
        ldp x30, x2, [sp, #240]
        msr sp_el0, x2
        ldp x28, x29, [sp, #224]
        ldp x26, x27, [sp, #208]
        ldp x24, x25, [sp, #192]
        ldp x22, x23, [sp, #176]
        ldp x20, x21, [sp, #160]
        ldp x18, x19, [sp, #144]
        ldp x16, x17, [sp, #128]
        ldp x14, x15, [sp, #112]
        ldp x12, x13, [sp, #96]
        ldp x10, x11, [sp, #80]
        ldp x8, x9, [sp, #64]
        ldp x6, x7, [sp, #48]
        ldp x4, x5, [sp, #32]
        ldp x2, x3, [sp, #16]
        ldp x0, x1, [sp], #{frame}
        eret
    .global trap_idle
    trap_idle:
        wfi
        b trap_idle
    "#,
    frame = const size_of::<Frame>(),
    interrupt = const INTERRUPT,
    exception = const EXCEPTION,
    failed = sym failed,
    handler = sym handle,
);

unsafe extern "C" {
    static trap_stubs: u8;
    static trap_idle: u8;
}

const INTERRUPT: u64 = 0;
const EXCEPTION: u64 = 1;

// Classes of exceptions.
const UNKNOWN: u64 = 0x00;
const WAITS: u64 = 0x01;
const VECTORS: u64 = 0x07;
const ILLEGAL: u64 = 0x0e;
const CALL: u64 = 0x15;
const REGISTER: u64 = 0x18;
const SCALABLE: u64 = 0x19;
const FETCH: u64 = 0x20;
const BAD_PC: u64 = 0x22;
const ACCESS: u64 = 0x24;
const BAD_STACK: u64 = 0x26;
const BREAK: u64 = 0x3c;

/// Of a fetch or an access: the page's entry does not allow it.
const FORBIDDEN: u64 = 0b0011;
/// There is no page.
const NO_PAGE: u64 = 0b0001;
const IS_WRITE: u64 = 1 << 6;

/// Sets up what comes into the kernel, for this processor.
pub fn init() {
    VBAR_EL1.set((&raw const trap_stubs) as u64);
    barrier::isb(barrier::SY);
}

/// The kernel itself has done what it cannot do.
extern "C" fn failed() -> ! {
    // Under no emulator even the end of it does.
    super::go_on_ending();
    panic!("exception {:#x} at {:#x}, address {:#x}", ESR_EL1.get(), ELR_EL1.get(), FAR_EL1.get())
}

/// Comes into the kernel; gives the context of the thread that goes on.
extern "C" fn handle(context: &Context, kind: u64) -> *const Context {
    let frame = &context.frame;
    let (syndrome, address) = (ESR_EL1.get(), FAR_EL1.get());
    assert!(smp::enter(context.processor), "the kernel was entered twice");
    // SAFETY: this is the entry, and it was not entered before.
    let threads = unsafe { threads() };
    if kind == INTERRUPT {
        interrupted(threads);
        return threads.go_on();
    }
    match syndrome >> 26 & 0x3f {
        // Only the node's program calls: in compiled code there are none.
        CALL if NODE.contains(&(frame.pc - 4)) => calls::call(threads),
        // The same thread goes on.
        class @ (FETCH | ACCESS) => {
            let how = match class {
                FETCH => Rights::Execute,
                _ if syndrome & IS_WRITE != 0 => Rights::Write,
                _ => Rights::Read,
            };
            match syndrome >> 2 & 0xf {
                FORBIDDEN if how == Rights::Write && paging::write_first(address) => {}
                FORBIDDEN | NO_PAGE => calls::touched(threads, address, how),
                _ => calls::faulted(threads, Fault::Access, Some(address)),
            }
            smp::leave(true);
            return context;
        }
        BAD_PC | BAD_STACK => calls::faulted(threads, Fault::Access, Some(address)),
        UNKNOWN | WAITS | VECTORS | ILLEGAL | CALL | REGISTER | SCALABLE | BREAK => {
            calls::faulted(threads, Fault::Instruction, None);
        }
        _ => calls::die(threads.current(), Fault::Access, None),
    }
    threads.go_on()
}

fn interrupted(threads: &mut Threads) {
    let Some((number, taken)) = gic::take() else { return };
    if number == gic::TIMER {
        clock::rang();
        gic::end(taken);
    } else if number == gic::CALLED_IN {
        // What there is to do is done by whoever comes in, and goes out again.
        gic::end(taken);
    } else {
        let line = number as usize;
        gic::mask(line);
        gic::end(taken);
        threads.interrupted(line);
    }
}

/// This processor, which is in the kernel, leaves it for the first time: to whichever thread there is.
pub fn run() -> ! {
    // SAFETY: an entry as `handle` is one.
    let threads = unsafe { threads() };
    threads.set_idle(Context::idle(smp::stack(smp::this())));
    let context = threads.go_on();
    // SAFETY: leaves the kernel as `handle` does; nothing of this stack is needed any more.
    unsafe { asm!("b trap_leave", in("x0") context, options(noreturn)) }
}
