//! From where the boot loader leaves off (no paging; `x0` at the device tree, perhaps) to Rust, privileged but under no
//! hypervisor of our own, with paging.
//!
//! The kernel begins with the header of Linux's images ("Booting AArch64 Linux", 4), for boot loaders that know no ELF. They
//! put it anywhere, so that its words which are addresses are put right here (RELR: an address, then bits for the words
//! that follow it).

use super::paging::{MAIR, SCTLR, TCR};
use core::arch::global_asm;

/// A block of memory, for the kernel alone. Like the next one it is of another address space (the 1 in `TTBR0_EL1`) than
/// the tables that come later, which have smaller pages: the processor must not find both.
const NORMAL: u64 = 1 | 3 << 8 | 1 << 10 | 1 << 11 | 1 << 54;
/// A block of registers.
const DEVICE: u64 = 1 | 1 << 2 | 1 << 10 | 1 << 11 | 3 << 53;

global_asm!(
    r#"
    .section .boot.text, "ax"
        b _start
        .long 0
        # From where in a block of 2 MiB, and how much memory: `board::flat` fills that in. Then: little-endian, pages of
        # 4 KiB, anywhere.
        .quad 0, 0, 0b1010
        .quad 0, 0, 0
        .ascii "ARMd"
        .long 0
    .global _start
    _start:
        mov x19, xzr
    # Others, too, begin as the first one does: with the address of what they need in x19.
    any_start:
        mov x20, x0
        msr daifset, #15
        mrs x0, CurrentEL
        cmp x0, #(2 << 2)
        b.ne 3f
        # From EL2 to EL1, with nothing trapped and the counter as it is.
        mov x0, #(1 << 31)
        msr hcr_el2, x0
        isb
        mov x0, #3
        msr cnthctl_el2, x0
        msr cntvoff_el2, xzr
        mov x0, #0x33ff
        msr cptr_el2, x0
        msr hstr_el2, xzr
        mrs x0, mdcr_el2
        and x0, x0, #0x1f
        msr mdcr_el2, x0
        mrs x0, midr_el1
        msr vpidr_el2, x0
        mrs x0, mpidr_el1
        msr vmpidr_el2, x0
        # The interrupt controller's registers, if they are in the processor
        mrs x0, id_aa64pfr0_el1
        ubfx x0, x0, #24, #4
        cbz x0, 2f
        mrs x0, S3_4_C12_C9_5
        mov x1, #9
        orr x0, x0, x1
        msr S3_4_C12_C9_5, x0
        isb
    2:  ldr x0, ={sctlr_off}
        msr sctlr_el1, x0
        mov x0, #0x3c5
        msr spsr_el2, x0
        adr x0, 3f
        msr elr_el2, x0
        eret
    3:  ldr x0, ={sctlr_off}
        msr sctlr_el1, x0
        isb
        msr spsel, #1
        cbnz x19, others_go_on
        adrp x0, boot_stack_end
        mov sp, x0
        # 512 GiB as they are, in blocks of 1 GiB: those that the kernel and the device tree are in are memory, the others may
        # be anything.
        adrp x1, boot_l0
        adrp x2, boot_l1
        orr x3, x2, #3
        str x3, [x1]
        adr x4, _start
        lsr x4, x4, #30
        adrp x9, __end
        lsr x9, x9, #30
        lsr x10, x20, #30
        cmp x20, #0
        csel x10, x10, x4, ne
        ldr x5, ={normal}
        ldr x6, ={device}
        mov x7, #0
    4:  cmp x7, x4
        ccmp x7, x9, #4, ne
        ccmp x7, x10, #4, ne
        csel x8, x5, x6, eq
        orr x8, x8, x7, lsl #30
        str x8, [x2, x7, lsl #3]
        add x7, x7, #1
        cmp x7, #512
        b.ne 4b
        # Written past the caches: nothing that these have of the tables is to be found.
        dmb sy
        add x3, x1, #8192
    5:  dc ivac, x1
        add x1, x1, #16
        cmp x1, x3
        b.ne 5b
        dsb sy
        tlbi vmalle1
        ic iallu
        dsb nsh
        isb
        mov x0, #(1 << 48)
        adrp x1, boot_l0
        orr x0, x0, x1
        msr ttbr0_el1, x0
        ldr x0, ={mair}
        msr mair_el1, x0
        # As many bits of physical addresses as there are, but no more than 48
        ldr x0, ={tcr}
        mrs x1, id_aa64mmfr0_el1
        and x1, x1, #15
        mov x2, #5
        cmp x1, x2
        csel x1, x1, x2, lo
        orr x0, x0, x1, lsl #32
        msr tcr_el1, x0
        isb
        ldr x0, ={sctlr}
        msr sctlr_el1, x0
        isb
        # Vector registers
        mov x0, #(3 << 20)
        msr cpacr_el1, x0
        isb
        # By how much it lies elsewhere than it was linked for
        adrp x1, __text_start
        ldr x0, =__link_base
        subs x0, x1, x0
        b.eq 10f
        adrp x1, __relr_start
        add x1, x1, :lo12:__relr_start
        adrp x2, __relr_end
        add x2, x2, :lo12:__relr_end
    6:  cmp x1, x2
        b.hs 10f
        ldr x3, [x1], #8
        tbnz x3, #0, 7f
        add x4, x3, x0
        ldr x5, [x4]
        add x5, x5, x0
        str x5, [x4], #8
        b 6b
    7:  mov x6, x4
    8:  lsr x3, x3, #1
        cbz x3, 9f
        tbz x3, #0, 11f
        ldr x5, [x6]
        add x5, x5, x0
        str x5, [x6]
    11: add x6, x6, #8
        b 8b
    9:  add x4, x4, #63 * 8
        b 6b
    10: mov x29, xzr
        mov x30, xzr
        mov x0, x20
        bl {main}
        brk #0
        .ltorg

    .section .bss
    .balign 4096
    boot_l0: .skip 4096
    boot_l1: .skip 4096
    boot_stack: .skip 65536
    boot_stack_end:

    .text
    "#,
    sctlr_off = const SCTLR & !1 & !(1 << 2),
    sctlr = const SCTLR,
    normal = const NORMAL,
    device = const DEVICE,
    mair = const MAIR,
    tcr = const TCR,
    main = sym super::main,
);
