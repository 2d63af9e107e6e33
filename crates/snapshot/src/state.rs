//! What a captured task consists of.

use crate::{Digest, Error, Kind, MemoryState};
use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// A captured task, full or delta. A delta gives everything but memory whole, as it is small.
///
/// Equality ignores [`Meta::id`]: it is what a snapshot is called, not what it holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot<'a> {
    /// What goes into the header.
    pub meta: Meta,
    /// What both sides must agree on to run the task.
    pub options: TaskOptions,
    /// The save area with the call stack, opaque here.
    pub frames: Cow<'a, [u8]>,
    /// Mutable globals by index, ascending.
    pub globals: Vec<(u32, GlobalValue)>,
    /// Tables, ascending by index.
    pub tables: Vec<TableState>,
    /// Memories, ascending by index; all of them, in a delta too, as it gives their sizes.
    pub memories: Vec<MemoryState<'a>>,
    /// Indices of dropped data segments, ascending.
    pub dropped_data: Vec<u32>,
    /// Indices of dropped element segments, ascending.
    pub dropped_elem: Vec<u32>,
    /// Function indices in the table of saved function references.
    pub refs: Vec<Option<u32>>,
    /// WASI state, opaque here.
    pub wasi: Cow<'a, [u8]>,
}

/// The part of the header that a snapshot carries before it is encoded.
#[derive(Clone, Debug, Default, Eq)]
pub struct Meta {
    /// BLAKE3 of the module's bytes.
    pub module: Digest,
    /// Id of the snapshot that a delta stands on; `None` makes a full snapshot.
    pub base: Option<Digest>,
    /// Counts the snapshots of a task.
    pub sequence: u64,
    /// The task's epoch: each move claims the next.
    pub epoch: u64,
    /// Work done: weighted migration points passed, the same on every ISA. More is further, between any two copies of
    /// one task with the same input.
    pub progress: u64,
    /// What later deltas call the state reached here. `None` in a fresh capture, which gets its checksum as id when it is
    /// encoded; decoding, [`apply`](crate::apply) and [`squash`](crate::squash) set it; encoding keeps it.
    pub id: Option<Digest>,
}

impl PartialEq for Meta {
    fn eq(&self, other: &Self) -> bool {
        let key = |m: &Self| (m.module, m.base, m.sequence, m.epoch, m.progress);
        key(self) == key(other)
    }
}

impl Meta {
    /// What the snapshot stands on.
    pub fn kind(&self) -> Kind {
        if self.base.is_some() { Kind::Delta } else { Kind::Full }
    }
}

/// What both sides of a move must agree on, and what is told of the task besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskOptions {
    /// NaNs are canonicalised.
    pub canonical_nan: bool,
    /// Relaxed SIMD has its deterministic meaning.
    pub deterministic_relaxed_simd: bool,
    /// Nanoseconds that the task has run for, on whatever machines.
    pub ran: u64,
    /// The export that runs, `_start` for a command.
    pub entry: String,
    /// The task's name.
    pub name: String,
    /// Settings of other layers.
    pub extra: BTreeMap<String, String>,
}

/// The value of a mutable global; floats travel as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GlobalValue {
    /// An `i32`.
    I32(u32),
    /// An `i64`.
    I64(u64),
    /// The bits of an `f32`.
    F32(u32),
    /// The bits of an `f64`.
    F64(u64),
    /// A vector; its first lane in the low bits.
    V128(u128),
    /// A function reference as a function index, or null.
    Func(Option<u32>),
    /// A null reference of any other type.
    NullRef,
}

/// The whole contents of a table of function references.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableState {
    /// Index of the table in the module.
    pub index: u32,
    /// Number of slots.
    pub len: u64,
    /// Slots from a start on, as function indices; ascending and without overlap. Slots that are not listed are null.
    pub entries: Vec<(u64, Vec<Option<u32>>)>,
}

impl Snapshot<'_> {
    /// The same snapshot without borrowed bytes.
    pub fn into_owned(self) -> Snapshot<'static> {
        Snapshot {
            meta: self.meta,
            options: self.options,
            frames: Cow::Owned(self.frames.into_owned()),
            globals: self.globals,
            tables: self.tables,
            memories: self.memories.into_iter().map(MemoryState::into_owned).collect(),
            dropped_data: self.dropped_data,
            dropped_elem: self.dropped_elem,
            refs: self.refs,
            wasi: Cow::Owned(self.wasi.into_owned()),
        }
    }

    /// Refuses a snapshot whose lists are out of order, or whose runs and entries do not fit. Encoding asks this first,
    /// so that a capture gone wrong is found at the source, while the task can still go on there.
    ///
    /// # Errors
    /// [`Error::DeltaWithoutBase`], [`Error::Unsorted`] or one of the refusals of runs and table entries.
    pub fn check(&self) -> Result<(), Error> {
        // The header has no other way to say "none" than zeros.
        if self.meta.base == Some(Digest::ZERO) {
            return Err(Error::DeltaWithoutBase);
        }
        ascending("globals", self.globals.iter().map(|(index, _)| *index))?;
        ascending("tables", self.tables.iter().map(|table| table.index))?;
        ascending("memories", self.memories.iter().map(|memory| memory.index))?;
        ascending("dropped", self.dropped_data.iter().copied())?;
        ascending("dropped", self.dropped_elem.iter().copied())?;
        self.tables.iter().try_for_each(TableState::check)?;
        self.memories.iter().try_for_each(MemoryState::check)
    }
}

impl TableState {
    fn check(&self) -> Result<(), Error> {
        let mut at = 0;
        for (start, slots) in &self.entries {
            let end = start.checked_add(slots.len() as u64);
            match end {
                Some(end) if *start >= at && end > *start && end <= self.len => at = end,
                _ => {
                    return Err(Error::TableEntries { table: self.index, start: *start, len: self.len });
                }
            }
        }
        Ok(())
    }
}

pub(crate) fn ascending(name: &'static str, indices: impl Iterator<Item = u32>) -> Result<(), Error> {
    let mut next = 0;
    for index in indices.map(u64::from) {
        if index < next {
            return Err(Error::Unsorted { name, index });
        }
        next = index + 1;
    }
    Ok(())
}
