//! A volume: a file system in memory that belongs to a task and moves with it.
//!
//! Files, directories, symbolic and hard links, times, inode numbers; a file that is removed while it is open lives on
//! until it is closed, across moves too. There are no owners, no permission bits and no access times from reading
//! (they would dirty a page for nothing). Errors are those of Linux, as the oracle passes them on.

mod codec;
mod content;
mod names;
#[cfg(feature = "std")]
mod store;

use alloc::collections::BTreeMap;
use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

pub use content::PAGE_SIZE;
#[cfg(feature = "std")]
pub use store::StoreError;

use crate::Errno;
use crate::host::{DirEntry, FileStat, NewTime};
use crate::types::Filetype;
use content::Content;

type Result<T> = core::result::Result<T, Errno>;

/// The inode of a volume's own directory.
pub(crate) const ROOT: u64 = 1;

#[derive(Debug)]
enum Kind {
    File(Content),
    Directory(BTreeMap<String, u64>),
    Symlink(String),
}

#[derive(Debug)]
struct Inode {
    kind: Kind,
    /// How many names it has; the root counts as having one, and a directory has one at most.
    links: u64,
    /// How many descriptors have it open.
    opens: u64,
    /// Nanoseconds since the Unix epoch: last set access time, last modification, creation.
    atim: u64,
    mtim: u64,
    born: u64,
}

/// An in-memory file system that belongs to a task and moves with it.
///
/// It has files, directories, links, times and inode numbers, but no owners, no permission bits, and no access times
/// from reading. A file removed while it is open lives on until it is closed.
#[derive(Debug)]
pub struct Volume {
    nodes: BTreeMap<u64, Inode>,
    /// The next inode number; numbers are never used twice.
    next: u64,
    /// Pages of content that may still be added; a file, directory or link counts as one more page.
    room: u64,
    /// The paths that came from a host directory, so that storing can tell a file the task removed
    /// from one that somebody else put there.
    loaded: BTreeSet<String>,
}

impl Default for Volume {
    fn default() -> Self {
        Self::new()
    }
}

impl Volume {
    /// An empty volume that may grow without limit.
    pub fn new() -> Self {
        let root = Inode { kind: Kind::Directory(BTreeMap::new()), links: 1, opens: 0, atim: 0, mtim: 0, born: 0 };
        Self { nodes: BTreeMap::from([(ROOT, root)]), next: ROOT + 1, room: u64::MAX, loaded: BTreeSet::new() }
    }

    /// Limits it to `bytes`, in whole pages and including what is there; what would go past it gets `nospc`. Each file,
    /// directory and link counts as a page besides its content, or empty ones could fill the host's memory.
    #[must_use]
    pub fn with_limit(mut self, bytes: u64) -> Self {
        let present = self.page_count() + self.nodes.len() as u64 - 1;
        self.room = (bytes / PAGE_SIZE as u64).saturating_sub(present);
        self
    }

    /// The bytes of content it stores, in whole pages.
    pub fn stored_bytes(&self) -> u64 {
        self.page_count() * PAGE_SIZE as u64
    }

    /// Makes a file, with any directory missing on the way, or replaces the content of an existing one.
    ///
    /// # Errors
    /// As the calls of a guest that did the same.
    pub fn write_file(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        for (i, _) in path.match_indices('/') {
            match self.create_directory(ROOT, &path[..i], 0) {
                Ok(()) | Err(Errno::Exist) => {}
                Err(errno) => return Err(errno),
            }
        }
        let options = crate::OpenOptions {
            write: true,
            create: true,
            truncate: true,
            follow: true,
            ..crate::OpenOptions::default()
        };
        let (ino, _) = self.open(ROOT, path, options, 0)?;
        let mut done = 0;
        while done < bytes.len() {
            done += self.write(ino, &bytes[done..], done as u64, 0)?;
        }
        Ok(())
    }

    /// The content of a file.
    ///
    /// # Errors
    /// As the calls of a guest that did the same.
    pub fn read_file(&self, path: &str) -> Result<Vec<u8>> {
        let ino = self.lookup(ROOT, path, true)?;
        let content = self.file(ino).map_err(|_| Errno::Isdir)?;
        let mut bytes = alloc::vec![0; usize::try_from(content.size()).map_err(|_| Errno::Fbig)?];
        content.read(&mut bytes, 0);
        Ok(bytes)
    }

    fn page_count(&self) -> u64 {
        let pages = |inode: &Inode| match &inode.kind {
            Kind::File(content) => content.pages().len() as u64,
            _ => 0,
        };
        self.nodes.values().map(pages).sum()
    }

    fn node(&self, ino: u64) -> Result<&Inode> {
        self.nodes.get(&ino).ok_or(Errno::Badf)
    }

    fn node_mut(&mut self, ino: u64) -> Result<&mut Inode> {
        self.nodes.get_mut(&ino).ok_or(Errno::Badf)
    }

    fn file(&self, ino: u64) -> Result<&Content> {
        match &self.node(ino)?.kind {
            Kind::File(content) => Ok(content),
            _ => Err(Errno::Badf),
        }
    }

    fn entries(&self, ino: u64) -> Result<&BTreeMap<String, u64>> {
        match &self.node(ino)?.kind {
            Kind::Directory(entries) => Ok(entries),
            _ => Err(Errno::Notdir),
        }
    }

    /// Counts a descriptor on `ino`.
    pub(crate) fn retain(&mut self, ino: u64) {
        if let Some(inode) = self.nodes.get_mut(&ino) {
            inode.opens += 1;
        }
    }

    /// Takes a descriptor off `ino`; one without a name goes away with its last descriptor.
    pub(crate) fn release(&mut self, ino: u64) {
        if let Some(inode) = self.nodes.get_mut(&ino) {
            inode.opens = inode.opens.saturating_sub(1);
            self.collect(ino);
        }
    }

    fn collect(&mut self, ino: u64) {
        if !self.nodes.get(&ino).is_some_and(|inode| inode.links == 0 && inode.opens == 0) {
            return;
        }
        if let Some(inode) = self.nodes.remove(&ino) {
            let pages = match &inode.kind {
                Kind::File(content) => content.pages().len() as u64,
                _ => 0,
            };
            self.room = self.room.saturating_add(pages + 1);
        }
    }

    fn add(&mut self, kind: Kind, now: u64) -> u64 {
        let ino = self.next;
        self.next += 1;
        self.nodes.insert(ino, Inode { kind, links: 0, opens: 0, atim: now, mtim: now, born: now });
        ino
    }

    pub(crate) fn filetype(&self, ino: u64) -> Result<Filetype> {
        Ok(match self.node(ino)?.kind {
            Kind::File(_) => Filetype::RegularFile,
            Kind::Directory(_) => Filetype::Directory,
            Kind::Symlink(_) => Filetype::SymbolicLink,
        })
    }

    pub(crate) fn stat(&self, ino: u64) -> Result<FileStat> {
        let inode = self.node(ino)?;
        let (nlink, size) = match &inode.kind {
            Kind::File(content) => (inode.links, content.size()),
            Kind::Symlink(target) => (inode.links, target.len() as u64),
            Kind::Directory(_) if inode.links == 0 => (0, 0),
            Kind::Directory(entries) => {
                let subdirectories = entries.values().filter(|ino| self.filetype(**ino) == Ok(Filetype::Directory));
                (2 + subdirectories.count() as u64, PAGE_SIZE as u64)
            }
        };
        Ok(FileStat {
            ino,
            filetype: self.filetype(ino)?,
            nlink,
            size,
            atim: inode.atim,
            mtim: inode.mtim,
            ctim: inode.born,
        })
    }

    pub(crate) fn read(&self, ino: u64, buf: &mut [u8], offset: u64) -> Result<usize> {
        Ok(self.file(ino)?.read(buf, offset))
    }

    pub(crate) fn write(&mut self, ino: u64, bytes: &[u8], offset: u64, now: u64) -> Result<usize> {
        let mut room = self.room;
        let inode = self.node_mut(ino)?;
        let Kind::File(content) = &mut inode.kind else {
            return Err(Errno::Badf);
        };
        let written = content.write(bytes, offset, &mut room)?;
        inode.mtim = now;
        if self.room != u64::MAX {
            self.room = room;
        }
        Ok(written)
    }

    pub(crate) fn set_size(&mut self, ino: u64, size: u64, now: u64) -> Result<()> {
        let inode = self.node_mut(ino)?;
        let Kind::File(content) = &mut inode.kind else {
            return Err(Errno::Badf);
        };
        let freed = content.set_size(size)?;
        inode.mtim = now;
        self.room = self.room.saturating_add(freed);
        Ok(())
    }

    pub(crate) fn set_times(&mut self, ino: u64, atim: NewTime, mtim: NewTime, now: u64) -> Result<()> {
        let inode = self.node_mut(ino)?;
        for (time, new) in [(&mut inode.atim, atim), (&mut inode.mtim, mtim)] {
            match new {
                NewTime::Keep => {}
                NewTime::Now => *time = now,
                NewTime::At(at) => *time = at,
            }
        }
        Ok(())
    }

    pub(crate) fn read_dir(&self, ino: u64) -> Result<Vec<DirEntry>> {
        let entry =
            |(name, &ino): (&String, &u64)| Ok(DirEntry { ino, filetype: self.filetype(ino)?, name: name.to_string() });
        self.entries(ino)?.iter().map(entry).collect()
    }

    /// One path of an inode, `None` if it has no name any more.
    pub(crate) fn path_of(&self, ino: u64) -> Option<String> {
        if ino == ROOT {
            return Some(".".to_string());
        }
        let mut to_visit = alloc::vec![(ROOT, String::new())];
        while let Some((dir, path)) = to_visit.pop() {
            for (name, &child) in self.entries(dir).ok()? {
                let child_path = if path.is_empty() { name.clone() } else { alloc::format!("{path}/{name}") };
                if child == ino {
                    return Some(child_path);
                }
                if self.filetype(child) == Ok(Filetype::Directory) {
                    to_visit.push((child, child_path));
                }
            }
        }
        None
    }
}
