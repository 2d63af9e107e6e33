//! What allocations come from, and where the linear memories and the compiled code are.
//!
//! Around a linear memory is nothing: compiled code that goes past its end faults, and need not check before each access.

use crate::sync::RawMutex;
use crate::sys;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use talc::{ErrOnOom, Span, Talc, Talck};
use wayfare_engine::wasmtime::{Config, CustomCodeMemory, LinearMemory, MemoryCreator, MemoryType, Result, bail};
use wayfare_unikernel_abi::{Area, PAGE, Rights, WINDOWS_MOST};

#[global_allocator]
static ALLOCATOR: Talck<RawMutex, ErrOnOom> = Talc::new(ErrOnOom).lock();

/// By window: the size of the linear memory in it; `FREE` when there is none.
static SIZES: [AtomicUsize; WINDOWS_MOST] = [const { AtomicUsize::new(FREE) }; WINDOWS_MOST];
const FREE: usize = usize::MAX;

/// Lets there be a heap.
pub fn init() {
    let heap = Span::from_base_size(Area::Heap.base() as *mut u8, Area::Heap.slot() as usize);
    // SAFETY: nothing else is there, and each page comes as it is touched.
    if unsafe { ALLOCATOR.lock().claim(heap) }.is_err() {
        panic!("no heap");
    }
}

/// Tells wasmtime to do it this way.
pub fn tell(config: &mut Config) {
    config.with_host_memory(Arc::new(Windows)).with_custom_code_memory(Some(Arc::new(Code)));
}

struct Windows;

// SAFETY: a window is as large as any reservation and guard that is asked for, its pages are zero at first, those past
// the size fault, and it does not move.
unsafe impl MemoryCreator for Windows {
    fn new_memory(
        &self,
        _ty: MemoryType,
        minimum: usize,
        _maximum: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> core::result::Result<Box<dyn LinearMemory>, String> {
        let reserved = reserved.unwrap_or(0).max(minimum);
        if reserved.checked_add(guard).is_none_or(|all| all as u64 > Area::Windows.slot()) {
            return Err(format!("a linear memory of {minimum} bytes is too large for this machine"));
        }
        let taken = |size: &AtomicUsize| size.compare_exchange(FREE, 0, Ordering::Acquire, Ordering::Relaxed).is_ok();
        let index = SIZES.iter().position(taken).ok_or("too many linear memories")?;
        let window = Window { index, reserved };
        // What a module begins with is mostly a stack that it will not use: its pages count when they are touched.
        match window.set(minimum) {
            true => Ok(Box::new(window)),
            false => Err(format!("{minimum} bytes are no size of a linear memory here")),
        }
    }
}

struct Window {
    index: usize,
    reserved: usize,
}

impl Window {
    /// The kernel counts in pages, and a linear memory's size need be no multiple of one: what it has too much is in its
    /// last page.
    fn set(&self, size: usize) -> bool {
        let pages = (size as u64).next_multiple_of(PAGE);
        let set = sys::resize(Area::Windows, self.index, pages).is_ok();
        if set {
            SIZES[self.index].store(size, Ordering::Relaxed);
        }
        set
    }
}

// SAFETY: as above.
unsafe impl LinearMemory for Window {
    fn byte_size(&self) -> usize {
        SIZES[self.index].load(Ordering::Relaxed)
    }

    fn byte_capacity(&self) -> usize {
        self.reserved
    }

    fn grow_to(&mut self, new: usize) -> Result<()> {
        // Whoever asks for more means to use it. What is still to be touched elsewhere is not counted: who comes too late
        // traps.
        if new > self.reserved || (new - self.byte_size().min(new)) as u64 > sys::free() || !self.set(new) {
            bail!("{new} bytes of memory are more than there are");
        }
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        Area::Windows.place(self.index, 0).start as *mut u8
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.set(0);
        SIZES[self.index].store(FREE, Ordering::Release);
    }
}

struct Code;

impl CustomCodeMemory for Code {
    fn required_alignment(&self) -> usize {
        PAGE as usize
    }

    fn publish_executable(&self, ptr: *const u8, len: usize) -> Result<()> {
        rights(ptr, len, Rights::Execute)
    }

    fn unpublish_executable(&self, ptr: *const u8, len: usize) -> Result<()> {
        rights(ptr, len, Rights::Write)
    }
}

fn rights(ptr: *const u8, len: usize, rights: Rights) -> Result<()> {
    if sys::protect(ptr, len, rights).is_err() {
        bail!("code that is in no memory");
    }
    Ok(())
}

/// Bytes of the linear memory that begins at an address.
pub fn size_of(base: usize) -> usize {
    match window_of(base).map(|window| SIZES[window].load(Ordering::Relaxed)) {
        Some(FREE) | None => 0,
        Some(size) => size,
    }
}

/// Gives back the pages of the linear memory that an address is in, if it is in one, though whoever has it never will.
pub fn abandon(address: usize) {
    window_of(address).into_iter().for_each(|window| _ = sys::resize(Area::Windows, window, 0));
}

/// The window that an address is in.
pub fn window_of(base: usize) -> Option<usize> {
    Area::of(base as u64).filter(|(area, _)| *area == Area::Windows).map(|(_, slot)| slot)
}

/// Which pages of a part of a linear memory, from a page's beginning on, are there: a bit for each.
pub fn there(bytes: &[u8]) -> Vec<u8> {
    let pages = bytes.len().div_ceil(PAGE as usize);
    let mut bits = vec![0; pages.div_ceil(8)];
    let address = bytes.as_ptr().addr();
    let listed = window_of(address).map(|window| {
        let first = (address as u64 - Area::Windows.place(window, 0).start) / PAGE;
        sys::written(window, first, pages as u64, &mut bits, true)
    });
    // What is not known to be absent may be there.
    if listed != Some(Ok(())) {
        bits.fill(0xff);
    }
    bits
}
