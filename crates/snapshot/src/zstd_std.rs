//! zstd through the C library, for snapshots at rest. The twin for builds without it is `zstd_core.rs`.

use crate::Error;
use zstd::bulk::{Compressor, Decompressor};

/// Contexts that a thread keeps from chunk to chunk: making one costs more than packing a chunk at a low level.
#[derive(Default)]
pub(crate) struct Zstd {
    packer: Option<(i32, Compressor<'static>)>,
    unpacker: Option<Decompressor<'static>>,
}

impl Zstd {
    /// Packs `raw` into `out`; `Ok(None)` when it does not fit there.
    pub(crate) fn pack(&mut self, raw: &[u8], out: &mut [u8], level: i32) -> Result<Option<usize>, Error> {
        if self.packer.as_ref().is_none_or(|(made_for, _)| *made_for != level) {
            self.packer = Some((level, Compressor::new(level).map_err(|_| Error::CompressionFailed)?));
        }
        Ok(self.packer.as_mut().and_then(|(_, packer)| packer.compress_to_buffer(raw, out).ok()))
    }

    /// Unpacks into `out`; gives the number of bytes written.
    pub(crate) fn unpack(&mut self, packed: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        let damaged = Error::ChunkDamaged { raw: out.len() as u64 };
        if self.unpacker.is_none() {
            self.unpacker = Decompressor::new().ok();
        }
        self.unpacker.as_mut().and_then(|unpacker| unpacker.decompress_to_buffer(packed, out).ok()).ok_or(damaged)
    }
}
