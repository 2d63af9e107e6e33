//! Copying memory on x86-64. The compiler's own functions use `rep movs`, which QEMU's translator runs word by word, at a
//! tenth of the rate of vector registers; processors do both at about the same rate for as much as a packet or a page.

use core::arch::asm;

/// Bytes that a turn of the loop copies.
const TURN: usize = 64;

/// # Safety
/// As C's: both are so long, and do not overlap.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    let turns = len / TURN;
    // SAFETY: as the caller says. The direction flag is clear, as it is in every function.
    unsafe {
        asm!(
            "test {turns}, {turns}",
            "jz 3f",
            "2:",
            "movups {a}, [rsi]",
            "movups {b}, [rsi + 16]",
            "movups {c}, [rsi + 32]",
            "movups {d}, [rsi + 48]",
            "movups [rdi], {a}",
            "movups [rdi + 16], {b}",
            "movups [rdi + 32], {c}",
            "movups [rdi + 48], {d}",
            "add rsi, 64",
            "add rdi, 64",
            "dec {turns}",
            "jnz 2b",
            "3:",
            // What is left, by words and then by bytes.
            "mov rcx, {len}",
            "shr rcx, 3",
            "and rcx, 7",
            "rep movsq",
            "mov rcx, {len}",
            "and rcx, 7",
            "rep movsb",
            turns = inout(reg) turns => _,
            len = in(reg) len,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            inout("rdi") to => _,
            inout("rsi") from => _,
            out("rcx") _,
            options(nostack),
        );
    }
    to
}

/// # Safety
/// As C's: it is so long.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    let turns = len / TURN;
    let word = u64::from(byte as u8) * 0x0101_0101_0101_0101;
    // SAFETY: as above.
    unsafe {
        asm!(
            "movq {a}, rax",
            "punpcklqdq {a}, {a}",
            "test {turns}, {turns}",
            "jz 3f",
            "2:",
            "movups [rdi], {a}",
            "movups [rdi + 16], {a}",
            "movups [rdi + 32], {a}",
            "movups [rdi + 48], {a}",
            "add rdi, 64",
            "dec {turns}",
            "jnz 2b",
            "3:",
            "mov rcx, {len}",
            "and rcx, 63",
            "rep stosb",
            turns = inout(reg) turns => _,
            len = in(reg) len,
            a = out(xmm_reg) _,
            in("rax") word,
            inout("rdi") to => _,
            out("rcx") _,
            options(nostack),
        );
    }
    to
}
