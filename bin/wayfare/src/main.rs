//! The command line: one program that runs, captures, resumes and looks at tasks.
//!
//! `cli` says what may be typed; each command is a module with a `run` that gives the exit status. `program` turns
//! files into images, `registry` and `control` are how one `wayfare` finds and asks another, `running` is what both
//! `run` and `resume` end in.

mod atomic;
mod bench;
mod capture;
mod cli;
mod compile;
mod control;
mod inspect;
mod locations;
mod mounts;
mod output;
mod program;
mod ps;
mod registry;
mod resume;
mod run;
mod running;
mod snapshots;
mod standing;

use clap::{CommandFactory, Parser};
use cli::{Cli, Command, SnapshotCommand};
use std::process::ExitCode;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::Resume(args) => resume::run(args),
        Command::Capture(args) => capture::run(&args),
        Command::Ps(args) => ps::run(&args),
        Command::Compile(args) => compile::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Snapshot(SnapshotCommand::Verify(args)) => snapshots::verify(&args),
        Command::Snapshot(SnapshotCommand::Squash(args)) => snapshots::squash(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Completions { shell } => completions(shell),
    };
    match result {
        Ok(status) => status,
        Err(e) => {
            output::complain(&format!("{e:#}"));
            ExitCode::FAILURE
        }
    }
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "wayfare", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
