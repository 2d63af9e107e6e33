//! Drives a task's way to this node.

use crate::agent::{Agent, State, limits, lock, wanted};
use crate::capacity::Need;
use crate::kept::Pages;
use crate::link::Link;
use crate::service::Sockets;
use crate::spec::Spec;
use crate::task::{self, Envelope};
use anyhow::{Context, Result, anyhow, bail};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use wayfare_engine::{Arrival, Image, Task};
use wayfare_snapshot::PAGE_SIZE;
use wayfare_store::program;
use wayfare_transfer::destination::{Action, Caps, Destination, Event, Landing, Phase};
use wayfare_transfer::journal::{self, Record};
use wayfare_transfer::message::{Accept, Message, Offer, Part, Reason, Refusal, TaskId};
use wayfare_transfer::pages::{Batch, PageDigest, PageRange};
use wayfare_transfer::{Incoming, Kind};

/// Where pages land.
struct Ground {
    arrival: Arrival,
    agent: Arc<Agent>,
    id: TaskId,
    need: Need,
    sizes: BTreeMap<u32, u64>,
    /// From before.
    kept: Pages,
    /// Pages that were written, for keeping if the move is cut off.
    written: Vec<PageRange>,
}

/// The unit in which memories grow.
const WASM_PAGE: u64 = 65536;

impl Ground {
    /// Makes room up to a page, if the node has it.
    fn reach(&mut self, range: PageRange) -> Result<(), Refusal> {
        let end = range.first.saturating_add(range.count).saturating_mul(PAGE_SIZE as u64);
        let unfit = || Refusal::new(Reason::State, format!("the task has no memory {}", range.memory));
        let size = *self.sizes.get(&range.memory).ok_or_else(unfit)?;
        if end <= size.next_multiple_of(PAGE_SIZE as u64) {
            return Ok(());
        }
        let grown = end.checked_next_multiple_of(WASM_PAGE).unwrap_or(u64::MAX);
        self.need.memory = self.need.memory.saturating_add(grown - size);
        self.agent.capacity.promise(self.id, self.need)?;
        self.arrival.grow(range.memory, grown).map_err(|e| Refusal::new(Reason::Memory, e.to_string()))?;
        self.sizes.insert(range.memory, grown);
        Ok(())
    }

    /// The pages that have come, by their digests.
    fn keep(mut self) -> Pages {
        let mut pages = std::mem::take(&mut self.kept);
        let mut page = vec![0; PAGE_SIZE];
        for range in std::mem::take(&mut self.written) {
            for number in range.first..range.first + range.count {
                if self.arrival.read(range.memory, number, &mut page).is_ok() {
                    pages.put(&page);
                }
            }
        }
        pages
    }
}

fn unfit(e: &wayfare_engine::Error) -> Refusal {
    Refusal::new(Reason::State, e.to_string())
}

impl Landing for Ground {
    fn write(&mut self, range: PageRange, bytes: &[u8]) -> Result<(), Refusal> {
        self.reach(range)?;
        self.written.push(range);
        self.arrival.write(range.memory, range.first, bytes).map_err(|e| unfit(&e))
    }

    fn zero(&mut self, range: PageRange) -> Result<(), Refusal> {
        self.reach(range)?;
        self.arrival.zero(range.memory, range.first, range.count).map_err(|e| unfit(&e))
    }

    fn recall(&mut self, memory: u32, page: u64, digest: &PageDigest) -> bool {
        let range = PageRange { memory, first: page, count: 1 };
        let Some(bytes) = self.kept.page(digest).map(<[u8]>::to_vec) else { return false };
        self.write(range, &bytes).is_ok()
    }
}

/// What the work beside the link comes to.
enum Done {
    Landed(Result<Box<Ground>, Refusal>),
    Prepared(Result<Box<(Task, Arc<Sockets>)>, Refusal>),
    Owned(Result<()>),
}

/// Takes a task in, from its offer on.
///
/// # Errors
/// When the link breaks or the source breaks the protocol. What becomes of the task is written down all the same.
pub async fn arrive(agent: Arc<Agent>, mut link: Link, offer: Incoming) -> Result<()> {
    let peer = link.peer().context("a stranger offers a task")?.to_string();
    let mut arriving = Arriving {
        agent,
        peer,
        destination: Destination::new(Caps::default()),
        ground: None,
        spec: None,
        task: None,
        stop: Arc::new(Notify::new()),
    };
    let result = arriving.run(&mut link, offer).await;
    if let Some(offer) = arriving.destination.offer() {
        let mut all = lock(&arriving.agent.arriving);
        // Another connection may have been first with this task.
        if all.get(&offer.task).is_some_and(|(_, stop)| Arc::ptr_eq(stop, &arriving.stop)) {
            all.remove(&offer.task);
        }
    }
    link.close().await;
    result
}

struct Arriving {
    agent: Arc<Agent>,
    peer: String,
    destination: Destination,
    ground: Option<Box<Ground>>,
    spec: Option<Spec>,
    task: Option<Box<(Task, Arc<Sockets>)>>,
    /// Notified when somebody asks what became of the task: the source is gone then.
    stop: Arc<Notify>,
}

impl Arriving {
    async fn run(&mut self, link: &mut Link, offer: Incoming) -> Result<()> {
        let (done_to, mut done) = unbounded_channel::<Done>();
        let mut connected = true;
        let mut ticks = tokio::time::interval(std::time::Duration::from_secs(1));
        self.take(&offer)?;
        loop {
            while let Some(action) = self.destination.poll_action() {
                self.act(action, &done_to);
            }
            while let Some(message) = self.destination.poll_message() {
                if connected {
                    link.channel.send(Kind::Transfer, &message.encode())?;
                }
            }
            if self.destination.is_over() || (!connected && *self.destination.phase() != Phase::Owning) {
                break;
            }
            let stop = self.stop.clone();
            let gone = tokio::select! {
                // With a limit on its rate, the source may have nothing to say for a while.
                _ = ticks.tick(), if connected => {
                    let waits = matches!(self.destination.phase(), Phase::Module | Phase::Taking | Phase::Prepared);
                    (waits && link.silence() > SILENCE).then(|| anyhow!("nothing is heard"))
                }
                turned = link.turn(), if connected => match turned {
                    Ok(None) => None,
                    Ok(Some(message)) => self.take(&message).err(),
                    Err(e) => Some(e),
                },
                Some(event) = done.recv() => {
                    self.done(event);
                    None
                }
                () = stop.notified() => Some(anyhow!("the source asks what became of the task")),
            };
            if let Some(e) = gone {
                tracing::warn!(from = %self.peer, "a move is cut off: {e:#}");
                connected = false;
                self.destination.handle_event(Event::Disconnected);
            }
        }
        if let Phase::Failed(refusal) = self.destination.phase() {
            tracing::info!(from = %self.peer, "a task did not come: {refusal}");
        }
        Ok(())
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
                match self.ground.as_deref_mut() {
                    Some(ground) => self.destination.handle_pages(&batch, ground)?,
                    // The ground went with a move that failed.
                    None if self.destination.is_over() => {}
                    None => bail!("pages before an instance"),
                }
            }
            _ => bail!("a message of another kind"),
        }
        Ok(())
    }

    fn act(&mut self, action: Action, done: &UnboundedSender<Done>) {
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
            Action::Prepare { state, extra, .. } => {
                let (Some(ground), Some(spec)) = (self.ground.take(), self.spec.clone()) else { return };
                let agent = self.agent.clone();
                tokio::task::spawn_blocking(move || {
                    let task = prepare(&agent, *ground, &spec, &state, &extra);
                    let refused = |e: anyhow::Error| Refusal::new(Reason::State, format!("{e:#}"));
                    let _ = done.send(Done::Prepared(task.map(Box::new).map_err(refused)));
                });
            }
            Action::Own(epoch) => {
                let (agent, Some(spec)) = (self.agent.clone(), self.spec.clone()) else { return };
                tokio::task::spawn_blocking(move || {
                    let _ = done.send(Done::Owned(agent.db.put_task(&spec, &Record::Owned { epoch })));
                });
            }
            Action::Run => self.start(),
            Action::Discard => self.discard(),
            Action::Arrived(_) | Action::Complete => {}
        }
    }

    /// Is there room, and everything else that the task needs?
    fn admit(&mut self) -> Result<Accept, Refusal> {
        let offer = self.destination.offer().ok_or_else(|| Refusal::new(Reason::State, "no offer"))?;
        self.agent.capacity.count_offer(&self.peer)?;
        let bad = |e: anyhow::Error| Refusal::new(Reason::State, format!("the task's settings cannot be read: {e:#}"));
        let spec = Spec::from_peer(&offer.settings).map_err(bad)?;
        if spec.id != offer.task || spec.name != offer.name || spec.module != offer.digest().to_string() {
            return Err(Refusal::new(Reason::State, "the task's settings are another task's"));
        }
        if offer.mode.is_late() {
            return Err(Refusal::new(Reason::Node, "this node cannot take pages after the commit"));
        }
        let node = |e: anyhow::Error| Refusal::new(Reason::Node, format!("{e:#}"));
        if self.agent.name_is_taken(&spec.name, spec.id) {
            let text = format!("a task named {} runs there already", spec.name);
            return Err(Refusal::new(Reason::Name, text));
        }
        let record = self.agent.db.record(offer.task).map_err(node)?;
        if !journal::admits(record.as_ref(), offer.epoch) {
            return Err(Refusal::new(Reason::Epoch, "the task is there already, or the epoch is an old one"));
        }
        for dir in &spec.dirs {
            // With links resolved: the path is somebody else's word.
            let real = std::fs::canonicalize(&dir.host).unwrap_or_default();
            let within = |share: &PathBuf| std::fs::canonicalize(share).is_ok_and(|share| real.starts_with(share));
            let named = |share: &PathBuf| dir.host.starts_with(share);
            let shares = &self.agent.settings.shares;
            if !shares.iter().any(named) || (dir.host.exists() && !shares.iter().any(within)) {
                let text = format!(
                    "the task uses {0}, which is not shared there: start that agent with --share {0}",
                    dir.host.display()
                );
                return Err(Refusal::new(Reason::Missing, text));
            }
            if !dir.host.is_dir() {
                let text = format!("the task uses {}, and there is no such directory there", dir.host.display());
                return Err(Refusal::new(Reason::Missing, text));
            }
        }
        let need = Need { memory: offer.memory(), cpus: spec.limits.cpus };
        {
            let mut arriving = lock(&self.agent.arriving);
            if arriving.contains_key(&offer.task) {
                return Err(Refusal::new(Reason::Busy, "the task is on its way there already"));
            }
            if arriving.len() >= ARRIVALS_MAX {
                return Err(Refusal::new(Reason::Busy, "too many tasks are on their way there"));
            }
            self.agent.capacity.promise(offer.task, need)?;
            arriving.insert(offer.task, (offer.epoch, self.stop.clone()));
        }
        let has_module = matches!(program::kept_module(offer.digest()), Ok(Some(_)));
        self.spec = Some(spec);
        Ok(Accept { has_module, has_pages: self.agent.kept.has(offer.task) })
    }

    fn done(&mut self, event: Done) {
        let event = match event {
            Done::Landed(Ok(ground)) => {
                self.ground = Some(ground);
                Event::Landed
            }
            Done::Prepared(Ok(task)) => {
                self.task = Some(task);
                Event::Prepared
            }
            Done::Landed(Err(refusal)) | Done::Prepared(Err(refusal)) => Event::Failed(refusal),
            Done::Owned(Ok(())) => Event::Owned,
            Done::Owned(Err(e)) => {
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

    fn start(&mut self) {
        let (Some(spec), Some(task)) = (self.spec.take(), self.task.take()) else { return };
        let (mut task, sockets) = *task;
        let epoch = self.destination.offer().map_or(1, |o| o.epoch);
        task.set_epoch(epoch);
        self.agent.capacity.refund_offer(&self.peer);
        let entry = self.agent.adopt(spec, epoch);
        tracing::info!(task = %entry.spec.name, from = %self.peer, epoch, "has come");
        if let Err(e) = self.agent.run(&entry, task, sockets) {
            tracing::error!(task = %entry.spec.name, "cannot run: {e:#}");
            self.agent.finish(&entry, State::Failed { why: format!("{e:#}") });
            return;
        }
        // The source forgets it now: until the first snapshot is on the disk a power cut would lose it.
        self.agent.save_soon(&entry);
    }

    fn discard(&mut self) {
        self.task = None;
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

/// How long the source may say nothing when it is its turn.
const SILENCE: std::time::Duration = std::time::Duration::from_secs(60);
/// Most tasks on their way here at once.
const ARRIVALS_MAX: usize = 16;

/// An instance for the task, its memories as large as they are at the source.
fn land(agent: Arc<Agent>, offer: &Offer, spec: &Spec, module: Option<Vec<u8>>) -> Result<Box<Ground>, Refusal> {
    let refused = |reason| move |e: anyhow::Error| Refusal::new(reason, format!("{e:#}"));
    let image = image(&agent, offer, spec, module).map_err(refused(Reason::Module))?;
    let mut arrival = Arrival::new(&image, limits(spec, &agent.settings)).map_err(|e| unfit(&e))?;
    let mut sizes = BTreeMap::new();
    for (memory, size) in (0..).zip(&offer.memories) {
        let grown = arrival.grow(memory, *size);
        grown.map_err(|e| Refusal::new(Reason::Memory, e.to_string()))?;
        sizes.insert(memory, *size);
    }
    let need = Need { memory: offer.memory(), cpus: spec.limits.cpus };
    let kept = agent.kept.take(offer.task);
    Ok(Box::new(Ground { arrival, id: offer.task, need, sizes, kept, written: Vec::new(), agent }))
}

fn image(agent: &Agent, offer: &Offer, spec: &Spec, module: Option<Vec<u8>>) -> Result<Image> {
    let Some(module) = module else { return agent.image(spec) };
    let digest = wayfare_snapshot::Digest::of(&module);
    if digest != offer.digest() {
        bail!("the module that was sent is another one");
    }
    program::from_module(&module, digest, &wanted(spec.canonical_nan)?)
}

/// Makes the task; nothing of it runs.
fn prepare(agent: &Agent, ground: Ground, spec: &Spec, state: &[u8], extra: &[u8]) -> Result<(Task, Arc<Sockets>)> {
    let envelope = Envelope::decode(state)?;
    let packed = wayfare_snapshot::open(&envelope.snapshot, &wayfare_snapshot::Limits::default())?;
    let snapshot = packed.unpack()?;
    std::fs::create_dir_all(agent.dirs.task(spec.id)).context("no place for the task")?;
    let log = agent.dirs.log(spec.id);
    // Not synced: a log that a power cut shortens is no wrong log.
    let _ = std::fs::remove_file(&log);
    std::fs::write(&log, [extra, &envelope.log].concat()).with_context(|| log.display().to_string())?;
    let _ = std::fs::remove_file(agent.dirs.checkpoint(spec.id));
    let sockets = Sockets::thaw(&spec.publish, &envelope.sockets)?;
    let host = task::host(spec, &agent.dirs, &sockets)?;
    Ok((ground.arrival.finish(&snapshot, host)?, sockets))
}
