//! From where the firmware leaves off (supervisor mode, no paging, `a0` the number of the processor, `a1` at the device
//! tree) to Rust.
//!
//! The kernel begins with the header of Linux's images ("Boot image header in RISC-V Linux"), for boot loaders that know no
//! ELF. They put it anywhere, so that its words which are addresses are put right here (RELR: an address, then bits for the
//! words that follow it).
//!
//! Only the first processor that comes boots. Others may come here, too: with the OpenSBI that QEMU 7.2 has, one that was told to
//! start elsewhere began here now and then, as the first one had.

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
        lla t0, is_begun
        li t1, 1
        amoswap.w.aqrl t1, t1, (t0)
        bnez t1, others_begin
        # What goes wrong from here on is told.
        csrw sscratch, zero
        lla t0, trap
        csrw stvec, t0
        li t0, {status}
        csrs sstatus, t0
        # By how much it lies elsewhere than it was linked for
        lla t0, __text_start
        lla t1, 7f
        ld t1, 0(t1)
        sub t0, t0, t1
        lla t1, __relr_start
        lla t2, __relr_end
    2:  bgeu t1, t2, 8f
        ld t3, 0(t1)
        addi t1, t1, 8
        andi t4, t3, 1
        bnez t4, 3f
        add t5, t3, t0
        ld t6, 0(t5)
        add t6, t6, t0
        sd t6, 0(t5)
        addi t5, t5, 8
        j 2b
    3:  mv a2, t5
    4:  srli t3, t3, 1
        beqz t3, 6f
        andi t4, t3, 1
        beqz t4, 5f
        ld t6, 0(a2)
        add t6, t6, t0
        sd t6, 0(a2)
    5:  addi a2, a2, 8
        j 4b
    6:  addi t5, t5, 63 * 8
        j 2b
        .balign 8
    7:  .quad __link_base
    8:  lla sp, boot_stack_end
        mv fp, zero
        call {main}
        unimp

    # Not below: nothing says that there is 0 before it has begun.
    .data
    .balign 4
    is_begun: .word 0

    .section .bss
    .balign 4096
    boot_stack: .skip 65536
    boot_stack_end:

    .text
    "#,
    status = const NODE_MEMORY | FLOATS_CLEAN,
    main = sym super::main,
);
