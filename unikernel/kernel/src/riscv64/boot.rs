//! From where the firmware leaves off (supervisor mode, no paging, `a0` the number of the processor, `a1` at the device
//! tree) to Rust.
//!
//! The kernel begins with the header of Linux's images ("Boot image header in RISC-V Linux"), for boot loaders that know no
//! ELF. They put it anywhere, so that its words which are addresses are put right here (RELR: an address, then bits for the
//! words that follow it).

use super::traps::{FLOATS_CLEAN, NODE_MEMORY};
use core::arch::global_asm;

global_asm!(
    r#"
    .section .boot.text, "ax"
    .option push
    .option norvc
        j _start
        .word 0
    .option pop
        # From where in memory, for which the firmware is kept free; how much memory: `board::flat` fills that in; no flags.
        .quad 0x200000, 0, 0
        # Version 0.2
        .word 2, 0
        .quad 0
        .ascii "RISCV\0\0\0"
        .ascii "RSC\005"
        .word 0
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
