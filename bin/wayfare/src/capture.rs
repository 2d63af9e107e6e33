//! `wayfare capture`: asks a running task to write itself to a file.

use crate::cli::Capture;
use crate::control::{self, Order, Reply, Request};
use crate::{output, registry};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use wayfare_store::locations;

/// Asks, and waits for the answer.
///
/// # Errors
/// When there is no such task, or it could not be captured; it goes on then.
pub fn run(args: &Capture) -> Result<ExitCode> {
    let absolute = |path: &Path| std::path::absolute(path).with_context(|| path.display().to_string());
    let order = Order {
        output: absolute(&args.output)?,
        keep_running: args.keep_running,
        since: args.since.as_deref().map(absolute).transpose()?,
        compress: args.compress,
    };
    let connected = registry::connect(&locations::tasks()?, &args.name);
    if connected.is_err() {
        let known = crate::sets::known(args.at.state.as_deref(), &args.name);
        if let Some((api, task)) = known.filter(|(_, task)| !task.state.is_over()) {
            return crate::kept::capture(&api, &task, args);
        }
        let of_agent = crate::tasks::list(args.at.state.as_deref())?;
        if of_agent.iter().any(|t| t.spec.name == args.name && t.state.is_alive()) {
            return crate::tasks::capture(args, order.output);
        }
    }
    let mut stream = connected?;
    control::send(&mut stream, &Request::Capture(order))?;
    let stats = match control::receive::<Reply>(&stream, None).with_context(|| args.name.clone())? {
        Some(Reply::Captured(stats)) => stats,
        Some(Reply::Failed { error }) => bail!("{}: {error}", args.name),
        Some(Reply::Status { .. }) => bail!("{}: it answered another question: use one version of Wayfare", args.name),
        None => bail!("{}: the task ended before it was captured", args.name),
    };
    if args.json {
        output::print_json(&serde_json::to_value(&stats)?)?;
    } else {
        let after = if args.keep_running { "goes on" } else { "has stopped" };
        let held = stats.held_ns.map(|ns| format!(", held for {}", output::duration(Duration::from_nanos(ns))));
        output::print(&format!(
            "{}: {} to {} ({}, {}; stopped after {}{}, written in {}); the task {after}\n",
            args.name,
            output::bytes(stats.bytes),
            args.output.display(),
            output::count(stats.pages, "page"),
            output::count(stats.frames, "frame"),
            output::duration(Duration::from_nanos(stats.pause_ns)),
            held.unwrap_or_default(),
            output::duration(Duration::from_nanos(stats.write_ns)),
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
