//! The standard streams.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::FileType;
use rustix::io::Errno as Os;
use rustix::net::SendFlags;

use super::errors::errno;
use super::files::retry;
use crate::Errno;
use crate::host::Stream;

type Result<T> = core::result::Result<T, Errno>;

/// What a pipe or terminal takes at once when it says that it is ready (`PIPE_BUF`): a longer write could block.
const PORTION: usize = 4096;

/// What a standard stream of the task is on this host.
#[derive(Debug, Default)]
pub enum StreamSource {
    /// The process's own stream of the same name.
    #[default]
    Inherit,
    /// A descriptor given to the task: a pipe to a log, a file, a socket. Its mode is not changed.
    Fd(OwnedFd),
    /// Empty to read, and what is written is dropped.
    Null,
}

impl StreamSource {
    /// The descriptor; `None` for [`StreamSource::Null`], which is always ready.
    pub(super) fn fd(&self, stream: Stream) -> Option<BorrowedFd<'_>> {
        match (self, stream) {
            (Self::Inherit, Stream::Stdin) => Some(rustix::stdio::stdin()),
            (Self::Inherit, Stream::Stdout) => Some(rustix::stdio::stdout()),
            (Self::Inherit, Stream::Stderr) => Some(rustix::stdio::stderr()),
            (Self::Fd(fd), _) => Some(fd.as_fd()),
            (Self::Null, _) => None,
        }
    }

    pub(super) fn is_terminal(&self, stream: Stream) -> bool {
        self.fd(stream).is_some_and(rustix::termios::isatty)
    }

    pub(super) fn read(&self, buf: &mut [u8]) -> Result<usize> {
        let Some(fd) = self.fd(Stream::Stdin) else {
            return Ok(0);
        };
        retry(|| match is_ready(fd, PollFlags::IN) {
            true => rustix::io::read(fd, &mut *buf).map_err(errno),
            false => Err(Errno::Again),
        })
    }

    pub(super) fn write(&self, stream: Stream, bytes: &[u8]) -> Result<usize> {
        let Some(fd) = self.fd(stream) else {
            return Ok(bytes.len());
        };
        let portion = match rustix::fs::fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            // Files do not block, and sockets can be asked not to.
            Ok(FileType::RegularFile) => bytes.len(),
            Ok(FileType::Socket) => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                return retry(|| rustix::net::send(fd, bytes, flags).map_err(errno));
            }
            _ => PORTION,
        };
        let mut done = 0;
        while done < bytes.len() {
            let end = bytes.len().min(done.saturating_add(portion));
            let part = &bytes[done..end];
            let written = retry(|| match is_ready(fd, PollFlags::OUT) {
                true => rustix::io::write(fd, part).map_err(errno),
                false => Err(Errno::Again),
            });
            match written {
                Ok(written) => done += written,
                // What is written is written; the next call will meet the error again.
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }
}

/// Whether a read or write would return at once, be it with an error.
pub(super) fn is_ready(fd: BorrowedFd<'_>, interest: PollFlags) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, interest)];
    loop {
        match rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(ready) => return ready > 0,
            Err(Os::INTR) => {}
            // Let the read or write say what is wrong.
            Err(_) => return true,
        }
    }
}
