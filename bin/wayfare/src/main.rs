//! The command line: one program that runs, captures, resumes and looks at tasks.
//!
//! `cli` says what may be typed; each command is a module with a `run` that gives the exit status. `program` turns
//! files into images, `registry` and `control` are how one `wayfare` finds and asks another, `running` is what both
//! `run` and `resume` end in.

mod access;
mod api;
mod bench;
mod capture;
mod cli;
mod client;
mod compile;
mod control;
mod inspect;
mod kept;
mod log;
mod migrate;
mod mounts;
mod node;
mod output;
mod plan;
mod protect;
mod ps;
mod registry;
mod resume;
mod run;
mod running;
mod sets;
mod simulate;
mod snapshots;
mod spans;
mod standing;
mod tasks;
mod unikernel;
mod units;
mod up;
mod watched;

use clap::{CommandFactory, Parser};
use cli::{Cli, Command, Simulate, SimulateCommand, SnapshotCommand, Task, TaskCommand, UnikernelCommand};
use std::process::ExitCode;

fn main() -> ExitCode {
    wayfare_store::observe(wayfare_store::Observer {
        notice: output::notice,
        working: |what, work| standing::while_running(what, work),
    });
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::Resume(args) => resume::run(args),
        Command::Capture(args) => capture::run(&args),
        Command::Ps(args) => ps::run(&args),
        Command::Logs(args) => tasks::logs(&args),
        Command::Stop(args) => tasks::stop(&args),
        Command::Rm(args) => tasks::remove(&args),
        Command::Stats(args) => tasks::stats(&args),
        Command::Migrate(args) => migrate::run(&args),
        Command::Protect(args) => protect::protect(&args),
        Command::Unprotect(args) => protect::unprotect(&args),
        Command::Protected(args) => protect::list(&args),
        Command::Failover(args) => protect::failover(&args),
        Command::Failback(args) => protect::failback(&args),
        Command::Up(args) => up::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Submit(args) => sets::submit(&args),
        Command::Tasks(args) => sets::list(&args),
        Command::Wait(args) => sets::wait(&args),
        Command::Cancel(args) => sets::cancel(&args),
        Command::Node(command) => node::run(command),
        Command::Nodes(args) => node::list(&args),
        Command::Task(Task { command: Some(TaskCommand::Resolve(args)), .. }) => tasks::resolve(&args),
        Command::Task(args) => sets::show(&args),
        Command::Token(command) => access::run(command),
        Command::Unikernel(UnikernelCommand::Build(args)) => unikernel::build(&args),
        Command::Unikernel(UnikernelCommand::Run(args)) => unikernel::run(&args),
        Command::Compile(args) => compile::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Snapshot(SnapshotCommand::Verify(args)) => snapshots::verify(&args),
        Command::Snapshot(SnapshotCommand::Squash(args)) => snapshots::squash(&args),
        Command::Snapshot(SnapshotCommand::Take(args)) => kept::take(&args),
        Command::Snapshot(SnapshotCommand::Ls(args)) => kept::list(&args),
        Command::Snapshot(SnapshotCommand::Get(args)) => kept::get(&args),
        Command::Snapshot(SnapshotCommand::Resume(args)) => kept::resume(&args),
        Command::Snapshot(SnapshotCommand::Rm(args)) => kept::remove(&args),
        Command::Simulate(Simulate { command, cluster }) => match command {
            None => simulate::sched::run(&cluster),
            Some(SimulateCommand::Table(args)) => simulate::sched::table(&args),
            Some(SimulateCommand::Sched(args)) => simulate::sched::run(&args),
            Some(SimulateCommand::Naps(args)) => simulate::run(&args),
            Some(SimulateCommand::Link(args)) => simulate::link(&args),
        },
        Command::Bench(args) => bench::run(&args),
        Command::Openapi => output::print(&(wayfare_control::openapi() + "\n")).map(|()| ExitCode::SUCCESS),
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
