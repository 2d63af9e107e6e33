//! Drives a task's way to another node.

use crate::agent::{Agent, Entry};
use crate::control::{Line, Order, Report, State};
use crate::copier::Copier;
use crate::kept::Pages;
use crate::lanes::{self, Lanes, STREAMS_MAX};
use crate::link::{Link, turn};
use crate::spans::{self, of_task};
use crate::task::{Still, Verdict};
use crate::watched::{self, Watched};
use anyhow::{Context, Result, anyhow, bail};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tracing::field::Empty;
use tracing::{Instrument, Span};
use wayfare_engine::Watch;
use wayfare_snapshot::{Digest, is_zero};
use wayfare_store::program;
use wayfare_transfer::journal::Record;
use wayfare_transfer::message::{Answer, Message, Mode, Offer, Reason, Refusal};
use wayfare_transfer::pages::PageRange;
use wayfare_transfer::source::{Action, Event, Guest, OnStall, Phase, Policy, Source};
use wayfare_transfer::{Incoming, Kind};

/// How long the log's beginning may be that goes along: what is before it stays.
const LOG_ALONG: u64 = 4 << 20;
/// Between two tries to write to a disk that does not take it.
const WRITE_AGAIN: Duration = Duration::from_secs(2);
/// How often progress is told.
const TELL: Duration = Duration::from_millis(100);
/// Bytes that may wait to go out: enough to keep a link busy, and little to wait for before the last pages.
const BACKLOG: usize = 512 << 10;

/// The task's memory while it moves.
struct Memory {
    watched: Watched,
    /// Every page that was ever dirty.
    touched: Vec<PageRange>,
}

impl Memory {
    fn new(watch: Watch) -> Self {
        Memory { watched: watched::Memory::new(watch).watched(), touched: Vec::new() }
    }

    /// Its pages by their digests, for when the task comes back.
    fn keep(mut self, mut pages: Pages) -> Pages {
        let mut bytes = Vec::new();
        self.touched.sort_unstable();
        let mut next = (0, 0);
        for range in std::mem::take(&mut self.touched) {
            for page in range.first..range.first + range.count {
                if (range.memory, page) < next {
                    continue;
                }
                if !pages.has_room() {
                    return pages;
                }
                next = (range.memory, page + 1);
                bytes.clear();
                if !self.read(PageRange { first: page, count: 1, ..range }, &mut bytes) {
                    return pages;
                }
                if !is_zero(&bytes) {
                    pages.put(&bytes);
                }
            }
        }
        pages
    }
}

impl Guest for Memory {
    fn dirty(&mut self) -> Vec<PageRange> {
        let dirty = self.watched.dirty();
        self.touched.extend(&dirty);
        dirty
    }

    fn written(&mut self, range: PageRange) -> Vec<PageRange> {
        self.watched.written(range)
    }

    fn rest(&mut self) -> Vec<PageRange> {
        let rest = self.watched.rest();
        self.touched.extend(&rest);
        rest
    }

    fn read(&mut self, range: PageRange, into: &mut Vec<u8>) -> bool {
        self.watched.read(range, into)
    }
}

enum Done {
    Frozen(Result<Still>),
    Logged(Result<()>),
    Dialled(Box<Link>),
    Decided(Answer),
    Lane(Result<Box<Link>>),
    LaneLost(anyhow::Error),
}

/// What is said of a move while it goes on.
pub enum Told {
    /// How far it is.
    Line(Line),
    /// The task runs there, and nothing that it needs is here any more but for its safety.
    Gone(Report),
}

/// Moves a task. `progress` is told now and then; the move is called off, as long as that is possible, when it is closed.
/// Ends when the task is on the other node's disk.
///
/// # Errors
/// When the task stays here, with the reason.
pub async fn migrate(agent: Arc<Agent>, order: Order, progress: UnboundedSender<Told>) -> Result<()> {
    let id = agent.task(&order.name).ok().map(|entry| entry.spec.id);
    let span = of_task!("migrate", order.name, id, wayfare.to = %order.to, wayfare.move.mode = ?order.mode,
        wayfare.move.bytes = Empty, wayfare.move.downtime_ms = Empty, wayfare.move.took_ms = Empty);
    let moved = move_away(agent, order, progress).instrument(span.clone()).await;
    spans::ended(&span, &moved);
    moved
}

async fn move_away(agent: Arc<Agent>, order: Order, progress: UnboundedSender<Told>) -> Result<()> {
    let entry = agent.task(&order.name)?;
    agent.is_unprotected(&order.name)?;
    // A snapshot that is being written is waited for, and the disk of this node if the task has just come.
    let waiting = tokio::time::timeout(Duration::from_secs(30), entry.moving.lock());
    let Ok(_moving) = waiting.await else {
        match entry.unsaved.load(Ordering::SeqCst) {
            true => bail!("{} has come only now and is not on the disk here yet: see the agent's log", order.name),
            false => bail!("{} is being moved already", order.name),
        }
    };
    let me = agent.identity()?.name;
    if order.to == me {
        bail!("{} is on {me} already", order.name);
    }
    let live = entry.live()?;
    let link = agent.dial(&order.to).await?;
    let watch = live.watch()?;
    let old_epoch = entry.epoch.load(Ordering::SeqCst);
    let sizes = watch.sizes().into_iter().map(|(_, size)| size).collect();
    let (offer, module) = offer(&entry, old_epoch + 1, order.mode, sizes)?;
    let log_path = agent.dirs.log(entry.spec.id);
    let log_len = std::fs::metadata(&log_path).map_or(0, |m| m.len());
    let log = log_tail(&log_path, log_len)?;
    let policy = Policy {
        max_downtime: order.max_downtime,
        on_stall: if order.give_up { OnStall::GiveUp } else { OnStall::Freeze },
        limit: order.limit,
        rtt: link.rtt.as_nanos() as u64,
    };
    let (here, moving) = (State::Running, State::Moving { to: order.to.clone() });
    // It may have ended while the other node was dialled.
    anyhow::ensure!(entry.pass(&here, moving.clone()), "{} does not run any more", order.name);
    let mut departure = Departure {
        report: Report { rtt: policy.rtt, ..Report::default() },
        source: Source::new(offer, module, policy).with_extra(log),
        agent: agent.clone(),
        entry: entry.clone(),
        to: order.to,
        old_epoch,
        log_from: log_len,
        link: Some(link),
        still: None,
        began: Instant::now(),
        frozen_at: None,
        log: None,
        told: false,
        streams: order.streams.clamp(1, STREAMS_MAX),
        lanes: Lanes::default(),
        copied: 0,
    };
    let result = departure.run(live, Memory::new(watch), &progress).await;
    entry.pass(&moving, here);
    result
}

/// What another node is offered of a task, at an epoch and with memories of so many bytes, and the task's module.
///
/// # Errors
/// When the module is not here any more.
pub(crate) fn offer(entry: &Entry, epoch: u64, mode: Mode, memories: Vec<u64>) -> Result<(Offer, Vec<u8>)> {
    let digest: Digest = entry.spec.module.parse()?;
    let module = program::kept_module(digest)?.context("the task's module is not in the cache any more")?;
    let offer = Offer {
        task: entry.spec.id,
        name: entry.spec.name.clone(),
        epoch,
        module: digest.0,
        module_len: module.len() as u64,
        canonical_nan: entry.spec.canonical_nan,
        memories,
        mode,
        settings: serde_json::to_vec(&entry.spec)?,
    };
    Ok((offer, module))
}

fn log_tail(path: &std::path::Path, len: u64) -> Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    file.seek(SeekFrom::Start(len.saturating_sub(LOG_ALONG)))?;
    let mut bytes = Vec::new();
    file.take(len.min(LOG_ALONG)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

struct Departure {
    agent: Arc<Agent>,
    entry: Arc<Entry>,
    to: String,
    source: Source,
    old_epoch: u64,
    log_from: u64,
    link: Option<Link>,
    still: Option<Still>,
    report: Report,
    began: Instant,
    frozen_at: Option<Instant>,
    /// The journal being written: what is struck out must have been written before.
    log: Option<JoinHandle<()>>,
    /// Whoever waits has heard that it has gone.
    told: bool,
    /// Streams for its pages; 1 once those beside the first have been dialled.
    streams: u8,
    lanes: Lanes,
    /// Bytes of memory that went while the task ran.
    copied: u64,
}

impl Departure {
    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    async fn run(
        &mut self,
        live: Arc<crate::task::Live>,
        mut memory: Memory,
        progress: &UnboundedSender<Told>,
    ) -> Result<()> {
        let (done_to, mut done) = unbounded_channel::<Done>();
        let mut told = Instant::now();
        let mut out = Vec::new();
        let mut ticks = tokio::time::interval(TELL);
        let (mut cancelled, mut copier) = (false, Copier::default());
        loop {
            while let Some(action) = self.source.poll_action() {
                match action {
                    Action::Freeze => {
                        let (live, log_from, to) = (live.clone(), self.log_from, done_to.clone());
                        tokio::spawn(async move { to.send(Done::Frozen(live.freeze(log_from).await)) });
                    }
                    Action::Log(epoch) => {
                        let (agent, id, to) = (self.agent.clone(), self.entry.spec.id, done_to.clone());
                        let record = Record::Moving { epoch, to: self.to.clone() };
                        self.log = Some(tokio::task::spawn_blocking(move || {
                            let _ = to.send(Done::Logged(agent.db.set_record(id, &record)));
                        }));
                    }
                    Action::Redial => self.redial(&done_to),
                    action => {
                        // In doubt it may be long before there is more to tell.
                        let _ = progress.send(Told::Line(self.line()));
                        self.act(action).await;
                    }
                }
            }
            if self.source.has_gone() && !std::mem::replace(&mut self.told, true) {
                self.report.last = self.line();
                self.report.last_bytes = self.report.last.progress.bytes - self.copied;
                self.report.total = self.now();
                self.record(&Span::current());
                let _ = progress.send(Told::Gone(self.report.clone()));
            }
            if self.source.is_over() {
                break;
            }
            match self.source.phase() {
                Phase::Digesting | Phase::Copying => copier.run(|| self.send(&mut memory, &mut out)),
                // The task stands still: nothing is more urgent.
                _ => self.send(&mut memory, &mut out),
            }
            if self.source.has_action() {
                continue;
            }
            if told.elapsed() > TELL {
                told = Instant::now();
                let _ = progress.send(Told::Line(self.line()));
            }
            let wake = self.source.poll_timeout().map(|at| Duration::from_nanos(at.saturating_sub(self.now())));
            if matches!(self.source.phase(), Phase::Preparing) {
                self.lanes.close();
            }
            tokio::select! {
                turned = turn(&mut self.link) => {
                    self.turned(turned, &done_to);
                    self.mark_commit();
                }
                Some(event) = done.recv() => {
                    self.done(event, &done_to);
                    self.mark_commit();
                }
                () = self.lanes.freed() => {}
                () = tokio::time::sleep(wake.unwrap_or_default()), if wake.is_some() => {}
                () = progress.closed(), if !cancelled => {
                    cancelled = true;
                    let refusal = Refusal::new(Reason::Cancelled, "the move was called off");
                    self.source.handle_event(Event::Cancelled(refusal));
                }
                _ = ticks.tick() => self.listen(&done_to),
            }
        }
        if *self.source.phase() == Phase::Done {
            self.leave(memory).await;
        }
        let link = self.link.take();
        if let Some(mut link) = link {
            // The last word: that it was called off.
            while let Some(kind) = self.source.poll_message(0, &mut Nothing, &mut out) {
                link.channel.send(kind, &out)?;
            }
            tokio::spawn(link.close());
        }
        match self.source.phase() {
            Phase::Failed(refusal) => Err(anyhow!("{refusal}")),
            _ => Ok(()),
        }
    }

    fn record(&self, span: &Span) {
        span.record("wayfare.move.bytes", self.report.last.progress.bytes + self.report.state_bytes);
        span.record("wayfare.move.downtime_ms", self.report.downtime as f64 / 1e6);
        span.record("wayfare.move.took_ms", self.report.total as f64 / 1e6);
    }

    /// Gives the link, and its lanes, as much as they have room for.
    fn send(&mut self, memory: &mut Memory, out: &mut Vec<u8>) {
        let now = self.now();
        let Some(link) = &mut self.link else { return };
        // What the task waits for there is not to queue up behind much.
        let late = matches!(self.source.phase(), Phase::Draining);
        let most = if late { BACKLOG / 8 } else { BACKLOG };
        while link.channel.backlog() < most || self.lanes.has_room() {
            let Some(kind) = self.source.poll_message(now, memory, out) else { break };
            if kind == Kind::Pages && !self.source.has_left() && self.lanes.send(out) {
                continue;
            }
            if let Err(e) = link.channel.send(kind, out) {
                tracing::warn!("{e}");
                break;
            }
            link.push();
        }
    }

    fn turned(&mut self, turned: Result<Option<Incoming>>, done: &UnboundedSender<Done>) {
        let handled = turned.and_then(|message| {
            let Some(message) = message else { return Ok(()) };
            anyhow::ensure!(message.kind == Kind::Transfer, "a message of another kind");
            let (now, message) = (self.now(), Message::decode(&message.payload)?);
            tracing::debug!(to = %self.to, phase = ?self.source.phase(), frozen = ?self.frozen_at.map(|at| at.elapsed()), "hears");
            if matches!(message, Message::Committed(_)) && self.frozen_at.is_some() {
                self.report.downtime = self.frozen_at.map_or(0, |at| at.elapsed().as_nanos() as u64);
            }
            Ok(self.source.handle_message(now, message)?)
        });
        if let Err(e) = handled {
            tracing::warn!(task = %self.entry.spec.name, to = %self.to, "the link is gone: {e:#}");
            self.link = None;
            self.lanes.close();
            self.source.handle_event(Event::Disconnected);
        }
        // It has been accepted: what is dialled now finds it there.
        if matches!(self.source.phase(), Phase::Module(_) | Phase::Landing) {
            for _ in 1..std::mem::replace(&mut self.streams, 1) {
                let (agent, to, offer, done) =
                    (self.agent.clone(), self.to.clone(), self.source.offer().clone(), done.clone());
                tokio::spawn(async move {
                    let lane = lanes::dial(&agent, &to, offer.task, offer.epoch).await;
                    let _ = done.send(Done::Lane(lane.map(Box::new)));
                });
            }
        }
    }

    /// An answer that takes the other side no work must come soon; compiling may take its time.
    fn listen(&mut self, done: &UnboundedSender<Done>) {
        let Some(patience) = self.source.patience() else { return };
        if self.link.as_mut().is_some_and(|link| link.silence() > Duration::from_nanos(patience)) {
            self.turned(Err(anyhow!("nothing is heard")), done);
        }
    }

    /// Dials until somebody is there, or a person knows better.
    fn redial(&self, done: &UnboundedSender<Done>) {
        let (agent, entry, to, done) = (self.agent.clone(), self.entry.clone(), self.to.clone(), done.clone());
        tokio::spawn(async move {
            let mut decision = entry.decision.subscribe();
            let mut pause = Duration::from_millis(100);
            while !done.is_closed() {
                match agent.dial(&to).await {
                    Ok(link) => {
                        let _ = done.send(Done::Dialled(Box::new(link)));
                        return;
                    }
                    Err(e) => tracing::debug!(task = %entry.spec.name, "{to} is not there: {e:#}"),
                }
                tokio::select! {
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(5)),
                    _ = decision.changed() => {
                        if let Some(answer) = *decision.borrow() {
                            tracing::warn!(task = %entry.spec.name, ?answer, "decided by a person");
                            let _ = done.send(Done::Decided(answer));
                            return;
                        }
                    }
                }
            }
        });
    }

    fn done(&mut self, event: Done, done: &UnboundedSender<Done>) {
        match event {
            Done::Lane(Ok(link)) => {
                let done = done.clone();
                self.lanes.add(*link, move |e| drop(done.send(Done::LaneLost(e))));
            }
            Done::Lane(Err(e)) => tracing::warn!(to = %self.to, "there is one stream less: {e:#}"),
            // Pages may be lost with it. After the commit nothing goes by it any more.
            Done::LaneLost(e) if !self.source.has_left() => self.turned(Err(e), done),
            Done::LaneLost(_) => {}
            Done::Dialled(link) => {
                link.hurry();
                self.link = Some(*link);
                self.source.reattach();
            }
            Done::Decided(answer) => self.source.handle_answer(answer),
            Done::Frozen(Ok(mut still)) => {
                self.frozen_at = Some(still.since);
                let state = std::mem::take(&mut still.state);
                self.report.state_bytes = state.len() as u64;
                self.copied = self.source.progress().bytes;
                self.still = Some(still);
                self.source.handle_event(Event::Frozen(state));
            }
            Done::Frozen(Err(e)) => {
                let reason = if self.entry.state().is_alive() { Reason::Unmovable } else { Reason::Ended };
                self.source.handle_event(Event::NotFrozen(Refusal::new(reason, format!("{e:#}"))));
            }
            Done::Logged(Ok(())) => self.source.handle_event(Event::Logged),
            Done::Logged(Err(e)) => {
                let text = format!("the move cannot be written down here: {e:#}");
                self.source.handle_event(Event::Cancelled(Refusal::new(Reason::Node, text)));
            }
        }
    }

    fn decide(&mut self, verdict: Verdict) {
        if let Some(still) = self.still.take() {
            let _ = still.verdict.send(verdict);
        }
    }

    async fn act(&mut self, action: Action) {
        let (id, epoch) = (self.entry.spec.id, self.source.offer().epoch);
        match action {
            Action::Strike => {
                if let Some(log) = self.log.take() {
                    let _ = log.await;
                }
                // The end of a task is not to be overwritten.
                if !self.entry.state().is_alive() {
                    return;
                }
                if let Err(e) = self.agent.db.set_record(id, &Record::Owned { epoch: self.old_epoch }) {
                    // A restart asks, and hears that it never went.
                    tracing::error!(task = %self.entry.spec.name, "that it stays cannot be written down: {e:#}");
                }
            }
            Action::Thaw => self.decide(Verdict::Thaw(None)),
            Action::Retake(epoch) => {
                // It must not run before that is written down, and nobody else will run it.
                let mut told = false;
                while let Err(e) = self.agent.db.set_record(id, &Record::Owned { epoch }) {
                    if !std::mem::replace(&mut told, true) {
                        let task = &self.entry.spec.name;
                        tracing::error!(%task, "that it is here again cannot be written down, tried again: {e:#}");
                    }
                    tokio::time::sleep(WRITE_AGAIN).await;
                }
                self.entry.epoch.store(epoch, Ordering::SeqCst);
                let was_gone = matches!(self.entry.state(), State::Left { .. });
                self.entry.set_state(State::Running);
                self.decide(Verdict::Thaw(Some(epoch)));
                if was_gone {
                    tracing::warn!(
                        task = %self.entry.spec.name,
                        "{} has lost it before it was on the disk there: it goes on here, from where it left",
                        self.to
                    );
                    self.agent.look_after(&self.entry);
                }
            }
            Action::Ask => {
                self.entry.set_state(State::Unknown { to: self.to.clone(), claimed: epoch });
                let answer = self.agent.ask(&self.entry, &self.to, epoch, true).await;
                self.source.handle_answer(answer);
            }
            Action::Gone => {
                self.entry.set_state(State::Left { to: self.to.clone(), saved: false });
                self.link.iter().for_each(Link::hurry);
            }
            Action::Release => {
                // If this cannot be written, the question is asked again after a restart, and has the same answer.
                if let Err(e) = self.agent.db.set_record(id, &Record::Left { epoch, to: self.to.clone() }) {
                    tracing::error!(task = %self.entry.spec.name, "cannot be written down: {e:#}");
                }
                self.entry.set_state(State::Left { to: self.to.clone(), saved: true });
                self.agent.capacity.release(id);
                let _ = std::fs::remove_file(self.agent.dirs.checkpoint(id));
            }
            Action::Redial | Action::Freeze | Action::Log(_) => unreachable!("done by `run`"),
        }
    }

    /// Forgets the task, but for its pages: it may come back, and is let in only then.
    async fn leave(&mut self, memory: Memory) {
        let (agent, id, still) = (self.agent.clone(), self.entry.spec.id, self.still.take());
        let kept = tokio::task::spawn_blocking(move || {
            agent.kept.put(id, memory.keep(agent.kept.pages()));
            if let Some(still) = still {
                let _ = still.verdict.send(Verdict::Drop);
            }
        });
        let _ = kept.await;
    }

    /// From the moment at which `Commit` is about to be sent, nothing but a verdict lets the task run here again.
    fn mark_commit(&self) {
        if let (Phase::Unknown, Some(still)) = (self.source.phase(), &self.still) {
            still.given_away.store(true, Ordering::SeqCst);
        }
    }

    fn line(&self) -> Line {
        Line::of(&self.source, self.link.is_some())
    }
}

/// The memory of a move that is over.
struct Nothing;

impl Guest for Nothing {
    fn dirty(&mut self) -> Vec<PageRange> {
        Vec::new()
    }

    fn read(&mut self, _: PageRange, _: &mut Vec<u8>) -> bool {
        false
    }
}
