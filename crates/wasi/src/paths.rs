//! Paths from the guest: how they are split, and the one walk that keeps them inside a directory.
//!
//! The walk is shared by volumes and by the host's fallback for kernels without `openat2`, because this is the
//! sandbox: a second copy of it would be a second place to get it wrong. It holds on to every directory it came
//! through, so that `..` goes back to a directory that was *visited*, whatever a rename does meanwhile, and can
//! never climb above the start.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::Errno;

/// Longest path, as on Linux without its terminating NUL.
pub(crate) const PATH_MAX: usize = 4095;
/// Longest single name.
pub(crate) const NAME_MAX: usize = 255;
/// Most symbolic links followed in one walk.
const LINKS_MAX: usize = 40;

/// What a name in a directory is, for a walk.
pub(crate) enum Step<Node> {
    Directory(Node),
    Symlink(String),
    Other,
}

/// A tree of names that can be walked one component at a time, never following a link by itself.
pub(crate) trait Tree {
    type Node: Clone;
    /// Looks `name` up in `dir`. `noent` if it is missing.
    fn step(&self, dir: &Self::Node, name: &str) -> Result<Step<Self::Node>, Errno>;
}

/// Where a walk ended: the directory, and the last name in it unless the path means the directory itself.
pub(crate) struct Resolved<Node> {
    pub dir: Node,
    pub name: Option<String>,
    /// The path ended in a slash, so it can only mean a directory.
    pub slash: bool,
}

/// Refuses what can be refused without looking anything up.
pub(crate) fn check(path: &str) -> Result<(), Errno> {
    if path.is_empty() {
        return Err(Errno::Noent);
    }
    if path.contains('\0') {
        return Err(Errno::Inval);
    }
    if path.len() > PATH_MAX {
        return Err(Errno::Nametoolong);
    }
    if path.starts_with('/') {
        return Err(Errno::Perm);
    }
    Ok(())
}

/// As [`check`], for the path of an open file, which may be longer than one that a guest can pass at once: it is put
/// together from that of the directory it was opened in.
pub(crate) fn check_recorded(path: &str) -> Result<(), Errno> {
    match check(path) {
        Err(Errno::Nametoolong) => Ok(()),
        other => other,
    }
}

/// Walks `path` from `start`. Links on the way are followed; one in the last place only with `follow` or if a slash
/// comes after it. The last name need not exist.
pub(crate) fn resolve<T: Tree>(tree: &T, start: T::Node, path: &str, follow: bool) -> Result<Resolved<T::Node>, Errno> {
    check(path)?;
    let mut dirs = vec![start];
    let mut slash = path.ends_with('/');
    let mut links = 0;
    // The components still to walk, the next one last.
    let mut rest: Vec<String> = components(path);
    while let Some(name) = rest.pop() {
        let here = dirs.last().expect("the walk never leaves its start").clone();
        let last = rest.is_empty();
        match name.as_str() {
            "." => continue,
            ".." if dirs.len() == 1 => return Err(Errno::Perm),
            ".." => {
                dirs.pop();
                continue;
            }
            _ if name.len() > NAME_MAX => return Err(Errno::Nametoolong),
            _ => {}
        }
        if last && !follow && !slash {
            return Ok(Resolved { dir: here, name: Some(name), slash });
        }
        match tree.step(&here, &name) {
            Ok(Step::Directory(node)) if !last => dirs.push(node),
            Ok(Step::Symlink(target)) => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::Loop);
                }
                check(&target)?;
                if last {
                    slash |= target.ends_with('/');
                }
                rest.extend(components(&target));
            }
            Ok(Step::Other) if !last => return Err(Errno::Notdir),
            Ok(_) => {
                return Ok(Resolved { dir: here, name: Some(name), slash });
            }
            Err(Errno::Noent) if last => {
                return Ok(Resolved { dir: here, name: Some(name), slash });
            }
            Err(errno) => return Err(errno),
        }
    }
    let dir = dirs.pop().expect("the walk never leaves its start");
    Ok(Resolved { dir, name: None, slash })
}

fn components(path: &str) -> Vec<String> {
    path.split('/').rev().filter(|c| !c.is_empty()).map(ToString::to_string).collect()
}

/// Splits a path into the directory to open and the name to act on in it, for the calls that must not follow the last
/// component. A path that can only mean a directory (`a/`, `a/.`, `..`) is all directory, and the name is `.`;
/// an empty directory part means the start itself.
pub(crate) fn split_parent(path: &str) -> Result<(&str, &str), Errno> {
    check(path)?;
    if path.ends_with('/') || path.ends_with("/.") {
        return Ok((path, "."));
    }
    match path.rsplit_once('/') {
        _ if path == ".." || path.ends_with("/..") => Ok((path, ".")),
        Some((dir, name)) => Ok((dir, name)),
        None => Ok(("", path)),
    }
}

/// Drops trailing slashes, which `mkdir` and `rename` ignore.
pub(crate) fn strip_slashes(path: &str) -> &str {
    let stripped = path.trim_end_matches('/');
    if stripped.is_empty() && !path.is_empty() { "/" } else { stripped }
}

/// The name, if the path has one component that is neither `.` nor `..` (slashes and dots after it do not count).
/// The oracle answers a `stat` of such a path, where links are not to be followed, without a walk.
pub(crate) fn single_component(path: &str) -> Option<&str> {
    if path.starts_with('/') || path == "." || path.starts_with("./") {
        return None;
    }
    let mut parts = path.split('/').filter(|c| !c.is_empty() && *c != ".");
    match (parts.next(), parts.next()) {
        (Some(name), None) if name != ".." => Some(name),
        _ => None,
    }
}

/// Appends `path` to the directory `dir` it was resolved from, both relative to the same root.
pub(crate) fn join(dir: &str, path: &str) -> String {
    if dir == "." {
        return path.to_string();
    }
    let mut joined = String::with_capacity(dir.len() + 1 + path.len());
    joined.push_str(dir);
    joined.push('/');
    joined.push_str(path);
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_can_only_mean_a_directory_has_no_last_name() {
        let check = |path: &'static str, expect| assert_eq!(split_parent(path).unwrap(), expect, "{path}");
        check("foo/bar/qux", ("foo/bar", "qux"));
        check("foo", ("", "foo"));
        check(".", ("", "."));
        check("foo/", ("foo/", "."));
        check("foo/.", ("foo/.", "."));
        check("..", ("..", "."));
        check("foo/..", ("foo/..", "."));
        check("../foo", ("..", "foo"));
        assert_eq!(split_parent(""), Err(Errno::Noent));
        assert_eq!(split_parent("/foo"), Err(Errno::Perm));
        assert_eq!(split_parent("a\0b"), Err(Errno::Inval));
    }

    #[test]
    fn only_one_ordinary_name_is_a_single_component() {
        let check = |path: &'static str, expect| assert_eq!(single_component(path), expect, "{path}");
        check("foo", Some("foo"));
        check("foo/", Some("foo"));
        check("foo/.", Some("foo"));
        check("./foo", None);
        check("foo/bar", None);
        check("..", None);
        check(".", None);
        check("/foo", None);
    }
}
