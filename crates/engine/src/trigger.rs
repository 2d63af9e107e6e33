//! Asks a running task to stop at its next migration point, from any thread.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use wayfare_instrument::abi;

/// Sets and clears the poll words of one machine. Cheap to clone; outlives the machine safely.
#[derive(Clone, Default)]
pub struct Trigger(Arc<Target>);

#[derive(Default)]
struct Target {
    /// Base of a poll memory, or null.
    base: AtomicPtr<u8>,
    /// Threads that are writing there.
    writers: AtomicUsize,
}

impl Trigger {
    /// Points at the poll memory of a living store, in place of any other.
    pub(crate) fn attach(&self, polls: *mut u8) {
        self.0.base.store(polls, Ordering::SeqCst);
        self.settle();
    }

    /// Must come before the store goes; leaves a trigger alone that points at another machine by now.
    pub(crate) fn detach(&self, polls: *mut u8) {
        let null = core::ptr::null_mut();
        let _ = self.0.base.compare_exchange(polls, null, Ordering::SeqCst, Ordering::SeqCst);
        self.settle();
    }

    /// Waits for whoever may still write to the former place. Writers never wait, so that an interrupt
    /// handler may be one.
    fn settle(&self) {
        while self.0.writers.load(Ordering::SeqCst) != 0 {
            core::hint::spin_loop();
        }
    }

    /// Makes every poll fire. The guest clears the words when a resume ends, so a request that came
    /// during one is lost: whoever waits repeats it until the task has stopped.
    pub fn fire(&self) {
        self.set(1);
    }

    /// Whether a capture or a resume is under way, as the module itself sees it. Only on the task's own thread, between
    /// the making of its store and the dropping of it.
    pub(crate) fn is_set(&self) -> bool {
        let base = self.0.base.load(Ordering::SeqCst);
        // SAFETY: as in `set`, and nobody unmaps it: that would be done by the thread that we are on.
        !base.is_null()
            && unsafe { AtomicU32::from_ptr(base.add(abi::ENTRY as usize).cast()) }.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn set(&self, value: u32) {
        self.0.writers.fetch_add(1, Ordering::SeqCst);
        let base = self.0.base.load(Ordering::SeqCst);
        if !base.is_null() {
            let word = |offset: u32| {
                // SAFETY: `attach` was given the base of a poll memory that is at least one Wasm page
                // long and never moves (`memory_may_move(false)`). It is not unmapped while we write: we
                // are counted as a writer since before `base` was read, and whoever unmaps it has first
                // put another value in its place and then waited until there was no writer. Offsets are
                // below `abi::FENCE` and aligned to four bytes. The guest reads these words while we
                // write them: both sides are plain 32-bit accesses of the machine, so each read sees an
                // old or a new value, and either is right.
                let word = unsafe { AtomicU32::from_ptr(base.add(offset as usize).cast::<u32>()) };
                word.store(value, Ordering::Relaxed);
            };
            word(abi::ENTRY);
            for i in 0..abi::POLL_WORDS {
                word(abi::POLLS + 4 * i);
            }
        }
        self.0.writers.fetch_sub(1, Ordering::SeqCst);
    }
}
