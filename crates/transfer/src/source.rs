//! The node that a task leaves.
//!
//! ```text
//! Offering ─► Offered ─► Module ─► Landing ─► Digesting ─► Copying ◄─► Round
//!                                                             │ └─► Clearing (the rest comes late)
//!            Failed ◄──────────── before Commit ──────────────┤◄──────┘ freeze
//!              ▲ thaws                                        ▼
//!              └──────────────── Prepared? ◄─── Final ◄─── Freezing
//!                                    │ Commit
//!                                    ▼
//!                                 Unknown ─► Committed: Draining ─► Keeping ─► Done
//!                                    │                      └──────────┴ link lost: dials again
//!                                    └ link lost: asks ─► Draining, or Failed and thaws
//! ```
//! Messages of [`Kind::Pages`] that come before [`Phase::Draining`] may go by any of several channels; all others go by
//! one, in their order.
//!
//! The source keeps the task as it was, frozen, until the destination says that it is on its disk: should that node die
//! before, the task goes on here.

use crate::Nanos;
use crate::channel::Kind;
use crate::convergence::{Convergence, Decision, Round};
use crate::error::Violation;
use crate::message::{Answer, Long, Message, Mode, Offer, Part, Reason, Refusal};
use crate::pages::{self, BATCH_PAGES, Packer, PageRange, cut, push};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use wayfare_snapshot::PAGE_SIZE;

/// The task's memory, as the source reads it while the task runs or stands still.
pub trait Guest {
    /// Pages written since the last call; at the first, all that may differ from the module's initial image. A page
    /// that is read after this and changes then is in the next answer.
    fn dirty(&mut self) -> Vec<PageRange>;
    /// Those of these pages that were written since the last [`Guest::dirty`], which will tell of them. As far as that can
    /// be said quickly: some, or none, is right, too.
    fn written(&mut self, _: PageRange) -> Vec<PageRange> {
        Vec::new()
    }
    /// [`Guest::dirty`] for the last time: nothing is written any more.
    fn rest(&mut self) -> Vec<PageRange> {
        self.dirty()
    }
    /// Appends the bytes of pages; `false` if they cannot be read any more.
    fn read(&mut self, range: PageRange, into: &mut Vec<u8>) -> bool;
}

/// See [`Source::patience`].
const SILENCE: Nanos = 20_000_000_000;
const COMPILING: Nanos = 600_000_000_000;

/// What to do when rounds do not get smaller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStall {
    /// Freeze all the same: a longer downtime.
    #[default]
    Freeze,
    /// Leave the task where it is.
    GiveUp,
}

/// How to move.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The bound on the downtime.
    pub max_downtime: Nanos,
    /// What to do if it cannot be kept.
    pub on_stall: OnStall,
    /// Bytes per second, at most.
    pub limit: Option<u64>,
    /// Round-trip time of the link.
    pub rtt: Nanos,
}

impl Default for Policy {
    fn default() -> Self {
        Self { max_downtime: 10_000_000, on_stall: OnStall::Freeze, limit: None, rtt: 1_000_000 }
    }
}

/// Where a move stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The offer is to be sent.
    Offering,
    /// It was sent.
    Offered,
    /// The module is being sent, so far.
    Module(usize),
    /// The destination compiles and makes an instance.
    Landing,
    /// What goes along is being sent, so far.
    Extra(usize),
    /// Digests were sent.
    Digesting,
    /// Pages are sent while the task runs.
    Copying,
    /// A round is to be confirmed.
    Round,
    /// The destination drops pages that are outdated and will come late; the task runs.
    Clearing,
    /// The task is being stopped.
    Freezing,
    /// It stands still; the last pages and the state are sent, so far.
    Final(usize),
    /// The destination restores and checks.
    Preparing,
    /// `Commit` was sent and not answered: the task may run there. **It stays frozen here.**
    Unknown,
    /// The task runs there; late pages are sent.
    Draining,
    /// It has all been sent, and is kept here until the destination says that it is on its disk.
    Keeping,
    /// The task is there.
    Done,
    /// It is here, as if nothing had happened.
    Failed(Refusal),
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Stop the task at its next migration point; then [`Event::Frozen`] or [`Event::NotFrozen`].
    Freeze,
    /// Write to the journal that the task may go to the destination at this epoch; then [`Event::Logged`].
    Log(u64),
    /// Strike out what was written for [`Action::Log`]: the task never went.
    Strike,
    /// Let it run on here.
    Thaw,
    /// The destination will never have it, or has lost it: write to the journal that it is owned here again, at this
    /// epoch, and let it run on. After [`Action::Gone`] clients have seen more of it than it knows.
    Retake(u64),
    /// The link is gone and nobody knows who has the task: ask the destination until it answers
    /// ([`Source::handle_answer`]).
    Ask,
    /// The link is gone before the last word: dial again, [`Source::reattach`], and go on with this machine.
    Redial,
    /// The task runs at the destination. Nothing of it may run here, unless [`Action::Retake`] comes.
    Gone,
    /// It is on the destination's disk: write to the journal that it has left, and forget it.
    Release,
}

/// What happened at the driver.
#[derive(Clone, Debug)]
pub enum Event {
    /// The task stands still; this is its state but for its pages.
    Frozen(Vec<u8>),
    /// It could not be stopped, for this reason; it runs on or has ended.
    NotFrozen(Refusal),
    /// The note is in the journal.
    Logged,
    /// Somebody calls the move off. Without effect after the commit.
    Cancelled(Refusal),
    /// The channel is gone.
    Disconnected,
}

/// How a move goes, for showing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Rounds begun.
    pub round: u32,
    /// Pages sent, in all rounds.
    pub pages: u64,
    /// Pages that were there already, by their digests.
    pub spared: u64,
    /// Bytes of memory sent, packed.
    pub bytes: u64,
    /// Pages still to be sent in this round.
    pub left: u64,
    /// Pages of this round.
    pub of: u64,
    /// Pages per second that the task writes to.
    pub dirty_rate: f64,
    /// Bytes per second that the link takes.
    pub bandwidth: f64,
    /// What the downtime would be or will be, predicted.
    pub predicted: Nanos,
    /// The rounds got no smaller.
    pub stalled: bool,
    /// Pages that come after the task, or on demand.
    pub late: u64,
}

/// The machine.
pub struct Source {
    offer: Offer,
    module: Vec<u8>,
    extra: Vec<u8>,
    policy: Policy,
    phase: Phase,
    connected: bool,
    messages: VecDeque<Message>,
    actions: VecDeque<Action>,
    /// Ranges that wait for their digests' answer, in the order of the questions.
    asked: VecDeque<PageRange>,
    /// Ranges whose digests are still to be sent; none before they are listed.
    undigested: Option<VecDeque<PageRange>>,
    queue: VecDeque<PageRange>,
    /// Pages up to here were looked at, whether they have been written since they were listed, and these have.
    looked: PageRange,
    outdated: Vec<PageRange>,
    /// What was said to come late, ascending: nothing else can be asked for.
    late: Vec<PageRange>,
    state: Vec<u8>,
    /// Whether the last pages were listed, the task standing still.
    scanned: bool,
    ask_digests: bool,
    /// Whether pages may come after the task.
    can_be_late: bool,
    /// Whether they do.
    goes_late: bool,
    log_asked: bool,
    logged: bool,
    prepared: bool,
    frozen: bool,
    /// A new channel is there, and not yet the word what is missing.
    reattaching: bool,
    round: u32,
    round_told: bool,
    round_pages: u64,
    round_bytes: u64,
    round_began: Nanos,
    convergence: Convergence,
    packer: Packer,
    buffer: Vec<u8>,
    /// Bytes that the limit allows, and when that was reckoned.
    allowance: (f64, Nanos),
    progress: Progress,
}

/// Pages in a batch of late ones: small, so that what the task waits for does not queue up behind much.
const LATE_PAGES: u64 = 16;
/// Pages in a batch while the task stands still: small, so that packing, the link and unpacking work at the same time.
const FINAL_PAGES: u64 = 16;
/// Pages that are looked at at once, whether they were written again: few enough that the answer is fresh when they are
/// sent.
const LOOK_PAGES: u64 = 256;
/// Digests in a message.
const DIGESTS: u64 = 256;
/// Ranges in the first list of late pages.
const LATE_RANGES: usize = 128;
/// Ranges in any list of late pages.
pub const RANGES_MAX: usize = 8192;
/// The round that late pages are in.
pub const LATE: u32 = u32::MAX;

impl Source {
    /// A move that is about to be offered. `module` is sent if the destination lacks it.
    pub fn new(offer: Offer, module: Vec<u8>, policy: Policy) -> Self {
        let convergence = Convergence::new(policy.max_downtime, policy.rtt);
        Self {
            offer,
            module,
            extra: Vec::new(),
            policy,
            phase: Phase::Offering,
            connected: true,
            messages: VecDeque::new(),
            actions: VecDeque::new(),
            asked: VecDeque::new(),
            undigested: None,
            queue: VecDeque::new(),
            looked: PageRange { memory: 0, first: 0, count: 0 },
            outdated: Vec::new(),
            late: Vec::new(),
            state: Vec::new(),
            scanned: false,
            ask_digests: false,
            can_be_late: false,
            goes_late: false,
            log_asked: false,
            logged: false,
            prepared: false,
            frozen: false,
            reattaching: false,
            round: 0,
            round_told: true,
            round_pages: 0,
            round_bytes: 0,
            round_began: 0,
            convergence,
            packer: Packer::default(),
            buffer: Vec::new(),
            allowance: (0.0, 0),
            progress: Progress::default(),
        }
    }

    /// Something that goes along before the task is stopped, and is not looked at here: what it has logged, say.
    pub fn with_extra(mut self, extra: Vec<u8>) -> Self {
        self.extra = extra;
        self
    }

    /// Where it stands.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// What was offered.
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// How it goes.
    pub fn progress(&self) -> Progress {
        Progress {
            round: self.round,
            left: self.queue.iter().map(|r| r.count).sum(),
            bandwidth: self.convergence.bandwidth(),
            ..self.progress
        }
    }

    /// What to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether there is something for [`Source::poll_action`].
    pub fn has_action(&self) -> bool {
        !self.actions.is_empty()
    }

    /// Whether the machine has nothing to do any more.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Done | Phase::Failed(_))
    }

    /// Whether the commit was sent: the task may run at the destination.
    pub fn has_left(&self) -> bool {
        matches!(self.phase, Phase::Unknown | Phase::Draining | Phase::Keeping | Phase::Done)
    }

    /// Ends a move before the commit: the task runs on here.
    fn fail(&mut self, refusal: Refusal) {
        if self.has_left() || self.is_over() {
            return;
        }
        self.phase = Phase::Failed(refusal);
        self.queue.clear();
        self.messages.clear();
        if self.log_asked {
            self.actions.push_back(Action::Strike);
        }
        // A task that is still being stopped is let go as soon as it stands.
        if self.frozen {
            self.actions.push_back(Action::Thaw);
        }
    }

    fn abort(&mut self, refusal: Refusal) {
        if !self.has_left() && !self.is_over() {
            self.fail(refusal.clone());
            self.messages.push_back(Message::Abort(refusal));
        }
    }

    /// Takes a message of [`Kind::Transfer`].
    ///
    /// # Errors
    /// A message that has no place here: close the channel, then [`Event::Disconnected`].
    pub fn handle_message(&mut self, now: Nanos, message: Message) -> Result<(), Violation> {
        match (&self.phase, message) {
            (Phase::Failed(_), _) => {}
            (Phase::Offered, Message::Accept(accept)) => {
                self.ask_digests = accept.has_pages;
                self.can_be_late = accept.can_be_late && self.offer.mode.is_late();
                self.phase = if accept.has_module { Phase::Landing } else { Phase::Module(0) };
            }
            (Phase::Landing | Phase::Module(_), Message::Landed) => self.landed(),
            (Phase::Digesting, Message::Have(bits)) => self.take_have(now, &bits)?,
            (Phase::Round, Message::RoundDone(number)) if number == self.round => self.phase = Phase::Copying,
            (Phase::Clearing, Message::Dropped) => self.freeze(),
            // Of the last round, which nobody waits for.
            (Phase::Final(_) | Phase::Preparing, Message::RoundDone(number)) if number == self.round => {}
            (Phase::Preparing, Message::Prepared) => {
                self.prepared = true;
                self.commit();
            }
            (Phase::Unknown, Message::Committed(epoch)) if epoch == self.offer.epoch => self.gone(),
            (Phase::Unknown, Message::Answer(answer)) => self.handle_answer(answer),
            // It says that it will not have it, having thrown away what it had.
            (Phase::Unknown, Message::Refuse(refusal)) => self.retake(self.offer.epoch, refusal),
            (Phase::Draining | Phase::Keeping, Message::Answer(Answer::Lost)) => self.handle_answer(Answer::Lost),
            (Phase::Draining | Phase::Keeping, Message::Fetch(range)) => self.fetch(range),
            (Phase::Draining | Phase::Keeping, Message::Late(missing)) => {
                if !missing.iter().all(|range| self.is_late(range)) {
                    return Err(Violation("pages that were not to come late"));
                }
                self.queue = missing.into();
                self.phase = Phase::Draining;
                self.reattaching = false;
            }
            (Phase::Draining | Phase::Keeping, Message::Received) => {
                self.reattaching = false;
                self.phase = Phase::Done;
                self.actions.push_back(Action::Release);
            }
            (_, Message::Refuse(refusal)) if !self.has_left() => self.fail(refusal),
            _ => return Err(Violation("a message out of place")),
        }
        Ok(())
    }

    fn landed(&mut self) {
        if !self.extra.is_empty() {
            self.phase = Phase::Extra(0);
            return;
        }
        match self.offer.mode {
            Mode::PreCopy | Mode::Hybrid if self.ask_digests => self.phase = Phase::Digesting,
            Mode::PreCopy | Mode::Hybrid => self.phase = Phase::Copying,
            Mode::Stop => self.freeze(),
            Mode::PostCopy => {
                self.goes_late = true;
                self.freeze();
            }
        }
    }

    /// Gives the task away, once both sides are ready. From here on nothing may fail, and nothing thaws the task again
    /// but the destination's word that it does not have it.
    fn commit(&mut self) {
        if self.phase == Phase::Preparing && self.prepared && self.logged {
            self.phase = Phase::Unknown;
            self.messages.push_back(Message::Commit(self.offer.epoch));
        }
    }

    fn take_have(&mut self, now: Nanos, bits: &[u8]) -> Result<(), Violation> {
        let range = self.asked.pop_front().ok_or(Violation("an answer to nothing"))?;
        if bits.len() as u64 != range.count.div_ceil(8) {
            return Err(Violation("an answer of another length"));
        }
        for i in 0..range.count {
            if bits[i as usize / 8] >> (i % 8) & 1 == 1 {
                self.progress.spared += 1;
            } else {
                push(&mut self.queue, PageRange { first: range.first + i, count: 1, ..range }, 0);
            }
        }
        if self.asked.is_empty() && self.undigested.as_ref().is_some_and(VecDeque::is_empty) {
            self.begin_round(now);
        }
        Ok(())
    }

    /// Whether a range is part of one that was listed as late: memory is read by what a peer names here.
    fn is_late(&self, range: &PageRange) -> bool {
        let after = self.late.partition_point(|late| (late.memory, late.first) <= (range.memory, range.first));
        let late = after.checked_sub(1).map(|at| self.late[at]).filter(|late| late.memory == range.memory);
        let end = range.first.checked_add(range.count);
        late.zip(end).is_some_and(|(late, end)| range.count > 0 && end <= late.first + late.count)
    }

    /// Moves what the task waits for to the front.
    fn fetch(&mut self, wanted: PageRange) {
        let mut hits = Vec::new();
        let mut rest = VecDeque::new();
        for range in self.queue.drain(..) {
            let (end, wanted_end) = (range.first + range.count, wanted.first.saturating_add(wanted.count));
            let (from, to) = (range.first.max(wanted.first), end.min(wanted_end));
            if range.memory != wanted.memory || from >= to {
                rest.push_back(range);
                continue;
            }
            hits.push(PageRange { first: from, count: to - from, ..range });
            // What follows it is likely to be wanted next.
            if to < end {
                hits.push(PageRange { first: to, count: end - to, ..range });
            }
            if range.first < from {
                rest.push_back(PageRange { count: from - range.first, ..range });
            }
        }
        self.queue = rest;
        hits.into_iter().rev().for_each(|hit| self.queue.push_front(hit));
    }

    /// Takes the destination's word about a move whose commit was not confirmed, or a person's about one of which the
    /// last word has not come.
    pub fn handle_answer(&mut self, answer: Answer) {
        match (&self.phase, answer) {
            (Phase::Unknown, Answer::Owns) => self.gone(),
            (Phase::Unknown, Answer::Never) => {
                let text = "the destination did not take the task over";
                self.retake(self.offer.epoch, Refusal::new(Reason::Link, text));
            }
            (Phase::Unknown | Phase::Draining | Phase::Keeping, Answer::Lost) => {
                let text = "the destination stopped before it had saved the task: it goes on from where it left";
                // Its epoch has been used: what ran there and what goes on here are two.
                self.retake(self.offer.epoch.saturating_add(1), Refusal::new(Reason::Link, text));
            }
            (Phase::Keeping | Phase::Draining, Answer::Owns) => {
                self.phase = Phase::Done;
                self.actions.push_back(Action::Release);
            }
            _ => {}
        }
    }

    fn retake(&mut self, epoch: u64, why: Refusal) {
        self.phase = Phase::Failed(why);
        self.queue.clear();
        self.messages.clear();
        self.actions.push_back(Action::Retake(epoch));
    }

    fn gone(&mut self) {
        self.actions.push_back(Action::Gone);
        self.phase = if self.goes_late { Phase::Draining } else { Phase::Keeping };
        if !self.connected {
            self.actions.push_back(Action::Redial);
        }
    }

    /// Whether the task runs at the destination with all of its pages; whether it is on the disk there is another matter.
    pub fn has_gone(&self) -> bool {
        matches!(self.phase, Phase::Keeping | Phase::Done) && !self.reattaching
    }

    /// A new channel to the destination, once the last one is gone.
    pub fn reattach(&mut self) {
        if matches!(self.phase, Phase::Draining | Phase::Keeping) {
            self.connected = true;
            self.messages.clear();
            self.queue.clear();
            // The answer says what is missing.
            self.phase = Phase::Keeping;
            self.reattaching = true;
            self.messages.push_back(Message::Reattach { task: self.offer.task, epoch: self.offer.epoch });
        }
    }

    /// Takes what happened at the driver.
    pub fn handle_event(&mut self, event: Event) {
        match event {
            Event::Frozen(state) => {
                self.frozen = true;
                match self.phase {
                    Phase::Freezing => {
                        self.state = state;
                        self.phase = Phase::Final(0);
                    }
                    // The move has failed meanwhile.
                    _ => self.actions.push_back(Action::Thaw),
                }
            }
            Event::NotFrozen(refusal) => self.abort(refusal),
            Event::Logged => {
                self.logged = true;
                self.commit();
            }
            Event::Cancelled(refusal) => self.abort(refusal),
            Event::Disconnected => {
                self.connected = false;
                // Nothing that was meant for this channel may go out by another one.
                self.messages.clear();
                match self.phase {
                    Phase::Unknown => self.actions.push_back(Action::Ask),
                    Phase::Draining | Phase::Keeping => self.actions.push_back(Action::Redial),
                    _ => self.fail(Refusal::new(Reason::Link, "the link to the destination broke")),
                }
            }
        }
    }

    fn freeze(&mut self) {
        self.phase = Phase::Freezing;
        self.log_asked = true;
        self.actions.push_back(Action::Freeze);
        self.actions.push_back(Action::Log(self.offer.epoch));
    }

    fn begin_round(&mut self, now: Nanos) {
        self.phase = Phase::Copying;
        // A round in which nothing was sent (all of it was there) was not told of, and goes on as this one.
        self.round += u32::from(self.round_told);
        self.round_told = false;
        self.round_pages = self.queue.iter().map(|r| r.count).sum();
        self.progress.of = self.round_pages;
        self.round_bytes = 0;
        self.round_began = now;
        // The first pages are sent, hot or not: a round in which nothing is sent says nothing about the link.
        self.looked = PageRange { count: LOOK_PAGES, ..self.queue.front().copied().unwrap_or(self.looked) };
        self.outdated.clear();
    }

    /// How long the other side may say nothing now; none when it is not its turn. An answer that takes it no work must come
    /// soon; compiling may take its time.
    pub fn patience(&self) -> Option<Nanos> {
        match self.phase {
            Phase::Landing => Some(COMPILING),
            Phase::Offered | Phase::Digesting | Phase::Round | Phase::Clearing | Phase::Preparing | Phase::Unknown => {
                Some(SILENCE)
            }
            _ => None,
        }
    }

    /// When [`Source::poll_message`] is to be called again though nothing has happened.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        let limit = self.policy.limit? as f64;
        let (allowed, at) = self.allowance;
        // Rounded up: a poll at a moment at which nothing may go yet would ask for the same moment again.
        (allowed < 0.0 && self.is_bulk())
            .then(|| at.saturating_add((-allowed / limit * 1e9) as Nanos).saturating_add(1))
    }

    /// Whether what comes next is long, and so held to the limit.
    fn is_bulk(&self) -> bool {
        match self.phase {
            Phase::Module(_) | Phase::Extra(_) => true,
            Phase::Final(_) => self.scanned,
            Phase::Copying => !self.queue.is_empty(),
            Phase::Draining => self.connected && !self.queue.is_empty(),
            _ => false,
        }
    }

    /// Whether the limit lets nothing long go now.
    fn is_held_back(&mut self, now: Nanos) -> bool {
        let Some(limit) = self.policy.limit else { return false };
        let (allowed, at) = &mut self.allowance;
        let gained = now.saturating_sub(*at) as f64 / 1e9 * limit as f64;
        // A tenth of a second may be caught up on.
        *allowed = (*allowed + gained).min(limit as f64 / 10.0);
        *at = now;
        *allowed < 0.0
    }

    /// The next message, its payload in `out`. Does a bounded amount of work: at most one batch of pages is read.
    pub fn poll_message(&mut self, now: Nanos, guest: &mut dyn Guest, out: &mut Vec<u8>) -> Option<Kind> {
        out.clear();
        loop {
            if let Some(message) = self.messages.pop_front() {
                *out = message.encode();
                return Some(Kind::Transfer);
            }
            if self.is_bulk() && self.is_held_back(now) {
                return None;
            }
            match &self.phase {
                Phase::Offering => {
                    self.phase = Phase::Offered;
                    self.messages.push_back(Message::Offer(self.offer.clone()));
                }
                Phase::Module(at) => return self.send_part(Long::Module, *at, out),
                Phase::Extra(at) => return self.send_part(Long::Extra, *at, out),
                Phase::Digesting if self.undigested.is_none() => {
                    let dirty = guest.dirty();
                    self.undigested = Some(dirty.into_iter().flat_map(|range| cut(range, DIGESTS)).collect());
                }
                Phase::Digesting => match self.undigested.as_mut().and_then(VecDeque::pop_front) {
                    Some(range) => self.send_digests(range, guest),
                    None if self.asked.is_empty() => self.begin_round(now),
                    None => return None,
                },
                Phase::Copying if self.round == 0 => {
                    self.queue = guest.dirty().into();
                    self.begin_round(now);
                }
                Phase::Copying if self.queue.is_empty() && self.round_pages > 0 => {
                    self.end_round();
                    self.phase = Phase::Round;
                }
                // The round before this one was confirmed, or was empty.
                Phase::Copying if self.queue.is_empty() => self.next_round(now, guest),
                Phase::Copying => {
                    if self.can_be_late {
                        self.skip_outdated(guest);
                    }
                    if !self.queue.is_empty() {
                        return self.send_pages(guest, self.round, BATCH_PAGES, out);
                    }
                }
                Phase::Final(_) if !self.scanned => self.list_last(now, guest),
                Phase::Final(_) if !self.queue.is_empty() && !self.goes_late => {
                    return self.send_pages(guest, self.round, FINAL_PAGES, out);
                }
                Phase::Final(_) if self.round_pages > 0 && !self.goes_late => self.end_round(),
                Phase::Final(at) => return self.send_part(Long::State, *at, out),
                Phase::Draining if !self.connected => return None,
                Phase::Draining if self.queue.is_empty() => {
                    self.phase = Phase::Keeping;
                    self.messages.push_back(Message::Drained);
                }
                Phase::Draining => return self.send_pages(guest, LATE, LATE_PAGES, out),
                _ => return None,
            }
        }
    }

    /// Says how many pages the round has: by several streams they may come after this word.
    fn end_round(&mut self) {
        self.messages.push_back(Message::Round { number: self.round, pages: self.round_pages });
        self.round_pages = 0;
        self.round_told = true;
    }

    fn send_part(&mut self, what: Long, at: usize, out: &mut Vec<u8>) -> Option<Kind> {
        let whole = match what {
            Long::Module => &mut self.module,
            Long::Extra => &mut self.extra,
            Long::State => &mut self.state,
        };
        let part = Part::of(what, whole, at);
        part.encode(out);
        self.allowance.0 -= out.len() as f64;
        let next = at + part.bytes.len();
        if !part.is_last() {
            self.phase = match what {
                Long::Module => Phase::Module(next),
                Long::Extra => Phase::Extra(next),
                Long::State => Phase::Final(next),
            };
            return Some(Kind::Part);
        }
        *whole = Vec::new();
        match what {
            Long::Module => self.phase = Phase::Landing,
            Long::Extra => self.landed(),
            Long::State => self.phase = Phase::Preparing,
        }
        Some(Kind::Part)
    }

    fn send_digests(&mut self, range: PageRange, guest: &mut dyn Guest) {
        self.buffer.clear();
        if !guest.read(range, &mut self.buffer) {
            return self.lost();
        }
        let digests = self.buffer.chunks(PAGE_SIZE).map(pages::digest).collect();
        self.asked.push_back(range);
        self.messages.push_back(Message::Digests { range, digests });
    }

    /// The memory is not there any more: the task has ended, and the driver will say so.
    fn lost(&mut self) {
        self.abort(Refusal::new(Reason::Ended, "the task has ended"));
    }

    fn next_round(&mut self, now: Nanos, guest: &mut dyn Guest) {
        let nanos = now.saturating_sub(self.round_began);
        let dirty = guest.dirty();
        let count: u64 = dirty.iter().map(|r| r.count).sum();
        let round = Round { pages: self.progress.of, bytes: self.round_bytes, nanos };
        self.queue = dirty.into();
        self.progress.dirty_rate = count as f64 * 1e9 / nanos.max(1) as f64;
        let decision = self.convergence.decide(round, count);
        self.progress.predicted = self.convergence.predict(count);
        match decision {
            Decision::Freeze(_) => self.freeze(),
            // It would hardly get less: the rest on demand.
            Decision::Stalled(_) | Decision::Continue if self.can_be_late && count > round.pages / 2 => self.clear(),
            Decision::Continue => self.begin_round(now),
            Decision::Stalled(predicted) => {
                self.progress.stalled = true;
                match self.policy.on_stall {
                    OnStall::Freeze => self.freeze(),
                    OnStall::GiveUp => self.abort(Refusal::new(
                        Reason::Stalled,
                        format!(
                            "the task writes to memory as fast as the link carries it: moving it now would stop it \
                             for about {} ms",
                            predicted / 1_000_000
                        ),
                    )),
                }
            }
        }
    }

    /// What is left comes late. The task runs while the destination makes room for it.
    fn clear(&mut self) {
        self.goes_late = true;
        self.coarsen(RANGES_MAX);
        self.phase = Phase::Clearing;
        self.messages.push_back(Message::Stale(self.queue.iter().copied().collect()));
    }

    /// Makes the queue a list of at most so many ranges. A page between two that are listed may well be sent again.
    fn coarsen(&mut self, most: usize) {
        let mut gap = 1;
        while self.queue.len() > most {
            for range in core::mem::take(&mut self.queue) {
                push(&mut self.queue, range, gap);
            }
            gap *= 2;
        }
    }

    /// Leaves out of this round what has been written again since it was listed: it would be sent in vain. Looks at what
    /// is about to be sent, since most of what is written was written a moment ago. Only if there are few rounds: with each
    /// the task pays for its first write to every page that is listed, and they would follow each other quickly.
    fn skip_outdated(&mut self, guest: &mut dyn Guest) {
        while let Some(next) = self.queue.front().copied() {
            let looked = self.looked;
            if next.memory != looked.memory || next.first >= looked.first + looked.count || next.first < looked.first {
                self.looked = PageRange { count: LOOK_PAGES, ..next };
                self.outdated = guest.written(self.looked);
                continue;
            }
            let end = next.first + next.count;
            let meets = |o: &&PageRange| o.memory == next.memory && o.first < end && next.first < o.first + o.count;
            let Some(hit) = self.outdated.iter().find(meets).copied() else {
                // Not further than was looked.
                if end > looked.first + looked.count {
                    self.split_front(looked.first + looked.count - next.first);
                }
                return;
            };
            if hit.first > next.first {
                self.split_front(hit.first - next.first);
                return;
            }
            let skipped = next.count.min(hit.first + hit.count - next.first);
            self.split_front(skipped);
            self.queue.pop_front();
            self.round_pages -= skipped;
            self.progress.of -= skipped;
        }
    }

    /// Cuts the first range of the queue after so many pages.
    fn split_front(&mut self, count: u64) {
        let Some(range) = self.queue.pop_front() else { return };
        if range.count > count {
            self.queue.push_front(PageRange { first: range.first + count, count: range.count - count, ..range });
        }
        self.queue.push_front(PageRange { count: count.min(range.count), ..range });
    }

    /// The task stands still: what is left of the last list, and what it wrote since.
    fn list_last(&mut self, now: Nanos, guest: &mut dyn Guest) {
        let mut all: Vec<PageRange> = self.queue.drain(..).chain(guest.rest()).collect();
        all.sort_unstable();
        for range in all {
            push(&mut self.queue, range, 0);
        }
        if self.goes_late {
            // Each is work for the destination's kernel while the task stands still.
            self.coarsen(LATE_RANGES);
        }
        self.scanned = true;
        self.begin_round(now);
        self.phase = Phase::Final(0);
        if self.goes_late {
            self.late = self.queue.iter().copied().collect();
            self.progress.late = self.round_pages;
            self.messages.push_back(Message::Late(self.late.clone()));
        } else {
            self.progress.predicted = self.convergence.predict(self.round_pages);
        }
    }

    fn send_pages(&mut self, guest: &mut dyn Guest, round: u32, most: u64, out: &mut Vec<u8>) -> Option<Kind> {
        self.split_front(most);
        let range = self.queue.pop_front()?;
        self.buffer.clear();
        if !guest.read(range, &mut self.buffer) {
            self.lost();
            *out = self.messages.pop_front()?.encode();
            return Some(Kind::Transfer);
        }
        self.packer.pack(round, range, &self.buffer, out);
        self.progress.pages += range.count;
        self.progress.bytes += out.len() as u64;
        self.round_bytes += out.len() as u64;
        self.allowance.0 -= out.len() as f64;
        Some(Kind::Pages)
    }
}
