//! What may be typed: every command, its options and its examples.

mod control;
mod node;
mod plan;
mod protect;
mod simulate;
mod snapshot;
mod unikernel;

use crate::units;
use clap::{Args, Parser, Subcommand, ValueEnum};
pub use control::*;
pub use node::*;
pub use plan::*;
pub use protect::*;
pub use simulate::*;
pub use snapshot::*;
use std::path::PathBuf;
pub use unikernel::*;

/// Runs WebAssembly programs that can be captured while they run, and resumed on another machine.
#[derive(Debug, Parser)]
#[command(name = "wayfare", version, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  wayfare run app.wasm --dir data::/data -- --verbose
  wayfare ps
  wayfare capture app -o app.snap
  wayfare inspect app.snap
  wayfare resume app.snap --dir data::/data
  wayfare up --nodes 3
  wayfare submit set.json

Exit status: the program's own; 1 on a failure, 2 on wrong usage, 75 when the program was captured and
goes on elsewhere, 134 when it trapped.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a program (a .wasm module or a compiled image)
    Run(Run),
    /// Go on with a captured task
    Resume(Resume),
    /// Capture a running task into a file
    Capture(Capture),
    /// List the tasks that run on this machine
    Ps(Ps),
    /// Show what a task of the agent has written
    Logs(Logs),
    /// Stop a task of the agent
    #[command(after_help = "Examples:\n  wayfare stop sim")]
    Stop(OfAgent),
    /// Forget a task of the agent that is over
    #[command(after_help = "Examples:\n  wayfare rm sim")]
    Rm(OfAgent),
    /// Show what the agent's tasks use
    Stats(Stats),
    /// Move a task of the agent to another node while it runs
    Migrate(Migrate),
    /// Give a task of the agent a standby on another node, which goes on with it when this one is gone
    Protect(Protect),
    /// Take a task's standby away
    Unprotect(Unprotect),
    /// List tasks with their standbys
    Protected(Protected),
    /// Have a task's standby take over
    Failover(Failover),
    /// Have a task go back to the node where it was given its standby
    Failback(Failback),
    /// Run a cluster on this machine, with a controller that has sets of tasks run
    Up(Up),
    /// Show where and when the tasks of a set would run, and why
    Plan(Plan),
    /// Have a set of tasks, or a task, run by the cluster
    Submit(Submit),
    /// List the controller's tasks
    Tasks(Tasks),
    /// Wait until a set of tasks is over
    Wait(Wait),
    /// Cancel a task of the controller
    Cancel(Cancel),
    /// Make and end tokens, by which others may ask the controller
    #[command(subcommand)]
    Token(TokenCommand),
    /// Make and join clusters, and serve as a node
    #[command(subcommand)]
    Node(NodeCommand),
    /// List the nodes of the cluster
    Nodes(Nodes),
    /// Show a task of the controller, and what became of it
    Task(Task),
    /// Make images that machines without an operating system boot
    #[command(subcommand)]
    Unikernel(UnikernelCommand),
    /// Compile a module for this or another machine
    Compile(Compile),
    /// Show what a module, an image or a snapshot holds
    Inspect(Inspect),
    /// Check and combine snapshots
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Try out policies in simulated time
    Simulate(Simulate),
    /// Measure what Wayfare costs
    Bench(crate::bench::Bench),
    /// Print the description of the controller's HTTP API
    #[command(after_help = "Examples:\n  wayfare openapi > openapi.json")]
    Openapi,
    /// Print a completion script for a shell
    #[command(
        after_help = "Examples:\n  wayfare completions bash > ~/.local/share/bash-completion/completions/wayfare"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Where a program runs and what it may see of this machine.
#[derive(Debug, Args)]
pub struct Place {
    /// Share a directory of this machine with the program, which knows it as GUEST (default: the same name)
    #[arg(long, value_name = "HOST[::GUEST]")]
    pub dir: Vec<String>,
    /// Like --dir, for reading only
    #[arg(long, value_name = "HOST[::GUEST]")]
    pub dir_ro: Vec<String>,
    /// Give the program a directory that moves with it; it is stored back when the program ends
    #[arg(long, value_name = "HOST[::GUEST]")]
    pub volume: Vec<String>,
    /// What `wayfare ps` and `wayfare capture` call the task
    #[arg(long)]
    pub name: Option<String>,
    /// Run on another code generator: pulley64 is an interpreter that works everywhere
    #[arg(long, env = "WAYFARE_TARGET")]
    pub target: Option<String>,
}

/// `wayfare run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare run hello.wasm
  wayfare run app.wasm --dir data::/data --env LEVEL=3 -- --verbose input.txt
  wayfare run db.wasm --volume db::/db --name db
  wayfare run --detach --name sim sim.wasm -- 1000      on this machine's agent (wayfare node serve)

Exit status: the program's own; 75 when it was captured, 134 when it trapped.")]
pub struct Run {
    /// The program: a .wasm module, or an image made by `wayfare compile`
    #[arg(value_name = "PROG")]
    pub program: PathBuf,
    #[command(flatten)]
    pub place: Place,
    /// Set a variable of the program's environment
    #[arg(long, value_name = "NAME=VALUE", value_parser = units::variable)]
    pub env: Vec<(String, String)>,
    /// Give every NaN the same bits on every machine (floating-point loops get slower)
    #[arg(long)]
    pub canonical_nan: bool,
    /// Run the program even if it cannot be captured
    #[arg(long)]
    pub allow_unmovable: bool,
    #[command(flatten)]
    pub detached: Detached,
    /// The program's arguments
    #[arg(trailing_var_arg = true)]
    pub args: Vec<String>,
}

/// `wayfare resume`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare resume app.snap
  wayfare resume app.snap --dir /mnt/data::/data --volume db::/db
  wayfare resume app.snap --program app.wasm        on a machine that has never run it

Exit status: as `wayfare run`.")]
pub struct Resume {
    /// The snapshot
    #[arg(value_name = "FILE")]
    pub snapshot: PathBuf,
    #[command(flatten)]
    pub place: Place,
    /// The program it was taken from (default: found by its digest among those that ran here)
    #[arg(long, value_name = "PROG")]
    pub program: Option<PathBuf>,
}

/// `wayfare capture`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare capture app -o app.snap
  wayfare capture app -o first.snap --keep-running
  wayfare capture app -o second.snap --keep-running --since first.snap
  wayfare capture app -o app.snap --compress zstd --json

Without --keep-running the task stops once the snapshot is on the disk, and `wayfare run` ends with
status 75. If anything goes wrong the task goes on as before. To go on here, it needs code that a task
that was only started does not have: the first --keep-running of a program compiles that.")]
pub struct Capture {
    #[command(flatten)]
    pub at: At,
    /// The task's name, as `wayfare ps` shows it
    pub name: String,
    /// Where to write the snapshot
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Let the task go on here
    #[arg(long)]
    pub keep_running: bool,
    /// Write only what has changed since this earlier full snapshot of the task
    #[arg(long, value_name = "EARLIER")]
    pub since: Option<PathBuf>,
    /// How to pack it: lz4 is quick, zstd is small
    #[arg(long, value_enum, default_value_t = Compress::Lz4)]
    pub compress: Compress,
    /// Print what was done as JSON
    #[arg(long)]
    pub json: bool,
}

/// How a snapshot is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compress {
    /// Quick
    Lz4,
    /// Small
    Zstd,
    /// As it is
    None,
}

impl From<Compress> for wayfare_snapshot::Compression {
    fn from(compress: Compress) -> Self {
        match compress {
            Compress::Lz4 => Self::Lz4,
            Compress::Zstd => Self::Zstd(3),
            Compress::None => Self::None,
        }
    }
}

/// How a listing is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For reading
    #[default]
    Text,
    /// For programs
    Json,
}

/// `wayfare ps`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wayfare ps\n  wayfare ps -a -o json\n  wayfare ps --node board1")]
pub struct Ps {
    #[command(flatten)]
    pub asked: Asked,
    /// Tasks of the agent that have ended or are elsewhere, too
    #[arg(short, long)]
    pub all: bool,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// `wayfare compile`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare compile app.wasm                          makes app-x86_64.img
  wayfare compile app.wasm --target aarch64 -o gateway.img

`wayfare run` compiles by itself and keeps the result; an image spares the first run, and devices without
a compiler, the wait.")]
pub struct Compile {
    /// The module
    #[arg(value_name = "PROG.wasm")]
    pub program: PathBuf,
    /// What to compile for: x86_64, x86_64-v2 (any processor since about 2011), aarch64, riscv64, pulley64; with -none
    /// behind it, a machine without an operating system (default: this machine, with all that its processor has)
    #[arg(long)]
    pub target: Option<String>,
    /// The image (default: the module's name and the target, in this directory)
    #[arg(short, long, value_name = "OUT")]
    pub output: Option<PathBuf>,
    /// Give every NaN the same bits on every machine (floating-point loops get slower)
    #[arg(long)]
    pub canonical_nan: bool,
    /// Compile the module even if it cannot be captured
    #[arg(long)]
    pub allow_unmovable: bool,
}

/// `wayfare inspect`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare inspect app.wasm                          what of it can be captured, and where
  wayfare inspect app.snap                          the call stack with its values, memory, open files
  wayfare inspect app.snap -o json")]
pub struct Inspect {
    /// A module, an image or a snapshot
    pub file: PathBuf,
    /// The program a snapshot was taken from (default: found by its digest among those that ran here)
    #[arg(long, value_name = "PROG")]
    pub program: Option<PathBuf>,
    /// Leave nothing out of long lists
    #[arg(long)]
    pub all: bool,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}
