//! From where the boot loader leaves off (PVH or Multiboot2: 32 bits, no paging, `ebx` at the loader's information, and
//! `eax` says which it is) to Rust in 64 bits.

use core::arch::global_asm;

global_asm!(
    r#"
    .section .note.Xen, "a", @note
    .balign 4
    .long 4, 4, 18
    .asciz "Xen"
    .long _start32

    # In the first 32 KiB of the file: magic, architecture (32 bits), length, checksum, and no wishes.
    .section .multiboot, "a"
    .balign 8
    2:  .long 0xe85250d6, 0, 3f - 2b, -(0xe85250d6 + (3f - 2b))
        .short 0, 0
        .long 8
    3:

    .section .boot.text, "ax"
    .code32
    .global _start32
    _start32:
        cli
        cld
        mov edi, ebx
        mov esi, eax
        mov esp, offset boot_stack_end
        # 4 GiB as they are, in pages of 2 MiB, until the kernel has made page tables of its own.
        mov eax, offset boot_pdpt
        or eax, 3
        mov [boot_pml4], eax
        xor ecx, ecx
        mov eax, offset boot_pd
        or eax, 3
    2:  mov [boot_pdpt + ecx * 8], eax
        add eax, 4096
        inc ecx
        cmp ecx, 4
        jne 2b
        xor ecx, ecx
    2:  mov eax, ecx
        shl eax, 21
        or eax, 0x83
        mov [boot_pd + ecx * 8], eax
        inc ecx
        cmp ecx, 4 * 512
        jne 2b
        # PAE, and vector registers with their exceptions
        mov eax, cr4
        or eax, (1 << 5) | (1 << 9) | (1 << 10)
        mov cr4, eax
        mov eax, offset boot_pml4
        mov cr3, eax
        # Long mode, and pages that are not executable
        mov ecx, 0xC0000080
        rdmsr
        or eax, (1 << 8) | (1 << 11)
        wrmsr
        # Paging, write protection for the kernel too, floating point without emulation
        mov eax, cr0
        and eax, ~(1 << 2)
        or eax, (1 << 31) | (1 << 16) | (1 << 5) | (1 << 1) | 1
        mov cr0, eax
        lgdt [boot_gdt_pointer]
        ljmp 8, offset _start64
    .code64
    _start64:
        xor eax, eax
        mov ds, eax
        mov es, eax
        mov ss, eax
        mov fs, eax
        mov gs, eax
        mov rsp, offset boot_stack_end
        xor ebp, ebp
        # Without what the upper halves may have been.
        mov edi, edi
        mov esi, esi
        call {main}
        ud2

    .section .rodata
    .balign 8
    boot_gdt:
        .quad 0, 0x00209A0000000000
        # Of 32 bits, for processors on their way: code, and data
        .quad 0x00CF9A000000FFFF, 0x00CF92000000FFFF
    boot_gdt_pointer:
        .word 15
        .long boot_gdt

    .section .bss
    .balign 4096
    boot_pml4: .skip 4096
    boot_pdpt: .skip 4096
    boot_pd: .skip 4 * 4096
    boot_stack: .skip 65536
    boot_stack_end:

    .text
    "#,
    main = sym super::main,
);
