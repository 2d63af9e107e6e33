//! Which tasks run on this machine: a locked file and a socket per task in the runtime directory.
//!
//! `NAME.json` says what the task is and is locked for as long as its process lives, so that a process that died leaves
//! an entry which everybody can tell to be stale, whatever has become of its process id. `NAME.sock` is where it is
//! asked for captures ([`crate::control`]).

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wayfare_node::spec::{NAME_MAX, check_name};

/// What is known of a running task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The process it runs in.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// The program's file.
    pub program: String,
    /// Digest of its module.
    pub module: String,
    /// What its code is compiled for.
    pub target: String,
    /// When it was started or resumed here, seconds since 1970.
    pub started: u64,
    /// `HOST::GUEST` of its shared directories.
    pub dirs: Vec<String>,
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// A name that belongs to this process until this is dropped.
#[derive(Debug)]
pub struct Claim {
    name: String,
    base: PathBuf,
    /// Holds the lock.
    file: File,
}

impl Claim {
    /// Takes a name: `wanted` and no other, or else the first free one of `stem`, `stem-2`, `stem-3`, ...
    ///
    /// # Errors
    /// A name that is taken or cannot be one, or a runtime directory that cannot be used.
    pub fn new(tasks: &Path, wanted: Option<&str>, stem: &str) -> Result<Claim> {
        sweep(tasks);
        if let Some(name) = wanted {
            check_name(name)?;
            // Somebody who looks whether the entry is stale holds its lock for a moment.
            for _ in 0..5 {
                if let Some(claim) = Claim::try_new(tasks, name)? {
                    return Ok(claim);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            bail!("a task named {name} is already running: give another --name");
        }
        let stem = name_from(stem);
        for n in 1..10_000 {
            let name = if n == 1 { stem.clone() } else { format!("{stem}-{n}") };
            if let Some(claim) = Claim::try_new(tasks, &name)? {
                return Ok(claim);
            }
        }
        bail!("all names like {stem} are taken: give a --name")
    }

    fn try_new(tasks: &Path, name: &str) -> Result<Option<Claim>> {
        let base = tasks.join(name);
        let path = with_suffix(&base, "json");
        let cannot = || format!("cannot register the task in {}", path.display());
        loop {
            let options = OpenOptions::new().read(true).write(true).create(true).mode(0o600).clone();
            let file = options.open(&path).with_context(cannot)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) => return Err(e).with_context(cannot),
            }
            // Locked, but perhaps after somebody had removed it as stale.
            if file.metadata().with_context(cannot)?.nlink() == 0 {
                continue;
            }
            return Ok(Some(Claim { name: name.into(), base, file }));
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Says what runs under the name, and gives the socket on which it will be asked things.
    ///
    /// # Errors
    /// When the entry cannot be written or the socket cannot be made.
    pub fn publish(&mut self, entry: &Entry) -> Result<UnixListener> {
        let text = serde_json::to_vec(entry)?;
        let written = self.file.rewind().and_then(|()| self.file.set_len(0)).and_then(|()| self.file.write_all(&text));
        written.with_context(|| format!("cannot write {}", with_suffix(&self.base, "json").display()))?;
        let socket = with_suffix(&self.base, "sock");
        let listener = match UnixListener::bind(&socket) {
            // Of a task that died; the name is ours now.
            Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {
                std::fs::remove_file(&socket).and_then(|()| UnixListener::bind(&socket))
            }
            other => other,
        };
        listener.with_context(|| format!("cannot make the socket {}", socket.display()))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        remove(&self.base);
    }
}

/// The entries of all tasks that are alive, by name; what dead ones left is removed.
pub fn list(tasks: &Path) -> Vec<Entry> {
    let mut entries: Vec<Entry> = alive(tasks)
        .into_iter()
        .filter_map(|mut file| {
            let mut text = String::new();
            file.read_to_string(&mut text).ok()?;
            serde_json::from_str(&text).ok()
        })
        .collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries
}

/// A connection to a task.
///
/// # Errors
/// When no task has that name.
pub fn connect(tasks: &Path, name: &str) -> Result<UnixStream> {
    check_name(name)?;
    match UnixStream::connect(with_suffix(&tasks.join(name), "sock")) {
        Ok(stream) => Ok(stream),
        Err(_) => bail!("no task named {name} runs here: `wayfare ps` lists those that do"),
    }
}

/// Removes what dead tasks left.
fn sweep(tasks: &Path) {
    alive(tasks);
}

fn alive(tasks: &Path) -> Vec<File> {
    let mut files = Vec::new();
    let Ok(entries) = std::fs::read_dir(tasks) else {
        return files;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let Ok(file) = File::open(&path) else {
            continue;
        };
        // Removed only with the lock on what is there now: two that clean up must not remove a newcomer's entry.
        match file.try_lock() {
            Ok(()) if file.metadata().is_ok_and(|m| m.nlink() > 0) => remove(&path.with_extension("")),
            Ok(()) => {}
            Err(_) => files.push(file),
        }
    }
    files
}

/// The socket first: an entry without a socket is found and removed, a socket without an entry is not.
fn remove(base: &Path) {
    let _ = std::fs::remove_file(with_suffix(base, "sock"));
    let _ = std::fs::remove_file(with_suffix(base, "json"));
}

/// `base.suffix`, where `base` may have points of its own.
fn with_suffix(base: &Path, suffix: &str) -> PathBuf {
    let mut path = base.as_os_str().to_owned();
    path.push(".");
    path.push(suffix);
    path.into()
}

/// A name from the stem of a file's.
fn name_from(stem: &str) -> String {
    let name: String = stem
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' })
        .take(NAME_MAX - "-10000".len())
        .collect();
    let name = name.trim_start_matches(['.', '-']);
    if name.is_empty() { "task".into() } else { name.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_safe() {
        for (stem, name) in [("fib", "fib"), ("a b/c", "a-b-c"), (".hidden", "hidden"), ("", "task"), ("über", "ber")]
        {
            assert_eq!(name_from(stem), name);
            check_name(name).unwrap();
        }
        for bad in ["", ".", "../x", "a/b", "-o", &"x".repeat(100)] {
            check_name(bad).unwrap_err();
        }
    }

    #[test]
    fn a_name_is_claimed_once_and_freed() {
        let dir = tempfile::tempdir().unwrap();
        let first = Claim::new(dir.path(), None, "a").unwrap();
        let second = Claim::new(dir.path(), None, "a").unwrap();
        assert_eq!((first.name(), second.name()), ("a", "a-2"));
        Claim::new(dir.path(), Some("a"), "").unwrap_err();
        drop(first);
        assert_eq!(Claim::new(dir.path(), Some("a"), "").unwrap().name(), "a");
        drop(second);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_dead_process_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["dead.json", "dead.sock"] {
            std::fs::write(dir.path().join(file), "{}").unwrap();
        }
        assert!(list(dir.path()).is_empty());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
