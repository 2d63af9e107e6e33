//! The calls of a volume that take paths.

use alloc::string::{String, ToString};

use super::content::Content;
use super::{Kind, ROOT, Result, Volume};
use crate::Errno;
use crate::host::{FileStat, NewTime, OpenOptions};
use crate::paths::{self, Resolved, Step, Tree};
use crate::types::Filetype;

/// Most names a file may have, as on ext4.
const LINKS_MAX: u64 = 65_000;

impl Tree for Volume {
    type Node = u64;

    fn step(&self, dir: &u64, name: &str) -> Result<Step<u64>> {
        let ino = *self.entries(*dir)?.get(name).ok_or(Errno::Noent)?;
        Ok(match &self.node(ino)?.kind {
            Kind::Directory(_) => Step::Directory(ino),
            Kind::Symlink(target) => Step::Symlink(target.clone()),
            Kind::File(_) => Step::Other,
        })
    }
}

/// What the last name of a path may be for the calls that act on a name, not on a file.
struct Place<'a> {
    dir: u64,
    /// `.` if the path means the directory itself.
    name: &'a str,
}

impl Volume {
    fn child(&self, dir: u64, name: &str) -> Result<Option<u64>> {
        Ok(self.entries(dir)?.get(name).copied())
    }

    /// The file at `path`, which must exist.
    pub(super) fn lookup(&self, start: u64, path: &str, follow: bool) -> Result<u64> {
        let Resolved { dir, name, slash } = paths::resolve(self, start, path, follow)?;
        let ino = match name {
            None => dir,
            Some(name) => self.child(dir, &name)?.ok_or(Errno::Noent)?,
        };
        if slash && self.filetype(ino)? != Filetype::Directory {
            return Err(Errno::Notdir);
        }
        Ok(ino)
    }

    fn place<'a>(&self, start: u64, path: &'a str) -> Result<Place<'a>> {
        let (parent, name) = paths::split_parent(path)?;
        let dir = if parent.is_empty() { start } else { self.lookup(start, parent, true)? };
        if self.filetype(dir)? != Filetype::Directory {
            return Err(Errno::Notdir);
        }
        if name.len() > paths::NAME_MAX {
            return Err(Errno::Nametoolong);
        }
        Ok(Place { dir, name })
    }

    /// The file at a place; `.` is the directory itself.
    fn at(&self, place: &Place<'_>) -> Result<u64> {
        match place.name {
            "." => Ok(place.dir),
            name => self.child(place.dir, name)?.ok_or(Errno::Noent),
        }
    }

    /// Gives `ino` the name, which must be free.
    pub(super) fn insert(&mut self, dir: u64, name: &str, ino: u64, now: u64) -> Result<()> {
        let inode = self.node_mut(dir)?;
        if inode.links == 0 {
            // The directory was removed while open: nothing can be made in it any more.
            return Err(Errno::Noent);
        }
        let Kind::Directory(entries) = &mut inode.kind else {
            return Err(Errno::Notdir);
        };
        entries.insert(name.to_string(), ino);
        inode.mtim = now;
        self.node_mut(ino)?.links += 1;
        Ok(())
    }

    /// Takes the name away, and the file with it if that was its last hold.
    fn remove(&mut self, dir: u64, name: &str, now: u64) -> Result<()> {
        let inode = self.node_mut(dir)?;
        let Kind::Directory(entries) = &mut inode.kind else {
            return Err(Errno::Notdir);
        };
        let ino = entries.remove(name).ok_or(Errno::Noent)?;
        inode.mtim = now;
        self.node_mut(ino)?.links -= 1;
        self.collect(ino);
        Ok(())
    }

    /// Makes a file of `kind` at a free place.
    fn create(&mut self, dir: u64, name: &str, kind: Kind, now: u64) -> Result<u64> {
        if self.node(dir)?.links == 0 {
            return Err(Errno::Noent);
        }
        if self.room == 0 {
            return Err(Errno::Nospc);
        }
        if self.room != u64::MAX {
            self.room -= 1;
        }
        let ino = self.add(kind, now);
        self.insert(dir, name, ino, now)?;
        Ok(ino)
    }

    pub(crate) fn open(&mut self, start: u64, path: &str, options: OpenOptions, now: u64) -> Result<(u64, Filetype)> {
        let new = options.create && options.exclusive;
        let Resolved { dir, name, slash } = paths::resolve(self, start, path, options.follow && !new)?;
        let found = match &name {
            None => Some(dir),
            Some(name) => self.child(dir, name)?,
        };
        let (ino, filetype) = match (found, name) {
            (Some(_), _) if new => return Err(Errno::Exist),
            (Some(ino), _) => (ino, self.filetype(ino)?),
            (None, Some(name)) if options.create && !slash => {
                (self.create(dir, &name, Kind::File(Content::default()), now)?, Filetype::RegularFile)
            }
            (None, _) if options.create => return Err(Errno::Isdir),
            (None, _) => return Err(Errno::Noent),
        };
        match filetype {
            Filetype::SymbolicLink => return Err(Errno::Loop),
            Filetype::Directory if options.write => return Err(Errno::Isdir),
            Filetype::Directory => {}
            _ if slash => return Err(Errno::Notdir),
            _ if options.truncate => self.set_size(ino, 0, now)?,
            _ => {}
        }
        Ok((ino, filetype))
    }

    pub(crate) fn stat_at(&self, start: u64, path: &str, follow: bool) -> Result<FileStat> {
        self.stat(self.find(start, path, follow)?)
    }

    /// As [`Volume::lookup`], but a single name that is not to be followed is taken as it is, slash or not.
    fn find(&self, start: u64, path: &str, follow: bool) -> Result<u64> {
        match paths::single_component(path) {
            Some(name) if !follow => {
                paths::check(path)?;
                self.child(start, name)?.ok_or(Errno::Noent)
            }
            _ => self.lookup(start, path, follow),
        }
    }

    pub(crate) fn set_times_at(
        &mut self,
        start: u64,
        path: &str,
        follow: bool,
        times: (NewTime, NewTime),
        now: u64,
    ) -> Result<()> {
        let ino = if follow { self.lookup(start, path, true)? } else { self.at(&self.place(start, path)?)? };
        self.set_times(ino, times.0, times.1, now)
    }

    pub(crate) fn create_directory(&mut self, start: u64, path: &str, now: u64) -> Result<()> {
        let Place { dir, name } = self.place(start, paths::strip_slashes(path))?;
        if name == "." || self.child(dir, name)?.is_some() {
            return Err(Errno::Exist);
        }
        self.create(dir, name, Kind::Directory(Default::default()), now)?;
        Ok(())
    }

    pub(crate) fn symlink(&mut self, target: &str, start: u64, path: &str, now: u64) -> Result<()> {
        paths::check(target)?;
        let Place { dir, name } = self.place(start, path)?;
        if name == "." || self.child(dir, name)?.is_some() {
            return Err(Errno::Exist);
        }
        self.create(dir, name, Kind::Symlink(target.to_string()), now)?;
        Ok(())
    }

    pub(crate) fn read_link(&self, start: u64, path: &str) -> Result<String> {
        match &self.node(self.at(&self.place(start, path)?)?)?.kind {
            Kind::Symlink(target) if target.starts_with('/') => Err(Errno::Perm),
            Kind::Symlink(target) => Ok(target.clone()),
            _ => Err(Errno::Inval),
        }
    }

    pub(crate) fn link(&mut self, old_start: u64, old: &str, new_start: u64, new: &str, now: u64) -> Result<()> {
        let old = self.place(old_start, old)?;
        let Place { dir, name } = self.place(new_start, new)?;
        let ino = self.at(&old)?;
        if name == "." || self.child(dir, name)?.is_some() {
            return Err(Errno::Exist);
        }
        if self.filetype(ino)? == Filetype::Directory {
            return Err(Errno::Perm);
        }
        if self.node(ino)?.links >= LINKS_MAX {
            return Err(Errno::Mlink);
        }
        self.insert(dir, name, ino, now)
    }

    pub(crate) fn unlink_file(&mut self, start: u64, path: &str, now: u64) -> Result<()> {
        let place = self.place(start, path)?;
        if self.filetype(self.at(&place)?)? == Filetype::Directory {
            return Err(Errno::Isdir);
        }
        self.remove(place.dir, place.name, now)
    }

    pub(crate) fn remove_directory(&mut self, start: u64, path: &str, now: u64) -> Result<()> {
        let place = self.place(start, path)?;
        if place.name == "." {
            return Err(Errno::Inval);
        }
        if !self.entries(self.at(&place)?)?.is_empty() {
            return Err(Errno::Notempty);
        }
        self.remove(place.dir, place.name, now)
    }

    pub(crate) fn rename(&mut self, old_start: u64, old: &str, new_start: u64, new: &str, now: u64) -> Result<()> {
        let must_be_directory = old.ends_with('/') || new.ends_with('/');
        let old = self.place(old_start, paths::strip_slashes(old))?;
        let new = self.place(new_start, paths::strip_slashes(new))?;
        if old.name == "." || new.name == "." {
            return Err(Errno::Busy);
        }
        let ino = self.at(&old)?;
        let is_directory = self.filetype(ino)? == Filetype::Directory;
        if must_be_directory && !is_directory {
            return Err(Errno::Notdir);
        }
        if is_directory && self.contains(ino, new.dir) {
            return Err(Errno::Inval);
        }
        if self.node(new.dir)?.links == 0 {
            return Err(Errno::Noent);
        }
        if let Some(target) = self.child(new.dir, new.name)? {
            if target == ino {
                // Two names of one file: POSIX says that nothing happens.
                return Ok(());
            }
            if self.contains(target, old.dir) {
                return Err(Errno::Notempty);
            }
            match self.entries(target) {
                Ok(_) if !is_directory => return Err(Errno::Isdir),
                Ok(entries) if !entries.is_empty() => return Err(Errno::Notempty),
                Ok(_) => {}
                Err(_) if is_directory => return Err(Errno::Notdir),
                Err(_) => {}
            }
            self.remove(new.dir, new.name, now)?;
        }
        // The new name first, so that the file never is without one.
        self.insert(new.dir, new.name, ino, now)?;
        self.remove(old.dir, old.name, now)
    }

    /// Whether directory `inner` is `outer` or lies below it.
    fn contains(&self, outer: u64, inner: u64) -> bool {
        let mut to_visit = alloc::vec![outer];
        while let Some(ino) = to_visit.pop() {
            if ino == inner {
                return true;
            }
            if inner == ROOT {
                return false;
            }
            if let Ok(entries) = self.entries(ino) {
                to_visit.extend(entries.values().filter(|ino| self.entries(**ino).is_ok()));
            }
        }
        false
    }
}
