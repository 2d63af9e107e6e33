//! `wayfare compile`: an image ahead of time, for this machine or another.

use crate::cli::Compile;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::ExitCode;
use wayfare_engine::{Form, Options, Target};
use wayfare_snapshot::Digest;
use wayfare_store::program::{self, FileKind, Wanted};
use wayfare_store::{atomic, locations};

/// Compiles it.
///
/// # Errors
/// When the file is no module, cannot be compiled, or the image cannot be written.
pub fn run(args: &Compile) -> Result<ExitCode> {
    let name = || args.program.display().to_string();
    let target = args.target.as_deref().map_or_else(|| Ok(Target::host()), Target::parse)?;
    let (bytes, kind) = program::read(&args.program)?;
    if kind != FileKind::Module {
        bail!("{}: this is not a WebAssembly module: give the module it was made from", name());
    }
    let wanted = Wanted {
        target,
        explicit: true,
        options: Options { canonical_nan: args.canonical_nan },
        form: Form::Resume,
        allow_unmovable: args.allow_unmovable,
    };
    let image = program::compile(&bytes, Digest::of(&bytes), &wanted, &locations::key()?).with_context(name)?;
    let path = args.output.clone().unwrap_or_else(|| {
        let stem = args.program.file_stem().unwrap_or_default().to_string_lossy();
        PathBuf::from(format!("{stem}-{}.img", wanted.target))
    });
    // A task of it that runs or resumes here later finds it.
    program::keep_image(Digest::of(&bytes), &wanted, &image)?;
    atomic::write(&path, &image).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(ExitCode::SUCCESS)
}
