//! The fixed header: enough to list, route and check a snapshot without reading on.
//!
//! ```text
//!   0  magic       8   b"WAYFSNAP"
//!   8  format      2
//!  10  kind        2   0 full, 1 delta
//!  12  reserved    4   0
//!  16  module     32   BLAKE3 of the module's bytes
//!  48  base       32   id of the snapshot a delta stands on; zero in a full one
//!  80  state      32   id of the state reached, if that is not the checksum; else zero
//! 112  sequence    8
//! 120  epoch       8
//! 128  progress    8
//! 136  total_len   8   header included
//! 144  checksum   32   BLAKE3 of bytes 0..144 and 176..total_len
//! 176
//! ```

use crate::wire::{Reader, put_u16, put_u32, put_u64};
use crate::{Digest, Error};
use alloc::vec::Vec;

/// The first eight bytes of every snapshot.
pub const MAGIC: [u8; 8] = *b"WAYFSNAP";
/// The format this version writes, and the newest it reads.
pub const FORMAT: u16 = 1;

/// What a snapshot stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// On the module's own initial image.
    Full,
    /// On an earlier snapshot.
    Delta,
}

/// The header of an encoded snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version of the format (not of the product).
    pub format: u16,
    /// What the snapshot stands on.
    pub kind: Kind,
    /// BLAKE3 of the module's bytes.
    pub module: Digest,
    /// Id of the snapshot a delta stands on; `None` exactly in a full one.
    pub base: Option<Digest>,
    /// Id of the state reached where it is not the checksum: a snapshot that was made from others by applying or
    /// squashing, or packed anew, keeps the id of the last of them, so that later deltas still find their base.
    pub state: Option<Digest>,
    /// Counts the snapshots of a task.
    pub sequence: u64,
    /// The task's epoch: each move claims the next.
    pub epoch: u64,
    /// Work done: weighted migration points passed, the same on every ISA. More is further, between any two copies of
    /// one task with the same input.
    pub progress: u64,
    /// Bytes of the whole snapshot, this header included.
    pub total_len: u64,
    /// BLAKE3 of everything but this field.
    pub checksum: Digest,
}

impl Header {
    /// Bytes of a header.
    pub const LEN: usize = 176;
    /// Where the checksum starts: it is the last field, so that what it covers is two plain slices.
    pub(crate) const CHECKSUM_AT: usize = Self::LEN - 32;
    pub(crate) const TOTAL_LEN_AT: usize = Self::CHECKSUM_AT - 8;

    /// Reads the header at the start of `bytes`, which may hold more or be only a header; says nothing about the rest.
    ///
    /// # Errors
    /// One of the header's refusals, from [`Error::TooShort`] to [`Error::DeltaWithoutBase`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let bytes = bytes.get(..Self::LEN).ok_or(Error::TooShort { len: bytes.len() })?;
        let mut r = Reader::new("header", bytes);
        if r.array::<8>()? != MAGIC {
            return Err(Error::BadMagic);
        }
        let format = r.u16()?;
        match format {
            FORMAT => {}
            0 => return Err(Error::FormatUnknown { found: format }),
            found => {
                return Err(Error::FormatTooNew { found, known: FORMAT });
            }
        }
        let kind = match r.u16()? {
            0 => Kind::Full,
            1 => Kind::Delta,
            found => return Err(Error::UnknownKind { found }),
        };
        match r.u32()? {
            0 => {}
            found => return Err(Error::ReservedSet { found }),
        }
        let module = Digest(r.array()?);
        let base = Digest(r.array()?).non_zero();
        match (kind, base) {
            (Kind::Full, Some(base)) => return Err(Error::FullWithBase { base }),
            (Kind::Delta, None) => return Err(Error::DeltaWithoutBase),
            _ => {}
        }
        Ok(Self {
            format,
            kind,
            module,
            base,
            state: Digest(r.array()?).non_zero(),
            sequence: r.u64()?,
            epoch: r.u64()?,
            progress: r.u64()?,
            total_len: r.u64()?,
            checksum: Digest(r.array()?),
        })
    }

    /// The header as bytes, [`Header::LEN`] of them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::LEN);
        out.extend_from_slice(&MAGIC);
        put_u16(&mut out, self.format);
        put_u16(&mut out, matches!(self.kind, Kind::Delta).into());
        put_u32(&mut out, 0);
        out.extend_from_slice(&self.module.0);
        out.extend_from_slice(&self.base.unwrap_or_default().0);
        out.extend_from_slice(&self.state.unwrap_or_default().0);
        for number in [self.sequence, self.epoch, self.progress, self.total_len] {
            put_u64(&mut out, number);
        }
        out.extend_from_slice(&self.checksum.0);
        out
    }

    /// The id that a delta standing on this snapshot names as its base.
    pub fn id(&self) -> Digest {
        self.state.unwrap_or(self.checksum)
    }
}
