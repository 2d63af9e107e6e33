//! The controller's hands: follows every node, and does on them what the core decides.

use crate::LEASE;
use crate::core::{Command, Deed, Doing, Start};
use crate::http::protection;
use crate::trace;
use anyhow::{Result, bail};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::sync::{Semaphore, mpsc};
use tracing::{Instrument, Span};
use wayfare_cluster::control::{Brief, NodeInfo, Reply, Request, TaskInfo};
use wayfare_node::agent::Agent;

/// Between two looks at which nodes there are.
const LOOK: Duration = Duration::from_secs(1);
/// Between two questions to a node what it has.
const LOOK_CLOSELY: Duration = Duration::from_secs(5);
/// Between two questions to a machine without an operating system what runs there.
const BARE: Duration = Duration::from_millis(500);
/// A node that is asked again after it did not answer.
const AGAIN: Duration = Duration::from_millis(200);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(4);
/// How long a node may take to start a task: it may have to compile it.
const START: Duration = Duration::from_secs(120);
/// Words to nodes that are under way at once.
const AT_ONCE: usize = 64;
/// Bytes of a log that are kept: the end of it.
const LOG_MAX: usize = 16 << 20;

/// Looks for nodes, and follows each.
pub(crate) async fn look(agent: Arc<Agent>, core: mpsc::Sender<Command>) -> Result<()> {
    let me = agent.identity()?.name;
    let mut followed = HashSet::new();
    loop {
        if let Ok(Reply::Nodes { nodes }) = agent.ask_node(&me, Request::Nodes).await {
            for node in nodes {
                if followed.insert(node.peer.name.clone()) {
                    tokio::spawn(follow(agent.clone(), node.peer.name, core.clone()));
                }
            }
        }
        if core.send(Command::Tick).await.is_err() {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn info(agent: &Arc<Agent>, node: &str) -> Result<NodeInfo> {
    let Reply::Nodes { nodes } = agent.ask_node(node, Request::Nodes).await? else {
        bail!("it answered something else")
    };
    nodes.into_iter().find(|info| info.this).ok_or_else(|| anyhow::anyhow!("it does not say what it has"))
}

/// Follows a node: what it has, and what becomes of the tasks there.
async fn follow(agent: Arc<Agent>, node: String, core: mpsc::Sender<Command>) {
    let (mut heard, mut looked, mut seen, mut is_there) = (Instant::now(), Instant::now(), 0, false);
    let mut is_bare = false;
    loop {
        let asked = async {
            if !is_there || looked.elapsed() > LOOK_CLOSELY {
                looked = Instant::now();
                let info = info(&agent, &node).await?;
                is_bare = info.peer.is_bare();
                let rtt = looked.elapsed();
                if !is_there {
                    core.send(Command::Joined { info: info.clone() }).await?;
                }
                core.send(Command::Looked { info, rtt }).await?;
            }
            match is_bare {
                false => agent.ask_node(&node, Request::Changes { seen }).await,
                true => listed(&agent, &node, &mut seen).await,
            }
        };
        match tokio::time::timeout(ANSWER, asked).await {
            Ok(Ok(Reply::Changes { seen: now, tasks, more })) => {
                (heard, seen, is_there) = (Instant::now(), now, true);
                let heard = Command::Heard { node: node.clone(), tasks, all: !more };
                if core.send(heard).await.is_err() {
                    return;
                }
                continue;
            }
            Ok(Err(e)) => tracing::debug!(%node, "does not answer: {e:#}"),
            _ => tracing::debug!(%node, "does not answer"),
        }
        // Whatever it says next may be of another life.
        seen = 0;
        if is_there && heard.elapsed() > LEASE {
            is_there = false;
            if core.send(Command::Lost { node: node.clone() }).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// What a node says that has no words for changes: a machine without an operating system.
async fn listed(agent: &Arc<Agent>, node: &str, seen: &mut u64) -> Result<Reply> {
    if *seen > 0 {
        tokio::time::sleep(BARE).await;
    }
    let Reply::Tasks { tasks } = agent.ask_node(node, Request::List).await? else {
        bail!("it answered something else")
    };
    let placed = tasks.into_iter().filter(|task| task.spec.placed);
    let brief = |task: TaskInfo| Brief { id: task.spec.id, name: task.spec.name, epoch: task.epoch, state: task.state };
    Ok(Reply::Changes { seen: *seen + 1, tasks: placed.map(brief).collect(), more: false })
}

/// Does what the core decides.
pub(crate) async fn act(
    agent: Arc<Agent>,
    logs: PathBuf,
    mut deeds: mpsc::UnboundedReceiver<Doing>,
    core: mpsc::Sender<Command>,
) {
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    while let Some((deed, span)) = deeds.recv().await {
        let Ok(permit) = at_once.clone().acquire_owned().await else { return };
        let (agent, logs, core) = (agent.clone(), logs.clone(), core.clone());
        let acting = async move {
            let _permit = permit;
            act_once(&agent, &logs, deed, &core).await;
        };
        tokio::spawn(acting.instrument(span));
    }
}

async fn act_once(agent: &Arc<Agent>, logs: &Path, deed: Deed, core: &mpsc::Sender<Command>) {
    match deed {
        Deed::Launch { node, number, task } => {
            let id = task.id;
            let launched = tokio::time::timeout(START, agent.launch_at(&node, *task)).await;
            let result = match launched {
                Ok(Ok(Ok(()))) => Start::Done,
                Ok(Ok(Err(why))) => Start::Refused(why),
                Ok(Err(e)) => Start::Unheard(format!("{e:#}")),
                Err(_) => Start::Unheard(format!("{node} does not answer")),
            };
            if let Start::Refused(why) | Start::Unheard(why) = &result {
                trace::failed(&Span::current(), why);
            }
            let _ = core.send(Command::Launched { id, number, result }).await;
        }
        Deed::Stop { node, name } => {
            if let Err(e) = agent.ask_node(&node, Request::Stop { name: name.clone() }).await {
                tracing::debug!(task = %name, %node, "cannot be stopped: {e:#}");
                trace::failed(&Span::current(), &format!("{e:#}"));
            }
        }
        Deed::Protect { node, id, number, name, standby } => {
            let order = protection(&name, vec![standby.clone()]);
            let asked = tokio::time::timeout(START, agent.ask_node(&node, Request::Protect { order })).await;
            let result = match asked {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(e)) => Err(format!("{e:#}")),
                Err(_) => Err(format!("{node} does not answer")),
            };
            if let Err(why) = &result {
                trace::failed(&Span::current(), why);
            }
            let _ = core.send(Command::Protected { id, number, standby, result }).await;
        }
        Deed::Discard { node, name } => {
            tracing::info!(task = %name, %node, "goes on elsewhere, and is stopped there");
            let _ = agent.ask_node(&node, Request::Stop { name: name.clone() }).await;
            if let Err(e) = agent.ask_node(&node, Request::Remove { name: name.clone() }).await {
                tracing::debug!(task = %name, %node, "cannot be removed: {e:#}");
                trace::failed(&Span::current(), &format!("{e:#}"));
            }
        }
        Deed::Collect { node, id, name, number } => {
            match collect(agent, &node, &name, &log_path(logs, number)).await {
                Ok(()) => _ = agent.ask_node(&node, Request::Remove { name }).await,
                // It is tried again when the node speaks of it next.
                Err(e) => {
                    tracing::debug!(task = %name, %node, "its log does not come: {e:#}");
                    trace::failed(&Span::current(), &format!("{e:#}"));
                }
            }
            let _ = core.send(Command::Collected { id }).await;
        }
    }
}

/// Where a task's log is kept once it is over.
pub(crate) fn log_path(logs: &Path, number: u64) -> PathBuf {
    logs.join(number.to_string())
}

async fn collect(agent: &Agent, node: &str, name: &str, to: &Path) -> Result<()> {
    let mut log = agent.log_of(node, name, false).await?;
    let mut bytes = Vec::new();
    let mut step = vec![0; 64 << 10];
    loop {
        let n = log.read(&mut step).await?;
        if n == 0 {
            break;
        }
        bytes.extend_from_slice(&step[..n]);
        if bytes.len() > 2 * LOG_MAX {
            bytes.drain(..bytes.len() - LOG_MAX);
        }
    }
    let surplus = bytes.len().saturating_sub(LOG_MAX);
    let part = to.with_extension("part");
    tokio::fs::write(&part, &bytes[surplus..]).await?;
    Ok(tokio::fs::rename(part, to).await?)
}
