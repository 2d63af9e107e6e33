//! Threads, what belongs to each, and what is done when one faults.

use crate::{memory, sys};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use wayfare_unikernel_abi::{Area, Error, Fault, THREADS_MOST};

/// What belongs to a thread.
struct Own {
    /// wasmtime's.
    slots: [AtomicPtr<u8>; 2],
    /// It touched memory that there was none left for.
    exhausted: AtomicBool,
    /// What is done if it has to be given up.
    last: AtomicPtr<Work>,
}

const NOTHING: *mut Work = core::ptr::null_mut();

static OWN: [Own; THREADS_MOST] = [const {
    Own {
        slots: [const { AtomicPtr::new(core::ptr::null_mut()) }; 2],
        exhausted: AtomicBool::new(false),
        last: AtomicPtr::new(NOTHING),
    }
}; THREADS_MOST];

fn own() -> &'static Own {
    // A thread is on the stack with its number.
    let here = 0u8;
    let number = ((&raw const here).addr() as u64 - Area::Stacks.base()) / Area::Stacks.slot();
    &OWN[number as usize]
}

type Work = Box<dyn FnOnce() + Send>;

/// Begins a thread, and gives its number. One that is urgent runs before all that are not.
///
/// # Errors
/// When there are too many, or there is no memory left.
pub fn spawn(urgent: bool, work: impl FnOnce() + Send + 'static) -> Result<usize, Error> {
    let work: Box<Work> = Box::new(Box::new(work));
    let pointer = Box::into_raw(work);
    sys::spawn(start, pointer.expose_provenance(), urgent).inspect_err(|_| {
        // SAFETY: nobody else has got it.
        drop(unsafe { Box::from_raw(pointer) });
    })
}

extern "C" fn start(work: usize) -> ! {
    let own = own();
    own.slots.iter().for_each(|slot| slot.store(core::ptr::null_mut(), Ordering::Relaxed));
    own.exhausted.store(false, Ordering::Relaxed);
    let work: *mut Work = core::ptr::with_exposed_provenance_mut(work);
    // SAFETY: `spawn` has made it for this thread.
    let work = unsafe { Box::from_raw(work) };
    work();
    drop(last_words(own));
    sys::end()
}

fn last_words(own: &Own) -> Option<Box<Work>> {
    let last = own.last.swap(NOTHING, Ordering::AcqRel);
    // SAFETY: only `if_given_up` puts something there, from a box, and it was taken out.
    (last != NOTHING).then(|| unsafe { Box::from_raw(last) })
}

/// Says what is to be done if this thread has to be given up: if a function of the engine's that works on a task's memory
/// (`memory.fill`) touches a page for which there is none left. Unlike a task's own code it cannot go back. What the thread
/// holds then, but for the task's memory, is lost.
pub fn if_given_up(work: impl FnOnce() + Send + 'static) {
    let work: Box<Work> = Box::new(Box::new(work));
    let own = own();
    drop(last_words(own));
    own.last.store(Box::into_raw(work), Ordering::Release);
}

/// Whether this thread touched memory that there was none left for, since the last time that this was asked.
pub fn was_exhausted() -> bool {
    own().exhausted.swap(false, Ordering::Relaxed)
}

/// wasmtime keeps what belongs to a thread here.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_tls_get(slot: usize) -> *mut u8 {
    own().slots[slot].load(Ordering::Relaxed)
}

/// See [`wasmtime_tls_get`].
#[unsafe(no_mangle)]
extern "C" fn wasmtime_tls_set(slot: usize, value: *mut u8) {
    own().slots[slot].store(value, Ordering::Relaxed);
}

/// Of wasmtime: comes back if the trap is none of its code's.
type Handler = extern "C" fn(usize, usize, bool, usize);
static HANDLER: AtomicUsize = AtomicUsize::new(0);

/// wasmtime says who is to be asked about faults of its code.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_init_traps(handler: Handler) -> i32 {
    HANDLER.store(handler as usize, Ordering::Release);
    sys::catch(caught).map_or(-1, |()| 0)
}

extern "C" fn caught(at: usize, frame: usize, address: usize, fault: usize) -> ! {
    let fault = Fault::from_number(fault);
    if fault == Fault::Full {
        own().exhausted.store(true, Ordering::Relaxed);
    }
    let handler = HANDLER.load(Ordering::Acquire);
    if handler != 0 {
        // SAFETY: only `wasmtime_init_traps` writes there.
        let handler = unsafe { core::mem::transmute::<usize, Handler>(handler) };
        // It does not come back if it knows the place.
        handler(at, frame, fault != Fault::Instruction, address);
    }
    if fault == Fault::Full
        && memory::window_of(address).is_some()
        && let Some(last) = last_words(own())
    {
        // Nobody looks at that memory any more when this is over.
        last();
        memory::abandon(address);
        sys::end();
    }
    let what = if fault == Fault::Full { "out of memory" } else { "a fault" };
    panic!("{what} ({fault:?}) at {at:#x}, address {address:#x}")
}
