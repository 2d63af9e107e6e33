//! What the crate refuses to its own callers: captures gone wrong, and snapshots that do not belong together.

mod common;

use common::{PAGE, sample};
use wayfare_snapshot::*;

#[test]
fn a_capture_gone_wrong_is_refused_at_the_source() {
    let with = |size, runs| {
        let snapshot = Snapshot { memories: vec![MemoryState { index: 0, size, runs }], ..Snapshot::default() };
        encode(&snapshot, Compression::None).expect_err("must be refused")
    };
    let bytes = |page, len| PageRun::bytes(page, vec![1; len]);
    let overlap = Error::RunOverlap { memory: 0, page: 1 };
    assert_eq!(with(9 * PAGE, vec![bytes(0, 2 * PAGE_SIZE), bytes(1, PAGE_SIZE)]), overlap);
    assert_eq!(with(9 * PAGE, vec![bytes(2, PAGE_SIZE), bytes(1, PAGE_SIZE)]), overlap);
    assert_eq!(with(9 * PAGE, vec![PageRun::zero(3, 0)]), Error::EmptyRun { memory: 0, page: 3 });
    assert_eq!(with(9 * PAGE, vec![bytes(0, 5)]), Error::PartialPage { memory: 0, page: 0 });
    assert_eq!(with(PAGE + 5, vec![bytes(1, 6)]), Error::PartialPage { memory: 0, page: 1 });
    assert_eq!(with(PAGE, vec![bytes(1, 1)]), Error::RunOutOfBounds { memory: 0, page: 1, size: PAGE });
    let end = Error::RunOutOfBounds { memory: 0, page: u64::MAX, size: PAGE };
    assert_eq!(with(PAGE, vec![PageRun::zero(u64::MAX, u64::MAX)]), end);
    let base = Some(Digest::ZERO);
    let unnamed = Snapshot { meta: Meta { base, ..Meta::default() }, ..Snapshot::default() };
    assert_eq!(encode(&unnamed, Compression::None), Err(Error::DeltaWithoutBase));
}

#[test]
fn algebra_refusals() {
    let base = decode(&encode(&sample(), Compression::Lz4).unwrap(), &Limits::default()).unwrap();
    let id = base.meta.id.unwrap();
    let delta = diff(&base, &base, id).unwrap();
    let other = Digest::of(b"other");
    let module =
        |s: &Snapshot<'_>| Snapshot { meta: Meta { module: other, ..s.meta.clone() }, ..s.clone().into_owned() };
    let mismatch = Error::ModuleMismatch { left: base.meta.module, right: other };

    assert_eq!(diff(&base, &delta, id), Err(Error::NotFull));
    assert_eq!(diff(&delta, &base, id), Err(Error::NotFull));
    assert_eq!(diff(&base, &module(&base), id), Err(mismatch.clone()));
    assert_eq!(diff(&base, &base, other), Err(Error::WrongBase { wanted: other, given: id }));
    assert_eq!(apply(&delta, &delta), Err(Error::NotFull));
    assert_eq!(apply(&base, &base), Err(Error::NotDelta));
    assert_eq!(apply(&base, &module(&delta)), Err(mismatch));
    assert_eq!(apply(&sample(), &delta), Err(Error::BaseUnnamed));
    let mut astray = delta.clone();
    astray.meta.base = Some(other);
    assert_eq!(apply(&base, &astray), Err(Error::WrongBase { wanted: other, given: id }));

    let with = |change: fn(&mut MemoryState<'_>)| {
        let mut new = base.clone();
        change(&mut new.memories[0]);
        new
    };
    let shrunk = with(|memory| memory.size -= PAGE);
    let shrank = Error::MemoryShrank { memory: 0, before: 16 * PAGE, after: 15 * PAGE };
    assert_eq!(diff(&base, &shrunk, id), Err(shrank.clone()));
    let mut smaller = delta.clone();
    smaller.memories[0].size -= PAGE;
    assert_eq!(apply(&base, &smaller), Err(shrank));
    let lost = with(|memory| drop(memory.runs.pop()));
    assert_eq!(diff(&base, &lost, id), Err(Error::PageVanished { memory: 0, page: 9 }));
    let renamed = with(|memory| memory.index = 1);
    assert_eq!(diff(&base, &renamed, id), Err(Error::MemoriesDiffer));
}
