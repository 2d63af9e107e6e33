//! Keeps a task's standby up to date: drives [`Primary`], and asks the policy when.

use crate::agent::{Agent, Entry, lock};
use crate::control::State;
use crate::copier::Copier;
use crate::ingress::KEEP;
use crate::link::{Link, turn};
use crate::protect::{Hand, Leave, Protection};
use crate::service::marks;
use crate::shared::Shared;
use crate::standby::SUSPECTED;
use crate::task::{Still, Verdict};
use crate::watched::Watched;
use anyhow::{Result, anyhow, bail, ensure};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use wayfare_cluster::envelope::Envelope;
use wayfare_policy::{Bounds, Costs, Decision, LinkSample, Policy, Settings, Synchroniser};
use wayfare_transfer::journal::Record;
use wayfare_transfer::message::{Message, Reason, Refusal};
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
/// So little processor time, so soon after it stood still, it has for that.
const STIR: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));
/// Bytes that may wait to go out.
const BACKLOG: usize = 256 << 10;
/// How much of the end of its log goes along with a task.
const LOG: u64 = 256 << 10;
/// A sync of fewer bytes says nothing about the link's bandwidth.
const TELLING: u64 = 64 << 10;
/// Bytes of a probe of the bandwidth, and how often there is one at most while no sync tells it.
const PROBE: usize = 32 << 10;
const PROBES: Duration = Duration::from_secs(2);
/// Of the link's time, probes take no more than one part in so many.
const PROBE_SHARE: u32 = 100;
/// Less than this cannot be told from none.
const QUICK: u64 = 50_000;
/// How long a task waits before it goes home, once the link is there again; longer where that flaps.
const HOMEWARD: Duration = Duration::from_secs(10);

enum Done {
    Frozen(Result<Still>),
    Dialled(Box<Link>),
}

/// See the module.
pub(crate) struct Driver {
    agent: Arc<Agent>,
    entry: Arc<Entry>,
    protection: Arc<Protection>,
    primary: Primary,
    shared: Arc<Shared>,
    memory: Watched,
    policy: Synchroniser,
    link: Option<Link>,
    still: Option<Still>,
    began: Instant,
    /// Processor time that the task has had, and since when that is so; how far it is, but for times at which it waited.
    busy: (Duration, Instant),
    progress: Duration,
    ticked: Instant,
    /// Marks of its streams in the state that is under way, and when it was written.
    marks: Option<(Instant, Vec<Vec<u8>>)>,
    /// Bytes that the task had heard and said by then.
    spoken: u64,
    /// What its clients say is not kept any more: the standby has been away for too long.
    is_forgetful: bool,
    /// Who waits for the first sync.
    first: Option<oneshot::Sender<Result<(), String>>>,
    /// Who waits for the task to be handed over.
    hands: Vec<oneshot::Sender<Result<(), String>>>,
    /// Since when the link is there, and for how many seconds it was before it broke last.
    connected: Instant,
    held_for: u64,
    /// The number of the probe whose echo is awaited, and when the last echo came.
    probe: Option<u64>,
    echoed: u64,
    /// When the bandwidth is to be asked for next, if no sync tells it before.
    probe_at: Instant,
    /// Terms stay written down if the first sync fails: it is tried again.
    keeps_terms: bool,
}

impl Driver {
    /// Of a task whose standby is to be asked by this link; and what will say whether there is a first sync.
    pub(crate) fn new(
        agent: Arc<Agent>,
        entry: Arc<Entry>,
        protection: Arc<Protection>,
        primary: Primary,
        shared: Arc<Shared>,
        policy: Policy,
        link: Link,
    ) -> (Self, oneshot::Receiver<Result<(), String>>) {
        let (first_to, first) = oneshot::channel();
        let bounds = Bounds { max_loss: protection.terms.order.max_loss, ..Bounds::default() };
        let settings = Settings { costs: COSTS, bounds, ..Settings::default() };
        let spoken = entry.sockets().map_or(0, |sockets| sockets.spoken());
        shared.begin(&protection.terms.standby);
        let driver = Self {
            agent,
            entry,
            protection,
            primary,
            memory: shared.memory(),
            shared,
            policy: Synchroniser::new(policy, settings, 0),
            link: Some(link),
            still: None,
            began: Instant::now(),
            busy: (Duration::ZERO, Instant::now()),
            progress: Duration::ZERO,
            ticked: Instant::now(),
            marks: None,
            spoken,
            is_forgetful: false,
            first: Some(first_to),
            hands: Vec::new(),
            connected: Instant::now(),
            held_for: 0,
            probe: None,
            echoed: 0,
            probe_at: Instant::now(),
            keeps_terms: false,
        };
        (driver, first)
    }

    /// Whether somebody tries again if the first sync fails.
    pub(crate) fn keeps_terms(self, keeps_terms: bool) -> Self {
        Self { keeps_terms, ..self }
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Keeps the standby up to date until there is nothing to keep up to date any more.
    pub(crate) async fn run(mut self, hands: UnboundedReceiver<Hand>) {
        let (done_to, done) = unbounded_channel();
        let why = self.drive(&done_to, done, hands).await;
        let name = self.entry.spec.name.clone();
        let replaced = matches!(self.primary.phase(), PrimaryPhase::TakenOver(_) | PrimaryPhase::Yielded(_));
        let answer = if replaced { Ok(()) } else { Err(why.clone()) };
        self.hands.drain(..).for_each(|hand| _ = hand.send(answer.clone()));
        let was_tried = match self.first.take() {
            Some(first) => first.send(Err(why)).is_ok() && self.keeps_terms,
            None => {
                tracing::info!(task = %name, "has no standby any more: {why}");
                false
            }
        };
        let dismissed = *self.protection.dismissed.borrow();
        let alone = dismissed == Some(Leave::Alone);
        let passed = matches!(dismissed, Some(Leave::Renewed(_))) || self.goes_on_elsewhere().is_some();
        let keeps_terms = alone || was_tried || replaced || passed;
        if !keeps_terms && let Err(e) = self.agent.db.remove_standby(self.entry.spec.id, Some(self.peer())) {
            tracing::error!(task = %name, "that it has no standby cannot be written down: {e:#}");
        }
        lock(&self.agent.protections).retain(|_, other| !Arc::ptr_eq(other, &self.protection));
        if let Some(mut link) = self.link.take().filter(|_| !alone || replaced) {
            let mut out = Vec::new();
            while let Some(kind) = self.primary.poll_message(&mut self.memory, &mut out) {
                if link.channel.send(kind, &out).is_err() {
                    break;
                }
            }
            // The standby may still say something, and is not to miss that it is none any more.
            link.part().await;
        }
        let (agent, entry, terms) = (&self.agent, &self.entry, self.protection.terms.clone());
        let was_last = self.shared.end(&terms.standby);
        match *self.primary.phase() {
            PrimaryPhase::TakenOver(epoch) => match self.still.take() {
                // It was handed over.
                Some(still) => agent.displace(entry, Some(still), epoch, terms),
                None => agent.clone().reunite(entry.clone(), epoch, terms.broken(self.held_for)).await,
            },
            PrimaryPhase::Yielded(epoch) => agent.win(entry, None, epoch, terms.broken(self.held_for)).await,
            _ if alone || passed || !was_last => {}
            _ => {
                if let Err(e) = set_keeping(agent, entry, false).await {
                    tracing::debug!(task = %name, "its clients' words are kept on: {e:#}");
                }
            }
        }
        self.protection.over.send_replace(true);
    }

    /// Until there is nothing to keep up to date any more: why.
    async fn drive(
        &mut self,
        done_to: &UnboundedSender<Done>,
        mut done: UnboundedReceiver<Done>,
        mut hands: UnboundedReceiver<Hand>,
    ) -> String {
        let mut dismissed = self.protection.dismissed.subscribe();
        let mut ticks = tokio::time::interval(BEAT);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut copier, mut out) = (Copier::default(), Vec::new());
        loop {
            while let Some(action) = self.primary.poll_action() {
                self.act(action, done_to);
            }
            match self.primary.phase() {
                PrimaryPhase::Over(_) if !self.entry.state().is_alive() => return "the task has ended".into(),
                PrimaryPhase::Over(why) => return why.to_string(),
                PrimaryPhase::TakenOver(_) => return format!("{} has taken over", self.peer()),
                PrimaryPhase::Yielded(_) => return format!("{} lets this node go on", self.peer()),
                // The task waits: nothing is more urgent.
                PrimaryPhase::Freezing => self.send(&mut out),
                _ => copier.run(|| self.send(&mut out)),
            }
            let can_copy = self.link.is_some() && self.primary.can_copy();
            tokio::select! {
                turned = turn(&mut self.link) => self.turned(turned, done_to),
                Some(event) = done.recv() => self.done(event),
                Some(hand) = hands.recv() => self.hand_over(hand),
                _ = ticks.tick() => self.tick(done_to),
                _ = dismissed.changed() => {}
                () = self.entry.changed.notified() => {}
                () = tokio::task::yield_now(), if can_copy => copier.run(|| self.primary.copy(&mut self.memory)),
            }
            let dismissed = *dismissed.borrow();
            if dismissed.is_none() && self.entry.state().is_alive() {
                continue;
            }
            let passed = match dismissed {
                Some(Leave::Renewed(epoch)) => self.agent.identity().ok().map(|me| (me.name, epoch)),
                _ => self.goes_on_elsewhere(),
            };
            self.primary.handle_event(match passed {
                Some((to, epoch)) => PrimaryEvent::Passed { to, epoch },
                None => PrimaryEvent::Dismissed,
            });
        }
    }

    fn peer(&self) -> &str {
        &self.protection.terms.standby
    }

    /// Where another standby has the task, and at which epoch.
    fn goes_on_elsewhere(&self) -> Option<(String, u64)> {
        if !matches!(self.entry.state(), State::Left { .. }) {
            return None;
        }
        match self.agent.db.record(self.entry.spec.id) {
            Ok(Some(Record::Left { to, epoch })) => Some((to, epoch)),
            _ => None,
        }
    }

    fn hand_over(&mut self, hand: Hand) {
        if self.link.is_none() {
            let (name, peer) = (&self.entry.spec.name, self.peer());
            let why = format!("{peer} is not to be reached: ask it itself (`wayfare failover {name} --node {peer}`)");
            return drop(hand.done.send(Err(why)));
        }
        self.hands.push(hand.done);
        let now = self.now();
        self.primary.hand_over(now, hand.stays);
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
                    let _ = done.send(Done::Frozen(agent.stand_still(&entry, LOG).await));
                });
            }
            PrimaryAction::Thaw => {
                if let Some(still) = self.still.take() {
                    let pause = still.since.elapsed();
                    let _ = still.verdict.send(Verdict::Thaw(None));
                    let busy = self.entry.live().ok().and_then(|live| live.busy());
                    *lock(&self.shared.thawed) = Some((Instant::now(), busy.unwrap_or_default()));
                    lock(&self.protection.pair).pause = Some(pause.as_nanos() as u64);
                }
            }
            PrimaryAction::Synced(synced) => self.synced(&synced),
            PrimaryAction::HandOver { stays } => {
                let now = self.now();
                self.primary.hand_over(now, stays);
            }
        }
    }

    fn synced(&mut self, synced: &Synced) {
        let now = self.now();
        let took = now.saturating_sub(synced.began).max(1);
        self.policy.handle_sync_finished(now, synced.bytes);
        if synced.bytes >= TELLING {
            self.probe_at = Instant::now() + PROBES;
            let bandwidth = Some(bandwidth(synced.bytes, took));
            self.policy.handle_link_sample(now, LinkSample { bandwidth, delay: None });
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
        let marks = self.marks.take().and_then(|(of, marks)| self.shared.has(self.peer(), of, marks));
        if let Some(marks) = marks {
            let (agent, entry) = (self.agent.clone(), self.entry.clone());
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
                Message::Standby(Said::Echo(at)) if self.probe == Some(at) => {
                    // It was sent right behind the one whose echo came before.
                    self.probe = None;
                    let took = now.saturating_sub(self.echoed).max(QUICK);
                    self.probe_at = Instant::now() + (Duration::from_nanos(took) * PROBE_SHARE).max(PROBES);
                    self.policy.handle_link_sample(
                        now,
                        LinkSample { bandwidth: Some(bandwidth(PROBE as u64, took)), delay: None },
                    );
                }
                Message::Standby(Said::Echo(at)) => {
                    self.echoed = now;
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
        self.probe = None;
        self.held_for = self.connected.elapsed().as_secs();
        self.policy.handle_outage_began(now);
        self.primary.handle_event(PrimaryEvent::Disconnected);
        for hand in self.hands.drain(..) {
            let why = "the link broke before the standby had said that it goes on: see `wayfare protected`";
            let _ = hand.send(Err(why.into()));
        }
        if let Some(first) = self.first.take() {
            let _ = first.send(Err(format!("{why:#}")));
            self.primary.handle_event(PrimaryEvent::Dismissed);
        }
        self.dial(done);
    }

    /// Dials until somebody is there.
    fn dial(&self, done: &UnboundedSender<Done>) {
        let (agent, to, done) = (self.agent.clone(), self.peer().to_string(), done.clone());
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
                    let marks = Envelope::decode(&state).and_then(|e| marks(&e.sockets));
                    self.marks = marks.ok().map(|marks| (Instant::now(), marks));
                }
                self.still = Some(still);
                self.spoken = self.entry.sockets().map_or(0, |sockets| sockets.spoken());
                let now = self.now();
                self.primary.frozen(now, state, &mut self.memory);
            }
            Done::Frozen(Err(e)) => {
                let refusal = Refusal::new(Reason::Unmovable, format!("{e:#}"));
                self.primary.handle_event(PrimaryEvent::NotFrozen(refusal));
            }
            Done::Dialled(link) => {
                self.link = Some(*link);
                self.connected = Instant::now();
                let now = self.now();
                if std::mem::take(&mut self.is_forgetful) {
                    self.shared.begin(self.peer());
                    self.spoken = self.entry.sockets().map_or(0, |sockets| sockets.spoken());
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
            let is_idle = *self.primary.phase() == PrimaryPhase::Idle && link.channel.backlog() < BACKLOG / 64;
            if is_idle && Instant::now() >= self.probe_at && self.probe.is_none() {
                // A number of its own.
                self.probe = Some(now + 1);
                let probe = Said::Probe { at: now + 1, padding: vec![0; PROBE] };
                let _ = link.channel.send(Kind::Transfer, &Message::Standby(probe).encode());
            }
        }
        if let Ok(live) = self.entry.live() {
            let busy = live.busy();
            // Where the kernel does not say, it may be busy.
            if busy.is_none_or(|busy| busy > self.busy.0) {
                let since = |before: Duration| busy.unwrap_or(Duration::MAX).saturating_sub(before);
                let stirred =
                    lock(&self.shared.thawed).is_some_and(|(at, had)| at.elapsed() < STIR.1 && since(had) < STIR.0);
                self.busy = (busy.unwrap_or_default(), if stirred { self.busy.1 } else { Instant::now() });
            }
            let idle = self.busy.1.elapsed() > IDLE;
            let since = std::mem::replace(&mut self.ticked, Instant::now()).elapsed();
            self.progress += if idle { Duration::ZERO } else { since };
            self.policy.handle_progress(now, self.progress.as_nanos() as u64);
            self.policy.handle_idle(now, idle);
        }
        let Decision { action, reason } = self.policy.decide(now);
        let first = self.primary.kept() == 0;
        // Its clients would have to wait.
        let full = self.entry.sockets().is_some_and(|sockets| sockets.spoken() - self.spoken > KEEP as u64 / 2);
        if full && self.link.is_none() && !std::mem::replace(&mut self.is_forgetful, true) {
            tracing::warn!(task = %self.entry.spec.name, "the standby is away for too long: its clients would be reset there");
            if self.shared.end(self.peer()) {
                self.set_keeping(false);
            }
        }
        if (first || full || action == wayfare_policy::Action::Sync) && self.primary.begin(now) {
            self.policy.handle_sync_started(now);
        }
        if self.is_homeward() && !self.primary.is_handing() {
            tracing::info!(task = %self.entry.spec.name, "goes back to {}", self.peer());
            self.primary.hand_over(now, false);
        }
        let view = self.policy.view();
        let mut pair = lock(&self.protection.pair);
        pair.reason = reason.to_string();
        pair.interval = view.interval;
        pair.loss = view.risk;
        pair.heard = self.link.as_mut().map(|link| link.silence().as_nanos() as u64);
        pair.bandwidth = view.bandwidth.map(|bandwidth| bandwidth as u64);
        pair.delay = view.delay.map(|delay| (delay * 1e9) as u64);
        pair.takeover =
            Some((SUSPECTED * self.protection.terms.patience()).as_nanos() as u64 + pair.delay.unwrap_or(0));
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

    /// Whether the task is to go back to the standby's node, where it belongs: once the link has held for a while.
    fn is_homeward(&self) -> bool {
        let terms = &self.protection.terms;
        terms.home == self.peer()
            && !terms.order.stay
            && !terms.by_hand
            && self.link.is_some()
            && self.primary.kept() > 0
            && self.connected.elapsed() > HOMEWARD * terms.hesitation()
    }
}

/// Bytes per second.
fn bandwidth(bytes: u64, nanos: u64) -> u64 {
    (bytes as f64 / nanos as f64 * 1e9) as u64
}

/// Whether what a task's clients say is kept for its standby.
pub(crate) async fn set_keeping(agent: &Agent, entry: &Entry, keeping: bool) -> Result<()> {
    let Some(sockets) = entry.sockets().filter(|_| !entry.spec.publish.is_empty()) else { return Ok(()) };
    sockets.keep(keeping);
    let told = if keeping { agent.keep(entry, Vec::new()).await } else { agent.keep_nothing(entry).await };
    told.inspect_err(|_| sockets.keep(false))
}
