//! What of a node survives a kill: journal records and checkpoints, which take a while to become durable.
//!
//! A write is durable some time before the node hears of it. A kill between the two, or in the middle of several
//! writes, leaves a prefix of them.

use crate::clock::{MICRO, Nanos, Rng};
use crate::guest::SimGuest;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use wayfare_transfer::TaskId;
use wayfare_transfer::journal::Record;

/// From the moment at which a write is durable to that at which the node hears so.
const LAG: Nanos = 10 * MICRO;

/// A task as it was at some moment.
#[derive(Clone)]
pub struct Checkpoint {
    /// The epoch at which the node owned it. **A checkpoint of an earlier epoch than the journal's is worth nothing**:
    /// the task has been elsewhere since.
    pub epoch: u64,
    /// All of it.
    pub guest: Rc<SimGuest>,
}

/// What a write puts down.
#[derive(Clone, Default)]
pub struct Entry {
    /// The journal's new record.
    pub record: Option<Record>,
    /// A new checkpoint.
    pub checkpoint: Option<Checkpoint>,
}

struct Write<T> {
    durable: Nanos,
    task: TaskId,
    entry: Entry,
    then: Option<T>,
}

/// A disk; `T` is what its owner wants to be told when a write is durable.
pub struct Disk<T> {
    durable: BTreeMap<TaskId, Entry>,
    pending: VecDeque<Write<T>>,
    told: VecDeque<(Nanos, T)>,
}

impl<T> Default for Disk<T> {
    fn default() -> Self {
        Self { durable: BTreeMap::new(), pending: VecDeque::new(), told: VecDeque::new() }
    }
}

impl<T> Disk<T> {
    /// Begins to write; what it replaces is there until it is durable. Writes become durable in their order.
    pub fn write(&mut self, now: Nanos, takes: Nanos, task: TaskId, entry: Entry, then: Option<T>) {
        let after = self.pending.back().map_or(now, |last| last.durable);
        self.pending.push_back(Write { durable: after.max(now + takes), task, entry, then });
    }

    /// Makes durable what is due, and gives what its owner hears of now.
    pub fn settle(&mut self, now: Nanos) -> Option<T> {
        while self.pending.front().is_some_and(|write| write.durable <= now) {
            let Some(write) = self.pending.pop_front() else { break };
            self.apply(write.task, write.entry);
            self.told.extend(write.then.map(|then| (write.durable + LAG, then)));
        }
        (self.told.front()?.0 <= now).then(|| self.told.pop_front().map(|(_, then)| then)).flatten()
    }

    fn apply(&mut self, task: TaskId, entry: Entry) {
        let old = self.durable.entry(task).or_default();
        if entry.record.is_some() {
            old.record = entry.record;
        }
        if entry.checkpoint.is_some() {
            old.checkpoint = entry.checkpoint;
        }
    }

    /// When [`Disk::settle`] is to be called next.
    pub fn next(&self) -> Option<Nanos> {
        let durable = self.pending.front().map(|write| write.durable);
        [durable, self.told.front().map(|told| told.0)].into_iter().flatten().min()
    }

    /// The power fails: of what was being written, some may have arrived.
    pub fn kill(&mut self, now: Nanos, rng: &mut Rng) {
        while self.settle(now).is_some() {}
        self.told.clear();
        let survives = rng.below(self.pending.len() as u64 + 1);
        for _ in 0..survives {
            if let Some(write) = self.pending.pop_front() {
                self.apply(write.task, write.entry);
            }
        }
        self.pending.clear();
    }

    /// What is durable.
    pub fn durable(&self) -> impl Iterator<Item = (TaskId, &Entry)> {
        self.durable.iter().map(|(task, entry)| (*task, entry))
    }

    /// A task's durable record: the only one that may be spoken of to others.
    pub fn record(&self, task: TaskId) -> Option<&Record> {
        self.durable.get(&task)?.record.as_ref()
    }

    /// The last record, durable or not: what must not be contradicted by a new one.
    pub fn latest(&self, task: TaskId) -> Option<&Record> {
        let pending =
            self.pending.iter().rev().filter(|write| write.task == task).find_map(|w| w.entry.record.as_ref());
        pending.or_else(|| self.record(task))
    }

    /// Whether a record is being written.
    pub fn is_writing(&self, task: TaskId) -> bool {
        self.pending.iter().any(|write| write.task == task && write.entry.record.is_some())
    }
}
