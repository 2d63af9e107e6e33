//! Builds without `std` have no zstd: this twin of `zstd_std.rs` says so.

use crate::Error;

/// Stands where the contexts of zstd would.
#[derive(Default)]
pub(crate) struct Zstd;

impl Zstd {
    /// Refuses.
    pub(crate) fn unpack(&mut self, _packed: &[u8], _out: &mut [u8]) -> Result<usize, Error> {
        Err(Error::CodecMissing { codec: "zstd" })
    }
}
