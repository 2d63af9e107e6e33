//! The machine's memory, in frames of 4 KiB: which are free.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use spin::Mutex;

/// Size of a frame, bytes.
pub const FRAME: u64 = 4096;
/// Memory above this is left alone.
const MOST: u64 = 4 << 30;
const WORDS: usize = (MOST / FRAME / 64) as usize;

struct Frames {
    /// A set bit is a free frame.
    free: [u64; WORDS],
    /// No free one below this word.
    next: usize,
}

static FRAMES: Mutex<Frames> = Mutex::new(Frames { free: [0; WORDS], next: 0 });
static FREE: AtomicU64 = AtomicU64::new(0);
static EXHAUSTED: AtomicBool = AtomicBool::new(false);

/// Adds memory: whole frames of a range that nobody uses.
pub fn add(from: u64, to: u64) {
    for at in (from.next_multiple_of(FRAME)..to.min(MOST) & !(FRAME - 1)).step_by(FRAME as usize) {
        give(at);
    }
}

/// Takes the lowest frame that is free. Its content is anything.
pub fn take() -> Option<u64> {
    let mut frames = FRAMES.lock();
    let word = (frames.next..WORDS).find(|word| frames.free[*word] != 0)?;
    let bit = frames.free[word].trailing_zeros();
    frames.free[word] &= !(1 << bit);
    frames.next = word;
    FREE.fetch_sub(1, Ordering::Relaxed);
    Some((word as u64 * 64 + u64::from(bit)) * FRAME)
}

/// Gives one back.
pub fn give(at: u64) {
    let frame = at / FRAME;
    let word = (frame / 64) as usize;
    let mut frames = FRAMES.lock();
    frames.free[word] |= 1 << (frame % 64);
    frames.next = frames.next.min(word);
    FREE.fetch_add(1, Ordering::Relaxed);
}

/// Bytes that are free.
pub fn free() -> u64 {
    FREE.load(Ordering::Relaxed) * FRAME
}

/// There was none when one was needed.
pub fn set_exhausted() {
    EXHAUSTED.store(true, Ordering::Relaxed);
}

/// Whether there ever was none.
pub fn is_exhausted() -> bool {
    EXHAUSTED.load(Ordering::Relaxed)
}
