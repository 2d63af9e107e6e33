//! The controller's hands: follows every node, and does on them what the core decides.

use crate::LEASE;
use crate::core::{Command, Deed, Doing, Start, Survey, files};
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
use wayfare_api::Moved;
use wayfare_cluster::control::{Brief, NodeInfo, Order, PROBE_MAX, Reply, Request, Sample, TaskInfo};
use wayfare_node::agent::Agent;
use wayfare_transfer::message::Mode;

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
/// How long a snapshot may be on its way.
const SNAPSHOT: Duration = Duration::from_secs(600);
/// Between two looks at how fast bytes come from a node.
const PROBE: Duration = Duration::from_secs(60);
/// Between two questions to a node how fast it is: for that it has to work a little.
const PROFILE: Duration = Duration::from_secs(600);
/// Questions by which that is seen.
const PROBES: usize = 3;
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
    let (mut is_bare, mut probed, mut profiled) = (false, Instant::now(), Instant::now());
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
                if !is_bare && (!is_there || probed.elapsed() > PROBE) {
                    probed = Instant::now();
                    let is_whole = !is_there || profiled.elapsed() > PROFILE;
                    if is_whole {
                        profiled = Instant::now();
                    }
                    tokio::spawn(survey(agent.clone(), node.clone(), is_whole, core.clone()));
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

/// Measures a node: how fast bytes come from it, and, if that is asked, how fast it is and what it has. Beside everything else: nothing
/// waits for it.
async fn survey(agent: Arc<Agent>, node: String, is_whole: bool, core: mpsc::Sender<Command>) {
    let mut survey = Survey { bandwidth: bandwidth(&agent, &node).await, ..Survey::default() };
    // One that is of an older version has no word for it.
    if is_whole
        && let Ok(Ok(Reply::Profile { speed, images })) =
            tokio::time::timeout(START, agent.ask_node(&node, Request::Profile)).await
    {
        (survey.speed, survey.images) = (Some(speed), Some(images));
    }
    let _ = core.send(Command::Measured { node, survey }).await;
}

/// Bytes per second from a node, by how much longer an answer takes that is longer. What is sent there is small: where bytes go
/// fast this is less than there is, and moves say more.
async fn bandwidth(agent: &Agent, node: &str) -> Option<f64> {
    if agent.identity().ok()?.name == node {
        return None;
    }
    let (mut short, mut long) = (Duration::MAX, Duration::MAX);
    for _ in 0..PROBES {
        for (bytes, best) in [(0, &mut short), (PROBE_MAX, &mut long)] {
            let began = Instant::now();
            let asked = tokio::time::timeout(ANSWER, agent.ask_node(node, Request::Probe { bytes })).await;
            match asked.ok()?.ok()? {
                Reply::Probe { filler } if filler.len() == bytes as usize => *best = (*best).min(began.elapsed()),
                _ => return None,
            }
        }
    }
    let took = long.saturating_sub(short).max(Duration::from_micros(20));
    Some(f64::from(PROBE_MAX) / took.as_secs_f64())
}

/// What a task takes.
pub(crate) async fn sample(agent: &Agent, node: &str, name: &str) -> Result<Sample> {
    let asked = agent.ask_node(node, Request::Sample { name: name.into() });
    match tokio::time::timeout(ANSWER, asked).await?? {
        Reply::Sampled { sample } => Ok(sample),
        _ => bail!("it answered something else"),
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
    snapshots: PathBuf,
    mut deeds: mpsc::UnboundedReceiver<Doing>,
    core: mpsc::Sender<Command>,
) {
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    while let Some((deed, span)) = deeds.recv().await {
        let Ok(permit) = at_once.clone().acquire_owned().await else { return };
        let (agent, logs, snapshots, core) = (agent.clone(), logs.clone(), snapshots.clone(), core.clone());
        let acting = async move {
            let _permit = permit;
            act_once(&agent, (&logs, &snapshots), deed, &core).await;
        };
        tokio::spawn(acting.instrument(span));
    }
}

async fn act_once(agent: &Arc<Agent>, (logs, snapshots): (&Path, &Path), deed: Deed, core: &mpsc::Sender<Command>) {
    match deed {
        Deed::Launch { node, number, task, from } => {
            let id = task.id;
            let is_gone = from.as_ref().is_some_and(|kept| !kept.snapshot.exists() || !kept.log.exists());
            let patience = if from.is_some() { SNAPSHOT } else { START };
            let launched = tokio::time::timeout(patience, agent.launch_at(&node, *task, from)).await;
            let result = match launched {
                _ if is_gone => Start::Refused("the snapshot that it is to go on from is gone".into()),
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
        Deed::Weigh(candidate) => {
            let sample = sample(agent, &candidate.from, &candidate.name).await.ok();
            let _ = core.send(Command::Weighed { candidate, sample }).await;
        }
        Deed::Move { name, from, to } => {
            if let Err(e) = carry(agent, core, &name, &from, &to, false).await {
                tracing::debug!(task = %name, "stays on {from}: {e:#}");
            }
        }
        Deed::Snapshot(order) => {
            let to = files(snapshots, order.snapshot.id);
            let made =
                tokio::time::timeout(SNAPSHOT, agent.snapshot_of(&order.node, &order.name, order.memory, &to)).await;
            let made = match made {
                Ok(Ok(bytes)) => Ok(bytes),
                Ok(Err(e)) => Err(format!("{e:#}")),
                Err(_) => Err(format!("{} does not answer", order.node)),
            };
            if let Err(why) = &made {
                trace::failed(&Span::current(), why);
            }
            let _ = core.send(Command::SnapshotMade { order, made }).await;
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

/// Has a node move a task. A standby is taken away first: it would be one of a task that is somewhere else. Another is found when
/// the task has moved.
pub(crate) async fn carry(
    agent: &Agent,
    core: &mpsc::Sender<Command>,
    name: &str,
    from: &str,
    to: &str,
    guarded: bool,
) -> Result<Moved> {
    let span = trace::of_move(name, from, to);
    let moved = carry_once(agent, name, from, to, guarded).instrument(span.clone()).await;
    trace::moved(&span, &moved);
    let told = match &moved {
        Ok(moved) => Command::Carried { name: name.into(), moved: moved.clone() },
        Err(_) => Command::Stayed { name: name.into() },
    };
    core.send(told).await?;
    moved
}

async fn carry_once(agent: &Agent, name: &str, from: &str, to: &str, guarded: bool) -> Result<Moved> {
    if guarded {
        agent.ask_node(from, Request::Unprotect { name: name.into() }).await?;
    }
    let order = Order {
        name: name.into(),
        to: to.into(),
        mode: Mode::PreCopy,
        max_downtime: 100_000_000,
        give_up: false,
        limit: None,
        streams: 1,
    };
    let Reply::Moved { report } = agent.ask_node(from, Request::Migrate { order }).await? else {
        bail!("{from} answered something else")
    };
    let millis = |nanos: u64| nanos as f64 / 1e6;
    Ok(Moved {
        from: from.into(),
        to: to.into(),
        downtime: millis(report.downtime),
        took: millis(report.total),
        bytes: report.last.progress.bytes + report.state_bytes,
    })
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
