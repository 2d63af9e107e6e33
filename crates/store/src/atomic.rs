//! Files that are there whole or not at all: written under another name, to the disk, and then renamed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file that appears under its name when [`Atomic::commit`] is called, and not at all if it is dropped before.
#[derive(Debug)]
pub struct Atomic {
    /// What to write to.
    pub file: File,
    path: PathBuf,
    temporary: PathBuf,
    done: bool,
}

impl Atomic {
    /// Begins a file that only its owner may read and write.
    ///
    /// # Errors
    /// When the directory takes no new file, or when there is something at `path` that is no regular file: a device
    /// must not be replaced by a file.
    pub fn create(path: &Path) -> io::Result<Atomic> {
        if let Ok(present) = std::fs::metadata(path)
            && !present.is_file()
        {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it exists and is not a regular file"));
        }
        let name =
            path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it has no file name"))?;
        let mut n = 0;
        loop {
            let temporary = path.with_file_name(format!(".{}.tmp{}-{n}", name.to_string_lossy(), std::process::id()));
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary) {
                Ok(file) => {
                    return Ok(Atomic { file, path: path.into(), temporary, done: false });
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && n < 1000 => n += 1,
                Err(e) => return Err(e),
            }
        }
    }

    /// Gives the file its name once its bytes are on the disk.
    ///
    /// # Errors
    /// What the operating system says; nothing has changed then.
    pub fn commit(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.temporary, &self.path)?;
        self.done = true;
        // The name is there; that it survives a power cut too is worth trying, not failing for.
        let directory = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let _ = File::open(directory).and_then(|d| d.sync_all());
        Ok(())
    }
}

impl Drop for Atomic {
    fn drop(&mut self) {
        if !self.done {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Writes a whole file.
///
/// # Errors
/// Those of [`Atomic::create`] and [`Atomic::commit`]; nothing has changed then.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut atomic = Atomic::create(path)?;
    io::Write::write_all(&mut atomic.file, bytes)?;
    atomic.commit()
}
