//! Base + delta: the few operations from which migration, standbys and overlays are made.
//!
//! Laws (tested): `apply(base, diff(base, new)) == new`; `squash` is associative; applying `squash(a, b)` is applying
//! `a`, then `b`. Results borrow their pages from the operands; [`Snapshot::into_owned`] cuts them loose.

use crate::{Digest, Error, Kind, MemoryState, Snapshot};
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// The delta that leads from `base`, whose id is `base_id`, to `new`; both are full.
///
/// # Errors
/// [`Error::NotFull`], [`Error::ModuleMismatch`], [`Error::WrongBase`] if `base` has another id,
/// [`Error::MemoriesDiffer`], [`Error::MemoryShrank`], and [`Error::PageVanished`]: a page once changed stays in every
/// later full capture, so its absence would mean that a capture lost it.
pub fn diff<'s>(base: &Snapshot<'_>, new: &'s Snapshot<'_>, base_id: Digest) -> Result<Snapshot<'s>, Error> {
    if base.meta.kind() != Kind::Full || new.meta.kind() != Kind::Full {
        return Err(Error::NotFull);
    }
    same_module(base, new)?;
    if let Some(given) = base.meta.id
        && given != base_id
    {
        return Err(Error::WrongBase { wanted: base_id, given });
    }
    let memories = pairs(base, new)?.map(|(old, new)| old.changed(new)).collect::<Result<_, _>>()?;
    let mut delta = with_memories(new, memories);
    delta.meta.base = Some(base_id);
    // The delta reaches the same state as the full snapshot, by whatever id that goes.
    delta.meta.id = new.meta.id;
    Ok(delta)
}

/// The full snapshot that `delta` makes of `base`; it takes over the delta's id.
///
/// # Errors
/// [`Error::NotFull`] if `base` is none, and those of [`squash`].
pub fn apply<'s>(base: &'s Snapshot<'_>, delta: &'s Snapshot<'_>) -> Result<Snapshot<'s>, Error> {
    match base.meta.kind() {
        Kind::Full => squash(base, delta),
        Kind::Delta => Err(Error::NotFull),
    }
}

/// Two consecutive snapshots as one: `first` is full or a delta, `second` a delta on it. The result stands on what
/// `first` stands on and takes over the id of `second`.
///
/// # Errors
/// [`Error::NotDelta`], [`Error::ModuleMismatch`], [`Error::BaseUnnamed`] if `first` was neither encoded nor decoded yet,
/// [`Error::WrongBase`], [`Error::MemoriesDiffer`], [`Error::MemoryShrank`].
pub fn squash<'s>(first: &'s Snapshot<'_>, second: &'s Snapshot<'_>) -> Result<Snapshot<'s>, Error> {
    let wanted = second.meta.base.ok_or(Error::NotDelta)?;
    same_module(first, second)?;
    let given = first.meta.id.ok_or(Error::BaseUnnamed)?;
    if wanted != given {
        return Err(Error::WrongBase { wanted, given });
    }
    let memories = pairs(first, second)?.map(|(old, new)| old.overlay(new)).collect::<Result<_, _>>()?;
    let mut out = with_memories(second, memories);
    out.meta.base = first.meta.base;
    Ok(out)
}

fn same_module(base: &Snapshot<'_>, new: &Snapshot<'_>) -> Result<(), Error> {
    let (left, right) = (base.meta.module, new.meta.module);
    if left == right { Ok(()) } else { Err(Error::ModuleMismatch { left, right }) }
}

/// The memories of both, side by side.
fn pairs<'b, 'n, 'x, 'y>(
    base: &'b Snapshot<'x>,
    new: &'n Snapshot<'y>,
) -> Result<impl Iterator<Item = (&'b MemoryState<'x>, &'n MemoryState<'y>)>, Error> {
    base.check()?;
    new.check()?;
    let indices = |s: &Snapshot<'_>| s.memories.iter().map(|memory| memory.index).collect::<Vec<_>>();
    if indices(base) != indices(new) {
        return Err(Error::MemoriesDiffer);
    }
    Ok(base.memories.iter().zip(&new.memories))
}

/// `snapshot` with other memories, its other bytes borrowed.
fn with_memories<'s>(snapshot: &'s Snapshot<'_>, memories: Vec<MemoryState<'s>>) -> Snapshot<'s> {
    Snapshot {
        meta: snapshot.meta.clone(),
        options: snapshot.options.clone(),
        frames: Cow::Borrowed(&snapshot.frames),
        globals: snapshot.globals.clone(),
        tables: snapshot.tables.clone(),
        memories,
        dropped_data: snapshot.dropped_data.clone(),
        dropped_elem: snapshot.dropped_elem.clone(),
        refs: snapshot.refs.clone(),
        wasi: Cow::Borrowed(&snapshot.wasi),
    }
}
