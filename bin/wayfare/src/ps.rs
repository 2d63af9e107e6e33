//! `wayfare ps`: the tasks that run on this machine.

use crate::cli::{Format, Ps};
use crate::control::{self, Reply, Request};
use crate::locations;
use crate::output::{self, Paint};
use crate::registry::{self, Entry};
use anyhow::Result;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Lists them.
///
/// # Errors
/// When the runtime directory cannot be used.
pub fn run(args: &Ps) -> Result<ExitCode> {
    let tasks = locations::tasks()?;
    let now = registry::now();
    let entries = registry::list(&tasks);
    let rows = entries.iter().map(|e| (e, now.saturating_sub(e.started), state(&tasks, e)));
    if args.output == Format::Json {
        let rows: Vec<_> = rows
            .map(|(e, runtime, state)| {
                serde_json::json!({
                    "name": e.name, "pid": e.pid, "program": e.program, "module": e.module, "target": e.target,
                    "started": e.started, "runtime_seconds": runtime, "state": state, "dirs": e.dirs,
                })
            })
            .collect();
        output::print_json(&rows.into())?;
    } else {
        let rows: Vec<Vec<String>> = rows
            .map(|(e, runtime, state)| {
                let runtime = output::long_duration(Duration::from_secs(runtime)).replace(".0s", "s");
                vec![e.name.clone(), e.pid.to_string(), e.program.clone(), e.target.clone(), runtime, state]
            })
            .collect();
        let headings = ["NAME", "PID", "PROGRAM", "TARGET", "RUNTIME", "STATE"];
        output::print(&output::table(&headings, &rows, Paint::stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn state(tasks: &Path, entry: &Entry) -> String {
    let ask = || -> Result<Option<Reply>> {
        let mut stream = registry::connect(tasks, &entry.name)?;
        control::send(&mut stream, &Request::Status)?;
        control::receive(&stream, Some(Duration::from_millis(500)))
    };
    match ask() {
        Ok(Some(Reply::Status { state })) => state,
        // It is alive, or it would not be listed.
        _ => "not answering".into(),
    }
}
