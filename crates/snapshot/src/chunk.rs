//! Bulk bytes as chunks that are packed on their own, so that all cores can work and no chunk grows.
//!
//! A stream of `total` bytes is `ceil(total / 128 KiB)` directory entries, then the payloads in the same order.
//! An entry is one `u32`: the codec in the top byte, the payload's length in the other three. The directory comes first
//! so that raw chunks which follow each other in memory do so in the snapshot too.

use crate::wire::{Reader, put_u32};
use crate::zstd_codec::Zstd;
use crate::{Error, par};
use alloc::borrow::Cow;
use alloc::vec;
use alloc::vec::Vec;

/// Bytes of a chunk before packing; only the last of a stream has fewer.
pub const CHUNK_SIZE: usize = 128 * 1024;

/// How to pack bulk bytes. A chunk that does not become smaller is stored as it is, whatever is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all: the fastest where the link is faster than the compressor.
    None,
    /// LZ4, for the live path; a quick test spares chunks that would not shrink.
    #[default]
    Lz4,
    /// zstd at a level (1 to 22), for snapshots at rest.
    #[cfg(feature = "std")]
    Zstd(i32),
}

const RAW: u8 = 0;
const LZ4: u8 = 1;
const ZSTD: u8 = 2;

/// A list of slices that make up encoded bytes: what was packed is owned, what is raw is borrowed from the task.
#[derive(Default)]
pub(crate) struct Parts<'s> {
    pub(crate) list: Vec<Cow<'s, [u8]>>,
    pub(crate) len: u64,
}

impl<'s> Parts<'s> {
    pub(crate) fn push(&mut self, bytes: impl Into<Cow<'s, [u8]>>) {
        let bytes = bytes.into();
        if !bytes.is_empty() {
            self.len += bytes.len() as u64;
            self.list.push(bytes);
        }
    }

    pub(crate) fn append(&mut self, other: Parts<'s>) {
        self.len += other.len;
        self.list.extend(other.list);
    }
}

/// Buffers that a thread keeps from chunk to chunk.
#[derive(Default)]
struct Scratch {
    /// A chunk whose bytes lie scattered, put together.
    gathered: Vec<u8>,
    packed: Vec<u8>,
    #[cfg_attr(not(feature = "std"), allow(dead_code, reason = "used for unpacking only there"))]
    zstd: Zstd,
}

enum Packed<'s> {
    Raw(Vec<&'s [u8]>),
    With(u8, Vec<u8>),
}

/// Packs the stream that `pieces` make up, one after the other.
pub(crate) fn pack<'s>(pieces: Vec<&'s [u8]>, compression: Compression, out: &mut Parts<'s>) -> Result<(), Error> {
    if compression == Compression::None {
        store(pieces, out);
        return Ok(());
    }
    let chunks = cut(pieces, CHUNK_SIZE);
    let chunks = par::map(chunks, Scratch::default, |scratch, chunk| pack_one(scratch, chunk, compression));
    let chunks = chunks.into_iter().collect::<Result<Vec<_>, Error>>()?;
    let mut directory = Vec::with_capacity(chunks.len() * 4);
    for chunk in &chunks {
        let (codec, len) = match chunk {
            Packed::Raw(pieces) => (RAW, pieces.iter().map(|piece| piece.len()).sum()),
            Packed::With(codec, bytes) => (*codec, bytes.len()),
        };
        put_u32(&mut directory, u32::from(codec) << 24 | len as u32);
    }
    out.push(directory);
    for chunk in chunks {
        match chunk {
            Packed::Raw(pieces) => pieces.into_iter().for_each(|piece| out.push(piece)),
            Packed::With(_, bytes) => out.push(bytes),
        }
    }
    Ok(())
}

/// The stream with all chunks raw; the pieces stay whole, for whoever copies or hashes them.
fn store<'s>(pieces: Vec<&'s [u8]>, out: &mut Parts<'s>) {
    let mut left: usize = pieces.iter().map(|piece| piece.len()).sum();
    let mut directory = Vec::with_capacity(left.div_ceil(CHUNK_SIZE) * 4);
    while left > 0 {
        let raw = left.min(CHUNK_SIZE);
        put_u32(&mut directory, u32::from(RAW) << 24 | raw as u32);
        left -= raw;
    }
    out.push(directory);
    pieces.into_iter().for_each(|piece| out.push(piece));
}

/// Cuts a stream into chunks of `size`, each a list of the slices it consists of.
pub(crate) fn cut<'s>(pieces: impl IntoIterator<Item = &'s [u8]>, size: usize) -> Vec<Vec<&'s [u8]>> {
    let mut chunks = Vec::new();
    let mut chunk = Vec::new();
    let mut room = size;
    for mut piece in pieces {
        while !piece.is_empty() {
            let (head, tail) = piece.split_at(room.min(piece.len()));
            chunk.push(head);
            room -= head.len();
            piece = tail;
            if room == 0 {
                chunks.push(core::mem::take(&mut chunk));
                room = size;
            }
        }
    }
    if !chunk.is_empty() {
        chunks.push(chunk);
    }
    chunks
}

fn pack_one<'s>(scratch: &mut Scratch, pieces: Vec<&'s [u8]>, compression: Compression) -> Result<Packed<'s>, Error> {
    let raw = match pieces[..] {
        [piece] => piece,
        _ => {
            scratch.gathered.clear();
            pieces.iter().for_each(|piece| scratch.gathered.extend_from_slice(piece));
            &scratch.gathered
        }
    };
    let room = lz4_flex::block::get_maximum_output_size(CHUNK_SIZE);
    scratch.packed.resize(room, 0);
    let packed = match compression {
        Compression::None => None,
        Compression::Lz4 if hopeless(raw, &mut scratch.packed) => None,
        Compression::Lz4 => lz4(raw, &mut scratch.packed).map(|len| (LZ4, len)),
        #[cfg(feature = "std")]
        Compression::Zstd(level) => scratch.zstd.pack(raw, &mut scratch.packed, level)?.map(|len| (ZSTD, len)),
    };
    Ok(match packed {
        // Saving less than 1/32 is not worth the time of unpacking.
        Some((codec, len)) if len < raw.len() - raw.len() / 32 => Packed::With(codec, scratch.packed[..len].to_vec()),
        _ => Packed::Raw(pieces),
    })
}

fn lz4(raw: &[u8], out: &mut [u8]) -> Option<usize> {
    lz4_flex::block::compress_into(raw, out).ok()
}

/// Tries LZ4 on a sixteenth of a big chunk, spread over it: if no sample shrinks, neither will the whole.
fn hopeless(raw: &[u8], out: &mut [u8]) -> bool {
    const SAMPLE: usize = 2048;
    const SAMPLES: usize = 4;
    if raw.len() < SAMPLE * SAMPLES * 4 {
        return false;
    }
    let step = raw.len() / SAMPLES;
    (0..SAMPLES).all(|i| {
        let start = i * step + step / 2;
        lz4(&raw[start..start + SAMPLE], out).is_none_or(|len| len >= SAMPLE)
    })
}

/// A stream whose directory was read and checked against the bytes there are.
pub(crate) struct Stream<'b> {
    total: u64,
    chunks: Vec<(u8, &'b [u8])>,
}

impl<'b> Stream<'b> {
    /// Reads the stream of `total` bytes at the front of `r`. Nothing of size `total` is set aside here.
    pub(crate) fn read(r: &mut Reader<'b>, total: u64) -> Result<Self, Error> {
        let count = total.div_ceil(CHUNK_SIZE as u64);
        // A directory entry has 4 bytes: that bounds the claim by what was received.
        if count > r.left() as u64 / 4 {
            return Err(Error::CountTooLarge { name: r.name(), count });
        }
        let mut directory = Reader::new(r.name(), r.take(count as usize * 4)?);
        let mut chunks = Vec::with_capacity(count as usize);
        let mut left = total;
        while left > 0 {
            let raw = left.min(CHUNK_SIZE as u64);
            left -= raw;
            let entry = directory.u32()?;
            let (codec, packed) = ((entry >> 24) as u8, u64::from(entry & 0xff_ffff));
            let fits = match codec {
                RAW => packed == raw,
                // No LZ4 block grows more than 255 times: a claim beyond that must not set memory aside.
                LZ4 => packed < raw && packed * 255 >= raw,
                ZSTD => packed < raw && packed > 0,
                _ => return Err(Error::UnknownCodec { codec }),
            };
            if !fits {
                return Err(Error::ChunkLength { raw, packed });
            }
            chunks.push((codec, r.take(packed as usize)?));
        }
        Ok(Self { total, chunks })
    }

    /// Unpacks into the slices of `out`, one after the other; together they must have the stream's length.
    /// `prepare` sees each piece right before it is written, on the thread that writes it.
    pub(crate) fn unpack(&self, out: Vec<&mut [u8]>, prepare: &(dyn Fn(&mut [u8]) + Sync)) -> Result<(), Error> {
        let targets = cut_mut(out);
        debug_assert_eq!(targets.len() as u64, self.total.div_ceil(CHUNK_SIZE as u64));
        let work = self.chunks.iter().zip(targets).collect();
        let done = par::map(work, Scratch::default, |scratch, ((codec, packed), mut target)| {
            target.iter_mut().for_each(|piece| prepare(piece));
            unpack_one(scratch, *codec, packed, target)
        });
        done.into_iter().collect()
    }

    /// Where the chunks are, to find them again.
    pub(crate) fn directory(&self) -> Directory {
        let chunks = self.chunks.iter().map(|(codec, packed)| (*codec, packed.len())).collect();
        Directory { total: self.total, chunks }
    }

    /// Unpacks into a new vector.
    pub(crate) fn into_vec(self) -> Result<Vec<u8>, Error> {
        let mut out = vec![0; self.total as usize];
        self.unpack(vec![&mut out[..]], &|_| ())?;
        Ok(out)
    }
}

/// A [`Stream`] apart from its bytes.
pub(crate) struct Directory {
    total: u64,
    chunks: Vec<(u8, usize)>,
}

impl Directory {
    /// The stream that `bytes` end with.
    pub(crate) fn stream<'b>(&self, bytes: &'b [u8]) -> Stream<'b> {
        let len: usize = self.chunks.iter().map(|(_, len)| len).sum();
        let mut rest = &bytes[bytes.len() - len..];
        let mut take = |(codec, len): &(u8, usize)| {
            let (head, tail) = rest.split_at(*len);
            rest = tail;
            (*codec, head)
        };
        Stream { total: self.total, chunks: self.chunks.iter().map(&mut take).collect() }
    }
}

/// [`cut`] for the other direction.
fn cut_mut(pieces: Vec<&mut [u8]>) -> Vec<Vec<&mut [u8]>> {
    let mut chunks = Vec::new();
    let mut chunk = Vec::new();
    let mut room = CHUNK_SIZE;
    for mut piece in pieces {
        while !piece.is_empty() {
            let (head, tail) = piece.split_at_mut(room.min(piece.len()));
            room -= head.len();
            chunk.push(head);
            piece = tail;
            if room == 0 {
                chunks.push(core::mem::take(&mut chunk));
                room = CHUNK_SIZE;
            }
        }
    }
    if !chunk.is_empty() {
        chunks.push(chunk);
    }
    chunks
}

fn unpack_one(scratch: &mut Scratch, codec: u8, packed: &[u8], mut target: Vec<&mut [u8]>) -> Result<(), Error> {
    if codec == RAW {
        scatter(packed, target);
        return Ok(());
    }
    let raw: usize = target.iter().map(|piece| piece.len()).sum();
    let Scratch { gathered, zstd, .. } = scratch;
    let whole = match &mut target[..] {
        [piece] => &mut **piece,
        _ => {
            gathered.resize(raw, 0);
            &mut gathered[..]
        }
    };
    let len = match codec {
        LZ4 => lz4_flex::block::decompress_into(packed, whole).map_err(|_| Error::ChunkDamaged { raw: raw as u64 })?,
        _ => zstd.unpack(packed, whole)?,
    };
    if len != raw {
        return Err(Error::ChunkDamaged { raw: raw as u64 });
    }
    if target.len() > 1 {
        scatter(gathered, target);
    }
    Ok(())
}

fn scatter(mut from: &[u8], target: Vec<&mut [u8]>) {
    for piece in target {
        let (head, tail) = from.split_at(piece.len());
        piece.copy_from_slice(head);
        from = tail;
    }
}
