//! `wayfare snapshot take`, `ls`, `get`, `resume`, `rm`: the snapshots that the controller keeps.

use crate::api::Api;
use crate::cli::{self, Format};
use crate::output::{self, Paint};
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};
use wayfare_api::{Accepted, SnapshotView, TaskView};
use wayfare_snapshot::Header;
use wayfare_store::atomic::Atomic;

fn of_task(name: &str) -> String {
    format!("/v1/tasks/{name}/snapshots")
}

fn taken(api: &Api, name: &str) -> Result<SnapshotView> {
    crate::standing::while_running("taking a snapshot", || api.ask(&of_task(name), b""))
}

/// Has one made.
///
/// # Errors
/// When the task does not run, or cannot be captured; it goes on then.
pub fn take(args: &cli::OfTask) -> Result<ExitCode> {
    let made = taken(&Api::of(args.at.state.as_deref())?, &args.name)?;
    match args.output {
        Format::Json => output::print_json(&json!(made))?,
        Format::Text => output::print(&format!(
            "snapshot {} of {}, on {}: {}; fetch it with `wayfare snapshot get {}`\n",
            made.id,
            made.task,
            made.node,
            output::bytes(made.bytes),
            made.id
        ))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Lists those of a task.
///
/// # Errors
/// When there is no such task.
pub fn list(args: &cli::OfTask) -> Result<ExitCode> {
    let all: Vec<SnapshotView> = Api::of(args.at.state.as_deref())?.get(&of_task(&args.name))?;
    if args.output == Format::Json {
        output::print_json(&json!(all))?;
        return Ok(ExitCode::SUCCESS);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let row = |s: &SnapshotView| {
        vec![
            s.id.to_string(),
            format!("{:.1} s ago", now.saturating_sub(s.at) as f64 / 1e3),
            s.node.clone(),
            output::bytes(s.bytes),
            format!("{:.1} s", s.done),
            if s.by_hand { "by hand" } else { "by itself" }.into(),
        ]
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    output::print(&output::table(&["ID", "TAKEN", "ON", "SIZE", "WORK DONE", "HOW"], &rows, Paint::stdout()))?;
    Ok(ExitCode::SUCCESS)
}

/// Fetches one.
///
/// # Errors
/// When there is none, or it cannot be written: there is no file then.
pub fn get(args: &cli::Get) -> Result<ExitCode> {
    let bytes = fetch(&Api::of(args.at.state.as_deref())?, args.id, &args.output)?;
    output::print(&format!("snapshot {}: {} to {}\n", args.id, output::bytes(bytes), args.output.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn fetch(api: &Api, id: u64, to: &Path) -> Result<u64> {
    let mut from = api.stream(&format!("/v1/snapshots/{id}"))?;
    let mut head = [0; Header::LEN];
    from.read_exact(&mut head).context("the controller broke off")?;
    let total = Header::parse(&head).context("the controller sends no snapshot")?.total_len;
    let cannot = || format!("cannot write {}", to.display());
    let mut atomic = Atomic::create(to).with_context(cannot)?;
    atomic.file.write_all(&head).with_context(cannot)?;
    let bytes = head.len() as u64 + std::io::copy(&mut from, &mut atomic.file).with_context(cannot)?;
    ensure!(bytes == total, "the controller broke off after {bytes} of {total} bytes");
    atomic.commit().with_context(cannot)?;
    Ok(bytes)
}

/// `wayfare capture` of a task of the controller, which runs on.
///
/// # Errors
/// As [`take`] and [`get`].
pub fn capture(api: &Api, task: &TaskView, args: &cli::Capture) -> Result<ExitCode> {
    if !args.keep_running || args.since.is_some() || args.compress != cli::Compress::Lz4 {
        bail!(
            "{}: the controller's tasks are captured whole, packed by lz4, and run on: say --keep-running, or `wayfare cancel` it \
             afterwards",
            args.name
        );
    }
    let made = taken(api, &task.name)?;
    let fetched = fetch(api, made.id, &args.output);
    // It was made for the file.
    let _ = api.delete(&format!("/v1/snapshots/{}", made.id));
    let bytes = fetched?;
    match args.json {
        true => output::print_json(&json!({ "file": args.output, "bytes": bytes }))?,
        false => output::print(&format!("{}: {} to {}\n", args.name, output::bytes(bytes), args.output.display()))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Has a new task go on from one.
///
/// # Errors
/// When there is none, or a task of that name.
pub fn resume(args: &cli::ResumeKept) -> Result<ExitCode> {
    let body = json!({ "name": args.name }).to_string();
    let api = Api::of(args.at.state.as_deref())?;
    let accepted: Accepted = api.ask(&format!("/v1/snapshots/{}/resume", args.id), body.as_bytes())?;
    output::print(&format!("{} goes on from snapshot {}\n", accepted.set, args.id))?;
    Ok(ExitCode::SUCCESS)
}

/// Has one forgotten.
///
/// # Errors
/// When there is none, or its task may have to go on from it.
pub fn remove(args: &cli::Kept) -> Result<ExitCode> {
    Api::of(args.at.state.as_deref())?.delete(&format!("/v1/snapshots/{}", args.id))?;
    Ok(ExitCode::SUCCESS)
}
