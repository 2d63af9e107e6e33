//! Pages of linear memory as they travel: runs of one memory, pages of zeros left out, packed where that pays.
//!
//! ```text
//! round u32 | memory u32 | first u64 | count u32 | codec u8 | one bit per page: not zero | the pages that are not
//! ```
//! Integers are little endian. The pages are LZ4 where that makes them smaller, with their bytes sorted first
//! ([`crate::planes`]) where that helps, else as they are; a short last page is sent short. What pays is tried on two
//! pages first, so that noise costs little.

use crate::planes;
use alloc::borrow::Cow;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use wayfare_snapshot::{PAGE_SIZE, is_zero};

/// Pages of one memory that follow each other, in units of [`PAGE_SIZE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PageRange {
    /// Index of the memory.
    pub memory: u32,
    /// The first page.
    pub first: u64,
    /// How many.
    pub count: u64,
}

/// Most pages in a batch.
pub const BATCH_PAGES: u64 = 64;
/// Longest encoded batch.
pub const BATCH_MAX: usize = (BATCH_PAGES as usize) * PAGE_SIZE + HEADER + 8 + 4096;

const HEADER: usize = 4 + 4 + 8 + 4 + 1;
const RAW: u8 = 0;
const LZ4: u8 = 1;
const PLANES: u8 = 2;
/// Bytes that are tried at a time.
const SAMPLE: usize = PAGE_SIZE;

/// The first half of BLAKE3, by which pages are known to be there already. Both sides are members: an accident is what
/// must not happen, and 128 bits see to that.
pub type PageDigest = [u8; 16];

/// The digest of a page.
pub fn digest(page: &[u8]) -> PageDigest {
    let mut out = [0; 16];
    out.copy_from_slice(&blake3::hash(page).as_bytes()[..16]);
    out
}

/// Packs batches; keeps its buffers.
#[derive(Default)]
pub struct Packer {
    kept: Vec<u8>,
    sorted: Vec<u8>,
    packed: Vec<u8>,
}

impl Packer {
    /// Appends a batch to `out`; `bytes` are those of all its pages. Gives the number of pages that are not zero.
    pub fn pack(&mut self, round: u32, range: PageRange, bytes: &[u8], out: &mut Vec<u8>) -> u64 {
        out.extend_from_slice(&round.to_le_bytes());
        out.extend_from_slice(&range.memory.to_le_bytes());
        out.extend_from_slice(&range.first.to_le_bytes());
        out.extend_from_slice(&(range.count as u32).to_le_bytes());
        let codec_at = out.len();
        out.push(RAW);
        let bits_at = out.len();
        out.resize(bits_at + (range.count as usize).div_ceil(8), 0);
        let pages = bytes.chunks(PAGE_SIZE);
        let mut solid = 0;
        for (i, _) in pages.clone().enumerate().filter(|(_, page)| !is_zero(page)) {
            out[bits_at + i / 8] |= 1 << (i % 8);
            solid += 1;
        }
        // Mostly no page is zero, and what is to be packed lies there as it is.
        let bytes = if solid == pages.len() {
            bytes
        } else {
            self.kept.clear();
            let is_solid = |i: usize| out[bits_at + i / 8] >> (i % 8) & 1 == 1;
            pages.enumerate().filter(|(i, _)| is_solid(*i)).for_each(|(_, page)| self.kept.extend_from_slice(page));
            &self.kept
        };
        let codec = promising(bytes, &mut self.sorted, &mut self.packed);
        let source = match codec {
            RAW => None,
            PLANES => {
                planes::split(bytes, at_least(&mut self.sorted, bytes.len()));
                Some(&self.sorted[..bytes.len()])
            }
            _ => Some(bytes),
        };
        match source.and_then(|source| compress(source, &mut self.packed)).filter(|packed| packed.len() < bytes.len()) {
            Some(packed) => {
                out[codec_at] = codec;
                out.extend_from_slice(packed);
            }
            None => out.extend_from_slice(bytes),
        }
        solid as u64
    }
}

/// The first bytes of a buffer that only grows.
fn at_least(buffer: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
    &mut buffer[..len]
}

fn compress<'p>(bytes: &[u8], packed: &'p mut Vec<u8>) -> Option<&'p [u8]> {
    let packed = at_least(packed, lz4_flex::block::get_maximum_output_size(bytes.len()));
    let len = lz4_flex::block::compress_into(bytes, packed).ok()?;
    Some(&packed[..len])
}

/// How to pack pages, by two of them.
fn promising(bytes: &[u8], sorted: &mut Vec<u8>, packed: &mut Vec<u8>) -> u8 {
    let pages = bytes.len() / SAMPLE;
    let samples = match pages {
        0 => [bytes, &[]],
        1 => [&bytes[..SAMPLE], &[]],
        _ => [pages / 4, pages * 3 / 4].map(|page| &bytes[page * SAMPLE..][..SAMPLE]),
    };
    let (mut plain, mut planes, mut raw) = (0, 0, 0);
    for sample in samples {
        raw += sample.len();
        plain += compress(sample, packed).map_or(sample.len(), <[u8]>::len);
        let sorted = at_least(sorted, sample.len());
        planes::split(sample, sorted);
        planes += compress(sorted, packed).map_or(sample.len(), <[u8]>::len);
    }
    // It must be worth the time, here and there: sorting costs about as much as packing.
    if planes * 17 / 16 < plain && planes < raw * 15 / 16 {
        PLANES
    } else if plain < raw * 15 / 16 {
        LZ4
    } else {
        RAW
    }
}

/// Bytes that are no batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bytes that are no pages")]
pub struct Malformed;

/// A batch that arrived; checked for its own sake, not yet against the memories.
pub struct Batch<'b> {
    /// The round it belongs to.
    pub round: u32,
    /// Where it goes.
    pub range: PageRange,
    bits: &'b [u8],
    /// The pages that are not zero; those that were not packed stay where they came.
    bytes: Cow<'b, [u8]>,
}

/// Part of a batch.
pub enum Run<'b> {
    /// Pages with their bytes; the last may be short.
    Bytes(PageRange, &'b [u8]),
    /// Pages of zeros.
    Zero(PageRange),
}

impl<'b> Batch<'b> {
    /// Reads a batch.
    ///
    /// # Errors
    /// [`Malformed`]; nothing is larger than [`BATCH_MAX`] by then.
    pub fn parse(bytes: &'b [u8]) -> Result<Self, Malformed> {
        fn take<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Malformed> {
            bytes.get(at..at + N).and_then(|b| b.try_into().ok()).ok_or(Malformed)
        }
        let round = u32::from_le_bytes(take(bytes, 0)?);
        let memory = u32::from_le_bytes(take(bytes, 4)?);
        let first = u64::from_le_bytes(take(bytes, 8)?);
        let count = u64::from(u32::from_le_bytes(take(bytes, 16)?));
        let [codec] = take(bytes, 20)?;
        if count == 0 || count > BATCH_PAGES || first.checked_add(count).is_none() {
            return Err(Malformed);
        }
        let bits_len = (count as usize).div_ceil(8);
        let bits = bytes.get(HEADER..HEADER + bits_len).ok_or(Malformed)?;
        let body = &bytes[HEADER + bits_len..];
        let solid: usize = bits.iter().map(|b| b.count_ones() as usize).sum();
        let past = bits.last().is_some_and(|last| count % 8 != 0 && last >> (count % 8) != 0);
        let most = solid * PAGE_SIZE;
        let unpacked = match codec {
            RAW => Cow::Borrowed(body),
            LZ4 | PLANES => {
                let mut out = vec![0; most];
                let len = lz4_flex::block::decompress_into(body, &mut out).map_err(|_| Malformed)?;
                out.truncate(len);
                if codec == PLANES {
                    let sorted = core::mem::replace(&mut out, vec![0; len]);
                    planes::join(&sorted, &mut out);
                }
                Cow::Owned(out)
            }
            _ => return Err(Malformed),
        };
        // Only the last page may be short, and only if it is there.
        let short = most.checked_sub(unpacked.len()).ok_or(Malformed)?;
        let last_is_solid = bits[(count as usize - 1) / 8] >> ((count - 1) % 8) & 1 == 1;
        if past || short >= PAGE_SIZE || (short > 0 && !last_is_solid) {
            return Err(Malformed);
        }
        Ok(Batch { round, range: PageRange { memory, first, count }, bits, bytes: unpacked })
    }

    /// Its pages in order, as runs.
    pub fn runs(&self) -> impl Iterator<Item = Run<'_>> {
        let solid = |i: u64| self.bits[i as usize / 8] >> (i % 8) & 1 == 1;
        let (mut i, mut at) = (0, 0);
        core::iter::from_fn(move || {
            let PageRange { memory, first, count } = self.range;
            if i >= count {
                return None;
            }
            let kind = solid(i);
            let end = (i..count).find(|n| solid(*n) != kind).unwrap_or(count);
            let range = PageRange { memory, first: first + i, count: end - i };
            i = end;
            if !kind {
                return Some(Run::Zero(range));
            }
            let to = self.bytes.len().min(at + range.count as usize * PAGE_SIZE);
            let run = Run::Bytes(range, &self.bytes[at..to]);
            at = to;
            Some(run)
        })
    }
}

/// Appends a range to an ascending list; what overlaps, or has no more than `gap` pages between, becomes one.
pub(crate) fn push(list: &mut VecDeque<PageRange>, range: PageRange, gap: u64) {
    if let Some(last) = list.back_mut()
        && last.memory == range.memory
        && last.first + last.count + gap >= range.first
    {
        last.count = last.count.max(range.first + range.count - last.first);
        return;
    }
    list.push_back(range);
}

/// Pieces of at most `most` pages.
pub(crate) fn cut(range: PageRange, most: u64) -> impl Iterator<Item = PageRange> {
    let end = range.first + range.count;
    (range.first..end).step_by(most as usize).map(move |first| PageRange {
        first,
        count: most.min(end - first),
        ..range
    })
}

/// The same pages, in as few ranges: those that overlap or follow each other become one.
pub fn merged(ranges: BTreeSet<PageRange>) -> VecDeque<PageRange> {
    let mut all = VecDeque::new();
    ranges.into_iter().for_each(|range| push(&mut all, range, 0));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(pages: &[u8]) -> (usize, Vec<u8>) {
        let count = pages.len().div_ceil(PAGE_SIZE) as u64;
        let range = PageRange { memory: 1, first: 7, count };
        let mut out = Vec::new();
        Packer::default().pack(3, range, pages, &mut out);
        assert!(out.len() <= BATCH_MAX);
        let batch = Batch::parse(&out).unwrap();
        assert_eq!((batch.round, batch.range), (3, range));
        let mut back = vec![0xee; pages.len()];
        let mut next = range.first;
        for run in batch.runs() {
            let (range, bytes) = match run {
                Run::Bytes(range, bytes) => (range, Some(bytes)),
                Run::Zero(range) => (range, None),
            };
            assert_eq!(range.first, next);
            next += range.count;
            let from = (range.first - 7) as usize * PAGE_SIZE;
            let to = (from + range.count as usize * PAGE_SIZE).min(back.len());
            match bytes {
                Some(bytes) => back[from..to].copy_from_slice(bytes),
                None => back[from..to].fill(0),
            }
        }
        assert_eq!(next, 7 + count);
        (out.len(), back)
    }

    #[test]
    fn pages_arrive_as_they_were_and_zeros_cost_a_bit() {
        let noise = |i: usize| (blake3::hash(&(i as u64 / 16).to_le_bytes()).as_bytes()[i % 16]) | 1;
        let text = |i: usize| b"wayfare "[i % 8];
        // Three bytes of noise in each integer of four.
        let number = |i: usize| if i % 4 == 3 { 0 } else { noise(i) };
        let mut pages = vec![0; 10 * PAGE_SIZE];
        assert!(round_trip(&pages).0 < 64);
        for (page, byte) in [(2, &noise as &dyn Fn(usize) -> u8), (3, &text), (5, &number), (9, &text)] {
            let from = page * PAGE_SIZE;
            pages[from..from + PAGE_SIZE].iter_mut().enumerate().for_each(|(i, to)| *to = byte(from + i));
        }
        assert_eq!(round_trip(&pages).1, pages);
        // A short last page packed, and as it is.
        for short in [&pages[..9 * PAGE_SIZE + 100], &pages[2 * PAGE_SIZE..2 * PAGE_SIZE + 100]] {
            assert_eq!(round_trip(short).1, short);
        }
        let (packed, _) = round_trip(&pages[3 * PAGE_SIZE..4 * PAGE_SIZE]);
        assert!(packed < 200);
        for count in [1, 2, 3] {
            let numbers = pages[5 * PAGE_SIZE..6 * PAGE_SIZE].repeat(count);
            let (sorted, back) = round_trip(&numbers[..numbers.len() - 100]);
            assert!(back == numbers[..numbers.len() - 100]);
            assert!(count == 1 || sorted < numbers.len() * 7 / 8, "{count}: {sorted}");
        }
        let (noisy, _) = round_trip(&pages[2 * PAGE_SIZE..3 * PAGE_SIZE]);
        assert!(noisy < PAGE_SIZE + 64);
    }

    #[test]
    fn a_changed_batch_is_read_within_its_bounds_or_refused() {
        let plain: Vec<u8> = (0..5 * PAGE_SIZE).map(|i| (i / 5000 * i % 7) as u8).collect();
        let noise = |i: usize| blake3::hash(&(i as u64).to_le_bytes()).as_bytes()[0];
        let numbers: Vec<u8> = (0..5 * PAGE_SIZE).map(|i| if i % 8 < 2 { noise(i) } else { 3 }).collect();
        for (pages, codec) in [(plain, LZ4), (numbers, PLANES)] {
            changes_are_refused_or_within_bounds(&pages, codec);
        }
    }

    fn changes_are_refused_or_within_bounds(pages: &[u8], codec: u8) {
        let mut out = Vec::new();
        Packer::default().pack(0, PageRange { memory: 0, first: 0, count: 5 }, pages, &mut out);
        assert_eq!(out[HEADER - 1], codec);
        let flip = |at: usize, bit: u8| {
            let mut bad = out.clone();
            bad[at] ^= bit;
            bad
        };
        let flipped = (0..out.len()).flat_map(|at| [flip(at, 1), flip(at, 0x80)]);
        for bad in flipped.chain((0..out.len()).map(|len| out[..len].to_vec())) {
            let Ok(batch) = Batch::parse(&bad) else { continue };
            let mut total = 0;
            for run in batch.runs() {
                total += match run {
                    Run::Bytes(range, bytes) => {
                        assert!(bytes.len() <= range.count as usize * PAGE_SIZE);
                        range.count
                    }
                    Run::Zero(range) => range.count,
                };
            }
            assert_eq!(total, batch.range.count);
        }
    }
}
