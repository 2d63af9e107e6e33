//! Random bytes that nobody can foresee, from the processor where it has them.

/// Fills a buffer. `false` where there is no source, or it fails.
#[cfg(target_arch = "x86_64")]
pub fn fill(buf: &mut [u8]) -> bool {
    const RDRAND: u32 = 1 << 30;
    if core::arch::x86_64::__cpuid(1).ecx & RDRAND == 0 {
        return false;
    }
    let draw = || {
        let (random, good): (u64, u8);
        // SAFETY: the processor says that it has the instruction.
        unsafe {
            core::arch::asm!("rdrand {}", "setc {}", out(reg) random, out(reg_byte) good, options(nomem, nostack))
        };
        (good != 0).then_some(random)
    };
    buf.chunks_mut(8).all(|chunk| {
        // It may be at its end for a moment.
        let Some(random) = (0..16).find_map(|_| draw()) else { return false };
        chunk.copy_from_slice(&random.to_le_bytes()[..chunk.len()]);
        true
    })
}

/// Fills a buffer. `false` where there is no source, or it fails.
#[cfg(not(target_arch = "x86_64"))]
pub fn fill(_buf: &mut [u8]) -> bool {
    false
}
