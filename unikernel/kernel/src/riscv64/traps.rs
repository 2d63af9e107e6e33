//! Into the kernel and out again: exceptions, interrupts, calls.
//!
//! Whatever comes, the stub writes what was interrupted into the context of the thread that runs (while that runs, `sscratch`
//! is the address of it; in the kernel it is 0), and the kernel goes on on the processor's own stack, which the context names.

use super::{paging, plic};
use crate::threads::threads;
use crate::{calls, clock, smp};
use core::arch::{asm, global_asm};
use riscv::register::{scause, sepc, sip, sstatus, stval};
use wayfare_unikernel_abi::{Fault, NODE, Rights};

/// What the stub leaves of a thread.
#[repr(C, align(16))]
struct Frame {
    at: u64,
    /// From `x1` on.
    registers: [u64; 31],
    status: u64,
}

// Of `registers`.
const RETURN: usize = 0;
const STACK_POINTER: usize = 1;
const FRAME_POINTER: usize = 7;
/// The first of those that arguments are in; a result is in the first one.
const ARGUMENTS: usize = 9;
/// The one that a call's number is in.
const NUMBER: usize = 16;

#[repr(C)]
struct Floats {
    registers: [u64; 32],
    control: u64,
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

// Of the status.
/// After the kernel: interrupts on,
const INTERRUPTS: u64 = 1 << 5;
/// and still privileged.
const PRIVILEGED: u64 = 1 << 8;
/// What the processor has of floating point: nothing that is not kept, or something.
pub const FLOATS_CLEAN: u64 = 2 << 13;
const FLOATS_DIRTY: u64 = 3 << 13;
/// The kernel may use the node's memory.
pub const NODE_MEMORY: u64 = 1 << 18;
/// Registers of 64 bits.
const WIDTH: u64 = 3 << 32;

impl Context {
    /// Of no thread.
    pub const EMPTY: Context = Context {
        frame: Frame { at: 0, registers: [0; 31], status: 0 },
        stack: 0,
        processor: 0,
        floats: Floats { registers: [0; 32], control: 0 },
    };

    /// Of a thread that begins at `entry`, unprivileged.
    pub fn begin(entry: u64, argument: u64, stack: u64) -> Context {
        let mut context = Context::EMPTY;
        context.frame.at = entry;
        context.frame.registers[STACK_POINTER] = stack;
        context.frame.registers[ARGUMENTS] = argument;
        let width = sstatus::read().bits() as u64 & WIDTH;
        context.frame.status = width | INTERRUPTS | FLOATS_CLEAN | NODE_MEMORY;
        context
    }

    /// What waits for interrupts, in the kernel of the processor that has this stack there.
    pub fn idle(stack: u64) -> Context {
        let mut context = Context::begin((&raw const trap_idle) as u64, 0, stack);
        context.frame.status |= PRIVILEGED;
        (context.stack, context.processor) = (stack, smp::this());
        context
    }

    /// The call that it makes: number and arguments.
    pub fn call(&self) -> (usize, [usize; 4]) {
        let register = |of: usize| self.frame.registers[of] as usize;
        (register(NUMBER), [0, 1, 2, 3].map(|number| register(ARGUMENTS + number)))
    }

    /// What it is told of a call.
    pub fn set_result(&mut self, result: isize) {
        self.frame.registers[ARGUMENTS] = result as u64;
    }

    /// Where it is.
    pub fn at(&self) -> u64 {
        self.frame.at
    }

    /// Its stack.
    pub fn stack(&self) -> u64 {
        self.frame.registers[STACK_POINTER]
    }

    /// Lets it go on elsewhere, and tell what happened.
    pub fn divert(&mut self, to: usize, address: Option<u64>, fault: Fault) {
        let frame = &mut self.frame;
        let told = [frame.at, frame.registers[FRAME_POINTER], address.unwrap_or(0), fault as u64];
        frame.registers[ARGUMENTS..ARGUMENTS + 4].copy_from_slice(&told);
        frame.registers[RETURN] = 0;
        frame.registers[STACK_POINTER] &= !15;
        frame.at = to as u64;
    }

    /// Another thread is to run: keeps what the processor still has of this one.
    pub fn put_aside(&mut self) {
        if self.frame.status & FLOATS_DIRTY != FLOATS_DIRTY {
            return;
        }
        // SAFETY: 32 registers and one, which is what there is room for.
        unsafe {
            asm!(
                ".option push", ".option arch, +d",
                "fsd f0, 0({0})", "fsd f1, 8({0})", "fsd f2, 16({0})", "fsd f3, 24({0})",
                "fsd f4, 32({0})", "fsd f5, 40({0})", "fsd f6, 48({0})", "fsd f7, 56({0})",
                "fsd f8, 64({0})", "fsd f9, 72({0})", "fsd f10, 80({0})", "fsd f11, 88({0})",
                "fsd f12, 96({0})", "fsd f13, 104({0})", "fsd f14, 112({0})", "fsd f15, 120({0})",
                "fsd f16, 128({0})", "fsd f17, 136({0})", "fsd f18, 144({0})", "fsd f19, 152({0})",
                "fsd f20, 160({0})", "fsd f21, 168({0})", "fsd f22, 176({0})", "fsd f23, 184({0})",
                "fsd f24, 192({0})", "fsd f25, 200({0})", "fsd f26, 208({0})", "fsd f27, 216({0})",
                "fsd f28, 224({0})", "fsd f29, 232({0})", "fsd f30, 240({0})", "fsd f31, 248({0})",
                "frcsr {1}", "sd {1}, 256({0})", ".option pop",
                in(reg) &raw mut self.floats, out(reg) _, options(nostack)
            );
        }
    }

    /// This thread is to run, on this processor.
    pub fn take_up(&mut self, processor: usize) {
        (self.processor, self.stack) = (processor, smp::stack(processor));
        // SAFETY: what `put_aside` has left, or `begin`; the kernel itself uses none of it.
        unsafe {
            asm!(
                ".option push", ".option arch, +d",
                "fld f0, 0({0})", "fld f1, 8({0})", "fld f2, 16({0})", "fld f3, 24({0})",
                "fld f4, 32({0})", "fld f5, 40({0})", "fld f6, 48({0})", "fld f7, 56({0})",
                "fld f8, 64({0})", "fld f9, 72({0})", "fld f10, 80({0})", "fld f11, 88({0})",
                "fld f12, 96({0})", "fld f13, 104({0})", "fld f14, 112({0})", "fld f15, 120({0})",
                "fld f16, 128({0})", "fld f17, 136({0})", "fld f18, 144({0})", "fld f19, 152({0})",
                "fld f20, 160({0})", "fld f21, 168({0})", "fld f22, 176({0})", "fld f23, 184({0})",
                "fld f24, 192({0})", "fld f25, 200({0})", "fld f26, 208({0})", "fld f27, 216({0})",
                "fld f28, 224({0})", "fld f29, 232({0})", "fld f30, 240({0})", "fld f31, 248({0})",
                "ld {1}, 256({0})", "fscsr {1}", ".option pop",
                in(reg) &raw const self.floats, out(reg) _, options(nostack, readonly)
            );
        }
        self.frame.status = self.frame.status & !FLOATS_DIRTY | FLOATS_CLEAN;
    }
}

global_asm!(
    r#"
    .macro each_register do
        \do x1, 8(sp)
    .irp n, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        \do x\n, 8 * \n(sp)
    .endr
    .endm

    .text
    .balign 4
    .global trap
    trap:
        csrrw sp, sscratch, sp
        beqz sp, 2f
        each_register sd
        csrrw t0, sscratch, zero
        sd t0, 16(sp)
        csrr t0, sepc
        sd t0, 0(sp)
        csrr t0, sstatus
        sd t0, 256(sp)
        mv a0, sp
        ld sp, {frame}(sp)
        mv fp, zero
        call {handler}
    .global trap_leave
    trap_leave:
        mv sp, a0
        ld t0, 0(sp)
        csrw sepc, t0
        # Whoever has begun to change a word begins again: it may be another one who goes on with it.
        sc.d zero, t0, (sp)
        ld t0, 256(sp)
        csrw sstatus, t0
        csrw sscratch, sp
        each_register ld
        ld sp, 16(sp)
        sret
    # The kernel has failed, its stack perhaps too: it goes on on the one that it began on.
    2:  csrrw a0, sscratch, zero
        lla sp, boot_stack_end
        call {failed}
    .global trap_idle
    trap_idle:
        wfi
        j trap_idle
    "#,
    handler = sym handle,
    failed = sym failed,
    frame = const size_of::<Frame>(),
);

unsafe extern "C" {
    static trap_idle: u8;
}

// What comes.
const INTERRUPT: u64 = 1 << 63;
const CALLED_IN: u64 = INTERRUPT | 1;
const TIMER: u64 = INTERRUPT | 5;
const DEVICE: u64 = INTERRUPT | 9;
const FETCH: u64 = 1;
const ILLEGAL: u64 = 2;
const BREAKPOINT: u64 = 3;
const LOAD: u64 = 5;
const STORE: u64 = 7;
const CALL: u64 = 8;
const FETCH_PAGE: u64 = 12;
const LOAD_PAGE: u64 = 13;
const STORE_PAGE: u64 = 15;
/// Bytes of the instruction that calls.
const CALL_LEN: u64 = 4;

extern "C" fn failed(stack: u64) -> ! {
    panic!("exception {} at {:#x}, address {:#x}, stack {stack:#x}", scause::read().bits(), sepc::read(), stval::read())
}

/// Comes into the kernel; gives the context of the thread that goes on.
extern "C" fn handle(context: &Context) -> *const Context {
    let frame = &context.frame;
    let (cause, address) = (scause::read().bits() as u64, stval::read() as u64);
    if !smp::enter(context.processor) || (cause & INTERRUPT == 0 && frame.status & PRIVILEGED != 0) {
        failed(frame.registers[STACK_POINTER]);
    }
    // SAFETY: this is the entry, and it was not entered before.
    let threads = unsafe { threads() };
    match cause {
        // Only the node's program calls.
        CALL if NODE.contains(&frame.at) => {
            threads.current().frame.at += CALL_LEN;
            calls::call(threads);
        }
        // The same thread goes on.
        FETCH_PAGE | LOAD_PAGE | STORE_PAGE => {
            let how = match cause {
                FETCH_PAGE => Rights::Execute,
                LOAD_PAGE => Rights::Read,
                _ => Rights::Write,
            };
            if how != Rights::Write || !paging::write_first(address) {
                calls::touched(threads, address, how);
            }
            smp::leave(true);
            return context;
        }
        FETCH | LOAD | STORE => calls::faulted(threads, Fault::Access, Some(address)),
        CALL | ILLEGAL | BREAKPOINT => calls::faulted(threads, Fault::Instruction, None),
        TIMER => clock::rang(),
        // What there is to do is done by whoever comes in, and goes out again.
        // SAFETY: it was told by this alone, and has come.
        CALLED_IN => unsafe { sip::clear_ssoft() },
        DEVICE => {
            while let Some(line) = plic::take() {
                threads.interrupted(line);
            }
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
    unsafe { asm!("j trap_leave", in("a0") context, options(noreturn)) }
}
