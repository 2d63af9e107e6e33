//! What users ask of this board, by way of another node.

use super::depart::{Audience, Told, migrate};
use super::standby::Held;
use super::{Agent, Entry, Queue, target};
use crate::host::{End, Said, Verdict};
use crate::link::Link;
use crate::{clock, sys};
use alloc::format;
use alloc::rc::Rc;
use alloc::vec::Vec;
use anyhow::{Result, anyhow, bail, ensure};
use core::cell::Cell;
use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use wayfare_cluster::control::{NodeInfo, Order, Reply, Request, State, TaskInfo};
use wayfare_cluster::peers::NodeMessage;
use wayfare_cluster::restart::Restarted;
use wayfare_transfer::journal::Record;
use wayfare_transfer::message::Answer;
use wayfare_transfer::{Incoming, Kind};
use wayfare_unikernel_abi::SECOND;

/// Between two looks at a log that is followed, milliseconds.
const FOLLOW: u64 = 50;
/// Of a log in one message.
const CHUNK: usize = 32 << 10;

async fn say(link: &mut Link, reply: &Reply) -> Result<()> {
    let reply = serde_json::to_vec(reply)?;
    link.send(Kind::Node, &NodeMessage::Reply(reply).encode()).await
}

/// Answers.
///
/// # Errors
/// When the link is gone.
pub(super) async fn answer(agent: Rc<Agent>, link: &mut Link, request: &[u8]) -> Result<()> {
    let Ok(request) = serde_json::from_slice::<Request>(request) else {
        return say(link, &failed(&anyhow!("that board is of another version"))).await;
    };
    if let Some(name) = request.task()
        && let Ok(entry) = agent.task(name)
        && let State::Left { to, .. } = entry.state()
        && !(matches!(request, Request::Failover { .. }) && agent.stands_by(name).is_some())
    {
        return say(link, &Reply::Elsewhere { node: to }).await;
    }
    let reply = match request {
        Request::Logs { name, follow } => match agent.task(&name) {
            Ok(entry) => return logs(&agent, &entry, follow, link).await,
            Err(e) => failed(&e),
        },
        Request::Migrate { order } => return moved(agent, link, order).await,
        other => done(&agent, other).await.unwrap_or_else(|e| failed(&e)),
    };
    say(link, &reply).await
}

fn failed(e: &anyhow::Error) -> Reply {
    Reply::Failed { error: format!("{e:#}") }
}

async fn done(agent: &Rc<Agent>, request: Request) -> Result<Reply> {
    Ok(match request {
        Request::List => Reply::Tasks { tasks: agent.tasks.borrow().values().map(|e| info(e)).collect() },
        Request::Stop { name } => {
            let entry = agent.task(&name)?;
            let live = entry.live()?;
            ensure!(!entry.moving.replace(true), "{name} is being moved");
            let said = live.stop(&agent.executor).await;
            entry.moving.set(false);
            match said {
                Said::Frozen(Ok(_), _) => {
                    live.judge(Verdict::Drop);
                    agent.ended(&entry, &End::Dropped);
                    live.seat.ports.lock().close_all();
                    entry.set_state(State::Stopped { why: "told to".into() });
                    agent.set_record(entry.spec.id, Record::Ended { epoch: entry.epoch.get() });
                }
                Said::Frozen(Err(why), _) => bail!("{why}"),
                Said::Ended(_) => bail!("{name} is not running"),
            }
            Reply::Done
        }
        Request::Remove { name } => {
            let entry = agent.task(&name)?;
            ensure!(!entry.state().holds_name(), "{name} may still run: stop it first");
            agent.tasks.borrow_mut().remove(&name);
            Reply::Done
        }
        Request::Resolve { name, here } => {
            let entry = agent.task(&name)?;
            if !matches!(entry.state(), State::Unknown { .. } | State::Left { saved: false, .. }) {
                bail!("it is known where {name} is");
            }
            // Its epoch may have been used there: what goes on here claims the next one.
            entry.decision.set(Some(if here { Answer::Lost } else { Answer::Owns }));
            Reply::Done
        }
        Request::Nodes => {
            let at = clock::unix().saturating_sub(clock::nanos() / SECOND);
            let restarted = agent.failures.last.clone().map(|why| Restarted { at, why });
            let (free, processors) = (Some(sys::free()), Some(sys::processors()));
            let mut nodes =
                Vec::from([NodeInfo { peer: agent.me(), this: true, free, processors, room: None, restarted }]);
            let others = agent.peers.borrow();
            let other =
                |peer| NodeInfo { peer, this: false, free: None, processors: None, room: None, restarted: None };
            nodes.extend(others.values().cloned().map(other));
            Reply::Nodes { nodes }
        }
        Request::Protected => Reply::Protected { pairs: agent.pairs() },
        Request::Failover { name, back } => {
            match agent.stands_by(&name) {
                Some(held) => {
                    let pair = held.pair();
                    ensure!(
                        !back || pair.home == agent.identity.name,
                        "{name} is at home where it is, on {}",
                        pair.peer
                    );
                    held.take_over().await?;
                }
                None => agent.fail_back(&name).await?,
            }
            Reply::Done
        }
        Request::Unprotect { name } => {
            let had = agent.task(&name)?.terms.borrow_mut().take();
            ensure!(had.is_some(), "{name} has no standby");
            Reply::Done
        }
        Request::Protect { order } => {
            let me = &agent.identity.name;
            bail!("{me} is a board, which keeps no standbys: move {} to another node, and protect it there", order.name)
        }
        _ => bail!("a board cannot do this"),
    })
}

impl Agent {
    /// The task of this name whose standby this board is.
    fn stands_by(&self, name: &str) -> Option<Rc<Held>> {
        self.standbys.borrow().values().find(|held| held.pair().name == name).cloned()
    }
}

fn info(entry: &Entry) -> TaskInfo {
    let live = entry.live.borrow();
    TaskInfo {
        spec: entry.spec.clone(),
        state: entry.state(),
        target: target(),
        epoch: entry.epoch.get(),
        ran: live.as_ref().map_or(0, |live| live.ran()),
        memory: live.as_ref().map_or(0, |live| live.memory()),
        log_bytes: live.as_ref().map_or(0, |live| live.seat.log.lock().len()),
    }
}

async fn logs(agent: &Agent, entry: &Entry, follow: bool, link: &mut Link) -> Result<()> {
    let Some(seat) = entry.seat.borrow().clone() else {
        return say(link, &failed(&anyhow!("its log has gone with it"))).await;
    };
    say(link, &Reply::Log).await?;
    let mut at = 0;
    loop {
        let alive = entry.state().is_alive();
        let (bytes, len) = {
            let log = seat.log.lock();
            (log.from(at), log.len())
        };
        at = len;
        for chunk in bytes.chunks(CHUNK) {
            link.send(Kind::Node, &NodeMessage::Bytes(chunk.to_vec()).encode()).await?;
        }
        if !follow || !alive {
            return Ok(());
        }
        agent.executor.sleep(FOLLOW).await;
    }
}

async fn moved(agent: Rc<Agent>, link: &mut Link, order: Order) -> Result<()> {
    let audience = Rc::new(Audience { told: Queue::new(), left: Cell::new(false) });
    let outcome = Queue::new();
    let (mover, heard, ended) = (agent.clone(), audience.clone(), outcome.clone());
    agent.executor.spawn(async move { ended.push(migrate(mover, order, heard).await) });
    enum Next {
        Told(Told),
        Ended(Result<()>),
        Turned(Result<Option<Incoming>>),
    }
    loop {
        let next = poll_fn(|cx| {
            if let Poll::Ready(told) = audience.told.poll(cx) {
                return Poll::Ready(Next::Told(told));
            }
            if let Poll::Ready(ended) = outcome.poll(cx) {
                return Poll::Ready(Next::Ended(ended));
            }
            if audience.left.get() {
                return Poll::Pending;
            }
            pin!(link.turn()).poll(cx).map(Next::Turned)
        })
        .await;
        match next {
            Next::Told(_) if audience.left.get() => {}
            Next::Told(Told::Line(line)) => say(link, &Reply::Moving { line }).await?,
            Next::Told(Told::Gone(report)) => return say(link, &Reply::Moved { report }).await,
            Next::Ended(Ok(())) => return say(link, &failed(&anyhow!("the move went without a word"))).await,
            Next::Ended(Err(e)) => return say(link, &failed(&e)).await,
            Next::Turned(Ok(None)) => {}
            // The user has gone away: the move is called off, if that is still possible.
            Next::Turned(_) => audience.left.set(true),
        }
    }
}
