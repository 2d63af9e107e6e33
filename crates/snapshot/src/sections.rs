//! The sections, their payloads but for memory pages: one writer and one reader each, side by side.

use crate::wire::{Reader, put_func, put_text, put_varint};
use crate::{Error, GlobalValue, Limits, TableState, TaskOptions};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Kind, version, length.
pub(crate) const SECTION_HEADER: usize = 12;

/// Kinds are numbered in the order in which sections stand. Memories come last: all that a destination must judge
/// before it takes pages stands before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Options = 1,
    Frames,
    Globals,
    Tables,
    Dropped,
    Refs,
    Wasi,
    Memories,
}

impl Section {
    pub(crate) const ALL: [Self; 8] = [
        Self::Options,
        Self::Frames,
        Self::Globals,
        Self::Tables,
        Self::Dropped,
        Self::Refs,
        Self::Wasi,
        Self::Memories,
    ];

    pub(crate) fn of(kind: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|section| *section as u16 == kind)
    }

    /// The version that is written, and the only one that is read.
    pub(crate) fn version(self) -> u16 {
        match self {
            // 2: how long the task ran, which 1 had in the header in place of its work.
            Self::Options => 2,
            _ => 1,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Options => "options",
            Self::Frames => "frames",
            Self::Globals => "globals",
            Self::Tables => "tables",
            Self::Dropped => "dropped",
            Self::Refs => "refs",
            Self::Wasi => "wasi",
            Self::Memories => "memories",
        }
    }
}

const CANONICAL_NAN: u8 = 1;
const DETERMINISTIC_RELAXED_SIMD: u8 = 2;

pub(crate) fn put_options(options: &TaskOptions) -> Vec<u8> {
    let mut out = Vec::new();
    let flag = |set, bit| if set { bit } else { 0 };
    out.push(
        flag(options.canonical_nan, CANONICAL_NAN)
            | flag(options.deterministic_relaxed_simd, DETERMINISTIC_RELAXED_SIMD),
    );
    put_varint(&mut out, options.ran);
    put_text(&mut out, &options.entry);
    put_text(&mut out, &options.name);
    put_varint(&mut out, options.extra.len() as u64);
    for (key, value) in &options.extra {
        put_text(&mut out, key);
        put_text(&mut out, value);
    }
    out
}

pub(crate) fn options(r: &mut Reader<'_>) -> Result<TaskOptions, Error> {
    let flags = r.u8()?;
    // An option that this version does not know could change what the task computes: it must not be ignored.
    if flags & !(CANONICAL_NAN | DETERMINISTIC_RELAXED_SIMD) != 0 {
        return Err(r.bad("set of known options", flags.into()));
    }
    let ran = r.varint()?;
    let (entry, name) = (r.text()?, r.text()?);
    let mut extra = BTreeMap::new();
    for position in 0..r.count(2)? {
        let (key, value) = (r.text()?, r.text()?);
        if extra.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return Err(Error::Unsorted { name: r.name(), index: position as u64 });
        }
        extra.insert(key, value);
    }
    Ok(TaskOptions {
        canonical_nan: flags & CANONICAL_NAN != 0,
        deterministic_relaxed_simd: flags & DETERMINISTIC_RELAXED_SIMD != 0,
        ran,
        entry,
        name,
        extra,
    })
}

pub(crate) fn put_globals(globals: &[(u32, GlobalValue)]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, globals.len() as u64);
    for (index, value) in globals {
        put_varint(&mut out, u64::from(*index));
        let (tag, bytes): (u8, &[u8]) = match value {
            GlobalValue::I32(bits) => (0, &bits.to_le_bytes()),
            GlobalValue::I64(bits) => (1, &bits.to_le_bytes()),
            GlobalValue::F32(bits) => (2, &bits.to_le_bytes()),
            GlobalValue::F64(bits) => (3, &bits.to_le_bytes()),
            GlobalValue::V128(bits) => (4, &bits.to_le_bytes()),
            GlobalValue::Func(_) => (5, &[]),
            GlobalValue::NullRef => (6, &[]),
        };
        out.push(tag);
        out.extend_from_slice(bytes);
        if let GlobalValue::Func(func) = value {
            put_func(&mut out, *func);
        }
    }
    out
}

pub(crate) fn globals(r: &mut Reader<'_>) -> Result<Vec<(u32, GlobalValue)>, Error> {
    let count = r.count(2)?;
    let mut out = Vec::with_capacity(count);
    for _ in 0..count {
        let index = r.index("global index")?;
        let value = match r.u8()? {
            0 => GlobalValue::I32(r.u32()?),
            1 => GlobalValue::I64(r.u64()?),
            2 => GlobalValue::F32(r.u32()?),
            3 => GlobalValue::F64(r.u64()?),
            4 => GlobalValue::V128(r.u128()?),
            5 => GlobalValue::Func(r.func()?),
            6 => GlobalValue::NullRef,
            tag => return Err(r.bad("type of global", tag.into())),
        };
        out.push((index, value));
    }
    Ok(out)
}

pub(crate) fn put_tables(tables: &[TableState]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, tables.len() as u64);
    for table in tables {
        put_varint(&mut out, u64::from(table.index));
        put_varint(&mut out, table.len);
        put_varint(&mut out, table.entries.len() as u64);
        for (start, slots) in &table.entries {
            put_varint(&mut out, *start);
            put_funcs(&mut out, slots);
        }
    }
    out
}

pub(crate) fn tables(r: &mut Reader<'_>, limits: &Limits) -> Result<Vec<TableState>, Error> {
    let count = r.count(3)?;
    let mut out = Vec::with_capacity(count);
    let mut slots = 0u64;
    for _ in 0..count {
        let (index, len) = (r.index("table index")?, r.varint()?);
        slots = slots.saturating_add(len);
        if slots > limits.max_table_len {
            return Err(Error::TableTooLarge { len: slots, cap: limits.max_table_len });
        }
        let runs = r.count(2)?;
        let mut entries = Vec::with_capacity(runs);
        for _ in 0..runs {
            entries.push((r.varint()?, funcs(r)?));
        }
        out.push(TableState { index, len, entries });
    }
    Ok(out)
}

pub(crate) fn put_indices(out: &mut Vec<u8>, indices: &[u32]) {
    put_varint(out, indices.len() as u64);
    indices.iter().for_each(|index| put_varint(out, u64::from(*index)));
}

pub(crate) fn indices(r: &mut Reader<'_>) -> Result<Vec<u32>, Error> {
    (0..r.count(1)?).map(|_| r.index("segment index")).collect()
}

pub(crate) fn put_funcs(out: &mut Vec<u8>, funcs: &[Option<u32>]) {
    put_varint(out, funcs.len() as u64);
    funcs.iter().for_each(|func| put_func(out, *func));
}

pub(crate) fn funcs(r: &mut Reader<'_>) -> Result<Vec<Option<u32>>, Error> {
    (0..r.count(1)?).map(|_| r.func()).collect()
}
