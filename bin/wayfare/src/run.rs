//! `wayfare run`: a program from its beginning.

use crate::cli::Run;
use crate::mounts::{self, Mount, Mounts};
use crate::registry::{self, Claim, Entry};
use crate::running::{self, Plan};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use wayfare_engine::{Form, Options, Task};
use wayfare_store::locations;
use wayfare_store::program::{self, Wanted};
use wayfare_wasi::Ctx;
use wayfare_wasi::std_host::StdHost;

/// Notes in a snapshot: where the program was.
pub const PROGRAM: &str = "program";
/// Notes in a snapshot: where the volume with this guest path was loaded from.
pub const VOLUME: &str = "volume:";

/// Runs it.
///
/// # Errors
/// Whatever is found before the program runs.
pub fn run(args: Run) -> Result<ExitCode> {
    let options = Options { canonical_nan: args.canonical_nan };
    let wanted = Wanted::here(args.place.target.as_deref(), options, Form::Start, args.allow_unmovable)?;
    let mounts = Mounts::parse(&args.place)?;
    if args.detached.detach {
        return crate::tasks::detach(&args, &mounts);
    }
    let found = program::from_file(&args.program, &wanted)?;

    let file_name = args.program.file_name().unwrap_or_default().to_string_lossy();
    let mut builder = Ctx::builder().arg(file_name).args(args.args.iter().cloned());
    for (name, value) in &args.env {
        builder = builder.env(name, value);
    }
    for dir in &mounts.dirs {
        builder = builder.dir(&dir.guest, dir.read_only);
    }
    let mut extra = BTreeMap::from([(PROGRAM.to_string(), absolute(&args.program))]);
    for volume in &mounts.volumes {
        builder = builder.volume(&volume.guest, mounts::load(volume)?, volume.read_only);
        extra.insert(format!("{VOLUME}{}", volume.guest), absolute(&volume.host));
    }
    let ctx = builder.build();

    let stem = args.program.file_stem().unwrap_or_default().to_string_lossy();
    let claim = Claim::new(&locations::tasks()?, args.place.name.as_deref(), &stem)?;
    let entry = entry(&claim, absolute(&args.program), &found.image.digest().to_string(), &wanted, &mounts.dirs);
    let name = claim.name().to_string();
    let host = host(&mounts.dirs)?;
    let plan = Plan { claim, entry, program: found, volumes: mounts.volumes };
    running::run(plan, move |image| {
        let mut task = Task::start(image, &name, ctx, host).with_context(|| args.program.display().to_string())?;
        *task.extra() = extra;
        Ok(task)
    })
}

/// What `wayfare ps` is to say.
pub fn entry(claim: &Claim, program: String, module: &str, wanted: &Wanted, dirs: &[Mount]) -> Entry {
    Entry {
        pid: std::process::id(),
        name: claim.name().into(),
        program,
        module: module.into(),
        target: wanted.target.to_string(),
        started: registry::now(),
        dirs: dirs.iter().map(|d| format!("{}::{}", d.host.display(), d.guest)).collect(),
    }
}

/// This machine, as the task may see it.
///
/// # Errors
/// When the kernel gives no event descriptor.
pub fn host(dirs: &[Mount]) -> Result<StdHost> {
    let host = StdHost::new().context("cannot set up the task's host")?;
    Ok(dirs.iter().fold(host, |host, d| host.dir(&d.guest, &d.host, d.read_only)))
}

/// A path that means the same from every directory.
pub fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.into()).to_string_lossy().into_owned()
}
