//! One instance and its captured state: calls that may end in a capture, and the way back in.
//!
//! ```text
//! call ──► Returned                 rewind ──► Returned
//!   └────► Captured ── state() ──►     └────► Captured
//!             │           └─ restore() on a fresh machine, here or elsewhere ─┐
//!             └─────────────────────── rewind() in place ◄────────────────────┘
//! ```

use crate::trigger::Trigger;
use crate::{Error, changed};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};
use wasmtime::{AsContext, Extern, Func, Global, Instance, Memory, Ref, Store, Table, Val};
use wayfare_instrument::abi;
use wayfare_instrument::meta::{Frame, Metadata, Reference};
use wayfare_snapshot::{GlobalValue, Memories, MemoryMap, MemoryState, PAGE_SIZE, PageRun, Snapshot, TableState};

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// The function returned.
    Returned,
    /// The stack was written out; the machine stands still.
    Captured,
}

/// Everything of a captured instance but its linear memories, in a snapshot's terms.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The save area.
    pub frames: Vec<u8>,
    /// Mutable globals.
    pub globals: Vec<(u32, GlobalValue)>,
    /// Tables that code can change.
    pub tables: Vec<TableState>,
    /// Dropped data segments.
    pub dropped_data: Vec<u32>,
    /// Dropped element segments.
    pub dropped_elem: Vec<u32>,
    /// References saved by frames.
    pub refs: Vec<Option<u32>>,
    /// The work done: see [`Machine::work`].
    pub work: u64,
}

impl State {
    /// What a snapshot holds of it.
    pub fn of(snapshot: &Snapshot<'_>) -> State {
        State {
            frames: snapshot.frames.to_vec(),
            globals: snapshot.globals.clone(),
            tables: snapshot.tables.clone(),
            dropped_data: snapshot.dropped_data.clone(),
            dropped_elem: snapshot.dropped_elem.clone(),
            refs: snapshot.refs.clone(),
            work: snapshot.meta.progress,
        }
    }
}

/// The globals that an instrumented module keeps its own state in.
struct Registers {
    unwinding: Global,
    rewinding: Global,
    sp: Global,
    limit: Global,
    refs: Global,
    countdown: Global,
    rewind_sp: Global,
    /// The only one of 64 bits.
    work: Global,
}

/// An instance of an instrumented module, and its store.
pub struct Machine<T: 'static> {
    store: Store<T>,
    instance: Instance,
    meta: Arc<Metadata>,
    polls: Memory,
    stack: Memory,
    rewind: Memory,
    registers: Registers,
    trigger: Trigger,
    /// Function index by identity, made when first needed.
    function_ids: Option<BTreeMap<usize, u32>>,
    /// Set while the host grows what the module keeps its own state in, for whoever counts what a guest has.
    own_growth: Arc<AtomicBool>,
}

impl<T: 'static> Machine<T> {
    /// Takes over a fresh instance.
    ///
    /// # Errors
    /// [`Error::Unmovable`] when the module was not instrumented.
    pub fn new(mut store: Store<T>, instance: Instance, meta: Arc<Metadata>) -> Result<Self, Error> {
        let unmovable = || Error::Unmovable(meta.unmovable.clone());
        let polls = instance.get_memory(&mut store, abi::POLL_MEMORY).ok_or_else(unmovable)?;
        let stack = instance.get_memory(&mut store, abi::STACK_MEMORY).ok_or_else(unmovable)?;
        let rewind = instance.get_memory(&mut store, abi::REWIND_MEMORY).ok_or_else(unmovable)?;
        let mut global = |name| instance.get_global(&mut store, name).ok_or_else(unmovable);
        let registers = Registers {
            unwinding: global(abi::UNWINDING)?,
            rewinding: global(abi::REWINDING)?,
            sp: global(abi::SP)?,
            limit: global(abi::LIMIT)?,
            refs: global(abi::REFS)?,
            countdown: global(abi::COUNTDOWN)?,
            rewind_sp: global(abi::REWIND_SP)?,
            work: global(abi::WORK)?,
        };
        let trigger = Trigger::default();
        trigger.attach(polls.data_ptr(&store));
        let own_growth = Arc::default();
        Ok(Machine { store, instance, meta, polls, stack, rewind, registers, trigger, function_ids: None, own_growth })
    }

    /// The store.
    pub fn store(&mut self) -> &mut Store<T> {
        &mut self.store
    }

    /// The instance.
    pub fn instance(&self) -> Instance {
        self.instance
    }

    /// What the module says about itself.
    pub fn metadata(&self) -> &Metadata {
        &self.meta
    }

    /// Lets another trigger than its own ask it for captures.
    pub fn answer_to(&mut self, trigger: &Trigger) {
        trigger.attach(self.polls.data_ptr(&self.store));
        self.trigger = trigger.clone();
    }

    /// Asks for a capture from other threads.
    pub fn trigger(&self) -> Trigger {
        self.trigger.clone()
    }

    fn get(&mut self, register: impl FnOnce(&Registers) -> Global) -> u32 {
        match register(&self.registers).get(&mut self.store) {
            Val::I32(v) => v as u32,
            _ => 0,
        }
    }

    fn set(&mut self, register: impl FnOnce(&Registers) -> Global, value: u32) -> Result<(), Error> {
        Ok(register(&self.registers).set(&mut self.store, Val::I32(value as i32))?)
    }

    /// The work done: weighted migration points passed, the same on every ISA, wherever and however often the task was
    /// captured. Exact unless a trap has ended the program.
    pub fn work(&mut self) -> u64 {
        match self.registers.work.get(&mut self.store) {
            Val::I64(v) => v as u64,
            _ => 0,
        }
    }

    /// Lets `n` polls pass before one captures, or none capture. Only for modules built with a countdown.
    ///
    /// # Errors
    /// [`Error::Wasm`] if the module's counter is not what it should be.
    pub fn arm(&mut self, n: Option<u32>) -> Result<(), Error> {
        self.trigger.set(u32::from(n.is_some()));
        self.set(|r| r.countdown, n.unwrap_or(0))
    }

    /// Polls left of a countdown.
    pub fn countdown(&mut self) -> u32 {
        self.get(|r| r.countdown)
    }

    /// Calls an exported function.
    ///
    /// # Errors
    /// [`Error::NoEntry`] without such a function, [`Error::Wasm`] on a trap.
    pub fn call(&mut self, name: &str, params: &[Val], results: &mut [Val]) -> Result<Run, Error> {
        let f = self.instance.get_func(&mut self.store, name).ok_or_else(|| Error::NoEntry(name.into()))?;
        self.call_func(f, params, results)
    }

    fn call_func(&mut self, f: Func, params: &[Val], results: &mut [Val]) -> Result<Run, Error> {
        f.call(&mut self.store, params, results)?;
        if self.get(|r| r.unwinding) == 0 {
            return Ok(Run::Returned);
        }
        self.set(|r| r.unwinding, 0)?;
        if !self.meta.countdown {
            self.trigger.set(0);
        }
        Ok(Run::Captured)
    }

    /// Whether there is a captured stack to go on with.
    pub fn has_frames(&mut self) -> bool {
        self.get(|r| r.sp) > self.meta.area
    }

    /// Goes on with the captured stack. `results` are those of the function that was called first.
    ///
    /// # Errors
    /// [`Error::Wasm`] on a trap.
    pub fn rewind(&mut self, results: &mut [Val]) -> Result<Run, Error> {
        let (area, sp) = (self.meta.area as usize, self.get(|r| r.sp) as usize);
        let frames = self.stack.data(&self.store).get(area..sp).unwrap_or_default().to_vec();
        self.grow_to(self.rewind, frames.len())?;
        self.rewind.data_mut(&mut self.store)[..frames.len()].copy_from_slice(&frames);
        self.set(|r| r.rewind_sp, frames.len() as u32)?;
        self.set(|r| r.sp, area as u32)?;
        let header = frames.len().saturating_sub(abi::FRAME_HEADER as usize);
        let slot = frames.get(header..header + 4).map_or(u32::MAX, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let table = self.table(abi::RESUME_TABLE)?;
        let f = match table.get(&mut self.store, u64::from(slot)) {
            Some(Ref::Func(Some(f))) => f,
            _ => return Err(Error::Misfit(format!("no function has the resume slot {slot}"))),
        };
        self.set(|r| r.rewinding, 1)?;
        self.trigger.set(1);
        self.call_func(f, &[], results)
    }

    /// Lets a flag be set whenever the host grows what the module keeps its own state in.
    pub(crate) fn tell_own_growth(&mut self, flag: Arc<AtomicBool>) {
        self.own_growth = flag;
    }

    /// Bytes of the save area's memory and elements of the table of saved references: the module grows them.
    pub(crate) fn own_sizes(&mut self) -> (u64, u64) {
        let refs = self.table(abi::REFS_TABLE).map_or(0, |table| table.size(&self.store));
        (self.stack.data_size(&self.store) as u64, refs)
    }

    fn grow_to(&mut self, memory: Memory, need: usize) -> Result<(), Error> {
        let have = memory.data_size(&self.store);
        if need > have {
            self.own_growth.store(true, Ordering::Relaxed);
            let grown = memory.grow(&mut self.store, (need - have).div_ceil(65536) as u64);
            self.own_growth.store(false, Ordering::Relaxed);
            grown?;
        }
        Ok(())
    }

    fn table(&mut self, name: &str) -> Result<Table, Error> {
        self.instance
            .get_table(&mut self.store, name)
            .ok_or_else(|| Error::Misfit(format!("the module has no export {name:?}")))
    }

    /// The linear memory with this index.
    pub fn memory(&mut self, index: u32) -> Option<Memory> {
        self.instance.get_memory(&mut self.store, &format!("{}{index}", abi::MEMORY_PREFIX))
    }

    /// The captured state, linear memories apart.
    ///
    /// # Errors
    /// [`Error::Misfit`] on a reference to a function that the module does not know.
    pub fn state(&mut self) -> Result<State, Error> {
        let sp = self.get(|r| r.sp) as usize;
        let area = self.meta.area as usize;
        let meta = self.meta.clone();
        let data = self.stack.data(&self.store);
        let frames = data.get(area..sp).unwrap_or_default().to_vec();
        let flags = &data[abi::DROPPED as usize..];
        let (segments, elements) = (meta.data_segments as usize, meta.element_segments as usize);
        let set = |flags: &[u8]| (0..).zip(flags).filter(|(_, f)| **f != 0).map(|(i, _)| i).collect();
        let dropped_data = set(&flags[..segments]);
        let dropped_elem = set(&flags[segments..segments + elements]);
        let mut state = State { frames, dropped_data, dropped_elem, work: self.work(), ..State::default() };
        for g in &meta.globals {
            let name = format!("{}{g}", abi::GLOBAL_PREFIX);
            let Some(Extern::Global(global)) = self.instance.get_export(&mut self.store, &name) else { continue };
            let value = match global.get(&mut self.store) {
                Val::I32(v) => GlobalValue::I32(v as u32),
                Val::I64(v) => GlobalValue::I64(v as u64),
                Val::F32(v) => GlobalValue::F32(v),
                Val::F64(v) => GlobalValue::F64(v),
                Val::V128(v) => GlobalValue::V128(v.as_u128()),
                Val::FuncRef(f) => GlobalValue::Func(self.function_index(f)?),
                _ => GlobalValue::NullRef,
            };
            state.globals.push((*g, value));
        }
        for t in &meta.tables {
            let table = self.table(&format!("{}{t}", abi::TABLE_PREFIX))?;
            let len = table.size(&self.store);
            let entries = self.functions_of(table, 0, len)?;
            state.tables.push(TableState { index: *t, len, entries: runs(&entries) });
        }
        let refs = self.get(|r| r.refs);
        let table = self.table(abi::REFS_TABLE)?;
        state.refs = self.functions_of(table, 0, u64::from(refs))?;
        Ok(state)
    }

    fn functions_of(&mut self, table: Table, from: u64, to: u64) -> Result<Vec<Option<u32>>, Error> {
        (from..to)
            .map(|i| match table.get(&mut self.store, i) {
                Some(Ref::Func(f)) => self.function_index(f),
                _ => Ok(None),
            })
            .collect()
    }

    fn function_index(&mut self, f: Option<Func>) -> Result<Option<u32>, Error> {
        let Some(f) = f else { return Ok(None) };
        if self.function_ids.is_none() {
            let table = self.table(abi::FUNCTIONS_TABLE)?;
            let mut ids = BTreeMap::new();
            for (i, index) in self.meta.clone().referable.iter().enumerate() {
                if let Some(Ref::Func(Some(f))) = table.get(&mut self.store, i as u64) {
                    ids.insert(f.to_raw(&mut self.store) as usize, *index);
                }
            }
            self.function_ids = Some(ids);
        }
        let id = f.to_raw(&mut self.store) as usize;
        match self.function_ids.as_ref().and_then(|ids| ids.get(&id)) {
            Some(index) => Ok(Some(*index)),
            None => Err(Error::Misfit("a reference to a function that is not the module's own".to_string())),
        }
    }

    fn function_at(&mut self, index: Option<u32>) -> Result<Ref, Error> {
        let Some(index) = index else { return Ok(Ref::Func(None)) };
        let unknown = || Error::Misfit(format!("function {index} cannot be referred to"));
        let place = self.meta.referable.binary_search(&index).map_err(|_| unknown())?;
        self.table(abi::FUNCTIONS_TABLE)?.get(&mut self.store, place as u64).ok_or_else(unknown)
    }

    /// Gives a fresh instance a captured state. Everything is checked against the module first.
    ///
    /// # Errors
    /// [`Error::Frames`] and [`Error::Misfit`] when the state is not of this module; the machine must
    /// then be thrown away.
    pub fn restore(&mut self, state: &State) -> Result<(), Error> {
        let meta = self.meta.clone();
        let frames = meta.frames(&state.frames)?;
        for frame in &frames {
            check_references(&meta, frame, state.refs.len())?;
        }
        if frames.is_empty() {
            return Err(Error::Misfit("it holds no frame to go on with".to_string()));
        }
        // Room for the frames, and for the next ones.
        self.grow_to(self.stack, meta.area as usize + state.frames.len() + meta.headroom as usize)?;
        let limit = self.stack.data_size(&self.store) as u32;
        let area = meta.area as usize;
        self.stack.data_mut(&mut self.store)[area..area + state.frames.len()].copy_from_slice(&state.frames);
        self.set(|r| r.sp, (area + state.frames.len()) as u32)?;
        self.set(|r| r.limit, limit)?;
        let mut flag = |at: u32, bound: u32, i: u32| {
            if i >= bound {
                return Err(Error::Misfit(format!("segment {i} does not exist")));
            }
            self.stack.data_mut(&mut self.store)[(abi::DROPPED + at + i) as usize] = 1;
            Ok(())
        };
        for i in &state.dropped_data {
            flag(0, meta.data_segments, *i)?;
        }
        for i in &state.dropped_elem {
            flag(meta.data_segments, meta.element_segments, *i)?;
        }
        self.call(abi::DROP_SEGMENTS, &[], &mut [])?;
        self.restore_globals(state)?;
        for t in &state.tables {
            if !meta.tables.contains(&t.index) {
                return Err(Error::Misfit(format!("table {} does not change", t.index)));
            }
            let table = self.table(&format!("{}{}", abi::TABLE_PREFIX, t.index))?;
            if t.len < table.size(&self.store) {
                return Err(Error::Misfit(format!("table {} is smaller than it starts", t.index)));
            }
            self.fill_table(table, t)?;
        }
        let refs = self.table(abi::REFS_TABLE)?;
        let saved = TableState { index: 0, len: state.refs.len() as u64, entries: runs(&state.refs) };
        self.own_growth.store(true, Ordering::Relaxed);
        let filled = self.fill_table(refs, &saved);
        self.own_growth.store(false, Ordering::Relaxed);
        filled?;
        self.set(|r| r.refs, state.refs.len() as u32)?;
        Ok(self.registers.work.set(&mut self.store, Val::I64(state.work as i64))?)
    }

    fn restore_globals(&mut self, state: &State) -> Result<(), Error> {
        if state.globals.iter().map(|(g, _)| g).ne(self.meta.globals.iter()) {
            return Err(Error::Misfit("its globals are not the module's".to_string()));
        }
        for (g, value) in &state.globals {
            let name = format!("{}{g}", abi::GLOBAL_PREFIX);
            let Some(Extern::Global(global)) = self.instance.get_export(&mut self.store, &name) else { continue };
            let value = match value {
                GlobalValue::I32(v) => Val::I32(*v as i32),
                GlobalValue::I64(v) => Val::I64(*v as i64),
                GlobalValue::F32(v) => Val::F32(*v),
                GlobalValue::F64(v) => Val::F64(*v),
                GlobalValue::V128(v) => Val::V128((*v).into()),
                GlobalValue::Func(f) => match self.function_at(*f)? {
                    Ref::Func(f) => Val::FuncRef(f),
                    _ => Val::FuncRef(None),
                },
                GlobalValue::NullRef => continue,
            };
            global.set(&mut self.store, value).map_err(|_| Error::Misfit(format!("global {g} has another type")))?;
        }
        Ok(())
    }

    fn fill_table(&mut self, table: Table, state: &TableState) -> Result<(), Error> {
        let size = table.size(&self.store);
        if state.len > size {
            table.grow(&mut self.store, state.len - size, Ref::Func(None))?;
        }
        let mut next = 0;
        for (start, functions) in &state.entries {
            for i in next..*start {
                table.set(&mut self.store, i, Ref::Func(None))?;
            }
            for (i, f) in (*start..).zip(functions) {
                let f = self.function_at(*f)?;
                table.set(&mut self.store, i, f)?;
            }
            next = start + functions.len() as u64;
        }
        for i in next..state.len {
            table.set(&mut self.store, i, Ref::Func(None))?;
        }
        Ok(())
    }

    /// Makes a memory at least so large.
    ///
    /// # Errors
    /// [`Error::Misfit`] when there is no such memory, or it cannot be so large here.
    pub(crate) fn grow(&mut self, index: u32, bytes: u64) -> Result<(), Error> {
        let memory = self.memory(index).ok_or_else(|| no_memory(index))?;
        let size = memory.data_size(&self.store) as u64;
        if bytes > size {
            let pages = (bytes - size).div_ceil(memory.page_size(&self.store));
            let grown = memory.grow(&mut self.store, pages);
            grown.map_err(|_| Error::Misfit(format!("memory {index} needs {bytes} bytes: too many here")))?;
        }
        Ok(())
    }

    /// All bytes of a memory.
    ///
    /// # Errors
    /// [`Error::Misfit`] when there is no such memory.
    pub(crate) fn data(&mut self, index: u32) -> Result<&mut [u8], Error> {
        let memory = self.memory(index).ok_or_else(|| no_memory(index))?;
        Ok(memory.data_mut(&mut self.store))
    }

    /// Whole pages of a memory, from `first` on.
    ///
    /// # Errors
    /// [`Error::Misfit`] when there is no such memory, they are not whole (the memory's last may be short), or reach past
    /// its end.
    pub(crate) fn whole_pages(&mut self, index: u32, first: u64, len: usize) -> Result<&mut [u8], Error> {
        let data = self.data(index)?;
        let size = data.len();
        let range = within(first, len, size).ok_or_else(|| past(index))?;
        if !len.is_multiple_of(PAGE_SIZE) && range.end != size {
            return Err(Error::Misfit(format!("memory {index} has a part of a page")));
        }
        Ok(&mut data[range])
    }

    /// The guest's linear memories, by index.
    pub(crate) fn linear_memories(&mut self) -> Vec<(u32, Memory)> {
        (0..self.meta.memories).filter_map(|i| self.memory(i).map(|m| (i, m))).collect()
    }

    /// Bytes that a memory starts with: only there can the initial image be anything but zero.
    pub(crate) fn initial_size(&mut self, index: u32) -> usize {
        let ty = self.memory(index).map(|m| m.ty(&self.store));
        ty.map_or(0, |ty| usize::try_from(ty.minimum().saturating_mul(ty.page_size())).unwrap_or(usize::MAX))
    }

    /// The sizes of every linear memory, without any pages.
    pub fn sizes(&mut self) -> Vec<MemoryState<'static>> {
        let memories = self.linear_memories();
        let size = |m: Memory| m.data_size(&self.store) as u64;
        memories.into_iter().map(|(index, m)| MemoryState { index, size: size(m), runs: Vec::new() }).collect()
    }

    /// The pages of every linear memory that may differ from the module's initial image, borrowed.
    pub fn memories(&mut self) -> Vec<MemoryState<'_>> {
        self.linear_memories()
            .into_iter()
            .map(|(index, memory)| {
                let data = memory.data(self.store.as_context());
                let runs = changed::changed_pages(data)
                    .into_iter()
                    .map(|(first, count)| {
                        let from = first as usize * PAGE_SIZE;
                        let to = (from + count as usize * PAGE_SIZE).min(data.len());
                        PageRun::bytes(first, &data[from..to])
                    })
                    .collect();
                MemoryState { index, size: data.len() as u64, runs }
            })
            .collect()
    }

    /// Gives a fresh instance's memories the sizes and pages of a full snapshot.
    ///
    /// # Errors
    /// [`Error::Misfit`] when they are not this module's or damaged, [`Error::Wasm`] when there is no room.
    pub fn restore_memories<M: Memories + ?Sized>(&mut self, memories: &M) -> Result<(), Error> {
        let map = memories.map();
        if map.iter().map(|m| m.index).ne(0..self.meta.memories) {
            return Err(Error::Misfit("its memories are not the module's".to_string()));
        }
        for state in &map {
            let Some(memory) = self.memory(state.index) else { continue };
            let page = memory.page_size(&self.store);
            let size = memory.data_size(&self.store) as u64;
            if state.size < size || !state.size.is_multiple_of(page) {
                return Err(Error::Misfit(format!("memory {} is smaller than it starts", state.index)));
            }
            memory.grow(&mut self.store, (state.size - size) / page).map_err(|_| {
                Error::Misfit(format!("memory {} needs {} bytes: too many here", state.index, state.size))
            })?;
        }
        let mut targets = Vec::new();
        for state in &map {
            let Some(memory) = self.memory(state.index) else { continue };
            let grown = self.initial_size(state.index);
            // SAFETY: each memory is borrowed once here, and the store is not used until the last use of `targets`:
            // nothing grows, moves or reads these bytes meanwhile.
            let data =
                unsafe { core::slice::from_raw_parts_mut(memory.data_ptr(&self.store), memory.data_size(&self.store)) };
            take_runs(data, grown, state, &mut targets)?;
        }
        memories.fill(targets, &changed::populate).map_err(|e| Error::Misfit(e.to_string()))
    }
}

fn no_memory(index: u32) -> Error {
    Error::Misfit(format!("there is no memory {index}"))
}

pub(crate) fn past(index: u32) -> Error {
    Error::Misfit(format!("memory {index} has pages past its end"))
}

/// Bytes from the beginning of a page on, in a memory of `size` bytes.
pub(crate) fn within(first: u64, len: usize, size: usize) -> Option<Range<usize>> {
    let from = usize::try_from(first).ok()?.checked_mul(PAGE_SIZE)?;
    let to = from.checked_add(len).filter(|to| *to <= size)?;
    Some(from..to)
}

/// Cuts a memory's runs of bytes out of it, and clears those of zeros.
fn take_runs<'d>(
    mut rest: &'d mut [u8],
    grown: usize,
    state: &MemoryMap,
    targets: &mut Vec<&'d mut [u8]>,
) -> Result<(), Error> {
    let past = || Error::Misfit(format!("memory {} has pages past its end", state.index));
    let mut at = 0;
    for run in &state.runs {
        let from = (run.first_page as usize).checked_mul(PAGE_SIZE).ok_or_else(past)?;
        let skip = from.checked_sub(at).ok_or_else(past)?;
        let (_, tail) = rest.split_at_mut_checked(skip).ok_or_else(past)?;
        // The last page may be a part of one.
        let len = tail.len().min((run.pages as usize).saturating_mul(PAGE_SIZE));
        let (to, tail) = tail.split_at_mut(len);
        at = from + len;
        rest = tail;
        if !run.zero {
            targets.push(to);
            continue;
        }
        changed::clear(to, grown.saturating_sub(from));
    }
    Ok(())
}

impl<T: 'static> Drop for Machine<T> {
    fn drop(&mut self) {
        self.trigger.detach(self.polls.data_ptr(&self.store));
    }
}

/// A reference slot must be null or hold what a guest can have saved: it would trap on anything else.
fn check_references(meta: &Metadata, frame: &Frame<'_>, refs: usize) -> Result<(), Error> {
    for slot in &frame.function.slots {
        if !slot.ty.is_reference() {
            continue;
        }
        let at = slot.offset as usize;
        let held = frame.bytes.get(at..at + slot.ty.size() as usize).and_then(|b| meta.reference(slot.ty, b));
        let known = |f: &Reference<'_>| matches!(f, Reference::Func(n) if *n as usize <= refs);
        let fits = match held {
            Some(Reference::Exn(_, values)) => values
                .iter()
                .all(|(ty, bytes)| !ty.is_reference() || meta.reference(*ty, bytes).as_ref().is_some_and(known)),
            Some(Reference::NullExn) => true,
            Some(f @ Reference::Func(_)) => known(&f),
            None => false,
        };
        if !fits {
            return Err(Error::Misfit("a frame holds a reference to nothing that is there".to_string()));
        }
    }
    Ok(())
}

/// Non-null stretches of a table.
fn runs(entries: &[Option<u32>]) -> Vec<(u64, Vec<Option<u32>>)> {
    let mut out: Vec<(u64, Vec<Option<u32>>)> = Vec::new();
    for (i, e) in (0u64..).zip(entries).filter(|(_, e)| e.is_some()) {
        match out.last_mut() {
            Some((start, list)) if *start + list.len() as u64 == i => list.push(*e),
            _ => out.push((i, alloc::vec![*e])),
        }
    }
    out
}
