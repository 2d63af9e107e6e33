//! The agent of a board: greets the cluster, takes tasks in, gives them away, and answers what is asked about them. It
//! speaks what agents on Linux speak (`wayfare_transfer`, `wayfare_cluster`).
//!
//! ```text
//! serve     connections of other nodes
//! greet     tells the others that this one is here, and hears what time it is
//! arrive    drives transfer::Destination   images: compiled by nodes that have a compiler
//! ground    where their pages land, and whether there is room
//! depart    drives transfer::Source
//! standby   drives transfer::standby::Standby
//! reunion   of two copies of a task one goes on
//! homeward  what was taken over goes home
//! control   what users ask
//! task      one task on its thread
//! service   what its clients say, and hear
//! ```
//! What it knows is in memory. A board that is switched off loses its tasks, and what it has promised about them: about a
//! task of which it knows nothing it says that it is lost here, which is true, and lets whoever still has it go on with it.

mod arrive;
mod control;
mod depart;
mod greet;
mod ground;
mod homeward;
mod images;
mod reunion;
mod service;
mod standby;
mod task;

use crate::executor::Executor;
use crate::failure::Failures;
use crate::host::{Board, End, Said, Seat, Verdict};
use crate::link::Link;
use crate::net::Net;
use crate::{clock, sys};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use anyhow::{Context as _, Result, anyhow, bail};
use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::{Context, Poll, Waker};
use reunion::Displaced;
use service::{Clients, Way};
use standby::Held;
use task::Live;
use wayfare_cluster::control::State;
use wayfare_cluster::identity::Identity;
use wayfare_cluster::peers::{NodeMessage, Peer};
use wayfare_cluster::protection::Terms;
use wayfare_cluster::restart::Restart;
use wayfare_cluster::spec::Spec;
use wayfare_engine::bare;
use wayfare_transfer::channel::Credentials;
use wayfare_transfer::identity::Revocations;
use wayfare_transfer::journal::{self, Facts, Record};
use wayfare_transfer::message::{Answer, Message};
use wayfare_transfer::{Incoming, Kind, TaskId};

/// Where boards listen, unless they are told otherwise.
pub const PORT: u16 = 7600;
/// Connections at once.
const CONNECTIONS: usize = 32;
/// The same when there is less memory left than these bytes.
const CONNECTIONS_FULL: usize = 4;
const CONNECTION: u64 = 512 << 10;
/// A connection on which nothing is said is closed after so many milliseconds.
const SILENCE: u64 = 15_000;

/// What goes from one future to another.
pub struct Queue<T>(Rc<Waiting<T>>);

struct Waiting<T> {
    items: RefCell<VecDeque<T>>,
    waker: RefCell<Option<Waker>>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Queue(self.0.clone())
    }
}

impl<T> Queue<T> {
    fn new() -> Queue<T> {
        Queue(Rc::new(Waiting { items: RefCell::default(), waker: RefCell::default() }))
    }

    fn push(&self, item: T) {
        self.0.items.borrow_mut().push_back(item);
        if let Some(waker) = self.0.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// What is there already.
    fn take(&self) -> Option<T> {
        self.0.items.borrow_mut().pop_front()
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<T> {
        match self.take() {
            Some(item) => Poll::Ready(item),
            None => {
                *self.0.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    async fn next(&self) -> T {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn is_same(&self, other: &Queue<T>) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

/// A task of this board, or one that was.
struct Entry {
    spec: Spec,
    state: RefCell<State>,
    live: RefCell<Option<Rc<Live>>>,
    /// Of the task, or of the one that was: its log.
    seat: RefCell<Option<Arc<Seat>>>,
    epoch: Cell<u64>,
    /// Something moves it, or brings it.
    moving: Cell<bool>,
    /// A person's word on what became of it.
    decision: Cell<Option<Answer>>,
    /// What it has to do with its clients.
    clients: Clients,
    /// How it is to be protected at home, if it was taken over here.
    terms: RefCell<Option<Terms>>,
}

impl Entry {
    /// A task that is about to run.
    fn new(spec: Spec, epoch: u64, seat: Arc<Seat>, clients: Clients) -> Rc<Entry> {
        Rc::new(Entry {
            spec,
            state: RefCell::new(State::Running),
            live: RefCell::default(),
            seat: RefCell::new(Some(seat)),
            epoch: Cell::new(epoch),
            moving: Cell::new(false),
            decision: Cell::new(None),
            clients,
            terms: RefCell::default(),
        })
    }

    fn state(&self) -> State {
        self.state.borrow().clone()
    }

    fn set_state(&self, state: State) {
        *self.state.borrow_mut() = state;
        if let Some(seat) = &*self.seat.borrow() {
            seat.stir();
        }
    }

    fn live(&self) -> Result<Rc<Live>> {
        let live = self.live.borrow().clone();
        live.ok_or_else(|| anyhow!("{} does not run on that board", self.spec.name))
    }
}

/// How others reach a move to this node.
#[derive(Clone)]
struct Visitors {
    epoch: u64,
    /// Bytes of the task's memories.
    memory: u64,
    peer: String,
    door: Queue<Visit>,
}

/// What others want of a move to this node.
enum Visit {
    /// The source has dialled again.
    Reattached(Box<Link>),
    /// The source asks what became of it, and has closed, or lost, the link that it had.
    Asked,
}

/// See the module.
pub struct Agent {
    executor: Executor,
    net: Net,
    identity: Identity,
    address: RefCell<String>,
    peers: RefCell<BTreeMap<String, Peer>>,
    revoked: RefCell<Revocations>,
    tasks: RefCell<BTreeMap<String, Rc<Entry>>>,
    journal: RefCell<BTreeMap<TaskId, Record>>,
    arriving: RefCell<BTreeMap<TaskId, Visitors>>,
    /// Tasks whose standby this board is.
    standbys: RefCell<BTreeMap<TaskId, Rc<Held>>>,
    /// Copies of tasks that others have replaced.
    displaced: RefCell<BTreeMap<TaskId, Displaced>>,
    programs: images::Programs,
    connections: Cell<usize>,
    failures: Failures,
    /// Those who know why this machine was reset.
    told: RefCell<BTreeSet<String>>,
}

/// What this runs on, as nodes tell each other.
pub fn target() -> String {
    wayfare_engine::Target::host().to_string()
}

/// A line for people, on the console.
macro_rules! log {
    ($($arg:tt)*) => { $crate::console::line(&alloc::format!($($arg)*)) };
}
pub(crate) use log;

impl Agent {
    /// A node that is not at work yet. `address` is how others reach it; else it is the one that it gets by DHCP.
    pub fn new(
        executor: &Executor,
        net: &Net,
        identity: Identity,
        peers: Vec<Peer>,
        address: Option<String>,
        failures: Failures,
    ) -> Rc<Agent> {
        let peers = peers.into_iter().map(|peer| (peer.name.clone(), peer)).collect();
        Rc::new(Agent {
            executor: executor.clone(),
            net: net.clone(),
            identity,
            address: RefCell::new(address.unwrap_or_default()),
            peers: RefCell::new(peers),
            revoked: RefCell::default(),
            tasks: RefCell::default(),
            journal: RefCell::default(),
            arriving: RefCell::default(),
            standbys: RefCell::default(),
            displaced: RefCell::default(),
            programs: images::Programs::default(),
            connections: Cell::new(0),
            failures,
            told: RefCell::default(),
        })
    }

    /// Serves for ever.
    pub async fn serve(self: Rc<Self>) {
        let address = self.net.address().await;
        if self.address.borrow().is_empty() {
            *self.address.borrow_mut() = format!("{address}:{PORT}");
        }
        log!(
            "{} of {} is at {address}, port {PORT}, after {} ms",
            self.identity.name,
            self.identity.cluster,
            clock::nanos() / 1_000_000
        );
        if let Some(Restart { part, text, times }) = &self.failures.last {
            log!("it was reset, {times} times in a row: {}: {text}", part.describe());
        }
        let mut listener = self.net.listen(PORT);
        self.executor.spawn(self.clone().greet_for_ever());
        loop {
            let stream = listener.accept().await;
            // A task that takes all the memory must not keep people from stopping it.
            let most = if sys::free() < CONNECTION { CONNECTIONS_FULL } else { CONNECTIONS };
            if self.connections.get() >= most {
                continue;
            }
            self.connections.set(self.connections.get() + 1);
            let agent = self.clone();
            self.executor.spawn(async move {
                let served = match Link::accept(&agent.executor, stream, agent.credentials()).await {
                    Ok(link) => agent.clone().handle(link).await,
                    Err(e) => Err(e.context("a handshake failed")),
                };
                if let Err(e) = served {
                    log!("a connection: {e:#}");
                }
                agent.connections.set(agent.connections.get() - 1);
            });
        }
    }

    fn credentials(&self) -> Credentials {
        self.identity.credentials(self.revoked.borrow().clone())
    }

    async fn handle(self: Rc<Self>, mut link: Link) -> Result<()> {
        let first = link.receive(SILENCE).await.context("nothing was said")?;
        match first.kind {
            Kind::Transfer => match Message::decode(&first.payload)? {
                Message::Offer(_) => arrive::arrive(self, link, first).await,
                Message::Standby(said) => standby::hold(self, link, said).await,
                Message::Reattach { task, epoch } => self.reattach(link, task, epoch).await,
                Message::Ask { task, epoch, .. } => {
                    let peer = link.peer().unwrap_or_default().to_string();
                    let answer = self.answer(&peer, task, epoch);
                    link.send(Kind::Transfer, &Message::Answer(answer).encode()).await?;
                    link.part().await;
                    Ok(())
                }
                // Pages that would come by it come by the first link.
                Message::Lane { .. } => Ok(()),
                _ => bail!("a message that begins nothing"),
            },
            Kind::Node => self.converse(link, &first).await,
            _ => bail!("a message that begins nothing"),
        }
    }

    async fn converse(self: Rc<Self>, mut link: Link, first: &Incoming) -> Result<()> {
        match NodeMessage::decode(&first.payload)? {
            NodeMessage::Hello { me, peers, revoked, clock } => {
                self.hear(link.peer() == Some(&me.name), me, peers, revoked, clock);
                link.send(Kind::Node, &self.hello().encode()).await?;
            }
            NodeMessage::Request(request) => control::answer(self, &mut link, &request).await?,
            NodeMessage::Compile { .. } => {
                let refused = NodeMessage::Refused("that node has no compiler".into());
                link.send(Kind::Node, &refused.encode()).await?;
            }
            _ => bail!("a message that begins nothing"),
        }
        link.part().await;
        Ok(())
    }

    /// A task by its name.
    fn task(&self, name: &str) -> Result<Rc<Entry>> {
        let found = self.tasks.borrow().get(name).cloned();
        found.ok_or_else(|| anyhow!("no task named {name} is on {}", self.identity.name))
    }

    fn record(&self, task: TaskId) -> Option<Record> {
        self.journal.borrow().get(&task).cloned()
    }

    fn set_record(&self, task: TaskId, record: Record) {
        self.journal.borrow_mut().insert(task, record);
    }

    /// The journal is to say what it said before.
    fn put_back(&self, task: TaskId, before: Option<Record>) {
        match before {
            Some(record) => self.set_record(task, record),
            None => _ = self.journal.borrow_mut().remove(&task),
        }
    }

    /// Whether a task is in memory and goes by that epoch.
    fn runs(&self, task: TaskId, epoch: u64) -> bool {
        let tasks = self.tasks.borrow();
        tasks.values().any(|e| e.spec.id == task && e.epoch.get() == epoch && e.state().is_alive())
    }

    /// Answers another node's question.
    fn answer(&self, peer: &str, task: TaskId, epoch: u64) -> Answer {
        // Its commit may be in a buffer here. Nobody who asks still sends, so it can be called off.
        let deciding = self.visit(peer, task, epoch, Visit::Asked).is_none();
        let record = self.record(task);
        if record.is_none() && !deciding {
            // It may have been here before the board was switched on.
            self.set_record(task, Record::Lost { epoch });
            return Answer::Lost;
        }
        let facts = Facts { runs: self.runs(task, epoch), deciding, holds: true };
        let (answer, promise) = journal::answer(record.as_ref(), epoch, facts);
        if let Some(promise) = promise {
            self.set_record(task, promise);
        }
        answer
    }

    /// Brings something to a move to this node. Gives it back if there is none from that node at that epoch.
    fn visit(&self, peer: &str, task: TaskId, epoch: u64, visit: Visit) -> Option<Visit> {
        let visitors = self.arriving.borrow().get(&task).cloned();
        match visitors.filter(|v| v.epoch == epoch && v.peer == peer) {
            Some(visitors) => {
                visitors.door.push(visit);
                None
            }
            None => Some(visit),
        }
    }

    async fn reattach(&self, link: Link, task: TaskId, epoch: u64) -> Result<()> {
        let peer = link.peer().context("a stranger asks for a task")?.to_string();
        let Some(Visit::Reattached(mut link)) = self.visit(&peer, task, epoch, Visit::Reattached(Box::new(link)))
        else {
            return Ok(());
        };
        let said = match self.answer(&peer, task, epoch) {
            Answer::Owns => Message::Received,
            Answer::Lost => Message::Answer(Answer::Lost),
            _ => bail!("{peer} has pages of a task that is not here"),
        };
        link.send(Kind::Transfer, &said.encode()).await?;
        link.part().await;
        Ok(())
    }

    /// Gives a task its thread, and its clients their way to it.
    ///
    /// # Errors
    /// When there is no thread to be had; it is not here then.
    fn begin(self: &Rc<Self>, entry: &Rc<Entry>, task: bare::Task<Board>, way: Option<Way>) -> Result<()> {
        let Some(seat) = entry.seat.borrow().clone() else { bail!("a task without a seat") };
        let live = Rc::new(Live::start(task, seat)?);
        self.tasks.borrow_mut().insert(entry.spec.name.clone(), entry.clone());
        entry.live.replace(Some(live.clone()));
        service::begin(self, entry, way);
        self.executor.spawn(self.clone().look_after(entry.clone(), live));
        Ok(())
    }

    /// Hears what a task says: its end, and that it stands still, which whoever has asked for that is told.
    async fn look_after(self: Rc<Self>, entry: Rc<Entry>, live: Rc<Live>) {
        loop {
            let said = live.said().await;
            let end = match &said {
                Said::Ended(end) => Some(end.clone()),
                Said::Frozen(..) => None,
            };
            if let Some(end) = &end {
                self.ended(&entry, end);
                live.end.replace(Some(end.clone()));
            }
            match (live.listener.take(), said) {
                (Some(listener), said) => listener.push(said),
                // Nobody waits for it any more.
                (None, Said::Frozen(Ok(_), _)) => live.judge(Verdict::Thaw(None)),
                (None, _) => {}
            }
            if end.is_some() {
                return;
            }
        }
    }

    /// A task has ended here.
    fn ended(&self, entry: &Entry, end: &End) {
        *entry.live.borrow_mut() = None;
        let state = match end {
            End::Exited(status) => State::Exited { status: *status },
            End::Trapped(why) => State::Trapped { why: why.clone() },
            End::Dropped => return,
        };
        log!(
            "{}: {}",
            entry.spec.name,
            match &state {
                State::Exited { status } => format!("exited ({status})"),
                _ => format!(
                    "trapped: {}",
                    match end {
                        End::Trapped(why) => why,
                        _ => "",
                    }
                ),
            }
        );
        if let Some(seat) = &*entry.seat.borrow() {
            seat.ports.lock().close_all();
        }
        entry.set_state(state);
        self.set_record(entry.spec.id, Record::Ended { epoch: entry.epoch.get() });
    }
}
