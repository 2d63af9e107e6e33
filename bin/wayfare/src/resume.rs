//! `wayfare resume`: a captured task goes on.

use crate::cli::Resume;
use crate::mounts::{Mount, Mounts};
use crate::output;
use crate::registry::Claim;
use crate::run::{self, PROGRAM, VOLUME};
use crate::running::{self, Plan};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use wayfare_engine::{Error, Form, Options, Task};
use wayfare_snapshot::{Digest, Limits, Snapshot};
use wayfare_store::locations;
use wayfare_store::program::{self, Program, Wanted};
use wayfare_wasi::Ctx;

/// Runs it.
///
/// # Errors
/// Whatever is found before the task goes on.
pub fn run(args: Resume) -> Result<ExitCode> {
    let mounts = Mounts::parse(&args.place)?;
    let file = args.snapshot.clone();
    let name = move || file.display().to_string();
    let bytes = std::fs::read(&args.snapshot).with_context(&name)?;
    let mut packed = wayfare_snapshot::open(bytes, &Limits::default()).with_context(&name)?;
    let snapshot = &mut packed.snapshot;
    if snapshot.meta.base.is_some() {
        return Err(Error::DeltaOnly).with_context(name);
    }
    let options = Options { canonical_nan: snapshot.options.canonical_nan };
    let wanted = Wanted::here(args.place.target.as_deref(), options, Form::Resume, false)?;
    let found = find(snapshot, args.program.as_deref(), &wanted).with_context(&name)?;
    let volumes = volumes(snapshot, &mounts.volumes).with_context(&name)?;
    let was = snapshot.options.extra.get(PROGRAM).cloned().unwrap_or_default();
    let program = args.program.as_deref().map_or(was, run::absolute);
    snapshot.options.extra.insert(PROGRAM.into(), program.clone());

    let claim = Claim::new(&locations::tasks()?, args.place.name.as_deref(), &snapshot.options.name)?;
    snapshot.options.name = claim.name().into();
    let entry = run::entry(&claim, program, &snapshot.meta.module.to_string(), &wanted, &mounts.dirs);
    let host = run::host(&mounts.dirs)?;
    let plan = Plan { claim, entry, program: found, volumes };
    // The snapshot goes once the task has it: it is as large as the task.
    running::run(plan, move |image| Task::resume(image, &packed, host).with_context(name))
}

/// The program that a snapshot was taken from.
fn find(snapshot: &Snapshot<'_>, given: Option<&Path>, wanted: &Wanted) -> Result<Program> {
    let module = snapshot.meta.module;
    if let Some(given) = given {
        let (bytes, kind) = program::read(given)?;
        // Before it is compiled for nothing; of an image the engine will see it.
        if kind == program::FileKind::Module && Digest::of(&bytes) != module {
            let (snapshot, module) = (module.to_string(), Digest::of(&bytes).to_string());
            return Err(Error::OtherModule { snapshot, module }.into());
        }
        return program::from_file(given, wanted);
    }
    if let Some(program) = program::from_digest(module, wanted)? {
        return Ok(program);
    }
    // It may still be where it was.
    let noted = snapshot.options.extra.get(PROGRAM).map(PathBuf::from);
    if let Some(path) = &noted
        && std::fs::read(path).is_ok_and(|bytes| Digest::of(&bytes) == module)
    {
        return program::from_file(path, wanted);
    }
    let was = noted.map(|p| format!(", it was {}", p.display())).unwrap_or_default();
    bail!("the program it was taken from never ran here (module {module}{was}): give it with --program")
}

/// Where the volumes in a snapshot are stored when the program ends.
fn volumes(snapshot: &mut Snapshot<'_>, given: &[Mount]) -> Result<Vec<Mount>> {
    let ctx = Ctx::decode(&snapshot.wasi).map_err(|e| Error::Misfit(e.to_string()))?;
    let guests: Vec<String> = ctx.volumes().map(|(guest, _)| guest.to_string()).collect();
    if let Some(unknown) = given.iter().find(|m| !guests.contains(&m.guest)) {
        let has = if guests.is_empty() { "none".to_string() } else { guests.join(", ") };
        bail!("--volume: the task has no volume {} (it has {has})", unknown.guest);
    }
    let mut mounts = Vec::new();
    for guest in guests {
        let note = format!("{VOLUME}{guest}");
        let noted = snapshot.options.extra.get(&note).map(PathBuf::from).filter(|p| p.is_dir());
        match given.iter().find(|m| m.guest == guest) {
            Some(mount) => mounts.push(mount.clone()),
            None if noted.is_some() => mounts.extend(noted.map(|host| Mount { host, guest, read_only: false })),
            None => {
                output::notice(&format!(
                    "the volume {guest} will not be stored when the program ends: say where by --volume HOST::{guest}"
                ));
                continue;
            }
        }
        if let Some(mount) = mounts.last() {
            snapshot.options.extra.insert(note, run::absolute(&mount.host));
        }
    }
    Ok(mounts)
}
