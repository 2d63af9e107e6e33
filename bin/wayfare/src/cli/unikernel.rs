//! What may be typed about machines without an operating system.

use crate::units;
use clap::{Args, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

/// `wayfare unikernel ...`.
#[derive(Debug, Subcommand)]
pub enum UnikernelCommand {
    /// Make an image that a machine without an operating system boots: a node of a cluster, or one program
    Build(UnikernelBuild),
    /// Boot an image in QEMU, to try it
    Run(UnikernelRun),
}

/// `wayfare unikernel build`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare unikernel build --target aarch64 --join wf1-...@192.0.2.7:7600 --name board1 -o board1.img
  wayfare unikernel build --target riscv64 -o node.img
  wayfare unikernel run node.img --join wf1-...@127.0.0.1:7600 --name board2
  wayfare unikernel build --target x86_64 --task app.wasm --env LEVEL=2 -o app.img -- --verbose
  wayfare unikernel build --target x86_64 --task app.wasm --snapshot app.snap -o app.img
  wayfare unikernel build --target x86_64 --join wf1-...@192.0.2.7:7600 --name pc1 --format iso -o pc1.iso
  wayfare unikernel build --target aarch64 --join wf1-...@192.0.2.7:7600 --name pi1 --format raw -o kernel8.img

With --join the image is that node wherever it boots, and holds its key: let one machine boot it, and keep
it as you keep a key. With --task it runs a program and ends; the program finds a console to write to and a
clock. How machines boot an image: docs/unikernel.md.")]
pub struct UnikernelBuild {
    /// What kind of machine: x86_64, aarch64 or riscv64
    #[arg(long)]
    pub target: String,
    /// Make it a node of the cluster that this invitation is of (`wayfare node invite`)
    #[arg(long, value_name = "TOKEN@ADDRESS", conflicts_with = "task")]
    pub join: Option<String>,
    /// The node's name (default: the image's)
    #[arg(long, requires = "join")]
    pub name: Option<String>,
    /// Make it a machine that runs this program, a module, and nothing else
    #[arg(long, value_name = "PROG.wasm")]
    pub task: Option<PathBuf>,
    /// Go on from where the program was captured, with the arguments and the environment that it had
    #[arg(long, value_name = "SNAPSHOT", requires = "task", conflicts_with_all = ["env", "args", "canonical_nan"])]
    pub snapshot: Option<PathBuf>,
    /// The image
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// What the machine's firmware or boot loader takes
    #[arg(long, value_enum, default_value_t = ImageFormat::Elf)]
    pub format: ImageFormat,
    /// The image's own command line; of a setting that the boot loader gives too, the loader's counts
    #[arg(long, value_name = "TEXT")]
    pub append: Option<String>,
    /// Set an environment variable of the program
    #[arg(long, value_name = "NAME=VALUE", value_parser = units::variable, requires = "task")]
    pub env: Vec<(String, String)>,
    /// Give every NaN the same bits on every machine (floating-point loops get slower)
    #[arg(long, requires = "task")]
    pub canonical_nan: bool,
    /// Check each access to memory by instructions, not by page tables: slower, for comparison
    #[arg(long, requires = "task", hide_short_help = true)]
    pub explicit_bounds: bool,
    /// The kernel (default: the one that comes with this program)
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// The program's arguments
    #[arg(last = true, requires = "task")]
    pub args: Vec<String>,
}

/// What kind of file an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImageFormat {
    /// An ELF file: QEMU's -kernel, GRUB (x86_64: PVH and Multiboot2), `wayfare unikernel run`.
    Elf,
    /// A disc or USB stick that a PC boots by BIOS or UEFI (x86_64).
    Iso,
    /// A flat file that begins as Linux's do: U-Boot's booti, a Raspberry Pi, QEMU's -kernel (aarch64, riscv64).
    Raw,
}

/// `wayfare unikernel run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare unikernel run app.img --memory 16M
  wayfare unikernel run node.img --join wf1-...@127.0.0.1:7600 --name board1
  wayfare unikernel run board1.img --memory 256M --listen 0.0.0.0:7601 --advertise 192.0.2.7:7601
  wayfare unikernel run board1.img -- -monitor unix:monitor.sock,server,nowait

A node runs until it is switched off: Ctrl-C. Its tasks are in its memory and end with it: move them away
first.

Exit status: the program's own (124 for any above), 134 when it trapped, 1 when the machine failed.")]
pub struct UnikernelRun {
    /// The image
    #[arg(value_name = "IMAGE")]
    pub image: PathBuf,
    /// Make the machine a node of the cluster that this invitation is of; its image is then NAME.img, beside IMAGE
    #[arg(long, value_name = "TOKEN@ADDRESS")]
    pub join: Option<String>,
    /// The node's name
    #[arg(long, default_value = "board", requires = "join")]
    pub name: String,
    /// Where others reach the node on this machine (default: a free port of 127.0.0.1)
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// How other nodes reach it (default: the address it listens on)
    #[arg(long, value_name = "ADDRESS")]
    pub advertise: Option<String>,
    /// Processors of the machine
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub cpus: u8,
    /// Memory of the machine
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = memory)]
    pub memory: u64,
    /// More for the kernel's command line: a word, such as wayfare.watchdog=60 (may be repeated)
    #[arg(long, value_name = "WORD")]
    pub append: Vec<String>,
    /// What runs it: QEMU's own translator, or the processor by KVM (only where KVM runs a kernel's code natively)
    #[arg(long, value_enum, default_value_t = Accel::Tcg)]
    pub accel: Accel,
    /// Give the machine its devices on PCI, as PCs and clouds have them; for x86_64 it is a PC then (q35)
    #[arg(long)]
    pub pci: bool,
    /// Anything else for QEMU
    #[arg(last = true, value_name = "QEMU-OPTIONS")]
    pub qemu: Vec<std::ffi::OsString>,
}

/// What runs the machine's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Accel {
    /// QEMU's translator.
    Tcg,
    /// The processor.
    Kvm,
}

/// The kernel, its page tables and an engine without a task.
const LEAST: u64 = 4 << 20;

fn memory(text: &str) -> Result<u64, String> {
    match units::size(text)? {
        size if size < LEAST => Err("a machine needs at least 4 MiB".into()),
        size => Ok(size),
    }
}
