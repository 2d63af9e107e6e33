//! A volume as bytes.
//!
//! ```text
//! next u64  room u64  inodes: list of
//!     ino u64  atim u64  mtim u64  born u64  kind u8
//!     kind 0, file:       size u64  pages: list of (index u64, 4096 bytes); pages of zeros are left out
//!     kind 1, directory:  list of (name str, ino u64)
//!     kind 2, symlink:    target str
//! loaded: list of str
//! ```
//! All lists ascend strictly. Link counts are not stored but counted.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec;

use super::content::{Content, Page};
use super::{Inode, Kind, PAGE_SIZE, ROOT, Volume};
use crate::Errno;
use crate::codec::{DecodeError, Reader, Writer};
use crate::paths;

type Result<T> = core::result::Result<T, DecodeError>;

const FILE: u8 = 0;
const DIRECTORY: u8 = 1;
const SYMLINK: u8 = 2;

impl Volume {
    pub(crate) fn encode(&self, w: &mut Writer) {
        w.u64(self.next);
        // Pages of zeros are left out, so the copy has that much more room.
        w.u64(self.room.saturating_add(self.page_count() - self.nonzero_pages()));
        w.len(self.nodes.len());
        for (&ino, inode) in &self.nodes {
            w.u64(ino);
            w.u64(inode.atim);
            w.u64(inode.mtim);
            w.u64(inode.born);
            match &inode.kind {
                Kind::File(content) => {
                    w.u8(FILE);
                    w.u64(content.size());
                    w.len(nonzero(content).count());
                    for (index, page) in nonzero(content) {
                        w.u64(index);
                        w.0.extend(page.as_slice());
                    }
                }
                Kind::Directory(entries) => {
                    w.u8(DIRECTORY);
                    w.len(entries.len());
                    for (name, &ino) in entries {
                        w.str(name);
                        w.u64(ino);
                    }
                }
                Kind::Symlink(target) => {
                    w.u8(SYMLINK);
                    w.str(target);
                }
            }
        }
        w.len(self.loaded.len());
        for path in &self.loaded {
            w.str(path);
        }
    }

    fn nonzero_pages(&self) -> u64 {
        let pages = |inode: &Inode| match &inode.kind {
            Kind::File(content) => nonzero(content).count() as u64,
            _ => 0,
        };
        self.nodes.values().map(pages).sum()
    }

    /// Reads a volume. Open counts are still 0 in it: the descriptors come later, and then [`Volume::check`].
    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let (next, room) = (r.u64()?, r.u64()?);
        let count = r.len(37)?;
        let mut nodes = BTreeMap::new();
        for _ in 0..count {
            let ino = ascending(&nodes, r.u64()?)?;
            let (atim, mtim, born) = (r.u64()?, r.u64()?, r.u64()?);
            let kind = match r.u8()? {
                FILE => Kind::File(decode_content(r)?),
                DIRECTORY => Kind::Directory(decode_entries(r)?),
                SYMLINK => {
                    let target = r.str()?;
                    // Absolute links may come from a host directory; a guest cannot make, follow or read one.
                    if matches!(paths::check(&target), Err(errno) if errno != Errno::Perm) {
                        return Err(DecodeError::Invalid("a symbolic link"));
                    }
                    Kind::Symlink(target)
                }
                _ => return Err(DecodeError::Invalid("the kind of a file in a volume")),
            };
            nodes.insert(ino, Inode { kind, links: 0, opens: 0, atim, mtim, born });
        }
        if nodes.last_key_value().is_none_or(|(last, _)| *last >= next) {
            return Err(DecodeError::Invalid("the next inode number"));
        }
        let mut loaded = BTreeSet::new();
        for path in r.list(4, Reader::str)? {
            if loaded.last().is_some_and(|last| *last >= path) || paths::check(&path).is_err() {
                return Err(DecodeError::Invalid("the loaded paths"));
            }
            loaded.insert(path);
        }
        let mut volume = Self { nodes, next, room, loaded };
        volume.count_links()?;
        Ok(volume)
    }

    /// Counts the names of every inode, and makes sure that the directories form one tree.
    fn count_links(&mut self) -> Result<()> {
        let root = self.nodes.get_mut(&ROOT).ok_or(DecodeError::Invalid("a volume without a root"))?;
        if !matches!(root.kind, Kind::Directory(_)) {
            return Err(DecodeError::Invalid("a volume's root"));
        }
        root.links = 1;
        let mut to_visit = vec![ROOT];
        while let Some(dir) = to_visit.pop() {
            let children: vec::Vec<u64> = match &self.nodes[&dir].kind {
                Kind::Directory(entries) => entries.values().copied().collect(),
                _ => continue,
            };
            for ino in children {
                let inode = self.nodes.get_mut(&ino).ok_or(DecodeError::Invalid("a name without a file"))?;
                if matches!(inode.kind, Kind::Directory(_)) {
                    if inode.links != 0 {
                        return Err(DecodeError::Invalid("a directory with two names"));
                    }
                    to_visit.push(ino);
                }
                inode.links += 1;
            }
        }
        // A directory that the walk has not reached was removed while open, and was empty then.
        let stray = |inode: &Inode| match &inode.kind {
            Kind::Directory(entries) => inode.links == 0 && !entries.is_empty(),
            _ => false,
        };
        if self.nodes.values().any(stray) {
            return Err(DecodeError::Invalid("a directory outside the tree"));
        }
        Ok(())
    }

    /// Whether every file has a name or a descriptor.
    pub(crate) fn check(&self) -> Result<()> {
        if self.nodes.values().any(|inode| inode.links == 0 && inode.opens == 0) {
            return Err(DecodeError::Invalid("a file with neither a name nor a descriptor"));
        }
        Ok(())
    }
}

fn nonzero(content: &Content) -> impl Iterator<Item = (u64, &Page)> {
    content.pages().iter().filter(|(_, page)| page.iter().any(|&b| b != 0)).map(|(&index, page)| (index, page))
}

fn ascending<V>(map: &BTreeMap<u64, V>, key: u64) -> Result<u64> {
    if map.last_key_value().is_some_and(|(last, _)| *last >= key) {
        return Err(DecodeError::Invalid("the order of numbers"));
    }
    Ok(key)
}

fn decode_content(r: &mut Reader<'_>) -> Result<Content> {
    let size = r.u64()?;
    let count = r.len(8 + PAGE_SIZE)?;
    let mut pages: BTreeMap<u64, Page> = BTreeMap::new();
    for _ in 0..count {
        let index = ascending(&pages, r.u64()?)?;
        let mut page = Box::new([0; PAGE_SIZE]);
        page.copy_from_slice(r.take(PAGE_SIZE)?);
        if page.iter().all(|&b| b == 0) {
            return Err(DecodeError::Invalid("a page of zeros"));
        }
        pages.insert(index, page);
    }
    Content::from_pages(size, pages).ok_or(DecodeError::Invalid("content beyond the end of a file"))
}

fn decode_entries(r: &mut Reader<'_>) -> Result<BTreeMap<String, u64>> {
    let count = r.len(12)?;
    let mut entries: BTreeMap<String, u64> = BTreeMap::new();
    for _ in 0..count {
        let (name, ino) = (r.str()?, r.u64()?);
        let plain = !name.is_empty()
            && name.len() <= paths::NAME_MAX
            && !name.contains(['/', '\0'])
            && name != "."
            && name != "..";
        if !plain || entries.last_key_value().is_some_and(|(last, _)| *last >= name) {
            return Err(DecodeError::Invalid("a name in a directory"));
        }
        entries.insert(name, ino);
    }
    Ok(entries)
}
