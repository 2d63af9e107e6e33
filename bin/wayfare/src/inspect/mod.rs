//! `wayfare inspect`: what a module, an image or a snapshot holds, for reading or as JSON.
//!
//! Each kind of file is read into a JSON value first, from which the text is made: what one shows, so does the other.

mod frames;
mod module;
mod names;
mod snapshot;
mod text;

use crate::cli::{Format, Inspect};
use crate::output::{self, Paint};
use anyhow::{Context, Result};
use std::process::ExitCode;
use wayfare_store::program::{self, FileKind};

/// Shows it.
///
/// # Errors
/// When the file is none of ours, or damaged.
pub fn run(args: &Inspect) -> Result<ExitCode> {
    let (bytes, kind) = program::read(&args.file)?;
    let view = match kind {
        FileKind::Module => module::module(&bytes),
        FileKind::Image => module::image(&bytes),
        FileKind::Snapshot => snapshot::snapshot(&bytes, args.program.as_deref()),
    }
    .with_context(|| args.file.display().to_string())?;
    match args.output {
        Format::Json => output::print_json(&view)?,
        Format::Text => output::print(&text::render(&view, args.all, Paint::stdout()))?,
    }
    Ok(ExitCode::SUCCESS)
}
