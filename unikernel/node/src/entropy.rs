//! Random bytes that nobody can foresee, from the processor where it has them.

use core::sync::atomic::{AtomicBool, Ordering};
use wayfare_unikernel_abi::{Boot, RANDOM};

static HAS: AtomicBool = AtomicBool::new(false);

/// Takes over what the kernel has found out.
pub fn init(boot: &Boot) {
    HAS.store(boot.features & RANDOM != 0, Ordering::Relaxed);
}

/// Fills a buffer. `false` where there is no source, or it fails.
pub fn fill(buf: &mut [u8]) -> bool {
    HAS.load(Ordering::Relaxed)
        && buf.chunks_mut(8).all(|chunk| {
            // It may be at its end for a moment.
            let Some(random) = (0..16).find_map(|_| draw()) else { return false };
            chunk.copy_from_slice(&random.to_le_bytes()[..chunk.len()]);
            true
        })
}

#[cfg(target_arch = "x86_64")]
fn draw() -> Option<u64> {
    let (random, good): (u64, u8);
    // SAFETY: the processor has the instruction, or this is not called.
    unsafe { core::arch::asm!("rdrand {}", "setc {}", out(reg) random, out(reg_byte) good, options(nomem, nostack)) };
    (good != 0).then_some(random)
}

#[cfg(target_arch = "aarch64")]
fn draw() -> Option<u64> {
    let (random, good): (u64, u64);
    // SAFETY: as above. The register is `RNDR`.
    unsafe {
        core::arch::asm!("mrs {}, S3_3_C2_C4_0", "cset {}, ne", out(reg) random, out(reg) good, options(nomem, nostack));
    }
    (good != 0).then_some(random)
}

#[cfg(target_arch = "riscv64")]
fn draw() -> Option<u64> {
    None
}
