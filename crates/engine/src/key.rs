//! The key that signs images: whoever has it may have code run here.

/// A secret of 32 bytes.
#[derive(Clone)]
pub struct Key(pub [u8; 32]);

impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// Reads the key of a file, or makes one there that only its owner can read.
    ///
    /// # Errors
    /// What the operating system says; a file that is not a key is an error, not replaced.
    #[cfg(feature = "std")]
    pub fn load_or_create(path: &std::path::Path) -> std::io::Result<Key> {
        use std::io::{Read, Write};
        use std::os::unix::fs::OpenOptionsExt;
        for _ in 0..10 {
            match std::fs::read(path) {
                Ok(bytes) => {
                    let key = <[u8; 32]>::try_from(bytes).map_err(|b| {
                        let message = format!("{} holds {} bytes, a key has 32: remove it", path.display(), b.len());
                        std::io::Error::new(std::io::ErrorKind::InvalidData, message)
                    })?;
                    return Ok(Key(key));
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            let mut key = [0; 32];
            std::fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
            // Written whole under another name and linked: another process that starts at the same time
            // sees no key or a whole one, and the first one stays.
            let temporary = path.with_extension(format!("tmp{}", std::process::id()));
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(&key).and_then(|()| file.sync_all())?;
            let linked = std::fs::hard_link(&temporary, path);
            std::fs::remove_file(&temporary)?;
            match linked {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Err(std::io::Error::other(format!("{} cannot be made", path.display())))
    }
}
