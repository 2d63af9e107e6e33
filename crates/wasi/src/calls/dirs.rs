//! The calls that take paths, and reading directories.

use alloc::string::String;

use super::nodes::{Target, identity};
use super::{Call, PathArg};
use crate::Errno;
use crate::descriptor::{Descriptor, Dir, File, Node};
use crate::host::{DirEntry, FileStat, NewTime, OpenOptions};
use crate::paths;
use crate::types::{Filetype, fdflags, oflags, rights};

type Result<T = ()> = core::result::Result<T, Errno>;

/// The arguments of `path_open` that say how.
pub(crate) struct OpenArgs {
    pub follow: bool,
    pub oflags: u16,
    pub rights: u64,
    pub fdflags: u16,
}

/// Length of a `dirent` without its name.
const DIRENT: u32 = 24;

impl Call<'_> {
    pub fn path_open(&mut self, fd: u32, path: PathArg, how: OpenArgs, out: u32) -> Result {
        self.mem.check(out, 4)?;
        let path = self.path(path)?;
        if let Descriptor::File(_) = self.ctx.table.get(fd)? {
            return Err(Errno::Notdir);
        }
        let (dir, may_change) = self.dir_target(fd)?;
        let create = how.oflags & oflags::CREAT != 0;
        let truncate = how.oflags & oflags::TRUNC != 0;
        let only_directory = how.oflags & oflags::DIRECTORY != 0;
        let asked_to_write = how.rights & rights::FD_WRITE != 0;
        // Creating or cutting needs the file open for writing, whatever the guest asked for; and a descriptor that is
        // not for writing is open for reading, so that there is something to open.
        let options = OpenOptions {
            read: how.rights & rights::FD_READ != 0 || !asked_to_write,
            write: asked_to_write || create || truncate,
            create,
            exclusive: how.oflags & oflags::EXCL != 0,
            truncate,
            follow: how.follow,
        };
        if how.fdflags & (fdflags::DSYNC | fdflags::RSYNC | fdflags::SYNC) != 0 {
            return Err(Errno::Notsup);
        }
        if only_directory && how.oflags != oflags::DIRECTORY {
            return Err(Errno::Inval);
        }
        if options.write && !may_change {
            return Err(Errno::Perm);
        }
        // Before anything is created or cut.
        self.ctx.table.check_room()?;
        let Dir { preopen, node: parent, .. } = self.ctx.table.dir(fd)?;
        let preopen = *preopen;
        let (node, filetype) = match (dir, parent) {
            (Target::Host(handle), Node::Host { path: parent, .. }) => {
                let (opened, filetype) = self.host.open_at(handle, &path, options)?;
                let path = paths::join(parent, &path);
                (Node::Host { handle: Some(opened), path, deleted: false }, filetype)
            }
            (Target::Volume(preopen, ino), _) => {
                let now = self.host.realtime();
                let (ino, filetype) = self.volume(preopen)?.open(ino, &path, options, now)?;
                (Node::Volume(ino), filetype)
            }
            (Target::Host(_), Node::Volume(_)) => return Err(Errno::Badf),
        };
        if let Node::Volume(ino) = node {
            self.volume(preopen)?.retain(ino);
        }
        let descriptor = if filetype == Filetype::Directory {
            Descriptor::Dir(Dir { preopen, node, root: false, listing: None })
        } else {
            Descriptor::File(File {
                preopen,
                node,
                filetype,
                read: options.read,
                write: options.write,
                append: how.fdflags & fdflags::APPEND != 0,
                nonblock: how.fdflags & fdflags::NONBLOCK != 0,
                offset: 0,
            })
        };
        let fd = self.ctx.table.push(descriptor)?;
        if only_directory && filetype != Filetype::Directory {
            self.fd_close(fd)?;
            return Err(Errno::Notdir);
        }
        self.mem.write_u32(out, fd)
    }

    pub fn path_filestat_get(&mut self, fd: u32, follow: bool, path: PathArg, out: u32) -> Result {
        self.mem.check(out, 64)?;
        let (dir, _) = self.dir_target(fd)?;
        let path = self.path(path)?;
        let stat = match dir {
            Target::Host(handle) => self.host.stat_at(handle, &path, follow)?,
            Target::Volume(preopen, ino) => {
                let stat = self.volume(preopen)?.stat_at(ino, &path, follow)?;
                FileStat { ino: identity(preopen, stat.ino), ..stat }
            }
        };
        self.put_filestat(out, 1, &stat)
    }

    pub fn path_filestat_set_times(
        &mut self,
        fd: u32,
        follow: bool,
        path: PathArg,
        times: (NewTime, NewTime),
    ) -> Result {
        let dir = self.dir_target(fd)?;
        let path = self.path(path)?;
        match dir {
            (_, false) => Err(Errno::Perm),
            (Target::Host(handle), _) => self.host.set_times_at(handle, &path, follow, times.0, times.1),
            (Target::Volume(preopen, ino), _) => {
                let now = self.host.realtime();
                self.volume(preopen)?.set_times_at(ino, &path, follow, times, now)
            }
        }
    }

    /// A call that changes one directory: descriptor, then path, then permission, as the oracle checks.
    fn change(&mut self, fd: u32, path: PathArg) -> Result<(Target, String)> {
        self.ctx.table.dir(fd)?;
        let path = self.path(path)?;
        Ok((self.writable_dir(fd)?, path))
    }

    pub fn path_create_directory(&mut self, fd: u32, path: PathArg) -> Result {
        match self.change(fd, path)? {
            (Target::Host(handle), path) => self.host.create_directory(handle, &path),
            (Target::Volume(preopen, ino), path) => {
                let now = self.host.realtime();
                self.volume(preopen)?.create_directory(ino, &path, now)
            }
        }
    }

    pub fn path_remove_directory(&mut self, fd: u32, path: PathArg) -> Result {
        match self.change(fd, path)? {
            (Target::Host(handle), path) => self.host.remove_directory(handle, &path),
            (Target::Volume(preopen, ino), path) => {
                let now = self.host.realtime();
                self.volume(preopen)?.remove_directory(ino, &path, now)
            }
        }
    }

    pub fn path_unlink_file(&mut self, fd: u32, path: PathArg) -> Result {
        match self.change(fd, path)? {
            (Target::Host(handle), path) => self.host.unlink_file(handle, &path),
            (Target::Volume(preopen, ino), path) => {
                let now = self.host.realtime();
                self.volume(preopen)?.unlink_file(ino, &path, now)
            }
        }
    }

    pub fn path_symlink(&mut self, target: PathArg, fd: u32, path: PathArg) -> Result {
        self.ctx.table.dir(fd)?;
        let target = self.path(target)?;
        let (dir, path) = self.change(fd, path)?;
        if target.starts_with('/') {
            return Err(Errno::Perm);
        }
        match dir {
            Target::Host(handle) => self.host.symlink(&target, handle, &path),
            Target::Volume(preopen, ino) => {
                let now = self.host.realtime();
                self.volume(preopen)?.symlink(&target, ino, &path, now)
            }
        }
    }

    pub fn path_readlink(&mut self, fd: u32, path: PathArg, buf: u32, len: u32, out: u32) -> Result {
        self.mem.check(out, 4)?;
        let (dir, _) = self.dir_target(fd)?;
        let path = self.path(path)?;
        let target = match dir {
            Target::Host(handle) => self.host.read_link(handle, &path)?,
            Target::Volume(preopen, ino) => self.volume(preopen)?.read_link(ino, &path)?,
        };
        let bytes = &target.as_bytes()[..target.len().min(len as usize)];
        self.mem.write(buf, bytes)?;
        self.mem.write_u32(out, bytes.len() as u32)
    }

    /// The two directories of `path_link` and `path_rename`, and their paths.
    fn change_two(&mut self, old: (u32, PathArg), new: (u32, PathArg)) -> Result<((Target, String), (Target, String))> {
        self.ctx.table.dir(old.0)?;
        self.ctx.table.dir(new.0)?;
        let (old_path, new_path) = (self.path(old.1)?, self.path(new.1)?);
        Ok(((self.writable_dir(old.0)?, old_path), (self.writable_dir(new.0)?, new_path)))
    }

    pub fn path_link(&mut self, old_fd: u32, follow: bool, old: PathArg, new_fd: u32, new: PathArg) -> Result {
        let pair = self.change_two((old_fd, old), (new_fd, new))?;
        if follow {
            return Err(Errno::Inval);
        }
        match pair {
            ((Target::Host(from), old), (Target::Host(to), new)) => self.host.link(from, &old, to, &new),
            ((Target::Volume(a, from), old), (Target::Volume(b, to), new)) if a == b => {
                let now = self.host.realtime();
                self.volume(a)?.link(from, &old, to, &new, now)
            }
            _ => Err(Errno::Xdev),
        }
    }

    pub fn path_rename(&mut self, old_fd: u32, old: PathArg, new_fd: u32, new: PathArg) -> Result {
        match self.change_two((old_fd, old), (new_fd, new))? {
            ((Target::Host(from), old), (Target::Host(to), new)) => self.host.rename(from, &old, to, &new),
            ((Target::Volume(a, from), old), (Target::Volume(b, to), new)) if a == b => {
                let now = self.host.realtime();
                self.volume(a)?.rename(from, &old, to, &new, now)
            }
            _ => Err(Errno::Xdev),
        }
    }

    /// Gives out the entries after `cookie` until the buffer is full; the last one may be cut short, which tells the
    /// guest that there is more. Cookie n names the nth entry, 1 being `.` and 2 `..`.
    pub fn fd_readdir(&mut self, fd: u32, buf: u32, len: u32, cookie: u64, out: u32) -> Result {
        self.mem.check(out, 4)?;
        let (target, _) = self.dir_target(fd)?;
        let own = self.stat(target)?.ino;
        if cookie == 0 || self.ctx.table.dir(fd)?.listing.is_none() {
            let mut entries = match target {
                Target::Host(handle) => self.host.read_dir(handle)?,
                Target::Volume(preopen, ino) => {
                    let mut entries = self.volume(preopen)?.read_dir(ino)?;
                    entries.iter_mut().for_each(|entry| entry.ino = identity(preopen, entry.ino));
                    entries
                }
            };
            // Hosts list in orders of their own; a fixed one lets a cookie mean the same on the next host.
            entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            self.dir_mut(fd)?.listing = Some(entries);
        }
        let Descriptor::Dir(Dir { listing: Some(listing), .. }) = self.ctx.table.get(fd)? else {
            return Err(Errno::Badf);
        };
        let dot = |name: &str| DirEntry { ino: own, filetype: Filetype::Directory, name: name.into() };
        let head = [dot("."), dot("..")];
        let skip = usize::try_from(cookie).map_err(|_| Errno::Overflow)?;
        let mut at = buf;
        let mut room = len;
        for (entry, next) in head.iter().chain(listing).zip(1_u64..).skip(skip) {
            let mut dirent = [0; DIRENT as usize];
            dirent[0..8].copy_from_slice(&next.to_le_bytes());
            dirent[8..16].copy_from_slice(&entry.ino.to_le_bytes());
            dirent[16..20].copy_from_slice(&(entry.name.len() as u32).to_le_bytes());
            dirent[20] = entry.filetype as u8;
            for part in [&dirent[..], entry.name.as_bytes()] {
                let part = &part[..part.len().min(room as usize)];
                self.mem.write(at, part)?;
                room -= part.len() as u32;
                at = at.wrapping_add(part.len() as u32);
            }
            if room == 0 {
                break;
            }
        }
        if room > 0 {
            // The guest has seen the end.
            self.dir_mut(fd)?.listing = None;
        }
        self.mem.write_u32(out, len - room)
    }

    fn dir_mut(&mut self, fd: u32) -> Result<&mut Dir> {
        match self.ctx.table.get_mut(fd)? {
            Descriptor::Dir(dir) => Ok(dir),
            _ => Err(Errno::Badf),
        }
    }
}
