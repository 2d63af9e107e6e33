//! `wayfare unikernel run`: a machine in QEMU that boots an image.

use super::enroll;
use crate::cli::{Accel, UnikernelRun};
use crate::node::runtime;
use crate::output;
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use wayfare_board::{Payload, Role, payload_of};
use wayfare_store::atomic;

/// What the kernel ends QEMU with (`unikernel/node/src/main.rs`, `unikernel/kernel/src/report.rs`): up to this, the task's exit
/// status and one.
const EXITED_MOST: i32 = 125;
const TRAPPED: i32 = 126;
const PANICKED: i32 = 127;
/// With this a kernel begins to speak where firmware has spoken (`unikernel/kernel/src/riscv64/mod.rs`), and with the other
/// one it ends, if the machine is reset.
const START_OF_TEXT: u8 = 2;
const END_OF_TEXT: u8 = 3;
/// What `wayfare run` says of a task that trapped.
const TRAPPED_STATUS: u8 = 134;
/// Where boards listen (`unikernel/node/src/agent/mod.rs`).
const PORT: u16 = 7600;
/// Under which address QEMU's network has the machine that it runs on.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// Boots an image in QEMU, with its console as this program's output.
///
/// # Errors
/// When there is no QEMU, the machine cannot join, or it failed.
pub fn run(args: &UnikernelRun) -> Result<ExitCode> {
    let mut path = args.image.clone();
    let image = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    // Else QEMU's words on a file that is none would be all that there is.
    let machine = Machine::of(&image);
    let machine =
        machine.with_context(|| format!("{}: this is not an image by `wayfare unikernel build`", path.display()))?;
    if let Some(by) = &args.join {
        path = join(&image, &args.image, by, &args.name)?;
    }
    let is_node = args.join.is_some() || is_node(&image, &path)?;
    let mut command = machine.command(args, &path);
    let mut words = args.append.clone();
    if is_node {
        let (network, settings) = network(args)?;
        command.args(network);
        words.insert(0, settings);
    } else {
        // A task's machine ends when it fails; a node's is reset.
        command.arg("-no-reboot");
    }
    if !words.is_empty() {
        command.arg("-append").arg(words.join(" "));
    }
    command.args(&args.qemu).stdin(Stdio::null());
    if machine.has_firmware {
        command.stdout(Stdio::piped());
    }
    let qemu = machine.qemu;
    let mut child = command.spawn().map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => anyhow::anyhow!("{qemu} is not installed (Debian: {})", machine.package),
        _ => anyhow::Error::new(e).context(qemu),
    })?;
    end_with(&child)?;
    let passed_on = child.stdout.take().map_or(Ok(()), |console| pass_on(console, is_node, &mut std::io::stdout()));
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
        // Nodes have no end of their own.
        None if code == 0 && is_node => Ok(ExitCode::SUCCESS),
        None if code == 0 => bail!("{qemu} was ended before the machine was"),
        None => bail!("{qemu} failed (exit status {code})"),
    }
}

/// Whether an image is a node's.
fn is_node(image: &[u8], path: &Path) -> Result<bool> {
    let payload = payload_of(image).with_context(|| path.display().to_string())?;
    let Some(payload) = payload else {
        bail!("{}: this image belongs to no cluster yet: say --join TOKEN@ADDRESS", path.display());
    };
    // The kernel says it of one that is damaged.
    Ok(Payload::decode(payload).is_ok_and(|payload| matches!(payload.role, Role::Node { .. })))
}

/// Makes the machine a node, whose image is a file of its own: with it, it is the same node when it is switched on again.
fn join(image: &[u8], path: &Path, by: &str, name: &str) -> Result<PathBuf> {
    let own = path.with_file_name(format!("{name}.img"));
    if own.exists() {
        bail!("{} exists: if that is the node, run it without --join", own.display());
    }
    let image = enroll(image, path, by, name)?;
    atomic::write(&own, &image).with_context(|| format!("cannot write {}", own.display()))?;
    output::notice(&format!("{name} is a node; to switch it on again: wayfare unikernel run {}", own.display()));
    Ok(own)
}

/// How QEMU calls virtio devices, after what they are: by how they are reached.
fn bus(args: &UnikernelRun) -> &'static str {
    if args.pci { "pci" } else { "device" }
}

/// A network card, on a network of QEMU's that leads to this machine's; and what the node is to know of it.
fn network(args: &UnikernelRun) -> Result<(Vec<OsString>, String)> {
    let listen = match args.listen {
        Some(address) => address,
        // One that is free now.
        None => TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?,
    };
    // QEMU's own words on it are hard to understand.
    drop(TcpListener::bind(listen).with_context(|| format!("cannot listen on {listen}"))?);
    let SocketAddr::V4(listen) = listen else { bail!("{listen}: QEMU's network takes an IPv4 address here") };
    let known_as = args.advertise.clone().unwrap_or_else(|| listen.to_string());
    let forward = format!("hostfwd=tcp:{}:{}-:{PORT}", listen.ip(), listen.port());
    let settings = format!("wayfare.address={known_as} wayfare.loopback={GATEWAY}");
    let all = [
        "-netdev".to_string(),
        format!("user,id=net,{forward}"),
        "-device".into(),
        format!("virtio-net-{},netdev=net", bus(args)),
    ];
    Ok((all.into_iter().map(OsString::from).collect(), settings))
}

/// Has this program's end be the machine's.
fn end_with(child: &Child) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let id = rustix::process::Pid::from_child(child);
    let runtime = runtime()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
                return;
            };
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            // It has no file open for writing, and the machine no state that could be lost otherwise.
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        });
    });
    Ok(())
}

/// Passes on what a machine says, but not what its firmware says before the kernel does, and again where the machine
/// `may_begin_again`; that is all there is if the kernel says nothing.
fn pass_on(mut console: impl Read, may_begin_again: bool, to: &mut impl Write) -> std::io::Result<()> {
    let (mut before, mut buffer) = (Some(Vec::new()), [0; 4096]);
    loop {
        let len = match console.read(&mut buffer) {
            Ok(0) => return to.write_all(&before.unwrap_or_default()),
            Ok(len) => len,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let mut said = &buffer[..len];
        while !said.is_empty() {
            let until = match before {
                Some(_) => Some(START_OF_TEXT),
                None => may_begin_again.then_some(END_OF_TEXT),
            };
            let at = said.iter().position(|byte| Some(*byte) == until);
            let (now, rest) = said.split_at(at.unwrap_or(said.len()));
            match &mut before {
                Some(kept) => kept.extend_from_slice(now),
                None => to.write_all(now)?,
            }
            if at.is_some() {
                before = if before.is_some() { None } else { Some(Vec::new()) };
            }
            said = rest.get(1..).unwrap_or_default();
        }
        to.flush()?;
    }
}

/// How QEMU has a machine that boots an image.
struct Machine {
    /// Of the image's ELF head.
    number: u16,
    qemu: &'static str,
    package: &'static str,
    /// The machine, and one that has PCI.
    board: &'static str,
    pci: &'static str,
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
        board: "microvm,acpi=off,pit=on,isa-serial=on",
        pci: "q35",
        arguments: &[
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
        board: "virt",
        pci: "virt",
        arguments: &["-cpu", "max", "-global", "virtio-mmio.force-legacy=off", "-semihosting"],
        has_firmware: false,
        // The kernel makes the same of it.
        written: |status| (status & 1 == 1 && status > 1).then_some(status >> 1),
    },
    Machine {
        number: 243,
        qemu: "qemu-system-riscv64",
        package: "qemu-system-misc, opensbi",
        board: "virt",
        pci: "virt",
        arguments: &["-global", "virtio-mmio.force-legacy=off"],
        has_firmware: true,
        // As above.
        written: |status| (status & 1 == 1 && status > 1).then_some(status >> 1),
    },
];

impl Machine {
    fn of(image: &[u8]) -> Option<&'static Machine> {
        let number = image.get(18..20)?;
        let kind = |machine: &&Machine| machine.number.to_le_bytes() == *number;
        MACHINES.iter().find(kind).filter(|_| image.starts_with(b"\x7fELF\x02\x01"))
    }

    /// QEMU with that machine in it, but without a network.
    fn command(&self, args: &UnikernelRun, image: &Path) -> Command {
        let mut command = Command::new(self.qemu);
        command.args(["-M", if args.pci { self.pci } else { self.board }]);
        command.args(self.arguments).args(["-nodefaults", "-no-user-config", "-display", "none"]);
        command.args(["-chardev", "stdio,id=console,signal=on", "-serial", "chardev:console"]);
        command.args(["-accel", if args.accel == Accel::Kvm { "kvm" } else { "tcg" }]);
        command.arg("-m").arg(format!("{}k", args.memory.div_ceil(1024)));
        command.arg("-smp").arg(args.cpus.to_string());
        command.arg("-device").arg(format!("virtio-rng-{}", bus(args)));
        command.arg("-kernel").arg(image);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_kernel_says_is_passed_on() {
        let passed = |said: &[u8], may_begin_again| {
            let mut to = Vec::new();
            pass_on(said, may_begin_again, &mut to).unwrap();
            String::from_utf8(to).unwrap()
        };
        assert_eq!(passed(b"firmware\x02hello", true), "hello");
        assert_eq!(passed(b"firmware\x02one\x03firmware\x02two", true), "onetwo");
        // What a task says is its own.
        assert_eq!(passed(b"firmware\x02one\x03\x02two", false), "one\x03\x02two");
        assert_eq!(passed(b"no kernel", true), "no kernel");
        assert_eq!(passed(b"firmware\x02one\x03no kernel", true), "oneno kernel");
    }
}
