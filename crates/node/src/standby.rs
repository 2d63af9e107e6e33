//! Is the standby of tasks that run elsewhere: drives [`Standby`], and takes over when nothing is heard of a primary.

use crate::agent::{Agent, lock};
use crate::arrive::prepare;
use crate::capacity::Need;
use crate::control::{Pair, Role, State};
use crate::ground::{Ground, land};
use crate::link::{Link, turn};
use crate::spec::Spec;
use anyhow::{Context, Result, anyhow, bail};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use wayfare_policy::Detector;
use wayfare_store::program;
use wayfare_transfer::destination::{Caps, Landing};
use wayfare_transfer::journal::Record;
use wayfare_transfer::message::{Message, Part, Reason, Refusal};
use wayfare_transfer::standby::{Said, Standby, StandbyAction, StandbyEvent, StandbyPhase, takeover};
use wayfare_transfer::{Incoming, Kind, TaskId};

/// Most tasks whose standby a node is.
const MOST: usize = 64;
/// How often the detector is asked.
const LOOK: Duration = Duration::from_millis(20);
/// After so long a silence of a primary that is heard regularly, it counts as gone.
const SILENCE: Duration = Duration::from_millis(500);

/// A task whose standby this node is.
pub(crate) struct Held {
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
}

enum Visit {
    /// The primary has dialled again.
    Attached(Box<Link>, Said),
    /// A person wants it to take over.
    TakeOver(oneshot::Sender<Result<(), String>>),
}

enum Done {
    Landed(Result<Box<Ground>, Refusal>),
    Running(Result<()>),
}

impl Agent {
    /// Has the standby of a task take over, here.
    ///
    /// # Errors
    /// When there is none here, or it has nothing to go on from.
    pub(crate) async fn fail_over(&self, name: &str) -> Result<()> {
        let held = lock(&self.standbys).values().find(|held| lock(&held.pair).name == name).cloned();
        let held = held.with_context(|| format!("this node is no standby of {name}"))?;
        let (to, answer) = oneshot::channel();
        let _ = held.door.send(Visit::TakeOver(to));
        answer.await.context("it is no standby any more")?.map_err(|why| anyhow!(why))
    }

    /// The epoch at which a task has been here, if that is later than this one.
    fn later(&self, task: TaskId, epoch: u64) -> Result<Option<u64>> {
        let record = self.db.record(task)?.map(|record| record.epoch());
        Ok(record.filter(|here| *here >= takeover(epoch)))
    }
}

/// Is a task's standby, from the primary's offer on.
///
/// # Errors
/// When the primary breaks the protocol.
pub(crate) async fn hold(agent: Arc<Agent>, mut link: Link, said: Said) -> Result<()> {
    let peer = link.peer().context("a stranger has a task protected")?.to_string();
    let (task, epoch) = match &said {
        Said::Protect(offer) => (offer.task, offer.epoch),
        Said::Ask { task, epoch } => (*task, *epoch),
        _ => bail!("a message that begins nothing"),
    };
    // It has taken over before, and the primary has been away.
    let answer = match (agent.later(task, epoch)?, &said) {
        (Some(epoch), _) => Some(Said::TakenOver(epoch)),
        (None, Said::Ask { .. }) => Some(Said::NotTakenOver),
        (None, _) => None,
    };
    if let Some(answer) = answer {
        link.send(Kind::Transfer, &Message::Standby(answer).encode()).await?;
        link.part().await;
        return Ok(());
    }
    let Said::Protect(offer) = &said else { bail!("a message that begins nothing") };
    let (id, name) = (offer.task, offer.name.clone());
    let (door, visits) = unbounded_channel();
    let held = {
        let mut all = lock(&agent.standbys);
        match all.get(&id) {
            Some(held) if lock(&held.pair).peer == peer => {
                let _ = held.door.send(Visit::Attached(Box::new(link), said));
                return Ok(());
            }
            Some(held) => Err(format!("that node is its standby already, for {}", lock(&held.pair).peer)),
            None if all.len() >= MOST => Err("that node is the standby of too many tasks".into()),
            None => {
                let pair = Mutex::new(Pair::new(&name, Role::Standby, &peer));
                let held = Arc::new(Held { pair, of: Mutex::default(), door });
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
        detector: Detector::new(SILENCE.as_nanos() as u64),
        began: Instant::now(),
        heard: 0,
        asked: None,
        handed: false,
    };
    let result = driver.run(said, visits).await;
    lock(&agent.standbys).remove(&id);
    driver.discard();
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
    began: Instant,
    /// Records of the link that count as heard.
    heard: u64,
    /// Who wants to hear that it has taken over.
    asked: Option<oneshot::Sender<Result<(), String>>>,
    /// What was promised for it is the running task's now.
    handed: bool,
}

impl Driver {
    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
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
                turned = turn(&mut self.link), if connected => self.turned(turned).err(),
                Some(event) = done.recv() => match event {
                    Done::Running(result) => return self.taken_over(result),
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
                    self.look();
                    None
                }
            };
            if let Some(e) = gone {
                self.lose(&e);
            }
        }
    }

    /// Is the primary there?
    fn look(&mut self) {
        let now = self.now();
        if self.standby.kept() > 0 && self.detector.suspected(now) {
            tracing::warn!(task = %lock(&self.held.pair).name, "nothing is heard of {}: this node takes over", self.peer);
            let _ = self.standby.take_over();
        }
        let mut pair = lock(&self.held.pair);
        pair.connected = self.link.is_some();
    }

    fn lose(&mut self, why: &anyhow::Error) {
        if self.link.take().is_some() {
            tracing::info!(task = %lock(&self.held.pair).name, "the link to {} is gone: {why:#}", self.peer);
        }
        self.standby.handle_event(StandbyEvent::Disconnected);
    }

    fn visited(&mut self, visit: Visit) -> Result<()> {
        match visit {
            Visit::Attached(link, said) => {
                self.link = Some(*link);
                self.heard = 0;
                self.standby.reattach();
                self.say(said)
            }
            Visit::TakeOver(asked) => {
                match self.standby.take_over() {
                    Ok(_) => self.asked = Some(asked),
                    Err(refusal) => _ = asked.send(Err(refusal.to_string())),
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
                Message::Standby(Said::Beat(at)) => {
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
            }
            StandbyAction::Run { state, epoch } => {
                let (Some(ground), Some(spec)) = (self.ground.take(), self.spec.clone()) else { return };
                self.handed = true;
                let (agent, done) = (self.agent.clone(), done.clone());
                tokio::task::spawn_blocking(move || {
                    let _ = done.send(Done::Running(go_on(&agent, *ground, &spec, &state, epoch)));
                });
            }
            StandbyAction::Discard => self.discard(),
        }
    }

    fn taken_over(&mut self, result: Result<()>) -> Result<()> {
        if let Err(e) = &result {
            tracing::error!(task = %lock(&self.held.pair).name, "cannot take over: {e:#}");
            self.agent.capacity.release(self.id);
        }
        if let Some(asked) = self.asked.take() {
            let _ = asked.send(result.as_ref().map_err(|e| format!("{e:#}")).copied());
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
        let is_here = |e: &Arc<crate::agent::Entry>| e.spec.id == offer.task && e.state().holds_name();
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

/// Runs the task here.
fn go_on(agent: &Arc<Agent>, ground: Ground, spec: &Spec, state: &[u8], epoch: u64) -> Result<()> {
    let ready = prepare(agent, ground, spec, state, &[], None, true)?;
    // Before anything of it runs: whoever asks hears that it is here.
    agent.db.put_task(spec, &Record::Owned { epoch })?;
    let (mut task, sockets) = (ready.task, ready.sockets);
    task.set_epoch(epoch);
    let entry = agent.adopt(spec.clone(), epoch);
    if let Err(e) = agent.run(&entry, task, sockets) {
        entry.set_state(State::Failed { why: format!("{e:#}") });
        return Err(e);
    }
    tracing::info!(task = %spec.name, epoch, "has taken over");
    let agent = agent.clone();
    tokio::runtime::Handle::current().spawn(async move {
        if let Err(e) = agent.save(&entry, true).await
            && entry.state().is_alive()
        {
            tracing::warn!(task = %entry.spec.name, "cannot be saved here yet: {e:#}");
        }
    });
    Ok(())
}
