//! The node's threads, one of which runs: urgent ones before others, those of the same kind in turn.
//!
//! The processor writes what was interrupted into the thread's [`Context`], where it stays until the thread runs again.
//! The kernel itself is never interrupted.

use crate::arch::Context;
use crate::{clock, guard, report, space};
use core::sync::atomic::{AtomicUsize, Ordering};
use wayfare_board::report::Part;
use wayfare_unikernel_abi::{Area, Error, STACK, THREADS_MOST};

/// For so long a thread runs before another of its kind gets its turn, nanoseconds.
const TURN: u64 = 10_000_000;
/// What runs when nothing else does.
pub const IDLE: usize = THREADS_MOST;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// There is none.
    None,
    /// It could run.
    Ready,
    /// It waits for a word at an address, or for a time.
    Waiting { at: u64, deadline: u64 },
}

struct Thread {
    state: State,
    urgent: bool,
    context: Context,
}

/// One who listens to a device.
#[derive(Clone, Copy)]
struct Listener {
    line: usize,
    at: u64,
}

/// See the module.
pub struct Threads {
    all: [Thread; THREADS_MOST + 1],
    current: usize,
    /// There are no threads from here on.
    end: usize,
    turn_ends: u64,
    listeners: [Option<Listener>; LINES],
    catcher: usize,
}

/// Most interrupt lines that anybody listens to.
const LINES: usize = 32;

static mut THREADS: Threads = Threads {
    all: [const { Thread { state: State::None, urgent: false, context: Context::EMPTY } }; THREADS_MOST + 1],
    current: IDLE,
    end: 0,
    turn_ends: 0,
    listeners: [None; LINES],
    catcher: 0,
};
/// How often the kernel was entered and not left.
static INSIDE: AtomicUsize = AtomicUsize::new(0);

/// The threads, for whoever has just come into the kernel.
///
/// # Safety
/// Only one may have them at a time: the kernel is on one processor and is not interrupted, and its entries in `arch` are
/// the only ones that call this, once each.
pub unsafe fn threads() -> &'static mut Threads {
    let threads = &raw mut THREADS;
    // SAFETY: as the caller says.
    unsafe { &mut *threads }
}

/// Notes that the kernel was entered. `false` if it had not been left: it has failed.
pub fn enter() -> bool {
    INSIDE.fetch_add(1, Ordering::Relaxed) == 0
}

/// Notes that it is left.
pub fn leave() {
    INSIDE.store(0, Ordering::Relaxed);
}

impl Threads {
    /// The thread that runs, or ran until the kernel was entered.
    pub fn current(&mut self) -> &mut Context {
        &mut self.all[self.current].context
    }

    /// What runs when nothing else does.
    pub fn set_idle(&mut self, context: Context) {
        self.all[IDLE].context = context;
    }

    /// Begins a thread.
    pub fn spawn(&mut self, entry: u64, argument: u64, urgent: bool) -> Result<usize, Error> {
        let slot = self.all[..IDLE].iter().position(|thread| thread.state == State::None).ok_or(Error::Full)?;
        space::resize(Area::Stacks, slot, STACK)?;
        let stack = Area::Stacks.place(slot, STACK).end;
        self.all[slot] = Thread { state: State::Ready, urgent, context: Context::begin(entry, argument, stack) };
        self.end = self.end.max(slot + 1);
        Ok(slot)
    }

    /// Ends the one that runs.
    pub fn end(&mut self) {
        self.all[self.current].state = State::None;
        // The kernel is not on this stack.
        let _ = space::resize(Area::Stacks, self.current, 0);
    }

    /// Who is told of faults.
    pub fn set_catcher(&mut self, entry: usize) {
        self.catcher = entry;
    }

    /// Who is told of faults, if anybody.
    pub fn catcher(&self) -> Option<usize> {
        (self.catcher != 0).then_some(self.catcher)
    }

    /// The one that runs waits; what it is told when it goes on is set by then.
    pub fn wait(&mut self, at: u64, deadline: u64) {
        self.all[self.current].state = State::Waiting { at, deadline };
    }

    /// Wakes those who wait there. Gives how many.
    pub fn wake(&mut self, at: u64, most: usize) -> usize {
        let waits = |thread: &&mut Thread| matches!(thread.state, State::Waiting { at: there, .. } if there == at);
        let mut woken = 0;
        for thread in self.all[..self.end].iter_mut().filter(waits).take(most) {
            thread.state = State::Ready;
            thread.context.set_result(0);
            woken += 1;
        }
        woken
    }

    /// Somebody wants to hear of an interrupt.
    pub fn listen(&mut self, line: usize, at: u64) -> Result<(), Error> {
        let known = self.listeners.iter().position(|l| l.is_some_and(|l| l.line == line));
        let free = || self.listeners.iter().position(Option::is_none);
        let slot = known.or_else(free).ok_or(Error::Full)?;
        self.listeners[slot] = Some(Listener { line, at });
        Ok(())
    }

    /// A device has interrupted.
    pub fn interrupted(&mut self, line: usize) {
        let Some(listener) = self.listeners.iter().flatten().find(|l| l.line == line).copied() else { return };
        // It was writable when it was given, and nothing of that kind is ever taken back.
        if let Ok(word) = space::write(listener.at, 4) {
            let value = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_add(1);
            word.copy_from_slice(&value.to_le_bytes());
        }
        self.wake(listener.at, usize::MAX);
    }

    /// Leaves the kernel: the thread that goes on.
    pub fn go_on(&mut self) -> &Context {
        self.schedule();
        leave();
        self.current()
    }

    /// The agent has said nothing for so many seconds.
    fn hung(&self, seconds: u64) -> ! {
        let agent = self.all[..self.end].iter().find(|thread| thread.urgent);
        let at = agent.map_or(0, |thread| thread.context.at());
        report::fail(Part::Watchdog, format_args!("nothing was heard of the agent for {seconds} s: it is at {at:#x}"))
    }

    /// Chooses who runs now, and sees to it that the kernel is entered again in time.
    fn schedule(&mut self) {
        let now = clock::nanos();
        let look = guard::look(now).unwrap_or_else(|seconds| self.hung(seconds));
        let (mut next_deadline, mut ready, mut urgent) = (look, 0u64, 0u64);
        for (number, thread) in self.all[..self.end].iter_mut().enumerate() {
            match thread.state {
                State::Waiting { deadline, .. } if deadline <= now => {
                    thread.state = State::Ready;
                    thread.context.set_result(Error::TimedOut as isize);
                }
                State::Waiting { deadline, .. } => next_deadline = next_deadline.min(deadline),
                _ => {}
            }
            let is_ready = u64::from(thread.state == State::Ready) << number;
            ready |= is_ready;
            urgent |= if thread.urgent { is_ready } else { 0 };
        }
        let stays = self.current != IDLE && ready & 1 << self.current != 0 && now < self.turn_ends;
        let chosen = match (urgent, ready) {
            (0, 0) => IDLE,
            (0, _) if stays => self.current,
            (0, _) => next(ready, self.current),
            _ => next(urgent, self.current),
        };
        if chosen != self.current || now >= self.turn_ends {
            self.turn_ends = now.saturating_add(TURN);
        }
        // Only one with rivals has to be interrupted.
        let rivals = chosen != IDLE && ready & !(1 << chosen) != 0;
        let alarm = if rivals { next_deadline.min(self.turn_ends) } else { next_deadline };
        clock::set_alarm(alarm);
        if chosen != self.current {
            self.all[self.current].context.put_aside();
            self.all[chosen].context.take_up();
            self.current = chosen;
        }
    }
}

/// The next one in a set, in turn, after the one with this number.
fn next(set: u64, after: usize) -> usize {
    let later = set & u64::MAX.checked_shl(after as u32 + 1).unwrap_or(0);
    (if later != 0 { later } else { set }).trailing_zeros() as usize
}

const _: () = assert!(THREADS_MOST <= u64::BITS as usize);
