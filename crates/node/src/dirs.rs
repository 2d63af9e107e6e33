//! Where a node keeps its things: one directory, that only its user can enter.

use crate::membership::Identity;
use anyhow::{Context, Result, bail};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use wayfare_transfer::TaskId;

/// A node's directory.
#[derive(Clone, Debug)]
pub struct Dirs {
    root: PathBuf,
}

impl Dirs {
    /// The directory at `root`, or the usual one: `/var/lib/wayfare` for root, else below the XDG state directory.
    /// Whether it is there is not looked at.
    ///
    /// # Errors
    /// When there is no usual one.
    pub fn locate(root: Option<&Path>) -> Result<Dirs> {
        let root = match root {
            Some(root) => std::path::absolute(root)?,
            None => usual()?,
        };
        Ok(Dirs { root })
    }

    /// The same, made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made, or is open to other users.
    pub fn open(root: Option<&Path>) -> Result<Dirs> {
        let Dirs { root } = Dirs::locate(root)?;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root.join("tasks"));
        made.with_context(|| format!("cannot make {}", root.display()))?;
        let mode = std::fs::metadata(&root)?.mode();
        if mode & 0o077 != 0 {
            bail!("{} holds keys and is open to other users: chmod 700 it", root.display());
        }
        Ok(Dirs { root })
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What it knows of itself.
    ///
    /// # Errors
    /// When it is no node yet.
    pub fn identity(&self) -> Result<Identity> {
        crate::membership::load(self)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The socket of the agent.
    pub fn socket(&self) -> PathBuf {
        self.root.join("agent.sock")
    }

    pub(crate) fn task(&self, id: TaskId) -> PathBuf {
        self.root.join("tasks").join(id.to_string())
    }

    /// What a task has written to its standard streams.
    pub(crate) fn log(&self, id: TaskId) -> PathBuf {
        self.task(id).join("log")
    }

    pub(crate) fn checkpoint(&self, id: TaskId) -> PathBuf {
        self.task(id).join("checkpoint.snap")
    }
}

fn usual() -> Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/wayfare".into());
    }
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    match set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state"))) {
        Some(base) => Ok(base.join("wayfare")),
        None => bail!("neither XDG_STATE_HOME nor HOME names a directory: set one, or give --state"),
    }
}
