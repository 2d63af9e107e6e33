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
use wayfare_stream::StreamError;
use wayfare_stream::ports::Ports;
use wayfare_unikernel_abi::{Error, NEVER, PAGE};
use wayfare_wasi::{Errno, Handle, Host, Interest, Shutdown, Source, Stream, Wait, Woken};

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
    /// It has ended, and its memories are about to go. Whoever looks at them has this lock meanwhile.
    pub over: Mutex<bool>,
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
    /// Its listeners and connections.
    pub ports: Mutex<Ports>,
    /// Who carries what goes through them.
    pub carrier: AtomicWaker,
    /// There may be something to carry.
    stirred: AtomicBool,
    /// Its output goes to the console.
    is_loud: bool,
}

impl Seat {
    /// Of a task whose output goes to the console.
    pub fn loud() -> Seat {
        Seat { is_loud: true, ..Seat::default() }
    }

    /// Of a task that serves clients at these ports.
    pub fn serving(ports: &[u16]) -> Seat {
        Seat { ports: Mutex::new(Ports::new(ports)), ..Seat::default() }
    }

    /// There is something to carry between its ports and its clients.
    pub fn stir(&self) {
        self.stirred.store(true, Ordering::SeqCst);
        self.carrier.wake();
    }

    /// Whether there may be something to carry, since the last time that this was asked.
    pub fn was_stirred(&self) -> bool {
        self.stirred.swap(false, Ordering::SeqCst)
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

/// A listener's handle is its number with this bit, a connection's is its identity.
const LISTENER: u64 = 1 << 63;

impl Board {
    /// Does something that its clients may have to hear of.
    fn with<T>(&self, f: impl FnOnce(&mut Ports) -> Result<T, StreamError>) -> Result<T, Errno> {
        let result = f(&mut self.0.ports.lock()).map_err(|e| match e {
            StreamError::WouldBlock => Errno::Again,
            StreamError::Reset => Errno::Connreset,
            StreamError::Closed => Errno::Pipe,
            StreamError::Unknown => Errno::Notconn,
        });
        if result.is_ok() {
            self.0.stir();
        }
        result
    }
}

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

    fn is_ready(&mut self, source: Source, interest: Interest) -> bool {
        let Source::Socket(Handle(handle)) = source else { return true };
        let mut ports = self.0.ports.lock();
        match interest {
            Interest::Read if handle & LISTENER != 0 => ports.can_accept(handle & !LISTENER),
            Interest::Read => ports.is_readable(handle),
            Interest::Write => handle & LISTENER == 0 && ports.is_writable(handle),
        }
    }

    fn wait(&mut self, wait: &Wait) -> Woken {
        loop {
            let seen = self.0.word.load(Ordering::SeqCst);
            if bare::Board::is_wanted(self) {
                return Woken::Cancelled;
            }
            if wait.sources.iter().any(|(source, interest)| self.is_ready(*source, *interest)) {
                return Woken::Ready;
            }
            // What it was woken for may be another connection's.
            if let Err(Error::TimedOut) = sys::wait(&self.0.word, seen, wait.deadline.unwrap_or(NEVER)) {
                return Woken::TimedOut;
            }
        }
    }

    fn listener(&mut self, name: &str) -> Result<Handle, Errno> {
        let listener = self.0.ports.lock().listener(name).ok_or(Errno::Noent)?;
        Ok(Handle(listener | LISTENER))
    }

    fn accept(&mut self, listener: Handle) -> Result<Handle, Errno> {
        if listener.0 & LISTENER == 0 {
            return Err(Errno::Inval);
        }
        self.with(|ports| ports.accept(listener.0 & !LISTENER)).map(Handle)
    }

    fn stream_of(&mut self, socket: Handle) -> Option<u64> {
        (socket.0 & LISTENER == 0).then_some(socket.0)
    }

    fn attach_stream(&mut self, stream: u64) -> Result<Handle, Errno> {
        self.with(|ports| ports.attach(stream)).map(|()| Handle(stream))
    }

    fn recv(&mut self, socket: Handle, buf: &mut [u8], peek: bool) -> Result<usize, Errno> {
        self.with(|ports| ports.end(socket.0)?.recv(socket.0, buf, peek))
    }

    fn send(&mut self, socket: Handle, bytes: &[u8]) -> Result<usize, Errno> {
        self.with(|ports| ports.end(socket.0)?.send(socket.0, bytes))
    }

    fn shutdown(&mut self, socket: Handle, how: Shutdown) -> Result<(), Errno> {
        let shut = self.with(|ports| ports.end(socket.0)?.shutdown(socket.0, how.read, how.write));
        shut.map_err(|e| if e == Errno::Connreset { Errno::Notconn } else { e })
    }

    fn close(&mut self, handle: Handle) {
        // What is not there is closed.
        let _ = self.with(|ports| {
            match handle.0 & LISTENER {
                0 => ports.close(handle.0),
                _ => ports.close_listener(handle.0 & !LISTENER),
            }
            Ok(())
        });
    }
}
