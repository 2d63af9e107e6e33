//! `wayfare inspect`: what a module, an image or a snapshot holds.

use crate::cli::Inspect;
use anyhow::Result;
use std::process::ExitCode;

/// Shows it.
///
/// # Errors
/// When the file is none of ours.
pub fn run(args: &Inspect) -> Result<ExitCode> {
    let _ = (&args.program, args.all, args.output);
    anyhow::bail!("{}: not there yet", args.file.display())
}
