//! Random bytes that nobody can foresee: a generator that is seeded at the start, by the processor where it has an
//! instruction for it and by a virtio device where there is one, by both if both are there. Each draw replaces the
//! generator's key, so that what was drawn cannot be computed from what is in memory later ("fast key erasure").

use crate::sync::Mutex;
use crate::virtio::{self, Machine};
use virtio_drivers::device::rng::VirtIORng;
use virtio_drivers::transport::DeviceType;
use wayfare_unikernel_abi::{Boot, RANDOM};

/// The generator's key; `None` where nothing has seeded it.
static KEY: Mutex<Option<[u8; 32]>> = Mutex::new(None);
/// Bytes of a seed from one source.
const SEED: usize = 32;

/// Seeds the generator.
pub fn init(boot: &Boot) {
    let processor = if boot.features & RANDOM != 0 { from_processor() } else { None };
    let sources = [processor, from_device(boot)];
    if sources.iter().any(Option::is_some) {
        let mut hasher = blake3::Hasher::new();
        sources.iter().flatten().for_each(|seed| _ = hasher.update(seed));
        *KEY.lock() = Some(*hasher.finalize().as_bytes());
    }
}

/// Fills a buffer. `false` on a machine without a source of randomness.
pub fn fill(buf: &mut [u8]) -> bool {
    let mut key = KEY.lock();
    let Some(old) = &mut *key else { return false };
    let mut stream = blake3::Hasher::new_keyed(old).finalize_xof();
    stream.fill(old);
    // The buffer may be a task's, and there may be no memory for it: nothing is held then.
    drop(key);
    stream.fill(buf);
    true
}

fn from_device(boot: &Boot) -> Option<[u8; SEED]> {
    let found = virtio::find(boot, DeviceType::EntropySource)?;
    let mut device = VirtIORng::<Machine, _>::new(found.transport).ok()?;
    let mut seed = [0; SEED];
    let mut filled = 0;
    while filled < SEED {
        match device.request_entropy(&mut seed[filled..]) {
            Ok(more @ 1..) => filled += more.min(SEED - filled),
            _ => return None,
        }
    }
    Some(seed)
}

fn from_processor() -> Option<[u8; SEED]> {
    let mut seed = [0; SEED];
    for part in seed.chunks_exact_mut(8) {
        // It may be at its end for a moment.
        part.copy_from_slice(&(0..16).find_map(|_| draw())?.to_le_bytes());
    }
    Some(seed)
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
