//! Files and directories of the host.

use std::num::NonZeroU64;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::string::{String, ToString};
use std::vec::Vec;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use super::beneath::Beneath;
use super::errors::errno;
use crate::Errno;
use crate::host::{Advice, DirEntry, FileStat, NewTime, OpenOptions};
use crate::paths;
use crate::types::Filetype;

type Result<T> = core::result::Result<T, Errno>;

/// Repeats a call that a signal has interrupted.
pub(super) fn retry<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(Errno::Intr) => {}
            other => return other,
        }
    }
}

pub(super) fn filetype(mode: u32) -> Filetype {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => Filetype::RegularFile,
        FileType::Directory => Filetype::Directory,
        FileType::Symlink => Filetype::SymbolicLink,
        FileType::CharacterDevice => Filetype::CharacterDevice,
        FileType::BlockDevice => Filetype::BlockDevice,
        _ => Filetype::Unknown,
    }
}

pub(super) fn open_at(
    beneath: Beneath,
    dir: BorrowedFd<'_>,
    path: &str,
    options: OpenOptions,
) -> Result<(OwnedFd, Filetype)> {
    let mut flags = match (options.read, options.write) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        _ => OFlags::RDONLY,
    };
    flags.set(OFlags::CREATE, options.create);
    flags.set(OFlags::EXCL, options.create && options.exclusive);
    flags.set(OFlags::TRUNC, options.truncate);
    flags.set(OFlags::NOFOLLOW, !options.follow);
    // A named pipe without a peer must not stop the host here, where no capture can interrupt it.
    flags |= OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = beneath.open(dir, path, flags, Mode::from_raw_mode(0o666))?;
    let stat = rustix::fs::fstat(&fd).map_err(errno)?;
    let filetype = filetype(stat.st_mode);
    Ok((fd, filetype))
}

fn statx(dir: BorrowedFd<'_>, path: &str, flags: AtFlags) -> Result<FileStat> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let stat = rustix::fs::statx(dir, path, flags, mask).map_err(errno)?;
    Ok(FileStat {
        ino: identity(&stat),
        filetype: filetype(stat.stx_mode.into()),
        nlink: stat.stx_nlink.into(),
        size: stat.stx_size,
        atim: nanoseconds(stat.stx_atime.tv_sec, stat.stx_atime.tv_nsec),
        mtim: nanoseconds(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        ctim: nanoseconds(stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec),
    })
}

/// Device and inode in one number. Mixed, so that the inodes of two file systems do not meet: guests see one device
/// only and take equal numbers for the same file.
fn identity(stat: &Statx) -> u64 {
    let device = (u64::from(stat.stx_dev_major) << 32) | u64::from(stat.stx_dev_minor);
    let mut mixed = stat.stx_ino ^ device.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    // The finisher of splitmix64: a bijection, so files of one device never collide.
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Nanoseconds since the epoch; 0 for times before it or beyond the range, as the oracle has it.
fn nanoseconds(sec: i64, nsec: u32) -> u64 {
    let sec = u64::try_from(sec).ok();
    sec.and_then(|sec| sec.checked_mul(1_000_000_000)?.checked_add(nsec.into())).unwrap_or(0)
}

pub(super) fn stat(fd: BorrowedFd<'_>) -> Result<FileStat> {
    statx(fd, "", AtFlags::EMPTY_PATH)
}

pub(super) fn stat_at(beneath: Beneath, dir: BorrowedFd<'_>, path: &str, follow: bool) -> Result<FileStat> {
    if let Some(name) = paths::single_component(path).filter(|_| !follow) {
        paths::check(path)?;
        return statx(dir, name, AtFlags::SYMLINK_NOFOLLOW);
    }
    let mut flags = OFlags::PATH;
    flags.set(OFlags::NOFOLLOW, !follow);
    let fd = beneath.open(dir, path, flags, Mode::empty())?;
    statx(std::os::fd::AsFd::as_fd(&fd), "", AtFlags::EMPTY_PATH)
}

pub(super) fn timestamps(atim: NewTime, mtim: NewTime) -> Result<Timestamps> {
    let time = |new| {
        Ok(match new {
            NewTime::Keep => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            NewTime::Now => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
            NewTime::At(at) => Timespec {
                tv_sec: i64::try_from(at / 1_000_000_000).map_err(|_| Errno::Overflow)?,
                tv_nsec: (at % 1_000_000_000) as _,
            },
        })
    };
    Ok(Timestamps { last_access: time(atim)?, last_modification: time(mtim)? })
}

pub(super) fn set_times_at(
    beneath: Beneath,
    dir: BorrowedFd<'_>,
    path: &str,
    follow: bool,
    times: &Timestamps,
) -> Result<()> {
    if !follow {
        let parent = beneath.parent(dir, path)?;
        return rustix::fs::utimensat(parent.dir(), parent.name, times, AtFlags::SYMLINK_NOFOLLOW).map_err(errno);
    }
    // Any way of opening will do to set times: for writing, as a file needs, then for reading, as a directory does.
    let open = |access| beneath.open(dir, path, access | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty());
    let fd = match open(OFlags::WRONLY) {
        Err(Errno::Acces | Errno::Isdir) => open(OFlags::RDONLY)?,
        other => other?,
    };
    rustix::fs::futimens(&fd, times).map_err(errno)
}

pub(super) fn append(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
    use rustix::io::ReadWriteFlags;
    let iov = [std::io::IoSlice::new(bytes)];
    let appended = retry(|| rustix::io::pwritev2(fd, &iov, 0, ReadWriteFlags::APPEND).map_err(errno));
    match appended {
        // Older kernels: find the end and write there, which is not atomic towards other writers of the file.
        Err(Errno::Notsup | Errno::Nosys) => {
            let end = rustix::fs::fstat(fd).map_err(errno)?.st_size;
            retry(|| rustix::io::pwrite(fd, bytes, u64::try_from(end).unwrap_or(0)).map_err(errno))
        }
        other => other,
    }
}

pub(super) fn advise(fd: BorrowedFd<'_>, offset: u64, len: u64, advice: Advice) -> Result<()> {
    use rustix::fs::Advice as Os;
    let advice = match advice {
        Advice::Normal => Os::Normal,
        Advice::Sequential => Os::Sequential,
        Advice::Random => Os::Random,
        Advice::WillNeed => Os::WillNeed,
        Advice::DontNeed => Os::DontNeed,
        Advice::NoReuse => Os::NoReuse,
    };
    rustix::fs::fadvise(fd, offset, NonZeroU64::new(len), advice).map_err(errno)
}

pub(super) fn read_dir(dir: BorrowedFd<'_>) -> Result<Vec<DirEntry>> {
    // A descriptor of its own: the guest's may be a mere path, and has a position that others would share.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let own = rustix::fs::openat(dir, ".", flags, Mode::empty()).map_err(errno)?;
    let mut entries = Vec::new();
    for entry in rustix::fs::Dir::new(own).map_err(errno)? {
        let entry = entry.map_err(errno)?;
        let name = entry.file_name().to_str().map_err(|_| Errno::Ilseq)?.to_string();
        if name == "." || name == ".." {
            continue;
        }
        match statx(dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => entries.push(DirEntry { ino: stat.ino, filetype: stat.filetype, name }),
            // Removed since it was listed.
            Err(Errno::Noent) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(entries)
}

pub(super) fn rename(
    beneath: Beneath,
    (old_dir, old): (BorrowedFd<'_>, &str),
    (new_dir, new): (BorrowedFd<'_>, &str),
) -> Result<()> {
    let must_be_directory = old.ends_with('/') || new.ends_with('/');
    let old = beneath.parent(old_dir, paths::strip_slashes(old))?;
    let new = beneath.parent(new_dir, paths::strip_slashes(new))?;
    // With a slash the kernel itself checks that it renames a directory.
    let mut name = String::from(old.name);
    if must_be_directory {
        name.push('/');
    }
    rustix::fs::renameat(old.dir(), name, new.dir(), new.name).map_err(errno)
}
