//! Tasks of the agent: started in the background, listed, followed, stopped.

use crate::api::Api;
use crate::cli::{Asked, Capture, Compress, Format, Logs, OfAgent, Resolve, Run, Stats};
use crate::client::Client;
use crate::mounts::{Mount, Mounts};
use crate::output::{self, Paint};
use crate::sets;
use anyhow::{Result, bail};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use wayfare_api::TaskView;
use wayfare_node::control::{Reply, Request, State, TaskInfo};
use wayfare_node::spec::{Dir, Limits, Spec};
use wayfare_transfer::TaskId;

/// `wayfare run --detach`.
///
/// # Errors
/// When no agent is at work, or it cannot start the task.
pub fn detach(args: &Run, mounts: &Mounts) -> Result<ExitCode> {
    let more = &args.detached;
    if args.place.target.is_some() || args.allow_unmovable {
        bail!("--detach: tasks of an agent are compiled for its machine, and can always be moved");
    }
    let absolute = |path: &Path| std::path::absolute(path);
    let dir = |m: &Mount| -> Result<Dir> {
        // Links resolved: it must mean the same directory on every node.
        let host = std::fs::canonicalize(&m.host).or_else(|_| absolute(&m.host))?;
        let host = host.into_os_string().into_string();
        let host = host.map_err(|_| anyhow::anyhow!("{}: its name is no text", m.host.display()))?;
        Ok(Dir { host, guest: m.guest.clone(), read_only: m.read_only })
    };
    let stem = args.program.file_stem().unwrap_or_default().to_string_lossy();
    let mut client = Client::connect(more.state.as_deref())?;
    let spec = Spec {
        id: TaskId([0; 16]),
        name: args.place.name.clone().unwrap_or_else(|| stem.into_owned()),
        program: absolute(&args.program)?.to_string_lossy().into_owned(),
        module: String::new(),
        canonical_nan: args.canonical_nan,
        args: args.args.clone(),
        env: args.env.clone(),
        dirs: mounts.dirs.iter().map(dir).collect::<Result<_>>()?,
        volumes: mounts.volumes.iter().map(dir).collect::<Result<_>>()?,
        limits: Limits {
            memory: more.memory,
            cpus: more.cpus.unwrap_or(100),
            cpu_share: more.cpu_share.unwrap_or(100),
            wall_time: more.time_limit.map(|t| t.as_secs().max(1)),
            open_files: more.open_files,
            network: more.network,
        },
        checkpoint_every: more.checkpoint_every.as_secs(),
        publish: more.publish.clone(),
        origin: String::new(),
        started: 0,
        placed: false,
    };
    match crate::standing::while_running("compiling", || client.ask(&Request::Run { spec }))? {
        Reply::Started { name } => output::print(&format!("{name}\n"))?,
        _ => bail!("the agent answered something else"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The tasks of a node.
///
/// # Errors
/// When no agent is at work, or the node does not answer.
pub fn list_at(asked: &Asked) -> Result<Vec<TaskInfo>> {
    match Client::ask_at(asked, Request::List)? {
        (_, Reply::Tasks { tasks }) => Ok(tasks),
        _ => bail!("the agent answered something else"),
    }
}

/// The agent's tasks, if one is at work.
///
/// # Errors
/// When it answers with an error.
pub fn list(state: Option<&Path>) -> Result<Vec<TaskInfo>> {
    let Some(mut client) = Client::try_connect(state) else { return Ok(Vec::new()) };
    match client.ask(&Request::List)? {
        Reply::Tasks { tasks } => Ok(tasks),
        _ => bail!("the agent answered something else"),
    }
}

/// A state in a few words.
pub fn describe(state: &State) -> String {
    match state {
        State::Running => "running".into(),
        State::Moving { to } => format!("moving to {to}"),
        State::Unknown { to, .. } => format!("unknown: may run on {to}"),
        State::Exited { status } => format!("exited ({status})"),
        State::Trapped { why } => format!("trapped: {why}"),
        State::Stopped { why } => format!("stopped: {why}"),
        State::Left { to, saved: true } => format!("on {to}"),
        State::Left { to, saved: false } => format!("on {to}, not on its disk yet"),
        State::Failed { why } => format!("failed: {why}"),
    }
}

/// `wayfare capture` of a task of the agent.
///
/// # Errors
/// When it cannot be captured; it goes on then.
pub fn capture(args: &Capture, output: std::path::PathBuf) -> Result<ExitCode> {
    if args.since.is_some() || args.compress != Compress::Lz4 {
        bail!("{}: tasks of the agent are captured whole, packed by lz4", args.name);
    }
    let path = output.to_str().map(String::from);
    let path = path.ok_or_else(|| anyhow::anyhow!("{}: its name is no text", output.display()))?;
    let request = Request::Capture { name: args.name.clone(), output: path, keep_running: args.keep_running };
    Client::connect(args.at.state.as_deref())?.ask(&request)?;
    let bytes = std::fs::metadata(&output)?.len();
    match args.json {
        true => output::print_json(&serde_json::json!({ "file": output, "bytes": bytes }))?,
        false => output::print(&format!("{}: {} to {}\n", args.name, output::bytes(bytes), output.display()))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `wayfare stop`.
///
/// # Errors
/// When it does not run here.
pub fn stop(args: &OfAgent) -> Result<ExitCode> {
    let request = Request::Stop { name: args.name.clone() };
    Client::ask_at(&args.asked, request)?;
    Ok(ExitCode::SUCCESS)
}

/// `wayfare rm`.
///
/// # Errors
/// While it runs.
pub fn remove(args: &OfAgent) -> Result<ExitCode> {
    if let Some((api, task)) = of_controller(&args.asked, &args.name) {
        return sets::remove(&api, &task);
    }
    let request = Request::Remove { name: args.name.clone() };
    Client::ask_at(&args.asked, request)?;
    Ok(ExitCode::SUCCESS)
}

/// A task that is the controller's, of which the agent knows only while it runs there; not if a node was named.
pub fn of_controller(asked: &Asked, name: &str) -> Option<(Api, TaskView)> {
    if asked.node.is_some() { None } else { sets::known(asked.at.state.as_deref(), name) }
}

/// `wayfare logs`.
///
/// # Errors
/// When there is no such task.
pub fn logs(args: &Logs) -> Result<ExitCode> {
    if let Some((api, task)) = of_controller(&args.asked, &args.name) {
        return sets::logs(&api, &task, args.follow);
    }
    let (client, _) = Client::ask_at(&args.asked, Request::Logs { name: args.name.clone(), follow: args.follow })?;
    let (mut bytes, mut buffer) = (client.bytes(), vec![0; 64 << 10]);
    let mut out = std::io::stdout().lock();
    loop {
        let read = bytes.read(&mut buffer)?;
        if read == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        match out.write_all(&buffer[..read]).and_then(|()| out.flush()) {
            Err(e) if e.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            other => other?,
        }
    }
}

/// `wayfare stats`.
///
/// # Errors
/// When no agent is at work.
pub fn stats(args: &Stats) -> Result<ExitCode> {
    let (_, reply) = Client::ask_at(&args.asked, Request::List)?;
    let Reply::Tasks { tasks } = reply else { bail!("the agent answered something else") };
    if args.output == Format::Json {
        output::print_json(&serde_json::to_value(&tasks)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = |t: &TaskInfo| {
        let limit = t.spec.limits.memory.map_or_else(|| "-".into(), output::bytes);
        vec![
            t.spec.name.clone(),
            describe(&t.state),
            output::long_duration(Duration::from_nanos(t.ran)),
            output::bytes(t.memory),
            limit,
            output::bytes(t.log_bytes),
            t.epoch.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = tasks.iter().filter(|t| t.state.is_alive()).map(row).collect();
    let headings = ["NAME", "STATE", "RAN", "MEMORY", "LIMIT", "LOG", "EPOCH"];
    output::print(&output::table(&headings, &rows, Paint::stdout()))?;
    Ok(ExitCode::SUCCESS)
}

/// `wayfare task resolve`.
///
/// # Errors
/// When it is known where the task is.
pub fn resolve(args: &Resolve) -> Result<ExitCode> {
    let mut client = Client::connect(args.at.state.as_deref())?;
    if args.here || args.there {
        client.ask(&Request::Resolve { name: args.name.clone(), here: args.here })?;
        return Ok(ExitCode::SUCCESS);
    }
    let Reply::Tasks { tasks } = client.ask(&Request::List)? else { bail!("the agent answered something else") };
    let Some(task) = tasks.iter().find(|t| t.spec.name == args.name) else {
        bail!("no task named {} is on this node: `wayfare ps -a` lists them", args.name);
    };
    let text = match &task.state {
        State::Unknown { to, claimed } => format!(
            "Here: {0} stands still since it was given to {to} (epoch {claimed}), and runs on by --here.\n\
             There: {to} has not confirmed that it runs {0}, and does not answer; it is asked again and again.\n\
             If both run, what it does is done twice: use --here only if it does not run on {to}, and never will.\n",
            args.name
        ),
        State::Left { to, saved: false } => format!(
            "Here: {0} is kept as it was when it went to {to}, and goes on from there by --here.\n\
             There: {to} has taken it over, and has not said that it is on its disk; it is dialled again and again.\n\
             If both run, what it does is done twice: use --here only if {to} never comes back.\n",
            args.name
        ),
        state => format!("{}: {}; there is nothing to decide\n", args.name, describe(state)),
    };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
