//! Where the pages of a task land that comes to this board, or whose standby it is: in the memory of an instance of which
//! nothing runs; what becomes of that when the task is to go on here; and whether there is room for it.

use super::Agent;
use super::images::Program;
use crate::host::{Board, Seat};
use crate::sys;
use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use anyhow::{Result, anyhow};
use wayfare_cluster::envelope::Envelope;
use wayfare_cluster::spec::Spec;
use wayfare_engine::Limits;
use wayfare_engine::bare::{Arrival, Task};
use wayfare_snapshot::PAGE_SIZE;
use wayfare_stream::Mark;
use wayfare_stream::ports::Ports;
use wayfare_transfer::destination::{Caps, Landing};
use wayfare_transfer::message::{Offer, Reason, Refusal};
use wayfare_transfer::pages::{PageDigest, PageRange};

/// What a task takes besides its memory, at least: its code, and what the engine keeps.
const OVERHEAD: u64 = 2 << 20;
/// Code is about so many times as long as the module that it was made from.
const CODE: u64 = 8;
/// How much of a task this board takes.
pub(super) const CAPS: Caps = Caps { module: 32 << 20, state: 64 << 20, extra: 16 << 20 };
/// The unit in which memories grow.
const WASM_PAGE: u64 = 65536;

/// See the module.
pub(super) struct Ground {
    arrival: Arrival<Board>,
    seat: Arc<Seat>,
    memories: Vec<Memory>,
}

struct Memory {
    size: u64,
    /// A bit for each page that was ever written here.
    written: Vec<u64>,
}

/// A task that is ready to run.
pub(super) struct Ready {
    pub(super) task: Task<Board>,
    pub(super) seat: Arc<Seat>,
    /// Of its streams, by port, if it goes on from an older state than its clients know of.
    pub(super) marks: Vec<Vec<u8>>,
}

fn unfit(e: &wayfare_engine::Error) -> Refusal {
    Refusal::new(Reason::State, e.to_string())
}

/// There are not so many bytes.
pub(super) fn no_room(bytes: u64) -> Refusal {
    let text = format!("the task needs {} KiB more there, of which {} are free", bytes >> 10, sys::free() >> 10);
    Refusal::new(Reason::Memory, text)
}

impl Ground {
    /// An instance of a task that was offered, its memories as large as they are at the other side.
    ///
    /// # Errors
    /// When there is no room, or it is none that can go on here.
    pub(super) fn new(program: &Program, offer: &Offer, spec: &Spec) -> Result<Ground, Refusal> {
        let seat = Arc::new(Seat::serving(&spec.publish));
        let limits = Limits { memory: spec.limits.memory, table_elements: None };
        let mut arrival = Arrival::new(&program.image, Board(seat.clone()), limits).map_err(|e| unfit(&e))?;
        for (memory, size) in (0..).zip(&offer.memories) {
            arrival.grow(memory, *size).map_err(|_| no_room(*size))?;
        }
        let memories = offer.memories.iter().map(|size| Memory { size: *size, written: Vec::new() }).collect();
        Ok(Ground { arrival, seat, memories })
    }

    /// Makes room up to a page.
    fn reach(&mut self, range: PageRange) -> Result<(), Refusal> {
        let end = range.first.saturating_add(range.count).saturating_mul(PAGE_SIZE as u64);
        let no_memory = || Refusal::new(Reason::State, format!("the task has no memory {}", range.memory));
        let memory = self.memories.get_mut(range.memory as usize).ok_or_else(no_memory)?;
        if end > memory.size.next_multiple_of(PAGE_SIZE as u64) {
            let grown = end.checked_next_multiple_of(WASM_PAGE).unwrap_or(u64::MAX);
            let room = self.arrival.grow(range.memory, grown);
            room.map_err(|_| no_room(grown))?;
            memory.size = grown;
        }
        Ok(())
    }

    /// Notes that pages take memory now.
    fn note(&mut self, range: PageRange) {
        let Some(memory) = self.memories.get_mut(range.memory as usize) else { return };
        let words = (range.first + range.count).div_ceil(64) as usize;
        if memory.written.len() < words {
            memory.written.resize(words, 0);
        }
        for page in range.first..range.first + range.count {
            memory.written[(page / 64) as usize] |= 1 << (page % 64);
        }
    }

    /// Bytes of its memories that nothing has come for yet.
    pub(super) fn untouched(&self) -> u64 {
        let of = |memory: &Memory| {
            let written: u64 = memory.written.iter().map(|word| u64::from(word.count_ones())).sum();
            memory.size.saturating_sub(written * PAGE_SIZE as u64)
        };
        self.memories.iter().map(of).sum()
    }

    /// Makes the task, with a state that belongs to these pages; nothing of it runs. `behind`: it has gone on from there
    /// elsewhere, and takes over here.
    ///
    /// # Errors
    /// When the state does not fit.
    pub(super) fn ready(self, spec: &Spec, state: &[u8], extra: &[u8], behind: bool) -> Result<Ready> {
        let envelope = Envelope::decode(state)?;
        let packed = wayfare_snapshot::open(&envelope.snapshot, &wayfare_snapshot::Limits::default())?;
        let (ports, marks) = match behind {
            true => (Ports::thaw_behind(&spec.publish, &envelope.sockets), marks(&envelope.sockets)?),
            false => (Ports::thaw(&spec.publish, &envelope.sockets), vec![]),
        };
        *self.seat.ports.lock() = ports.map_err(|e| anyhow!("its connections: {e}"))?;
        {
            let mut log = self.seat.log.lock();
            log.push(extra);
            log.push(&envelope.log);
        }
        Ok(Ready { task: self.arrival.finish(&packed.unpack()?)?, seat: self.seat, marks })
    }
}

/// The marks of frozen streams, by port.
///
/// # Errors
/// When they are damaged.
pub(super) fn marks(frozen: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    let mark = |state: &Vec<u8>| Mark::of(state).map(|mark| mark.encode()).map_err(|e| anyhow!("its connections: {e}"));
    frozen.iter().map(mark).collect()
}

impl Landing for Ground {
    fn write(&mut self, range: PageRange, bytes: &[u8]) -> Result<(), Refusal> {
        self.reach(range)?;
        self.arrival.write(range.memory, range.first, bytes).map_err(|e| match e {
            wayfare_engine::Error::System(_) => no_room(bytes.len() as u64),
            e => unfit(&e),
        })?;
        self.note(range);
        Ok(())
    }

    fn zero(&mut self, range: PageRange) -> Result<(), Refusal> {
        self.reach(range)?;
        self.arrival.zero(range.memory, range.first, range.count).map_err(|e| unfit(&e))
    }

    // Late pages are not agreed to.
    fn forget(&mut self, _: &[PageRange]) {}

    fn recall(&mut self, _: u32, _: u64, _: &PageDigest) -> bool {
        false
    }
}

impl Agent {
    /// Whether a task that is offered can be here beside what is here already.
    ///
    /// # Errors
    /// When it uses directories, its name is taken, or there is no room.
    pub(super) fn admits(&self, offer: &Offer, spec: &Spec) -> Result<(), Refusal> {
        if let Some(dir) = spec.dirs.first() {
            let text = format!("the task uses {}, and a board has no directories", dir.host);
            return Err(Refusal::new(Reason::Missing, text));
        }
        if self.tasks.borrow().get(&spec.name).is_some_and(|e| e.spec.id != spec.id && e.state().holds_name()) {
            return Err(Refusal::new(Reason::Name, format!("a task named {} runs there already", spec.name)));
        }
        let known = self.programs.get(offer.digest(), offer.canonical_nan).is_some();
        let code = if known { 0 } else { offer.module_len.saturating_mul(CODE) };
        // What tasks have not touched yet of their memory is theirs all the same, lest one suffers from another's coming;
        // one that is alone takes what it touches, which for most is far less than they say.
        let promised = self.promised(offer);
        let memory = promised.map_or(0, |others| offer.memory().saturating_add(others));
        let needs = memory.saturating_add(code).saturating_add(OVERHEAD);
        if needs > sys::free() { Err(no_room(needs)) } else { Ok(()) }
    }

    /// Bytes that others than this one may still take; none where there is nobody else.
    fn promised(&self, offer: &Offer) -> Option<u64> {
        let (arriving, standbys, tasks) = (self.arriving.borrow(), self.standbys.borrow(), self.tasks.borrow());
        let standing = || standbys.iter().filter(|(id, _)| **id != offer.task).map(|(_, held)| held);
        let lives = || tasks.values().filter_map(|e| e.live.borrow().clone());
        if arriving.is_empty() && standing().next().is_none() && lives().next().is_none() {
            return None;
        }
        let coming = arriving.values().map(|v| v.memory).chain(standing().map(|held| held.untouched.get()));
        Some(coming.chain(lives().map(|live| live.untouched())).fold(0, u64::saturating_add))
    }
}
