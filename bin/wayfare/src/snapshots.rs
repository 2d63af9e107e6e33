//! Snapshot files: reading them, checking them, and making one of two.

use crate::cli::{Squash, Verify};
use crate::output;
use anyhow::{Context, Result};
use std::path::Path;
use std::process::ExitCode;
use wayfare_snapshot::{Kind, Limits, Snapshot};
use wayfare_store::atomic;

/// Decodes a snapshot.
///
/// # Errors
/// One for every way in which bytes can be no snapshot.
pub fn decode(bytes: &[u8]) -> Result<Snapshot<'static>> {
    Ok(wayfare_snapshot::decode(bytes, &Limits::default())?)
}

/// Reads and decodes a snapshot's file.
///
/// # Errors
/// Those of [`decode`], with the file's name.
pub fn read(path: &Path) -> Result<Snapshot<'static>> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    decode(&bytes).with_context(|| path.display().to_string())
}

/// `wayfare snapshot verify`.
///
/// # Errors
/// When the snapshot is not whole.
pub fn verify(args: &Verify) -> Result<ExitCode> {
    let name = || args.file.display().to_string();
    let bytes = std::fs::read(&args.file).with_context(name)?;
    let header = wayfare_snapshot::verify(&bytes).with_context(name)?;
    // The checksum says that nothing was damaged; decoding, that it makes sense.
    let snapshot = decode(&bytes).with_context(name)?;
    let kind = match header.kind {
        Kind::Full => "full",
        Kind::Delta => "delta",
    };
    output::print(&format!(
        "{}: a {kind} snapshot of {}, number {}, whole and undamaged ({})\n",
        args.file.display(),
        snapshot.options.name,
        header.sequence,
        output::bytes(header.total_len)
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// `wayfare snapshot squash`.
///
/// # Errors
/// When the two do not follow each other, or the result cannot be written.
pub fn squash(args: &Squash) -> Result<ExitCode> {
    let (first, second) = (read(&args.first)?, read(&args.second)?);
    let both = || format!("{} and {}", args.first.display(), args.second.display());
    let squashed = wayfare_snapshot::squash(&first, &second).with_context(both)?;
    let bytes = wayfare_snapshot::encode(&squashed, args.compress.into())?;
    let cannot = || format!("cannot write {}", args.output.display());
    atomic::write(&args.output, &bytes).with_context(cannot)?;
    Ok(ExitCode::SUCCESS)
}
