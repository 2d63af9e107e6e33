//! Opening beneath a directory and nowhere else: the sandbox of host directories.
//!
//! `openat2` with `RESOLVE_BENEATH` lets the kernel keep the promise in one step. It is missing on Linux before 5.6
//! and in some seccomp sandboxes (which answer `EPERM` or `ENOSYS`); there the path is walked component by component,
//! never following a link that was not read first.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::string::ToString;
use std::vec::Vec;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno as Os;

use super::errors::errno;
use super::files::filetype;
use crate::Errno;
use crate::paths::{self, Step, Tree};
use crate::types::Filetype;

type Result<T> = core::result::Result<T, Errno>;

/// How to resolve; `Copy`, since it is only a choice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beneath {
    /// Whether to try `openat2`; tests switch it off.
    pub openat2: bool,
}

impl Default for Beneath {
    fn default() -> Self {
        Self { openat2: true }
    }
}

/// `openat2` fails with `EAGAIN` when something is renamed anywhere at that moment.
const ATTEMPTS: usize = 4;

/// The directory to act in and the name in it, for calls that must not follow the last component.
pub(super) struct Parent<'a> {
    start: BorrowedFd<'a>,
    opened: Option<OwnedFd>,
    pub name: &'a str,
}

impl Parent<'_> {
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.opened.as_ref().map_or(self.start, AsFd::as_fd)
    }
}

impl Beneath {
    /// Opens `path` beneath `dir`. A path that leads out is `perm`.
    pub fn open(self, dir: BorrowedFd<'_>, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
        paths::check(path)?;
        let flags = flags | OFlags::CLOEXEC;
        let mode = if flags.contains(OFlags::CREATE) { mode } else { Mode::empty() };
        if self.openat2 {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
            for _ in 0..ATTEMPTS {
                match rustix::fs::openat2(dir, path, flags, mode, resolve) {
                    Ok(fd) => return Ok(fd),
                    Err(Os::XDEV) => return Err(Errno::Perm),
                    Err(Os::AGAIN | Os::INTR) => {}
                    Err(Os::PERM | Os::NOSYS) => break,
                    Err(e) => return Err(errno(e)),
                }
            }
        }
        walk(dir, path, flags, mode)
    }

    /// Opens the directory that holds the last component of `path`.
    pub fn parent<'a>(self, dir: BorrowedFd<'a>, path: &'a str) -> Result<Parent<'a>> {
        let (parent, name) = paths::split_parent(path)?;
        let opened = match parent {
            "" => None,
            parent => Some(self.open(dir, parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?),
        };
        Ok(Parent { start: dir, opened, name })
    }
}

/// The file tree of the host, one component at a time.
struct HostTree;

impl Tree for HostTree {
    type Node = Rc<OwnedFd>;

    fn step(&self, dir: &Rc<OwnedFd>, name: &str) -> Result<Step<Rc<OwnedFd>>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(errno)?;
        let stat = rustix::fs::fstat(&fd).map_err(errno)?;
        Ok(match filetype(stat.st_mode) {
            Filetype::Directory => Step::Directory(Rc::new(fd)),
            Filetype::SymbolicLink => {
                // Of the link that was opened, not of the name, which may be another link by now.
                let target = rustix::fs::readlinkat(&fd, "", Vec::new()).map_err(errno)?;
                Step::Symlink(target.to_str().map_err(|_| Errno::Ilseq)?.to_string())
            }
            _ => Step::Other,
        })
    }
}

fn walk(dir: BorrowedFd<'_>, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    let start = Rc::new(dir.try_clone_to_owned().map_err(|_| Errno::Mfile)?);
    let new = flags.contains(OFlags::CREATE | OFlags::EXCL);
    let follow = !flags.contains(OFlags::NOFOLLOW) && !new;
    let found = paths::resolve(&HostTree, start, path, follow)?;
    let name = match &found.name {
        None => ".",
        Some(_) if found.slash && flags.contains(OFlags::CREATE) => return Err(Errno::Isdir),
        Some(name) => name,
    };
    let mut flags = flags | OFlags::NOFOLLOW;
    if found.slash {
        flags |= OFlags::DIRECTORY;
    }
    rustix::fs::openat(&*found.dir, name, flags, mode).map_err(errno)
}

/// Whether two descriptors mean the same file.
pub(super) fn is_same(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> bool {
    let identity = |fd| rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH).map(|stat| (stat.st_dev, stat.st_ino));
    matches!((identity(a), identity(b)), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// An outer directory with a secret, and the sandbox in it.
    fn sandbox() -> (tempfile::TempDir, OwnedFd) {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("sandbox");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(outer.path().join("secret"), "s").unwrap();
        fs::write(root.join("a/file"), "f").unwrap();
        symlink("../secret", root.join("up")).unwrap();
        symlink("a/../../secret", root.join("up-by-detour")).unwrap();
        symlink(outer.path().join("secret"), root.join("absolute")).unwrap();
        symlink("a", root.join("inside")).unwrap();
        symlink("../a/file", root.join("a/sideways")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("/proc/self/root", root.join("magic")).unwrap();
        let dir = rustix::fs::open(&root, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        (outer, dir)
    }

    #[test]
    fn no_path_leads_out_of_the_directory_with_or_without_openat2() {
        let (_outer, dir) = sandbox();
        for beneath in [Beneath { openat2: true }, Beneath { openat2: false }] {
            let check = |path: &str, flags: OFlags, expect: core::result::Result<(), Errno>| {
                let mode = Mode::from_raw_mode(0o666);
                let got = beneath.open(dir.as_fd(), path, flags, mode).map(|_| ());
                assert_eq!(got, expect, "{path} {flags:?} {beneath:?}");
            };
            let (read, nofollow) = (OFlags::RDONLY, OFlags::RDONLY | OFlags::NOFOLLOW);
            let create = OFlags::RDWR | OFlags::CREATE;
            check("..", read, Err(Errno::Perm));
            check("../secret", read, Err(Errno::Perm));
            check("a/../../secret", read, Err(Errno::Perm));
            check("a/b/../../../secret", read, Err(Errno::Perm));
            check("/etc/passwd", read, Err(Errno::Perm));
            check("up", read, Err(Errno::Perm));
            check("up", create, Err(Errno::Perm));
            check("up-by-detour", read, Err(Errno::Perm));
            check("absolute", read, Err(Errno::Perm));
            check("magic/etc/passwd", read, Err(Errno::Perm));
            check("up", nofollow, Err(Errno::Loop));
            check("absolute", nofollow, Err(Errno::Loop));
            check("dangling", read, Err(Errno::Noent));
            check("loop", read, Err(Errno::Loop));
            check("loop/x", read, Err(Errno::Loop));
            check("a/file", read, Ok(()));
            check("a/../a/./file", read, Ok(()));
            check("inside/file", read, Ok(()));
            check("inside/sideways", read, Ok(()));
            check("inside/", nofollow, Ok(()));
            check("inside", nofollow, Err(Errno::Loop));
            check("a/file/", read, Err(Errno::Notdir));
            check("a/file/x", read, Err(Errno::Notdir));
            check("a/..", read, Ok(()));
            check("", read, Err(Errno::Noent));
            check("new/", create, Err(Errno::Isdir));
            check("a", create, Err(Errno::Isdir));
            check("dangling", create | OFlags::EXCL, Err(Errno::Exist));
            check("a/file", create | OFlags::EXCL, Err(Errno::Exist));
        }
    }

    #[test]
    fn creating_through_a_dangling_link_stays_inside() {
        for openat2 in [true, false] {
            let (outer, dir) = sandbox();
            let flags = OFlags::RDWR | OFlags::CREATE;
            Beneath { openat2 }.open(dir.as_fd(), "dangling", flags, Mode::from_raw_mode(0o666)).unwrap();
            assert!(outer.path().join("sandbox/nowhere").exists());
        }
    }
}
