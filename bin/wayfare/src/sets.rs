//! `wayfare submit`, `tasks`, `wait`, `cancel`: sets of tasks, which the controller has run.

use crate::api::Api;
use crate::cli::{Cancel, Cordon, Format, Label, Marked, Submit, Tasks, Wait};
use crate::output::{self, Paint};
use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use wayfare_api::{Accepted, Problem, SetRequest, SetView, TaskRequest, TaskState, TaskView};
use wayfare_snapshot::Digest;

/// Between two looks at a set that is waited for.
const LOOK: Duration = Duration::from_millis(100);

/// Submits a set, or a task.
///
/// # Errors
/// When something of it cannot be used, or the controller does not take it.
pub fn submit(args: &Submit) -> Result<ExitCode> {
    let api = Api::of(args.at.state.as_deref())?;
    let (mut set, beside) = match (&args.file, &args.image) {
        (Some(file), _) => {
            let set: SetRequest = read_json(file)?;
            (set, file.parent().unwrap_or(Path::new(".")).to_path_buf())
        }
        (None, Some(image)) => (one(args, image), PathBuf::new()),
        (None, None) => anyhow::bail!("neither a set nor a task is given"),
    };
    let mut digests = BTreeMap::new();
    for task in &mut set.tasks {
        if is_digest(&task.image) {
            continue;
        }
        let digest = match digests.get(&task.image) {
            Some(digest) => *digest,
            None => {
                let digest = upload(&api, &beside.join(&task.image)).with_context(|| format!("task {}", task.name))?;
                digests.insert(task.image.clone(), digest);
                digest
            }
        };
        task.image = digest.to_string();
    }
    let accepted: Accepted = api.ask("/v1/sets", &serde_json::to_vec(&set)?)?;
    if args.wait {
        return watch(&api, &accepted.set, Format::Text);
    }
    output::print(&format!("{}: {}\n", accepted.set, output::count(accepted.tasks, "task")))?;
    Ok(ExitCode::SUCCESS)
}

/// Reads a file of JSON.
///
/// # Errors
/// Names the file, the field and the line.
pub fn read_json<T: serde::de::DeserializeOwned>(file: &Path) -> Result<T> {
    let text = std::fs::read(file).with_context(|| file.display().to_string())?;
    let title = || format!("{} cannot be read", file.display());
    Ok(wayfare_api::read(&text).map_err(|wrong| Problem { status: 400, title: title(), errors: vec![wrong] })?)
}

/// Whether a program is named by its digest, not by its path.
pub fn is_digest(image: &str) -> bool {
    image.len() == 64 && image.bytes().all(|b| b.is_ascii_hexdigit())
}

fn one(args: &Submit, image: &Path) -> SetRequest {
    let stem = image.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    SetRequest::of(TaskRequest {
        name: args.name.clone().unwrap_or(stem),
        image: image.to_string_lossy().into_owned(),
        args: args.args.clone(),
        env: BTreeMap::new(),
        cores: f64::from(args.cores) / 100.0,
        memory: args.memory,
        gpu: false,
        labels: args.label.clone(),
        local_only: args.local_only,
        priority: args.priority,
        deadline: None,
        count: args.count,
        estimate: None,
    })
}

/// Has the controller know a program.
fn upload(api: &Api, path: &Path) -> Result<Digest> {
    let wasm = std::fs::read(path).with_context(|| path.display().to_string())?;
    let digest = Digest::of(&wasm);
    let at = format!("/v1/images/{digest}");
    if !api.has(&at)? {
        crate::standing::while_running("compiling", || api.put(&at, &wasm))
            .with_context(|| path.display().to_string())?;
    }
    Ok(digest)
}

/// Lists tasks.
///
/// # Errors
/// When the controller does not answer.
pub fn list(args: &Tasks) -> Result<ExitCode> {
    let api = Api::of(args.at.state.as_deref())?;
    let path = args.set.as_ref().map_or("/v1/tasks".into(), |set| format!("/v1/tasks?set={set}"));
    let tasks: Vec<TaskView> = api.get(&path)?;
    if args.output == Format::Json {
        output::print_json(&json!(tasks))?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = tasks.iter().map(row).collect();
    let headings = ["NAME", "SET", "STATE", "NODE", "CORES", "MEMORY", "RAN", "WHY"];
    output::print(&output::table(&headings, &rows, Paint::stdout()))?;
    Ok(ExitCode::SUCCESS)
}

fn row(task: &TaskView) -> Vec<String> {
    let ran = task.started.zip(task.ended).map(|(from, to)| Duration::from_millis(to.saturating_sub(from)));
    vec![
        task.name.clone(),
        task.set.clone(),
        task.state.name().into(),
        task.node.clone().unwrap_or_else(|| "-".into()),
        task.cores.to_string(),
        output::bytes(task.memory),
        ran.map_or("-".into(), output::long_duration),
        task.why.clone(),
    ]
}

/// Waits for a set.
///
/// # Errors
/// When there is no such set, or the controller does not answer.
pub fn wait(args: &Wait) -> Result<ExitCode> {
    watch(&Api::of(args.at.state.as_deref())?, &args.set, args.output)
}

fn watch(api: &Api, name: &str, format: Format) -> Result<ExitCode> {
    let path = format!("/v1/sets/{name}");
    let mut set: SetView = api.get(&path)?;
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}")?;
    let bar = ProgressBar::new(set.total).with_style(style);
    while set.ended.is_none() {
        bar.set_position(set.succeeded + set.failed + set.cancelled);
        bar.set_message(format!("{} running, {} waiting", set.running, set.waiting));
        std::thread::sleep(LOOK);
        set = api.get(&path)?;
    }
    bar.finish_and_clear();
    if format == Format::Json {
        output::print_json(&json!(set))?;
    } else {
        let took = Duration::from_millis(set.ended.unwrap_or_default().saturating_sub(set.submitted));
        let mut text = format!("{name}: {} of {} succeeded", set.succeeded, set.total);
        for (n, what) in [(set.failed, "failed"), (set.cancelled, "cancelled")] {
            if n > 0 {
                text += &format!(", {n} {what}");
            }
        }
        output::print(&format!("{text} in {}\n", output::long_duration(took)))?;
        for task in api.get::<Vec<TaskView>>(&format!("/v1/tasks?set={name}&state=failed"))?.iter().take(10) {
            output::complain(&format!("{}: {}", task.name, task.why));
        }
    }
    Ok(if set.succeeded == set.total { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Cancels a task.
///
/// # Errors
/// When there is none of this name, or it is over.
pub fn cancel(args: &Cancel) -> Result<ExitCode> {
    Api::of(args.at.state.as_deref())?.post(&format!("/v1/tasks/{}/cancel", args.name), &[])?;
    Ok(ExitCode::SUCCESS)
}

/// Whether a task that no agent here knows is one of the controller's.
pub fn known(state: Option<&Path>, name: &str) -> Option<(Api, TaskView)> {
    let api = Api::of(state).ok()?;
    let task = api.get(&format!("/v1/tasks/{name}")).ok()?;
    Some((api, task))
}

/// Prints what a task of the controller has written; with `follow` what it will, too.
///
/// # Errors
/// When its node does not answer.
pub fn logs(api: &Api, task: &TaskView, follow: bool) -> Result<ExitCode> {
    let mut state = task.state;
    while follow && state == TaskState::Waiting {
        std::thread::sleep(LOOK);
        state = api.get::<TaskView>(&format!("/v1/tasks/{}", task.name))?.state;
    }
    let mut log = api.stream(&format!("/v1/tasks/{}/logs?follow={follow}", task.name))?;
    std::io::copy(&mut log, &mut std::io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}

/// Forgets a task of the controller that is over.
///
/// # Errors
/// When it is not.
pub fn remove(api: &Api, task: &TaskView) -> Result<ExitCode> {
    api.delete(&format!("/v1/tasks/{}", task.name))?;
    Ok(ExitCode::SUCCESS)
}

/// Cordons a node, or no more.
///
/// # Errors
/// When the controller does not know it.
pub fn cordon(args: &Cordon) -> Result<()> {
    let api = Api::of(args.node.at.state.as_deref())?;
    let path = format!("/v1/nodes/{}/cordon", args.node.name);
    if args.undo { api.delete(&path) } else { api.post(&path, &[]).map(|_| ()) }
}

/// Moves what runs on a node to others.
///
/// # Errors
/// When the controller does not know it.
pub fn drain(args: &Marked) -> Result<()> {
    let api = Api::of(args.at.state.as_deref())?;
    let path = format!("/v1/nodes/{}/drain", args.name);
    let moved: Vec<String> = crate::standing::while_running("moving tasks", || api.ask(&path, &[]))?;
    output::print(&moved.iter().map(|line| format!("moved {line}\n")).collect::<String>())?;
    let left: Vec<TaskView> = api.get("/v1/tasks?state=running")?;
    let left = left.iter().filter(|task| task.node.as_ref() == Some(&args.name)).count() as u64;
    if left > 0 {
        output::notice(&format!("{} stay there: no other node has room for them", output::count(left, "task")));
    }
    Ok(())
}

/// Labels a node.
///
/// # Errors
/// When the controller does not know it, or a label is none.
pub fn label(args: &Label) -> Result<()> {
    let api = Api::of(args.node.at.state.as_deref())?;
    let body = json!({ "add": args.labels, "remove": args.remove });
    api.post(&format!("/v1/nodes/{}/labels", args.node.name), body.to_string().as_bytes()).map(|_| ())
}
