//! The processors of the machine. Each runs one of the node's threads, or waits; in the kernel is one at a time.
//!
//! One lock is around all of the kernel: its calls are few and short beside what threads compute, and what is not shared by
//! processors within it needs no thought. Whoever comes in waits for the lock with interrupts off, and so cannot answer:
//! nobody in the kernel may wait for another processor to do something there, but only for it to be there
//! ([`is_outside`]). On its way in a processor catches up on what was done meanwhile, and on its way out it chooses a thread;
//! so all that one ever says to another is to come in ([`call_in`]).

use crate::arch;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Most processors that are used.
pub const MOST: usize = 32;

/// Where a processor is: it has not come yet,
const ABSENT: u32 = 0;
/// in the kernel, or at its door;
const INSIDE: u32 = 1;
/// waiting for something to do,
const IDLE: u32 = 2;
/// running a thread.
const OUTSIDE: u32 = 3;

struct Processor {
    place: AtomicU32,
    /// It was told to come in, and has not come yet.
    called: AtomicBool,
}

/// The first one is in the kernel from the start, and has the lock.
static PROCESSORS: [Processor; MOST] = {
    let mut all = [const { Processor { place: AtomicU32::new(ABSENT), called: AtomicBool::new(false) } }; MOST];
    all[0].place = AtomicU32::new(INSIDE);
    all
};
static COUNT: AtomicUsize = AtomicUsize::new(1);

/// The lock: whoever comes draws a number, and enters when it is served.
static DRAWN: AtomicU32 = AtomicU32::new(1);
static SERVED: AtomicU32 = AtomicU32::new(0);
/// Who has it.
static HOLDER: AtomicUsize = AtomicUsize::new(0);

/// Who has failed, or ended the machine, so that nobody else is to go on.
static STOPPER: AtomicUsize = AtomicUsize::new(NOBODY);
const NOBODY: usize = usize::MAX;

/// Bytes of a processor's stack in the kernel.
pub const STACK: u64 = 16 << 10;
#[repr(C, align(4096))]
struct Stack([u8; STACK as usize]);
/// The first one's; the others' are mapped as they come.
static mut FIRST_STACK: Stack = Stack([0; STACK as usize]);
/// By processor: its stack's end.
static STACKS: [AtomicU64; MOST] = [const { AtomicU64::new(0) }; MOST];

/// The first processor has a stack of its own from now on, apart from the one that it booted on.
pub fn first_stack() {
    set_stack(0, (&raw const FIRST_STACK) as u64 + STACK);
}

/// Notes where a processor's stack ends.
pub fn set_stack(processor: usize, end: u64) {
    STACKS[processor].store(end, Ordering::Relaxed);
}

/// The end of a processor's stack in the kernel.
pub fn stack(processor: usize) -> u64 {
    STACKS[processor].load(Ordering::Relaxed)
}

/// The processor that runs this, which is in the kernel.
pub fn this() -> usize {
    HOLDER.load(Ordering::Relaxed)
}

/// How many have come. Their numbers are below that.
pub fn count() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// Whether there is one only.
pub fn is_alone() -> bool {
    count() == 1
}

/// All but this one.
pub fn others() -> impl Iterator<Item = usize> {
    let this = this();
    (0..count()).filter(move |other| *other != this)
}

/// A processor comes into the kernel, alone. `false` if it is there: the kernel has failed.
pub fn enter(processor: usize) -> bool {
    let Processor { place, called } = &PROCESSORS[processor];
    if place.swap(INSIDE, Ordering::SeqCst) == INSIDE {
        return false;
    }
    lock();
    HOLDER.store(processor, Ordering::Relaxed);
    called.store(false, Ordering::Relaxed);
    arch::catch_up();
    true
}

/// It leaves, to run a thread, or to wait.
pub fn leave(to_thread: bool) {
    let place = if to_thread { OUTSIDE } else { IDLE };
    PROCESSORS[this()].place.store(place, Ordering::SeqCst);
    unlock();
}

/// Takes the lock, for a processor that has no number yet. Does not come back when all are to stand still.
pub fn lock() {
    let number = DRAWN.fetch_add(1, Ordering::SeqCst);
    while SERVED.load(Ordering::SeqCst) != number && STOPPER.load(Ordering::Relaxed) == NOBODY {
        core::hint::spin_loop();
    }
    // Also when it is served: who has stopped all may have failed without the lock.
    if STOPPER.load(Ordering::SeqCst) != NOBODY {
        arch::stand_still();
    }
}

/// Gives it back.
pub fn unlock() {
    // Nobody else writes to it.
    let next = SERVED.load(Ordering::Relaxed).wrapping_add(1);
    SERVED.store(next, Ordering::Release);
}

/// Whether one more can come, where nobody knows how many there are.
#[cfg(target_arch = "x86_64")]
pub fn has_room() -> bool {
    count() < MOST
}

/// A processor has come, and taken the lock: its number.
pub fn join() -> usize {
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    PROCESSORS[number].place.store(INSIDE, Ordering::Relaxed);
    HOLDER.store(number, Ordering::Relaxed);
    arch::catch_up();
    number
}

/// Whether a processor runs a thread: what the tables say now it may not know.
#[cfg(target_arch = "x86_64")]
pub fn is_outside(processor: usize) -> bool {
    PROCESSORS[processor].place.load(Ordering::SeqCst) == OUTSIDE
}

/// Has another processor come in as soon as it can, unless it is there, or told so already.
pub fn call_in(processor: usize) {
    let Processor { place, called } = &PROCESSORS[processor];
    if place.load(Ordering::SeqCst) != INSIDE && !called.swap(true, Ordering::Relaxed) {
        arch::call_in(processor);
    }
}

/// Has all others stand still: the machine has failed, or is to end. A second one who wants that stands still as well, so that
/// one speaks.
pub fn stop_others() {
    let this = this();
    match STOPPER.compare_exchange(NOBODY, this, Ordering::SeqCst, Ordering::Relaxed) {
        Err(stopper) if stopper != this => arch::stand_still(),
        // Whoever fails without the lock takes himself for another one, who is to come in, too.
        _ => (0..count()).for_each(call_in),
    }
}
