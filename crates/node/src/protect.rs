//! Keeps a task's standby up to date: drives [`Primary`], and asks the policy when.

use crate::agent::{Agent, Entry, lock};
use crate::control::{Pair, Protect, Role, State};
use crate::copier::Copier;
use crate::depart::offer;
use crate::ingress::KEEP;
use crate::link::{Link, turn};
use crate::service::marks;
use crate::spec::Spec;
use crate::task::{Still, Verdict};
use crate::watched::Watched;
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedMutexGuard, watch};
use wayfare_cluster::envelope::Envelope;
use wayfare_policy::{Bounds, Costs, Decision, LinkSample, Policy, Settings, Synchroniser};
use wayfare_transfer::journal::Record;
use wayfare_transfer::message::{Message, Mode};
use wayfare_transfer::standby::{Primary, PrimaryAction, PrimaryEvent, PrimaryPhase, Said, Synced};
use wayfare_transfer::{Incoming, Kind};

/// What syncs are worth: one stops the task for about a millisecond, and its bytes are in the way of others. (A minute, as the
/// thesis weighs them, is what they cost there.)
const COSTS: Costs = Costs { per_sync: 1.0, per_byte: 1e-8, slowdown: 1.0 };
/// Between two signs of life.
const BEAT: Duration = Duration::from_millis(100);
/// A link on which nothing is heard for so long is given up, and dialled anew.
const SILENCE: Duration = Duration::from_secs(5);
/// Between two attempts to reach the standby: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// A task that has not run for so long waits for something.
const IDLE: Duration = Duration::from_secs(1);
/// Bytes that may wait to go out.
const BACKLOG: usize = 256 << 10;
/// How much of the end of its log goes along with a task.
const LOG: u64 = 256 << 10;
/// How long a move of the task is waited for.
const MOVING: Duration = Duration::from_secs(30);
/// How long a node that was away waits for the word whether its task's standby has taken over.
const ASKING: Duration = Duration::from_secs(3);
/// A sync of fewer bytes says nothing about the link's bandwidth.
const TELLING: u64 = 64 << 10;

/// A task of this node that has a standby.
pub(crate) struct Protection {
    pair: Mutex<Pair>,
    /// When the task was as the standby has it.
    of: Mutex<Option<Instant>>,
    /// Nobody is to keep it up to date any more.
    dismissed: watch::Sender<Option<Leave>>,
    /// Nobody keeps it up to date any more.
    over: watch::Sender<bool>,
}

/// How a standby is left.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leave {
    /// It is to be none any more.
    Dismissed,
    /// This node ends, and says nothing: the standby takes over.
    Alone,
}

impl Protection {
    async fn leave(&self, how: Leave) {
        let mut over = self.over.subscribe();
        self.dismissed.send_replace(Some(how));
        let _ = over.wait_for(|over| *over).await;
    }

    /// As it is shown.
    pub(crate) fn pair(&self) -> Pair {
        let age = lock(&self.of).map(|of| of.elapsed().as_nanos() as u64);
        Pair { age, ..lock(&self.pair).clone() }
    }
}

impl Agent {
    /// Gives a task a standby.
    ///
    /// # Errors
    /// When it cannot have one there; it runs on without.
    pub(crate) async fn protect(self: &Arc<Self>, order: Protect) -> Result<()> {
        let policy: Policy = order.policy.parse().map_err(|e| anyhow!("--policy {}: {e}", order.policy))?;
        let entry = self.task(&order.name)?;
        let me = self.identity()?.name;
        ensure!(order.standby != me, "{} runs on {me}: its standby must be another node", order.name);
        ensure!(entry.spec.dirs.is_empty(), "{} uses directories of its host, which a standby has none of", order.name);
        self.is_unprotected(&order.name)?;
        // One that has just come is on its way to the disk here.
        let moving = tokio::time::timeout(MOVING, entry.moving.clone().lock_owned()).await;
        let moving = moving.map_err(|_| anyhow!("{} is being moved", order.name))?;
        let live = entry.live()?;
        let link = self.dial(&order.standby).await?;
        let memory = Watched::new(live.watch()?);
        let id = entry.spec.id;
        let (offer, module) = offer(&entry, entry.epoch.load(Ordering::SeqCst), Mode::Stop, Vec::new())?;
        let protection = Arc::new(Protection {
            pair: Mutex::new(Pair::new(&order.name, Role::Primary, &order.standby)),
            of: Mutex::default(),
            dismissed: watch::Sender::new(None),
            over: watch::Sender::new(false),
        });
        {
            let mut all = lock(&self.protections);
            ensure!(!all.contains_key(&order.name), "{} is being given a standby already", order.name);
            self.db.put_protection(id, &order)?;
            all.insert(order.name.clone(), protection.clone());
        }
        // States that are written from here on are such as a standby can go on from.
        if let Err(e) = set_keeping(self, &entry, true).await {
            lock(&self.protections).remove(&order.name);
            self.db.remove_protection(id)?;
            return Err(e.context(format!("{}, which has its clients", entry.spec.origin)));
        }
        let bounds = Bounds { max_loss: order.max_loss, ..Bounds::default() };
        let settings = Settings { costs: COSTS, bounds, ..Settings::default() };
        let (first_to, first) = tokio::sync::oneshot::channel();
        let driver = Driver {
            agent: self.clone(),
            entry,
            protection,
            primary: Primary::new(offer, module),
            memory,
            policy: Synchroniser::new(policy, settings, 0),
            link: Some(link),
            still: None,
            began: Instant::now(),
            ran: (Duration::ZERO, Instant::now()),
            marks: Vec::new(),
            is_forgetful: false,
            first: Some(first_to),
            _moving: moving,
        };
        tokio::spawn(driver.run());
        // The first sync says whether it can be done at all.
        first.await.context("the agent has ended it")?.map_err(|why| anyhow!(why))
    }

    /// Takes a task's standby away.
    ///
    /// # Errors
    /// When it has none.
    pub(crate) async fn unprotect(&self, name: &str) -> Result<()> {
        let found = lock(&self.protections).get(name).cloned();
        let protection =
            found.with_context(|| format!("{name} has no standby: `wayfare protected` lists those that have one"))?;
        protection.leave(Leave::Dismissed).await;
        Ok(())
    }

    /// The agent ends: standbys are left alone.
    pub(crate) async fn leave_standbys(&self) {
        let all: Vec<Arc<Protection>> = lock(&self.protections).values().cloned().collect();
        for protection in all {
            protection.leave(Leave::Alone).await;
        }
    }

    /// What cannot be done to a task with a standby is refused.
    ///
    /// # Errors
    /// When it has one.
    pub(crate) fn is_unprotected(&self, name: &str) -> Result<()> {
        match lock(&self.protections).get(name) {
            Some(protection) => {
                bail!(
                    "{name} has a standby on {}: take it away first (`wayfare unprotect {name}`)",
                    protection.pair().peer
                )
            }
            None => Ok(()),
        }
    }

    /// A task that had a standby, of a node that was away: it goes on here, unless it does there.
    pub(crate) async fn come_back(self: Arc<Self>, spec: Spec, epoch: u64, order: Protect) {
        let asked = tokio::time::timeout(ASKING, self.ask_standby(&spec, epoch, &order.standby)).await;
        if let Ok(Ok(Some(epoch))) = asked {
            tracing::warn!(task = %spec.name, "{} has taken over while this node was away", order.standby);
            let left = self.db.set_record(spec.id, &Record::Left { epoch, to: order.standby.clone() });
            if let Err(e) = left.and_then(|()| self.db.remove_protection(spec.id)) {
                tracing::error!(task = %spec.name, "cannot be written down: {e:#}");
            }
            let _ = std::fs::remove_file(self.dirs.checkpoint(spec.id));
            return self.remember(Entry::new(spec, State::Left { to: order.standby, saved: true }, epoch));
        }
        let name = spec.name.clone();
        self.revive(spec, epoch);
        while let Ok(entry) = self.task(&name)
            && entry.state().is_alive()
        {
            match self.protect(order.clone()).await {
                Ok(()) => return,
                Err(e) => tracing::debug!(task = %name, "has no standby yet: {e:#}"),
            }
            tokio::time::sleep(PAUSES.1).await;
        }
    }

    /// Whether a task's standby has taken over: at which epoch.
    async fn ask_standby(&self, spec: &Spec, epoch: u64, standby: &str) -> Result<Option<u64>> {
        let mut link = self.dial(standby).await?;
        let question = Said::Ask { task: spec.id, epoch };
        link.send(Kind::Transfer, &Message::Standby(question).encode()).await?;
        match Message::decode(&link.expect(Kind::Transfer).await?)? {
            Message::Standby(Said::TakenOver(epoch)) => Ok(Some(epoch)),
            Message::Standby(Said::NotTakenOver) => Ok(None),
            _ => bail!("it answered something else"),
        }
    }
}

enum Done {
    Frozen(Result<Still>),
    Dialled(Box<Link>),
}

struct Driver {
    agent: Arc<Agent>,
    entry: Arc<Entry>,
    protection: Arc<Protection>,
    primary: Primary,
    memory: Watched,
    policy: Synchroniser,
    link: Option<Link>,
    still: Option<Still>,
    began: Instant,
    /// How long the task had run, and since when that is so.
    ran: (Duration, Instant),
    /// Marks of its streams in the state that is under way.
    marks: Vec<Vec<u8>>,
    /// What its clients say is not kept any more: the standby has been away for too long.
    is_forgetful: bool,
    /// Who waits for the first sync.
    first: Option<tokio::sync::oneshot::Sender<Result<(), String>>>,
    /// It cannot be moved meanwhile: its memory has one watcher.
    _moving: OwnedMutexGuard<()>,
}

impl Driver {
    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    async fn run(mut self) {
        let (done_to, done) = unbounded_channel();
        let why = self.drive(&done_to, done).await;
        let name = self.entry.spec.name.clone();
        if let Some(first) = self.first.take() {
            let _ = first.send(Err(why.clone()));
        } else {
            tracing::info!(task = %name, "has no standby any more: {why}");
        }
        let alone = *self.protection.dismissed.borrow() == Some(Leave::Alone);
        if !alone && let Err(e) = self.agent.db.remove_protection(self.entry.spec.id) {
            tracing::error!(task = %name, "that it has no standby cannot be written down: {e:#}");
        }
        lock(&self.agent.protections).retain(|_, other| !Arc::ptr_eq(other, &self.protection));
        if let Some(mut link) = self.link.take().filter(|_| !alone) {
            let mut out = Vec::new();
            while let Some(kind) = self.primary.poll_message(&mut self.memory, &mut out) {
                if link.channel.send(kind, &out).is_err() {
                    break;
                }
            }
            link.close().await;
        }
        if let PrimaryPhase::TakenOver(epoch) = *self.primary.phase() {
            self.give_up(epoch).await;
        } else if !alone && let Err(e) = set_keeping(&self.agent, &self.entry, false).await {
            tracing::debug!(task = %name, "its clients' words are kept on: {e:#}");
        }
        self.protection.over.send_replace(true);
    }

    /// Until there is nothing to keep up to date any more: why.
    async fn drive(&mut self, done_to: &UnboundedSender<Done>, mut done: UnboundedReceiver<Done>) -> String {
        let mut dismissed = self.protection.dismissed.subscribe();
        let mut ticks = tokio::time::interval(BEAT);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut copier, mut out) = (Copier::default(), Vec::new());
        loop {
            while let Some(action) = self.primary.poll_action() {
                self.act(action, done_to);
            }
            match self.primary.phase() {
                PrimaryPhase::Over(why) => return why.to_string(),
                PrimaryPhase::TakenOver(_) => return format!("{} has taken over", lock(&self.protection.pair).peer),
                // The task waits: nothing is more urgent.
                PrimaryPhase::Freezing => self.send(&mut out),
                _ => copier.run(|| self.send(&mut out)),
            }
            let can_copy = self.link.is_some() && self.primary.can_copy();
            tokio::select! {
                turned = turn(&mut self.link) => self.turned(turned, done_to),
                Some(event) = done.recv() => self.done(event),
                _ = ticks.tick() => self.tick(done_to),
                _ = dismissed.changed() => {
                    // What stands still is let go.
                    self.still = None;
                    self.primary.handle_event(PrimaryEvent::Dismissed);
                }
                () = self.entry.changed.notified() => {}
                () = tokio::task::yield_now(), if can_copy => copier.run(|| self.primary.copy(&mut self.memory)),
            }
            if !self.entry.state().is_alive() {
                self.primary.handle_event(PrimaryEvent::Dismissed);
            }
        }
    }

    /// Gives the link as much as it has room for.
    fn send(&mut self, out: &mut Vec<u8>) {
        let Some(link) = &mut self.link else { return };
        while link.channel.backlog() < BACKLOG {
            let Some(kind) = self.primary.poll_message(&mut self.memory, out) else { break };
            if let Err(e) = link.channel.send(kind, out) {
                tracing::warn!("{e}");
                break;
            }
            link.push();
        }
    }

    fn act(&mut self, action: PrimaryAction, done: &UnboundedSender<Done>) {
        match action {
            PrimaryAction::Freeze => {
                let (entry, agent, done) = (self.entry.clone(), self.agent.clone(), done.clone());
                tokio::spawn(async move {
                    let log = std::fs::metadata(agent.dirs.log(entry.spec.id)).map_or(0, |m| m.len());
                    let frozen = match entry.live() {
                        Ok(live) => live.freeze(log.saturating_sub(LOG)).await,
                        Err(e) => Err(e),
                    };
                    let _ = done.send(Done::Frozen(frozen));
                });
            }
            PrimaryAction::Thaw => {
                if let Some(still) = self.still.take() {
                    let pause = still.since.elapsed();
                    let _ = still.verdict.send(Verdict::Thaw(None));
                    lock(&self.protection.pair).pause = Some(pause.as_nanos() as u64);
                }
            }
            PrimaryAction::Synced(synced) => self.synced(&synced),
        }
    }

    fn synced(&mut self, synced: &Synced) {
        let now = self.now();
        let took = now.saturating_sub(synced.began).max(1);
        self.policy.handle_sync_finished(now, synced.bytes);
        if synced.bytes >= TELLING {
            let bandwidth = (synced.bytes as f64 / took as f64 * 1e9) as u64;
            self.policy.handle_link_sample(now, LinkSample { bandwidth: Some(bandwidth), delay: None });
        }
        tracing::debug!(task = %self.entry.spec.name, ?synced, "synced");
        *lock(&self.protection.of) = Some(self.began + Duration::from_nanos(synced.of));
        {
            let mut pair = lock(&self.protection.pair);
            pair.sync = synced.sync;
            pair.bytes = synced.bytes;
            pair.all_bytes += synced.bytes;
            pair.took = Some(took);
        }
        if !self.marks.is_empty() {
            let (agent, entry, marks) = (self.agent.clone(), self.entry.clone(), std::mem::take(&mut self.marks));
            tokio::spawn(async move {
                // Said again with the next one.
                match agent.keep(&entry, marks.clone()).await {
                    Ok(()) => entry.sockets().iter().for_each(|sockets| sockets.released(&marks)),
                    Err(e) => tracing::debug!(task = %entry.spec.name, "its clients' words are kept on: {e:#}"),
                }
            });
        }
        if let Some(first) = self.first.take() {
            let _ = first.send(Ok(()));
        }
    }

    fn turned(&mut self, turned: Result<Option<Incoming>>, done: &UnboundedSender<Done>) {
        let now = self.now();
        let handled = turned.and_then(|message| {
            let Some(message) = message else { return Ok(()) };
            ensure!(message.kind == Kind::Transfer, "a message of another kind");
            self.policy.handle_heartbeat(now);
            match Message::decode(&message.payload)? {
                Message::Standby(Said::Echo(at)) => {
                    let delay = Some(now.saturating_sub(at) / 2);
                    self.policy.handle_link_sample(now, LinkSample { bandwidth: None, delay });
                }
                Message::Standby(said) => self.primary.handle_message(said)?,
                _ => bail!("a message out of place"),
            }
            Ok(())
        });
        if let Err(e) = handled {
            self.lost(&e, done);
        }
    }

    fn lost(&mut self, why: &anyhow::Error, done: &UnboundedSender<Done>) {
        if self.link.take().is_none() {
            return;
        }
        tracing::warn!(task = %self.entry.spec.name, "the standby is not to be reached: {why:#}");
        let now = self.now();
        self.policy.handle_outage_began(now);
        self.primary.handle_event(PrimaryEvent::Disconnected);
        if let Some(first) = self.first.take() {
            let _ = first.send(Err(format!("{why:#}")));
            self.primary.handle_event(PrimaryEvent::Dismissed);
        }
        self.dial(done);
    }

    /// Dials until somebody is there.
    fn dial(&self, done: &UnboundedSender<Done>) {
        let (agent, to, done) = (self.agent.clone(), lock(&self.protection.pair).peer.clone(), done.clone());
        let mut pause = PAUSES.0;
        tokio::spawn(async move {
            while !done.is_closed() {
                match agent.dial(&to).await {
                    Ok(link) => return drop(done.send(Done::Dialled(Box::new(link)))),
                    Err(e) => tracing::debug!("{to} is not there: {e:#}"),
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        });
    }

    fn done(&mut self, event: Done) {
        match event {
            Done::Frozen(Ok(mut still)) => {
                let state = std::mem::take(&mut still.state);
                if !self.entry.spec.publish.is_empty() {
                    self.marks = Envelope::decode(&state).and_then(|e| marks(&e.sockets)).unwrap_or_default();
                }
                self.still = Some(still);
                self.entry.sockets().iter().for_each(|sockets| sockets.forget_spoken());
                let now = self.now();
                self.primary.frozen(now, state, &mut self.memory);
            }
            Done::Frozen(Err(e)) => {
                let reason = wayfare_transfer::Reason::Unmovable;
                let refusal = wayfare_transfer::Refusal::new(reason, format!("{e:#}"));
                self.primary.handle_event(PrimaryEvent::NotFrozen(refusal));
            }
            Done::Dialled(link) => {
                self.link = Some(*link);
                let now = self.now();
                if std::mem::take(&mut self.is_forgetful) {
                    self.set_keeping(true);
                }
                self.policy.handle_outage_ended(now);
                self.primary.reattach();
            }
        }
    }

    fn tick(&mut self, done: &UnboundedSender<Done>) {
        let now = self.now();
        if self.link.as_mut().is_some_and(|link| link.silence() > SILENCE) {
            self.lost(&anyhow!("nothing is heard"), done);
        }
        if let Some(link) = &mut self.link {
            // What is said of the link is said by what cannot be sent as well.
            let _ = link.channel.send(Kind::Transfer, &Message::Standby(Said::Beat(now)).encode());
        }
        if let Ok(live) = self.entry.live() {
            let ran = live.ran();
            if ran > self.ran.0 {
                self.ran = (ran, Instant::now());
            }
            self.policy.handle_progress(now, ran.as_nanos() as u64);
            self.policy.handle_idle(now, self.ran.1.elapsed() > IDLE);
        }
        let Decision { action, reason } = self.policy.decide(now);
        let first = self.primary.kept() == 0;
        // Its clients would have to wait.
        let full = self.entry.sockets().is_some_and(|sockets| sockets.spoken() > KEEP as u64 / 2);
        if full && self.link.is_none() && !std::mem::replace(&mut self.is_forgetful, true) {
            tracing::warn!(task = %self.entry.spec.name, "the standby is away for too long: its clients would be reset there");
            self.set_keeping(false);
        }
        if (first || full || action == wayfare_policy::Action::Sync) && self.primary.begin(now) {
            self.policy.handle_sync_started(now);
        }
        let view = self.policy.view();
        let mut pair = lock(&self.protection.pair);
        pair.reason = reason.to_string();
        pair.interval = view.interval;
        pair.loss = view.risk;
        pair.connected = self.link.is_some();
    }

    /// Has what its clients say kept for the standby, or not any more.
    fn set_keeping(&self, keeping: bool) {
        let (agent, entry) = (self.agent.clone(), self.entry.clone());
        tokio::spawn(async move {
            if let Err(e) = set_keeping(&agent, &entry, keeping).await {
                tracing::warn!(task = %entry.spec.name, "the node that has its clients cannot be told: {e:#}");
            }
        });
    }

    /// The standby has taken over: what is here is of no use any more.
    async fn give_up(&self, epoch: u64) {
        let (entry, to) = (&self.entry, lock(&self.protection.pair).peer.clone());
        tracing::warn!(task = %entry.spec.name, "{to} has taken over, and has served since: what is here is dropped");
        let Ok(live) = entry.live() else { return };
        let log = std::fs::metadata(self.agent.dirs.log(entry.spec.id)).map_or(0, |m| m.len());
        let Ok(still) = live.freeze(log).await else { return };
        if let Err(e) = self.agent.db.set_record(entry.spec.id, &Record::Left { epoch, to: to.clone() }) {
            tracing::error!(task = %entry.spec.name, "cannot be written down: {e:#}");
        }
        entry.set_state(State::Left { to, saved: true });
        let _ = still.verdict.send(Verdict::Drop);
        self.agent.capacity.release(entry.spec.id);
    }
}

/// Whether what a task's clients say is kept for its standby.
async fn set_keeping(agent: &Agent, entry: &Entry, keeping: bool) -> Result<()> {
    let Some(sockets) = entry.sockets().filter(|_| !entry.spec.publish.is_empty()) else { return Ok(()) };
    sockets.keep(keeping);
    sockets.forget_spoken();
    let told = if keeping { agent.keep(entry, Vec::new()).await } else { agent.keep_nothing(entry).await };
    told.inspect_err(|_| sockets.keep(false))
}
