//! What is below a task on a board: a console to write to, a clock, and the processor's random numbers.

use crate::{clock, entropy, sys};
use core::sync::atomic::AtomicU32;
use wayfare_unikernel_abi::NEVER;
use wayfare_wasi::{Errno, Host, Interest, Source, Stream, Wait, Woken};

/// The board as a task sees it.
pub struct Board;

impl Host for Board {
    // Nobody has said yet what time it is.
    fn realtime(&mut self) -> u64 {
        clock::nanos()
    }

    fn monotonic(&mut self) -> u64 {
        clock::nanos()
    }

    fn entropy(&mut self, buf: &mut [u8]) -> Result<(), Errno> {
        if entropy::fill(buf) { Ok(()) } else { Err(Errno::Nosys) }
    }

    fn is_terminal(&mut self, _stream: Stream) -> bool {
        false
    }

    fn stdin_read(&mut self, _buf: &mut [u8]) -> Result<usize, Errno> {
        Ok(0)
    }

    fn stream_write(&mut self, _stream: Stream, bytes: &[u8]) -> Result<usize, Errno> {
        sys::write(bytes);
        Ok(bytes.len())
    }

    fn is_ready(&mut self, source: Source, _interest: Interest) -> bool {
        matches!(source, Source::Stream(_))
    }

    fn wait(&mut self, wait: &Wait) -> Woken {
        if wait.sources.iter().any(|(source, interest)| self.is_ready(*source, *interest)) {
            return Woken::Ready;
        }
        let nobody = AtomicU32::new(0);
        let _ = sys::wait(&nobody, 0, wait.deadline.unwrap_or(NEVER));
        Woken::TimedOut
    }
}
