//! What the clients of a task that serves some say and hear, for as long as it is on this board: their connections are kept
//! by the node where the task was started, which carries every byte to where the task is.

use super::{Agent, Entry, Queue};
use crate::clock;
use crate::host::Seat;
use crate::link::Link;
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;
use anyhow::{Result, anyhow, bail, ensure};
use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use wayfare_cluster::control::State;
use wayfare_cluster::peers::NodeMessage;
use wayfare_stream::ports::{frame, unframe};
use wayfare_transfer::{Incoming, Kind};

/// A link by which nothing is said is closed by the other side some time after this, nanoseconds.
const WARM: u64 = 5_000_000_000;
/// How long a task's last words may take, nanoseconds.
const LAST_WORDS: u64 = 5_000_000_000;
/// Bytes of segments that may wait on a link.
const BACKLOG: usize = 128 << 10;
/// How long those clients are looked for who are still to hear that a task has ended, nanoseconds.
const GIVEN_UP: u64 = 600_000_000_000;
/// Between two looks at a task that has nothing to say, milliseconds.
const LOOK: u64 = 500;
/// Between two attempts to reach its clients, milliseconds: at first, and at most.
const PAUSES: (u64, u64) = (10, 2_000);

/// A link that is dialled before it is needed: a task that comes is not to wait for a handshake.
pub(super) struct Way {
    since: u64,
    link: Queue<Option<Link>>,
}

impl Way {
    /// Dials a node.
    pub(super) fn dial(agent: &Rc<Agent>, to: &str) -> Way {
        let link = Queue::new();
        let (agent, to, dialled) = (agent.clone(), alloc::string::String::from(to), link.clone());
        agent.executor.clone().spawn(async move { dialled.push(agent.dial(&to).await.ok()) });
        Way { since: clock::nanos(), link }
    }

    /// Whether the other side still listens.
    pub(super) fn is_warm(&self) -> bool {
        clock::nanos() - self.since < WARM
    }

    async fn link(self) -> Option<Link> {
        if self.is_warm() { self.link.next().await } else { None }
    }
}

/// Carries segments between a task and its clients, for as long as the task is here.
pub(super) async fn carry(agent: Rc<Agent>, entry: Rc<Entry>, seat: Arc<Seat>, mut way: Option<Way>) {
    let (mut pause, mut ended_at) = (PAUSES.0, None);
    loop {
        if carry_once(&agent, &entry, &seat, way.take()).await.is_ok() || has_left(&entry) {
            return;
        }
        if !entry.state().is_alive() {
            let since = *ended_at.get_or_insert(clock::nanos());
            if seat.ports.lock().is_empty() || clock::nanos() - since > GIVEN_UP {
                return;
            }
        }
        seat.ports.lock().detached();
        agent.executor.sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

fn has_left(entry: &Entry) -> bool {
    matches!(entry.state(), State::Left { .. })
}

enum Next {
    Turned(Result<Option<Incoming>>),
    Stirred,
}

/// Comes back without an error when there is nothing to carry any more.
async fn carry_once(agent: &Agent, entry: &Entry, seat: &Seat, way: Option<Way>) -> Result<()> {
    let dialled = match way {
        Some(way) => way.link().await,
        None => None,
    };
    let mut link = match dialled {
        Some(link) => link,
        None => agent.dial(&entry.spec.origin).await?,
    };
    let wish = NodeMessage::Attach { task: entry.spec.id, epoch: entry.epoch.get(), back: Vec::new() };
    link.send(Kind::Node, &wish.encode()).await?;
    match NodeMessage::decode(&link.expect(Kind::Node).await?)? {
        NodeMessage::Attached => {}
        NodeMessage::Refused(_) if !entry.state().is_alive() => return Ok(()),
        NodeMessage::Refused(why) => bail!("{why}"),
        _ => bail!("it answered something else"),
    }
    seat.ports.lock().attached();
    seat.nudge();
    let mut ended_at = None;
    loop {
        while link.channel.backlog() < BACKLOG
            && let Some((index, segment)) = { seat.ports.lock().poll_transmit() }
        {
            link.channel.send(Kind::Stream, &frame(index, &segment))?;
        }
        link.push();
        if has_left(entry) {
            link.part().await;
            return Ok(());
        }
        if !entry.state().is_alive() {
            // New clients who find nobody must not keep it from ending.
            let since = *ended_at.get_or_insert(clock::nanos());
            if seat.ports.lock().is_empty() || clock::nanos() - since > LAST_WORDS {
                link.channel.send(Kind::Node, &NodeMessage::Ended.encode())?;
                link.part().await;
                return Ok(());
            }
        }
        if let Next::Turned(turned) = next(agent, seat, &mut link).await
            && let Some(message) = turned?
        {
            ensure!(message.kind == Kind::Stream, "a message of another kind");
            let (index, segment) = unframe(&message.payload).map_err(|e| anyhow!("{e}"))?;
            seat.ports.lock().handle(index, segment).map_err(|_| anyhow!("more than was asked for"))?;
            seat.nudge();
        }
    }
}

/// What comes by the link, or that the task, or its state, has something new.
async fn next(agent: &Agent, seat: &Seat, link: &mut Link) -> Next {
    let mut look = pin!(agent.executor.sleep(LOOK));
    poll_fn(|cx| {
        seat.carrier.register(cx.waker());
        if seat.was_stirred() {
            return Poll::Ready(Next::Stirred);
        }
        if let Poll::Ready(turned) = pin!(link.turn()).poll(cx) {
            return Poll::Ready(Next::Turned(turned));
        }
        look.as_mut().poll(cx).map(|()| Next::Stirred)
    })
    .await
}
