//! Sockets that are not this process's own. A client that must not notice a move is connected to another node, the
//! ingress; what the task sees is a stream between the two, which whoever embeds the task provides here.

use std::boxed::Box;
use std::os::fd::BorrowedFd;

use super::StdHost;
use crate::Errno;
use crate::host::{Handle, Interest, Shutdown};

type Result<T> = core::result::Result<T, Errno>;

/// What gives a [`StdHost`] listeners and connections ([`StdHost::network`]).
///
/// A listener's number is the network's own and means nothing elsewhere; a stream's is its identity, which stays with
/// the task when it moves. No method may block: [`Errno::Again`] says that something is not ready, and then
/// [`Network::wakeup`] must become readable once it may be. Whoever embeds a task feeds the network from other threads,
/// so an implementation is a handle to something behind a lock.
///
/// Dropping it closes no stream: the host of a task that has moved away is dropped too. Whoever ends a task closes them.
pub trait Network {
    /// The listener that is known as `name`; `noent` if there is none. Asked once for each listener of a task.
    fn listener(&mut self, name: &str) -> Result<u64>;
    /// Takes the next connection and gives its identity, one that no other connection of this task has or has had.
    fn accept(&mut self, listener: u64) -> Result<u64>;
    /// Says that the task has come here with this stream; `notconn` if it is not to be had.
    fn attach(&mut self, stream: u64) -> Result<()>;
    /// Receives up to `buf.len()` bytes (never 0); with `peek` they stay. `Ok(0)` is the end.
    fn recv(&mut self, stream: u64, buf: &mut [u8], peek: bool) -> Result<usize>;
    /// Sends some of `bytes` (never empty).
    fn send(&mut self, stream: u64, bytes: &[u8]) -> Result<usize>;
    /// Closes one or both directions.
    fn shutdown(&mut self, stream: u64, how: Shutdown) -> Result<()>;
    /// The guest has closed its descriptor; what it has sent is still to be delivered.
    fn close(&mut self, stream: u64);
    /// The guest has closed the listener.
    fn close_listener(&mut self, _listener: u64) {}
    /// Whether `recv` or `send` would answer something else than [`Errno::Again`], be it an error.
    fn ready(&mut self, stream: u64, interest: Interest) -> bool;
    /// Whether `accept` would answer something else than [`Errno::Again`].
    fn can_accept(&mut self, listener: u64) -> bool;
    /// An event descriptor that becomes readable whenever a stream or listener may have become ready, *after* it has.
    /// The host reads eight bytes off it before it asks what is ready; nobody else does.
    fn wakeup(&self) -> BorrowedFd<'_>;
}

/// A network and nothing to print about it.
pub(super) struct Plugged(pub Box<dyn Network + Send>);

impl core::fmt::Debug for Plugged {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Network")
    }
}

impl Plugged {
    /// Takes back a wake-up. It comes before the questions about readiness, so that what becomes ready after them wakes
    /// the host again. A descriptor that is not drained by one read wakes it once too often, no more.
    pub fn drain(&self) {
        let fd = self.0.wakeup();
        if super::streams::is_ready(fd, rustix::event::PollFlags::IN) {
            let _ = rustix::io::read(fd, &mut [0_u8; 8]);
        }
    }

    pub fn is_ready(&mut self, socket: Socket, interest: Interest) -> bool {
        match (socket, interest) {
            (Socket::Stream(stream), _) => self.0.ready(stream, interest),
            (Socket::Listener(listener), Interest::Read) => self.0.can_accept(listener),
            (Socket::Listener(_), Interest::Write) => false,
        }
    }
}

/// What a handle of the network means.
#[derive(Clone, Copy, Debug)]
pub(super) enum Socket {
    Listener(u64),
    Stream(u64),
}

impl StdHost {
    /// What the handle means to the network; `None` if it is a descriptor of this process.
    pub(super) fn socket(&self, handle: Handle) -> Option<Socket> {
        self.sockets.get(&handle.0).copied()
    }

    pub(super) fn keep_socket(&mut self, socket: Socket) -> Handle {
        self.next += 1;
        self.sockets.insert(self.next, socket);
        Handle(self.next)
    }

    /// The network and the stream, if the handle is one of the network's; a listener there is `notconn`.
    pub(super) fn connection(&mut self, handle: Handle) -> Result<Option<(&mut (dyn Network + Send + 'static), u64)>> {
        match (self.socket(handle), &mut self.network) {
            (Some(Socket::Stream(stream)), Some(network)) => Ok(Some((&mut *network.0, stream))),
            (Some(_), _) => Err(Errno::Notconn),
            (None, _) => Ok(None),
        }
    }

    pub(super) fn network_listener(&mut self, name: &str) -> Result<Handle> {
        let listener = self.network.as_mut().ok_or(Errno::Noent)?.0.listener(name)?;
        Ok(self.keep_socket(Socket::Listener(listener)))
    }

    pub(super) fn network_accept(&mut self, socket: Socket) -> Result<Handle> {
        let (Socket::Listener(listener), Some(network)) = (socket, &mut self.network) else {
            return Err(Errno::Inval);
        };
        let stream = network.0.accept(listener)?;
        Ok(self.keep_socket(Socket::Stream(stream)))
    }

    pub(super) fn close_socket(&mut self, handle: Handle) {
        match (self.sockets.remove(&handle.0), &mut self.network) {
            (Some(Socket::Stream(stream)), Some(network)) => network.0.close(stream),
            (Some(Socket::Listener(listener)), Some(network)) => network.0.close_listener(listener),
            _ => {}
        }
    }
}
