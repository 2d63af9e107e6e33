//! Drives a task's way to this node.

use crate::agent::{Agent, Entry, Visit, Visitors, lock};
use crate::capacity::Need;
use crate::db::Before;
use crate::ground::{self, Ground, LateGround, land};
use crate::lanes::{self, STREAMS_MAX};
use crate::link::{Link, turn};
use crate::peers::Peer;
use crate::service::{Sockets, Way};
use crate::spans::{self, of_task};
use crate::spec::Spec;
use crate::task;
use anyhow::{Context, Result, anyhow, bail};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::OwnedMutexGuard;
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, UnboundedSender, channel, unbounded_channel};
use tokio::task::JoinHandle;
use tracing::{Instrument, Span};
use wayfare_cluster::envelope::Envelope;
use wayfare_engine::{Arrival, Late, Task};
use wayfare_store::program;
use wayfare_transfer::destination::{Action, Caps, Destination, Event, Landing, Phase};
use wayfare_transfer::journal;
use wayfare_transfer::message::{Accept, Message, Mode, Part, Reason, Refusal};
use wayfare_transfer::pages::{Batch, PageRange};
use wayfare_transfer::{Incoming, Kind};

/// A task that is ready to run.
pub(crate) struct Ready {
    pub(crate) task: Task,
    pub(crate) sockets: Arc<Sockets>,
    /// What brings it the pages that it lacks.
    late: Option<Late>,
}

/// What the work beside the link comes to.
enum Done {
    Landed(Result<Box<Ground>, Refusal>),
    Prepared(Result<Box<Ready>, Refusal>),
    Logged(Result<()>),
    Saved,
}

/// Batches of pages by further links that may wait.
const LANE_BACKLOG: usize = 4;
/// Most tasks on their way here at once.
const ARRIVALS_MAX: usize = 16;
/// And from one node, so that it cannot keep others away.
const ARRIVALS_OF_PEER: usize = 8;
/// How long a task that comes back waits for the last word about its leaving.
const LAST_WORD: Duration = Duration::from_secs(15);
/// Between two tries to write a task to a disk that does not take it.
const SAVE_AGAIN: Duration = Duration::from_secs(2);

/// Takes a task in, from its offer on.
///
/// # Errors
/// When the link breaks or the source breaks the protocol. What becomes of the task is written down all the same.
pub async fn arrive(agent: Arc<Agent>, link: Link, offer: Incoming) -> Result<()> {
    let peer = link.peer().context("a stranger offers a task")?.to_string();
    let mut span = Span::none();
    if let Ok(Message::Offer(offer)) = Message::decode(&offer.payload) {
        span = of_task!("arrive", offer.name, Some(offer.task), wayfare.from = %peer);
        // It may have left here a moment ago, and the word that it is on the other node's disk be in a buffer.
        let leaving = agent.tasks().into_iter().find(|e| e.spec.id == offer.task && !e.state().is_alive());
        if let Some(entry) = leaving {
            let _ = tokio::time::timeout(LAST_WORD, entry.moving.lock()).await;
        }
    }
    let (door, visits) = unbounded_channel();
    let (lanes, pages) = channel(LANE_BACKLOG);
    let mut arriving = Arriving {
        agent,
        peer,
        destination: Destination::new(Caps::default()),
        link: Some(link),
        ground: None,
        spec: None,
        ready: None,
        late: None,
        entry: None,
        moving: None,
        door,
        lanes,
        lane_count: 0,
        log: None,
        strike: None,
        way: None,
    };
    let result = arriving.run(offer, visits, pages).instrument(span.clone()).await;
    spans::ended(&span, &result);
    // Before that nobody is told anything, and nothing offered again.
    if let Some(strike) = arriving.strike.take() {
        let _ = strike.await;
    }
    if let Some(offer) = arriving.destination.offer() {
        let mut all = lock(&arriving.agent.arriving);
        // Another connection may have been first with this task.
        if all.get(&offer.task).is_some_and(|v| v.door.same_channel(&arriving.door)) {
            all.remove(&offer.task);
        }
    }
    if let Some(link) = arriving.link.take() {
        link.part().await;
    }
    result
}

struct Arriving {
    agent: Arc<Agent>,
    peer: String,
    destination: Destination,
    /// None when it is gone: a task that is owned is waited for all the same.
    link: Option<Link>,
    ground: Option<Box<Ground>>,
    spec: Option<Spec>,
    ready: Option<Box<Ready>>,
    late: Option<LateGround>,
    /// The task, once it runs.
    entry: Option<Arc<Entry>>,
    /// It cannot be moved on before the node that it came from has no part in it any more.
    moving: Option<OwnedMutexGuard<()>>,
    door: UnboundedSender<Visit>,
    /// For those who bring pages by further links.
    lanes: Sender<Incoming>,
    lane_count: u8,
    /// Writes that the task may come here, and gives what the journal said before.
    log: Option<JoinHandle<Option<Before>>>,
    /// Takes that back.
    strike: Option<JoinHandle<()>>,
    /// To the task's clients.
    way: Option<Way>,
}

impl Arriving {
    async fn run(
        &mut self,
        offer: Incoming,
        mut visits: UnboundedReceiver<Visit>,
        mut pages: Receiver<Incoming>,
    ) -> Result<()> {
        let (done_to, mut done) = unbounded_channel::<Done>();
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        let mut faults: Option<AsyncFd<OwnedFd>> = None;
        self.take(&offer)?;
        loop {
            while let Some(action) = self.destination.poll_action() {
                if action == Action::Run {
                    faults = self.start()?;
                } else {
                    self.act(action, &done_to);
                }
            }
            while let Some(link) = &mut self.link
                && let Some(message) = self.destination.poll_message()
            {
                if let Err(e) = link.channel.send(Kind::Transfer, &message.encode()) {
                    self.lose(&e.into());
                }
            }
            if self.destination.is_over() || (self.link.is_none() && !self.destination.owns()) {
                break;
            }
            let connected = self.link.is_some();
            let gone = tokio::select! {
                // With a limit on its rate, the source may have nothing to say for a while.
                _ = ticks.tick(), if connected => self.is_silent().then(|| anyhow!("nothing is heard")),
                turned = turn(&mut self.link), if connected => match turned {
                    Ok(None) => None,
                    Ok(Some(message)) => self.take(&message).err(),
                    Err(e) => Some(e),
                },
                Some(message) = pages.recv() => self.take(&message).err(),
                Some(event) = done.recv() => {
                    self.done(event);
                    None
                }
                () = waits(&faults) => {
                    self.tell_faults();
                    None
                }
                Some(visit) = visits.recv() => self.visited(visit),
            };
            if let Some(e) = gone {
                self.lose(&e);
            }
            if self.late.is_none() {
                faults = None;
            }
        }
        if let Phase::Failed(refusal) = self.destination.phase() {
            tracing::info!(from = %self.peer, "a task did not come: {refusal}");
        }
        Ok(())
    }

    fn is_silent(&mut self) -> bool {
        let Some(patience) = self.destination.patience() else { return false };
        self.link.as_mut().is_some_and(|link| link.silence() > Duration::from_nanos(patience))
    }

    fn lose(&mut self, why: &anyhow::Error) {
        match self.destination.missing() {
            0 if self.destination.owns() => tracing::info!(from = %self.peer, "a link is gone: {why:#}"),
            0 => tracing::warn!(from = %self.peer, "a move is cut off: {why:#}"),
            n => tracing::warn!(
                from = %self.peer,
                "the link is gone before {n} pages of the task have come: it waits for each that it touches until {} \
                 dials again: {why:#}",
                self.peer
            ),
        }
        self.link = None;
        self.destination.handle_event(Event::Disconnected);
    }

    /// Somebody has come by another link. Gives why the one that is there is to be dropped.
    fn visited(&mut self, visit: Visit) -> Option<anyhow::Error> {
        match visit {
            Visit::Reattached(link) if self.destination.owns() => {
                tracing::info!(from = %self.peer, "a link is there again");
                self.destination.handle_event(Event::Disconnected);
                self.link = Some(link);
                self.destination.reattach();
                None
            }
            // It gave nothing away by this move.
            Visit::Reattached(_) => None,
            Visit::Lane(link) => {
                self.lane_count = self.lane_count.saturating_add(1);
                if self.lane_count < STREAMS_MAX && !self.destination.owns() {
                    let pages = self.lanes.clone();
                    tokio::spawn(async move {
                        // If pages are missing at the end, the move ends for want of them.
                        if let Err(e) = lanes::receive(link, &pages).await {
                            tracing::debug!("a further link is over: {e:#}");
                        }
                    });
                }
                None
            }
            Visit::Asked { holds } if self.destination.owns() => {
                if !holds && self.destination.forsaken() {
                    tracing::warn!(from = %self.peer, "the source was started anew and has not what is missing");
                }
                None
            }
            Visit::Asked { .. } => Some(anyhow!("the source asks what became of the task")),
        }
    }

    /// Tells the source what the task waits for.
    fn tell_faults(&mut self) {
        let Some(LateGround(late)) = &mut self.late else { return };
        for range in late.faults() {
            let range = PageRange { memory: range.memory, first: range.first, count: range.count };
            self.destination.handle_event(Event::Fault(range));
        }
    }

    fn take(&mut self, message: &Incoming) -> Result<()> {
        match message.kind {
            Kind::Transfer => {
                let message = Message::decode(&message.payload)?;
                let landing = self.ground.as_deref_mut().map(|g| g as &mut dyn Landing);
                self.destination.handle_message(message, landing)?;
            }
            Kind::Part => self.destination.handle_part(&Part::decode(&message.payload)?)?,
            Kind::Pages => {
                let batch = Batch::parse(&message.payload)?;
                match (self.ground.as_deref_mut(), &mut self.late) {
                    (Some(ground), _) => self.destination.handle_pages(&batch, ground)?,
                    (None, Some(late)) => self.destination.handle_pages(&batch, late)?,
                    // The ground went with a move that failed.
                    (None, None) if self.destination.is_over() => {}
                    (None, None) => bail!("pages before an instance"),
                }
            }
            _ => bail!("a message of another kind"),
        }
        Ok(())
    }

    fn act(&mut self, action: Action, done: &UnboundedSender<Done>) {
        tracing::debug!(from = %self.peer, phase = ?self.destination.phase(), "goes on");
        let done = done.clone();
        match action {
            Action::Admit => {
                let event = match self.admit() {
                    Ok(accept) => Event::Admitted(accept),
                    Err(refusal) => Event::Failed(refusal),
                };
                self.destination.handle_event(event);
            }
            Action::Land(module) => {
                let (Some(offer), Some(spec)) = (self.destination.offer().cloned(), self.spec.clone()) else { return };
                let agent = self.agent.clone();
                tokio::task::spawn_blocking(move || {
                    let landed = Done::Landed(land(agent, &offer, &spec, module));
                    // Nobody listens when the move is over.
                    let _ = done.send(landed);
                });
            }
            Action::Prepare { state, extra, late } => {
                self.find_clients();
                let (Some(ground), Some(spec)) = (self.ground.take(), self.spec.clone()) else { return };
                let agent = self.agent.clone();
                tokio::task::spawn_blocking(move || {
                    let ready =
                        prepare(&agent, *ground, &spec, &state, &extra, (!late.is_empty()).then_some(&late), false);
                    let refused = |e: anyhow::Error| Refusal::new(Reason::State, format!("not possible there: {e:#}"));
                    let _ = done.send(Done::Prepared(ready.map(Box::new).map_err(refused)));
                });
            }
            Action::Log(epoch) => {
                let (agent, Some(spec)) = (self.agent.clone(), self.spec.clone()) else { return };
                self.log = Some(tokio::task::spawn_blocking(move || {
                    let (before, written) = match agent.db.expect_task(&spec, epoch) {
                        Ok(before) => (Some(before), Ok(())),
                        Err(e) => (None, Err(e)),
                    };
                    let _ = done.send(Done::Logged(written));
                    before
                }));
            }
            Action::Strike => self.strike(),
            Action::Save => {
                self.late = None;
                let (agent, Some(entry)) = (self.agent.clone(), self.entry.clone()) else { return };
                tokio::spawn(async move {
                    save(&agent, &entry).await;
                    let _ = done.send(Done::Saved);
                });
            }
            // Without what brings its pages the task ends, unseen, and `Agent::give_up` writes that down.
            Action::Forsake => self.late = None,
            Action::Discard => self.discard(),
            // `run` does the one; a page that is written is there for the task at once.
            Action::Run | Action::Arrived(_) => {}
        }
    }

    /// Dials the node that has the task's clients, unless that is this one, or has just been done.
    fn find_clients(&mut self) {
        let Some(spec) = self.spec.as_ref().filter(|spec| !spec.publish.is_empty()) else { return };
        if self.agent.ingress(spec.id).is_none() && !self.way.as_ref().is_some_and(Way::is_warm) {
            self.way = Some(Way::dial(&self.agent, &spec.origin));
        }
    }

    /// Is there room, and everything else that the task needs?
    fn admit(&mut self) -> Result<Accept, Refusal> {
        let offer = self.destination.offer().ok_or_else(|| Refusal::new(Reason::State, "no offer"))?;
        self.agent.capacity.count_offer(&self.peer)?;
        let spec = Spec::of_offer(offer)?;
        let can_be_late = Arrival::can_be_late();
        if offer.mode == Mode::PostCopy && !can_be_late {
            let text =
                "pages cannot come after the task there (its system lacks userfaultfd): use --mode hybrid or pre-copy";
            return Err(Refusal::new(Reason::Node, text));
        }
        let node = |e: anyhow::Error| Refusal::new(Reason::Node, format!("{e:#}"));
        if self.agent.name_is_taken(&spec.name, spec.id) {
            let text = format!("a task named {} runs there already", spec.name);
            return Err(Refusal::new(Reason::Name, text));
        }
        let record = self.agent.db.record(offer.task).map_err(node)?;
        let runs = record.as_ref().is_some_and(|r| self.agent.runs(offer.task, r.epoch()));
        let record = journal::settled(record, runs);
        if !journal::admits(record.as_ref(), offer.epoch) {
            return Err(Refusal::new(Reason::Epoch, "the task is there already, or the epoch is an old one"));
        }
        for dir in &spec.dirs {
            // With links resolved: the path is somebody else's word.
            let real = std::fs::canonicalize(&dir.host).unwrap_or_default();
            let within = |share: &PathBuf| std::fs::canonicalize(share).is_ok_and(|share| real.starts_with(share));
            let host = Path::new(&dir.host);
            let named = |share: &PathBuf| host.starts_with(share);
            let shares = &self.agent.settings.shares;
            if !shares.iter().any(named) || (host.exists() && !shares.iter().any(within)) {
                let text = format!(
                    "the task uses {0}, which is not shared there: start that agent with --share {0}",
                    dir.host
                );
                return Err(Refusal::new(Reason::Missing, text));
            }
            if !host.is_dir() {
                let text = format!("the task uses {}, and there is no such directory there", dir.host);
                return Err(Refusal::new(Reason::Missing, text));
            }
        }
        let need = Need { memory: offer.memory(), cpus: spec.limits.cpus };
        {
            let mut arriving = lock(&self.agent.arriving);
            if arriving.contains_key(&offer.task) {
                return Err(Refusal::new(Reason::Busy, "the task is on its way there already"));
            }
            let of_peer = arriving.values().filter(|v| v.peer == self.peer).count();
            if arriving.len() >= ARRIVALS_MAX || of_peer >= ARRIVALS_OF_PEER {
                return Err(Refusal::new(Reason::Busy, "too many tasks are on their way there"));
            }
            self.agent.capacity.promise(offer.task, need)?;
            let visitors = Visitors { epoch: offer.epoch, peer: self.peer.clone(), door: self.door.clone() };
            arriving.insert(offer.task, visitors);
        }
        let has_module = matches!(program::kept_module(offer.digest()), Ok(Some(_)));
        self.spec = Some(spec);
        Ok(Accept { has_module, has_pages: self.agent.kept.has(offer.task), can_be_late })
    }

    fn done(&mut self, event: Done) {
        let event = match event {
            Done::Landed(Ok(ground)) => {
                self.ground = Some(ground);
                self.find_clients();
                Event::Landed
            }
            Done::Prepared(Ok(ready)) => {
                self.ready = Some(ready);
                Event::Prepared
            }
            Done::Saved => {
                self.moving = None;
                Event::Saved
            }
            Done::Landed(Err(refusal)) | Done::Prepared(Err(refusal)) => Event::Failed(refusal),
            Done::Logged(Ok(())) => Event::Logged,
            Done::Logged(Err(e)) => {
                tracing::error!("the journal cannot be written: {e:#}");
                Event::Failed(Refusal::new(Reason::Node, format!("the move cannot be written down there: {e:#}")))
            }
        };
        self.destination.handle_event(event);
        // What came too late for a move that is over.
        if self.destination.is_over() && !self.destination.owns() {
            self.discard();
        }
    }

    /// Runs it. Gives what tells of the pages that it waits for.
    fn start(&mut self) -> Result<Option<AsyncFd<OwnedFd>>> {
        let (Some(spec), Some(ready)) = (self.spec.take(), self.ready.take()) else { return Ok(None) };
        let Ready { mut task, sockets, late } = *ready;
        let epoch = self.destination.offer().map_or(1, |o| o.epoch);
        task.set_epoch(epoch);
        self.agent.capacity.refund_offer(&self.peer);
        let entry = self.agent.adopt(spec, epoch);
        // From a board it comes as it has no standby there; from elsewhere somebody has moved it.
        let is_board = |peer: &Peer| peer.name == self.peer && peer.is_bare();
        let is_from_board = || self.agent.db.peers().is_ok_and(|peers| peers.iter().any(is_board));
        let terms = self.agent.came_back(entry.spec.id).filter(|_| is_from_board());
        self.moving = entry.moving.clone().try_lock_owned().ok();
        tracing::info!(task = %entry.spec.name, from = %self.peer, epoch, "has come");
        let faults = match &late {
            Some(late) if late.missing() > 0 => {
                let fd = late.fd().try_clone_to_owned()?;
                #[allow(deprecated, reason = "an OwnedFd stays the same file; the other constructor is unsafe")]
                let fd = AsyncFd::with_interest(fd, Interest::READABLE)?;
                Some(fd)
            }
            _ => None,
        };
        self.late = late.map(LateGround);
        if let Some(way) = self.way.take() {
            sockets.go_by(way);
        }
        if let Err(e) = self.agent.run(&entry, task, sockets) {
            // As after a crash: the node that it came from still has it.
            tracing::error!(task = %entry.spec.name, "cannot run: {e:#}");
            self.agent.give_up(&entry);
            return Err(e);
        }
        if let Some(terms) = terms {
            self.agent.keep_protected(&entry, terms);
        }
        self.entry = Some(entry);
        Ok(faults)
    }

    /// The task will not come: the journal is to say what it said before.
    fn strike(&mut self) {
        let (agent, Some(log), Some(offer)) = (self.agent.clone(), self.log.take(), self.destination.offer()) else {
            return;
        };
        let task = offer.task;
        self.strike = Some(tokio::spawn(async move {
            // What could not be written need not be taken back.
            let Ok(Some(before)) = log.await else { return };
            let struck = tokio::task::spawn_blocking(move || agent.db.put_back(task, before)).await;
            if let Ok(Err(e)) = struck {
                // What is not in this node's memory counts as lost all the same.
                tracing::error!("that a task did not come cannot be written down: {e:#}");
            }
        }));
    }

    fn discard(&mut self) {
        self.ready = None;
        let Some(offer) = self.destination.offer() else { return };
        let id = offer.task;
        // A task that is here, or was admitted by another connection, is not this one's to release.
        if self.spec.take().is_some() {
            self.agent.capacity.release(id);
        }
        if let Some(ground) = self.ground.take() {
            let agent = self.agent.clone();
            tokio::task::spawn_blocking(move || agent.kept.put(id, ground.keep()));
        }
    }
}

/// Writes the task to the disk, however long that takes. It may end meanwhile.
async fn save(agent: &Agent, entry: &Arc<Entry>) {
    let mut told = false;
    while entry.state().is_alive() {
        match agent.save(entry, true).await {
            Ok(()) => return,
            Err(e) if !entry.state().is_alive() => tracing::debug!("ended while it was saved: {e:#}"),
            Err(e) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::error!(task = %entry.spec.name, "cannot be saved here, tried again and again: {e:#}");
                }
                tokio::time::sleep(SAVE_AGAIN).await;
            }
        }
    }
    // Its end is written down a moment after it shows.
    while entry.live().is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Ready when the task waits for a page.
async fn waits(faults: &Option<AsyncFd<OwnedFd>>) {
    match faults {
        Some(faults) => match faults.readable().await {
            // Cleared before the faults are taken: one that comes after that is told again.
            Ok(mut ready) => ready.clear_ready(),
            Err(_) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// Makes the task; nothing of it runs. `behind`: it has gone on from this state elsewhere, and takes over here.
pub(crate) fn prepare(
    agent: &Agent,
    ground: Ground,
    spec: &Spec,
    state: &[u8],
    extra: &[u8],
    late: Option<&Vec<PageRange>>,
    behind: bool,
) -> Result<Ready> {
    let envelope = Envelope::decode(state)?;
    let packed = wayfare_snapshot::open(&envelope.snapshot, &wayfare_snapshot::Limits::default())?;
    let snapshot = packed.unpack()?;
    std::fs::create_dir_all(agent.dirs.task(spec.id)).context("no place for the task")?;
    let log = agent.dirs.log(spec.id);
    // Not synced: a log that a power cut shortens is no wrong log.
    let _ = std::fs::remove_file(&log);
    std::fs::write(&log, [extra, &envelope.log].concat()).with_context(|| log.display().to_string())?;
    // What was kept here of another copy counts until this one runs.
    if !lock(&agent.displaced).contains_key(&spec.id) {
        let _ = std::fs::remove_file(agent.dirs.checkpoint(spec.id));
    }
    let sockets = match behind {
        true => Sockets::thaw_behind(&spec.publish, &envelope.sockets)?,
        false => Sockets::thaw(&spec.publish, &envelope.sockets)?,
    };
    let host = task::host(spec, &agent.dirs, &sockets)?;
    let Some(late) = late else {
        return Ok(Ready { task: ground.arrival.finish(&snapshot, host)?, sockets, late: None });
    };
    let late: Vec<_> = late.iter().map(ground::engine).collect();
    let (task, late) = ground.arrival.finish_late(&snapshot, host, &late)?;
    Ok(Ready { task, sockets, late: Some(late) })
}
