//! Any `std::io::Write` as a sink, so that a snapshot goes to a file or pipe without a copy of the memory.
//! The twin for builds without `std` is `io_core.rs`.

use crate::Sink;
use std::io::{Error, Write};

impl<W: Write + ?Sized> Sink for W {
    type Error = Error;

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.write_all(bytes)
    }
}
