//! What is below a task on a board: a clock, random numbers, a log in the place of the standard streams; and the seat from
//! which others stop it.

use crate::sync::Mutex;
use crate::{clock, entropy, memory, sys};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use futures_util::task::AtomicWaker;
use wayfare_engine::bare;
use wayfare_unikernel_abi::{NEVER, PAGE};
use wayfare_wasi::{Errno, Host, Interest, Source, Stream, Wait, Woken};

/// Bytes of a log that are kept: the last ones.
const LOG: usize = 256 << 10;

/// What a task has written.
#[derive(Default)]
pub struct Log {
    kept: VecDeque<u8>,
    /// Bytes that were written before those.
    gone: u64,
}

impl Log {
    /// One more piece.
    pub fn push(&mut self, bytes: &[u8]) {
        self.kept.extend(bytes);
        let over = self.kept.len().saturating_sub(LOG);
        self.kept.drain(..over);
        self.gone += over as u64;
    }

    /// Bytes written in all.
    pub fn len(&self) -> u64 {
        self.gone + self.kept.len() as u64
    }

    /// What is kept from an offset on.
    pub fn from(&self, offset: u64) -> Vec<u8> {
        let skip = offset.saturating_sub(self.gone).min(self.kept.len() as u64) as usize;
        self.kept.range(skip..).copied().collect()
    }
}

/// How a task's time here ended.
#[derive(Clone, Debug)]
pub enum End {
    /// By itself, with this status.
    Exited(u32),
    /// By a trap.
    Trapped(String),
    /// It was told to go.
    Dropped,
}

/// What the task's thread has to say.
pub enum Said {
    /// It stands still, with this state, since then; or could not be captured, and runs on.
    Frozen(Result<Vec<u8>, String>, u64),
    /// It is over.
    Ended(End),
}

/// What becomes of a task that stands still.
#[derive(Clone, Copy)]
pub enum Verdict {
    /// It runs on here; at another epoch, if it was given one.
    Thaw(Option<u64>),
    /// It is gone.
    Drop,
}

/// Between a task's thread and the agent's.
#[derive(Default)]
pub struct Seat {
    /// It is to stand still.
    pub wanted: AtomicBool,
    /// It has ended, and its memories are about to go.
    pub over: AtomicBool,
    /// Goes up when the thread is to look: what it waits for.
    word: AtomicU32,
    /// What it has written.
    pub log: Mutex<Log>,
    /// What it says.
    pub said: Mutex<Option<Said>>,
    /// What it is told.
    pub verdict: Mutex<Option<Verdict>>,
    /// The agent.
    pub waker: AtomicWaker,
    /// Its output goes to the console.
    is_loud: bool,
}

impl Seat {
    /// Of a task whose output goes to the console.
    pub fn loud() -> Seat {
        Seat { is_loud: true, ..Seat::default() }
    }

    /// Wakes the task's thread.
    pub fn nudge(&self) {
        self.word.fetch_add(1, Ordering::SeqCst);
        sys::wake(&self.word, 1);
    }

    /// Tells the agent.
    pub fn say(&self, said: Said) {
        *self.said.lock() = Some(said);
        self.waker.wake();
    }

    /// Waits for a verdict, on the task's thread.
    pub fn judged(&self) -> Verdict {
        loop {
            let seen = self.word.load(Ordering::SeqCst);
            if let Some(verdict) = self.verdict.lock().take() {
                return verdict;
            }
            let _ = sys::wait(&self.word, seen, NEVER);
        }
    }
}

/// The board as a task sees it.
pub struct Board(pub Arc<Seat>);

impl bare::Board for Board {
    fn is_wanted(&self) -> bool {
        self.0.wanted.load(Ordering::SeqCst)
    }

    fn populate(&mut self, bytes: &[u8]) -> bool {
        sys::populate(bytes.as_ptr(), bytes.len()).is_ok()
    }

    fn clear(&mut self, bytes: &mut [u8]) {
        let there = memory::there(bytes);
        for (_, page) in bytes.chunks_mut(PAGE as usize).enumerate().filter(|(i, _)| there[i / 8] & 1 << (i % 8) != 0) {
            page.fill(0);
        }
    }
}

impl Host for Board {
    // Before the cluster has said what time it is, time begins with the machine.
    fn realtime(&mut self) -> u64 {
        match clock::wall() {
            0 => clock::nanos(),
            wall => wall,
        }
    }

    fn monotonic(&mut self) -> u64 {
        clock::nanos()
    }

    fn entropy(&mut self, buf: &mut [u8]) -> Result<(), Errno> {
        if entropy::fill(buf) { Ok(()) } else { Err(Errno::Nosys) }
    }

    fn is_terminal(&mut self, _stream: Stream) -> bool {
        false
    }

    fn stdin_read(&mut self, _buf: &mut [u8]) -> Result<usize, Errno> {
        Ok(0)
    }

    fn stream_write(&mut self, _stream: Stream, bytes: &[u8]) -> Result<usize, Errno> {
        if self.0.is_loud {
            sys::write(bytes);
        } else {
            self.0.log.lock().push(bytes);
        }
        Ok(bytes.len())
    }

    fn is_ready(&mut self, source: Source, _interest: Interest) -> bool {
        matches!(source, Source::Stream(_))
    }

    fn wait(&mut self, wait: &Wait) -> Woken {
        let seen = self.0.word.load(Ordering::SeqCst);
        if bare::Board::is_wanted(self) {
            return Woken::Cancelled;
        }
        if wait.sources.iter().any(|(source, interest)| self.is_ready(*source, *interest)) {
            return Woken::Ready;
        }
        match sys::wait(&self.0.word, seen, wait.deadline.unwrap_or(NEVER)) {
            Err(wayfare_unikernel_abi::Error::TimedOut) => Woken::TimedOut,
            _ => Woken::Cancelled,
        }
    }
}
