//! What this machine's users ask the agent, over a socket that only they can reach: a line of JSON each way, more than
//! one line back for what takes its time, and plain bytes after the line that announces a log.

use crate::agent::{Agent, Entry, State};
use crate::depart::{self, Line, Order, Report, Told};
use crate::dirs::Dirs;
use crate::peers::Peer;
use crate::spec::Spec;
use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::unbounded_channel;
use wayfare_transfer::message::Answer;

pub use crate::depart::{Line as MoveLine, Order as MoveOrder, Report as MoveReport};

/// A question.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum Request {
    /// Start a task.
    Run {
        /// Which; its identity, module and times are the agent's to set.
        spec: Spec,
    },
    /// The tasks.
    List,
    /// What a task has written.
    Logs {
        /// Which.
        name: String,
        /// And what it will.
        follow: bool,
    },
    /// Stop a task.
    Stop {
        /// Which.
        name: String,
    },
    /// Forget a task that is over.
    Remove {
        /// Which.
        name: String,
    },
    /// Move a task.
    Migrate {
        /// How.
        order: Order,
    },
    /// Write a snapshot of a task.
    Capture {
        /// Which.
        name: String,
        /// The file, absolute.
        output: std::path::PathBuf,
        /// Whether it runs on.
        keep_running: bool,
    },
    /// Decide what became of a task that may be on another node.
    Resolve {
        /// Which.
        name: String,
        /// Whether it is to go on here.
        here: bool,
    },
    /// The nodes that are known.
    Nodes,
}

/// A task, for a listing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TaskInfo {
    /// What it is.
    #[serde(flatten)]
    pub spec: Spec,
    /// What it is doing.
    #[serde(flatten)]
    pub state: State,
    /// Its epoch.
    pub epoch: u64,
    /// Nanoseconds that it has run.
    pub ran: u64,
    /// Bytes of its memories.
    pub memory: u64,
    /// Bytes that it has written.
    pub log_bytes: u64,
}

/// A node, for a listing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Which.
    #[serde(flatten)]
    pub peer: Peer,
    /// Whether it is the one that answers.
    pub this: bool,
}

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "lowercase")]
pub enum Reply {
    /// It is done.
    Done,
    /// It runs.
    Started {
        /// Under this name.
        name: String,
    },
    /// The tasks.
    Tasks {
        /// All of them.
        tasks: Vec<TaskInfo>,
    },
    /// The nodes.
    Nodes {
        /// All of them.
        nodes: Vec<NodeInfo>,
    },
    /// The log's bytes follow, to the end of the connection.
    Log,
    /// A move goes on.
    Moving {
        /// How.
        line: Line,
    },
    /// It has moved.
    Moved {
        /// How that went.
        report: Report,
    },
    /// It could not be done.
    Failed {
        /// Why.
        error: String,
    },
}

/// Longest line.
pub const LINE_MAX: u64 = 1 << 20;

/// Makes the agent's socket.
///
/// # Errors
/// When another agent is at work here.
pub(crate) fn bind(dirs: &Dirs) -> Result<UnixListener> {
    let path = dirs.socket();
    if std::os::unix::net::UnixStream::connect(&path).is_ok() {
        bail!("an agent is at work in {} already", dirs.root().display());
    }
    let _ = std::fs::remove_file(&path);
    UnixListener::bind(&path).with_context(|| {
        format!("cannot make the socket {} (its path may be too long: give a shorter --state)", path.display())
    })
}

pub(crate) async fn handle(agent: Arc<Agent>, stream: UnixStream) -> Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read.take(LINE_MAX));
    let mut line = Vec::new();
    read.read_until(b'\n', &mut line).await?;
    let request: Request = match serde_json::from_slice(&line) {
        Ok(request) => request,
        Err(_) => return say(&mut write, &failed(anyhow!("the agent is of another version"))).await,
    };
    let reply = match request {
        Request::Logs { name, follow } => match agent.task(&name) {
            Ok(entry) => return logs(&agent, &entry, follow, &mut write).await,
            Err(e) => failed(e),
        },
        Request::Migrate { order } => {
            let (progress, mut told) = unbounded_channel();
            let mut moving = tokio::spawn(depart::migrate(agent, order, progress));
            let mut byte = [0];
            let mut read = read.into_inner();
            loop {
                tokio::select! {
                    biased;
                    Some(told) = told.recv() => match told {
                        Told::Line(line) => say(&mut write, &Reply::Moving { line }).await?,
                        // That it comes to the disk there is waited for by the agent alone.
                        Told::Gone(report) => break Reply::Moved { report },
                    },
                    // The user has gone away: the move is called off, if that is still possible.
                    _ = read.read(&mut byte), if !told.is_closed() => told.close(),
                    moved = &mut moving => break match moved? {
                        Ok(()) => failed(anyhow!("the move went without a word")),
                        Err(e) => failed(e),
                    },
                }
            }
        }
        other => answer(&agent, other).await.unwrap_or_else(failed),
    };
    say(&mut write, &reply).await
}

fn failed(e: anyhow::Error) -> Reply {
    Reply::Failed { error: format!("{e:#}") }
}

async fn say(write: &mut (impl AsyncWriteExt + Unpin), reply: &Reply) -> Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    Ok(write.write_all(&line).await?)
}

async fn answer(agent: &Arc<Agent>, request: Request) -> Result<Reply> {
    Ok(match request {
        Request::Run { spec } => {
            let agent = agent.clone();
            let entry = tokio::task::spawn_blocking(move || agent.start(spec)).await??;
            Reply::Started { name: entry.spec.name.clone() }
        }
        Request::List => Reply::Tasks { tasks: agent.tasks().iter().map(|e| info(agent, e)).collect() },
        Request::Stop { name } => {
            let entry = agent.task(&name)?;
            if !agent.stop(&entry, "told to").await {
                match entry.state() {
                    State::Moving { to } => bail!("{name} is being moved to {to}: stop it there"),
                    State::Left { to, .. } => bail!("{name} is on {to}: stop it there"),
                    _ => bail!("{name} is not running"),
                }
            }
            Reply::Done
        }
        Request::Remove { name } => {
            agent.remove(&name)?;
            Reply::Done
        }
        Request::Capture { name, output, keep_running } => {
            let entry = agent.task(&name)?;
            let _moving = entry.moving.lock().await;
            entry.live()?.save(&output, keep_running).await?;
            if !keep_running {
                agent.captured(&entry, &output);
            }
            Reply::Done
        }
        Request::Resolve { name, here } => {
            let entry = agent.task(&name)?;
            if !matches!(entry.state(), State::Unknown { .. } | State::Left { saved: false, .. }) {
                bail!("it is known where {name} is");
            }
            // Its epoch may have been used there: what goes on here claims the next one.
            entry.decision.send_replace(Some(if here { Answer::Lost } else { Answer::Owns }));
            Reply::Done
        }
        Request::Nodes => {
            let mut nodes = vec![NodeInfo { peer: agent.me()?, this: true }];
            nodes.extend(agent.db.peers()?.into_iter().map(|peer| NodeInfo { peer, this: false }));
            Reply::Nodes { nodes }
        }
        Request::Logs { .. } | Request::Migrate { .. } => bail!("not here"),
    })
}

fn info(agent: &Agent, entry: &Arc<Entry>) -> TaskInfo {
    let live = entry.live().ok();
    TaskInfo {
        spec: entry.spec.clone(),
        state: entry.state(),
        epoch: entry.epoch.load(Ordering::SeqCst),
        ran: live.as_ref().map_or(0, |l| l.ran().as_nanos() as u64),
        memory: live.as_ref().map_or(0, |l| l.memory()),
        log_bytes: std::fs::metadata(agent.dirs.log(entry.spec.id)).map_or(0, |m| m.len()),
    }
}

/// Sends a log, and what is appended to it until the task is over here.
async fn logs(agent: &Agent, entry: &Arc<Entry>, follow: bool, write: &mut (impl AsyncWriteExt + Unpin)) -> Result<()> {
    let mut file = tokio::fs::File::from_std(std::fs::File::open(agent.dirs.log(entry.spec.id))?);
    file.seek(std::io::SeekFrom::Start(0)).await?;
    say(write, &Reply::Log).await?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let alive = entry.state().is_alive();
        loop {
            let read = file.read(&mut buffer).await?;
            if read == 0 {
                break;
            }
            write.write_all(&buffer[..read]).await?;
        }
        if !follow || !alive {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of a task, its order and its state are one object there: no name may come twice.
    #[test]
    fn a_task_in_any_state_can_be_listed() {
        let (to, why) = (String::from("b"), String::from("so"));
        for state in [
            State::Running,
            State::Moving { to: to.clone() },
            State::Unknown { to: to.clone(), claimed: 3 },
            State::Exited { status: 1 },
            State::Trapped { why: why.clone() },
            State::Stopped { why: why.clone() },
            State::Left { to, saved: false },
            State::Failed { why },
        ] {
            let spec = Spec {
                id: wayfare_transfer::TaskId([1; 16]),
                name: "task".into(),
                program: String::new(),
                module: String::new(),
                canonical_nan: false,
                args: Vec::new(),
                env: Vec::new(),
                dirs: Vec::new(),
                volumes: Vec::new(),
                limits: crate::spec::Limits::default(),
                checkpoint_every: 1,
                publish: Vec::new(),
                origin: "a".into(),
                started: 0,
            };
            let task = TaskInfo { spec, state: state.clone(), epoch: 2, ran: 0, memory: 0, log_bytes: 0 };
            let text = serde_json::to_string(&task).expect("can be written");
            let back: TaskInfo = serde_json::from_str(&text).expect("can be read");
            assert_eq!(back.state, state);
        }
    }
}
