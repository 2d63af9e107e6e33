//! A vector as a sink: the twin of `io.rs` for builds where `std::io::Write` does not exist.

use crate::Sink;
use alloc::vec::Vec;
use core::convert::Infallible;

impl Sink for Vec<u8> {
    type Error = Infallible;

    fn put(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}
