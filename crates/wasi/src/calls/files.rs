//! Calls on a descriptor that move no data: attributes, flags, offsets, closing.

use super::Call;
use super::nodes::Target;
use crate::Errno;
use crate::descriptor::{Descriptor, File, Node};
use crate::host::{Advice, FileStat, NewTime};
use crate::types::{Filetype, fdflags};

type Result<T = ()> = core::result::Result<T, Errno>;

impl Call<'_> {
    pub fn fd_advise(&mut self, fd: u32, offset: u64, len: u64, advice: Advice) -> Result {
        match self.file_target(fd)? {
            Target::Host(handle) => self.host.advise(handle, offset, len, advice),
            Target::Volume(..) => Ok(()),
        }
    }

    /// Not supported by the oracle on any file; a program must then write zeros, as it has to on many systems.
    pub fn fd_allocate(&mut self, fd: u32) -> Result {
        self.ctx.table.file(fd)?;
        Err(Errno::Notsup)
    }

    pub fn fd_close(&mut self, fd: u32) -> Result {
        let descriptor = self.ctx.table.remove(fd)?;
        let (preopen, node) = match descriptor {
            Descriptor::Stream { .. } => return Ok(()),
            Descriptor::Listener { handle, .. } | Descriptor::Connection { handle, .. } => {
                if let Some(handle) = handle {
                    self.host.close(handle);
                }
                return Ok(());
            }
            // The preopen's own handle stays: files opened through it are found again by it.
            Descriptor::Dir(dir) if dir.root && matches!(dir.node, Node::Host { .. }) => {
                return Ok(());
            }
            Descriptor::Dir(dir) => (dir.preopen, dir.node),
            Descriptor::File(file) => (file.preopen, file.node),
        };
        match Target::of(preopen, &node) {
            Ok(Target::Host(handle)) => self.host.close(handle),
            Ok(Target::Volume(preopen, ino)) => self.volume(preopen)?.release(ino),
            Err(_) => {}
        }
        Ok(())
    }

    pub fn fd_sync(&mut self, fd: u32, metadata: bool) -> Result {
        match self.file_target(fd)? {
            Target::Host(handle) => self.host.sync(handle, metadata),
            Target::Volume(..) => Ok(()),
        }
    }

    pub fn fd_fdstat_get(&mut self, fd: u32, out: u32) -> Result {
        self.mem.check(out, 24)?;
        let (base, inheriting) = self.ctx.table.get(fd)?.rights();
        let (filetype, append, nonblock) = match self.ctx.table.get(fd)? {
            Descriptor::Stream { .. } => (self.stream_filetype(fd)?, false, false),
            Descriptor::Dir(_) => (Filetype::Directory, false, false),
            Descriptor::File(File { filetype, append, nonblock, .. }) => (*filetype, *append, *nonblock),
            Descriptor::Listener { nonblock, .. } | Descriptor::Connection { nonblock, .. } => {
                (Filetype::SocketStream, false, *nonblock)
            }
        };
        let flags = if append { fdflags::APPEND } else { 0 } | if nonblock { fdflags::NONBLOCK } else { 0 };
        let mut bytes = [0; 24];
        bytes[0] = filetype as u8;
        bytes[2..4].copy_from_slice(&flags.to_le_bytes());
        bytes[8..16].copy_from_slice(&base.to_le_bytes());
        bytes[16..24].copy_from_slice(&inheriting.to_le_bytes());
        self.mem.write(out, &bytes)
    }

    pub fn fd_fdstat_set_flags(&mut self, fd: u32, flags: u16) -> Result {
        let (new_append, new_nonblock) = (flags & fdflags::APPEND != 0, flags & fdflags::NONBLOCK != 0);
        let synchronous = flags & (fdflags::DSYNC | fdflags::RSYNC | fdflags::SYNC) != 0;
        match self.ctx.table.get_mut(fd)? {
            Descriptor::File(_) | Descriptor::Listener { .. } | Descriptor::Connection { .. } if synchronous => {
                Err(Errno::Inval)
            }
            Descriptor::File(file) => {
                (file.append, file.nonblock) = (new_append, new_nonblock);
                Ok(())
            }
            Descriptor::Listener { nonblock, .. } | Descriptor::Connection { nonblock, .. } => {
                *nonblock = new_nonblock;
                Ok(())
            }
            // The flags of a standard stream belong to whoever shares it with the task.
            Descriptor::Stream { .. } | Descriptor::Dir(_) => Err(Errno::Badf),
        }
    }

    pub fn fd_fdstat_set_rights(&mut self, fd: u32) -> Result {
        match self.ctx.table.get(fd)? {
            Descriptor::Stream { .. } => Err(Errno::Badf),
            _ => Err(Errno::Notsup),
        }
    }

    pub fn fd_filestat_get(&mut self, fd: u32, out: u32) -> Result {
        self.mem.check(out, 64)?;
        let filetype = match self.ctx.table.get(fd)? {
            Descriptor::Stream { .. } => self.stream_filetype(fd)?,
            Descriptor::Listener { .. } | Descriptor::Connection { .. } => Filetype::SocketStream,
            Descriptor::File(_) | Descriptor::Dir(_) => {
                let (target, _) = self.node_target(fd)?;
                let stat = self.stat(target)?;
                return self.put_filestat(out, 1, &stat);
            }
        };
        let stat = FileStat { ino: 0, filetype, nlink: 0, size: 0, atim: 0, mtim: 0, ctim: 0 };
        self.put_filestat(out, 0, &stat)
    }

    pub(super) fn put_filestat(&mut self, out: u32, dev: u64, stat: &FileStat) -> Result {
        let mut bytes = [0; 64];
        let fields = [dev, stat.ino, stat.filetype as u64, stat.nlink, stat.size, stat.atim, stat.mtim, stat.ctim];
        for (place, field) in bytes.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        self.mem.write(out, &bytes)
    }

    fn stream_filetype(&mut self, fd: u32) -> Result<Filetype> {
        let Descriptor::Stream { stream, terminal } = self.ctx.table.get_mut(fd)? else {
            return Err(Errno::Badf);
        };
        let terminal = *terminal.get_or_insert_with(|| self.host.is_terminal(*stream));
        Ok(if terminal { Filetype::CharacterDevice } else { Filetype::Unknown })
    }

    pub fn fd_filestat_set_size(&mut self, fd: u32, size: u64) -> Result {
        let File { preopen, node, write, .. } = self.ctx.table.file(fd)?;
        let (target, write) = (Target::of(*preopen, node)?, *write);
        if self.ctx.preopens[*preopen].read_only {
            return Err(Errno::Perm);
        }
        match target {
            Target::Host(handle) => self.host.set_size(handle, size),
            Target::Volume(..) if !write => Err(Errno::Inval),
            Target::Volume(preopen, ino) => {
                let now = self.host.realtime();
                self.volume(preopen)?.set_size(ino, size, now)
            }
        }
    }

    pub fn fd_filestat_set_times(&mut self, fd: u32, (atim, mtim): (NewTime, NewTime)) -> Result {
        match self.node_target(fd)? {
            (_, false) => Err(Errno::Perm),
            (Target::Host(handle), _) => self.host.set_times(handle, atim, mtim),
            (Target::Volume(preopen, ino), _) => {
                let now = self.host.realtime();
                self.volume(preopen)?.set_times(ino, atim, mtim, now)
            }
        }
    }

    pub fn fd_prestat_get(&mut self, fd: u32, out: u32) -> Result {
        match self.ctx.table.get(fd)? {
            Descriptor::Dir(dir) if dir.root => {
                let len = self.ctx.preopens[dir.preopen].guest_path.len();
                let len = u32::try_from(len).map_err(|_| Errno::Overflow)?;
                self.mem.check(out, 8)?;
                // The union's tag: a directory.
                self.mem.write_u32(out, 0)?;
                self.mem.write_u32(out + 4, len)
            }
            _ => Err(Errno::Badf),
        }
    }

    pub fn fd_prestat_dir_name(&mut self, fd: u32, ptr: u32, len: u32) -> Result {
        match self.ctx.table.get(fd)? {
            Descriptor::Dir(dir) if dir.root => {
                let name = self.ctx.preopens[dir.preopen].guest_path.as_bytes();
                if name.len() > len as usize {
                    return Err(Errno::Nametoolong);
                }
                self.mem.write(ptr, name)
            }
            _ => Err(Errno::Notdir),
        }
    }

    pub fn fd_renumber(&mut self, from: u32, to: u32) -> Result {
        self.ctx.table.get(from)?;
        self.ctx.table.get(to)?;
        if from == to {
            return Ok(());
        }
        self.fd_close(to)?;
        self.ctx.table.rename(from, to)
    }

    pub fn fd_seek(&mut self, fd: u32, delta: i64, whence: u32, out: u32) -> Result {
        if whence > 2 {
            return Err(Errno::Inval);
        }
        self.mem.check(out, 8)?;
        let file = self.ctx.table.seekable(fd)?;
        let base = match whence {
            0 => 0,
            1 => file.offset,
            _ => {
                let target = Target::of(file.preopen, &file.node)?;
                self.stat(target)?.size
            }
        };
        let offset = base.checked_add_signed(delta).ok_or(Errno::Inval)?;
        self.ctx.table.file_mut(fd)?.offset = offset;
        self.mem.write_u64(out, offset)
    }

    pub fn fd_tell(&mut self, fd: u32, out: u32) -> Result {
        let offset = self.ctx.table.seekable(fd)?.offset;
        self.mem.write_u64(out, offset)
    }
}
