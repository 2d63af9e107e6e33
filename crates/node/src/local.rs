//! What this machine's users ask the agent, over a socket that only they can reach: a line of JSON each way, more than
//! one line back for what takes its time, and plain bytes after the line that announces a log.

use crate::agent::{Agent, Entry, lock, processors};
use crate::control::{NodeInfo, Reply, Request, State, TaskInfo};
use crate::depart::{self, Told};
use crate::dirs::Dirs;
use crate::link::Link;
use crate::peers::NodeMessage;
use crate::placed;
use crate::snapshots::{self, Made};
use crate::spans::{self, of_task};
use crate::survey;
use anyhow::{Context, Result, anyhow, bail};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::unbounded_channel;
use tracing::{Instrument, Span};
use wayfare_transfer::message::Answer;
use wayfare_transfer::{Kind, TaskId};

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

/// One who has asked: a user here, or a node on behalf of one there.
enum Asker {
    User { read: OwnedReadHalf, write: OwnedWriteHalf },
    Node(Box<Link>),
}

impl Asker {
    async fn say(&mut self, reply: &Reply) -> Result<()> {
        let mut line = serde_json::to_vec(reply)?;
        match self {
            Asker::User { write, .. } => {
                line.push(b'\n');
                Ok(write.write_all(&line).await?)
            }
            Asker::Node(link) => link.send(Kind::Node, &NodeMessage::Reply(line).encode()).await,
        }
    }

    /// Of a log.
    async fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Asker::User { write, .. } => Ok(write.write_all(bytes).await?),
            Asker::Node(link) => {
                for chunk in bytes.chunks(Kind::Node.cap() / 2) {
                    link.send(Kind::Node, &NodeMessage::Bytes(chunk.to_vec()).encode()).await?;
                }
                Ok(())
            }
        }
    }

    /// Until it has gone away: it has nothing more to say.
    async fn gone(&mut self) {
        match self {
            Asker::User { read, .. } => _ = read.read(&mut [0]).await,
            Asker::Node(link) => _ = link.receive().await,
        }
    }
}

pub(crate) async fn handle(agent: Arc<Agent>, stream: UnixStream) -> Result<()> {
    let (read, write) = stream.into_split();
    let mut read = BufReader::new(read.take(LINE_MAX));
    let mut line = Vec::new();
    read.read_until(b'\n', &mut line).await?;
    let mut asker = Asker::User { read: read.into_inner().into_inner(), write };
    match serde_json::from_slice(&line) {
        Ok(Request::At { node, request }) if node == agent.identity()?.name => respond(agent, *request, asker).await,
        Ok(Request::At { node, request }) => relay(&agent, node, &request, &mut asker).await,
        Ok(request) => match elsewhere(&agent, &request) {
            Some(node) => relay(&agent, node, &request, &mut asker).await,
            None => respond(agent, request, asker).await,
        },
        Err(_) => asker.say(&failed(anyhow!("the agent is of another version"))).await,
    }
}

/// Answers what another node's user asks.
///
/// # Errors
/// When the link breaks.
pub(crate) async fn from_node(agent: Arc<Agent>, link: Link, request: &[u8]) -> Result<()> {
    let request = serde_json::from_slice::<Request>(request);
    if let Ok(Request::Launch { spec, resumes }) = request {
        let mut link = link;
        let reply = match resumes {
            false => placed::launched(&agent, spec, &mut link).await,
            true => snapshots::launched(&agent, spec, &mut link).await,
        };
        let reply = reply.unwrap_or_else(failed);
        return Asker::Node(Box::new(link)).say(&reply).await;
    }
    let mut asker = Asker::Node(Box::new(link));
    match request {
        Ok(request) if request.is_for_others() => match elsewhere(&agent, &request) {
            Some(node) => asker.say(&Reply::Elsewhere { node }).await,
            None => respond(agent, request, asker).await,
        },
        Ok(_) => asker.say(&failed(anyhow!("this can be asked for on that machine only"))).await,
        Err(_) => asker.say(&failed(anyhow!("that agent is of another version"))).await,
    }
}

/// The node that a task is on which is asked about, if it has left here.
fn elsewhere(agent: &Agent, request: &Request) -> Option<String> {
    if let Request::Failover { name, .. } = request
        && lock(&agent.standbys).values().any(|held| held.pair().name == *name)
    {
        return None;
    }
    match agent.task(request.task()?).ok()?.state() {
        State::Left { to, .. } => Some(to),
        _ => None,
    }
}

/// How often a task may have moved on while it is looked for.
const HOPS: usize = 16;

/// Asks another node, and whom that one names.
async fn relay(agent: &Agent, mut node: String, request: &Request, asker: &mut Asker) -> Result<()> {
    let me = agent.identity()?.name;
    for _ in 0..HOPS {
        if node == me {
            return asker.say(&failed(anyhow!("the task is said to be here, and is not: it may be on its way"))).await;
        }
        match relay_to(agent, &node, request, asker).await {
            Ok(None) => return Ok(()),
            Ok(Some(next)) => node = next,
            Err(e) => return asker.say(&failed(e.context(format!("{node} was asked")))).await,
        }
    }
    asker.say(&failed(anyhow!("the task is not found: it has moved on each time"))).await
}

/// Gives the node that is to be asked instead, if that is the answer.
async fn relay_to(agent: &Agent, node: &str, request: &Request, asker: &mut Asker) -> Result<Option<String>> {
    let mut link = agent.dial(node).await?;
    link.send(Kind::Node, &NodeMessage::Request(serde_json::to_vec(request)?).encode()).await?;
    let mut has_bytes = false;
    loop {
        let message = tokio::select! {
            message = link.receive() => message,
            // The node sees that nobody asks any more.
            () = asker.gone() => return Ok(None),
        };
        let message = match message {
            // The end of a log, or of a snapshot.
            Err(_) if has_bytes => return Ok(None),
            message => message?,
        };
        anyhow::ensure!(message.kind == Kind::Node, "it answered something else");
        match NodeMessage::decode(&message.payload)? {
            NodeMessage::Bytes(bytes) if has_bytes => asker.bytes(&bytes).await?,
            NodeMessage::Reply(reply) => match serde_json::from_slice(&reply)? {
                Reply::Elsewhere { node } => return Ok(Some(node)),
                reply @ Reply::Moving { .. } => asker.say(&reply).await?,
                reply => {
                    has_bytes = matches!(reply, Reply::Log | Reply::Snapshot { .. });
                    asker.say(&reply).await?;
                    if !has_bytes {
                        return Ok(None);
                    }
                }
            },
            NodeMessage::Refused(why) => bail!("{why}"),
            _ => bail!("it answered something else"),
        }
    }
}

async fn respond(agent: Arc<Agent>, request: Request, mut asker: Asker) -> Result<()> {
    let reply = match request {
        Request::Logs { name, follow } => match agent.task(&name) {
            Ok(entry) => return logs(&agent, &entry, follow, &mut asker).await,
            Err(e) => failed(e),
        },
        Request::Snapshot { name } => match agent.snapshot(&name).await {
            Ok(made) => return snapshot(made, &mut asker).await,
            Err(e) => failed(e),
        },
        Request::Migrate { order } => {
            let (progress, mut told) = unbounded_channel();
            let mut moving = tokio::spawn(depart::migrate(agent, order, progress));
            loop {
                tokio::select! {
                    biased;
                    Some(told) = told.recv() => match told {
                        Told::Line(line) => asker.say(&Reply::Moving { line }).await?,
                        // That it comes to the disk there is waited for by the agent alone.
                        Told::Gone(report) => break Reply::Moved { report },
                    },
                    // The user has gone away: the move is called off, if that is still possible.
                    () = asker.gone(), if !told.is_closed() => told.close(),
                    moved = &mut moving => break match moved? {
                        Ok(()) => failed(anyhow!("the move went without a word")),
                        Err(e) => failed(e),
                    },
                }
            }
        }
        other => answer(&agent, other).await.unwrap_or_else(failed),
    };
    asker.say(&reply).await
}

fn failed(e: anyhow::Error) -> Reply {
    Reply::Failed { error: format!("{e:#}") }
}

pub(crate) async fn answer(agent: &Arc<Agent>, request: Request) -> Result<Reply> {
    Ok(match request {
        Request::Run { spec } => {
            let agent = agent.clone();
            let span = of_task!("launch", spec.name, None::<TaskId>);
            let started = tokio::task::spawn_blocking({
                let span = span.clone();
                move || span.in_scope(|| agent.start(spec))
            });
            let started = started.await?;
            spans::ended(&span, &started);
            Reply::Started { name: started?.spec.name.clone() }
        }
        Request::Launch { resumes: true, .. } => bail!("a snapshot comes with a link"),
        Request::Launch { spec, resumes: false } => {
            let (agent, name, span) = (agent.clone(), spec.name.clone(), Span::current());
            if !tokio::task::spawn_blocking(move || span.in_scope(|| agent.launch(spec, None))).await?? {
                bail!("the program of {name} is not here");
            }
            Reply::Started { name }
        }
        Request::Changes { seen } => agent.changes(seen).await,
        Request::List => Reply::Tasks { tasks: agent.tasks().iter().map(|e| info(agent, e)).collect() },
        Request::Stop { name } => {
            let entry = agent.task(&name)?;
            if !agent.stop(&entry, "told to").await {
                match entry.state() {
                    State::Moving { to } => bail!("{name} is being moved to {to}: stop it there"),
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
            agent.is_unprotected(&name)?;
            let _moving = entry.moving.lock().await;
            let span = of_task!("capture", name, Some(entry.spec.id), wayfare.keep_running = keep_running);
            let saved = entry.live()?.save(output.as_ref(), keep_running).instrument(span.clone()).await;
            spans::ended(&span, &saved);
            saved?;
            if !keep_running {
                agent.captured(&entry, output.as_ref());
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
        Request::Protect { order } => {
            agent.protect(order).await?;
            Reply::Done
        }
        Request::Unprotect { name } => {
            agent.unprotect(&name).await?;
            Reply::Done
        }
        Request::Protected => {
            let mut pairs = agent.pairs();
            pairs.extend(lock(&agent.standbys).values().map(|held| held.pair()));
            Reply::Protected { pairs }
        }
        Request::Failover { name, back } => {
            agent.fail_over(&name, back).await?;
            Reply::Done
        }
        Request::Nodes => {
            let (free, processors) = (Some(agent.capacity.free()), Some(processors()));
            let room = Some(agent.capacity.room());
            let mut nodes = vec![NodeInfo { peer: agent.me()?, this: true, free, processors, room, restarted: None }];
            for peer in agent.db.peers()? {
                let restarted = agent.db.restart(&peer.name)?;
                nodes.push(NodeInfo { peer, this: false, free: None, processors: None, room: None, restarted });
            }
            Reply::Nodes { nodes }
        }
        Request::Sample { name } => agent.sample(&name).await?,
        Request::Profile => agent.profile().await?,
        Request::Probe { bytes } => survey::probe(bytes)?,
        Request::Logs { .. } | Request::Snapshot { .. } | Request::Migrate { .. } | Request::At { .. } => {
            bail!("not here")
        }
    })
}

fn info(agent: &Agent, entry: &Arc<Entry>) -> TaskInfo {
    let live = entry.live().ok();
    TaskInfo {
        spec: entry.spec.clone(),
        state: entry.state(),
        target: crate::agent::target(),
        epoch: entry.epoch.load(Ordering::SeqCst),
        ran: live.as_ref().map_or(0, |l| l.ran().as_nanos() as u64),
        memory: live.as_ref().map_or(0, |l| l.memory()),
        log_bytes: std::fs::metadata(agent.dirs.log(entry.spec.id)).map_or(0, |m| m.len()),
    }
}

/// Sends a snapshot, and its log.
async fn snapshot(made: Made, asker: &mut Asker) -> Result<()> {
    asker.say(&Reply::Snapshot { snapshot: made.len.0, log: made.len.1 }).await?;
    let mut buffer = vec![0; 256 << 10];
    for (file, len) in [(made.snapshot, made.len.0), (made.log, made.len.1)] {
        let mut file = tokio::fs::File::from_std(file).take(len);
        loop {
            let read = file.read(&mut buffer).await?;
            if read == 0 {
                break;
            }
            asker.bytes(&buffer[..read]).await?;
        }
    }
    Ok(())
}

/// Sends a log, and what is appended to it until the task is over here.
async fn logs(agent: &Agent, entry: &Arc<Entry>, follow: bool, asker: &mut Asker) -> Result<()> {
    let mut file = match tokio::fs::File::open(agent.dirs.log(entry.spec.id)).await {
        Ok(file) => file,
        // It is forgotten at this moment.
        Err(e) => return asker.say(&failed(anyhow!("{} has no log here: {e}", entry.spec.name))).await,
    };
    asker.say(&Reply::Log).await?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let alive = entry.state().is_alive();
        loop {
            let read = file.read(&mut buffer).await?;
            if read == 0 {
                break;
            }
            asker.bytes(&buffer[..read]).await?;
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
    use crate::spec::Spec;

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
                id: TaskId([1; 16]),
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
                placed: false,
            };
            let task = TaskInfo {
                spec,
                state: state.clone(),
                target: String::new(),
                epoch: 2,
                ran: 0,
                memory: 0,
                log_bytes: 0,
            };
            let text = serde_json::to_string(&task).expect("can be written");
            let back: TaskInfo = serde_json::from_str(&text).expect("can be read");
            assert_eq!(back.state, state);
        }
    }
}
