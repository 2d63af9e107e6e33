//! The node's threads, of which each processor runs one: urgent ones before others, but for a sixth of the time if they never
//! wait; those of the same kind in turn.
//!
//! A processor writes what was interrupted into the thread's [`Context`], where it stays until the thread runs again, there or
//! on another one. The kernel itself is never interrupted. Whoever leaves it chooses a thread for himself, and calls in those
//! who wait when there are more than he can run; nobody chooses for another.

use crate::arch::Context;
use crate::{clock, guard, report, smp, space};
use core::sync::atomic::Ordering;
use wayfare_board::report::Part;
use wayfare_unikernel_abi::{Area, Error, NEVER, STACK, THREADS_MOST};

/// For so long a thread runs before another of its kind gets its turn, nanoseconds.
const TURN: u64 = 10_000_000;
/// After a turn of its own an urgent thread lends another one so much, nanoseconds: what comes by the network is not to stop
/// all tasks, however much it is.
const LENT: u64 = 2_000_000;
/// What a processor runs when there is nothing else: the first one's, and after it the others'.
const IDLE: usize = THREADS_MOST;

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
    /// Nanoseconds that it has run, until it was put aside.
    ran: u64,
    context: Context,
}

/// What a processor does.
#[derive(Clone, Copy)]
struct Post {
    /// The thread that it runs.
    thread: usize,
    since: u64,
    turn_ends: u64,
    /// The turn was lent by an urgent thread.
    is_lent: bool,
}

/// One who listens to a device.
#[derive(Clone, Copy)]
struct Listener {
    line: usize,
    at: u64,
}

/// See the module.
pub struct Threads {
    all: [Thread; THREADS_MOST + smp::MOST],
    posts: [Post; smp::MOST],
    /// Who was lent a turn last.
    lent_to: usize,
    /// There are no threads from here on.
    end: usize,
    listeners: [Option<Listener>; LINES],
    catcher: usize,
}

/// Most interrupt lines that anybody listens to.
const LINES: usize = 32;

/// All of it is zero, so that it takes no room in the image: what a processor runs is written down before it leaves the kernel
/// for the first time ([`Threads::set_idle`]).
static mut THREADS: Threads = Threads {
    all: [const { Thread { state: State::None, urgent: false, ran: 0, context: Context::EMPTY } };
        THREADS_MOST + smp::MOST],
    posts: [Post { thread: 0, since: 0, turn_ends: 0, is_lent: false }; smp::MOST],
    lent_to: 0,
    end: 0,
    listeners: [None; LINES],
    catcher: 0,
};

/// The threads, for whoever has just come into the kernel.
///
/// # Safety
/// Only one may have them at a time: in the kernel is one processor, which is not interrupted, and its entries in `arch` are
/// the only ones that call this, once each.
pub unsafe fn threads() -> &'static mut Threads {
    let threads = &raw mut THREADS;
    // SAFETY: as the caller says.
    unsafe { &mut *threads }
}

impl Threads {
    /// The thread that runs, or ran until the kernel was entered.
    pub fn current(&mut self) -> &mut Context {
        &mut self.all[self.posts[smp::this()].thread].context
    }

    /// What this processor runs when there is nothing else, and runs from now on.
    pub fn set_idle(&mut self, context: Context) {
        let idle = IDLE + smp::this();
        self.all[idle].context = context;
        self.all[idle].context.take_up(smp::this());
        self.posts[smp::this()] = Post { thread: idle, since: 0, turn_ends: 0, is_lent: false };
    }

    /// How long a thread has run, nanoseconds. `None` if there is no such thread.
    pub fn ran(&self, number: usize) -> Option<u64> {
        let thread = self.all[..IDLE].get(number).filter(|thread| thread.state != State::None)?;
        let now = self.posts[..smp::count()].iter().find(|post| post.thread == number);
        Some(thread.ran + now.map_or(0, |post| clock::nanos().saturating_sub(post.since)))
    }

    /// Begins a thread.
    pub fn spawn(&mut self, entry: u64, argument: u64, urgent: bool) -> Result<usize, Error> {
        let slot = self.all[..IDLE].iter().position(|thread| thread.state == State::None).ok_or(Error::Full)?;
        space::resize(Area::Stacks, slot, STACK)?;
        let stack = Area::Stacks.place(slot, STACK).end;
        self.all[slot] =
            Thread { state: State::Ready, urgent, ran: 0, context: Context::begin(entry, argument, stack) };
        self.end = self.end.max(slot + 1);
        Ok(slot)
    }

    /// Ends the one that runs.
    pub fn end(&mut self) {
        let current = self.posts[smp::this()].thread;
        self.all[current].state = State::None;
        // The kernel is not on this stack.
        let _ = space::resize(Area::Stacks, current, 0);
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
        self.all[self.posts[smp::this()].thread].state = State::Waiting { at, deadline };
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
        if let Ok(word) = space::word(listener.at) {
            word.fetch_add(1, Ordering::SeqCst);
        }
        self.wake(listener.at, usize::MAX);
    }

    /// Leaves the kernel: the thread that goes on. Nobody else touches what a processor runs.
    pub fn go_on(&mut self) -> *const Context {
        self.schedule();
        let thread = self.posts[smp::this()].thread;
        let context = &raw const self.all[thread].context;
        smp::leave(thread < IDLE);
        context
    }

    /// The agent has said nothing for so many seconds.
    fn hung(&self, seconds: u64) -> ! {
        let agent = self.all[..self.end].iter().find(|thread| thread.urgent);
        let at = agent.map_or(0, |thread| thread.context.at());
        report::fail(Part::Watchdog, format_args!("nothing was heard of the agent for {seconds} s: it is at {at:#x}"))
    }

    /// Chooses who runs now on this processor, and sees to it that the kernel is entered again in time.
    fn schedule(&mut self) {
        let (this, now) = (smp::this(), clock::nanos());
        let (next_deadline, ready, urgent) = self.look(now);
        // Those that others run are theirs.
        let elsewhere = smp::others().fold(0, |all, other| all | bit(self.posts[other].thread));
        let (ready, urgent) = (ready & !elsewhere, urgent & !elsewhere);
        let Post { thread: current, since, turn_ends, is_lent } = self.posts[this];
        let idle = smp::others().filter(|other| self.posts[*other].thread >= IDLE).count() as u32;
        let stays = ready & bit(current) != 0 && now < turn_ends;
        let lends = urgent & bit(current) != 0 && now >= turn_ends && ready != urgent;
        let chosen = match (urgent, ready) {
            (0, 0) => IDLE + this,
            (0, _) if stays => current,
            (0, _) => next(ready, current),
            _ if lends => next(ready & !urgent, self.lent_to),
            _ if stays && is_lent => current,
            // Whoever has nothing to do takes it.
            _ if stays && urgent & bit(current) == 0 && urgent.count_ones() <= idle => current,
            _ => next(urgent, current),
        };
        if current < IDLE {
            self.all[current].ran += now.saturating_sub(since);
        }
        let is_new = chosen != current || now >= turn_ends;
        let turn_ends = if is_new { now.saturating_add(if lends { LENT } else { TURN }) } else { turn_ends };
        let is_lent = if is_new { lends } else { is_lent };
        self.posts[this] = Post { thread: chosen, since: now, turn_ends, is_lent };
        if lends {
            self.lent_to = chosen;
        }
        // Only one with rivals has to be interrupted.
        let has_rivals = self.call_others((ready & !bit(chosen)).count_ones(), now) && chosen < IDLE;
        let turn_ends = if has_rivals { turn_ends } else { NEVER };
        // One processor comes in when a time has come that threads wait for: that is enough.
        let others = smp::others().map(clock::alarm).min().unwrap_or(NEVER);
        clock::set_alarm(if next_deadline < others { turn_ends.min(next_deadline) } else { turn_ends });
        if chosen != current {
            self.all[current].context.put_aside();
            self.all[chosen].context.take_up(this);
        }
    }

    /// Wakes those whose time has come. Gives when the next one's does, and the sets of those who could run, and of the
    /// urgent ones among them.
    fn look(&mut self, now: u64) -> (u64, u64, u64) {
        let watchdog = guard::look(now).unwrap_or_else(|seconds| self.hung(seconds));
        let (mut next_deadline, mut ready, mut urgent) = (watchdog, 0u64, 0u64);
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
        (next_deadline, ready, urgent)
    }

    /// So many threads could run that nobody runs: has other processors come for them. Gives whether some are left.
    fn call_others(&self, mut waiting: u32, now: u64) -> bool {
        for other in smp::others().filter(|other| self.posts[*other].thread >= IDLE) {
            if waiting == 0 {
                return false;
            }
            smp::call_in(other);
            waiting -= 1;
        }
        // Others' turns end, too, from now on.
        if waiting > 0 {
            let is_endless = |other: &usize| clock::alarm(*other) > now.saturating_add(TURN);
            smp::others().filter(is_endless).for_each(smp::call_in);
        }
        waiting > 0
    }
}

/// The set of one thread; of none, for what is none.
fn bit(thread: usize) -> u64 {
    if thread < IDLE { 1 << thread } else { 0 }
}

/// The next one in a set, in turn, after the one with this number.
fn next(set: u64, after: usize) -> usize {
    let later = set & u64::MAX.checked_shl(after as u32 + 1).unwrap_or(0);
    (if later != 0 { later } else { set }).trailing_zeros() as usize
}

const _: () = assert!(THREADS_MOST <= u64::BITS as usize);
