//! The node where the task runs.

use super::Said;
use crate::Nanos;
use crate::channel::Kind;
use crate::error::Violation;
use crate::message::{Long, Message, Offer, Part, Reason, Refusal};
use crate::pages::{self, BATCH_PAGES, Packer, PageRange, cut, merged, push};
use crate::source::Guest;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use wayfare_snapshot::PAGE_SIZE;

/// The memory of a task that is protected.
pub trait Protected: Guest {
    /// Bytes of its memories, by index.
    fn sizes(&mut self) -> Vec<u64>;
}

/// Where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The offer is to be sent.
    Offering,
    /// It was sent.
    Offered,
    /// The module is being sent, so far.
    Module(usize),
    /// The standby makes an instance.
    Landing,
    /// Nothing is under way.
    Idle,
    /// Pages are copied, and sent, while the task runs.
    Copying,
    /// The task is being stopped, for a moment.
    Freezing,
    /// It runs again; the rest of the sync is sent: pages, then the state, so far.
    Sending(usize),
    /// Everything was sent.
    Ending,
    /// The standby has all of it, and was told to take over.
    Handing,
    /// The link is gone: [`Primary::reattach`].
    Away,
    /// The task has no standby, for this reason.
    Over(Refusal),
    /// The standby has taken over, at this epoch.
    TakenOver(u64),
    /// The standby had taken over, and stands still for this one to go on at this epoch.
    Yielded(u64),
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Stop the task at its next migration point; then [`Primary::frozen`] or [`Event::NotFrozen`].
    Freeze,
    /// Let it run on.
    Thaw,
    /// A sync is complete.
    Synced(Synced),
    /// The task is to be handed over: [`Primary::hand_over`].
    HandOver {
        /// A person asked for it.
        stays: bool,
    },
}

/// What became of a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synced {
    /// Its number.
    pub sync: u64,
    /// When it was asked for.
    pub began: Nanos,
    /// When the task stood still: what the standby has is of that time.
    pub of: Nanos,
    /// Bytes that were sent for it.
    pub bytes: u64,
    /// Pages that were sent for it.
    pub pages: u64,
    /// Pages that were there already.
    pub spared: u64,
}

/// What happened at the driver.
#[derive(Clone, Debug)]
pub enum Event {
    /// The task could not be stopped, for this reason.
    NotFrozen(Refusal),
    /// The channel is gone.
    Disconnected,
    /// It is to have no standby any more.
    Dismissed,
    /// It goes on at another node, which will say to the standby what it is to do; or here, at another epoch.
    Passed {
        /// Where.
        to: String,
        /// At which epoch.
        epoch: u64,
    },
}

/// Rounds of copying before the task is stopped, at most: what it writes meanwhile is copied again.
const ROUNDS: u32 = 4;
/// So few pages are copied while it stands still: a tenth of a millisecond or two.
const FEW: u64 = 256;
/// Packed pages that may wait for the link, bytes. The task goes on meanwhile, and writes: more would only get old.
const AHEAD: usize = 16 << 20;
/// Digests in a message.
const DIGESTS: u64 = 256;

/// The machine.
pub struct Primary {
    offer: Offer,
    rank: u32,
    terms: Vec<u8>,
    module: Vec<u8>,
    phase: Phase,
    messages: VecDeque<Message>,
    actions: VecDeque<Action>,
    /// The last sync that is complete there.
    base: u64,
    /// The one that is under way, or was the last to be.
    sync: u64,
    /// Pages of syncs that are not complete: they belong to the next one.
    owed: BTreeSet<PageRange>,
    /// All there is belongs to it.
    owes_all: bool,
    /// The next sync is the last one: the task is handed over with it, to stay there or not.
    handing: Option<bool>,
    /// It stands still for that.
    held_still: bool,
    /// Pages of a sync that was cut off may be there.
    asks: bool,
    asked: VecDeque<PageRange>,
    undigested: VecDeque<PageRange>,
    /// Still to be copied.
    queue: VecDeque<PageRange>,
    rounds: u32,
    round_pages: u64,
    /// What was copied while the task stood still.
    held: VecDeque<(PageRange, Vec<u8>)>,
    /// Packed, to be sent.
    batches: VecDeque<Vec<u8>>,
    waiting: usize,
    sent: u64,
    state: Vec<u8>,
    synced: Synced,
    packer: Packer,
    buffer: Vec<u8>,
}

impl Primary {
    /// A protection that is about to be offered: `offer` has the epoch at which the task runs. `module` is sent if the
    /// standby lacks it; `rank` standbys are to go on with it rather than this one; `terms` are for its driver, at most
    /// [`TERMS_MAX`](super::TERMS_MAX) bytes.
    pub fn new(offer: Offer, rank: u32, terms: Vec<u8>, module: Vec<u8>) -> Self {
        Self {
            offer,
            rank,
            terms,
            module,
            phase: Phase::Offering,
            messages: VecDeque::new(),
            actions: VecDeque::new(),
            base: 0,
            sync: 0,
            owed: BTreeSet::new(),
            owes_all: true,
            handing: None,
            held_still: false,
            asks: false,
            asked: VecDeque::new(),
            undigested: VecDeque::new(),
            queue: VecDeque::new(),
            rounds: 0,
            round_pages: 0,
            held: VecDeque::new(),
            batches: VecDeque::new(),
            waiting: 0,
            sent: 0,
            state: Vec::new(),
            synced: Synced { sync: 0, began: 0, of: 0, bytes: 0, pages: 0, spared: 0 },
            packer: Packer::default(),
            buffer: Vec::new(),
        }
    }

    /// Where it stands.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// The last sync that is complete at the standby; 0 if none is.
    pub fn kept(&self) -> u64 {
        self.base
    }

    /// Bytes sent so far for the sync that is under way.
    pub fn sent(&self) -> u64 {
        self.synced.bytes
    }

    /// What to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Begins a sync; `false` if there is no standby to sync with, or one is under way.
    pub fn begin(&mut self, now: Nanos) -> bool {
        if self.phase != Phase::Idle {
            return false;
        }
        self.sync += 1;
        self.synced = Synced { sync: self.sync, began: now, of: 0, bytes: 0, pages: 0, spared: 0 };
        (self.rounds, self.sent, self.phase) = (0, 0, Phase::Copying);
        let since = if self.owes_all { 0 } else { self.base };
        self.say(Said::Begin { sync: self.sync, since });
        true
    }

    /// Hands the task over with the next sync, which begins now or when the one that is under way is complete.
    pub fn hand_over(&mut self, now: Nanos, stays: bool) {
        if !self.is_over() && self.phase != Phase::Away {
            self.handing = Some(stays);
            self.begin(now);
        }
    }

    /// Whether the task is being handed over.
    pub fn is_handing(&self) -> bool {
        self.handing.is_some()
    }

    /// The task stands still; this is its state but for its pages. What is left of them is copied here and now, and the task
    /// may go on ([`Action::Thaw`]) if it is not handed over.
    pub fn frozen(&mut self, now: Nanos, state: Vec<u8>, guest: &mut dyn Protected) {
        // Cut off meanwhile: what is written is found by the next one.
        if self.phase != Phase::Freezing {
            return self.actions.push_back(Action::Thaw);
        }
        self.held_still = true;
        if self.handing.is_none() {
            self.let_go();
        }
        // The marks stay, as clearing them takes as long as all the rest: these few pages go with the next sync once more.
        let left: Vec<PageRange> = self.queue.drain(..).chain(guest.rest()).collect();
        for range in left {
            self.owed.insert(range);
            for range in cut(range, BATCH_PAGES) {
                let mut bytes = Vec::with_capacity(range.count as usize * PAGE_SIZE);
                if !guest.read(range, &mut bytes) {
                    return self.cannot_read();
                }
                self.held.push_back((range, bytes));
            }
        }
        (self.state, self.synced.of, self.phase) = (state, now, Phase::Sending(0));
    }

    /// A new channel to the standby, once the last one is gone.
    pub fn reattach(&mut self) {
        if self.phase == Phase::Away {
            self.phase = Phase::Offering;
        }
    }

    /// Takes what happened at the driver.
    pub fn handle_event(&mut self, event: Event) {
        match event {
            Event::NotFrozen(refusal) => self.end(Said::Dismiss, refusal),
            // The standby may have taken over.
            Event::Dismissed | Event::Passed { .. } if self.phase == Phase::Handing => {}
            Event::Dismissed => {
                self.end(Said::Dismiss, Refusal::new(Reason::Cancelled, "it was told to have no standby any more"))
            }
            Event::Passed { to, epoch } => {
                let refusal = Refusal::new(Reason::Cancelled, format!("it goes on at {to}"));
                self.end(Said::Passed { to, epoch }, refusal);
            }
            Event::Disconnected if self.is_over() => {}
            Event::Disconnected => {
                self.messages.clear();
                self.drop_work();
                self.let_go();
                self.phase = Phase::Away;
            }
        }
    }

    /// What stands still goes on, and nothing is handed over.
    fn let_go(&mut self) {
        if core::mem::take(&mut self.held_still) {
            self.actions.push_back(Action::Thaw);
        }
        self.handing = None;
    }

    /// Whether the machine has nothing to do any more.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over(_) | Phase::TakenOver(_) | Phase::Yielded(_))
    }

    fn drop_work(&mut self) {
        self.queue.drain(..).for_each(|range| _ = self.owed.insert(range));
        self.undigested.drain(..).for_each(|range| _ = self.owed.insert(range));
        self.asked.drain(..).for_each(|range| _ = self.owed.insert(range));
        self.held.clear();
        self.batches.clear();
        self.state = Vec::new();
        self.waiting = 0;
    }

    fn end(&mut self, word: Said, refusal: Refusal) {
        if !self.is_over() {
            self.drop_work();
            self.let_go();
            self.say(word);
            self.phase = Phase::Over(refusal);
        }
    }

    fn cannot_read(&mut self) {
        self.end(Said::Dismiss, Refusal::new(Reason::Ended, "the task's memory cannot be read any more"));
    }

    fn say(&mut self, said: Said) {
        self.messages.push_back(Message::Standby(said));
    }

    /// Takes a message.
    ///
    /// # Errors
    /// A message that has no place here: close the channel, then [`Event::Disconnected`].
    pub fn handle_message(&mut self, message: Said) -> Result<(), Violation> {
        match (&self.phase, message) {
            (Phase::Over(_) | Phase::TakenOver(_) | Phase::Yielded(_), _) => {}
            (_, Said::Refuse(refusal)) => {
                self.drop_work();
                self.let_go();
                self.phase = Phase::Over(refusal);
            }
            // If it stands still it does so on: the driver says what becomes of it.
            (_, Said::TakenOver(epoch)) => {
                self.drop_work();
                self.phase = Phase::TakenOver(epoch);
            }
            (Phase::Offered, Said::Yield(epoch)) => self.phase = Phase::Yielded(epoch),
            (Phase::Offering | Phase::Offered | Phase::Away, Said::HandMe) => {}
            (_, Said::HandMe) => self.actions.push_back(Action::HandOver { stays: true }),
            (Phase::Offered, Said::Accept { has_module, sync, has_rest }) => {
                self.accepted(sync);
                self.asks = has_rest;
                self.phase = if has_module { Phase::Landing } else { Phase::Module(0) };
            }
            (Phase::Landing, Said::Landed) => self.phase = Phase::Idle,
            (Phase::Copying, Said::Have(bits)) => self.take_have(&bits)?,
            (Phase::Ending, Said::Kept(sync)) if sync == self.sync => {
                self.complete();
                self.phase = Phase::Idle;
                self.actions.push_back(Action::Synced(self.synced));
                if let Some(stays) = self.handing {
                    if self.held_still {
                        self.phase = Phase::Handing;
                        self.say(Said::Hand { stays });
                    } else {
                        // It was let go before that was asked for: there is one more.
                        self.actions.push_back(Action::HandOver { stays });
                    }
                }
            }
            _ => return Err(Violation("a message out of place")),
        }
        Ok(())
    }

    /// The standby has this sync.
    fn accepted(&mut self, sync: u64) {
        if sync == 0 || (sync != self.base && sync != self.sync) {
            // It was started anew, or is another one.
            (self.base, self.owes_all) = (0, true);
        } else if sync == self.sync {
            // The word that it is complete was lost.
            self.complete();
        }
    }

    fn complete(&mut self) {
        (self.base, self.owes_all) = (self.sync, false);
        self.owed.clear();
    }

    fn take_have(&mut self, bits: &[u8]) -> Result<(), Violation> {
        let range = self.asked.pop_front().ok_or(Violation("an answer to nothing"))?;
        if bits.len() as u64 != range.count.div_ceil(8) {
            return Err(Violation("an answer of another length"));
        }
        // It is part of this sync, wherever it comes from.
        self.owed.insert(range);
        for i in 0..range.count {
            if bits[i as usize / 8] >> (i % 8) & 1 == 1 {
                self.synced.spared += 1;
                continue;
            }
            push(&mut self.queue, PageRange { first: range.first + i, count: 1, ..range }, 0);
        }
        self.round_pages = self.queue.iter().map(|range| range.count).sum();
        Ok(())
    }

    /// Whether a call of [`Primary::poll_message`] with a link that takes nothing would do something: copy pages ahead.
    pub fn can_copy(&self) -> bool {
        match self.phase {
            Phase::Copying => self.waiting < AHEAD && self.asked.is_empty(),
            Phase::Sending(_) => !self.held.is_empty() && self.waiting < AHEAD,
            _ => false,
        }
    }

    /// Copies, or packs, one batch of pages ahead of the link. Call while [`Primary::can_copy`].
    pub fn copy(&mut self, guest: &mut dyn Protected) {
        match self.phase {
            Phase::Copying if self.rounds == 0 => self.list_first(guest),
            Phase::Copying if !self.undigested.is_empty() => self.send_digests(guest),
            Phase::Copying if !self.asked.is_empty() => {}
            Phase::Copying => match self.queue.pop_front() {
                Some(range) => self.copy_some(range, guest),
                None => self.next_round(guest),
            },
            Phase::Sending(_) => {
                if let Some((range, bytes)) = self.held.pop_front() {
                    self.pack(range, &bytes);
                }
            }
            _ => {}
        }
    }

    fn list_first(&mut self, guest: &mut dyn Protected) {
        self.rounds = 1;
        // What is listed is not listed again.
        let mut list: BTreeSet<PageRange> = guest.dirty().into_iter().chain(core::mem::take(&mut self.owed)).collect();
        if self.owes_all {
            let whole =
                |(memory, size): (u32, u64)| PageRange { memory, first: 0, count: size.div_ceil(PAGE_SIZE as u64) };
            list = (0..).zip(guest.sizes()).map(whole).filter(|range| range.count > 0).collect();
        }
        let list = merged(list);
        self.owed = list.iter().copied().collect();
        if core::mem::take(&mut self.asks) {
            self.undigested = list.into_iter().flat_map(|range| cut(range, DIGESTS)).collect();
        } else {
            self.queue = list;
        }
        self.round_pages = self.owed.iter().map(|range| range.count).sum();
    }

    fn next_round(&mut self, guest: &mut dyn Protected) {
        let dirty = merged(guest.dirty().into_iter().collect());
        let pages: u64 = dirty.iter().map(|range| range.count).sum();
        self.owed.extend(&dirty);
        self.queue = dirty;
        let shrinks = pages < self.round_pages / 2;
        self.rounds += 1;
        self.round_pages = pages;
        if pages <= FEW || !shrinks || self.rounds > ROUNDS {
            self.phase = Phase::Freezing;
            self.actions.push_back(Action::Freeze);
        }
    }

    fn copy_some(&mut self, range: PageRange, guest: &mut dyn Protected) {
        let now = PageRange { count: range.count.min(BATCH_PAGES), ..range };
        if now.count < range.count {
            self.queue.push_front(PageRange {
                first: range.first + now.count,
                count: range.count - now.count,
                ..range
            });
        }
        let mut buffer = core::mem::take(&mut self.buffer);
        buffer.clear();
        if guest.read(now, &mut buffer) {
            self.pack(now, &buffer);
        } else {
            self.cannot_read();
        }
        self.buffer = buffer;
    }

    fn pack(&mut self, range: PageRange, bytes: &[u8]) {
        let mut out = Vec::new();
        self.packer.pack(0, range, bytes, &mut out);
        self.waiting += out.len();
        self.synced.pages += range.count;
        self.batches.push_back(out);
    }

    fn send_digests(&mut self, guest: &mut dyn Protected) {
        let Some(range) = self.undigested.pop_front() else { return };
        let mut bytes = Vec::new();
        if !guest.read(range, &mut bytes) {
            return self.cannot_read();
        }
        let digests = bytes.chunks(PAGE_SIZE).map(pages::digest).collect();
        self.asked.push_back(range);
        self.say(Said::Digests { range, digests });
    }

    /// The next message, its payload in `out`. Does a bounded amount of work.
    pub fn poll_message(&mut self, guest: &mut dyn Protected, out: &mut Vec<u8>) -> Option<Kind> {
        out.clear();
        loop {
            if let Some(message) = self.messages.pop_front() {
                *out = message.encode();
                return Some(Kind::Transfer);
            }
            if let Some(batch) = self.batches.pop_front() {
                self.waiting -= batch.len();
                self.synced.bytes += batch.len() as u64;
                self.sent += 1;
                *out = batch;
                return Some(Kind::Pages);
            }
            match self.phase {
                Phase::Offering => {
                    self.phase = Phase::Offered;
                    self.offer.memories = guest.sizes();
                    let (offer, terms) = (self.offer.clone(), self.terms.clone());
                    self.say(Said::Protect { offer, rank: self.rank, terms });
                }
                Phase::Module(at) => {
                    let part = Part::of(Long::Module, &self.module, at);
                    part.encode(out);
                    let next = at + part.bytes.len();
                    self.phase = if part.is_last() { Phase::Landing } else { Phase::Module(next) };
                    return Some(Kind::Part);
                }
                Phase::Copying if self.asked.is_empty() || !self.undigested.is_empty() => self.copy(guest),
                Phase::Sending(_) if !self.held.is_empty() => self.copy(guest),
                Phase::Sending(at) => {
                    let part = Part::of(Long::State, &self.state, at);
                    part.encode(out);
                    self.synced.bytes += out.len() as u64;
                    self.phase = Phase::Sending(at + part.bytes.len());
                    if part.is_last() {
                        self.state = Vec::new();
                        self.phase = Phase::Ending;
                        self.say(Said::End { sync: self.sync, batches: self.sent });
                    }
                    return Some(Kind::Part);
                }
                _ => return None,
            }
        }
    }
}
