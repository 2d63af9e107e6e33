//! Where a task's linear memories are, for threads that look at them while it runs.
//!
//! The task's store owns the memories, and may be dropped or exchanged at any moment by the thread that runs the task.
//! So whoever looks is a visitor: [`Grounds::visit`] says where the memories are, and nothing of them is unmapped
//! before the last visitor has left. Memories never move and never shrink while they are there
//! (`memory_may_move(false)`); they grow, by the guest's own hand, and how far is asked of the kernel.

use crate::config::{RESERVATION, RESERVATION_FOR_GROWTH};
use rustix::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use wayfare_snapshot::PAGE_SIZE;

/// Every linear memory of 64 KiB pages is a multiple of this.
const WASM_PAGE: usize = 64 << 10;

/// One linear memory.
pub struct Region {
    /// Its index in the module.
    pub index: u32,
    /// Address of its first byte.
    pub base: usize,
    /// Bytes of address space that are kept for it.
    pub reserved: usize,
    /// Bytes that are known to be accessible.
    known: AtomicUsize,
}

impl Region {
    /// A memory that has `size` bytes now.
    pub fn new(index: u32, base: *mut u8, size: usize) -> Region {
        // As wasmtime reserves, given `config::configure`: what lies behind may be anybody's.
        let reserved = if size <= RESERVATION { RESERVATION } else { size.saturating_add(RESERVATION_FOR_GROWTH) };
        Region { index, base: base.expose_provenance(), reserved, known: AtomicUsize::new(size) }
    }

    /// Bytes that can be read now. The guest may be growing it: what is accessible is asked of the kernel, page by
    /// page, since a memory's size is in the hands of the thread that runs the task.
    pub fn size(&self) -> usize {
        let known = self.known.load(Ordering::Relaxed);
        let grown = |size: usize| size < self.reserved && readable(self.base + size);
        if !grown(known) {
            return known;
        }
        let (mut good, mut step) = (known, WASM_PAGE);
        while grown(good + step) {
            good += step;
            step *= 2;
        }
        // `good` is within, `good + step` is not.
        while step > WASM_PAGE {
            step /= 2;
            if grown(good + step) {
                good += step;
            }
        }
        self.known.fetch_max(good + WASM_PAGE, Ordering::Relaxed).max(good + WASM_PAGE)
    }

    /// Copies bytes out while the guest may be writing there: each eight of them are what they were at some moment.
    /// `false` when they are not all in the memory. `at` must be a multiple of eight.
    pub fn copy(&self, at: usize, into: &mut [u8]) -> bool {
        let end = at.checked_add(into.len().next_multiple_of(8));
        let known = self.known.load(Ordering::Relaxed);
        if !at.is_multiple_of(8) || !end.is_some_and(|end| end <= known || end <= self.size()) {
            return false;
        }
        let mut from = core::ptr::with_exposed_provenance_mut::<u8>(self.base + at);
        let mut next = || {
            // SAFETY: aligned, and in the accessible part of a memory that stays mapped as long as there is the
            // visitor through whom we are called (see `Visit`). The guest's machine code may write there meanwhile:
            // both sides are whole accesses of the machine, so we read an old or a new value. Host functions write
            // through a slice, in code that cannot know of this address: the worst is a torn value, in a page that
            // counts as written again.
            let word = unsafe { AtomicU64::from_ptr(from.cast()) }.load(Ordering::Relaxed);
            from = from.wrapping_add(8);
            word.to_ne_bytes()
        };
        let (words, rest) = into.as_chunks_mut::<8>();
        words.iter_mut().for_each(|word| *word = next());
        if !rest.is_empty() {
            rest.copy_from_slice(&next()[..rest.len()]);
        }
        true
    }
}

/// Whether an address of ours can be read, found out by the kernel: it sets a flag, of a descriptor that nobody uses,
/// to what it finds there, or says that it cannot.
fn readable(address: usize) -> bool {
    static PROBE: OnceLock<Option<OwnedFd>> = OnceLock::new();
    let open = || rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).ok();
    let Some(fd) = PROBE.get_or_init(open) else { return false };
    // SAFETY: `FIONBIO` reads an `int` at the address, or fails with `EFAULT`; it writes nothing, and blocking or
    // not is all the same to this descriptor.
    unsafe { rustix::ioctl::ioctl(fd.as_fd(), SetNonblocking(address)) }.is_ok()
}

struct SetNonblocking(usize);

// SAFETY: `FIONBIO` of `asm-generic/ioctls.h` (all of our targets), which takes the address of an `int`.
unsafe impl rustix::ioctl::Ioctl for SetNonblocking {
    type Output = ();
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> rustix::ioctl::Opcode {
        0x5421
    }

    fn as_ptr(&mut self) -> *mut core::ffi::c_void {
        core::ptr::with_exposed_provenance_mut(self.0)
    }

    unsafe fn output_from_ptr(_: rustix::ioctl::IoctlOutput, _: *mut core::ffi::c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

/// See the module.
#[derive(Default)]
pub struct Grounds {
    inner: Mutex<Inner>,
    /// A visitor has left, or the memories are others now.
    changed: Condvar,
    /// Somebody has write-protected pages: only one can.
    claimed: AtomicBool,
}

#[derive(Default)]
struct Inner {
    regions: Option<Arc<[Region]>>,
    /// Counts the exchanges of the memories.
    generation: u64,
    visitors: usize,
    /// Somebody waits for the visitors to leave: no new ones.
    closing: bool,
}

impl Grounds {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says where the memories are now; `None` when the task is gone. Must come before the former ones are
    /// unmapped, and waits until no visitor looks at those.
    pub fn exchange(&self, regions: Option<Vec<Region>>) {
        let mut inner = self.lock();
        inner.closing = true;
        while inner.visitors > 0 {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner.closing = false;
        inner.regions = regions.map(Into::into);
        inner.generation += 1;
        self.changed.notify_all();
    }

    /// Comes to look; `None` when the task is gone.
    pub fn visit(self: &Arc<Self>) -> Option<Visit> {
        let mut inner = self.lock();
        while inner.closing {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        let regions = inner.regions.clone()?;
        inner.visitors += 1;
        Some(Visit { regions, generation: inner.generation, grounds: self.clone() })
    }

    /// Becomes the only one who protects pages, unless somebody is already.
    pub fn claim(self: &Arc<Self>) -> Option<Claim> {
        (!self.claimed.swap(true, Ordering::SeqCst)).then(|| Claim(self.clone()))
    }
}

/// While it is there, the memories are.
pub struct Visit {
    /// The memories, by index.
    pub regions: Arc<[Region]>,
    /// Another number means other memories.
    pub generation: u64,
    grounds: Arc<Grounds>,
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut inner = self.grounds.lock();
        inner.visitors -= 1;
        self.grounds.changed.notify_all();
    }
}

/// The right to protect pages of a task.
pub struct Claim(Arc<Grounds>);

impl Claim {
    /// Whose.
    pub fn grounds(&self) -> &Arc<Grounds> {
        &self.0
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.claimed.store(false, Ordering::SeqCst);
    }
}

/// Bytes of a range of pages in a memory of `size` bytes.
pub fn bytes_of(first: u64, count: u64, size: usize) -> core::ops::Range<usize> {
    let at = |page: u64| usize::try_from(page).unwrap_or(usize::MAX).saturating_mul(PAGE_SIZE).min(size);
    at(first)..at(first.saturating_add(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

    #[test]
    fn growth_is_found_wherever_it_ends() {
        let null = core::ptr::null_mut();
        let len = RESERVATION + WASM_PAGE;
        // SAFETY: a new mapping at a place of the kernel's choice; what is made accessible is within it.
        unsafe {
            let base =
                rustix::mm::mmap_anonymous(null, len, ProtFlags::empty(), MapFlags::PRIVATE | MapFlags::NORESERVE)
                    .unwrap();
            let region = Region::new(0, base.cast(), 0);
            assert_eq!(region.size(), 0);
            assert!(!region.copy(0, &mut [0; 8]));
            for pages in [1, 2, 3, 4, 7, 8, 9, 100, 101, 356, 4000, 4001, 65535, 65536] {
                let size = pages * WASM_PAGE;
                rustix::mm::mprotect(base, size, MprotectFlags::READ | MprotectFlags::WRITE).unwrap();
                assert_eq!(region.size(), size);
                base.cast::<u8>().add(size - 3).write(pages as u8);
                let mut read = [0; 8];
                assert!(region.copy(size - 8, &mut read[..7]) && read == [0, 0, 0, 0, 0, pages as u8, 0, 0]);
                assert!(!region.copy(size, &mut read[..1]) && !region.copy(size - 8, &mut [0; 16]));
                assert!(!region.copy(usize::MAX - 7, &mut read) && !region.copy(4, &mut read));
            }
            rustix::mm::munmap(base, len).unwrap();
        }
    }

    #[test]
    fn memories_stay_until_the_last_visitor_has_left() {
        let grounds = Arc::new(Grounds::default());
        assert!(grounds.visit().is_none());
        grounds.exchange(Some(Vec::new()));
        let visit = grounds.visit().unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = std::thread::spawn({
            let grounds = grounds.clone();
            move || {
                grounds.exchange(None);
                sender.send(()).unwrap();
            }
        });
        assert!(receiver.recv_timeout(std::time::Duration::from_millis(20)).is_err());
        drop(visit);
        receiver.recv().unwrap();
        thread.join().unwrap();
        assert!(grounds.visit().is_none());
    }
}
