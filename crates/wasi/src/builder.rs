//! What a task starts with.

use alloc::string::String;
use alloc::vec::Vec;

use crate::Ctx;
use crate::clock::Clock;
use crate::descriptor::{Backing, Descriptor, Dir, Node, Preopen, Table};
use crate::host::Stream;
use crate::volume::{self, Volume};

/// Describes a new task; every method may be called in any order, what it adds comes after what was added before.
///
/// Descriptors 0, 1 and 2 are the standard streams, then come the directories and volumes in the order of their
/// calls, then the listeners: a libc looks for preopened directories from 3 upwards and stops at the first number
/// that is none.
#[derive(Debug, Default)]
#[must_use]
pub struct Builder {
    args: Vec<String>,
    env: Vec<(String, String)>,
    preopens: Vec<Preopen>,
    listeners: Vec<String>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds an argument; the first is the program's name.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<T: Into<String>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds an environment variable.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Offers a directory of the host as `guest_path`: shared storage, which must exist wherever the task runs.
    /// The host knows it by that name ([`Host::preopen`](crate::Host::preopen)).
    pub fn dir(mut self, guest_path: impl Into<String>, read_only: bool) -> Self {
        self.preopens.push(Preopen { guest_path: guest_path.into(), read_only, backing: Backing::Host(None) });
        self
    }

    /// Offers a volume as `guest_path`: its content belongs to the task and moves with it.
    pub fn volume(mut self, guest_path: impl Into<String>, volume: Volume, read_only: bool) -> Self {
        self.preopens.push(Preopen { guest_path: guest_path.into(), read_only, backing: Backing::Volume(volume) });
        self
    }

    /// Hands the task a listening socket that the host has published as `name`
    /// ([`Host::listener`](crate::Host::listener)).
    pub fn listener(mut self, name: impl Into<String>) -> Self {
        self.listeners.push(name.into());
        self
    }

    /// The state of the task before its first instruction. Call [`Ctx::reattach`] before the first call.
    pub fn build(self) -> Ctx {
        let mut table = Table::default();
        let mut next = 0;
        let mut add = |descriptor| {
            table.used.insert(next, descriptor);
            next += 1;
        };
        for stream in [Stream::Stdin, Stream::Stdout, Stream::Stderr] {
            add(Descriptor::Stream { stream, terminal: None });
        }
        let mut preopens = self.preopens;
        for (preopen, entry) in preopens.iter_mut().enumerate() {
            let node = match &mut entry.backing {
                Backing::Host(_) => Node::Host { handle: None, path: ".".into(), deleted: false },
                Backing::Volume(volume) => {
                    volume.retain(volume::ROOT);
                    Node::Volume(volume::ROOT)
                }
            };
            add(Descriptor::Dir(Dir { preopen, node, root: true, listing: None }));
        }
        for name in self.listeners {
            add(Descriptor::Listener { name, handle: None, nonblock: false });
        }
        Ctx { args: self.args, env: self.env, preopens, table, clock: Clock::new(), pending: None, exit: None }
    }
}
