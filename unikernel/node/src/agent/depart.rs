//! Drives a task's way to another node.

use super::task::{Live, Memory};
use super::{Agent, Entry, Queue, log, service};
use crate::clock;
use crate::host::{Said, Verdict};
use crate::link::Link;
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use core::cell::Cell;
use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::task::Poll;
use wayfare_cluster::control::{Line, Order, Report, State};
use wayfare_cluster::envelope::Envelope;
use wayfare_snapshot::Digest;
use wayfare_transfer::journal::Record;
use wayfare_transfer::message::{Answer, Message, Offer, Reason, Refusal};
use wayfare_transfer::source::{Action, Event, OnStall, Phase, Policy, Source};
use wayfare_transfer::{Incoming, Kind};

/// How often progress is told, milliseconds.
const TELL: u64 = 100;
/// Bytes that may wait to go out.
const BACKLOG: usize = 128 << 10;

/// What is said of a move while it goes on.
pub(super) enum Told {
    Line(Line),
    Gone(Report),
}

/// Who waits for a move.
pub(super) struct Audience {
    pub told: Queue<Told>,
    /// Nobody does any more: it is called off, if that is possible.
    pub left: Cell<bool>,
}

/// What the work beside the link comes to.
enum Done {
    Said(Said),
    Answered(Answer),
    Dialled(Box<Link>),
}

type Work = Pin<Box<dyn Future<Output = Done>>>;

enum Next {
    Turned(Result<Option<Incoming>>),
    Done(Done),
    Wake,
}

/// Moves a task. Ends when the other node does not need this one any more.
///
/// # Errors
/// When the task stays here, with the reason.
pub(super) async fn migrate(agent: Rc<Agent>, order: Order, audience: Rc<Audience>) -> Result<()> {
    let entry = agent.task(&order.name)?;
    ensure!(order.to != agent.identity.name, "{} is on {} already", order.name, order.to);
    ensure!(!entry.moving.replace(true), "{} is being moved already", order.name);
    let to = order.to.clone();
    let result = depart(&agent, &entry, order, &audience).await;
    entry.moving.set(false);
    if result.is_ok() {
        agent.has_come(&entry, &to);
    }
    result
}

async fn depart(agent: &Rc<Agent>, entry: &Rc<Entry>, order: Order, audience: &Audience) -> Result<()> {
    let live = entry.live()?;
    // The node that they are at has to hear from here what they are to hear once more.
    ensure!(entry.clients.have_caught_up(), "the clients of {} are not reached yet", order.name);
    let link = agent.dial(&order.to).await?;
    let digest: Digest = entry.spec.module.parse().map_err(|_| anyhow!("the task's module has no digest"))?;
    let module = agent.programs.module(digest).context("the task's module is not there any more")?;
    let (log_len, log) = {
        let log = live.seat.log.lock();
        (log.len(), log.from(0))
    };
    let old_epoch = entry.epoch.get();
    let offer = Offer {
        task: entry.spec.id,
        name: entry.spec.name.clone(),
        epoch: old_epoch + 1,
        module: digest.0,
        module_len: module.len() as u64,
        canonical_nan: entry.spec.canonical_nan,
        memories: live.sizes(),
        mode: order.mode,
        settings: serde_json::to_vec(&entry.spec)?,
    };
    let policy = Policy {
        max_downtime: order.max_downtime,
        on_stall: if order.give_up { OnStall::GiveUp } else { OnStall::Freeze },
        limit: order.limit,
        rtt: link.rtt,
    };
    ensure!(entry.state() == State::Running, "{} does not run any more", order.name);
    entry.set_state(State::Moving { to: order.to.clone() });
    let mut departure = Departure {
        report: Report { rtt: policy.rtt, ..Report::default() },
        source: Source::new(offer, module.to_vec(), policy).with_extra(log),
        agent: agent.clone(),
        entry: entry.clone(),
        live: live.clone(),
        to: order.to.clone(),
        old_epoch,
        log_from: log_len,
        link: Some(link),
        work: None,
        is_frozen: false,
        began: clock::nanos(),
        frozen_at: None,
        told: false,
        copied: 0,
    };
    let result = departure.run(live.guest(), audience).await;
    if entry.state() == (State::Moving { to: order.to }) {
        entry.set_state(State::Running);
    }
    result
}

struct Departure {
    agent: Rc<Agent>,
    entry: Rc<Entry>,
    live: Rc<Live>,
    to: String,
    source: Source,
    old_epoch: u64,
    log_from: u64,
    link: Option<Link>,
    work: Option<Work>,
    /// It waits for a verdict.
    is_frozen: bool,
    report: Report,
    began: u64,
    frozen_at: Option<u64>,
    told: bool,
    copied: u64,
}

impl Departure {
    fn now(&self) -> u64 {
        clock::nanos() - self.began
    }

    async fn run(&mut self, mut memory: Memory, audience: &Audience) -> Result<()> {
        let (mut out, mut told, mut cancelled) = (Vec::new(), 0, false);
        loop {
            while let Some(action) = self.source.poll_action() {
                self.act(action);
            }
            if self.source.has_gone() && !core::mem::replace(&mut self.told, true) {
                self.report.last = self.line();
                self.report.last_bytes = self.report.last.progress.bytes - self.copied;
                self.report.total = self.now();
                audience.told.push(Told::Gone(self.report.clone()));
            }
            if self.source.is_over() {
                break;
            }
            self.send(&mut memory, &mut out);
            if self.source.has_action() {
                continue;
            }
            if self.now() > told + TELL * 1_000_000 {
                told = self.now();
                audience.told.push(Told::Line(self.line()));
            }
            let next = self.next().await;
            match next {
                Next::Turned(turned) => self.turned(turned),
                Next::Done(done) => {
                    self.work = None;
                    self.done(done);
                }
                Next::Wake => self.listen(),
            }
            if audience.left.get() && !core::mem::replace(&mut cancelled, true) {
                let refusal = Refusal::new(Reason::Cancelled, "the move was called off");
                self.source.handle_event(Event::Cancelled(refusal));
            }
        }
        if *self.source.phase() == Phase::Done {
            self.judge(Verdict::Drop);
            *self.entry.live.borrow_mut() = None;
        }
        if let Some(mut link) = self.link.take() {
            // The last word: that it was called off.
            while let Some(kind) = self.source.poll_message(0, &mut memory, &mut out) {
                link.channel.send(kind, &out)?;
            }
            self.agent.executor.spawn(link.part());
        }
        match self.source.phase() {
            Phase::Failed(refusal) => Err(anyhow!("{refusal}")),
            _ => Ok(()),
        }
    }

    async fn next(&mut self) -> Next {
        let tell = clock::nanos() + TELL * 1_000_000;
        let wake = self.source.poll_timeout().map_or(tell, |at| (self.began + at).min(tell));
        let mut wake = pin!(self.agent.executor.until(wake));
        let (work, link) = (&mut self.work, &mut self.link);
        poll_fn(|cx| {
            if let Some(Poll::Ready(done)) = work.as_mut().map(|work| work.as_mut().poll(cx)) {
                return Poll::Ready(Next::Done(done));
            }
            if let Some(link) = link.as_mut()
                && let Poll::Ready(turned) = pin!(link.turn()).poll(cx)
            {
                return Poll::Ready(Next::Turned(turned));
            }
            wake.as_mut().poll(cx).map(|()| Next::Wake)
        })
        .await
    }

    /// Gives the link as much as it has room for.
    fn send(&mut self, memory: &mut Memory, out: &mut Vec<u8>) {
        let now = self.now();
        let Some(link) = &mut self.link else { return };
        while link.channel.backlog() < BACKLOG {
            let Some(kind) = self.source.poll_message(now, memory, out) else { break };
            if let Err(e) = link.channel.send(kind, out) {
                log!("{e}");
                break;
            }
            link.push();
        }
    }

    fn turned(&mut self, turned: Result<Option<Incoming>>) {
        let handled = turned.and_then(|message| {
            let Some(message) = message else { return Ok(()) };
            ensure!(message.kind == Kind::Transfer, "a message of another kind");
            let (now, message) = (self.now(), Message::decode(&message.payload)?);
            if matches!(message, Message::Committed(_)) {
                self.report.downtime = self.frozen_at.map_or(0, |at| clock::nanos() - at);
            }
            Ok(self.source.handle_message(now, message)?)
        });
        if let Err(e) = handled {
            log!("{}: the link to {} is gone: {e:#}", self.entry.spec.name, self.to);
            self.link = None;
            self.source.handle_event(Event::Disconnected);
        }
    }

    /// An answer that takes the other side no work must come soon; compiling may take its time.
    fn listen(&mut self) {
        let Some(patience) = self.source.patience() else { return };
        if self.link.as_mut().is_some_and(|link| link.silence() * 1_000_000 > patience) {
            self.turned(Err(anyhow!("nothing is heard")));
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Dialled(link) => {
                self.link = Some(*link);
                self.source.reattach();
            }
            Done::Answered(answer) => self.source.handle_answer(answer),
            Done::Said(Said::Frozen(Ok(snapshot), since)) => {
                let log = self.live.seat.log.lock().from(self.log_from);
                // It stands still: what comes for it from here on is said again elsewhere.
                let sockets = self.live.seat.ports.lock().freeze();
                let state = Envelope { snapshot, log, sockets }.encode();
                (self.is_frozen, self.frozen_at) = (true, Some(since));
                self.report.state_bytes = state.len() as u64;
                self.copied = self.source.progress().bytes;
                self.source.handle_event(Event::Frozen(state));
            }
            Done::Said(Said::Frozen(Err(why), _)) => {
                self.source.handle_event(Event::NotFrozen(Refusal::new(Reason::Unmovable, why)));
            }
            Done::Said(Said::Ended(_)) => {
                self.source.handle_event(Event::NotFrozen(Refusal::new(Reason::Ended, "the task has ended")));
            }
        }
    }

    fn judge(&mut self, verdict: Verdict) {
        if core::mem::take(&mut self.is_frozen) {
            self.live.judge(verdict);
        }
    }

    fn act(&mut self, action: Action) {
        let (id, epoch) = (self.entry.spec.id, self.source.offer().epoch);
        match action {
            Action::Freeze => {
                let (live, executor) = (self.live.clone(), self.agent.executor.clone());
                self.work = Some(Box::pin(async move { Done::Said(live.stop(&executor).await) }));
            }
            Action::Log(epoch) => {
                self.agent.set_record(id, Record::Moving { epoch, to: self.to.clone() });
                self.source.handle_event(Event::Logged);
            }
            Action::Strike => {
                // The end of a task is not to be overwritten.
                if self.entry.state().is_alive() {
                    self.agent.set_record(id, Record::Owned { epoch: self.old_epoch });
                }
            }
            Action::Thaw => self.judge(Verdict::Thaw(None)),
            Action::Retake(epoch) => {
                self.agent.set_record(id, Record::Owned { epoch });
                self.entry.epoch.set(epoch);
                self.entry.set_state(State::Running);
                self.judge(Verdict::Thaw(Some(epoch)));
                service::begin(&self.agent, &self.entry, None);
            }
            Action::Ask => {
                self.entry.set_state(State::Unknown { to: self.to.clone(), claimed: epoch });
                let (agent, entry, to) = (self.agent.clone(), self.entry.clone(), self.to.clone());
                self.work = Some(Box::pin(async move { Done::Answered(agent.ask(&entry, &to, epoch).await) }));
            }
            Action::Gone => self.entry.set_state(State::Left { to: self.to.clone(), saved: false }),
            Action::Release => {
                self.agent.set_record(id, Record::Left { epoch, to: self.to.clone() });
                self.entry.set_state(State::Left { to: self.to.clone(), saved: true });
            }
            Action::Redial => {
                let (agent, entry, to) = (self.agent.clone(), self.entry.clone(), self.to.clone());
                self.work = Some(Box::pin(async move { agent.redial(&entry, &to).await }));
            }
        }
    }

    fn line(&self) -> Line {
        Line::of(&self.source, self.link.is_some())
    }
}

impl Agent {
    /// Asks until there is an answer, or a person has decided.
    async fn ask(&self, entry: &Entry, to: &str, epoch: u64) -> Answer {
        let mut pause = 100;
        loop {
            match self.ask_once(entry, to, epoch).await {
                Ok(Answer::Deciding) => {}
                Ok(answer) => return answer,
                Err(e) => log!("{}: {to} cannot be asked: {e:#}", entry.spec.name),
            }
            self.executor.sleep(pause).await;
            if let Some(answer) = entry.decision.take() {
                return answer;
            }
            pause = (pause * 2).min(10_000);
        }
    }

    async fn ask_once(&self, entry: &Entry, to: &str, epoch: u64) -> Result<Answer> {
        let mut link = self.dial(to).await?;
        let question = Message::Ask { task: entry.spec.id, epoch, holds: true };
        link.send(Kind::Transfer, &question.encode()).await?;
        match Message::decode(&link.expect(Kind::Transfer).await?)? {
            Message::Answer(answer) => Ok(answer),
            _ => bail!("it answered something else"),
        }
    }

    /// Dials until somebody is there, or a person knows better.
    async fn redial(&self, entry: &Entry, to: &str) -> Done {
        let mut pause = 100;
        loop {
            match self.dial(to).await {
                Ok(link) => return Done::Dialled(Box::new(link)),
                Err(e) => log!("{}: {}", entry.spec.name, format!("{to} is not there: {e:#}")),
            }
            self.executor.sleep(pause).await;
            if let Some(answer) = entry.decision.take() {
                return Done::Answered(answer);
            }
            pause = (pause * 2).min(5_000);
        }
    }
}
