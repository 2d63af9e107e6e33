//! Drives a task's way to this board.

use super::ground::{CAPS, Ground, Ready};
use super::images::Program;
use super::service::{Clients, Way};
use super::{Agent, Entry, Queue, Visit, Visitors, log};
use crate::link::Link;
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use anyhow::{Context, Result, anyhow, bail};
use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::task::Poll;
use wayfare_cluster::spec::Spec;
use wayfare_transfer::destination::{Action, Destination, Event, Landing, Phase};
use wayfare_transfer::journal::{self, Record};
use wayfare_transfer::message::{Accept, Message, Mode, Part, Reason, Refusal};
use wayfare_transfer::pages::Batch;
use wayfare_transfer::{Incoming, Kind};

/// Most tasks on their way here at once.
const ARRIVALS_MAX: usize = 4;

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
    ready: Option<Ready>,
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
        if offer.mode == Mode::PostCopy {
            let text = "pages cannot come after the task there: use --mode hybrid or pre-copy";
            return Err(Refusal::new(Reason::Node, text));
        }
        let agent = &self.agent;
        let record = agent.record(offer.task);
        let runs = record.as_ref().is_some_and(|r| agent.runs(offer.task, r.epoch()));
        if !journal::admits(journal::settled(record, runs).as_ref(), offer.epoch) {
            return Err(Refusal::new(Reason::Epoch, "the task is there already, or the epoch is an old one"));
        }
        if agent.arriving.borrow().contains_key(&offer.task) {
            return Err(Refusal::new(Reason::Busy, "the task is on its way there already"));
        }
        if agent.arriving.borrow().len() >= ARRIVALS_MAX {
            return Err(Refusal::new(Reason::Busy, "too many tasks are on their way there"));
        }
        agent.admits(offer, &spec)?;
        let (epoch, peer, door) = (offer.epoch, self.peer.clone(), self.door.clone());
        let visitors = Visitors { epoch, memory: offer.memory(), peer, door };
        agent.arriving.borrow_mut().insert(offer.task, visitors);
        let has_module = agent.programs.module(offer.digest()).is_some();
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
        let Some(spec) = &self.spec else { bail!("there is no offer") };
        self.ready = Some(ground.ready(spec, state, extra, false)?);
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        let (Some(spec), Some(Ready { mut task, seat, .. })) = (self.spec.take(), self.ready.take()) else {
            return Ok(());
        };
        let epoch = self.destination.offer().map_or(1, |o| o.epoch);
        task.epoch = epoch;
        let entry = Entry::new(spec, epoch, seat, Clients::default());
        entry.moving.set(true);
        // It has come itself: nobody wants a copy any more that was put aside.
        self.agent.settle(entry.spec.id);
        if let Err(e) = self.agent.begin(&entry, task, self.way.take()) {
            // As after a crash: the node that it came from still has it.
            self.agent.set_record(entry.spec.id, Record::Lost { epoch });
            return Err(e);
        }
        log!("{} has come from {}, epoch {epoch}", entry.spec.name, self.peer);
        self.entry = Some(entry);
        Ok(())
    }
}
