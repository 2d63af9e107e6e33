//! Snapshots to files, whole or not at all.

use crate::atomic::Atomic;
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::path::Path;
use wayfare_snapshot::{Compression, Header, Snapshot};

/// What stands in a snapshot's header, without reading on.
///
/// # Errors
/// When there is no such file, or it is no snapshot.
pub fn header(path: &Path) -> Result<Header> {
    let mut bytes = [0; Header::LEN];
    let cannot = || path.display().to_string();
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut bytes)).with_context(cannot)?;
    Header::parse(&bytes).with_context(cannot)
}

/// Writes a snapshot to the disk; gives what stands in its header.
///
/// # Errors
/// When it cannot be encoded, or the disk does not take it; nothing has changed then.
pub fn write(path: &Path, snapshot: &Snapshot<'_>, compression: Compression) -> Result<Header> {
    let cannot = || format!("cannot write {}", path.display());
    let mut atomic = Atomic::create(path).with_context(cannot)?;
    let encoded = wayfare_snapshot::encode_parts(snapshot, compression)?;
    let mut to = std::io::BufWriter::with_capacity(1 << 20, &mut atomic.file);
    let head = to.write_all(&encoded.header().to_bytes());
    head.and_then(|()| encoded.parts().try_for_each(|part| to.write_all(part)))
        .and_then(|()| to.flush())
        .with_context(cannot)?;
    // What is buffered has been written or has failed.
    drop(to.into_parts());
    atomic.commit().with_context(cannot)?;
    Ok(encoded.header().clone())
}
