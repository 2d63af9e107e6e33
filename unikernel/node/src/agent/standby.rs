//! Is the standby of tasks that run elsewhere: drives [`Standby`], and takes over when nothing is heard of a primary.
//!
//! What it knows is in memory, as all that a board knows. A board that was reset has nothing of a task any more, says so, and
//! is brought up to date again.

use super::ground::{CAPS, Ground, no_room};
use super::images::Program;
use super::service::Clients;
use super::{Agent, Entry, Queue, log, reunion};
use crate::link::Link;
use crate::{clock, sys};
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use anyhow::{Context, Result, anyhow, bail};
use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::task::Poll;
use wayfare_cluster::control::State;
use wayfare_cluster::protection::{Pair, Role, Terms};
use wayfare_cluster::spec::Spec;
use wayfare_policy::Detector;
use wayfare_snapshot::Digest;
use wayfare_transfer::destination::Landing;
use wayfare_transfer::journal::Record;
use wayfare_transfer::message::{Message, Part, Reason, Refusal, TaskId};
use wayfare_transfer::standby::{Said, Standby, StandbyAction, StandbyEvent, StandbyPhase};
use wayfare_transfer::{Incoming, Kind};
use wayfare_unikernel_abi::SECOND;

/// Most tasks whose standby a board is: each has linear memories, of which there are only so many.
const MOST: usize = 6;
/// How often the detector is asked, milliseconds.
const LOOK: u64 = 20;
/// After a longer pause between two looks, nanoseconds, this board did not run, or was too busy to listen: it takes as long to
/// hear what has come meanwhile.
const ASLEEP: u64 = 100_000_000;
/// After so long a pause the primary has given the link up, nanoseconds; and so long it may take to dial again.
const GIVEN_UP: (u64, u64) = (2_000_000_000, 5_000_000_000);
/// After so long a silence of a primary that is heard regularly, nanoseconds, it counts as gone.
const SUSPECTED: u64 = 500_000_000;
/// What of a sync is put aside must leave so much memory, bytes: the agent works on with it.
const SPARE: u64 = 1 << 20;

/// How long the standbys that are nearer are waited for, which would have to take over first, and until they are asked again;
/// milliseconds.
const NEARER: (u64, u64) = (500, 1_000);

/// A task whose standby this board is.
pub(super) struct Held {
    /// The task's epoch at its present primary.
    epoch: Cell<u64>,
    pair: RefCell<Pair>,
    /// When the last sync was complete.
    of: Cell<Option<u64>>,
    /// What it runs.
    pub(super) module: Digest,
    /// Bytes of its memories that it does not take yet.
    pub(super) untouched: Cell<u64>,
    door: Queue<Visit>,
}

/// Somebody who waits for a takeover.
type Asker = Queue<Result<(), String>>;

enum Visit {
    /// The primary has dialled again.
    Attached(Box<Link>, Said, String),
    /// Whether one of those who are to take over before this board will, or has.
    Nearer(bool),
    /// A person wants it to take over.
    TakeOver(Asker),
    /// The primary was started anew, and would go on from a state of so much work: takes over unless it is behind that.
    Replace(u64, Asker),
    /// What is here of the task itself goes on: it needs no standby here.
    Over,
}

impl Held {
    /// As it is shown.
    pub(super) fn pair(&self) -> Pair {
        let age = self.of.get().map(|of| clock::nanos() - of);
        Pair { age, ..self.pair.borrow().clone() }
    }

    /// It could go on with the task.
    pub(super) fn could_go_on(&self) -> bool {
        self.of.get().is_some()
    }

    /// Whether a node that says it is the task's primary, at an epoch, is to be believed: it is the one that is known, or has
    /// taken over from it.
    fn is_of(&self, peer: &str, terms: &Terms, epoch: u64) -> bool {
        let pair = self.pair.borrow();
        let is_in_line = |node: &str| terms.line("").any(|other| other == node);
        pair.peer == peer || (epoch > self.epoch.get() && is_in_line(peer) && is_in_line(&pair.peer))
    }

    /// The primary has lost what it was doing, but for a state of so much work: goes on here from a later one, if there is one.
    pub(super) async fn replace(&self, work: u64) -> bool {
        let asker = Queue::new();
        self.door.push(Visit::Replace(work, asker.clone()));
        asker.next().await.is_ok()
    }

    /// Has the standby take over: with all that the task has done if its primary is there.
    ///
    /// # Errors
    /// When it has nothing to go on from, or cannot.
    pub(super) async fn take_over(&self) -> Result<()> {
        let asker = Queue::new();
        self.door.push(Visit::TakeOver(asker.clone()));
        asker.next().await.map_err(|why| anyhow!(why))
    }

    /// It is none any more.
    pub(super) fn end(&self) {
        self.door.push(Visit::Over);
    }
}

type Work = Pin<Box<dyn Future<Output = Result<Program>>>>;

enum Next {
    Turned(Result<Option<Incoming>>),
    Program(Result<Program>),
    Visited(Visit),
    Tick,
}

/// Is a task's standby, from the primary's offer on.
///
/// # Errors
/// When the primary breaks the protocol.
pub(super) async fn hold(agent: Rc<Agent>, link: Link, said: Said) -> Result<()> {
    let Some(mut link) = reunion::answered(&agent, link, &said).await? else { return Ok(()) };
    let peer = link.peer().context("a stranger has a task protected")?.to_string();
    let Said::Protect { offer, terms, .. } = &said else { bail!("a message that begins nothing") };
    let terms = Terms::decode(terms)?;
    let (id, epoch) = (offer.task, offer.epoch);
    let found = agent.standbys.borrow().get(&id).cloned();
    let refused = match found {
        Some(held) if held.is_of(&peer, &terms, epoch) => {
            held.door.push(Visit::Attached(Box::new(link), said, peer));
            return Ok(());
        }
        Some(held) => Some(format!("that board is its standby already, for {}", held.pair.borrow().peer)),
        None if agent.standbys.borrow().len() >= MOST => Some("that board is the standby of too many tasks".into()),
        None => None,
    };
    if let Some(why) = refused {
        let refusal = Refusal::new(Reason::Busy, why);
        link.send(Kind::Transfer, &Message::Standby(Said::Refuse(refusal)).encode()).await?;
        link.part().await;
        return Ok(());
    }
    let held = Rc::new(Held {
        epoch: Cell::new(epoch),
        pair: RefCell::new(Pair::new(&terms, Role::Standby, &peer)),
        of: Cell::default(),
        module: offer.digest(),
        untouched: Cell::new(offer.memory()),
        door: Queue::new(),
    });
    agent.standbys.borrow_mut().insert(id, held.clone());
    let mut driver = Driver {
        agent: agent.clone(),
        id,
        peer,
        held: held.clone(),
        standby: Standby::new(CAPS).forgetful(),
        link: Some(link),
        work: None,
        spec: None,
        ground: None,
        detector: Detector::new(0),
        patience: 0,
        terms,
        passed: false,
        asking: 0,
        looked: clock::nanos(),
        awake: clock::nanos(),
        heard: 0,
        connected: clock::nanos(),
        asked: None,
        aside: 0,
        most: 0,
    };
    driver.set_patience();
    let result = driver.run(said).await;
    agent.standbys.borrow_mut().remove(&id);
    driver.answer(Err("it is no standby any more".into()));
    while let Some(visit) = held.door.take() {
        if let Visit::TakeOver(asker) | Visit::Replace(_, asker) = visit {
            asker.push(Err("it is no standby any more".into()));
        }
    }
    (driver.ground, driver.work) = (None, None);
    if let StandbyPhase::Over(why) = driver.standby.phase() {
        log!("{} has no standby here any more: {why}", held.pair.borrow().name);
        if why.reason == Reason::Cancelled {
            agent.settle(id);
        }
    }
    if let Some(mut link) = driver.link.take() {
        while let Some(message) = driver.standby.poll_message() {
            link.channel.send(Kind::Transfer, &message.encode())?;
        }
        link.part().await;
    }
    result
}

struct Driver {
    agent: Rc<Agent>,
    id: TaskId,
    peer: String,
    held: Rc<Held>,
    standby: Standby,
    link: Option<Link>,
    /// The program is being had.
    work: Option<Work>,
    spec: Option<Spec>,
    ground: Option<Box<Ground>>,
    detector: Detector,
    /// How long the primary may be silent, nanoseconds.
    patience: u64,
    terms: Terms,
    /// The primary has not said its offer yet: the one before has told of it.
    passed: bool,
    /// Until when nobody asks those who are to take over first.
    asking: u64,
    /// When it looked last, and since when it does so regularly.
    looked: u64,
    awake: u64,
    /// Records of the link that count as heard.
    heard: u64,
    /// Since when the link is there.
    connected: u64,
    /// Who wants to hear that it has taken over.
    asked: Option<Asker>,
    /// Bytes of a sync that were put aside, and the most that ever were: the heap has had that.
    aside: u64,
    most: u64,
}

impl Driver {
    /// Who is to take over rather than this board, or has the task and has not said so yet.
    fn nearer(&self) -> Vec<String> {
        let nearer = self.terms.nearer(&self.peer, &self.terms.standby).map(String::from);
        nearer.chain(self.passed.then(|| self.peer.clone())).collect()
    }

    /// Those that are nearer have time to be heard of.
    fn set_patience(&mut self) {
        let nearer = self.terms.nearer(&self.peer, &self.terms.standby).count() as u64;
        let patience = SUSPECTED * u64::from(self.terms.patience()) * (1 + nearer);
        if core::mem::replace(&mut self.patience, patience) != patience {
            self.detector = Detector::new(patience);
        }
    }

    /// The primary is gone. Whoever is nearer is to take over, if anybody is.
    fn miss(&mut self, now: u64) {
        let nearer = self.nearer();
        if nearer.is_empty() {
            return self.heard_of_nearer(false);
        }
        if now < self.asking {
            return;
        }
        self.asking = now + (NEARER.0 + NEARER.1) * 1_000_000;
        let (agent, id, epoch, door) = (self.agent.clone(), self.id, self.held.epoch.get(), self.held.door.clone());
        self.agent.executor.spawn(async move {
            for node in nearer {
                let mut asked = pin!(agent.is_elsewhere(id, epoch, &node));
                let mut late = pin!(agent.executor.sleep(NEARER.0));
                let answer = poll_fn(|cx| match asked.as_mut().poll(cx) {
                    Poll::Ready(answer) => Poll::Ready(answer),
                    Poll::Pending => late.as_mut().poll(cx).map(|()| false),
                });
                if answer.await {
                    return door.push(Visit::Nearer(true));
                }
            }
            door.push(Visit::Nearer(false));
        });
    }

    fn heard_of_nearer(&mut self, is_elsewhere: bool) {
        if !is_elsewhere && self.standby.kept() > 0 && self.detector.suspected(clock::nanos()) {
            log!("{}: nothing is heard of {}: this board takes over", self.held.pair.borrow().name, self.peer);
            let _ = self.standby.take_over();
        }
    }

    async fn run(&mut self, said: Said) -> Result<()> {
        self.say(said)?;
        loop {
            while let Some(action) = self.standby.poll_action() {
                if let StandbyAction::Run { state, epoch, handed } = action {
                    let gone_on = self.go_on(&state, epoch, handed);
                    return self.taken_over(epoch, gone_on);
                }
                self.act(action);
            }
            while let Some(link) = &mut self.link
                && let Some(message) = self.standby.poll_message()
            {
                if let Err(e) = link.channel.send(Kind::Transfer, &message.encode()) {
                    self.lose(&e.into());
                }
            }
            if let Some(link) = &mut self.link {
                link.push();
            }
            // Of a primary that is gone before anything of the task was complete there is nothing to keep.
            let has_nothing = self.link.is_none() && self.standby.kept() == 0;
            if has_nothing || matches!(self.standby.phase(), StandbyPhase::Over(_)) {
                return Ok(());
            }
            let gone = match self.next().await {
                Next::Turned(turned) => self.turned(turned).err(),
                Next::Program(program) => {
                    self.work = None;
                    self.land(program);
                    None
                }
                Next::Visited(Visit::Over) => return Ok(()),
                Next::Visited(visit) => self.visited(visit).err(),
                Next::Tick => None,
            };
            if let Some(e) = gone {
                self.lose(&e);
            }
            if clock::nanos() - self.looked >= LOOK * 1_000_000 {
                self.look();
            }
        }
    }

    /// What has come is heard before anybody asks how long nothing was: this board may have been busy, or not have run.
    async fn next(&mut self) -> Next {
        let mut tick = pin!(self.agent.executor.sleep(LOOK));
        let (door, work, link) = (&self.held.door, &mut self.work, &mut self.link);
        poll_fn(|cx| {
            if let Some(link) = link.as_mut()
                && let Poll::Ready(turned) = pin!(link.turn()).poll(cx)
            {
                return Poll::Ready(Next::Turned(turned));
            }
            if let Some(Poll::Ready(program)) = work.as_mut().map(|work| work.as_mut().poll(cx)) {
                return Poll::Ready(Next::Program(program));
            }
            if let Poll::Ready(visit) = door.poll(cx) {
                return Poll::Ready(Next::Visited(visit));
            }
            tick.as_mut().poll(cx).map(|()| Next::Tick)
        })
        .await
    }

    /// Is the primary there?
    fn look(&mut self) {
        let now = clock::nanos();
        let pause = now - core::mem::replace(&mut self.looked, now);
        if pause > ASLEEP {
            self.awake = now + if pause > GIVEN_UP.0 { GIVEN_UP.1 } else { 0 };
        }
        if self.standby.kept() > 0 && now >= self.awake + ASLEEP && self.detector.suspected(now) {
            self.miss(now);
        }
        let mut pair = self.held.pair.borrow_mut();
        pair.connected = self.link.is_some();
        pair.heard = self.detector.silence(now).filter(|_| self.link.is_some());
    }

    fn lose(&mut self, why: &anyhow::Error) {
        if self.link.take().is_some() {
            log!("{}: the link to {} is gone: {why:#}", self.held.pair.borrow().name, self.peer);
        }
        self.standby.handle_event(StandbyEvent::Disconnected);
        self.aside = 0;
        // It is wanted here all the same.
        if self.asked.is_some() {
            self.take_over();
        }
    }

    /// Goes on with what is here.
    fn take_over(&mut self) {
        if let Err(refusal) = self.standby.take_over() {
            self.answer(Err(refusal.to_string()));
        }
    }

    fn answer(&mut self, answer: Result<(), String>) {
        if let Some(asked) = self.asked.take() {
            asked.push(answer);
        }
    }

    fn visited(&mut self, visit: Visit) -> Result<()> {
        match visit {
            Visit::Attached(link, said, peer) => {
                self.link = Some(*link);
                if let Said::Protect { offer, terms, .. } = &said {
                    self.terms = Terms::decode(terms)?;
                    self.held.epoch.set(offer.epoch);
                }
                (self.peer, self.passed) = (peer, false);
                self.held.pair.borrow_mut().peer.clone_from(&self.peer);
                self.set_patience();
                (self.heard, self.connected, self.aside) = (0, clock::nanos(), 0);
                self.standby.reattach();
                self.say(said)?;
                // What was said of that by the last link may be lost.
                if self.asked.is_some() && !self.standby.ask_for_it() {
                    self.take_over();
                }
                Ok(())
            }
            Visit::TakeOver(asker) => {
                self.answer(Err("it was asked for once more".into()));
                self.asked = Some(asker);
                if self.link.is_none() || !self.standby.ask_for_it() {
                    self.take_over();
                }
                Ok(())
            }
            Visit::Replace(theirs, asker) => {
                let ours = self.standby.state().and_then(|state| reunion::work(state).ok());
                if ours.is_some_and(|ours| ours >= theirs) {
                    self.answer(Err("it was asked for once more".into()));
                    self.asked = Some(asker);
                    self.take_over();
                } else {
                    asker.push(Err("there is nothing newer".into()));
                }
                Ok(())
            }
            Visit::Nearer(is_elsewhere) => {
                self.heard_of_nearer(is_elsewhere);
                Ok(())
            }
            Visit::Over => Ok(()),
        }
    }

    fn turned(&mut self, turned: Result<Option<Incoming>>) -> Result<()> {
        let message = turned?;
        if let Some(link) = &self.link {
            let records = link.channel.records();
            if records != core::mem::replace(&mut self.heard, records) {
                self.detector.heartbeat(clock::nanos());
            }
        }
        let Some(message) = message else { return Ok(()) };
        match message.kind {
            Kind::Transfer => match Message::decode(&message.payload)? {
                Message::Standby(Said::Beat(at) | Said::Probe { at, .. }) => {
                    let link = self.link.as_mut().context("no link")?;
                    Ok(link.channel.send(Kind::Transfer, &Message::Standby(Said::Echo(at)).encode())?)
                }
                Message::Standby(said) => self.say(said),
                _ => bail!("a message out of place"),
            },
            Kind::Part | Kind::Pages if !self.puts_aside(message.payload.len() as u64) => Ok(()),
            Kind::Part => Ok(self.standby.handle_part(&Part::decode(&message.payload)?)?),
            Kind::Pages => Ok(self.standby.handle_pages(message.payload)?),
            _ => bail!("a message of another kind"),
        }
    }

    /// So much more waits until a sync is complete. Without room for it there is no standby here.
    fn puts_aside(&mut self, bytes: u64) -> bool {
        self.aside += bytes;
        if self.aside > self.most && bytes + SPARE > sys::free() {
            self.standby.handle_event(StandbyEvent::Failed(no_room(bytes + SPARE)));
            return false;
        }
        self.most = self.most.max(self.aside);
        true
    }

    fn say(&mut self, said: Said) -> Result<()> {
        let landing = self.ground.as_deref_mut().map(|ground| ground as &mut dyn Landing);
        Ok(self.standby.handle_message(said, landing)?)
    }

    fn act(&mut self, action: StandbyAction) {
        match action {
            StandbyAction::Admit => {
                let event = match self.admit() {
                    Ok(has_module) => StandbyEvent::Admitted { has_module },
                    Err(refusal) => StandbyEvent::Failed(refusal),
                };
                self.standby.handle_event(event);
            }
            StandbyAction::Land(module) => {
                let Some(offer) = self.standby.offer() else { return };
                let (digest, canonical_nan) = (offer.digest(), offer.canonical_nan);
                let (agent, peer) = (self.agent.clone(), self.peer.clone());
                let work = async move { agent.program(digest, canonical_nan, module, &peer).await };
                self.work = Some(Box::pin(work));
            }
            StandbyAction::Passed(to) => {
                log!("{} goes on at {to}", self.held.pair.borrow().name);
                (self.link, self.peer, self.passed, self.aside) = (None, to, true, 0);
                self.held.pair.borrow_mut().peer.clone_from(&self.peer);
                self.set_patience();
                // Else nobody would miss it.
                self.detector.heartbeat(clock::nanos());
            }
            StandbyAction::Kept(sync) => {
                self.aside = 0;
                self.held.pair.borrow_mut().sync = sync;
                self.held.of.set(Some(clock::nanos()));
                self.held.untouched.set(self.ground.as_ref().map_or(0, |ground| ground.untouched()));
                // Of two copies this is the one that counts, and it is here now.
                self.agent.settle(self.id);
            }
            StandbyAction::Discard => (self.ground, self.work) = (None, None),
            // `run` does it.
            StandbyAction::Run { .. } => {}
        }
    }

    /// Is there room, and all that the task needs? Gives whether its module is here.
    fn admit(&mut self) -> Result<bool, Refusal> {
        let offer = self.standby.offer().ok_or_else(|| Refusal::new(Reason::State, "no offer"))?;
        let spec = Spec::of_offer(offer)?;
        let agent = &self.agent;
        // A copy that was put aside does not count.
        let is_here = |e: &Rc<Entry>| e.spec.id == offer.task && e.state().is_alive();
        if agent.tasks.borrow().values().any(is_here) || agent.arriving.borrow().contains_key(&offer.task) {
            return Err(Refusal::new(Reason::Epoch, "the task is there itself"));
        }
        if let Err(refusal) = agent.admits(offer, &spec) {
            // One that was put aside for a copy that runs, and is there, is in its way.
            let is_in_the_way = refusal.reason == Reason::Memory && agent.displaced.borrow().contains_key(&offer.task);
            if !is_in_the_way {
                return Err(refusal);
            }
            log!("{}: what was kept of it here makes room: {refusal}", spec.name);
            agent.settle(offer.task);
            return Err(Refusal::new(Reason::Busy, "there is room in a moment"));
        }
        let has_module = agent.programs.module(offer.digest()).is_some();
        self.spec = Some(spec);
        Ok(has_module)
    }

    fn land(&mut self, program: Result<Program>) {
        let (Some(offer), Some(spec)) = (self.standby.offer(), &self.spec) else { return };
        let landed = match program {
            Ok(program) => Ground::new(&program, offer, spec),
            Err(e) => Err(Refusal::new(Reason::Module, format!("{e:#}"))),
        };
        self.standby.handle_event(match landed {
            Ok(ground) => {
                self.ground = Some(Box::new(ground));
                StandbyEvent::Landed
            }
            Err(refusal) => StandbyEvent::Failed(refusal),
        });
    }

    /// Runs the task here.
    fn go_on(&mut self, state: &[u8], epoch: u64, handed: Option<bool>) -> Result<()> {
        let (agent, spec) = (self.agent.clone(), self.spec.take().context("there is no offer")?);
        let ground = self.ground.take().context("there is no instance")?;
        let held_for = (clock::nanos() - self.connected) / SECOND;
        let terms = Terms::decode(self.standby.terms())?;
        let terms = terms.exchanged(&agent.identity.name, &self.peer, handed, held_for);
        let mut ready = ground.ready(&spec, state, &[], true)?;
        ready.task.epoch = epoch;
        // Before anything of it runs: whoever asks hears that it is here.
        let before = agent.record(self.id);
        agent.set_record(self.id, Record::Owned { epoch });
        let entry = Entry::new(spec, epoch, ready.seat, Clients::behind(ready.marks));
        *entry.terms.borrow_mut() = Some(terms);
        if let Err(e) = agent.begin(&entry, ready.task, None) {
            entry.set_state(State::Failed { why: format!("{e:#}") });
            agent.put_back(self.id, before);
            return Err(e);
        }
        log!("{} is taken over from {}, epoch {epoch}", entry.spec.name, self.peer);
        agent.take_home(&entry);
        Ok(())
    }

    fn taken_over(&mut self, epoch: u64, result: Result<()>) -> Result<()> {
        let said = match &result {
            // The primary, if it is there, is to hear it at once.
            Ok(()) => Said::TakenOver(epoch),
            // Where it stands still to be handed over it goes on.
            Err(e) => Said::Refuse(Refusal::new(Reason::Node, format!("it cannot go on there: {e:#}"))),
        };
        self.answer(result.as_ref().map(|_| ()).map_err(|e| format!("{e:#}")));
        if let Some(link) = &mut self.link {
            link.channel.send(Kind::Transfer, &Message::Standby(said).encode())?;
        }
        result.with_context(|| format!("{} cannot be taken over", self.held.pair.borrow().name))
    }
}
