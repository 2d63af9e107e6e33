//! Asks a running task to stop at its next migration point, from any thread.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use wayfare_instrument::abi;

/// Sets and clears the poll words of one machine. Cheap to clone; outlives the machine safely.
#[derive(Clone, Default)]
pub struct Trigger(Arc<AtomicPtr<u8>>);

impl Trigger {
    /// Points at a poll memory of a living store.
    pub(crate) fn attach(&self, polls: *mut u8) {
        self.0.store(polls, Ordering::SeqCst);
    }

    /// Must come before the store goes.
    pub(crate) fn detach(&self) {
        self.0.store(core::ptr::null_mut(), Ordering::SeqCst);
    }

    /// Makes every poll fire. The guest clears the words when a resume ends, so a request that came
    /// during one is lost: whoever waits repeats it until the task has stopped.
    pub fn fire(&self) {
        self.set(1);
    }

    pub(crate) fn set(&self, value: u32) {
        let base = self.0.load(Ordering::SeqCst);
        if base.is_null() {
            return;
        }
        let word = |offset: u32| {
            // SAFETY: `attach` was given the base of a poll memory that is at least one Wasm page
            // long and never moves (`memory_may_move(false)`), and `detach` runs before it is unmapped;
            // offsets are below `abi::FENCE` and aligned to four bytes. The guest reads these words
            // while we write them: both sides are plain 32-bit accesses of the machine, so each read
            // sees an old or a new value, and either is right.
            unsafe { AtomicU32::from_ptr(base.add(offset as usize).cast::<u32>()) }.store(value, Ordering::Relaxed);
        };
        for i in 0..abi::POLL_WORDS {
            word(abi::POLLS + 4 * i);
        }
        word(abi::ENTRY);
    }
}
