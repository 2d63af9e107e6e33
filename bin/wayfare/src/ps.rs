//! `wayfare ps`: the tasks that run on this machine.

use crate::cli::{Format, Ps};
use crate::control::{self, Reply, Request};
use crate::output::{self, Paint};
use crate::registry::{self, Entry};
use anyhow::Result;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use wayfare_store::locations;

/// Lists them.
///
/// # Errors
/// When the runtime directory cannot be used.
pub fn run(args: &Ps) -> Result<ExitCode> {
    let tasks = locations::tasks()?;
    let now = registry::now();
    let entries = if args.asked.node.is_none() { registry::list(&tasks) } else { Vec::new() };
    let rows = entries.iter().map(|e| (e, now.saturating_sub(e.started), state(&tasks, e)));
    let here = args.asked.node.is_none();
    let of_agent = match here {
        true => crate::tasks::list(args.asked.at.state.as_deref())?,
        false => crate::tasks::list_at(&args.asked)?,
    };
    let of_agent: Vec<_> = of_agent.into_iter().filter(|t| args.all || t.state.is_alive()).collect();
    if args.output == Format::Json {
        let mut rows: Vec<_> = rows
            .map(|(e, runtime, state)| {
                serde_json::json!({
                    "name": e.name, "pid": e.pid, "program": e.program, "module": e.module, "target": e.target,
                    "started": e.started, "runtime_seconds": runtime, "state": state, "dirs": e.dirs,
                })
            })
            .collect();
        for task in &of_agent {
            let mut row = serde_json::to_value(task)?;
            row["agent"] = true.into();
            row["runtime_seconds"] = now.saturating_sub(task.spec.started).into();
            rows.push(row);
        }
        output::print_json(&rows.into())?;
    } else {
        let mut rows: Vec<Vec<String>> = rows
            .map(|(e, runtime, state)| {
                let runtime = output::long_duration(Duration::from_secs(runtime)).replace(".0s", "s");
                vec![e.name.clone(), e.pid.to_string(), e.program.clone(), e.target.clone(), runtime, state]
            })
            .collect();
        for t in &of_agent {
            let runtime = Duration::from_secs(now.saturating_sub(t.spec.started));
            let runtime = output::long_duration(runtime).replace(".0s", "s");
            let (name, program) = (t.spec.name.clone(), t.spec.program.clone());
            rows.push(vec![name, "agent".into(), program, t.target.clone(), runtime, crate::tasks::describe(&t.state)]);
        }
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
