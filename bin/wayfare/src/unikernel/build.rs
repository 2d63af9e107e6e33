//! `wayfare unikernel build`: a node's image, or one task's.

use super::{TARGETS, enroll, stem};
use crate::cli::{ImageFormat, UnikernelBuild};
use crate::output;
use anyhow::{Context, Result, bail};
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use wayfare_board::image::{self, Format};
use wayfare_board::{Payload, Role, Start, append, attach};
use wayfare_engine::{Error, Form, Key, Options, Target};
use wayfare_snapshot::{Compression, Digest, Limits};
use wayfare_store::atomic;
use wayfare_store::program::{self, FileKind, Wanted};

/// Makes an image.
///
/// # Errors
/// When there is no kernel for the target, the program cannot be compiled, or the image cannot be written.
pub fn build(args: &UnikernelBuild) -> Result<ExitCode> {
    let bounds = if args.explicit_bounds { "+explicit-bounds" } else { "" };
    let target = Target::parse(&format!("{}-none{bounds}", args.target)).map_err(|_| {
        let all = TARGETS.join(", ");
        anyhow::anyhow!("{}: there is no kernel for this target; there is one for each of {all}", args.target)
    })?;
    let format = match args.format {
        ImageFormat::Elf => Format::Elf,
        ImageFormat::Iso => Format::Iso,
        ImageFormat::Raw => Format::Raw,
    };
    format.check(&args.target).with_context(|| format!("--format {format}"))?;
    let path = match &args.kernel {
        Some(path) => path.clone(),
        None => image::kernel(&args.target).map_err(|e| anyhow::anyhow!("{e:#}, or say where it is with --kernel"))?,
    };
    // Not any file.
    let kernel = image::read(&path)?;
    let kernel = match &args.append {
        Some(line) => append(&kernel, line).with_context(|| path.display().to_string())?,
        None => kernel,
    };
    let image = match (&args.task, &args.join) {
        (Some(task), _) => {
            attach(&kernel, &payload(args, task, target)?).with_context(|| path.display().to_string())?
        }
        (None, Some(by)) => {
            let name = args.name.clone().unwrap_or_else(|| stem(&args.output));
            enroll(&kernel, &path, by, &name)?
        }
        (None, None) => kernel,
    };
    let image = format.made_of(image).with_context(|| path.display().to_string())?;
    atomic::write(&args.output, &image).with_context(|| format!("cannot write {}", args.output.display()))?;
    output::notice(&format!("{}: {}", args.output.display(), output::bytes(image.len() as u64)));
    Ok(ExitCode::SUCCESS)
}

/// What a machine is given that runs one task.
fn payload(args: &UnikernelBuild, task: &Path, target: Target) -> Result<Vec<u8>> {
    let name = || task.display().to_string();
    let (wasm, kind) = program::read(task)?;
    if kind != FileKind::Module {
        bail!("{}: this is not a WebAssembly module: give the module it was made from", name());
    }
    let (snapshot, canonical_nan) = match &args.snapshot {
        Some(path) => captured(path, Digest::of(&wasm)).with_context(|| path.display().to_string())?,
        None => (Vec::new(), args.canonical_nan),
    };
    let options = Options { canonical_nan };
    let wanted = Wanted { target, explicit: true, options, form: Form::Resume, allow_unmovable: false };
    // Signed with a key that is used for this image only: nothing of this user's goes with it.
    let mut key = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
    let image = program::compile(&wasm, Digest::of(&wasm), &wanted, &Key(key)).with_context(name)?;
    let program = task.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let args_of_task = std::iter::once(program).chain(args.args.iter().cloned()).collect();
    let start = Start { key, args: args_of_task, env: args.env.clone() };
    Ok(Payload { role: Role::Task(start), image: &image, snapshot: &snapshot }.encode())
}

/// A snapshot of the module, packed as a board can unpack it, and its option.
fn captured(path: &Path, module: Digest) -> Result<(Vec<u8>, bool)> {
    let snapshot = wayfare_snapshot::decode(&std::fs::read(path)?, &Limits::default())?;
    if snapshot.meta.module != module {
        let (snapshot, module) = (snapshot.meta.module.to_string(), module.to_string());
        return Err(Error::OtherModule { snapshot, module }.into());
    }
    if snapshot.meta.base.is_some() {
        return Err(Error::DeltaOnly.into());
    }
    Ok((wayfare_snapshot::encode(&snapshot, Compression::Lz4)?, snapshot.options.canonical_nan))
}
