//! What the clients of a task that serves some say and hear, for as long as it is on this board: their connections are kept
//! by the node where the task was started, which carries every byte to where the task is.

use super::ground::marks;
use super::{Agent, Entry, Queue};
use crate::clock;
use crate::executor::Executor;
use crate::host::Seat;
use crate::link::Link;
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;
use anyhow::{Result, anyhow, bail, ensure};
use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use wayfare_cluster::control::State;
use wayfare_cluster::peers::NodeMessage;
use wayfare_stream::ports::{Ports, frame, unframe};
use wayfare_transfer::{Incoming, Kind};

/// A link by which nothing is said is closed by the other side some time after this, nanoseconds.
const WARM: u64 = 5_000_000_000;
/// How long somebody else waits for an answer to whether they may hear a task, nanoseconds.
const ANSWERED: u64 = 2_000_000_000;
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

/// Whether a task's clients hear it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Serving {
    /// They have not heard it here.
    #[default]
    NotYet,
    /// The node that has them is asked whether they may.
    Asking,
    /// They may have.
    Served,
    /// They are not to: another copy goes on.
    Never,
}

/// What a task has to do with its clients.
#[derive(Default)]
pub(super) struct Clients {
    serving: Cell<Serving>,
    /// It goes on from an older state, with these marks.
    back: RefCell<Vec<Vec<u8>>>,
    /// The node that has them has heard that.
    caught_up: Cell<bool>,
    /// There is a channel to them.
    attached: Cell<bool>,
}

/// A question whether they may hear the task. Without an answer they may have.
struct Asked<'a> {
    clients: &'a Clients,
    before: Serving,
    answer: Serving,
}

impl Asked<'_> {
    fn refused(mut self) {
        self.answer = self.before;
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.clients.serving.set(self.answer);
    }
}

impl Clients {
    /// Of a task that takes over from an older state.
    pub(super) fn behind(marks: Vec<Vec<u8>>) -> Clients {
        Clients { back: RefCell::new(marks), ..Clients::default() }
    }

    fn asks(&self) -> Result<Asked<'_>> {
        let before = self.serving.get();
        ensure!(before != Serving::Never, "another copy of the task goes on");
        if before == Serving::NotYet {
            self.serving.set(Serving::Asking);
        }
        Ok(Asked { clients: self, before, answer: Serving::Served })
    }

    /// They are not to hear it, if they never have; gives whether that is so.
    pub(super) async fn are_kept_away(&self, executor: &Executor) -> bool {
        let since = clock::nanos();
        loop {
            if self.serving.get() == Serving::NotYet {
                self.serving.set(Serving::Never);
            }
            if self.serving.get() != Serving::Asking || clock::nanos() - since > ANSWERED {
                return self.serving.get() == Serving::Never;
            }
            executor.sleep(5).await;
        }
    }

    /// The claim for which they were not to hear it is not granted.
    pub(super) fn are_not_kept_away(&self) {
        self.serving.set(Serving::NotYet);
    }

    /// The task, which stands still, goes on from a state that is older than what they have heard of another copy.
    pub(super) fn go_back(&self, ports: &mut Ports) {
        let states = ports.freeze();
        // They were written just now.
        let (Ok(older), Ok(marks)) = (ports.behind(&states), marks(&states)) else { return };
        *ports = older;
        *self.back.borrow_mut() = marks;
        self.serving.set(Serving::NotYet);
        self.caught_up.set(false);
    }

    /// Whether they hear it now.
    pub(super) fn are_attached(&self) -> bool {
        self.attached.get()
    }

    /// Whether they know all that they have to know of how the task has gone on here.
    pub(super) fn have_caught_up(&self) -> bool {
        self.back.borrow().is_empty() || self.caught_up.get()
    }
}

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

/// Sees to it that a task hears its clients, if it has any, for as long as it is here at this epoch.
pub(super) fn begin(agent: &Rc<Agent>, entry: &Rc<Entry>, way: Option<Way>) {
    let Some(seat) = entry.seat.borrow().clone().filter(|_| !entry.spec.publish.is_empty()) else { return };
    entry.clients.attached.set(false);
    // What they have heard at an earlier epoch is not said again.
    if entry.clients.caught_up.take() {
        entry.clients.back.take();
    }
    agent.executor.spawn(carry(agent.clone(), entry.clone(), seat, way));
}

/// Carries segments between a task and its clients.
async fn carry(agent: Rc<Agent>, entry: Rc<Entry>, seat: Arc<Seat>, mut way: Option<Way>) {
    let (mut pause, mut ended_at) = (PAUSES.0, None);
    let epoch = entry.epoch.get();
    let has_left = |entry: &Entry| has_left(entry) || entry.epoch.get() != epoch;
    loop {
        let carried = carry_once(&agent, &entry, epoch, &seat, way.take()).await;
        if entry.epoch.get() == epoch {
            entry.clients.attached.set(false);
        }
        if carried.is_ok() || has_left(&entry) {
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
async fn carry_once(agent: &Agent, entry: &Entry, epoch: u64, seat: &Seat, way: Option<Way>) -> Result<()> {
    let has_left = |entry: &Entry| has_left(entry) || entry.epoch.get() != epoch;
    let dialled = match way {
        Some(way) => way.link().await,
        None => None,
    };
    let mut link = match dialled {
        Some(link) => link,
        None => agent.dial(&entry.spec.origin).await?,
    };
    // Meanwhile it may have been put aside, and gone on at another epoch.
    ensure!(!has_left(entry), "it is not here any more");
    let asked = entry.clients.asks()?;
    let wish = NodeMessage::Attach { task: entry.spec.id, epoch, back: entry.clients.back.borrow().clone() };
    link.send(Kind::Node, &wish.encode()).await?;
    match NodeMessage::decode(&link.expect(Kind::Node).await?)? {
        NodeMessage::Attached => {}
        NodeMessage::Refused(_) if !entry.state().is_alive() => return Ok(()),
        NodeMessage::Refused(why) => {
            asked.refused();
            bail!("{why}")
        }
        _ => bail!("it answered something else"),
    }
    drop(asked);
    if has_left(entry) {
        link.part().await;
        return Ok(());
    }
    entry.clients.attached.set(true);
    entry.clients.caught_up.set(true);
    seat.ports.lock().attached();
    seat.nudge();
    let mut ended_at = None;
    loop {
        // Before anything else: its connections may be another state's by now.
        if has_left(entry) {
            link.part().await;
            return Ok(());
        }
        while link.channel.backlog() < BACKLOG
            && let Some((index, segment)) = { seat.ports.lock().poll_transmit() }
        {
            link.channel.send(Kind::Stream, &frame(index, &segment))?;
        }
        link.push();
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
            && !has_left(entry)
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
