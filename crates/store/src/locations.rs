//! Where things are kept: images and modules in the cache, the signing key among the data, tasks in the runtime
//! directory. All below the XDG directories, so that nothing needs to be installed or owned by root.

use anyhow::{Context, Result, bail};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use wayfare_engine::{Form, Options, Target, VERSION};
use wayfare_snapshot::Digest;

/// The directory named by `variable`, or the one below the home directory, for Wayfare.
fn xdg(variable: &str, below_home: &str) -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    match set(variable).or_else(|| Some(set("HOME")?.join(below_home))) {
        Some(base) => Ok(base.join("wayfare")),
        None => bail!("neither {variable} nor HOME names a directory: set one of them"),
    }
}

/// The key that signs this user's images.
pub fn key() -> Result<wayfare_engine::Key> {
    let path = xdg("XDG_DATA_HOME", ".local/share")?.join("image.key");
    wayfare_engine::Key::load_or_create(&path).with_context(|| format!("cannot use the key {}", path.display()))
}

/// Where the image of a module is kept.
pub fn image(module: Digest, target: &Target, options: Options, form: Form) -> Result<PathBuf> {
    let version: String =
        VERSION.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let nan = if options.canonical_nan { "-nan" } else { "" };
    let form = if form == Form::Start { "-start" } else { "" };
    Ok(xdg("XDG_CACHE_HOME", ".cache")?.join(format!("images/{module}-{target}-{version}{nan}{form}.img")))
}

/// Where a module is kept, for snapshots that name it.
pub fn module(digest: Digest) -> Result<PathBuf> {
    Ok(xdg("XDG_CACHE_HOME", ".cache")?.join(format!("modules/{digest}.wasm")))
}

/// The directory with the sockets of running tasks, which only this user can enter.
pub fn tasks() -> Result<PathBuf> {
    let uid = rustix::process::getuid().as_raw();
    let base = match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|p| p.is_absolute()) {
        Some(dir) => dir.join("wayfare"),
        None => PathBuf::from(format!("/tmp/wayfare-{uid}")),
    };
    let tasks = base.join("tasks");
    // Both, since whoever owns the outer one could put another in the place of the inner one.
    for dir in [&base, &tasks] {
        private(dir, uid)?;
    }
    Ok(tasks)
}

fn private(dir: &Path, uid: u32) -> Result<()> {
    let wrong =
        |what: &str| format!("{} {what}: remove it, or set XDG_RUNTIME_DIR to a directory of yours", dir.display());
    let meta = match std::fs::symlink_metadata(dir) {
        Ok(meta) => meta,
        Err(_) => {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.and_then(|()| std::fs::symlink_metadata(dir)).with_context(|| wrong("cannot be made"))?
        }
    };
    if !meta.is_dir() {
        bail!(wrong("is not a directory"));
    }
    if meta.uid() != uid || meta.mode() & 0o077 != 0 {
        bail!(wrong("is open to other users"));
    }
    Ok(())
}
