//! Sockets. They are this process's own, so they are in non-blocking mode.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{RecvFlags, SendFlags, Shutdown as Os, SocketFlags};

use super::errors::errno;
use super::files::retry;
use crate::Errno;
use crate::host::Shutdown;

type Result<T> = core::result::Result<T, Errno>;

pub(super) fn accept(listener: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    retry(|| rustix::net::accept_with(listener, flags).map_err(errno))
}

pub(super) fn recv(socket: BorrowedFd<'_>, buf: &mut [u8], peek: bool) -> Result<usize> {
    let mut flags = RecvFlags::DONTWAIT;
    flags.set(RecvFlags::PEEK, peek);
    retry(|| rustix::net::recv(socket, &mut *buf, flags).map(|(got, _)| got).map_err(errno))
}

pub(super) fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
    retry(|| rustix::net::send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).map_err(errno))
}

pub(super) fn shutdown(socket: BorrowedFd<'_>, how: Shutdown) -> Result<()> {
    let how = match (how.read, how.write) {
        (true, true) => Os::Both,
        (true, false) => Os::Read,
        (false, true) => Os::Write,
        (false, false) => return Err(Errno::Inval),
    };
    rustix::net::shutdown(socket, how).map_err(errno)
}
