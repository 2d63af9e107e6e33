//! What may be typed about machines without an operating system.

use crate::units;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// `wayfare unikernel ...`.
#[derive(Debug, Subcommand)]
pub enum UnikernelCommand {
    /// Make an image that a machine without an operating system boots, with a program to run
    Build(UnikernelBuild),
    /// Boot an image in QEMU, to try it
    Run(UnikernelRun),
}

/// `wayfare unikernel build`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare unikernel build --target x86_64 --task app.wasm -o node.img
  wayfare unikernel build --target x86_64 --task app.wasm --env LEVEL=2 -o node.img -- --verbose
  wayfare unikernel run node.img --memory 64M
  wayfare unikernel build --target x86_64 --task app.wasm --snapshot app.snap -o node.img

The image is an ELF file (QEMU -kernel; how to boot it elsewhere: docs/unikernel.md). The program finds
a console to write to and a clock; files, standard input and the network are not there yet.")]
pub struct UnikernelBuild {
    /// What kind of machine: x86_64, aarch64 or riscv64
    #[arg(long)]
    pub target: String,
    /// The program, a module
    #[arg(long, value_name = "PROG.wasm")]
    pub task: PathBuf,
    /// Go on from where the program was captured, with the arguments and the environment that it had
    #[arg(long, value_name = "SNAPSHOT", conflicts_with_all = ["env", "args", "canonical_nan"])]
    pub snapshot: Option<PathBuf>,
    /// The image
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// Set an environment variable of the program
    #[arg(long, value_name = "NAME=VALUE", value_parser = units::variable)]
    pub env: Vec<(String, String)>,
    /// Give every NaN the same bits on every machine (floating-point loops get slower)
    #[arg(long)]
    pub canonical_nan: bool,
    /// The kernel (default: the one that comes with this program)
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// The program's arguments
    #[arg(last = true)]
    pub args: Vec<String>,
}

/// `wayfare unikernel run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare unikernel run node.img
  wayfare unikernel run node.img --memory 16M

Exit status: the program's own (124 for any above), 134 when it trapped, 1 when the machine failed.")]
pub struct UnikernelRun {
    /// The image
    #[arg(value_name = "IMAGE")]
    pub image: PathBuf,
    /// Memory of the machine
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = memory)]
    pub memory: u64,
    /// What runs it: QEMU's own translator, or the processor by KVM (only where KVM runs a kernel's code natively)
    #[arg(long, value_enum, default_value_t = Accel::Tcg)]
    pub accel: Accel,
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
