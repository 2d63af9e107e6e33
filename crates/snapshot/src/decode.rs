//! Bytes from outside become a snapshot, or are refused before they cost anything.

use crate::chunk::{Directory, Stream};
use crate::encode::checksum;
use crate::pages::{MapRun, Memories, MemoryMap, run_bytes};
use crate::sections::{self, Section};
use crate::wire::Reader;
use crate::{Digest, Error, Header, MemoryState, Meta, PAGE_SIZE, PageRun, Pages, Snapshot};
use alloc::borrow::Cow;
use alloc::vec;
use alloc::vec::Vec;

/// What a node is willing to take in. Caps are inclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the encoded snapshot.
    pub max_len: u64,
    /// Bytes unpacked: all memories at their full size (the engine will need that), the frames and the WASI state.
    pub max_memory: u64,
    /// Slots of all tables.
    pub max_table_len: u64,
}

impl Default for Limits {
    /// 8 GiB each way, and ten million table slots (what engines commonly allow).
    fn default() -> Self {
        Self { max_len: 8 << 30, max_memory: 8 << 30, max_table_len: 10_000_000 }
    }
}

/// A snapshot of which everything is decoded but the pages of its memories, which mostly are all of it: they
/// can be unpacked to where they are needed.
pub struct Packed<'b> {
    /// The rest; its memories are empty.
    pub snapshot: Snapshot<'static>,
    memories: Vec<MemoryMap>,
    /// Where the pages lie in `bytes`: that section is the last one.
    pages: Directory,
    bytes: Cow<'b, [u8]>,
}

impl Packed<'_> {
    /// The whole snapshot.
    ///
    /// # Errors
    /// When packed bytes are damaged.
    pub fn unpack(self) -> Result<Snapshot<'static>, Error> {
        let runs = self.memories.iter().flat_map(|m| m.runs.iter().filter(|run| !run.zero).map(|run| m.bytes_of(run)));
        let mut buffers: Vec<Vec<u8>> = runs.map(|bytes| vec![0; bytes as usize]).collect();
        self.fill(buffers.iter_mut().map(|buffer| &mut buffer[..]).collect(), &|_| ())?;
        let mut buffers = buffers.into_iter();
        let mut run = |run: MapRun| PageRun {
            first_page: run.first_page,
            pages: match run.zero {
                true => Pages::Zero(run.pages),
                false => Pages::Bytes(Cow::Owned(buffers.next().unwrap_or_default())),
            },
        };
        let mut state = |memory: MemoryMap| MemoryState {
            index: memory.index,
            size: memory.size,
            runs: memory.runs.into_iter().map(&mut run).collect(),
        };
        let memories = self.memories.into_iter().map(&mut state).collect();
        Ok(Snapshot { memories, ..self.snapshot })
    }
}

impl Memories for Packed<'_> {
    fn map(&self) -> Vec<MemoryMap> {
        self.memories.clone()
    }

    fn fill(&self, targets: Vec<&mut [u8]>, prepare: &(dyn Fn(&mut [u8]) + Sync)) -> Result<(), Error> {
        self.pages.stream(&self.bytes).unpack(targets, prepare)
    }
}

/// Decodes a snapshot: header, then the length against `limits` and the bytes, then the checksum, then the sections.
///
/// # Errors
/// One variant for every way in which bytes can be no snapshot; see [`Error`].
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Snapshot<'static>, Error> {
    open(bytes, limits)?.unpack()
}

/// [`decode`] but for the pages of the memories.
///
/// # Errors
/// As [`decode`], except that damage within packed pages is found when they are unpacked (such damage means that
/// they were sealed so: the checksum is verified here).
pub fn open<'b>(bytes: impl Into<Cow<'b, [u8]>>, limits: &Limits) -> Result<Packed<'b>, Error> {
    let bytes = bytes.into();
    let header = Header::parse(&bytes)?;
    let len = header.total_len.max(bytes.len() as u64);
    if len > limits.max_len {
        return Err(Error::TooLong { len, cap: limits.max_len });
    }
    let header = sealed(header, &bytes)?;
    let id = header.id();
    let meta = Meta {
        module: header.module,
        base: header.base,
        sequence: header.sequence,
        epoch: header.epoch,
        progress: header.progress,
        id: Some(id),
    };
    let (snapshot, memories, pages) = body(meta, &bytes[Header::LEN..], limits)?;
    snapshot.check()?;
    crate::state::ascending("memories", memories.iter().map(|memory| memory.index))?;
    Ok(Packed { snapshot, memories, pages, bytes })
}

/// Checks header, length and checksum without decoding: that the bytes arrived as they were sealed.
///
/// # Errors
/// The header's refusals, [`Error::LengthMismatch`], [`Error::ChecksumMismatch`].
pub fn verify(bytes: &[u8]) -> Result<Header, Error> {
    sealed(Header::parse(bytes)?, bytes)
}

/// The id by which a delta names this snapshot as its base. Reads the header only.
///
/// # Errors
/// The header's refusals.
pub fn id(bytes: &[u8]) -> Result<Digest, Error> {
    Header::parse(bytes).map(|header| header.id())
}

fn sealed(header: Header, bytes: &[u8]) -> Result<Header, Error> {
    let (claimed, actual) = (header.total_len, bytes.len() as u64);
    if claimed != actual {
        return Err(Error::LengthMismatch { claimed, actual });
    }
    let (claimed, actual) = (header.checksum, checksum(bytes));
    if claimed != actual {
        return Err(Error::ChecksumMismatch { claimed, actual });
    }
    Ok(header)
}

fn body(meta: Meta, bytes: &[u8], limits: &Limits) -> Result<(Snapshot<'static>, Vec<MemoryMap>, Directory), Error> {
    let mut packed = None;
    let mut snapshot = Snapshot { meta, ..Snapshot::default() };
    let mut room = Room { left: limits.max_memory, cap: limits.max_memory };
    let mut rest = Reader::new("body", bytes);
    for expected in Section::ALL {
        let mut r = section(&mut rest, expected)?;
        match expected {
            Section::Options => snapshot.options = sections::options(&mut r)?,
            Section::Globals => snapshot.globals = sections::globals(&mut r)?,
            Section::Tables => snapshot.tables = sections::tables(&mut r, limits)?,
            Section::Dropped => {
                snapshot.dropped_data = sections::indices(&mut r)?;
                snapshot.dropped_elem = sections::indices(&mut r)?;
            }
            Section::Refs => snapshot.refs = sections::funcs(&mut r)?,
            Section::Frames => snapshot.frames = blob(&mut r, &mut room)?,
            Section::Wasi => snapshot.wasi = blob(&mut r, &mut room)?,
            Section::Memories => {
                let (memories, stream) = memories(&mut r, &mut room)?;
                packed = Some((memories, stream.directory()));
            }
        }
        r.finish()?;
    }
    if rest.left() > 0 {
        return Err(extra_section(rest));
    }
    let (memories, pages) = packed.expect("one of all sections");
    Ok((snapshot, memories, pages))
}

/// The payload of the next section, which must be the expected one.
fn section<'b>(rest: &mut Reader<'b>, expected: Section) -> Result<Reader<'b>, Error> {
    if rest.left() == 0 {
        return Err(Error::MissingSection { name: expected.name() });
    }
    let (kind, version, claimed) = (rest.u16()?, rest.u16()?, rest.u64()?);
    let found = Section::of(kind).ok_or(Error::UnknownSection { kind })?;
    let name = found.name();
    if (found as u16) < expected as u16 {
        return Err(Error::DuplicateSection { name });
    }
    if found != expected {
        return Err(Error::MissingSection { name: expected.name() });
    }
    if version != expected.version() {
        return Err(Error::SectionVersion { name, found: version, known: expected.version() });
    }
    let left = rest.left() as u64;
    if claimed > left {
        return Err(Error::SectionTooLong { name, claimed, left });
    }
    Ok(Reader::new(name, rest.take(claimed as usize)?))
}

/// Says what stands after the last section.
fn extra_section(mut rest: Reader<'_>) -> Error {
    let bytes = rest.left() as u64;
    match rest.u16().map(|kind| (kind, Section::of(kind))) {
        _ if bytes < sections::SECTION_HEADER as u64 => Error::Leftover { name: "body", bytes },
        Ok((_, Some(section))) => Error::DuplicateSection { name: section.name() },
        Ok((kind, None)) => Error::UnknownSection { kind },
        Err(error) => error,
    }
}

/// What is left of [`Limits::max_memory`].
struct Room {
    left: u64,
    cap: u64,
}

impl Room {
    fn take(&mut self, bytes: u64) -> Result<(), Error> {
        let used = self.cap - self.left;
        let too_large = Error::MemoryTooLarge { size: used.saturating_add(bytes), cap: self.cap };
        // On a 32-bit node a limit may exceed what an address can say.
        if usize::try_from(bytes).is_err() {
            return Err(too_large);
        }
        self.left = self.left.checked_sub(bytes).ok_or(too_large)?;
        Ok(())
    }
}

fn blob(r: &mut Reader<'_>, room: &mut Room) -> Result<Cow<'static, [u8]>, Error> {
    let len = r.varint()?;
    room.take(len)?;
    Stream::read(r, len)?.into_vec().map(Cow::Owned)
}

/// Reads maps and directory. No memory is set aside yet.
fn memories<'b>(r: &mut Reader<'b>, room: &mut Room) -> Result<(Vec<MemoryMap>, Stream<'b>), Error> {
    let count = r.count(3)?;
    let mut out = Vec::with_capacity(count);
    let mut total = 0;
    for _ in 0..count {
        let (index, size) = (r.index("memory index")?, r.varint()?);
        room.take(size)?;
        let runs = r.count(2)?;
        let mut map = MemoryMap { index, size, runs: Vec::with_capacity(runs) };
        let mut at = 0u64;
        for _ in 0..runs {
            let (skip, word) = (r.varint()?, r.varint()?);
            let (pages, zero) = (word >> 1, word & 1 == 1);
            let page = at.saturating_add(skip);
            if pages == 0 {
                return Err(Error::EmptyRun { memory: index, page });
            }
            at = page.saturating_add(pages);
            if at > size.div_ceil(PAGE_SIZE as u64) {
                return Err(Error::RunOutOfBounds { memory: index, page, size });
            }
            map.runs.push(MapRun { first_page: page, pages, zero });
            // Runs lie inside their memories and these within the room: the sum cannot overflow.
            total += if zero { 0 } else { run_bytes(page, pages, size) };
        }
        out.push(map);
    }
    let stream = Stream::read(r, total)?;
    Ok((out, stream))
}
