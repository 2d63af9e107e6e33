//! `poll_oneoff`: sleeping, and waiting for one of several things.
//!
//! The call may be issued many times before it is over, the next time perhaps on another machine. So it keeps nothing
//! but the moment of its first issue ([`PendingPoll`]): a relative timeout counts from there in task time. An absolute
//! time needs nothing kept; one of the real-time clock is compared with that clock at each issue, since the pause of
//! a move counts for it.

use alloc::vec::Vec;

use super::clock::ClockId;
use super::nodes::Target;
use super::{Call, Stop};
use crate::Errno;
use crate::ctx::PendingPoll;
use crate::descriptor::Descriptor;
use crate::host::{Interest, Source, Stream, Wait};
use crate::types::{EVENT_HANGUP, SUBSCRIPTION_CLOCK_ABSTIME};

type Result<T> = core::result::Result<T, Errno>;

const SUBSCRIPTION: u32 = 48;
const EVENT: u32 = 32;
/// Most subscriptions in one call; the oracle's per-call budget ends in the same region.
const SUBSCRIPTIONS_MAX: u32 = 1 << 20;

/// What a subscription waits for.
#[derive(Clone, Copy)]
enum On {
    /// Task time, in nanoseconds.
    Deadline(u64),
    /// A stream or socket.
    Source(Source, Interest),
    /// A file, which is always ready; whether the offset is at its end.
    File(Interest, bool),
}

struct Subscription {
    userdata: u64,
    on: On,
}

impl Call<'_> {
    pub fn poll_oneoff(&mut self, subs: u32, events: u32, count: u32, out: u32) -> core::result::Result<(), Stop> {
        if count == 0 {
            // Sleeping for ever is not to be had in preview 1.
            self.ctx.pending = None;
            return Err(Errno::Inval.into());
        }
        let key = [subs, events, count];
        let now = self.ctx.clock.now(self.host);
        let since = match self.ctx.pending.take() {
            Some(pending) if pending.args == key => pending.since,
            _ => now,
        };
        if count > SUBSCRIPTIONS_MAX {
            return Err(Errno::Nomem.into());
        }
        self.mem.check(subs, count * SUBSCRIPTION)?;
        self.mem.check(events, count * EVENT)?;
        self.mem.check(out, 4)?;
        let all: Vec<Subscription> =
            (0..count).map(|i| self.subscription(subs + i * SUBSCRIPTION, since, now)).collect::<Result<_>>()?;

        let mut ready = 0;
        for sub in &all {
            let is_ready = match sub.on {
                On::Deadline(deadline) => deadline <= now,
                On::Source(source, interest) => self.host.is_ready(source, interest),
                On::File(..) => true,
            };
            if is_ready {
                self.mem.write(events + ready * EVENT, &sub.event())?;
                ready += 1;
            }
        }
        if ready > 0 {
            return Ok(self.mem.write_u32(out, ready)?);
        }

        self.ctx.pending = Some(PendingPoll { args: key, since });
        let mut wait = Wait::default();
        for sub in all {
            match sub.on {
                On::Deadline(deadline) => {
                    let at = self.ctx.clock.to_host(deadline);
                    wait.deadline = Some(wait.deadline.map_or(at, |earliest| earliest.min(at)));
                }
                // A guest may name one a million times; a kernel would not take that.
                On::Source(source, interest) if wait.sources.contains(&(source, interest)) => {}
                On::Source(source, interest) => wait.sources.push((source, interest)),
                On::File(..) => {}
            }
        }
        Err(Stop::Block(wait))
    }

    fn subscription(&mut self, at: u32, since: u64, now: u64) -> Result<Subscription> {
        let userdata = self.mem.u64(at)?;
        let on = match self.mem.u8(at + 8)? {
            0 => self.clock_subscription(at + 16, since, now)?,
            1 => self.descriptor_subscription(self.mem.u32(at + 16)?, Interest::Read)?,
            2 => self.descriptor_subscription(self.mem.u32(at + 16)?, Interest::Write)?,
            _ => return Err(Errno::Inval),
        };
        Ok(Subscription { userdata, on })
    }

    fn clock_subscription(&mut self, at: u32, since: u64, now: u64) -> Result<On> {
        let id = ClockId::from_raw(self.mem.u32(at)?)?;
        let timeout = self.mem.u64(at + 8)?;
        let absolute = match self.mem.u16(at + 24)? {
            0 => false,
            SUBSCRIPTION_CLOCK_ABSTIME => true,
            _ => return Err(Errno::Inval),
        };
        Ok(On::Deadline(match (id, absolute) {
            (ClockId::Cpu, _) => return Err(Errno::Inval),
            (_, false) => since.saturating_add(timeout),
            (ClockId::Monotonic, true) => timeout,
            (ClockId::Realtime, true) => now.saturating_add(timeout.saturating_sub(self.host.realtime())),
        }))
    }

    fn descriptor_subscription(&mut self, fd: u32, interest: Interest) -> Result<On> {
        let source = match (self.ctx.table.get(fd)?, interest) {
            (Descriptor::Stream { stream: stream @ Stream::Stdin, .. }, Interest::Read)
            | (Descriptor::Stream { stream: stream @ (Stream::Stdout | Stream::Stderr), .. }, Interest::Write) => {
                Source::Stream(*stream)
            }
            (Descriptor::Connection { handle, .. }, _) | (Descriptor::Listener { handle, .. }, Interest::Read) => {
                Source::Socket(handle.ok_or(Errno::Badf)?)
            }
            (Descriptor::File(file), Interest::Read) => {
                let (target, offset) = (Target::of(file.preopen, &file.node)?, file.offset);
                return Ok(On::File(interest, self.stat(target)?.size <= offset));
            }
            (Descriptor::File(file), Interest::Write) if self.ctx.preopens[file.preopen].read_only => {
                return Err(Errno::Perm);
            }
            (Descriptor::File(_), Interest::Write) => return Ok(On::File(interest, false)),
            _ => return Err(Errno::Badf),
        };
        Ok(On::Source(source, interest))
    }
}

impl Subscription {
    /// The event that reports it. Like the oracle, `nbytes` says 1 for "some".
    fn event(&self) -> [u8; EVENT as usize] {
        let (kind, nbytes, flags) = match self.on {
            On::Deadline(_) => (0, 0, 0),
            On::Source(_, Interest::Read) => (1, 1, 0),
            On::File(Interest::Read, at_end) => (1, 1, if at_end { EVENT_HANGUP } else { 0 }),
            On::Source(_, Interest::Write) | On::File(Interest::Write, _) => (2, 1_u64, 0),
        };
        let mut bytes = [0; EVENT as usize];
        bytes[0..8].copy_from_slice(&self.userdata.to_le_bytes());
        bytes[10] = kind;
        bytes[16..24].copy_from_slice(&nbytes.to_le_bytes());
        bytes[24..26].copy_from_slice(&flags.to_le_bytes());
        bytes
    }
}
