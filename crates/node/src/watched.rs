//! The memory of a task that runs, as it is copied to other nodes: to the one that it moves to, or to its standbys, each at a
//! time of its own. The marks of what the task has written are cleared by whoever looks at them; so what one has seen is put
//! down for the others.

use crate::agent::lock;
use crate::ground;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use wayfare_engine::Watch;
use wayfare_snapshot::PAGE_SIZE;
use wayfare_transfer::pages::{PageRange, merged};
use wayfare_transfer::source::Guest;
use wayfare_transfer::standby::Protected;

/// So many ranges are looked through for such as overlap.
const MANY: usize = 4096;

/// The memory of a task.
#[derive(Clone)]
pub(crate) struct Memory(Arc<Mutex<Inner>>);

/// The same, as one of those who copy it sees it.
pub(crate) struct Watched {
    id: u64,
    memory: Memory,
}

struct Inner {
    watch: Watch,
    sizes: BTreeMap<u32, u64>,
    /// What was written and not seen yet, by who copies it.
    unseen: BTreeMap<u64, BTreeSet<PageRange>>,
}

impl Memory {
    pub(crate) fn new(watch: Watch) -> Self {
        let sizes = watch.sizes().into_iter().collect();
        Memory(Arc::new(Mutex::new(Inner { watch, sizes, unseen: BTreeMap::new() })))
    }

    /// For somebody who has seen nothing of it yet.
    pub(crate) fn watched(&self) -> Watched {
        let mut inner = lock(&self.0);
        let id = inner.unseen.keys().next_back().map_or(0, |last| last + 1);
        inner.unseen.insert(id, BTreeSet::new());
        Watched { id, memory: self.clone() }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        lock(&self.memory.0).unseen.remove(&self.id);
    }
}

impl Inner {
    /// Looks at the marks, and clears them.
    fn look(&mut self) -> Vec<PageRange> {
        let dirty: Vec<PageRange> = self.watch.dirty().iter().map(transfer).collect();
        self.sizes = self.watch.sizes().into_iter().collect();
        dirty
    }

    /// What was written, as one of them has not seen it yet; the others have still to be told of what is `new`.
    fn tell(&mut self, id: u64, new: Vec<PageRange>) -> Vec<PageRange> {
        let mut mine = BTreeSet::new();
        for (other, unseen) in &mut self.unseen {
            if *other == id {
                mine = std::mem::take(unseen);
            } else {
                unseen.extend(&new);
                if unseen.len() > MANY {
                    *unseen = merged(std::mem::take(unseen)).into_iter().collect();
                }
            }
        }
        let mut all = new;
        all.extend(mine);
        all
    }
}

/// A range as the protocol has it.
fn transfer(range: &wayfare_engine::PageRange) -> PageRange {
    PageRange { memory: range.memory, first: range.first, count: range.count }
}

impl Guest for Watched {
    fn dirty(&mut self) -> Vec<PageRange> {
        let mut inner = lock(&self.memory.0);
        let new = inner.look();
        inner.tell(self.id, new)
    }

    fn written(&mut self, range: PageRange) -> Vec<PageRange> {
        let written = lock(&self.memory.0).watch.written(ground::engine(&range)).unwrap_or_default();
        written.iter().map(transfer).collect()
    }

    /// Without clearing the marks, where that can be done: who looks at them next finds these once more.
    fn rest(&mut self) -> Vec<PageRange> {
        let mut inner = lock(&self.memory.0);
        let whole = |(memory, size): (u32, u64)| PageRange { memory, first: 0, count: size.div_ceil(PAGE_SIZE as u64) };
        let sizes = inner.watch.sizes();
        let rest = sizes.iter().map(|of| inner.watch.written(ground::engine(&whole(*of))));
        match rest.collect::<Option<Vec<_>>>() {
            Some(rest) => {
                inner.sizes = sizes.into_iter().collect();
                let mut all: Vec<PageRange> = rest.iter().flatten().map(transfer).collect();
                all.extend(inner.tell(self.id, Vec::new()));
                all
            }
            None => {
                let new = inner.look();
                inner.tell(self.id, new)
            }
        }
    }

    fn read(&mut self, range: PageRange, into: &mut Vec<u8>) -> bool {
        let inner = lock(&self.memory.0);
        let size = inner.sizes.get(&range.memory).copied().unwrap_or(0);
        let from = range.first * PAGE_SIZE as u64;
        let len = (range.count * PAGE_SIZE as u64).min(size.saturating_sub(from)) as usize;
        let at = into.len();
        into.resize(at + len, 0);
        len > 0 && inner.watch.read(range.memory, range.first, &mut into[at..])
    }
}

impl Protected for Watched {
    fn sizes(&mut self) -> Vec<u64> {
        lock(&self.memory.0).watch.sizes().into_iter().map(|(_, size)| size).collect()
    }
}
