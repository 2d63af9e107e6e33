//! Drives a task's way to this board.

use super::images::Program;
use super::service::{self, Way};
use super::task::Live;
use super::{Agent, Entry, Queue, Visit, Visitors, log};
use crate::host::{Board, Seat};
use crate::link::Link;
use crate::sys;
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use anyhow::{Context, Result, anyhow, bail};
use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::task::Poll;
use wayfare_cluster::control::State;
use wayfare_cluster::envelope::Envelope;
use wayfare_cluster::spec::Spec;
use wayfare_engine::Limits;
use wayfare_engine::bare::{Arrival, Task};
use wayfare_snapshot::PAGE_SIZE;
use wayfare_stream::ports::Ports;
use wayfare_transfer::destination::{Action, Caps, Destination, Event, Landing, Phase};
use wayfare_transfer::journal::{self, Record};
use wayfare_transfer::message::{Accept, Message, Mode, Offer, Part, Reason, Refusal};
use wayfare_transfer::pages::{Batch, PageDigest, PageRange};
use wayfare_transfer::{Incoming, Kind};

/// Most tasks on their way here at once.
const ARRIVALS_MAX: usize = 4;
/// What a task takes besides its memory, at least: its code, and what the engine keeps.
const OVERHEAD: u64 = 2 << 20;
/// Code is about so many times as long as the module that it was made from.
const CODE: u64 = 8;
/// How much of a move this board takes.
const CAPS: Caps = Caps { module: 32 << 20, state: 64 << 20, extra: 16 << 20 };
/// The unit in which memories grow.
const WASM_PAGE: u64 = 65536;

/// Where pages land.
struct Ground {
    arrival: Arrival<Board>,
    seat: Arc<Seat>,
    sizes: Vec<u64>,
}

fn unfit(e: &wayfare_engine::Error) -> Refusal {
    Refusal::new(Reason::State, e.to_string())
}

fn no_room(bytes: u64) -> Refusal {
    let text = format!("the task needs {} KiB more there, of which {} are free", bytes >> 10, sys::free() >> 10);
    Refusal::new(Reason::Memory, text)
}

impl Ground {
    fn new(program: &Program, offer: &Offer, spec: &Spec) -> Result<Ground, Refusal> {
        let seat = Arc::new(Seat::serving(&spec.publish));
        let limits = Limits { memory: spec.limits.memory, table_elements: None };
        let mut arrival = Arrival::new(&program.image, Board(seat.clone()), limits).map_err(|e| unfit(&e))?;
        for (memory, size) in (0..).zip(&offer.memories) {
            arrival.grow(memory, *size).map_err(|_| no_room(*size))?;
        }
        Ok(Ground { arrival, seat, sizes: offer.memories.clone() })
    }

    /// Makes room up to a page.
    fn reach(&mut self, range: PageRange) -> Result<(), Refusal> {
        let end = range.first.saturating_add(range.count).saturating_mul(PAGE_SIZE as u64);
        let no_memory = || Refusal::new(Reason::State, format!("the task has no memory {}", range.memory));
        let size = self.sizes.get_mut(range.memory as usize).ok_or_else(no_memory)?;
        if end > size.next_multiple_of(PAGE_SIZE as u64) {
            let grown = end.checked_next_multiple_of(WASM_PAGE).unwrap_or(u64::MAX);
            let room = self.arrival.grow(range.memory, grown);
            room.map_err(|_| no_room(grown))?;
            *size = grown;
        }
        Ok(())
    }
}

impl Landing for Ground {
    fn write(&mut self, range: PageRange, bytes: &[u8]) -> Result<(), Refusal> {
        self.reach(range)?;
        self.arrival.write(range.memory, range.first, bytes).map_err(|e| match e {
            wayfare_engine::Error::System(_) => no_room(bytes.len() as u64),
            e => unfit(&e),
        })
    }

    fn zero(&mut self, range: PageRange) -> Result<(), Refusal> {
        self.reach(range)?;
        self.arrival.zero(range.memory, range.first, range.count).map_err(|e| unfit(&e))
    }

    // Late pages are not agreed to.
    fn forget(&mut self, _: &[PageRange]) {}

    fn recall(&mut self, _: u32, _: u64, _: &PageDigest) -> bool {
        false
    }
}

type Work = Pin<Box<dyn Future<Output = Result<Program>>>>;

struct Arriving {
    agent: Rc<Agent>,
    peer: String,
    destination: Destination,
    link: Option<Link>,
    /// The program is being had.
    work: Option<Work>,
    ground: Option<Box<Ground>>,
    spec: Option<Spec>,
    ready: Option<(Task<Board>, Arc<Seat>)>,
    /// To its clients.
    way: Option<Way>,
    door: Queue<Visit>,
    /// What the journal said before.
    before: Option<Option<Record>>,
    /// Held until the task is here for good.
    entry: Option<Rc<Entry>>,
}

/// What may happen next.
enum Next {
    Turned(Result<Option<Incoming>>),
    Program(Result<Program>),
    Visited(Visit),
    Tick,
}

/// Takes a task in, from its offer on.
///
/// # Errors
/// When the link breaks or the source breaks the protocol.
pub(super) async fn arrive(agent: Rc<Agent>, link: Link, offer: Incoming) -> Result<()> {
    let peer = link.peer().context("a stranger offers a task")?.to_string();
    let mut arriving = Arriving {
        agent,
        peer,
        destination: Destination::new(CAPS),
        link: Some(link),
        work: None,
        ground: None,
        spec: None,
        ready: None,
        way: None,
        door: Queue::new(),
        before: None,
        entry: None,
    };
    let result = arriving.run(&offer).await;
    if let Some(offer) = arriving.destination.offer() {
        let mut all = arriving.agent.arriving.borrow_mut();
        // Another connection may have been first with this task.
        if all.get(&offer.task).is_some_and(|v| v.door.is_same(&arriving.door)) {
            all.remove(&offer.task);
        }
    }
    if let Some(entry) = arriving.entry.take() {
        entry.moving.set(false);
    }
    if let Some(link) = arriving.link.take() {
        link.part().await;
    }
    result
}

impl Arriving {
    async fn run(&mut self, offer: &Incoming) -> Result<()> {
        self.take(offer)?;
        loop {
            while let Some(action) = self.destination.poll_action() {
                self.act(action)?;
            }
            while let Some(link) = &mut self.link
                && let Some(message) = self.destination.poll_message()
            {
                if let Err(e) = link.channel.send(Kind::Transfer, &message.encode()) {
                    self.lose(&e.into());
                }
            }
            if let Some(link) = &mut self.link {
                link.push();
            }
            if self.destination.is_over() || (self.link.is_none() && !self.destination.owns()) {
                break;
            }
            let gone = match self.next().await {
                Next::Tick => self.is_silent().then(|| anyhow!("nothing is heard")),
                Next::Turned(Ok(None)) => None,
                Next::Turned(Ok(Some(message))) => self.take(&message).err(),
                Next::Turned(Err(e)) => Some(e),
                Next::Program(program) => {
                    self.work = None;
                    self.land(program);
                    None
                }
                Next::Visited(visit) => self.visited(visit),
            };
            if let Some(e) = gone {
                self.lose(&e);
            }
        }
        if let Phase::Failed(refusal) = self.destination.phase() {
            log!("a task did not come from {}: {refusal}", self.peer);
        }
        Ok(())
    }

    async fn next(&mut self) -> Next {
        let mut tick = pin!(self.agent.executor.sleep(1000));
        let (door, work, link) = (&self.door, &mut self.work, &mut self.link);
        poll_fn(|cx| {
            if let Poll::Ready(visit) = door.poll(cx) {
                return Poll::Ready(Next::Visited(visit));
            }
            if let Some(Poll::Ready(program)) = work.as_mut().map(|work| work.as_mut().poll(cx)) {
                return Poll::Ready(Next::Program(program));
            }
            if let Some(link) = link.as_mut()
                && let Poll::Ready(turned) = pin!(link.turn()).poll(cx)
            {
                return Poll::Ready(Next::Turned(turned));
            }
            tick.as_mut().poll(cx).map(|()| Next::Tick)
        })
        .await
    }

    fn is_silent(&mut self) -> bool {
        let Some(patience) = self.destination.patience() else { return false };
        self.link.as_mut().is_some_and(|link| link.silence() * 1_000_000 > patience)
    }

    fn lose(&mut self, why: &anyhow::Error) {
        if !self.destination.owns() {
            log!("a move from {} is cut off: {why:#}", self.peer);
        }
        self.link = None;
        self.destination.handle_event(Event::Disconnected);
    }

    /// Somebody has come by another link. Gives why the one that is there is to be dropped.
    fn visited(&mut self, visit: Visit) -> Option<anyhow::Error> {
        match visit {
            Visit::Reattached(link) if self.destination.owns() => {
                self.destination.handle_event(Event::Disconnected);
                self.link = Some(*link);
                self.destination.reattach();
                None
            }
            // It gave nothing away by this move.
            Visit::Reattached(_) => None,
            Visit::Asked if self.destination.owns() => None,
            Visit::Asked => Some(anyhow!("the source asks what became of the task")),
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

    fn act(&mut self, action: Action) -> Result<()> {
        match action {
            Action::Admit => {
                let event = match self.admit() {
                    Ok(accept) => Event::Admitted(accept),
                    Err(refusal) => Event::Failed(refusal),
                };
                self.destination.handle_event(event);
            }
            Action::Land(module) => {
                let Some(offer) = self.destination.offer() else { return Ok(()) };
                let (digest, canonical_nan) = (offer.digest(), offer.canonical_nan);
                let (agent, peer) = (self.agent.clone(), self.peer.clone());
                let work = async move { agent.program(digest, canonical_nan, module, &peer).await };
                self.work = Some(Box::pin(work));
            }
            Action::Prepare { state, extra, late } => {
                self.find_clients();
                let prepared = match late.is_empty() {
                    true => self.prepare(&state, &extra),
                    false => Err(anyhow!("pages would come late")),
                };
                self.destination.handle_event(match prepared {
                    Ok(()) => Event::Prepared,
                    Err(e) => Event::Failed(Refusal::new(Reason::State, format!("not possible there: {e:#}"))),
                });
            }
            Action::Log(epoch) => {
                let Some(offer) = self.destination.offer() else { return Ok(()) };
                self.before = Some(self.agent.record(offer.task));
                self.agent.set_record(offer.task, Record::Taken { epoch });
                self.destination.handle_event(Event::Logged);
            }
            Action::Strike => {
                if let (Some(before), Some(offer)) = (self.before.take(), self.destination.offer()) {
                    self.agent.set_record(offer.task, journal::struck(before));
                }
            }
            Action::Run => self.start()?,
            // There is no disk that it could be on: what is in memory is all that there is.
            Action::Save => {
                if let (Some(entry), Some(offer)) = (&self.entry, self.destination.offer())
                    && entry.state().is_alive()
                {
                    self.agent.set_record(offer.task, Record::Owned { epoch: offer.epoch });
                }
                self.destination.handle_event(Event::Saved);
            }
            Action::Discard => (self.ground, self.ready, self.spec) = (None, None, None),
            Action::Arrived(_) | Action::Forsake => {}
        }
        Ok(())
    }

    /// Dials the node that has the task's clients, unless that has just been done.
    fn find_clients(&mut self) {
        let Some(spec) = self.spec.as_ref().filter(|spec| !spec.publish.is_empty()) else { return };
        if !self.way.as_ref().is_some_and(Way::is_warm) {
            self.way = Some(Way::dial(&self.agent, &spec.origin));
        }
    }

    /// Is there room, and everything else that the task needs?
    fn admit(&mut self) -> Result<Accept, Refusal> {
        let offer = self.destination.offer().ok_or_else(|| Refusal::new(Reason::State, "no offer"))?;
        let spec = Spec::of_offer(offer)?;
        if !spec.dirs.is_empty() {
            let text = format!("the task uses {}, and a board has no directories", spec.dirs[0].host);
            return Err(Refusal::new(Reason::Missing, text));
        }
        if offer.mode == Mode::PostCopy {
            let text = "pages cannot come after the task there: use --mode hybrid or pre-copy";
            return Err(Refusal::new(Reason::Node, text));
        }
        let agent = &self.agent;
        let taken = |e: &Rc<Entry>| e.spec.id != spec.id && e.state().holds_name();
        if agent.tasks.borrow().get(&spec.name).is_some_and(taken) {
            return Err(Refusal::new(Reason::Name, format!("a task named {} runs there already", spec.name)));
        }
        let record = agent.record(offer.task);
        let runs = record.as_ref().is_some_and(|r| agent.runs(offer.task, r.epoch()));
        if !journal::admits(journal::settled(record, runs).as_ref(), offer.epoch) {
            return Err(Refusal::new(Reason::Epoch, "the task is there already, or the epoch is an old one"));
        }
        let mut arriving = agent.arriving.borrow_mut();
        if arriving.contains_key(&offer.task) {
            return Err(Refusal::new(Reason::Busy, "the task is on its way there already"));
        }
        if arriving.len() >= ARRIVALS_MAX {
            return Err(Refusal::new(Reason::Busy, "too many tasks are on their way there"));
        }
        let known = agent.programs.get(offer.digest(), offer.canonical_nan).is_some();
        let code = if known { 0 } else { offer.module_len.saturating_mul(CODE) };
        // What tasks have not touched yet of their memory is theirs all the same, lest one suffers from another's coming;
        // one that is alone takes what it touches, which for most is far less than they say.
        let is_alone = arriving.is_empty() && agent.tasks.borrow().values().all(|e| e.live.borrow().is_none());
        let others = || arriving.values().map(|v| v.memory).fold(agent.untouched(), u64::saturating_add);
        let memory = if is_alone { 0 } else { offer.memory().saturating_add(others()) };
        let needs = memory.saturating_add(code).saturating_add(OVERHEAD);
        if needs > sys::free() {
            return Err(no_room(needs));
        }
        let (epoch, peer, door) = (offer.epoch, self.peer.clone(), self.door.clone());
        arriving.insert(offer.task, Visitors { epoch, memory: offer.memory(), peer, door });
        let has_module = agent.programs.module(offer.digest()).is_some();
        drop(arriving);
        self.spec = Some(spec);
        Ok(Accept { has_module, has_pages: false, can_be_late: false })
    }

    fn land(&mut self, program: Result<Program>) {
        let (Some(offer), Some(spec)) = (self.destination.offer(), &self.spec) else { return };
        let landed = match program {
            Ok(program) => Ground::new(&program, offer, spec),
            Err(e) => Err(Refusal::new(Reason::Module, format!("{e:#}"))),
        };
        let event = match landed {
            Ok(ground) => {
                self.ground = Some(Box::new(ground));
                self.find_clients();
                Event::Landed
            }
            Err(refusal) => Event::Failed(refusal),
        };
        self.destination.handle_event(event);
    }

    /// Makes the task; nothing of it runs.
    fn prepare(&mut self, state: &[u8], extra: &[u8]) -> Result<()> {
        let Some(ground) = self.ground.take() else { bail!("there is no instance") };
        let envelope = Envelope::decode(state)?;
        let packed = wayfare_snapshot::open(&envelope.snapshot, &wayfare_snapshot::Limits::default())?;
        let Ground { arrival, seat, .. } = *ground;
        let ports = self.spec.as_ref().map_or(&[][..], |spec| &spec.publish);
        *seat.ports.lock() = Ports::thaw(ports, &envelope.sockets).map_err(|e| anyhow!("its connections: {e}"))?;
        {
            let mut log = seat.log.lock();
            log.push(extra);
            log.push(&envelope.log);
        }
        self.ready = Some((arrival.finish(&packed.unpack()?)?, seat));
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        let (Some(spec), Some((mut task, seat))) = (self.spec.take(), self.ready.take()) else { return Ok(()) };
        let epoch = self.destination.offer().map_or(1, |o| o.epoch);
        task.epoch = epoch;
        let entry = Rc::new(Entry {
            state: RefCell::new(State::Running),
            live: RefCell::new(None),
            seat: RefCell::new(Some(seat.clone())),
            epoch: Cell::new(epoch),
            moving: Cell::new(true),
            decision: Cell::new(None),
            spec,
        });
        let (id, name) = (entry.spec.id, entry.spec.name.clone());
        self.agent.tasks.borrow_mut().insert(name.clone(), entry.clone());
        let live = match Live::start(task, seat) {
            Ok(live) => Rc::new(live),
            Err(e) => {
                // As after a crash: the node that it came from still has it.
                self.agent.set_record(id, Record::Lost { epoch });
                self.agent.tasks.borrow_mut().remove(&name);
                return Err(e);
            }
        };
        *entry.live.borrow_mut() = Some(live.clone());
        log!("{name} has come from {}, epoch {epoch}", self.peer);
        if !entry.spec.publish.is_empty() {
            self.agent.executor.spawn(service::carry(
                self.agent.clone(),
                entry.clone(),
                live.seat.clone(),
                self.way.take(),
            ));
        }
        self.agent.executor.spawn(self.agent.clone().look_after(entry.clone(), live));
        self.entry = Some(entry);
        Ok(())
    }
}
