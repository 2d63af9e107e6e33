//! What may be typed about snapshots: files, and those that the controller keeps.

use super::{At, Compress, Format};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `wayfare snapshot ...`.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Check that a snapshot is whole and undamaged
    Verify(Verify),
    /// Make one snapshot of two that follow each other
    Squash(Squash),
    /// Have the controller make and keep a snapshot of a task of its, which runs on
    #[command(after_help = "Examples:\n  wayfare snapshot take sim")]
    Take(OfTask),
    /// List the snapshots of a task that the controller keeps
    #[command(after_help = "Examples:\n  wayfare snapshot ls sim\n  wayfare snapshot ls sim -o json")]
    Ls(OfTask),
    /// Fetch a snapshot from the controller
    Get(Get),
    /// Have a new task go on from a snapshot that the controller keeps
    Resume(ResumeKept),
    /// Have the controller forget a snapshot
    #[command(after_help = "Examples:\n  wayfare snapshot rm 7")]
    Rm(Kept),
}

/// `wayfare snapshot verify`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wayfare snapshot verify app.snap")]
pub struct Verify {
    /// The snapshot
    pub file: PathBuf,
}

/// `wayfare snapshot squash`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wayfare snapshot squash first.snap since-first.snap -o now.snap")]
pub struct Squash {
    /// The earlier snapshot
    pub first: PathBuf,
    /// The one that was taken with `--since` the earlier one
    pub second: PathBuf,
    /// Where to write the result
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// How to pack it
    #[arg(long, value_enum, default_value_t = Compress::Lz4)]
    pub compress: Compress,
}

/// `wayfare snapshot take` and `ls`.
#[derive(Debug, Args)]
pub struct OfTask {
    #[command(flatten)]
    pub at: At,
    /// The task
    pub name: String,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// `wayfare snapshot get`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare snapshot get 7 -o sim.snap
  wayfare resume sim.snap --module sim.wasm         it goes on here, by itself

`wayfare inspect` shows what is in it.")]
pub struct Get {
    #[command(flatten)]
    pub at: At,
    /// Its number, as `wayfare snapshot ls` shows it
    pub id: u64,
    /// Where to write it
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

/// `wayfare snapshot resume`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wayfare snapshot resume 7 --name sim-again

The new task has the order of the one that the snapshot is of, and its output up to then.")]
pub struct ResumeKept {
    #[command(flatten)]
    pub at: At,
    /// Its number, as `wayfare snapshot ls` shows it
    pub id: u64,
    /// What the new task is to be called
    #[arg(long)]
    pub name: String,
}

/// `wayfare snapshot rm`.
#[derive(Debug, Args)]
pub struct Kept {
    #[command(flatten)]
    pub at: At,
    /// Its number, as `wayfare snapshot ls` shows it
    pub id: u64,
}
