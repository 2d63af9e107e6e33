//! Volumes from and to directories of a Linux host.
//!
//! Storing replaces file by file: the new content goes to a temporary name in the same directory, to the disk, and then
//! over the old name, so that a crash leaves every file either old or new. Files that are equal already are not
//! touched. Names the task has removed are removed if they came from a host directory in the first place; what others
//! have put there meanwhile stays.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno as Os;

use super::content::Content;
use super::{Kind, PAGE_SIZE, ROOT, Volume};
use crate::paths;

/// Why a volume could not be loaded or stored.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// The host said no.
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// A name or the content of a symbolic link is not UTF-8, which guests could not read.
    NotUtf8 {
        /// Where.
        path: PathBuf,
    },
    /// A device, pipe or socket, which cannot move.
    Special {
        /// Where.
        path: PathBuf,
    },
}

impl core::fmt::Display for StoreError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Io { path, source } => write!(f, "{}: {source}", path.display()),
            Self::NotUtf8 { path } => write!(f, "{}: not UTF-8, so it cannot be in a volume", path.display()),
            Self::Special { path } => {
                write!(f, "{}: neither file, directory nor link, so it cannot be in a volume", path.display())
            }
        }
    }
}

impl core::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

type Result<T> = core::result::Result<T, StoreError>;

/// A host directory and the names in it, for errors.
struct Place<'a> {
    base: &'a Path,
    dir: OwnedFd,
    /// Of the directory within the volume; empty for its root.
    inner: &'a str,
}

impl Place<'_> {
    fn open<'a>(base: &'a Path, inner: &'a str) -> Result<Place<'a>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // Beneath the base each directory was seen to be one, so a link here is somebody else's doing.
        let nofollow = if inner.is_empty() { OFlags::empty() } else { OFlags::NOFOLLOW };
        let full = base.join(inner);
        match rustix::fs::open(&full, flags | nofollow, Mode::empty()) {
            Ok(dir) => Ok(Place { base, dir, inner }),
            Err(source) => Err(StoreError::Io { path: full, source: source.into() }),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.join(self.inner).join(name)
    }

    fn io<T>(&self, name: &str, result: rustix::io::Result<T>) -> Result<T> {
        result.map_err(|source| StoreError::Io { path: self.path(name), source: source.into() })
    }

    fn stat(&self, name: &str) -> Result<Option<Stat>> {
        match rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Os::NOENT) => Ok(None),
            Err(source) => self.io(name, Err(source)),
        }
    }
}

fn inner_path(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_string() } else { paths::join(dir, name) }
}

fn nanoseconds(sec: i64, nsec: u64) -> u64 {
    u64::try_from(sec).unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(nsec)
}

impl Volume {
    /// Reads a directory and all below it. Links are taken as links.
    ///
    /// # Errors
    /// See [`StoreError`]; nothing has been changed then.
    pub fn load_dir(base: &Path) -> Result<Volume> {
        let mut volume = Volume::new();
        let mut linked: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        let mut to_visit = alloc::vec![(String::new(), ROOT)];
        while let Some((inner, ino)) = to_visit.pop() {
            let place = Place::open(base, &inner)?;
            let entries = place.io("", rustix::fs::Dir::read_from(&place.dir))?;
            for entry in entries {
                let entry = place.io("", entry)?;
                let name = match entry.file_name().to_str() {
                    Ok("." | "..") => continue,
                    Ok(name) => name,
                    Err(_) => {
                        let path = place.path(&entry.file_name().to_string_lossy());
                        return Err(StoreError::NotUtf8 { path });
                    }
                };
                let Some(stat) = place.stat(name)? else {
                    continue;
                };
                let child = volume.load(&place, name, &stat, &mut linked)?;
                // The directory is new and the name occurs in it once, so this cannot fail.
                let _ = volume.insert(ino, name, child, 0);
                let path = inner_path(&inner, name);
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    to_visit.push((path.clone(), child));
                }
                volume.loaded.insert(path);
            }
            let stat = place.io("", rustix::fs::fstat(&place.dir))?;
            if let Some(inode) = volume.nodes.get_mut(&ino) {
                inode.mtim = nanoseconds(stat.st_mtime, stat.st_mtime_nsec);
            }
        }
        Ok(volume)
    }

    fn load(
        &mut self,
        place: &Place<'_>,
        name: &str,
        stat: &Stat,
        linked: &mut BTreeMap<(u64, u64), u64>,
    ) -> Result<u64> {
        let key = (stat.st_dev, stat.st_ino);
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory(BTreeMap::new()),
            FileType::Symlink => {
                let target = place.io(name, rustix::fs::readlinkat(&place.dir, name, Vec::new()))?;
                match target.into_string() {
                    Ok(target) => Kind::Symlink(target),
                    Err(_) => {
                        return Err(StoreError::NotUtf8 { path: place.path(name) });
                    }
                }
            }
            FileType::RegularFile => match linked.get(&key) {
                Some(ino) => return Ok(*ino),
                None => Kind::File(load_content(place, name)?),
            },
            _ => {
                return Err(StoreError::Special { path: place.path(name) });
            }
        };
        let is_file = matches!(kind, Kind::File(_));
        let ino = self.add(kind, nanoseconds(stat.st_mtime, stat.st_mtime_nsec));
        if is_file {
            linked.insert(key, ino);
        }
        Ok(ino)
    }

    /// Makes the directory hold what the volume holds; it is created if it is missing.
    ///
    /// # Errors
    /// See [`StoreError`]. Every file is then either as before or as in the volume.
    pub fn store_dir(&self, base: &Path) -> Result<()> {
        std::fs::create_dir_all(base).map_err(|source| StoreError::Io { path: base.into(), source })?;
        // In reverse order what is in a directory comes before it.
        for path in self.loaded.iter().rev() {
            if self.lookup(ROOT, path, false).is_err() {
                remove_stale(base, path);
            }
        }
        let mut stored: BTreeMap<u64, String> = BTreeMap::new();
        let mut to_visit = alloc::vec![(String::new(), ROOT)];
        while let Some((inner, dir)) = to_visit.pop() {
            let place = Place::open(base, &inner)?;
            let Ok(entries) = self.entries(dir) else {
                continue;
            };
            for (name, &ino) in entries {
                let Some(inode) = self.nodes.get(&ino) else {
                    continue;
                };
                let path = inner_path(&inner, name);
                match &inode.kind {
                    Kind::Directory(_) => {
                        store_directory(&place, name)?;
                        to_visit.push((path, ino));
                    }
                    Kind::Symlink(target) => store_symlink(&place, name, target)?,
                    Kind::File(content) => match stored.get(&ino) {
                        Some(first) => store_link(&place, name, &base.join(first))?,
                        None => {
                            store_file(&place, name, content, (inode.atim, inode.mtim))?;
                            stored.insert(ino, path);
                        }
                    },
                }
            }
            place.io("", rustix::fs::fsync(&place.dir))?;
        }
        Ok(())
    }
}

fn load_content(place: &Place<'_>, name: &str) -> Result<Content> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = place.io(name, rustix::fs::openat(&place.dir, name, flags, Mode::empty()))?;
    let mut content = Content::default();
    let mut buf = alloc::vec![0; 64 * PAGE_SIZE];
    let (mut offset, mut room) = (0, u64::MAX);
    loop {
        offset = place.io(name, next_data(&file, offset))?;
        let got = match rustix::io::pread(&file, &mut buf, offset) {
            Ok(0) => {
                let end = content.size().max(offset);
                return match content.set_size(end) {
                    Ok(_) => Ok(content),
                    Err(_) => place.io(name, Err(Os::FBIG)),
                };
            }
            Err(Os::INTR) => continue,
            got => place.io(name, got)?,
        };
        let written = content.write(&buf[..got], offset, &mut room);
        if written != Ok(got) {
            return place.io(name, Err(Os::FBIG));
        }
        offset += got as u64;
    }
}

/// Where the next bytes are that are not in a hole, or the end of the file. Files can be mostly holes, and reading
/// those costs as much as reading data.
fn next_data(file: &OwnedFd, offset: u64) -> rustix::io::Result<u64> {
    use rustix::fs::{SeekFrom, seek};
    match seek(file, SeekFrom::Data(offset)) {
        Err(Os::NXIO) => Ok(seek(file, SeekFrom::End(0))?.max(offset)),
        // A file system without holes.
        Err(Os::INVAL | Os::NOTSUP) => Ok(offset),
        found => found,
    }
}

/// Removes a name that the volume no longer has. One that others still need (a directory with files of theirs in it, or
/// something of another kind by now) stays, which is no error.
fn remove_stale(base: &Path, path: &str) {
    let (inner, name) = path.rsplit_once('/').unwrap_or(("", path));
    let Ok(place) = Place::open(base, inner) else {
        return;
    };
    if rustix::fs::unlinkat(&place.dir, name, AtFlags::empty()) == Err(Os::ISDIR) {
        let _ = rustix::fs::unlinkat(&place.dir, name, AtFlags::REMOVEDIR);
    }
}

fn store_directory(place: &Place<'_>, name: &str) -> Result<()> {
    match place.stat(name)? {
        Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => return Ok(()),
        Some(_) => place.io(name, rustix::fs::unlinkat(&place.dir, name, AtFlags::empty()))?,
        None => {}
    }
    place.io(name, rustix::fs::mkdirat(&place.dir, name, Mode::from_raw_mode(0o777)))
}

/// A name that no volume can hold together with the file it stands for: it is replaced by the rename at once.
fn temporary(name: &str) -> String {
    let short: String = name.chars().take(40).collect();
    alloc::format!(".{short}.wayfare-{}", std::process::id())
}

/// Puts what `make` makes under a temporary name in the place of `name`.
fn replace(place: &Place<'_>, name: &str, make: impl FnOnce(&str) -> rustix::io::Result<()>) -> Result<()> {
    let temporary = temporary(name);
    // Left over from a crash of a process with this number.
    let _ = rustix::fs::unlinkat(&place.dir, &temporary, AtFlags::empty());
    let made = make(&temporary).and_then(|()| rustix::fs::renameat(&place.dir, &temporary, &place.dir, name));
    if made.is_err() {
        let _ = rustix::fs::unlinkat(&place.dir, &temporary, AtFlags::empty());
    }
    // Renaming one link of a file over another does nothing and leaves both.
    let _ = rustix::fs::unlinkat(&place.dir, &temporary, AtFlags::empty());
    place.io(name, made)
}

fn store_symlink(place: &Place<'_>, name: &str, target: &str) -> Result<()> {
    match rustix::fs::readlinkat(&place.dir, name, Vec::new()) {
        Ok(present) if present.to_bytes() == target.as_bytes() => Ok(()),
        _ => replace(place, name, |temporary| rustix::fs::symlinkat(target, &place.dir, temporary)),
    }
}

fn store_link(place: &Place<'_>, name: &str, first: &Path) -> Result<()> {
    replace(place, name, |temporary| {
        rustix::fs::linkat(rustix::fs::CWD, first, &place.dir, temporary, AtFlags::empty())
    })
}

fn store_file(place: &Place<'_>, name: &str, content: &Content, times: (u64, u64)) -> Result<()> {
    let present = place.stat(name)?;
    let is_file = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    let present = present.filter(is_file);
    if present.is_some_and(|stat| stat.st_size as u64 == content.size()) && is_equal(place, name, content) {
        return Ok(());
    }
    let mode = present.map_or(0o666, |stat| stat.st_mode & 0o7777);
    replace(place, name, |temporary| {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&place.dir, temporary, flags, Mode::from_raw_mode(mode))?;
        if present.is_some() {
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        }
        for (&index, page) in content.pages() {
            let start = index * PAGE_SIZE as u64;
            let len = usize::try_from(content.size() - start).unwrap_or(usize::MAX).min(PAGE_SIZE);
            write_all(&file, &page[..len], start)?;
        }
        rustix::fs::ftruncate(&file, content.size())?;
        let time = |at: u64| Timespec { tv_sec: (at / 1_000_000_000) as i64, tv_nsec: (at % 1_000_000_000) as _ };
        rustix::fs::futimens(&file, &Timestamps { last_access: time(times.0), last_modification: time(times.1) })?;
        rustix::fs::fsync(&file)
    })
}

fn write_all(file: impl AsFd, mut bytes: &[u8], mut offset: u64) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(&file, bytes, offset) {
            Ok(0) => return Err(Os::IO),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(Os::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Whether the host's file, of equal size, holds this content. If it cannot be read it counts as different.
fn is_equal(place: &Place<'_>, name: &str, content: &Content) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(&place.dir, name, flags, Mode::empty()) else {
        return false;
    };
    let (mut ours, mut theirs) = (alloc::vec![0; 64 * PAGE_SIZE], alloc::vec![0; 64 * PAGE_SIZE]);
    let mut same = |offset| match rustix::io::pread(&file, &mut theirs, offset) {
        Ok(got @ 1..) if content.read(&mut ours[..got], offset) == got && ours[..got] == theirs[..got] => Some(got),
        _ => None,
    };
    // Where they have data, and where we have: the rest is a hole on both sides.
    let mut offset = 0;
    loop {
        match next_data(&file, offset) {
            Ok(at) if at >= content.size() => break,
            Ok(at) => match same(at) {
                Some(got) => offset = at + got as u64,
                None => return false,
            },
            Err(_) => return false,
        }
    }
    let mut done = 0;
    for start in content.pages().keys().map(|index| index * PAGE_SIZE as u64) {
        if start >= done {
            match same(start) {
                Some(got) => done = start + got as u64,
                None => return false,
            }
        }
    }
    true
}
