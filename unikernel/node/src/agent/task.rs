//! One task on its thread: it runs, stands still when it is told to, goes on, or goes away.

use super::Queue;
use crate::executor::Executor;
use crate::host::{Board, End, Said, Seat, Verdict};
use crate::{clock, memory, sys, thread};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use anyhow::{Result, anyhow};
use core::cell::RefCell;
use core::future::poll_fn;
use core::sync::atomic::Ordering;
use core::task::Poll;
use wayfare_engine::{Outcome, Trigger, bare};
use wayfare_snapshot::{Compression, PAGE_SIZE};
use wayfare_transfer::pages::PageRange;
use wayfare_transfer::source::Guest;

/// When a request to stand still is repeated, milliseconds, as one that comes while the task goes back into its stack is lost:
/// at first, and at most. Later each time, since the agent is urgent: one that asked faster than the kernel answers, as it may
/// be where a hypervisor interprets the kernel, would never let the task run, so that it could not stand still either.
const REPEATS: (u64, u64) = (1, 1_000);

/// A task that is alive here.
pub struct Live {
    /// What it says, and is told.
    pub seat: Arc<Seat>,
    /// Who is to hear what it says next, besides those who always do.
    pub listener: RefCell<Option<Queue<Said>>>,
    /// How it ended, once that is heard.
    pub end: RefCell<Option<End>>,
    trigger: Trigger,
    /// Its memories: index, and where it begins.
    places: Vec<(u32, usize)>,
    thread: usize,
}

impl Live {
    /// Gives a task its thread.
    ///
    /// # Errors
    /// When there is none to be had.
    pub fn start(mut task: bare::Task<Board>, seat: Arc<Seat>) -> Result<Live> {
        let trigger = task.trigger();
        let places = task.places().iter().map(|place| (place.index, place.base.expose_provenance())).collect();
        let of = seat.clone();
        let started = thread::spawn(false, move || {
            let given_up = of.clone();
            thread::if_given_up(move || {
                *given_up.over.lock() = true;
                given_up.say(Said::Ended(End::Trapped("out of memory".into())));
            });
            let end = run(&mut task, &of);
            *of.over.lock() = true;
            drop(task);
            of.say(Said::Ended(end));
        });
        let thread = started
            .map_err(|_| anyhow!("there are too many tasks on that board, or there is no memory for one more"))?;
        Ok(Live { seat, listener: RefCell::default(), end: RefCell::default(), trigger, places, thread })
    }

    /// Nanoseconds that it has run here.
    pub fn ran(&self) -> u64 {
        sys::ran(self.thread)
    }

    /// Bytes of its memories.
    pub fn memory(&self) -> u64 {
        self.places.iter().map(|(_, base)| memory::size_of(*base) as u64).sum()
    }

    /// Bytes of them that it has not touched yet.
    pub fn untouched(&self) -> u64 {
        let places =
            self.places.iter().filter_map(|(_, base)| Some((memory::window_of(*base)?, memory::size_of(*base))));
        places
            .map(|(window, size)| {
                let pages = size.div_ceil(PAGE_SIZE) as u64;
                let mut bits = vec![0u8; pages.div_ceil(8) as usize];
                let listed = sys::written(window, 0, pages, &mut bits, true).is_ok();
                let there = bits.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>();
                if listed { (pages - there.min(pages)) * PAGE_SIZE as u64 } else { 0 }
            })
            .sum()
    }

    /// Its memories' sizes, by index.
    pub fn sizes(&self) -> Vec<u64> {
        self.places.iter().map(|(_, base)| memory::size_of(*base) as u64).collect()
    }

    /// Its memory, to be copied while it runs.
    pub fn guest(&self) -> Memory {
        Memory { seat: self.seat.clone(), places: self.places.clone(), listed: false }
    }

    /// Has it stand still: what it says then.
    pub async fn stop(&self, executor: &Executor) -> Said {
        // It has said its last word before anybody asked.
        if let Some(end) = self.end.borrow().clone() {
            return Said::Ended(end);
        }
        let wish = Wish { live: self, heard: Queue::new() };
        self.listener.replace(Some(wish.heard.clone()));
        // Once only: it takes the wish back before what it says is heard.
        self.seat.wanted.store(true, Ordering::SeqCst);
        let mut pause = REPEATS.0;
        loop {
            self.trigger.fire();
            self.seat.nudge();
            if let Some(said) = executor.within(pause, wish.heard.next()).await {
                return said;
            }
            pause = (pause * 2).min(REPEATS.1);
        }
    }

    /// What it says next.
    pub async fn said(&self) -> Said {
        poll_fn(|cx| {
            self.seat.waker.register(cx.waker());
            self.seat.said.lock().take().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Says what becomes of it.
    pub fn judge(&self, verdict: Verdict) {
        *self.seat.verdict.lock() = Some(verdict);
        self.seat.nudge();
    }
}

/// Somebody's wish that a task stands still. Whoever has it no more when the task does would leave it so for ever.
struct Wish<'a> {
    live: &'a Live,
    heard: Queue<Said>,
}

impl Drop for Wish<'_> {
    fn drop(&mut self) {
        let mut listener = self.live.listener.borrow_mut();
        if listener.as_ref().is_some_and(|listener| listener.is_same(&self.heard)) {
            *listener = None;
        }
        if let Some(Said::Frozen(Ok(_), _)) = self.heard.take() {
            self.live.judge(Verdict::Thaw(None));
        }
    }
}

fn run(task: &mut bare::Task<Board>, seat: &Seat) -> End {
    loop {
        let began = clock::nanos();
        let outcome = task.run();
        task.ran += clock::nanos() - began;
        match outcome {
            Outcome::Exited(status) => return End::Exited(status),
            Outcome::Trapped(e) => {
                let full = if thread::was_exhausted() { "out of memory: " } else { "" };
                return End::Trapped(alloc::format!("{full}{}", e.trap()));
            }
            // Nobody wants it any more.
            Outcome::Captured if !seat.wanted.load(Ordering::SeqCst) => continue,
            Outcome::Captured => {}
        }
        let since = clock::nanos();
        let state = state(task);
        let failed = state.is_err();
        seat.wanted.store(false, Ordering::SeqCst);
        seat.say(Said::Frozen(state, since));
        if failed {
            continue;
        }
        match seat.judged() {
            Verdict::Drop => return End::Dropped,
            Verdict::Thaw(epoch) => {
                task.epoch = epoch.unwrap_or(task.epoch);
                task.unpause();
            }
        }
    }
}

/// The state as it travels, but for the log.
fn state(task: &mut bare::Task<Board>) -> Result<Vec<u8>, String> {
    let snapshot = task.state().map_err(|e| e.to_string())?;
    wayfare_snapshot::encode(&snapshot, Compression::Lz4).map_err(|e| e.to_string())
}

/// A task's memory while it moves, and the task writes to it, perhaps on another processor. A page that is written while it is
/// copied, or after it was listed, is listed the next time; what counts is the last copy, which is made when the task stands
/// still.
pub struct Memory {
    seat: Arc<Seat>,
    places: Vec<(u32, usize)>,
    /// What is there was listed once.
    listed: bool,
}

impl Memory {
    fn list(&mut self, all: bool) -> Vec<PageRange> {
        let mut ranges: Vec<PageRange> = Vec::new();
        let over = self.seat.over.lock();
        if *over {
            return ranges;
        }
        for (index, base) in &self.places {
            let pages = memory::size_of(*base).div_ceil(PAGE_SIZE) as u64;
            let mut bits = vec![0; pages.div_ceil(8) as usize];
            let Some(window) = memory::window_of(*base) else { continue };
            // What is written from here on is found the next time. It fails only for a memory that is gone: then the task
            // has ended, and that will be found out.
            let mut listed = sys::written(window, 0, pages, &mut bits, false);
            if all {
                listed = listed.and_then(|()| sys::written(window, 0, pages, &mut bits, true));
            }
            if listed.is_err() {
                continue;
            }
            for page in (0..pages).filter(|page| bits[(page / 8) as usize] & 1 << (page % 8) != 0) {
                match ranges.last_mut() {
                    Some(last) if last.memory == *index && last.first + last.count == page => last.count += 1,
                    _ => ranges.push(PageRange { memory: *index, first: page, count: 1 }),
                }
            }
        }
        ranges
    }
}

impl Guest for Memory {
    fn dirty(&mut self) -> Vec<PageRange> {
        let all = !core::mem::replace(&mut self.listed, true);
        self.list(all)
    }

    fn read(&mut self, range: PageRange, into: &mut Vec<u8>) -> bool {
        let over = self.seat.over.lock();
        if *over {
            return false;
        }
        let Some((_, base)) = self.places.iter().find(|(index, _)| *index == range.memory) else { return false };
        let size = memory::size_of(*base);
        let from = range.first as usize * PAGE_SIZE;
        let len = (range.count as usize * PAGE_SIZE).min(size.saturating_sub(from));
        if len == 0 || sys::populate((base + from) as *const u8, len).is_err() {
            return false;
        }
        let bytes: *const u8 = core::ptr::with_exposed_provenance(base + from);
        into.reserve(len);
        // SAFETY: a linear memory lies there, so large, and does not go while `over` is locked. Its thread may write to it
        // meanwhile: no reference to it is made, and whatever mixture of old and new is copied is copied again later.
        unsafe {
            core::ptr::copy_nonoverlapping(bytes, into.as_mut_ptr().add(into.len()), len);
            into.set_len(into.len() + len);
        }
        true
    }
}
