//! From where the firmware leaves off (supervisor mode, no paging, `a0` the number of the processor, `a1` at the device
//! tree) to Rust.

use super::traps::{FLOATS_CLEAN, NODE_MEMORY};
use core::arch::global_asm;

global_asm!(
    r#"
    .section .boot.text, "ax"
    .global _start
    _start:
        csrw sie, zero
        csrci sstatus, 2
        csrw satp, zero
        # What goes wrong from here on is told.
        csrw sscratch, zero
        lla t0, trap
        csrw stvec, t0
        li t0, {status}
        csrs sstatus, t0
        lla sp, boot_stack_end
        mv fp, zero
        call {main}
        unimp

    .section .bss
    .balign 4096
    boot_stack: .skip 65536
    boot_stack_end:

    .text
    "#,
    status = const NODE_MEMORY | FLOATS_CLEAN,
    main = sym super::main,
);
