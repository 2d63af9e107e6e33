//! Where a call finds the file or directory behind a descriptor: on the host or in a volume.

use super::{Call, PathArg};
use crate::Errno;
use crate::descriptor::{Backing, Descriptor, Dir, Node};
use crate::host::{FileStat, Handle};
use crate::volume::Volume;

type Result<T = ()> = core::result::Result<T, Errno>;

/// What is behind a descriptor, ready for use.
#[derive(Clone, Copy)]
pub(super) enum Target {
    /// Open on the host.
    Host(Handle),
    /// An inode of the volume behind this preopen.
    Volume(usize, u64),
}

impl Target {
    /// `badf` if the host's side is missing: the task runs without having been attached.
    pub(super) fn of(preopen: usize, node: &Node) -> Result<Self> {
        match node {
            Node::Host { handle, .. } => handle.map(Self::Host).ok_or(Errno::Badf),
            Node::Volume(ino) => Ok(Self::Volume(preopen, *ino)),
        }
    }
}

impl Call<'_> {
    pub(super) fn path(&self, path: PathArg) -> Result<alloc::string::String> {
        self.mem.string(path.ptr, path.len)
    }

    pub(super) fn file_target(&self, fd: u32) -> Result<Target> {
        let file = self.ctx.table.file(fd)?;
        Target::of(file.preopen, &file.node)
    }

    /// The directory and whether the preopen lets it be changed.
    pub(super) fn dir_target(&self, fd: u32) -> Result<(Target, bool)> {
        let Dir { preopen, node, .. } = self.ctx.table.dir(fd)?;
        Ok((Target::of(*preopen, node)?, !self.ctx.preopens[*preopen].read_only))
    }

    /// As [`Call::dir_target`] for a call that changes something: `perm` in a read-only preopen.
    pub(super) fn writable_dir(&self, fd: u32) -> Result<Target> {
        match self.dir_target(fd)? {
            (target, true) => Ok(target),
            (_, false) => Err(Errno::Perm),
        }
    }

    /// The file or directory and whether the preopen lets it be changed.
    pub(super) fn node_target(&self, fd: u32) -> Result<(Target, bool)> {
        let (preopen, node) = match self.ctx.table.get(fd)? {
            Descriptor::File(file) => (file.preopen, &file.node),
            Descriptor::Dir(dir) => (dir.preopen, &dir.node),
            _ => return Err(Errno::Badf),
        };
        Ok((Target::of(preopen, node)?, !self.ctx.preopens[preopen].read_only))
    }

    pub(super) fn volume(&mut self, preopen: usize) -> Result<&mut Volume> {
        match &mut self.ctx.preopens[preopen].backing {
            Backing::Volume(volume) => Ok(volume),
            Backing::Host(_) => Err(Errno::Badf),
        }
    }

    pub(super) fn stat(&mut self, target: Target) -> Result<FileStat> {
        match target {
            Target::Host(handle) => self.host.stat(handle),
            Target::Volume(preopen, ino) => {
                let stat = self.volume(preopen)?.stat(ino)?;
                Ok(FileStat { ino: identity(preopen, ino), ..stat })
            }
        }
    }
}

/// An inode number that is different in every volume of the task, and small enough not to meet the hosts' mixed ones
/// but by chance.
pub(super) fn identity(preopen: usize, ino: u64) -> u64 {
    ((preopen as u64 + 1) << 48) | (ino & ((1 << 48) - 1))
}
