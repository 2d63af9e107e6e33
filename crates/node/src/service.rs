//! A task's listeners and connections, as its host sees them ([`Ports`]), and the way of
//! its segments to the ingress, which owns the clients' connections and stays where it is when the task moves.

use crate::agent::{Agent, Entry, lock};
use crate::control::State;
use crate::link::Link;
use crate::peers::NodeMessage;
use anyhow::{Result, anyhow, bail};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use wayfare_stream::ports::{Ports, frame, unframe};
use wayfare_stream::{Mark, Segment, StreamError};
use wayfare_transfer::{Kind, TaskId};
use wayfare_wasi::std_host::Network;
use wayfare_wasi::{Errno, Interest, Shutdown};

/// What a task has to do with its clients.
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

/// A question whether its clients may hear a task. Without an answer they may have.
struct Asked<'a> {
    sockets: &'a Sockets,
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
        *lock(&self.sockets.serving) = self.answer;
    }
}

/// The sockets of one task.
pub(crate) struct Sockets {
    ports: Mutex<Ports>,
    wake: OwnedFd,
    /// To the node that has its clients, if somebody has dialled it already.
    way: Mutex<Option<Way>>,
    /// It goes on from an older state, with these marks.
    back: Mutex<Vec<Vec<u8>>>,
    /// There is a channel to its clients.
    attached: AtomicBool,
    /// Whether there may have been one, or may never be.
    serving: Mutex<Serving>,
    /// Bytes that the task has heard and said.
    spoken: AtomicU64,
    /// There may be segments to send.
    pub(crate) stirred: Notify,
}

impl Sockets {
    /// Of a task that starts, or comes back from an older state.
    ///
    /// # Errors
    /// When the kernel gives no event descriptor.
    pub(crate) fn new(ports: &[u16]) -> Result<Arc<Sockets>> {
        Self::with(Ports::new(ports), Vec::new())
    }

    /// Of a task that comes, with what [`Sockets::freeze`] gave.
    ///
    /// # Errors
    /// When that is damaged.
    pub(crate) fn thaw(ports: &[u16], states: &[Vec<u8>]) -> Result<Arc<Sockets>> {
        Self::with(Ports::thaw(ports, states).map_err(|e| anyhow!("its connections: {e}"))?, Vec::new())
    }

    /// The same, of a task that takes over from an older state.
    ///
    /// # Errors
    /// As [`Sockets::thaw`].
    pub(crate) fn thaw_behind(ports: &[u16], states: &[Vec<u8>]) -> Result<Arc<Sockets>> {
        let thawed = Ports::thaw_behind(ports, states).map_err(|e| anyhow!("its connections: {e}"))?;
        Self::with(thawed, marks(states)?)
    }

    /// The task gets a standby, or has none any more.
    pub(crate) fn keep(&self, keep: bool) {
        let mut ports = lock(&self.ports);
        if keep { ports.keep() } else { ports.keep_nothing() }
    }

    /// Bytes that the task has heard and said here.
    pub(crate) fn spoken(&self) -> u64 {
        self.spoken.load(Ordering::Relaxed)
    }

    /// The ingress has let go of what comes before these marks.
    pub(crate) fn released(&self, marks: &[Vec<u8>]) {
        let marks: Vec<Mark> = marks.iter().filter_map(|mark| Mark::decode(mark).ok()).collect();
        lock(&self.ports).released(&marks);
    }

    fn with(ports: Ports, back: Vec<Vec<u8>>) -> Result<Arc<Sockets>> {
        use rustix::event::EventfdFlags;
        Ok(Arc::new(Sockets {
            ports: Mutex::new(ports),
            wake: rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            way: Mutex::default(),
            back: Mutex::new(back),
            attached: AtomicBool::new(false),
            serving: Mutex::default(),
            spoken: AtomicU64::new(0),
            stirred: Notify::new(),
        }))
    }

    /// Goes to its clients by this link first.
    pub(crate) fn go_by(&self, way: Way) {
        *lock(&self.way) = Some(way);
    }

    /// Takes streams that are not known for such as have been reset.
    pub(crate) fn forgive(&self) {
        lock(&self.ports).forgive();
    }

    /// What goes along with the task, which stands still.
    pub(crate) fn freeze(&self) -> Vec<Vec<u8>> {
        lock(&self.ports).freeze()
    }

    /// For the task's host.
    pub(crate) fn plug(self: &Arc<Self>) -> Box<dyn Network + Send> {
        Box::new(Plug(self.clone()))
    }

    /// The task has ended: clients get what it has sent, and then the end.
    pub(crate) fn close_all(&self) {
        lock(&self.ports).close_all();
        self.stirred.notify_waiters();
        self.stirred.notify_one();
    }

    fn is_empty(&self) -> bool {
        lock(&self.ports).is_empty()
    }

    /// The next segment, with the index of its port.
    pub(crate) fn poll_transmit(&self) -> Option<(usize, Segment)> {
        lock(&self.ports).poll_transmit()
    }

    /// Takes a segment.
    ///
    /// # Errors
    /// When it is none of this task, or says too much: the channel is to be dropped.
    pub(crate) fn handle(&self, index: usize, segment: Segment) -> Result<()> {
        lock(&self.ports).handle(index, segment).map_err(|_| anyhow!("more than was asked for"))?;
        // After the change is there to be seen. The only failure is a counter that is full, and that wakes as well.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        Ok(())
    }

    /// Whether its clients can hear it.
    pub(crate) fn is_attached(&self) -> bool {
        self.attached.load(Ordering::SeqCst)
    }

    /// Waits until its clients can hear it.
    pub(crate) async fn until_attached(&self) {
        while !self.is_attached() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Its clients are about to hear it, for all that can be told; unless another copy goes on.
    fn serves(&self) -> Result<()> {
        let mut serving = lock(&self.serving);
        anyhow::ensure!(*serving != Serving::Never, "another copy of the task goes on");
        *serving = Serving::Served;
        Ok(())
    }

    /// The node that has its clients is about to be asked whether they may hear it; unless another copy goes on.
    fn asks(&self) -> Result<Asked<'_>> {
        let mut serving = lock(&self.serving);
        anyhow::ensure!(*serving != Serving::Never, "another copy of the task goes on");
        let before = *serving;
        if before == Serving::NotYet {
            *serving = Serving::Asking;
        }
        Ok(Asked { sockets: self, before, answer: Serving::Served })
    }

    /// Its clients are not to hear it, if they never have; gives whether that is so.
    pub(crate) async fn keep_from_clients(&self) -> bool {
        let asked = Instant::now();
        loop {
            {
                let mut serving = lock(&self.serving);
                if *serving == Serving::NotYet {
                    *serving = Serving::Never;
                }
                if *serving != Serving::Asking || asked.elapsed() > ANSWERED {
                    return *serving == Serving::Never;
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The task, which stands still, goes on from a state that is older than what its clients have heard of another copy.
    pub(crate) fn go_back(&self) {
        let mut ports = lock(&self.ports);
        let states = ports.freeze();
        // They were written just now.
        let (Ok(older), Ok(marks)) = (ports.behind(&states), marks(&states)) else { return };
        *ports = older;
        *lock(&self.back) = marks;
        *lock(&self.serving) = Serving::NotYet;
    }

    fn back(&self) -> Vec<Vec<u8>> {
        lock(&self.back).clone()
    }

    pub(crate) fn attached(&self) {
        self.attached.store(true, Ordering::SeqCst);
        lock(&self.ports).attached();
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn detached(&self) {
        self.attached.store(false, Ordering::SeqCst);
        lock(&self.ports).detached();
    }
}

/// The marks of frozen streams, by port.
///
/// # Errors
/// When they are damaged.
pub(crate) fn marks(frozen: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    let mark = |state: &Vec<u8>| Mark::of(state).map(|mark| mark.encode()).map_err(|e| anyhow!("its connections: {e}"));
    frozen.iter().map(mark).collect()
}

struct Plug(Arc<Sockets>);

impl Plug {
    /// Does something that the ingress may have to hear of.
    fn with<T>(&self, f: impl FnOnce(&mut Ports) -> Result<T, StreamError>) -> Result<T, Errno> {
        let result = f(&mut lock(&self.0.ports)).map_err(|e| match e {
            StreamError::WouldBlock => Errno::Again,
            StreamError::Reset => Errno::Connreset,
            StreamError::Closed => Errno::Pipe,
            StreamError::Unknown => Errno::Notconn,
        });
        self.0.stirred.notify_one();
        result
    }
}

impl Network for Plug {
    fn listener(&mut self, name: &str) -> Result<u64, Errno> {
        lock(&self.0.ports).listener(name).ok_or(Errno::Noent)
    }

    fn accept(&mut self, listener: u64) -> Result<u64, Errno> {
        self.with(|ports| ports.accept(listener)).map_err(|e| if e == Errno::Notconn { Errno::Inval } else { e })
    }

    fn attach(&mut self, stream: u64) -> Result<(), Errno> {
        self.with(|ports| ports.attach(stream))
    }

    fn recv(&mut self, stream: u64, buf: &mut [u8], peek: bool) -> Result<usize, Errno> {
        let heard = self.with(|ports| ports.end(stream)?.recv(stream, buf, peek))?;
        self.0.spoken.fetch_add(heard as u64, Ordering::Relaxed);
        Ok(heard)
    }

    fn send(&mut self, stream: u64, bytes: &[u8]) -> Result<usize, Errno> {
        let said = self.with(|ports| ports.end(stream)?.send(stream, bytes))?;
        self.0.spoken.fetch_add(said as u64, Ordering::Relaxed);
        Ok(said)
    }

    fn shutdown(&mut self, stream: u64, how: Shutdown) -> Result<(), Errno> {
        let shut = self.with(|ports| ports.end(stream)?.shutdown(stream, how.read, how.write));
        shut.map_err(|e| if e == Errno::Connreset { Errno::Notconn } else { e })
    }

    fn close(&mut self, stream: u64) {
        // A stream that is not there is closed.
        let _ = self.with(|ports| {
            ports.close(stream);
            Ok(())
        });
    }

    fn close_listener(&mut self, listener: u64) {
        let _ = self.with(|ports| {
            ports.close_listener(listener);
            Ok(())
        });
    }

    fn ready(&mut self, stream: u64, interest: Interest) -> bool {
        let mut ports = lock(&self.0.ports);
        match interest {
            Interest::Read => ports.is_readable(stream),
            Interest::Write => ports.is_writable(stream),
        }
    }

    fn can_accept(&mut self, listener: u64) -> bool {
        lock(&self.0.ports).can_accept(listener)
    }

    fn wakeup(&self) -> BorrowedFd<'_> {
        self.0.wake.as_fd()
    }
}

/// A link that is dialled before it is needed: a task that comes is not to wait for a handshake.
pub(crate) struct Way {
    since: Instant,
    link: JoinHandle<Result<Link>>,
}

/// A link by which nothing is said is closed by the other side some time after this.
const WARM: Duration = Duration::from_secs(5);

impl Way {
    /// Dials a node.
    pub(crate) fn dial(agent: &Arc<Agent>, to: &str) -> Way {
        let (agent, to) = (agent.clone(), to.to_string());
        Way { since: Instant::now(), link: tokio::spawn(async move { agent.dial(&to).await }) }
    }

    /// Whether the other side still listens.
    pub(crate) fn is_warm(&self) -> bool {
        self.since.elapsed() < WARM
    }

    async fn link(self) -> Option<Link> {
        if !self.is_warm() {
            return None;
        }
        self.link.await.ok()?.ok()
    }
}

/// How long somebody else waits for an answer to whether its clients may hear a task.
const ANSWERED: Duration = Duration::from_secs(2);
/// How long a task's last words may take.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Bytes of segments that may wait on a link.
const BACKLOG: usize = 256 << 10;

/// Carries segments between a task and its ingress, for as long as the task is here.
pub(crate) async fn carry(agent: Arc<Agent>, entry: Arc<Entry>, sockets: Arc<Sockets>) {
    let mut pause = Duration::from_millis(10);
    loop {
        let epoch = entry.epoch.load(Ordering::SeqCst);
        let is_over = || is_over(&entry, &sockets);
        let carried = match agent.ingress(entry.spec.id) {
            Some(_) if sockets.serves().is_err() => Err(anyhow!("another copy of the task goes on")),
            Some(ingress) => ingress.carry_local(epoch, &sockets, &sockets.back(), is_over).await.map(|()| is_over()),
            None => carry_remote(&agent, &entry, &sockets, epoch).await.map(|()| true),
        };
        sockets.detached();
        if is_over() || carried.as_ref().is_ok_and(|over| *over) {
            // The ports are free again once a task that was published here has ended here.
            if !matches!(entry.state(), State::Left { .. }) {
                agent.unpublish(entry.spec.id);
            }
            return;
        }
        if let Err(e) = carried {
            tracing::debug!(task = %entry.spec.name, "no way to its clients: {e:#}");
            pause = (pause * 2).min(Duration::from_secs(2));
        } else {
            pause = Duration::from_millis(10);
        }
        tokio::time::sleep(pause).await;
    }
}

/// Whether there is nothing to carry any more: the task has left, or has ended and said all.
fn is_over(entry: &Entry, sockets: &Sockets) -> bool {
    match entry.state() {
        State::Left { .. } => true,
        state => !state.is_alive() && sockets.is_empty(),
    }
}

/// Comes back without an error when there is nothing to carry any more.
async fn carry_remote(agent: &Agent, entry: &Entry, sockets: &Sockets, epoch: u64) -> Result<()> {
    let way = lock(&sockets.way).take();
    let dialled = match way {
        Some(way) => way.link().await,
        None => None,
    };
    let mut link = match dialled {
        Some(link) => link,
        None => agent.dial(&entry.spec.origin).await?,
    };
    let asked = sockets.asks()?;
    let wish = NodeMessage::Attach { task: entry.spec.id, epoch, back: sockets.back() };
    link.send(Kind::Node, &wish.encode()).await?;
    match NodeMessage::decode(&link.expect(Kind::Node).await?)? {
        NodeMessage::Attached => {}
        NodeMessage::Refused(_) if !entry.state().is_alive() => return Ok(()),
        NodeMessage::Refused(why) => {
            asked.refused();
            bail!(why)
        }
        _ => bail!("it answered something else"),
    }
    drop(asked);
    sockets.attached();
    let mut ended_at = None;
    loop {
        while link.channel.backlog() < BACKLOG
            && let Some((index, segment)) = sockets.poll_transmit()
        {
            link.channel.send(Kind::Stream, &frame(index, &segment))?;
        }
        // New clients who find nobody must not keep it from ending.
        let alive = entry.state().is_alive();
        let said_all = !alive && ended_at.get_or_insert_with(Instant::now).elapsed() > LAST_WORDS;
        if said_all || is_over(entry, sockets) {
            if !matches!(entry.state(), State::Left { .. }) {
                link.channel.send(Kind::Node, &NodeMessage::Ended.encode())?;
            }
            link.close().await;
            return Ok(());
        }
        tokio::select! {
            turned = link.turn() => take(turned?, |index, segment| sockets.handle(index, segment))?,
            () = sockets.stirred.notified() => {}
            () = entry.changed.notified() => {}
        }
    }
}

/// Takes what came over a link of segments.
pub(crate) fn take(
    message: Option<wayfare_transfer::Incoming>,
    to: impl FnOnce(usize, Segment) -> Result<()>,
) -> Result<()> {
    let Some(message) = message else { return Ok(()) };
    if message.kind != Kind::Stream {
        bail!("a message of another kind");
    }
    let (index, segment) = unframe(&message.payload).map_err(|e| anyhow!("{e}"))?;
    to(index, segment)
}

/// Serves a task elsewhere whose clients are connected here.
pub(crate) async fn serve(agent: Arc<Agent>, mut link: Link, task: TaskId, epoch: u64, back: &[Vec<u8>]) -> Result<()> {
    let Some(ingress) = agent.ingress(task) else {
        let refused = NodeMessage::Refused("no clients of the task are here".into());
        return link.send(Kind::Node, &refused.encode()).await;
    };
    // Of two copies the one that has served them all the time counts: before the two have said so to each other, the one that
    // has taken over is not heard.
    if !back.is_empty() && agent.serves_here(task, epoch) {
        let refused = NodeMessage::Refused("its clients hear a copy that is here".into());
        return link.send(Kind::Node, &refused.encode()).await;
    }
    let Some(turn) = ingress.attach(epoch, back)? else {
        link.send(Kind::Node, &NodeMessage::Refused("the task has moved on".into()).encode()).await?;
        return Ok(());
    };
    link.send(Kind::Node, &NodeMessage::Attached.encode()).await?;
    loop {
        while link.channel.backlog() < BACKLOG
            && let Some((index, segment)) = ingress.poll_transmit(&turn)
        {
            link.channel.send(Kind::Stream, &frame(index, &segment))?;
        }
        tokio::select! {
            // What an older copy says goes nowhere.
            stirred = ingress.stirs(&turn) => if !stirred { return Ok(()) },
            turned = link.turn() => match turned? {
                Some(message) if message.kind == Kind::Node => {
                    let ended = matches!(NodeMessage::decode(&message.payload)?, NodeMessage::Ended);
                    if ended && turn.holds() {
                        agent.unpublish(task);
                    }
                    return Ok(());
                }
                message => take(message, |index, segment| ingress.handle(&turn, index, segment))?,
            },
        }
    }
}

impl Agent {
    /// Whether a copy of a task that is older than this epoch runs here and has its clients.
    fn serves_here(&self, task: TaskId, epoch: u64) -> bool {
        self.tasks().iter().any(|entry| {
            entry.spec.id == task
                && entry.state().is_alive()
                && entry.epoch.load(Ordering::SeqCst) < epoch
                && entry.sockets().is_some_and(|sockets| sockets.is_attached())
        })
    }

    /// Has the node that has a task's clients keep what its standby may have to hear, but for what comes before these marks;
    /// without any, from now on.
    ///
    /// # Errors
    /// When that node does not answer, or knows of another epoch of the task.
    pub(crate) async fn keep(&self, entry: &Entry, marks: Vec<Vec<u8>>) -> Result<()> {
        let (task, epoch) = (entry.spec.id, entry.epoch.load(Ordering::SeqCst));
        match self.ingress(task) {
            Some(ingress) => ingress.keep(epoch, &marks),
            None => self.tell_clients(entry, NodeMessage::Keep { task, epoch, marks }).await,
        }
    }

    /// A task has no standby any more.
    ///
    /// # Errors
    /// As [`Agent::keep`].
    pub(crate) async fn keep_nothing(&self, entry: &Entry) -> Result<()> {
        let (task, epoch) = (entry.spec.id, entry.epoch.load(Ordering::SeqCst));
        match self.ingress(task) {
            Some(ingress) => ingress.keep_nothing(epoch),
            None => self.tell_clients(entry, NodeMessage::KeepNothing { task, epoch }).await,
        }
    }

    async fn tell_clients(&self, entry: &Entry, message: NodeMessage) -> Result<()> {
        let mut link = self.dial(&entry.spec.origin).await?;
        link.send(Kind::Node, &message.encode()).await?;
        match NodeMessage::decode(&link.expect(Kind::Node).await?)? {
            NodeMessage::Noted => Ok(()),
            NodeMessage::Refused(why) => bail!(why),
            _ => bail!("it answered something else"),
        }
    }

    /// Another node's wish about the clients of a task that are here.
    pub(crate) fn noted(&self, task: TaskId, wish: impl FnOnce(&crate::ingress::Ingress) -> Result<()>) -> NodeMessage {
        let ingress = self.ingress(task).ok_or_else(|| anyhow!("no clients of the task are here"));
        match ingress.and_then(|ingress| wish(&ingress)) {
            Ok(()) => NodeMessage::Noted,
            Err(e) => NodeMessage::Refused(format!("{e:#}")),
        }
    }
}
