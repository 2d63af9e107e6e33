//! The machine's memory, in frames of 4 KiB: which are free.

use core::sync::atomic::{AtomicU64, Ordering};
use spin::Mutex;
use wayfare_unikernel_abi::PAGE;

/// So much memory is used, from the lowest on.
const MOST: u64 = 4 << 30;
const WORDS: usize = (MOST / PAGE / 64) as usize;

/// See [`reserve`]: a part of all, within bounds.
const RESERVE_PART: u64 = 16;
const RESERVE_LEAST: u64 = 512 << 10;
const RESERVE_MOST: u64 = 4 << 20;

struct Frames {
    /// Frames are counted from here.
    base: u64,
    /// A set bit is a free frame.
    free: [u64; WORDS],
    /// No free one below this word.
    next: usize,
}

static FRAMES: Mutex<Frames> = Mutex::new(Frames { base: 0, free: [0; WORDS], next: 0 });
static FREE: AtomicU64 = AtomicU64::new(0);
/// Frames that there were at first.
static ALL: AtomicU64 = AtomicU64::new(0);

/// Says where memory begins.
pub fn init(base: u64) {
    FRAMES.lock().base = base & !(PAGE - 1);
}

/// Adds memory: whole frames of a range that nobody uses.
pub fn add(from: u64, to: u64) {
    let mut frames = FRAMES.lock();
    let base = frames.base;
    let Some(from) = from.max(base).checked_next_multiple_of(PAGE) else { return };
    let to = to.min(base.saturating_add(MOST)) & !(PAGE - 1);
    let mut added = 0;
    for frame in (from - base) / PAGE..to.saturating_sub(base) / PAGE {
        let (word, bit) = ((frame / 64) as usize, 1 << (frame % 64));
        // Tables of memory may name some of it twice.
        added += u64::from(frames.free[word] & bit == 0);
        frames.free[word] |= bit;
        frames.next = frames.next.min(word);
    }
    FREE.fetch_add(added, Ordering::Relaxed);
    ALL.fetch_add(added, Ordering::Relaxed);
}

/// Takes the lowest frame that is free. Its content is anything.
pub fn take() -> Option<u64> {
    let mut frames = FRAMES.lock();
    let word = (frames.next..WORDS).find(|word| frames.free[*word] != 0)?;
    let bit = frames.free[word].trailing_zeros();
    frames.free[word] &= !(1 << bit);
    frames.next = word;
    FREE.fetch_sub(1, Ordering::Relaxed);
    Some(frames.base + (word as u64 * 64 + u64::from(bit)) * PAGE)
}

/// Takes so many that lie beside each other.
pub fn take_row(count: u64) -> Option<u64> {
    let mut frames = FRAMES.lock();
    let mut row = 0;
    for frame in 0..MOST / PAGE {
        let is_free = frames.free[(frame / 64) as usize] & 1 << (frame % 64) != 0;
        row = if is_free { row + 1 } else { 0 };
        if row == count {
            let first = frame + 1 - count;
            (first..=frame).for_each(|frame| frames.free[(frame / 64) as usize] &= !(1 << (frame % 64)));
            FREE.fetch_sub(count, Ordering::Relaxed);
            return Some(frames.base + first * PAGE);
        }
    }
    None
}

/// Gives one back.
pub fn give(at: u64) {
    let mut frames = FRAMES.lock();
    let frame = (at - frames.base) / PAGE;
    let word = (frame / 64) as usize;
    frames.free[word] |= 1 << (frame % 64);
    frames.next = frames.next.min(word);
    FREE.fetch_add(1, Ordering::Relaxed);
}

/// Bytes that linear memories do not get: for page tables, the heap and the stacks.
pub fn reserve() -> u64 {
    (ALL.load(Ordering::Relaxed) * PAGE / RESERVE_PART).clamp(RESERVE_LEAST, RESERVE_MOST)
}

/// Bytes that are free.
pub fn free() -> u64 {
    FREE.load(Ordering::Relaxed) * PAGE
}
