//! A snapshot becomes bytes. Raw pages are borrowed from the task until the sink takes them: no second copy of memory.

use crate::chunk::{self, CHUNK_SIZE, Parts};
use crate::pages::is_zero;
use crate::sections::{self, Section};
use crate::wire::{put_u16, put_u64, put_varint};
use crate::{Compression, Digest, Error, FORMAT, Header, MemoryState, PAGE_SIZE, Pages, Snapshot, par};
use alloc::vec;
use alloc::vec::Vec;

/// Takes encoded bytes. Every `std::io::Write` is one; without `std`, a `Vec<u8>`.
pub trait Sink {
    /// Why bytes were not taken.
    type Error;
    /// Takes all of `bytes`.
    ///
    /// # Errors
    /// Whatever keeps the sink from taking them.
    fn put(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// Why [`encode_into`] failed.
#[derive(Debug, thiserror::Error)]
pub enum EncodeIntoError<E> {
    /// The snapshot cannot be encoded; nothing was written.
    #[error(transparent)]
    Snapshot(#[from] Error),
    /// The sink refused; what it has so far is no snapshot.
    #[error("writing the snapshot failed: see to the file or the connection, then capture again")]
    Sink(#[source] E),
}

/// An encoded snapshot as a list of slices; those of raw pages are still the task's own memory.
pub struct Encoded<'s> {
    header: Header,
    parts: Parts<'s>,
}

/// Encodes into one vector.
///
/// # Errors
/// Those of [`Snapshot::check`], and [`Error::CompressionFailed`].
pub fn encode(snapshot: &Snapshot<'_>, compression: Compression) -> Result<Vec<u8>, Error> {
    let unsealed = Unsealed::new(snapshot, compression)?;
    let total = usize::try_from(unsealed.header.total_len)
        .map_err(|_| Error::TooLong { len: unsealed.header.total_len, cap: usize::MAX as u64 })?;
    let mut out = vec![0; total];
    let (head, body) = out.split_at_mut(Header::LEN);
    let header = unsealed.header.to_bytes();
    let mut hasher = blake3::Hasher::new();
    hasher.update(&header[..Header::CHECKSUM_AT]);
    copy_and_hash(&unsealed.parts, body, &mut hasher);
    head.copy_from_slice(&header);
    head[Header::CHECKSUM_AT..].copy_from_slice(hasher.finalize().as_bytes());
    Ok(out)
}

/// Encodes into `sink`, the header first; gives the header.
///
/// # Errors
/// Those of [`encode`], and the sink's.
pub fn encode_into<S: Sink + ?Sized>(
    snapshot: &Snapshot<'_>,
    compression: Compression,
    sink: &mut S,
) -> Result<Header, EncodeIntoError<S::Error>> {
    let encoded = encode_parts(snapshot, compression)?;
    sink.put(&encoded.header.to_bytes()).map_err(EncodeIntoError::Sink)?;
    encoded.parts().try_for_each(|part| sink.put(part)).map_err(EncodeIntoError::Sink)?;
    Ok(encoded.header)
}

/// Encodes into slices, for a caller that writes them by itself.
///
/// # Errors
/// Those of [`encode`].
pub fn encode_parts<'s>(snapshot: &'s Snapshot<'_>, compression: Compression) -> Result<Encoded<'s>, Error> {
    let Unsealed { mut header, parts } = Unsealed::new(snapshot, compression)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&header.to_bytes()[..Header::CHECKSUM_AT]);
    hash_parts(&parts, &mut hasher);
    header.checksum = Digest(*hasher.finalize().as_bytes());
    Ok(Encoded { header, parts })
}

impl Encoded<'_> {
    /// The header, which is not among the parts.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What follows the header, in order.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.list.iter().map(|part| &part[..])
    }
}

/// Puts the right length and checksum into bytes that were changed. For tests and fuzzing, which must get past them.
#[doc(hidden)]
pub fn reseal(bytes: &mut [u8]) {
    if bytes.len() < Header::LEN {
        return;
    }
    let len = bytes.len() as u64;
    bytes[Header::TOTAL_LEN_AT..Header::CHECKSUM_AT].copy_from_slice(&len.to_le_bytes());
    let sum = checksum(bytes);
    bytes[Header::CHECKSUM_AT..Header::LEN].copy_from_slice(&sum.0);
}

/// The checksum of encoded bytes, which must have a whole header.
pub(crate) fn checksum(bytes: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes[..Header::CHECKSUM_AT]);
    par::hash(&mut hasher, &bytes[Header::LEN..]);
    Digest(*hasher.finalize().as_bytes())
}

/// Everything but the checksum.
struct Unsealed<'s> {
    header: Header,
    parts: Parts<'s>,
}

impl<'s> Unsealed<'s> {
    fn new(snapshot: &'s Snapshot<'_>, compression: Compression) -> Result<Self, Error> {
        snapshot.check()?;
        let mut parts = Parts::default();
        for section in Section::ALL {
            let payload = payload(snapshot, section, compression)?;
            let mut head = Vec::with_capacity(sections::SECTION_HEADER);
            put_u16(&mut head, section as u16);
            put_u16(&mut head, section.version());
            put_u64(&mut head, payload.len);
            parts.push(head);
            parts.append(payload);
        }
        let meta = &snapshot.meta;
        let header = Header {
            format: FORMAT,
            kind: meta.kind(),
            module: meta.module,
            base: meta.base,
            state: meta.id,
            sequence: meta.sequence,
            epoch: meta.epoch,
            progress: meta.progress,
            total_len: Header::LEN as u64 + parts.len,
            checksum: Digest::ZERO,
        };
        Ok(Self { header, parts })
    }
}

fn payload<'s>(s: &'s Snapshot<'_>, section: Section, compression: Compression) -> Result<Parts<'s>, Error> {
    let mut parts = Parts::default();
    match section {
        Section::Options => parts.push(sections::put_options(&s.options)),
        Section::Globals => parts.push(sections::put_globals(&s.globals)),
        Section::Tables => parts.push(sections::put_tables(&s.tables)),
        Section::Dropped => {
            let mut out = Vec::new();
            sections::put_indices(&mut out, &s.dropped_data);
            sections::put_indices(&mut out, &s.dropped_elem);
            parts.push(out);
        }
        Section::Refs => {
            let mut out = Vec::new();
            sections::put_funcs(&mut out, &s.refs);
            parts.push(out);
        }
        Section::Frames => blob(&s.frames, compression, &mut parts)?,
        Section::Wasi => blob(&s.wasi, compression, &mut parts)?,
        Section::Memories => memories(&s.memories, compression, &mut parts)?,
    }
    Ok(parts)
}

fn blob<'s>(bytes: &'s [u8], compression: Compression, parts: &mut Parts<'s>) -> Result<(), Error> {
    let mut len = Vec::new();
    put_varint(&mut len, bytes.len() as u64);
    parts.push(len);
    chunk::pack(vec![bytes], compression, parts)
}

/// Count; per memory its index, size and map; then the bytes of all non-zero pages of all memories as one stream.
/// A map is a count of runs; per run the pages skipped since the last, and its length times two, plus one for zero pages.
fn memories<'s>(memories: &'s [MemoryState<'_>], compression: Compression, parts: &mut Parts<'s>) -> Result<(), Error> {
    let mut out = Vec::new();
    let mut pieces = Vec::new();
    put_varint(&mut out, memories.len() as u64);
    for memory in memories {
        let map = map(memory, &mut pieces);
        put_varint(&mut out, u64::from(memory.index));
        put_varint(&mut out, memory.size);
        put_varint(&mut out, map.len() as u64);
        let mut at = 0;
        for run in map {
            put_varint(&mut out, run.first - at);
            put_varint(&mut out, run.count << 1 | u64::from(run.zero));
            at = run.first + run.count;
        }
    }
    parts.push(out);
    chunk::pack(pieces, compression, parts)
}

struct MapRun {
    first: u64,
    count: u64,
    zero: bool,
}

/// The map of a memory; the bytes of its non-zero pages go to `pieces`.
fn map<'s>(memory: &'s MemoryState<'_>, pieces: &mut Vec<&'s [u8]>) -> Vec<MapRun> {
    let mut map: Vec<MapRun> = Vec::new();
    let mut add = |first, count, zero| match map.last_mut() {
        Some(last) if last.zero == zero && last.first + last.count == first => last.count += count,
        _ => map.push(MapRun { first, count, zero }),
    };
    for run in &memory.runs {
        match &run.pages {
            Pages::Zero(count) => add(run.first_page, *count, true),
            Pages::Bytes(bytes) => {
                let mut first = run.first_page;
                let mut rest = &bytes[..];
                for same in zero_flags(bytes).chunk_by(|a, b| a == b) {
                    let (head, tail) = rest.split_at(rest.len().min(same.len() * PAGE_SIZE));
                    add(first, same.len() as u64, same[0]);
                    if !same[0] {
                        pieces.push(head);
                    }
                    first += same.len() as u64;
                    rest = tail;
                }
            }
        }
    }
    map
}

/// For each page of `bytes`, whether it is zero.
fn zero_flags(bytes: &[u8]) -> Vec<bool> {
    const BLOCK: usize = 256 * PAGE_SIZE;
    let blocks = bytes.chunks(BLOCK).collect();
    let flags = par::map(blocks, || (), |(), block: &[u8]| block.chunks(PAGE_SIZE).map(is_zero).collect::<Vec<_>>());
    flags.concat()
}

/// Bytes that are copied and hashed together: enough for all cores, few enough to be in the cache still.
const BLOCK: usize = 4 << 20;

/// Lays the parts one after the other into `out`, and hashes them block by block while they are in the cache.
fn copy_and_hash(parts: &Parts<'_>, mut out: &mut [u8], hasher: &mut blake3::Hasher) {
    for block in chunk::cut(parts.list.iter().map(|part| &part[..]), BLOCK) {
        let len = block.iter().map(|part| part.len()).sum();
        let (target, rest) = out.split_at_mut(len);
        let work = target.chunks_mut(CHUNK_SIZE).zip(chunk::cut(block, CHUNK_SIZE)).collect();
        par::map(work, || (), |(), (to, from)| copy(to, &from));
        par::hash(hasher, target);
        out = rest;
    }
}

fn copy(mut to: &mut [u8], from: &[&[u8]]) {
    for part in from {
        let (head, rest) = to.split_at_mut(part.len());
        head.copy_from_slice(part);
        to = rest;
    }
}

/// Hashes the parts one after the other. Small ones are put together first: hashing a page at a time would use
/// neither wide vectors nor other cores.
fn hash_parts(parts: &Parts<'_>, hasher: &mut blake3::Hasher) {
    const TOGETHER: usize = 1 << 20;
    let mut small = Vec::new();
    for part in &parts.list {
        if small.len() + part.len() > TOGETHER {
            par::hash(hasher, &small);
            small.clear();
        }
        if part.len() > TOGETHER {
            par::hash(hasher, part);
        } else {
            small.extend_from_slice(part);
        }
    }
    par::hash(hasher, &small);
}
