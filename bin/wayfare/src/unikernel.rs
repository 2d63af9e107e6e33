//! `wayfare unikernel`: images that machines without an operating system boot, and QEMU to try them in.

use crate::cli::{Accel, UnikernelBuild, UnikernelRun};
use crate::output;
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use wayfare_board::{Payload, Role, Start, attach};
use wayfare_engine::{Error, Form, Key, Options, Target};
use wayfare_snapshot::{Compression, Digest, Limits};
use wayfare_store::atomic;
use wayfare_store::program::{self, FileKind, Wanted};

/// What the kernel ends QEMU with (`unikernel/src/main.rs`): up to this, the task's exit status and one.
const EXITED_MOST: i32 = 125;
const TRAPPED: i32 = 126;
const PANICKED: i32 = 127;
/// With this a kernel begins to speak where firmware has spoken (`unikernel/kernel/src/riscv64/mod.rs`).
const START_OF_TEXT: u8 = 2;
/// The targets.
const TARGETS: &str = "x86_64, aarch64, riscv64";
/// What `wayfare run` says of a task that trapped.
const TRAPPED_STATUS: u8 = 134;

/// Makes an image.
///
/// # Errors
/// When there is no kernel for the target, the program cannot be compiled, or the image cannot be written.
pub fn build(args: &UnikernelBuild) -> Result<ExitCode> {
    let target = Target::parse(&format!("{}-none", args.target)).map_err(|_| {
        anyhow::anyhow!("{}: there is no kernel for this target; there is one for each of {TARGETS}", args.target)
    })?;
    let path = match &args.kernel {
        Some(path) => path.clone(),
        None => kernel(&args.target)?,
    };
    let kernel = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let name = || args.task.display().to_string();
    let (wasm, kind) = program::read(&args.task)?;
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
    let program = args.task.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let args_of_task = std::iter::once(program).chain(args.args.iter().cloned()).collect();
    let start = Start { key, args: args_of_task, env: args.env.clone() };
    let payload = Payload { role: Role::Task(start), image: &image, snapshot: &snapshot }.encode();
    let image = attach(&kernel, &payload).with_context(|| path.display().to_string())?;
    atomic::write(&args.output, &image).with_context(|| format!("cannot write {}", args.output.display()))?;
    output::notice(&format!("{}: {}", args.output.display(), output::bytes(image.len() as u64)));
    Ok(ExitCode::SUCCESS)
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

/// Where the kernel for a target is: beside this program, or where a package puts it.
fn kernel(target: &str) -> Result<PathBuf> {
    let file = format!("{target}.elf");
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let beside = program.parent().unwrap_or(Path::new(".")).join("unikernel").join(&file);
    let installed = Path::new("/usr/lib/wayfare/unikernel").join(&file);
    for path in [&beside, &installed] {
        if path.exists() {
            return Ok(path.clone());
        }
    }
    bail!(
        "there is no kernel in {} or {}: `./x unikernel` builds it, or say where it is with --kernel",
        beside.display(),
        installed.display()
    )
}

/// Boots an image in QEMU, with its console as this program's output.
///
/// # Errors
/// When there is no QEMU, or the machine failed.
pub fn run(args: &UnikernelRun) -> Result<ExitCode> {
    // Else QEMU's words on a file that is none would be all that there is.
    let mut head = [0; 20];
    let read = std::fs::File::open(&args.image).and_then(|mut file| file.read_exact(&mut head));
    read.with_context(|| format!("cannot read {}", args.image.display()))?;
    let machine = Machine::of(&head);
    let machine = machine
        .with_context(|| format!("{}: this is not an image by `wayfare unikernel build`", args.image.display()))?;
    let qemu = machine.qemu;
    let mut command = Command::new(qemu);
    command.args(machine.arguments).args(["-smp", "1", "-nodefaults", "-no-user-config"]);
    command.args([
        "-display",
        "none",
        "-no-reboot",
        "-chardev",
        "stdio,id=console,signal=on",
        "-serial",
        "chardev:console",
    ]);
    command.args(["-accel", if args.accel == Accel::Kvm { "kvm" } else { "tcg" }]);
    command.arg("-m").arg(format!("{}k", args.memory.div_ceil(1024)));
    command.arg("-kernel").arg(&args.image).stdin(Stdio::null());
    if machine.has_firmware {
        command.stdout(Stdio::piped());
    }
    let mut child = command.spawn().map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => anyhow::anyhow!("{qemu} is not installed (Debian: {})", machine.package),
        _ => anyhow::Error::new(e).context(qemu),
    })?;
    let passed_on = child.stdout.take().map_or(Ok(()), |console| pass_on(console, &mut std::io::stdout()));
    let status = child.wait().context(qemu)?;
    passed_on.context("cannot write what the machine says")?;
    let code = match status.code() {
        Some(code) => code,
        None => bail!("{qemu} was ended by a signal"),
    };
    match (machine.written)(code) {
        Some(written @ 1..=EXITED_MOST) => Ok(ExitCode::from((written - 1) as u8)),
        Some(TRAPPED) => Ok(ExitCode::from(TRAPPED_STATUS)),
        Some(PANICKED) => bail!("the machine failed: what it said is above"),
        Some(other) => bail!("the machine ended with {other}, which means nothing here"),
        None if code == 0 => bail!("{qemu} was ended before the machine was"),
        None => bail!("{qemu} failed (exit status {code})"),
    }
}

/// Passes on what a machine says, but not what its firmware says before the kernel does; that is all there is if the kernel
/// says nothing.
fn pass_on(mut console: impl Read, to: &mut impl Write) -> std::io::Result<()> {
    let (mut before, mut buffer) = (Some(Vec::new()), [0; 4096]);
    loop {
        let len = match console.read(&mut buffer) {
            Ok(0) => return to.write_all(&before.unwrap_or_default()),
            Ok(len) => len,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let mut said = &buffer[..len];
        if let Some(kept) = &mut before {
            let Some(at) = said.iter().position(|byte| *byte == START_OF_TEXT) else {
                kept.extend_from_slice(said);
                continue;
            };
            (before, said) = (None, &said[at + 1..]);
        }
        to.write_all(said)?;
        to.flush()?;
    }
}

/// How QEMU has a machine that boots an image.
struct Machine {
    /// Of the image's ELF head.
    number: u16,
    qemu: &'static str,
    package: &'static str,
    arguments: &'static [&'static str],
    /// Somebody else has the console before the kernel does.
    has_firmware: bool,
    /// What the kernel ended the machine with, from QEMU's exit status, if that tells.
    written: fn(i32) -> Option<i32>,
}

const MACHINES: [Machine; 3] = [
    Machine {
        number: 62,
        qemu: "qemu-system-x86_64",
        package: "qemu-system-x86",
        arguments: &[
            "-M",
            "microvm,acpi=off,pit=on,isa-serial=on",
            "-cpu",
            "max",
            "-global",
            "virtio-mmio.force-legacy=off",
            "-device",
            "isa-debug-exit,iobase=0xf4,iosize=0x4",
        ],
        has_firmware: false,
        // `isa-debug-exit` makes of what is written there twice that and one: an even one, or 1, is QEMU's own.
        written: |status| (status & 1 == 1 && status > 1).then_some(status >> 1),
    },
    Machine {
        number: 183,
        qemu: "qemu-system-aarch64",
        package: "qemu-system-arm",
        arguments: &["-M", "virt", "-cpu", "max", "-global", "virtio-mmio.force-legacy=off", "-semihosting"],
        has_firmware: false,
        // The kernel makes the same of it.
        written: |status| (status & 1 == 1 && status > 1).then_some(status >> 1),
    },
    Machine {
        number: 243,
        qemu: "qemu-system-riscv64",
        package: "qemu-system-misc, opensbi",
        arguments: &["-M", "virt", "-global", "virtio-mmio.force-legacy=off"],
        has_firmware: true,
        // As above.
        written: |status| (status & 1 == 1 && status > 1).then_some(status >> 1),
    },
];

impl Machine {
    fn of(head: &[u8; 20]) -> Option<&'static Machine> {
        let number = u16::from_le_bytes([head[18], head[19]]);
        MACHINES.iter().find(|machine| head.starts_with(b"\x7fELF\x02\x01") && machine.number == number)
    }
}
