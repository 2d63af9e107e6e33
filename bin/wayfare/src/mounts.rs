//! Directories as they are typed: `HOST::GUEST`, or one name for both.

use crate::cli::Place;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use wayfare_wasi::Volume;

/// A directory of this machine under the name the program knows it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Here.
    pub host: PathBuf,
    /// In the program.
    pub guest: String,
    /// Whether the program may only read.
    pub read_only: bool,
}

impl Mount {
    fn parse(text: &str, read_only: bool) -> Result<Mount> {
        let (host, guest) = text.split_once("::").unwrap_or((text, text));
        if host.is_empty() || guest.is_empty() {
            bail!("{text:?} is not HOST::GUEST: name the directory here and in the program");
        }
        Ok(Mount { host: host.into(), guest: guest.into(), read_only })
    }
}

/// All that was typed, in order.
#[derive(Debug, Default)]
pub struct Mounts {
    /// Shared directories.
    pub dirs: Vec<Mount>,
    /// Directories that move with the task.
    pub volumes: Vec<Mount>,
}

impl Mounts {
    /// Reads the options.
    ///
    /// # Errors
    /// One that is no `HOST::GUEST`, a guest name given twice, a shared directory that is not there.
    pub fn parse(place: &Place) -> Result<Mounts> {
        let all =
            |list: &[String], read_only| list.iter().map(|t| Mount::parse(t, read_only)).collect::<Result<Vec<_>>>();
        let mut dirs = all(&place.dir, false)?;
        dirs.extend(all(&place.dir_ro, true)?);
        let volumes = all(&place.volume, false)?;
        let mut seen: Vec<&str> = Vec::new();
        for mount in dirs.iter().chain(&volumes) {
            if seen.contains(&mount.guest.as_str()) {
                bail!("two directories are given for {}: leave one", mount.guest);
            }
            seen.push(&mount.guest);
        }
        for dir in &dirs {
            let meta = std::fs::metadata(&dir.host).with_context(|| format!("--dir {}", dir.host.display()))?;
            if !meta.is_dir() {
                bail!("--dir {}: it is not a directory", dir.host.display());
            }
        }
        Ok(Mounts { dirs, volumes })
    }
}

/// Reads what a volume starts with.
///
/// # Errors
/// When the directory is not there or holds what no volume can.
pub fn load(mount: &Mount) -> Result<Volume> {
    Volume::load_dir(&mount.host).with_context(|| format!("--volume {}", mount.host.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_two_names_or_one() {
        let check = |text: &str, expect: Option<(&str, &str)>| {
            let got = Mount::parse(text, false).ok().map(|m| (m.host.display().to_string(), m.guest));
            assert_eq!(got, expect.map(|(h, g)| (h.into(), g.into())), "{text}");
        };
        check("a::/b", Some(("a", "/b")));
        check("a", Some(("a", "a")));
        check("a:b", Some(("a:b", "a:b")));
        check("::b", None);
        check("a::", None);
        check("", None);
    }
}
