//! The WASI state of a task as one value, and the call into it.

use alloc::string::String;
use alloc::vec::Vec;

use crate::calls::{Call, Stop};
use crate::clock::Clock;
use crate::descriptor::{Preopen, Table};
use crate::host::{Host, Wait};
use crate::memory::Memory;
use crate::{Builder, Errno, Function};

/// The whole WASI state of a task: arguments, environment, descriptors, volumes, clock. Plain data but for the
/// host's handles, which are left out of [`Ctx::encode`] and made anew by [`Ctx::reattach`].
#[derive(Debug)]
pub struct Ctx {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) preopens: Vec<Preopen>,
    pub(crate) table: Table,
    pub(crate) clock: Clock,
    pub(crate) pending: Option<PendingPoll>,
    pub(crate) exit: Option<u32>,
}

/// A `poll_oneoff` that has answered [`Control::Block`]: with the moment of its first issue, a relative timeout stays
/// the same moment of task time however often, and wherever, the call is issued again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PendingPoll {
    /// The subscriptions, the events and their number: another call is not this one.
    pub args: [u32; 3],
    /// Task time of the first issue, in nanoseconds.
    pub since: u64,
}

/// What became of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Control {
    /// The call is over; the guest gets this number.
    Return(Errno),
    /// The guest has ended with this status. Preview 1 allows 0 to 125; the oracle traps above, here the engine decides.
    Exit(u32),
    /// The call would block and has had no effect on the guest. Wait with [`Host::wait`] and issue it again with the
    /// same arguments; or capture the task now and issue it again after the resume.
    Block(Wait),
}

impl Ctx {
    /// Starts a description of a new task.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Executes `function` with its raw arguments (an `i32` in the low half) on the guest's memory.
    ///
    /// Bytes of the guest are never trusted: this does not panic whatever they are.
    pub fn call(&mut self, host: &mut dyn Host, function: Function, args: &[u64], mem: &mut [u8]) -> Control {
        if args.len() != function.params().len() {
            return Control::Return(Errno::Inval);
        }
        if function != Function::PollOneoff {
            self.pending = None;
        }
        let mut call = Call { ctx: self, host, mem: Memory(mem) };
        match call.dispatch(function, args) {
            Ok(()) => Control::Return(Errno::Success),
            Err(Stop::Errno(errno)) => Control::Return(errno),
            Err(Stop::Block(wait)) => Control::Block(wait),
            Err(Stop::Exit(status)) => {
                self.exit = Some(status);
                Control::Exit(status)
            }
        }
    }

    /// Lets the guest have at most `most` descriptors open, 65536 if this is not called; a call that would need one
    /// more is `mfile`, as on Linux. No part of the encoded state: set it again after [`Ctx::decode`]. What is open
    /// beyond it stays open.
    pub fn limit_descriptors(&mut self, most: usize) {
        self.table.limit = most;
    }

    /// The status the guest has ended with, if it has.
    pub fn exit_status(&self) -> Option<u32> {
        self.exit
    }

    /// Task time at the last reading of the clock, in nanoseconds.
    pub fn task_time(&self) -> u64 {
        self.clock.last()
    }
}
