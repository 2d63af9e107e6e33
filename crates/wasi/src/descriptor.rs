//! What stands behind a file descriptor number, and the table of numbers.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use crate::Errno;
use crate::host::{DirEntry, Handle, Stream};
use crate::types::Filetype;
use crate::volume::Volume;

/// A directory offered to the guest. Its entry stays when the guest closes the descriptor: files opened through it
/// name it by index.
#[derive(Debug)]
pub(crate) struct Preopen {
    pub guest_path: String,
    pub read_only: bool,
    pub backing: Backing,
}

#[derive(Debug)]
pub(crate) enum Backing {
    /// A directory of the host; the handle is missing until it is attached.
    Host(Option<Handle>),
    /// A file system that is part of this value.
    Volume(Volume),
}

/// The file or directory behind a descriptor.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Host {
        handle: Option<Handle>,
        /// Beneath the preopen, as far as known; [`Ctx::pausing`](crate::Ctx::pausing) brings it up to date.
        path: String,
        /// The last name was removed while it was open: it cannot be opened again anywhere.
        deleted: bool,
    },
    Volume(u64),
}

#[derive(Debug)]
pub(crate) struct File {
    pub preopen: usize,
    pub node: Node,
    pub filetype: Filetype,
    pub read: bool,
    pub write: bool,
    pub append: bool,
    pub nonblock: bool,
    pub offset: u64,
}

#[derive(Debug)]
pub(crate) struct Dir {
    pub preopen: usize,
    pub node: Node,
    /// The preopened directory itself, which shares the preopen's handle and answers `fd_prestat_get`.
    pub root: bool,
    /// The names that a `fd_readdir` in progress is giving out, so that its cookies mean the same names although
    /// files come and go, or the task moves to a host that lists in another order.
    pub listing: Option<Vec<DirEntry>>,
}

#[derive(Debug)]
pub(crate) enum Descriptor {
    Stream {
        stream: Stream,
        /// Whether it is a terminal, fixed when the guest first asks: it has chosen its buffering by the answer.
        terminal: Option<bool>,
    },
    File(File),
    Dir(Dir),
    Listener {
        name: String,
        handle: Option<Handle>,
        nonblock: bool,
    },
    /// An accepted connection. Without a handle it has been lost by a move and every use fails.
    Connection {
        handle: Option<Handle>,
        nonblock: bool,
        /// By which a host hands it out again after a move; without one it cannot move.
        stream: Option<u64>,
    },
}

/// Descriptor numbers. A closed number is handed out again before a new one, the highest first, as by the oracle.
#[derive(Debug)]
pub(crate) struct Table {
    pub used: BTreeMap<u32, Descriptor>,
    pub free: BTreeSet<u32>,
    /// Most descriptors open at a time. The embedder's, not the task's: no part of the encoded state.
    pub limit: usize,
}

/// Generous, and yet a bound: what a descriptor costs is the host's memory, which no limit on the guest's covers.
const LIMIT: usize = 65_536;

impl Default for Table {
    fn default() -> Self {
        Self { used: BTreeMap::new(), free: BTreeSet::new(), limit: LIMIT }
    }
}

impl Table {
    /// `mfile` if no descriptor can be added. Ask before anything is opened or accepted for one: a connection taken
    /// off the queue and then not handed out would be lost.
    pub fn check_room(&self) -> Result<(), Errno> {
        if self.used.len() >= self.limit { Err(Errno::Mfile) } else { Ok(()) }
    }

    pub fn push(&mut self, descriptor: Descriptor) -> Result<u32, Errno> {
        self.check_room()?;
        let fd = match self.free.pop_last() {
            Some(fd) => fd,
            None => match self.used.last_key_value() {
                Some((last, _)) => last.checked_add(1).ok_or(Errno::Nfile)?,
                None => 0,
            },
        };
        self.used.insert(fd, descriptor);
        Ok(fd)
    }

    pub fn remove(&mut self, fd: u32) -> Result<Descriptor, Errno> {
        let descriptor = self.used.remove(&fd).ok_or(Errno::Badf)?;
        self.free.insert(fd);
        Ok(descriptor)
    }

    /// Moves `from` to the number `to`, which must be free.
    pub fn rename(&mut self, from: u32, to: u32) -> Result<(), Errno> {
        let descriptor = self.remove(from)?;
        self.free.remove(&to);
        self.used.insert(to, descriptor);
        Ok(())
    }

    pub fn get(&self, fd: u32) -> Result<&Descriptor, Errno> {
        self.used.get(&fd).ok_or(Errno::Badf)
    }

    pub fn get_mut(&mut self, fd: u32) -> Result<&mut Descriptor, Errno> {
        self.used.get_mut(&fd).ok_or(Errno::Badf)
    }

    pub fn file(&self, fd: u32) -> Result<&File, Errno> {
        match self.used.get(&fd) {
            Some(Descriptor::File(file)) => Ok(file),
            _ => Err(Errno::Badf),
        }
    }

    pub fn file_mut(&mut self, fd: u32) -> Result<&mut File, Errno> {
        match self.used.get_mut(&fd) {
            Some(Descriptor::File(file)) => Ok(file),
            _ => Err(Errno::Badf),
        }
    }

    pub fn dir(&self, fd: u32) -> Result<&Dir, Errno> {
        match self.used.get(&fd) {
            Some(Descriptor::Dir(dir)) => Ok(dir),
            _ => Err(Errno::Badf),
        }
    }

    /// The file, if the descriptor can seek; `spipe` on the standard streams.
    pub fn seekable(&self, fd: u32) -> Result<&File, Errno> {
        match self.used.get(&fd) {
            Some(Descriptor::File(file)) => Ok(file),
            Some(Descriptor::Stream { .. } | Descriptor::Connection { .. } | Descriptor::Listener { .. }) => {
                Err(Errno::Spipe)
            }
            _ => Err(Errno::Badf),
        }
    }
}
