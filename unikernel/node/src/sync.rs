//! Locks that let another thread run while they are waited for, for this program and for wasmtime.

use crate::sys;
use core::sync::atomic::{AtomicU32, Ordering};
use lock_api::GuardSend;
use wayfare_unikernel_abi::NEVER;

/// A lock around a value.
pub type Mutex<T> = lock_api::Mutex<RawMutex, T>;

const FREE: u32 = 0;
const TAKEN: u32 = 1;
/// Taken, and somebody may wait.
const WANTED: u32 = 2;

/// What `lock_api` makes a [`Mutex`] of.
pub struct RawMutex(AtomicU32);

impl RawMutex {
    fn take(word: &AtomicU32) {
        if word.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return;
        }
        while word.swap(WANTED, Ordering::Acquire) != FREE {
            // Woken, or changed meanwhile: either is looked at again.
            let _ = sys::wait(word, WANTED, NEVER);
        }
    }

    fn give(word: &AtomicU32) {
        if word.swap(FREE, Ordering::Release) == WANTED {
            sys::wake(word, 1);
        }
    }
}

// SAFETY: `take` comes back to one at a time, until `give`.
unsafe impl lock_api::RawMutex for RawMutex {
    const INIT: RawMutex = RawMutex(AtomicU32::new(FREE));
    type GuardMarker = GuardSend;

    fn lock(&self) {
        RawMutex::take(&self.0);
    }

    fn try_lock(&self) -> bool {
        self.0.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    unsafe fn unlock(&self) {
        RawMutex::give(&self.0);
    }
}

/// Of a lock of wasmtime's: the lower half of its word.
///
/// # Safety
/// `lock` is a word of wasmtime's, zero at first, that only these functions use.
unsafe fn word<'a>(lock: *mut usize) -> &'a AtomicU32 {
    // SAFETY: as the caller says; a word is large enough, and aligned.
    unsafe { AtomicU32::from_ptr(lock.cast()) }
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_sync_lock_acquire(lock: *mut usize) {
    // SAFETY: wasmtime's promise, here and below.
    RawMutex::take(unsafe { word(lock) });
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_sync_lock_release(lock: *mut usize) {
    // SAFETY: as above.
    RawMutex::give(unsafe { word(lock) });
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_sync_lock_free(_lock: *mut usize) {}

/// Of a lock for readers: a writer has it. Less is the number of readers.
const WRITER: u32 = u32::MAX;

#[unsafe(no_mangle)]
extern "C" fn wasmtime_sync_rwlock_read(lock: *mut usize) {
    // SAFETY: as above.
    let word = unsafe { word(lock) };
    loop {
        let readers = word.load(Ordering::Relaxed);
        if readers == WRITER {
            let _ = sys::wait(word, WRITER, NEVER);
        } else if word.compare_exchange(readers, readers + 1, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return;
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_sync_rwlock_read_release(lock: *mut usize) {
    // SAFETY: as above.
    let word = unsafe { word(lock) };
    if word.fetch_sub(1, Ordering::Release) == 1 {
        sys::wake(word, usize::MAX);
    }
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_sync_rwlock_write(lock: *mut usize) {
    // SAFETY: as above.
    let word = unsafe { word(lock) };
    while let Err(holders) = word.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed) {
        let _ = sys::wait(word, holders, NEVER);
    }
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_sync_rwlock_write_release(lock: *mut usize) {
    // SAFETY: as above.
    let word = unsafe { word(lock) };
    word.store(0, Ordering::Release);
    sys::wake(word, usize::MAX);
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_sync_rwlock_free(_lock: *mut usize) {}
