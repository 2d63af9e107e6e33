//! Every way in which outside bytes are refused, each by its own error.

mod common;

use common::{PAGE, sample};
use wayfare_snapshot::*;

fn sample_bytes() -> Vec<u8> {
    encode(&sample(), Compression::Lz4).unwrap()
}

fn refusal(bytes: &[u8]) -> Error {
    decode(bytes, &Limits::default()).expect_err("must be refused")
}

/// Header and sections taken apart, so that a test can change one thing and have the rest right.
struct Dissected {
    header: Vec<u8>,
    sections: Vec<(u16, u16, Vec<u8>)>,
}

const OPTIONS: usize = 0;
const FRAMES: usize = 1;
const GLOBALS: usize = 2;
const TABLES: usize = 3;
const DROPPED: usize = 4;
const REFS: usize = 5;
const MEMORIES: usize = 7;

impl Dissected {
    fn new() -> Self {
        let bytes = sample_bytes();
        let (header, mut rest) = bytes.split_at(Header::LEN);
        let mut sections = Vec::new();
        while !rest.is_empty() {
            let number = |range: std::ops::Range<usize>| u16::from_le_bytes(rest[range].try_into().unwrap());
            let len = u64::from_le_bytes(rest[4..12].try_into().unwrap()) as usize;
            sections.push((number(0..2), number(2..4), rest[12..12 + len].to_vec()));
            rest = &rest[12 + len..];
        }
        assert_eq!(sections.len(), 8);
        Self { header: header.to_vec(), sections }
    }

    fn sealed(&self) -> Vec<u8> {
        let mut out = self.header.clone();
        for (kind, version, payload) in &self.sections {
            out.extend(kind.to_le_bytes());
            out.extend(version.to_le_bytes());
            out.extend((payload.len() as u64).to_le_bytes());
            out.extend(payload);
        }
        reseal(&mut out);
        out
    }
}

/// The refusal of the sample after one change to its header or sections.
fn changed(change: impl FnOnce(&mut Dissected)) -> Error {
    let mut dissected = Dissected::new();
    change(&mut dissected);
    refusal(&dissected.sealed())
}

fn payload(section: usize, bytes: &[u8]) -> Error {
    changed(|d| d.sections[section].2 = bytes.to_vec())
}

#[test]
fn the_sample_itself_is_accepted() {
    assert_eq!(decode(&Dissected::new().sealed(), &Limits::default()), Ok(sample()));
}

#[test]
fn every_flipped_bit_is_refused() {
    let bytes = sample_bytes();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&flipped, &Limits::default()).is_err() && verify(&flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn every_truncation_and_every_tail_is_refused() {
    let mut bytes = sample_bytes();
    for len in 0..bytes.len() {
        assert!(decode(&bytes[..len], &Limits::default()).is_err() && verify(&bytes[..len]).is_err(), "length {len}");
    }
    // A truncation that was sealed again meets the decoder instead of the checksum.
    for len in Header::LEN..bytes.len() {
        let mut short = bytes[..len].to_vec();
        reseal(&mut short);
        assert!(decode(&short, &Limits::default()).is_err(), "length {len}, sealed");
    }
    let claimed = bytes.len() as u64;
    bytes.push(0);
    assert_eq!(refusal(&bytes), Error::LengthMismatch { claimed, actual: claimed + 1 });
}

#[test]
fn header_refusals() {
    let with = |at: usize, bytes: &[u8]| changed(|d| d.header[at..at + bytes.len()].copy_from_slice(bytes));
    assert_eq!(refusal(b"WAYFSNAP"), Error::TooShort { len: 8 });
    assert_eq!(with(0, b"X"), Error::BadMagic);
    assert_eq!(with(8, &[7]), Error::FormatTooNew { found: 7, known: 1 });
    assert_eq!(with(8, &[0]), Error::FormatUnknown { found: 0 });
    assert_eq!(with(10, &[2]), Error::UnknownKind { found: 2 });
    assert_eq!(with(12, &[0, 0, 1]), Error::ReservedSet { found: 0x1_0000 });
    assert_eq!(with(48, &[1; 32]), Error::FullWithBase { base: Digest([1; 32]) });
    assert_eq!(with(10, &[1]), Error::DeltaWithoutBase);
}

#[test]
fn the_length_is_capped_before_the_checksum_is_computed() {
    let mut bytes = sample_bytes();
    let len = bytes.len() as u64;
    bytes[len as usize - 1] ^= 1;
    let limits = Limits { max_len: len - 1, ..Limits::default() };
    assert_eq!(decode(&bytes, &limits), Err(Error::TooLong { len, cap: len - 1 }));
    assert!(matches!(refusal(&bytes), Error::ChecksumMismatch { .. }));
    // A short piece of a snapshot that claims to be long: refused for what it claims.
    let mut claims = sample_bytes();
    claims[136..144].fill(0xff);
    assert_eq!(refusal(&claims), Error::TooLong { len: u64::MAX, cap: 8 << 30 });
}

#[test]
fn section_refusals() {
    assert_eq!(changed(|d| d.sections[2].0 = 99), Error::UnknownSection { kind: 99 });
    assert_eq!(changed(|d| d.sections.push((99, 1, vec![]))), Error::UnknownSection { kind: 99 });
    let version = Error::SectionVersion { name: "globals", found: 2, known: 1 };
    assert_eq!(changed(|d| d.sections[2].1 = 2), version);
    let version = Error::SectionVersion { name: "options", found: 1, known: 2 };
    assert_eq!(changed(|d| d.sections[0].1 = 1), version);
    assert_eq!(changed(|d| d.sections.swap(1, 2)), Error::MissingSection { name: "frames" });
    let twice = |at: usize| changed(|d| d.sections.insert(at + 1, d.sections[at].clone()));
    assert_eq!(twice(0), Error::DuplicateSection { name: "options" });
    assert_eq!(twice(7), Error::DuplicateSection { name: "memories" });
    for at in 0..8 {
        let gone = changed(|d| drop(d.sections.remove(at)));
        assert!(matches!(gone, Error::MissingSection { .. }), "{gone}");
        let longer = changed(|d| d.sections[at].2.push(0));
        assert!(matches!(longer, Error::Leftover { bytes: 1, .. }), "{longer}");
    }
    let mut tail = Dissected::new().sealed();
    tail.push(0);
    reseal(&mut tail);
    assert_eq!(refusal(&tail), Error::Leftover { name: "body", bytes: 1 });
    let mut long = Dissected::new().sealed();
    long[Header::LEN + 4..Header::LEN + 12].fill(0xff);
    reseal(&mut long);
    let left = (long.len() - Header::LEN - 12) as u64;
    assert_eq!(refusal(&long), Error::SectionTooLong { name: "options", claimed: u64::MAX, left });
}

#[test]
fn value_refusals() {
    assert_eq!(payload(OPTIONS, &[]), Error::Truncated { name: "options" });
    let flags = Error::BadValue { name: "options", what: "set of known options", value: 4 };
    assert_eq!(payload(OPTIONS, &[4, 0, 0, 0, 0]), flags);
    assert_eq!(payload(OPTIONS, &[0, 0, 1, 0xff, 0, 0]), Error::BadText { name: "options" });
    let unsorted = b"\0\0\0\0\x02\x01b\0\x01a\0";
    assert_eq!(payload(OPTIONS, unsorted), Error::Unsorted { name: "options", index: 1 });
    let tag = Error::BadValue { name: "globals", what: "type of global", value: 9 };
    assert_eq!(payload(GLOBALS, &[1, 0, 9]), tag);
    assert_eq!(payload(GLOBALS, &[2, 1, 6, 1, 6]), Error::Unsorted { name: "globals", index: 1 });
    assert_eq!(payload(GLOBALS, &[0x80, 0]), Error::BadNumber { name: "globals" });
    assert_eq!(payload(DROPPED, &[2, 3, 3, 0]), Error::Unsorted { name: "dropped", index: 3 });
    let func = Error::BadValue { name: "refs", what: "function reference", value: 1 << 34 };
    assert_eq!(payload(REFS, &[1, 0x80, 0x80, 0x80, 0x80, 0x40]), func);
    let index = Error::BadValue { name: "dropped", what: "segment index", value: 1 << 34 };
    assert_eq!(payload(DROPPED, &[1, 0x80, 0x80, 0x80, 0x80, 0x40, 0]), index);
}

#[test]
fn counts_that_the_bytes_cannot_hold_are_refused() {
    const HUGE: [u8; 10] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    for (section, name) in
        [(GLOBALS, "globals"), (TABLES, "tables"), (DROPPED, "dropped"), (REFS, "refs"), (MEMORIES, "memories")]
    {
        assert_eq!(payload(section, &HUGE), Error::CountTooLarge { name, count: u64::MAX });
    }
    assert_eq!(payload(FRAMES, &HUGE), Error::MemoryTooLarge { size: u64::MAX, cap: 8 << 30 });
    // 1 GiB of frames, said in five bytes: refused for want of a directory, before a byte is set aside.
    let count = (1 << 30) / CHUNK_SIZE as u64;
    assert_eq!(payload(FRAMES, &[0x80, 0x80, 0x80, 0x80, 4]), Error::CountTooLarge { name: "frames", count });
    // One data run over the whole of a memory of 1 GiB, likewise.
    let run = [1, 0, 0x80, 0x80, 0x80, 0x80, 4, 1, 0, 0x80, 0x80, 0x20];
    assert_eq!(payload(MEMORIES, &run), Error::CountTooLarge { name: "memories", count });
}

#[test]
fn memory_map_refusals() {
    // Index 0, 2 pages, one run.
    let map = |skip: u8, word: u8| payload(MEMORIES, &[1, 0, 0x80, 0x40, 1, skip, word]);
    assert_eq!(map(0, 0), Error::EmptyRun { memory: 0, page: 0 });
    assert_eq!(map(0, 7), Error::RunOutOfBounds { memory: 0, page: 0, size: 2 * PAGE });
    assert_eq!(map(2, 3), Error::RunOutOfBounds { memory: 0, page: 2, size: 2 * PAGE });
    assert_eq!(payload(MEMORIES, &[2, 1, 0, 0, 1, 0, 0]), Error::Unsorted { name: "memories", index: 1 });
    let bytes = sample_bytes();
    let cap = 16 * PAGE + 70;
    assert!(decode(&bytes, &Limits { max_memory: cap, ..Limits::default() }).is_ok());
    let tight = Limits { max_memory: cap - 1, ..Limits::default() };
    assert_eq!(decode(&bytes, &tight), Err(Error::MemoryTooLarge { size: cap, cap: cap - 1 }));
}

#[test]
fn table_refusals() {
    let out = |start, len| Error::TableEntries { table: 0, start, len };
    assert_eq!(payload(TABLES, &[1, 0, 1, 1, 0, 2, 0, 0]), out(0, 1));
    assert_eq!(payload(TABLES, &[1, 0, 3, 1, 0, 0]), out(0, 3));
    assert_eq!(payload(TABLES, &[1, 0, 3, 2, 1, 1, 0, 1, 1, 0]), out(1, 3));
    let limits = Limits { max_table_len: 8, ..Limits::default() };
    assert_eq!(decode(&sample_bytes(), &limits), Err(Error::TableTooLarge { len: 9, cap: 8 }));
}

#[test]
fn chunk_refusals() {
    // Frames of 40 bytes: length, one directory entry, payload.
    let frames = |entry: u32, bytes: &[u8]| payload(FRAMES, &[&[40], &entry.to_le_bytes()[..], bytes].concat());
    assert_eq!(frames(9 << 24 | 2, &[0; 2]), Error::UnknownCodec { codec: 9 });
    assert_eq!(frames(39, &[0; 39]), Error::ChunkLength { raw: 40, packed: 39 });
    for codec in [1 << 24, 2 << 24] {
        assert_eq!(frames(codec | 40, &[0; 40]), Error::ChunkLength { raw: 40, packed: 40 });
        assert_eq!(frames(codec | 39, &[0x55; 39]), Error::ChunkDamaged { raw: 40 });
        assert_eq!(frames(codec | 39, &[0x55; 38]), Error::Truncated { name: "frames" });
    }
    assert_eq!(frames(1 << 24, &[]), Error::ChunkLength { raw: 40, packed: 0 });
    assert_eq!(frames(2 << 24, &[]), Error::ChunkLength { raw: 40, packed: 0 });
    // Sound packings of other lengths: LZ4 of one literal, and of 41 bytes by a match over one.
    assert_eq!(frames(1 << 24 | 2, &[0x10, 7]), Error::ChunkDamaged { raw: 40 });
    assert_eq!(frames(1 << 24 | 12, &[0x1f, 7, 1, 0, 16, 0x50, 7, 7, 7, 7, 7, 7]), Error::ChunkDamaged { raw: 40 });
    let zstd = zstd::bulk::compress(&[7; 39], 1).unwrap();
    assert_eq!(frames(2 << 24 | zstd.len() as u32, &zstd), Error::ChunkDamaged { raw: 40 });
    let zstd = zstd::bulk::compress(&[7; 4000], 1).unwrap();
    assert_eq!(frames(2 << 24 | zstd.len() as u32, &zstd), Error::ChunkDamaged { raw: 40 });
}

#[test]
fn every_message_is_one_line_that_says_what_to_do() {
    let too_new = Error::FormatTooNew { found: 7, known: 1 };
    let text = "snapshot format 7 is newer than this Wayfare understands (1): upgrade Wayfare here";
    assert_eq!(too_new.to_string(), text);
    for error in
        [refusal(b""), Error::BadMagic, Error::CodecMissing { codec: "zstd" }, Error::NotFull, Error::BaseUnnamed]
    {
        let text = error.to_string();
        assert!(text.contains(": ") && !text.contains('\n'), "{text}");
    }
}
