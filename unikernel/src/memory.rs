//! Address space: where the heap, the stack and the linear memories are. Each is large, and gets its pages when they are
//! first touched, zeroed.
//!
//! Around a linear memory is nothing: compiled code that goes past its end faults, and need not check before each access.

use crate::arch::paging;
use crate::frames;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};
use spin::Mutex;
use talc::{ErrOnOom, Span, Talc, Talck};
use wayfare_engine::wasmtime::{Config, CustomCodeMemory, LinearMemory, MemoryCreator, MemoryType, Result, bail};

/// What allocations of the kernel and of wasmtime come from.
const HEAP: u64 = 0x1000_0000_0000;
const HEAP_SIZE: u64 = 4 << 30;
/// The stack on which tasks run: what the engine lets one use, and some for the host functions. Below it is nothing.
pub const STACK: u64 = 0x2000_0000_0000;
/// Its size, bytes.
pub const STACK_SIZE: u64 = (256 << 20) + (2 << 20);
/// Linear memories, each in a window of its own.
const WINDOWS: u64 = 0x3000_0000_0000;
const WINDOW: u64 = 8 << 30;
const WINDOWS_MOST: usize = 64;
/// What linear memories do not get: for page tables, the heap and the stack.
const RESERVE: u64 = 512 << 10;

#[global_allocator]
static ALLOCATOR: Talck<Mutex<()>, ErrOnOom> = Talc::new(ErrOnOom).lock();

/// By window: the size of the linear memory in it; `FREE` when there is none.
static SIZES: [AtomicUsize; WINDOWS_MOST] = [const { AtomicUsize::new(FREE) }; WINDOWS_MOST];
const FREE: usize = usize::MAX;

/// Lets there be a heap.
pub fn init() {
    let heap = Span::from_base_size(HEAP as *mut u8, HEAP_SIZE as usize);
    // SAFETY: nothing else is there, and each page comes as it is touched.
    if unsafe { ALLOCATOR.lock().claim(heap) }.is_err() {
        panic!("no heap");
    }
}

/// What came of a touch.
pub enum Touch {
    /// There is a page now.
    Mapped,
    /// Nothing is to be there.
    NotThere,
    /// Something is, but there is no memory left.
    Full,
}

/// Somebody touched an address where no page is.
pub fn touch(address: u64) -> Touch {
    let inside = |base: u64, size: u64| (base..base + size).contains(&address);
    let window = address.wrapping_sub(WINDOWS) / WINDOW;
    let size = SIZES.get(window as usize).map_or(FREE, |size| size.load(Ordering::Relaxed));
    let linear = size != FREE && inside(WINDOWS + window * WINDOW, size as u64);
    if !linear && !inside(HEAP, HEAP_SIZE) && !inside(STACK, STACK_SIZE) {
        return Touch::NotThere;
    }
    let left = !linear || frames::free() > RESERVE;
    if left && paging::map(address) { Touch::Mapped } else { Touch::Full }
}

/// Whether an address is one of a task's own.
pub fn is_linear(address: u64) -> bool {
    (WINDOWS..WINDOWS + WINDOWS_MOST as u64 * WINDOW).contains(&address)
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
        if reserved.checked_add(guard).is_none_or(|all| all as u64 > WINDOW) {
            return Err(format!("a linear memory of {minimum} bytes is too large for this machine"));
        }
        let taken = |size: &AtomicUsize| size.compare_exchange(FREE, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        let index = SIZES.iter().position(taken).ok_or("too many linear memories")?;
        // What a module begins with is mostly a stack that it will not use: its pages count when they are touched.
        SIZES[index].store(minimum, Ordering::Relaxed);
        Ok(Box::new(Window { index, reserved }))
    }
}

struct Window {
    index: usize,
    reserved: usize,
}

impl Window {
    fn base(&self) -> u64 {
        WINDOWS + self.index as u64 * WINDOW
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
        if new > self.reserved || (new - self.byte_size().min(new)) as u64 + RESERVE > frames::free() {
            bail!("{new} bytes of memory are more than there are");
        }
        SIZES[self.index].store(new, Ordering::Relaxed);
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        self.base() as *mut u8
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let size = SIZES[self.index].swap(0, Ordering::Relaxed) as u64;
        for at in (self.base()..self.base() + size).step_by(frames::FRAME as usize) {
            paging::unmap(at);
        }
        if size > 0 {
            paging::clean_up(self.base(), self.base() + size);
        }
        SIZES[self.index].store(FREE, Ordering::Relaxed);
    }
}

struct Code;

impl CustomCodeMemory for Code {
    fn required_alignment(&self) -> usize {
        frames::FRAME as usize
    }

    fn publish_executable(&self, ptr: *const u8, len: usize) -> Result<()> {
        rights(ptr, len, paging::Rights::Execute)
    }

    fn unpublish_executable(&self, ptr: *const u8, len: usize) -> Result<()> {
        rights(ptr, len, paging::Rights::Write)
    }
}

fn rights(ptr: *const u8, len: usize, rights: paging::Rights) -> Result<()> {
    let from = ptr as u64;
    if !from.is_multiple_of(frames::FRAME) {
        bail!("code that does not begin with a page");
    }
    if !paging::protect(from, (from + len as u64).next_multiple_of(frames::FRAME), rights) {
        bail!("code that is in no memory");
    }
    Ok(())
}
