//! Where an open file is *now*: the guest, or somebody else, may have renamed or removed it since it was opened.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::string::{String, ToString};
use std::vec::Vec;

use rustix::fs::{Mode, OFlags};

use super::beneath::{Beneath, is_same};
use crate::Errno;

/// Asks `/proc` for the path of both and takes the difference; then opens that, to be sure that it is the same file.
/// `Ok(None)` without `/proc`; `Err(noent)` if the file has no name beneath `dir` any more.
pub(super) fn path_of(beneath: Beneath, dir: BorrowedFd<'_>, file: BorrowedFd<'_>) -> Result<Option<String>, Errno> {
    let (Some(base), Some(full)) = (proc_path(dir), proc_path(file)) else {
        return Ok(None);
    };
    let path = match full.strip_prefix(base.trim_end_matches('/')) {
        Some("" | "/") => ".",
        Some(path) if path.starts_with('/') => &path[1..],
        _ => return Err(Errno::Noent),
    };
    let found = beneath.open(dir, path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty());
    match found {
        Ok(found) if is_same(found.as_fd(), file) => Ok(Some(path.to_string())),
        _ => Err(Errno::Noent),
    }
}

fn proc_path(fd: BorrowedFd<'_>) -> Option<String> {
    let link = std::format!("/proc/self/fd/{}", fd.as_raw_fd());
    let path = rustix::fs::readlink(link, Vec::new()).ok()?;
    path.into_string().ok()
}
