//! Waiting, and being called away from it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::vec::Vec;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::io::Errno as Os;

use super::StdHost;
use super::streams::is_ready;
use crate::host::{Host, Interest, Source, Wait, Woken};

/// Ends the wait of a [`StdHost`], the present one or else the next, with [`Woken::Cancelled`]. Any thread may hold
/// one. Several cancellations before the host notices are one.
#[derive(Clone, Debug)]
pub struct Canceller(Arc<OwnedFd>);

impl Canceller {
    pub(super) fn new() -> std::io::Result<Self> {
        let fd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(fd)))
    }

    /// Ends the wait.
    pub fn cancel(&self) {
        // The only failure is a counter that is full, and that wakes as well.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }

    /// Forgets a cancellation that no wait has noticed, for a host that goes on with the same task.
    pub fn reset(&self) {
        let _ = rustix::io::read(&*self.0, &mut [0_u8; 8]);
    }
}

impl StdHost {
    /// `None` if the source is always ready.
    fn source_fd(&self, source: Source) -> Option<BorrowedFd<'_>> {
        match source {
            Source::Stream(stream) => self.streams[stream as usize].fd(stream),
            Source::Socket(handle) => self.fd(handle).ok(),
        }
    }

    /// Whether the source is ready, if it is the network's; else `None`: the kernel is to be asked.
    fn network_is_ready(&mut self, source: Source, interest: Interest) -> Option<bool> {
        let Source::Socket(handle) = source else {
            return None;
        };
        let socket = self.socket(handle)?;
        // Without a network there is nothing to wait for; the call will say so.
        Some(self.network.as_mut().is_none_or(|network| network.is_ready(socket, interest)))
    }

    pub(super) fn source_is_ready(&mut self, source: Source, interest: Interest) -> bool {
        match self.network_is_ready(source, interest) {
            Some(ready) => ready,
            None => self.source_fd(source).is_none_or(|fd| is_ready(fd, flags(interest))),
        }
    }

    pub(super) fn wait_for(&mut self, wait: &Wait) -> Woken {
        let canceller = self.canceller.clone();
        let of_network =
            |host: &Self, source| matches!(source, Source::Socket(handle) if host.socket(handle).is_some());
        let network = wait.sources.iter().any(|&(source, _)| of_network(self, source));
        loop {
            let now = self.monotonic();
            let mut ready = false;
            if let Some(plugged) = self.network.as_ref().filter(|_| network) {
                plugged.drain();
                ready = wait
                    .sources
                    .iter()
                    .any(|&(source, interest)| self.network_is_ready(source, interest) == Some(true));
            }
            let mut fds = Vec::with_capacity(wait.sources.len() + 2);
            fds.push(PollFd::from_borrowed_fd(canceller.0.as_fd(), PollFlags::IN));
            // The place of the network's wake-up is known: a wake-up alone does not say that these sources are ready.
            let plugged = self.network.as_ref().filter(|_| network);
            fds.extend(plugged.map(|plugged| PollFd::from_borrowed_fd(plugged.0.wakeup(), PollFlags::IN)));
            let own = fds.len();
            for &(source, interest) in wait.sources.iter().filter(|&&(source, _)| !of_network(self, source)) {
                match self.source_fd(source) {
                    Some(fd) => fds.push(PollFd::from_borrowed_fd(fd, flags(interest))),
                    None => ready = true,
                }
            }
            let timeout = if ready { Some(0) } else { wait.deadline.map(|at| at.saturating_sub(now)) };
            let timeout =
                timeout.map(|ns| Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as _ });
            let woken = rustix::event::poll(&mut fds, timeout.as_ref());
            let cancelled = !fds[0].revents().is_empty();
            let own_ready = fds[own..].iter().any(|fd| !fd.revents().is_empty());
            match woken {
                Err(Os::INTR) => {}
                // Issue the call again and let it fail, rather than sleep on something that cannot be waited for.
                Err(_) => return Woken::Ready,
                Ok(_) if cancelled => {
                    canceller.reset();
                    return Woken::Cancelled;
                }
                Ok(0) if !ready => return Woken::TimedOut,
                Ok(_) if ready || own_ready => return Woken::Ready,
                // Wake-ups for others, however many, do not put the deadline off.
                Ok(_) if wait.deadline.is_some_and(|at| at <= now) => return Woken::TimedOut,
                // The network has something for somebody: look again whether it is for this wait.
                Ok(_) => {}
            }
        }
    }
}

fn flags(interest: Interest) -> PollFlags {
    match interest {
        Interest::Read => PollFlags::IN,
        Interest::Write => PollFlags::OUT,
    }
}
