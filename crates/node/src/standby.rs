//! Is the standby of tasks that run elsewhere: drives [`Standby`], and takes over when nothing is heard of a primary.

use crate::agent::{Agent, lock};
use crate::arrive::prepare;
use crate::capacity::Need;
use crate::control::State;
use crate::ground::{Ground, land};
use crate::link::{Link, turn};
use crate::protection::{Pair, Role, Terms};
use crate::reunion::{self, Fate};
use crate::spec::Spec;
use anyhow::{Context, Result, anyhow, bail};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use wayfare_policy::Detector;
use wayfare_store::program;
use wayfare_transfer::destination::{Caps, Landing};
use wayfare_transfer::message::{Message, Part, Reason, Refusal};
use wayfare_transfer::standby::{Said, Standby, StandbyAction, StandbyEvent, StandbyPhase};
use wayfare_transfer::{Incoming, Kind, TaskId};

/// Most tasks whose standby a node is.
const MOST: usize = 64;
/// How often the detector is asked.
const LOOK: Duration = Duration::from_millis(20);
/// After a longer pause between two looks this node was asleep, or too busy to listen: it takes as long to hear what has come
/// meanwhile.
const ASLEEP: Duration = Duration::from_millis(100);
/// After so long a silence of a primary that is heard regularly, it counts as gone.
pub(crate) const SUSPECTED: Duration = Duration::from_millis(500);

/// How long a standby that is nearer is waited for, which would have to take over first; and how long until it is asked again.
const NEARER: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(1));
/// A standby that has not heard of who has taken over for so long is not wanted any more.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// A task whose standby this node is.
pub(crate) struct Held {
    /// The task's epoch at its present primary.
    epoch: AtomicU64,
    pair: Mutex<Pair>,
    /// When the last sync was complete.
    of: Mutex<Option<Instant>>,
    door: UnboundedSender<Visit>,
}

impl Held {
    /// As it is shown.
    pub(crate) fn pair(&self) -> Pair {
        let age = lock(&self.of).map(|of| of.elapsed().as_nanos() as u64);
        Pair { age, ..lock(&self.pair).clone() }
    }

    /// It could go on with the task.
    pub(crate) fn could_go_on(&self) -> bool {
        lock(&self.of).is_some()
    }

    /// Whether a node that says it is the task's primary, at an epoch, is to be believed: it is the one that is known, or has
    /// taken over from it.
    fn is_of(&self, peer: &str, terms: &Terms, epoch: u64) -> bool {
        let pair = lock(&self.pair);
        let is_in_line = |node: &str| terms.line("").any(|other| other == node);
        pair.peer == peer || (epoch > self.epoch.load(Ordering::SeqCst) && is_in_line(peer) && is_in_line(&pair.peer))
    }

    /// The primary has lost what it was doing, but for a state of so much work: goes on here from a later one, if there is one.
    pub(crate) async fn replace(&self, work: u64) -> bool {
        let (to, answer) = oneshot::channel();
        let _ = self.door.send(Visit::Replace(work, to));
        matches!(answer.await, Ok(Ok(())))
    }

    /// Has the standby take over: with all that the task has done if its primary is there.
    ///
    /// # Errors
    /// When it has nothing to go on from, or cannot.
    pub(crate) async fn take_over(&self) -> Result<()> {
        let (to, answer) = oneshot::channel();
        let _ = self.door.send(Visit::TakeOver(to));
        answer.await.context("it is no standby any more")?.map_err(|why| anyhow!(why))
    }
}

enum Visit {
    /// The primary has dialled again; or who has taken over from it.
    Attached(Box<Link>, Said, String),
    /// A person wants it to take over.
    TakeOver(oneshot::Sender<Result<(), String>>),
    /// The primary was started anew, and would go on from a state of so much work: takes over unless it is behind that.
    Replace(u64, oneshot::Sender<Result<(), String>>),
}

enum Done {
    Landed(Result<Box<Ground>, Refusal>),
    Running(Result<()>),
    Nearer(Word),
}

/// What is heard of those who are to take over rather than this node, or may have; of several words the last one counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Word {
    Nothing,
    Holds,
    HasTakenOver,
    Ended,
}

/// Is a task's standby, from the primary's offer on.
///
/// # Errors
/// When the primary breaks the protocol.
pub(crate) async fn hold(agent: Arc<Agent>, link: Link, said: Said) -> Result<()> {
    let Some(mut link) = reunion::answered(&agent, link, &said).await? else { return Ok(()) };
    let peer = link.peer().context("a stranger has a task protected")?.to_string();
    let Said::Protect { offer, terms, .. } = &said else { bail!("a message that begins nothing") };
    let terms = Terms::decode(terms)?;
    let (id, epoch) = (offer.task, offer.epoch);
    let (door, visits) = unbounded_channel();
    let held = {
        let mut all = lock(&agent.standbys);
        match all.get(&id) {
            Some(held) if held.is_of(&peer, &terms, epoch) => {
                let _ = held.door.send(Visit::Attached(Box::new(link), said, peer));
                return Ok(());
            }
            Some(held) => Err(format!("that node is its standby already, for {}", lock(&held.pair).peer)),
            None if all.len() >= MOST => Err("that node is the standby of too many tasks".into()),
            None => {
                let pair = Mutex::new(Pair::new(&terms, Role::Standby, &peer));
                let held = Arc::new(Held { epoch: AtomicU64::new(epoch), pair, of: Mutex::default(), door });
                all.insert(id, held.clone());
                Ok(held)
            }
        }
    };
    let held = match held {
        Ok(held) => held,
        Err(why) => {
            let refusal = Refusal::new(Reason::Busy, why);
            link.send(Kind::Transfer, &Message::Standby(Said::Refuse(refusal)).encode()).await?;
            link.part().await;
            return Ok(());
        }
    };
    let mut driver = Driver {
        agent: agent.clone(),
        id,
        peer,
        held,
        standby: Standby::new(Caps::default()),
        link: Some(link),
        spec: None,
        ground: None,
        detector: Detector::new(0),
        bound: Duration::ZERO,
        terms,
        passed: false,
        asking: None,
        forgotten: None,
        began: Instant::now(),
        looked: 0,
        awake: 0,
        heard: 0,
        connected: Instant::now(),
        asked: None,
        handed: false,
    };
    driver.set_patience();
    let result = driver.run(said, visits).await;
    lock(&agent.standbys).remove(&id);
    driver.discard();
    if matches!(driver.standby.phase(), StandbyPhase::Over(why) if why.reason == Reason::Cancelled) {
        agent.settle(id);
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
    agent: Arc<Agent>,
    id: TaskId,
    peer: String,
    held: Arc<Held>,
    standby: Standby,
    link: Option<Link>,
    spec: Option<Spec>,
    ground: Option<Box<Ground>>,
    detector: Detector,
    bound: Duration,
    terms: Terms,
    /// The primary has not said its offer yet: the one before has told of it.
    passed: bool,
    /// Until when nobody asks the standbys that are nearer.
    asking: Option<Instant>,
    /// Since when one of them has taken over, and has not said what this node is to do.
    forgotten: Option<Instant>,
    began: Instant,
    /// When it looked last, and since when it does so regularly.
    looked: u64,
    awake: u64,
    /// Records of the link that count as heard.
    heard: u64,
    /// Since when the link is there.
    connected: Instant,
    /// Who wants to hear that it has taken over.
    asked: Option<oneshot::Sender<Result<(), String>>>,
    /// What was promised for it is the running task's now.
    handed: bool,
}

impl Driver {
    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// The standbys that are to take over rather than this one.
    fn nearer(&self) -> Vec<String> {
        self.terms.nearer(&self.peer, &self.terms.standby).map(String::from).collect()
    }

    /// How long the primary may be silent: those that are nearer have time to be heard of.
    fn patience(&self) -> Duration {
        SUSPECTED * self.terms.patience() * (1 + self.nearer().len() as u32)
    }

    /// Another patience begins anew; else what is known of how regularly the primary is heard is kept.
    fn set_patience(&mut self) {
        let patience = self.patience();
        if std::mem::replace(&mut self.bound, patience) != patience {
            self.detector = Detector::new(patience.as_nanos() as u64);
        }
    }

    async fn run(&mut self, said: Said, mut visits: UnboundedReceiver<Visit>) -> Result<()> {
        let (done_to, mut done) = unbounded_channel();
        let mut ticks = tokio::time::interval(LOOK);
        self.say(said)?;
        loop {
            while let Some(action) = self.standby.poll_action() {
                self.act(action, &done_to);
            }
            while let Some(link) = &mut self.link
                && let Some(message) = self.standby.poll_message()
            {
                if let Err(e) = link.channel.send(Kind::Transfer, &message.encode()) {
                    self.lose(&e.into());
                }
            }
            if matches!(self.standby.phase(), StandbyPhase::Over(_)) {
                return Ok(());
            }
            let connected = self.link.is_some();
            let gone = tokio::select! {
                // What has come is heard before anybody asks how long nothing was: this loop may have been busy, or asleep.
                biased;
                turned = turn(&mut self.link), if connected => self.turned(turned).err(),
                Some(event) = done.recv() => match event {
                    Done::Running(result) => return self.taken_over(result),
                    Done::Nearer(word) => {
                        self.heard_of_nearer(word);
                        None
                    }
                    Done::Landed(Ok(ground)) => {
                        self.ground = Some(ground);
                        self.standby.handle_event(StandbyEvent::Landed);
                        None
                    }
                    Done::Landed(Err(refusal)) => {
                        self.standby.handle_event(StandbyEvent::Failed(refusal));
                        None
                    }
                },
                Some(visit) = visits.recv() => self.visited(visit).err(),
                _ = ticks.tick() => {
                    self.look(&done_to);
                    None
                }
            };
            if let Some(e) = gone {
                self.lose(&e);
            }
        }
    }

    /// Is the primary there?
    fn look(&mut self, done: &UnboundedSender<Done>) {
        let now = self.now();
        let asleep = ASLEEP.as_nanos() as u64;
        if now - std::mem::replace(&mut self.looked, now) > asleep {
            self.awake = now;
        }
        if self.standby.kept() > 0 && now - self.awake >= asleep && self.detector.suspected(now) {
            self.miss(done);
        }
        let mut pair = lock(&self.held.pair);
        pair.connected = self.link.is_some();
        pair.heard = self.detector.silence(now).filter(|_| self.link.is_some());
    }

    /// The primary is gone. Whoever is nearer is to take over, if anybody is.
    fn miss(&mut self, done: &UnboundedSender<Done>) {
        let mut first = self.nearer();
        if self.passed {
            first.push(self.peer.clone());
        }
        // After so long they may have taken over who are further away.
        let silence = self.detector.silence(self.now()).unwrap_or(u64::MAX);
        let is_late = silence > (self.patience() + SUSPECTED / 2).as_nanos() as u64;
        let further = |node: &&str| is_late && !first.iter().any(|other| other == node) && *node != self.terms.standby;
        let further: Vec<String> = self.terms.line(&self.peer).filter(further).map(String::from).collect();
        if first.is_empty() && further.is_empty() {
            return self.heard_of_nearer(Word::Nothing);
        }
        if self.asking.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.asking = Some(Instant::now() + NEARER.0 + NEARER.1);
        let (agent, id, epoch, done) =
            (self.agent.clone(), self.id, self.held.epoch.load(Ordering::SeqCst), done.clone());
        tokio::spawn(async move {
            let ask = |node: String, is_nearer: bool| {
                let agent = agent.clone();
                tokio::spawn(async move {
                    let word = tokio::time::timeout(NEARER.0, agent.word_of(id, epoch, &node)).await;
                    word.ok().filter(|word| is_nearer || *word != Word::Holds).unwrap_or(Word::Nothing)
                })
            };
            let nearer = first.into_iter().map(|node| ask(node, true));
            let asked: Vec<_> = nearer.chain(further.into_iter().map(|node| ask(node, false))).collect();
            let mut word = Word::Nothing;
            for asked in asked {
                word = word.max(asked.await.unwrap_or(Word::Nothing));
            }
            let _ = done.send(Done::Nearer(word));
        });
    }

    fn heard_of_nearer(&mut self, word: Word) {
        let (now, name) = (self.now(), lock(&self.held.pair).name.clone());
        if self.standby.is_over() || !self.detector.suspected(now) {
            return;
        }
        let forgotten = match word {
            Word::HasTakenOver => self.forgotten.get_or_insert_with(Instant::now).elapsed() > FORGOTTEN,
            Word::Ended => true,
            Word::Holds => {
                self.forgotten = None;
                false
            }
            Word::Nothing => {
                tracing::warn!(task = %name, "nothing is heard of {}: this node takes over", self.peer);
                let _ = self.standby.take_over();
                return;
            }
        };
        if forgotten {
            tracing::warn!(task = %name, "goes on elsewhere, or has ended, and nobody wants this node for its standby");
            let _ = self.standby.handle_message(Said::Dismiss, None);
        }
    }

    fn lose(&mut self, why: &anyhow::Error) {
        if self.link.take().is_some() {
            tracing::info!(task = %lock(&self.held.pair).name, "the link to {} is gone: {why:#}", self.peer);
        }
        self.standby.handle_event(StandbyEvent::Disconnected);
        // It is wanted here all the same.
        if self.asked.is_some() {
            self.take_over();
        }
    }

    /// Goes on with what is here.
    fn take_over(&mut self) {
        if let Err(refusal) = self.standby.take_over()
            && let Some(asked) = self.asked.take()
        {
            let _ = asked.send(Err(refusal.to_string()));
        }
    }

    fn visited(&mut self, visit: Visit) -> Result<()> {
        match visit {
            Visit::Attached(link, said, peer) => {
                self.link = Some(*link);
                (self.heard, self.connected) = (0, Instant::now());
                if let Said::Protect { offer, terms, .. } = &said {
                    self.terms = Terms::decode(terms)?;
                    self.held.epoch.store(offer.epoch, Ordering::SeqCst);
                }
                (self.peer, self.passed, self.forgotten) = (peer, false, None);
                {
                    let mut pair = lock(&self.held.pair);
                    *pair = Pair { sync: pair.sync, ..Pair::new(&self.terms, Role::Standby, &self.peer) };
                }
                self.set_patience();
                self.standby.reattach();
                self.say(said)
            }
            Visit::TakeOver(asked) => {
                self.asked = Some(asked);
                if self.link.is_none() || !self.standby.ask_for_it() {
                    self.take_over();
                }
                Ok(())
            }
            Visit::Replace(theirs, asked) => {
                let ours = self.standby.state().and_then(|state| reunion::work(state).ok());
                if ours.is_some_and(|ours| ours >= theirs) {
                    self.asked = Some(asked);
                    self.take_over();
                } else {
                    let _ = asked.send(Err("there is nothing newer".into()));
                }
                Ok(())
            }
        }
    }

    fn turned(&mut self, turned: Result<Option<Incoming>>) -> Result<()> {
        let message = turned?;
        if let Some(link) = &self.link {
            let records = link.channel.records();
            if records != std::mem::replace(&mut self.heard, records) {
                let now = self.now();
                self.detector.heartbeat(now);
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
            Kind::Part => Ok(self.standby.handle_part(&Part::decode(&message.payload)?)?),
            Kind::Pages => Ok(self.standby.handle_pages(message.payload)?),
            _ => bail!("a message of another kind"),
        }
    }

    fn say(&mut self, said: Said) -> Result<()> {
        let landing = self.ground.as_deref_mut().map(|ground| ground as &mut dyn Landing);
        Ok(self.standby.handle_message(said, landing)?)
    }

    fn act(&mut self, action: StandbyAction, done: &UnboundedSender<Done>) {
        match action {
            StandbyAction::Admit => {
                let event = match self.admit() {
                    Ok(has_module) => StandbyEvent::Admitted { has_module },
                    Err(refusal) => StandbyEvent::Failed(refusal),
                };
                self.standby.handle_event(event);
            }
            StandbyAction::Land(module) => {
                let (Some(offer), Some(spec)) = (self.standby.offer().cloned(), self.spec.clone()) else { return };
                let (agent, done) = (self.agent.clone(), done.clone());
                tokio::task::spawn_blocking(move || {
                    let _ = done.send(Done::Landed(land(agent, &offer, &spec, module)));
                });
            }
            StandbyAction::Kept(sync) => {
                lock(&self.held.pair).sync = sync;
                *lock(&self.held.of) = Some(Instant::now());
                // Of two copies this is the one that counts, and it is here now.
                self.agent.settle(self.id);
            }
            StandbyAction::Run { state, epoch, handed } => {
                let (Some(ground), Some(spec)) = (self.ground.take(), self.spec.clone()) else { return };
                self.handed = true;
                let (agent, done, peer) = (self.agent.clone(), done.clone(), self.peer.clone());
                let (terms, held_for) = (self.standby.terms().to_vec(), self.connected.elapsed().as_secs());
                tokio::task::spawn_blocking(move || {
                    let terms = Terms::decode(&terms)
                        .and_then(|terms| Ok(terms.exchanged(&agent.identity()?.name, &peer, handed, held_for)));
                    let gone_on = terms.and_then(|terms| go_on(&agent, *ground, &spec, &state, epoch, terms));
                    let _ = done.send(Done::Running(gone_on));
                });
            }
            StandbyAction::Passed(to) => {
                tracing::info!(task = %lock(&self.held.pair).name, "goes on at {to}");
                (self.link, self.peer, self.passed) = (None, to, true);
                lock(&self.held.pair).peer = self.peer.clone();
                self.set_patience();
                // Else nobody would miss it.
                self.detector.heartbeat(self.now());
            }
            StandbyAction::Discard => self.discard(),
        }
    }

    fn taken_over(&mut self, result: Result<()>) -> Result<()> {
        if let Err(e) = &result {
            tracing::error!(task = %lock(&self.held.pair).name, "cannot take over: {e:#}");
            self.agent.capacity.release(self.id);
            // Where it stands still to be handed over it goes on.
            if let Some(link) = &mut self.link {
                let refusal = Refusal::new(Reason::Node, format!("{e:#}"));
                link.channel.send(Kind::Transfer, &Message::Standby(Said::Refuse(refusal)).encode())?;
            }
            if let Some(asked) = self.asked.take() {
                let _ = asked.send(Err(format!("{e:#}")));
            }
            return result;
        }
        if let Some(asked) = self.asked.take() {
            let _ = asked.send(Ok(()));
        }
        // The primary, if it is there, is to hear it at once.
        if let (StandbyPhase::TakenOver(epoch), Some(link)) = (self.standby.phase(), &mut self.link) {
            link.channel.send(Kind::Transfer, &Message::Standby(Said::TakenOver(*epoch)).encode())?;
        }
        result
    }

    /// Is there room, and all that the task needs? Gives whether its module is here.
    fn admit(&mut self) -> Result<bool, Refusal> {
        let offer = self.standby.offer().ok_or_else(|| Refusal::new(Reason::State, "no offer"))?;
        self.agent.capacity.count_offer(&self.peer)?;
        let spec = Spec::of_offer(offer)?;
        if !spec.dirs.is_empty() {
            return Err(Refusal::new(Reason::Missing, "the task uses directories, which a standby has none of"));
        }
        if self.agent.name_is_taken(&spec.name, spec.id) {
            return Err(Refusal::new(Reason::Name, format!("a task named {} runs there already", spec.name)));
        }
        // A copy that was put aside does not count.
        let is_here = |e: &Arc<crate::agent::Entry>| e.spec.id == offer.task && e.state().is_alive();
        if self.agent.tasks().iter().any(is_here) {
            return Err(Refusal::new(Reason::Epoch, "the task is there itself"));
        }
        self.agent.capacity.promise(offer.task, Need { memory: offer.memory(), cpus: spec.limits.cpus })?;
        let has_module = matches!(program::kept_module(offer.digest()), Ok(Some(_)));
        self.agent.capacity.refund_offer(&self.peer);
        self.spec = Some(spec);
        Ok(has_module)
    }

    fn discard(&mut self) {
        self.ground = None;
        if self.spec.take().is_some() && !self.handed {
            self.agent.capacity.release(self.id);
        }
    }
}

impl Agent {
    /// What another standby of a task says, which is nearer to it.
    async fn word_of(&self, task: TaskId, epoch: u64, standby: &str) -> Word {
        match self.ask_standby(task, epoch, u64::MAX, standby).await {
            Ok(Fate::None { stands_by: true }) => Word::Holds,
            Ok(Fate::Counts(_)) => Word::HasTakenOver,
            Ok(Fate::Ended) => Word::Ended,
            Ok(Fate::None { stands_by: false } | Fate::Yields(_)) | Err(_) => Word::Nothing,
        }
    }
}

/// Runs the task here. It gets a standby as soon as it can have one.
fn go_on(agent: &Arc<Agent>, ground: Ground, spec: &Spec, state: &[u8], epoch: u64, terms: Terms) -> Result<()> {
    let ready = prepare(agent, ground, spec, state, &[], None, true)?;
    // Before anything of it runs: whoever asks hears that it is here.
    let before = agent.db.expect_task(spec, epoch)?;
    let (mut task, sockets) = (ready.task, ready.sockets);
    task.set_epoch(epoch);
    let entry = agent.adopt(spec.clone(), epoch);
    if let Err(e) = agent.run(&entry, task, sockets) {
        entry.set_state(State::Failed { why: format!("{e:#}") });
        agent.db.put_back(spec.id, before)?;
        return Err(e);
    }
    tracing::info!(task = %spec.name, epoch, "has taken over");
    agent.save_soon(&entry);
    agent.keep_protected(&entry, terms);
    Ok(())
}
