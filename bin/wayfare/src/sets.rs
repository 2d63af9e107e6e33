//! `wayfare submit`, `tasks`, `wait`, `cancel`: sets of tasks, which the controller has run.

use crate::api::Api;
use crate::cli::{Cancel, Cordon, Format, Label, Listing, Marked, Submit, Task, Tasks, Wait};
use crate::output::{self, Paint};
use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use wayfare_api::{
    Accepted, Invitation, InviteRequest, Moment, Moved, NodeView, NodeWish, Problem, SetRequest, SetView, TaskRequest,
    TaskState, TaskView,
};
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

/// Has the controller invite the nodes of a file: prints what to type on each machine, a line each.
///
/// # Errors
/// When the file cannot be used, or the controller does not take it.
pub fn invite(state: Option<&Path>, file: &Path) -> Result<()> {
    let nodes: Vec<NodeWish> = read_json(file)?;
    if nodes.is_empty() {
        anyhow::bail!("{}: no node is in it", file.display());
    }
    let request = serde_json::to_vec(&InviteRequest { nodes })?;
    let all: Vec<Invitation> = Api::of(state)?.ask("/v1/invitations", &request)?;
    output::print(&all.iter().map(|one| format!("{}\n", one.command)).collect::<String>())
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
        env: args.env.iter().cloned().collect(),
        cores: f64::from(args.cores) / 100.0,
        memory: args.memory,
        gpu: args.gpu,
        labels: args.label.clone(),
        local_only: args.local_only,
        standby: args.standby,
        snapshot_every: args.snapshot_every.map(|every| every.as_secs_f64()),
        priority: args.priority,
        deadline: args.deadline.map(|deadline| deadline.as_secs_f64()),
        count: args.count,
        estimate: args.estimate.map(|estimate| estimate.as_secs_f64()),
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
    if args.output == Listing::Json {
        output::print_json(&json!(tasks))?;
        return Ok(ExitCode::SUCCESS);
    }
    let wide = args.output == Listing::Wide;
    let rows: Vec<Vec<String>> = tasks.iter().map(|task| row(task, wide)).collect();
    let mut headings = vec!["NAME", "SET", "STATE", "NODE", "CORES", "MEMORY", "RAN", "WHY"];
    if wide {
        headings.splice(7..7, ["ESTIMATE", "STANDBY", "OWNER", "PRIORITY", "TIMES", "IMAGE"]);
    }
    output::print(&output::table(&headings, &rows, Paint::stdout()))?;
    Ok(ExitCode::SUCCESS)
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".into())
}

fn at_node(task: &TaskView) -> String {
    let node = or_dash(task.node.clone());
    task.to.as_ref().map_or(node.clone(), |to| format!("{node} to {to}"))
}

fn estimated(task: &TaskView) -> Option<String> {
    task.estimate.map(|seconds| output::long_duration(Duration::from_secs_f64(seconds.clamp(0.0, 1e12))))
}

fn ran(task: &TaskView) -> Option<String> {
    let (from, to) = task.started.zip(task.ended)?;
    Some(output::long_duration(Duration::from_millis(to.saturating_sub(from))))
}

fn row(task: &TaskView, wide: bool) -> Vec<String> {
    let mut row = vec![
        task.name.clone(),
        task.set.clone(),
        task.state.name().into(),
        at_node(task),
        task.cores.to_string(),
        output::bytes(task.memory),
        or_dash(ran(task)),
    ];
    if wide {
        row.extend([
            or_dash(estimated(task)),
            or_dash(task.standby.clone()),
            task.owner.clone(),
            task.priority.to_string(),
            task.attempt.to_string(),
            task.image.chars().take(12).collect(),
        ]);
    }
    row.push(task.why.clone());
    row
}

/// Shows a task: why it is where it is, and what became of it.
///
/// # Errors
/// When there is none of this name, or the controller does not answer.
pub fn show(args: &Task) -> Result<ExitCode> {
    let name = args.name.as_deref().unwrap_or_default();
    let api = Api::of(args.at.state.as_deref())?;
    let task: TaskView = api.get(&format!("/v1/tasks/{name}"))?;
    let history: Vec<Moment> = api.get(&format!("/v1/tasks/{name}/history"))?;
    if args.output == Format::Json {
        output::print_json(&json!({ "task": task, "history": history }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut fields = vec![
        ("set", task.set.clone()),
        ("owner", task.owner.clone()),
        ("state", task.state.name().into()),
        ("node", at_node(&task)),
        ("why", task.why.clone()),
        ("program", task.image.clone()),
        ("arguments", task.args.join(" ")),
        ("needs", format!("{} cores, {}", task.cores, output::bytes(task.memory))),
    ];
    if task.gpu || !task.labels.is_empty() {
        let gpu = task.gpu.then(|| "a GPU".to_string());
        fields.push(("on a node with", gpu.into_iter().chain(task.labels.clone()).collect::<Vec<_>>().join(", ")));
    }
    let more = [("standby", task.standby.clone()), ("estimate", estimated(&task)), ("ran", ran(&task))];
    fields.extend(more.into_iter().filter_map(|(name, value)| Some((name, value?))));
    let mut text = output::fields(&fields, Paint::stdout());
    let first = history.first().map_or(task.submitted, |moment| moment.at);
    let rows: Vec<Vec<String>> = history
        .iter()
        .map(|moment| {
            let after = output::long_duration(Duration::from_millis(moment.at.saturating_sub(first)));
            vec![after, moment.state.name().into(), or_dash(moment.node.clone()), moment.why.clone()]
        })
        .collect();
    text += "\n";
    text += &output::table(&["AFTER", "STATE", "NODE", "WHY"], &rows, Paint::stdout());
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Moves a task of the controller to another node.
///
/// # Errors
/// When the node cannot have it, or the move fails: the task runs on where it is.
pub fn migrate(api: &Api, task: &TaskView, to: &str, format: Format) -> Result<ExitCode> {
    let wish = json!({ "to": to }).to_string();
    let moved: Moved = crate::standing::while_running("moving the task", || {
        api.ask(&format!("/v1/tasks/{}/move", task.name), wish.as_bytes())
    })?;
    if format == Format::Json {
        output::print_json(&json!(moved))?;
    } else {
        output::print(&format!(
            "{} has moved from {} to {}: it stood still for {:.1} ms, {} were sent in {:.0} ms\n",
            task.name,
            moved.from,
            moved.to,
            moved.downtime,
            output::bytes(moved.bytes),
            moved.took
        ))?;
    }
    Ok(ExitCode::SUCCESS)
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

/// Lists nodes as the controller sees them.
///
/// # Errors
/// When it does not answer.
pub fn nodes(state: Option<&Path>) -> Result<ExitCode> {
    let nodes: Vec<NodeView> = Api::of(state)?.get("/v1/nodes")?;
    let row = |node: &NodeView| {
        let taken = |taken: String, of: String| format!("{taken} of {of}");
        vec![
            node.name.clone(),
            if node.bare { format!("{}, bare metal", node.isa) } else { node.isa.clone() },
            node.state.clone(),
            taken(node.cores_taken.to_string(), node.cores.to_string()),
            taken(output::bytes(node.memory_taken), output::bytes(node.memory)),
            node.tasks.to_string(),
            or_dash(node.rtt.map(|millis| output::duration(Duration::from_secs_f64(millis.clamp(0.0, 1e9) / 1e3)))),
            or_dash(Some(node.labels.join(",")).filter(|labels| !labels.is_empty())),
            node.address.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = nodes.iter().map(row).collect();
    let headings = ["NAME", "ISA", "STATE", "CORES", "MEMORY", "TASKS", "RTT", "LABELS", "ADDRESS"];
    output::print(&output::table(&headings, &rows, Paint::stdout()))?;
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

/// Forgets a node.
///
/// # Errors
/// When the controller does not know it, or tasks run there.
pub fn forget(args: &Marked) -> Result<()> {
    Api::of(args.at.state.as_deref())?.delete(&format!("/v1/nodes/{}", args.name))
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
