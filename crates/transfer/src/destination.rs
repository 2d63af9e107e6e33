//! The node that a task comes to.
//!
//! ```text
//! Waiting ─► Admitting ─► Module ─► Landing ─► Taking ─► Preparing ─► Prepared
//!    │                                                                   │
//!    └─► Failed ◄──────────────── before Commit ─────────────────────────┤
//!                                                                        ▼ Commit
//!                                                 Done ◄── Saving ◄── Draining
//! ```
//! Nothing is set aside for a task before its offer was admitted. The journal says that it may be here before the
//! source hears that it could be, so that nothing is waited for when the source has given it away.

use crate::Nanos;
use crate::error::{ChannelError, Violation};
use crate::message::{Accept, Assembly, Long, MEMORIES_MAX, Message, Offer, Part, Reason, Refusal};
use crate::pages::{Batch, PageDigest, PageRange, Run};
use crate::source::{LATE, RANGES_MAX};
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

/// The memory of the instance that is to become the task.
pub trait Landing {
    /// Writes pages; the memory grows to hold them, within the task's limits.
    ///
    /// # Errors
    /// Pages past what the task may have.
    fn write(&mut self, range: PageRange, bytes: &[u8]) -> Result<(), Refusal>;
    /// Makes pages zero.
    ///
    /// # Errors
    /// As [`Landing::write`].
    fn zero(&mut self, range: PageRange) -> Result<(), Refusal>;
    /// Drops what is at pages that are about to come late, so that this need not be done while the task stands still.
    /// Nothing is lost if it is not.
    fn forget(&mut self, pages: &[PageRange]);
    /// Puts a page there that is known by its digest from before, if it is; says whether.
    fn recall(&mut self, memory: u32, page: u64, digest: &PageDigest) -> bool;
}

/// Where a move stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// For an offer.
    Waiting,
    /// The driver looks whether there is room.
    Admitting,
    /// The module is coming.
    Module,
    /// An instance is being made.
    Landing,
    /// Pages come.
    Taking,
    /// The state is there and is being restored and checked, or the journal still being written.
    Preparing,
    /// The task could run. Nobody here knows whether it will.
    Prepared,
    /// It runs; late pages come.
    Draining,
    /// It runs, and all of it is here, but not on the disk yet.
    Saving,
    /// It runs, and would go on after a crash.
    Done,
    /// It will not come by this move.
    Failed(Refusal),
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Look at the offer: the journal, memory, processors, directories, the name; then [`Event::Admitted`] or
    /// [`Event::Failed`]. Nothing may be set aside before.
    Admit,
    /// Compile or load the module, which is given if it had to be sent, and make an instance; then [`Event::Landed`].
    Land(Option<Vec<u8>>),
    /// Restore this state; then [`Event::Prepared`]. Nothing may run yet. Late pages are those that will be missing.
    Prepare {
        /// The state as the source's driver gave it.
        state: Vec<u8>,
        /// What went along before.
        extra: Vec<u8>,
        /// Pages to be waited for.
        late: Vec<PageRange>,
    },
    /// Write to the journal that the task may be taken over at this epoch; then [`Event::Logged`].
    Log(u64),
    /// Put back in the journal what was there before [`Action::Log`], or what is as good (`journal::struck`): the task will not
    /// come. No
    /// question is answered before.
    Strike,
    /// Run it.
    Run,
    /// Late pages that are in place now: let the task go on if it waits for one.
    Arrived(PageRange),
    /// All pages are there: write the task to the disk, and to the journal that it is owned; then [`Event::Saved`].
    Save,
    /// It cannot go on: end it, unseen, and write to the journal that it is lost.
    Forsake,
    /// Throw away what is there; pages may be kept for another try.
    Discard,
}

/// What happened at the driver.
#[derive(Clone, Debug)]
pub enum Event {
    /// There is room.
    Admitted(Accept),
    /// The instance is there.
    Landed,
    /// The state fits.
    Prepared,
    /// The note is in the journal.
    Logged,
    /// It is on the disk, or has ended or moved on.
    Saved,
    /// Something of the above could not be done.
    Failed(Refusal),
    /// The task waits for a late page.
    Fault(PageRange),
    /// The channel is gone.
    Disconnected,
}

/// How much a node takes in one move.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Bytes of a module.
    pub module: u64,
    /// Bytes of a state without its pages.
    pub state: u64,
    /// Bytes of what goes along.
    pub extra: u64,
}

impl Default for Caps {
    fn default() -> Self {
        Self { module: 256 << 20, state: 1 << 30, extra: 16 << 20 }
    }
}

/// See [`Destination::patience`].
const SILENCE: Nanos = 60_000_000_000;

/// Answers that may wait to go out: more than an honest source has questions under way.
const ANSWERS_MAX: usize = 8192;
/// Pages of the largest memory there can be, 2^64 bytes.
const PAGES_MAX: u64 = 1 << 52;

/// The machine.
pub struct Destination {
    caps: Caps,
    phase: Phase,
    offer: Option<Offer>,
    messages: VecDeque<Message>,
    actions: VecDeque<Action>,
    module: Assembly,
    state: Assembly,
    extra: Assembly,
    gone_along: Vec<u8>,
    round: u32,
    round_pages: u64,
    /// Pages of this round, once the source has sent all of them: by several streams they come after the word.
    round_of: Option<u64>,
    /// The state, when it is here before the pages of the last round.
    early: Option<Vec<u8>>,
    late: Vec<PageRange>,
    restored: bool,
    log_asked: bool,
    logged: bool,
    /// Some of the late pages were left out of what the source was told is missing.
    unlisted: bool,
    /// The page that the task waits for.
    fault: Option<PageRange>,
    pages: u64,
}

impl Destination {
    /// A machine that waits for an offer.
    pub fn new(caps: Caps) -> Self {
        Self {
            caps,
            phase: Phase::Waiting,
            offer: None,
            messages: VecDeque::new(),
            actions: VecDeque::new(),
            module: Assembly::default(),
            state: Assembly::default(),
            extra: Assembly::default(),
            gone_along: Vec::new(),
            round: 1,
            round_pages: 0,
            round_of: None,
            early: None,
            late: Vec::new(),
            restored: false,
            log_asked: false,
            logged: false,
            unlisted: false,
            fault: None,
            pages: 0,
        }
    }

    /// How long the source may say nothing now; none when it is not its turn.
    pub fn patience(&self) -> Option<Nanos> {
        matches!(self.phase, Phase::Module | Phase::Taking | Phase::Prepared).then_some(SILENCE)
    }

    /// Where it stands.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// What was offered.
    pub fn offer(&self) -> Option<&Offer> {
        self.offer.as_ref()
    }

    /// Pages that have come.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Pages that the task runs without as yet.
    pub fn missing(&self) -> u64 {
        if self.phase == Phase::Draining { self.late.iter().map(|r| r.count).sum() } else { 0 }
    }

    /// Whether the machine has nothing to do any more.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Done | Phase::Failed(_))
    }

    /// Whether the task is here for good.
    pub fn owns(&self) -> bool {
        matches!(self.phase, Phase::Draining | Phase::Saving | Phase::Done)
    }

    /// What to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next message.
    pub fn poll_message(&mut self) -> Option<Message> {
        self.messages.pop_front()
    }

    fn fail(&mut self, refusal: Refusal) {
        if self.owns() || self.is_over() {
            return;
        }
        self.phase = Phase::Failed(refusal);
        if self.log_asked {
            self.actions.push_back(Action::Strike);
        }
        self.actions.push_back(Action::Discard);
    }

    fn refuse(&mut self, refusal: Refusal) {
        if !self.owns() && !self.is_over() {
            self.messages.push_back(Message::Refuse(refusal.clone()));
            self.fail(refusal);
        }
    }

    /// Takes a message.
    ///
    /// # Errors
    /// A message that has no place here: close the channel, then [`Event::Disconnected`].
    pub fn handle_message(&mut self, message: Message, landing: Option<&mut dyn Landing>) -> Result<(), Violation> {
        if self.messages.len() >= ANSWERS_MAX {
            return Err(Violation("questions whose answers are not taken"));
        }
        match (&self.phase, message) {
            (Phase::Failed(_), _) => {}
            (Phase::Waiting, Message::Offer(offer)) => {
                offer.check()?;
                self.offer = Some(offer);
                self.phase = Phase::Admitting;
                self.actions.push_back(Action::Admit);
            }
            (_, Message::Abort(refusal)) if !self.owns() => self.fail(refusal),
            (Phase::Taking, Message::Digests { range, digests }) => {
                if digests.len() as u64 != range.count || range.first.checked_add(range.count).is_none() {
                    return Err(Violation("digests of other pages"));
                }
                let landing = landing.ok_or(Violation("digests before an instance"))?;
                let mut bits = vec![0; digests.len().div_ceil(8)];
                for (i, digest) in digests.iter().enumerate() {
                    if landing.recall(range.memory, range.first + i as u64, digest) {
                        bits[i / 8] |= 1 << (i % 8);
                    }
                }
                self.messages.push_back(Message::Have(bits));
            }
            (Phase::Taking, Message::Round { number, pages }) => {
                if number != self.round || self.round_of.is_some() || pages == 0 {
                    return Err(Violation("a round that is none"));
                }
                self.round_of = Some(pages);
                self.end_round()?;
            }
            (Phase::Taking, Message::Stale(pages)) => {
                self.check_late(&pages)?;
                landing.ok_or(Violation("stale pages before an instance"))?.forget(&pages);
                self.messages.push_back(Message::Dropped);
            }
            (Phase::Taking, Message::Late(late)) => {
                self.check_late(&late)?;
                self.late = late;
            }
            (Phase::Prepared, Message::Commit(epoch)) if self.offer.as_ref().is_some_and(|o| o.epoch == epoch) => {
                self.messages.push_back(Message::Committed(epoch));
                self.actions.push_back(Action::Run);
                self.phase = Phase::Draining;
                if self.late.is_empty() {
                    self.save();
                }
            }
            (Phase::Draining, Message::Drained) if self.unlisted => self.list_missing(),
            (Phase::Draining, Message::Drained) => return Err(Violation("late pages are missing")),
            (Phase::Saving | Phase::Done, Message::Drained) => {}
            _ => return Err(Violation("a message out of place")),
        }
        Ok(())
    }

    /// Whether these pages may come late.
    fn check_late(&self, late: &[PageRange]) -> Result<(), Violation> {
        if !self.offer.as_ref().is_some_and(|o| o.mode.is_late()) {
            return Err(Violation("late pages were not agreed on"));
        }
        let sound =
            |r: &PageRange| (r.memory as usize) < MEMORIES_MAX && r.count > 0 && r.first.max(r.count) <= PAGES_MAX;
        let ascends = |w: &[PageRange]| (w[0].memory, w[0].first + w[0].count) <= (w[1].memory, w[1].first);
        if late.len() > RANGES_MAX || !late.iter().all(sound) || !late.windows(2).all(ascends) {
            return Err(Violation("a list of late pages that is none"));
        }
        Ok(())
    }

    /// Confirms a round, once all of its pages are in place.
    fn end_round(&mut self) -> Result<(), Violation> {
        match self.round_of {
            Some(of) if self.round_pages > of => Err(Violation("more pages than a round has")),
            Some(of) if self.round_pages == of => {
                self.messages.push_back(Message::RoundDone(self.round));
                self.round += 1;
                (self.round_pages, self.round_of) = (0, None);
                self.prepare();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Has the state restored, once it and all pages are there.
    fn prepare(&mut self) {
        if self.round_pages > 0 || self.round_of.is_some() {
            return;
        }
        if let Some(state) = self.early.take() {
            self.phase = Phase::Preparing;
            let (extra, late) = (core::mem::take(&mut self.gone_along), self.late.clone());
            self.actions.push_back(Action::Prepare { state, extra, late });
        }
    }

    fn prepared(&mut self) {
        if self.phase == Phase::Preparing && self.restored && self.logged {
            self.phase = Phase::Prepared;
            self.messages.push_back(Message::Prepared);
        }
    }

    fn save(&mut self) {
        self.phase = Phase::Saving;
        self.actions.push_back(Action::Save);
    }

    /// Takes a part of the module or the state.
    ///
    /// # Errors
    /// Parts that nobody waits for, out of order, or too many.
    pub fn handle_part(&mut self, part: &Part<'_>) -> Result<(), ChannelError> {
        let malformed = ChannelError::Malformed(crate::Kind::Part as u8);
        match (&self.phase, part.what) {
            (Phase::Failed(_), _) => {}
            (Phase::Module, Long::Module) => {
                let offered = self.offer.as_ref().map_or(0, |o| o.module_len);
                if part.total != offered {
                    return Err(malformed);
                }
                if let Some(module) = self.module.take(part, self.caps.module)? {
                    self.phase = Phase::Landing;
                    self.actions.push_back(Action::Land(Some(module)));
                }
            }
            (Phase::Taking, Long::State) => {
                if self.early.is_some() {
                    return Err(malformed);
                }
                self.early = self.state.take(part, self.caps.state)?;
                self.prepare();
            }
            (Phase::Taking, Long::Extra) => {
                if let Some(extra) = self.extra.take(part, self.caps.extra)? {
                    self.gone_along = extra;
                }
            }
            _ => return Err(malformed),
        }
        Ok(())
    }

    /// Takes pages.
    ///
    /// # Errors
    /// Pages that nobody waits for.
    pub fn handle_pages(&mut self, batch: &Batch, landing: &mut dyn Landing) -> Result<(), Violation> {
        match self.phase {
            Phase::Taking if batch.round == self.round => {}
            // A page that is there may have been written to since: it must not be taken back.
            Phase::Draining if batch.round == LATE && self.is_missing(batch.range) => {}
            Phase::Failed(_) => return Ok(()),
            _ => return Err(Violation("pages out of place")),
        }
        for run in batch.runs() {
            let (range, written) = match run {
                Run::Bytes(range, bytes) => (range, landing.write(range, bytes)),
                Run::Zero(range) => (range, landing.zero(range)),
            };
            if let Err(refusal) = written {
                // A late page that does not fit was not listed: the rest would be no better.
                if self.owns() {
                    return Err(Violation("late pages that the task has no room for"));
                }
                self.refuse(refusal);
                return Ok(());
            }
            self.pages += range.count;
            if self.phase == Phase::Draining {
                self.arrived(range);
            }
        }
        if self.phase == Phase::Taking {
            self.round_pages += batch.range.count;
            self.end_round()?;
        }
        Ok(())
    }

    /// Says what is missing, as much of it as fits into a message: what was late in few pieces may, after some
    /// faults, be missing in many.
    fn list_missing(&mut self) {
        self.unlisted = self.late.len() > RANGES_MAX;
        self.messages.push_back(Message::Late(self.late.iter().take(RANGES_MAX).copied().collect()));
        self.messages.extend(self.fault.map(Message::Fetch));
    }

    fn is_missing(&self, range: PageRange) -> bool {
        let end = range.first + range.count;
        self.late.iter().any(|l| l.memory == range.memory && l.first <= range.first && end <= l.first + l.count)
    }

    fn arrived(&mut self, range: PageRange) {
        self.fault = self.fault.filter(|fault| {
            fault.memory != range.memory || !(range.first..range.first + range.count).contains(&fault.first)
        });
        let mut left = Vec::with_capacity(self.late.len() + 1);
        for late in self.late.drain(..) {
            let (end, range_end) = (late.first + late.count, range.first + range.count);
            if late.memory != range.memory || range_end <= late.first || end <= range.first {
                left.push(late);
                continue;
            }
            if late.first < range.first {
                left.push(PageRange { count: range.first - late.first, ..late });
            }
            if range_end < end {
                left.push(PageRange { first: range_end, count: end - range_end, ..late });
            }
        }
        self.late = left;
        self.actions.push_back(Action::Arrived(range));
        if self.late.is_empty() {
            self.save();
        }
    }

    /// A source that was cut off before the last word has dialled again: the machine goes on with the new channel, and
    /// says what is missing, or that nothing is. `false` if it has no task of that source.
    pub fn reattach(&mut self) -> bool {
        if !matches!(self.phase, Phase::Draining | Phase::Saving | Phase::Done) {
            return false;
        }
        self.messages.clear();
        match self.phase {
            Phase::Draining => self.list_missing(),
            Phase::Done => self.messages.push_back(Message::Received),
            // That is said as soon as it is true.
            _ => {}
        }
        true
    }

    /// The source asks as one that has nothing of the task any more. If pages are missing they never come: the task
    /// is given up here, so that the source may go on from its disk. Says whether that is so.
    pub fn forsaken(&mut self) -> bool {
        if self.phase != Phase::Draining {
            return false;
        }
        self.phase = Phase::Failed(Refusal::new(Reason::Link, "the source stopped before it had sent all pages"));
        self.actions.push_back(Action::Forsake);
        true
    }

    /// Takes what happened at the driver.
    pub fn handle_event(&mut self, event: Event) {
        match (&self.phase, event) {
            (Phase::Admitting, Event::Admitted(accept)) => {
                self.messages.push_back(Message::Accept(accept));
                if accept.has_module {
                    self.phase = Phase::Landing;
                    self.actions.push_back(Action::Land(None));
                } else {
                    self.phase = Phase::Module;
                }
            }
            (Phase::Landing, Event::Landed) => {
                self.phase = Phase::Taking;
                self.messages.push_back(Message::Landed);
                // Long before that is needed: the task is not to stand still for it.
                self.log_asked = true;
                self.actions.push_back(Action::Log(self.offer.as_ref().map_or(0, |o| o.epoch)));
            }
            (Phase::Preparing, Event::Prepared) => {
                self.restored = true;
                self.prepared();
            }
            (Phase::Taking | Phase::Preparing, Event::Logged) => {
                self.logged = true;
                self.prepared();
            }
            (Phase::Saving, Event::Saved) => {
                self.phase = Phase::Done;
                self.messages.push_back(Message::Received);
            }
            (Phase::Draining, Event::Fault(range)) => {
                self.fault = Some(range);
                self.messages.push_back(Message::Fetch(range));
            }
            (_, Event::Failed(refusal)) => self.refuse(refusal),
            // Not knowing whether the source has sent its commit does not matter: it asks, and is told `Never`.
            (_, Event::Disconnected) => {
                self.messages.clear();
                self.fail(Refusal::new(Reason::Link, "the link to the source broke"));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TaskId;
    use crate::message::Mode;

    struct Counter(u64);

    impl Landing for Counter {
        fn write(&mut self, range: PageRange, _: &[u8]) -> Result<(), Refusal> {
            self.zero(range)
        }

        fn zero(&mut self, range: PageRange) -> Result<(), Refusal> {
            self.0 += range.count;
            Ok(())
        }

        fn forget(&mut self, _: &[PageRange]) {}

        fn recall(&mut self, _: u32, _: u64, _: &PageDigest) -> bool {
            false
        }
    }

    /// One that waits for pages.
    fn taking() -> Destination {
        let mut destination = Destination::new(Caps::default());
        let offer = Offer {
            task: TaskId([1; 16]),
            name: "task".into(),
            epoch: 2,
            module: [0; 32],
            module_len: 0,
            canonical_nan: false,
            memories: vec![65536],
            mode: Mode::Stop,
            settings: Vec::new(),
        };
        destination.handle_message(Message::Offer(offer), None).unwrap();
        destination.handle_event(Event::Admitted(Accept { has_module: true, has_pages: false, can_be_late: true }));
        destination.handle_event(Event::Landed);
        destination
    }

    fn pages(destination: &mut Destination, round: u32, first: u64, count: u64) -> Result<(), Violation> {
        let mut bytes = Vec::new();
        let range = PageRange { memory: 0, first, count };
        crate::pages::Packer::default().pack(round, range, &vec![7; count as usize * 4096], &mut bytes);
        destination.handle_pages(&Batch::parse(&bytes).unwrap(), &mut Counter(0))
    }

    fn does(destination: &mut Destination) -> Vec<Action> {
        core::iter::from_fn(|| destination.poll_action()).collect()
    }

    fn says(destination: &mut Destination) -> Vec<Message> {
        core::iter::from_fn(|| destination.poll_message()).collect()
    }

    #[test]
    fn pages_that_come_after_the_word_of_their_round_and_the_state_are_waited_for() {
        let mut d = taking();
        says(&mut d);
        pages(&mut d, 1, 0, 3).unwrap();
        d.handle_message(Message::Round { number: 1, pages: 8 }, None).unwrap();
        d.handle_part(&Part::of(Long::State, b"state", 0)).unwrap();
        pages(&mut d, 1, 3, 4).unwrap();
        assert!(says(&mut d).is_empty() && *d.phase() == Phase::Taking);
        pages(&mut d, 1, 7, 1).unwrap();
        assert_eq!(says(&mut d), [Message::RoundDone(1)]);
        assert_eq!(d.phase(), &Phase::Preparing);
        // Nothing may be written over a state that is being restored.
        pages(&mut d, 2, 0, 1).unwrap_err();
        let mut d = taking();
        d.handle_message(Message::Round { number: 1, pages: 2 }, None).unwrap();
        d.handle_message(Message::Round { number: 1, pages: 2 }, None).unwrap_err();
        pages(&mut d, 1, 0, 3).unwrap_err();
    }

    #[test]
    fn nobody_hears_that_a_task_could_run_before_the_journal_has_it() {
        for order in [[Event::Prepared, Event::Logged], [Event::Logged, Event::Prepared]] {
            let mut d = taking();
            d.handle_part(&Part::of(Long::State, b"state", 0)).unwrap();
            says(&mut d);
            let [first, second] = order;
            d.handle_event(first);
            assert!(says(&mut d).is_empty());
            d.handle_message(Message::Commit(2), None).unwrap_err();
            d.handle_event(second);
            assert_eq!(says(&mut d), [Message::Prepared]);
            d.handle_message(Message::Commit(2), None).unwrap();
            assert!(says(&mut d) == [Message::Committed(2)] && d.owns());
            // Losing the link now changes nothing.
            d.handle_event(Event::Disconnected);
            assert!(d.owns() && does(&mut d).ends_with(&[Action::Run, Action::Save]));
        }
    }

    #[test]
    fn a_task_that_cannot_be_written_down_does_not_come() {
        let mut d = taking();
        d.handle_part(&Part::of(Long::State, b"state", 0)).unwrap();
        d.handle_event(Event::Prepared);
        d.handle_event(Event::Failed(Refusal::new(Reason::Node, "the disk is full")));
        assert!(does(&mut d).ends_with(&[Action::Strike, Action::Discard]));
        assert!(says(&mut d).iter().any(|m| matches!(m, Message::Refuse(_))));
        // A late word that it was written after all does not bring it back.
        d.handle_event(Event::Logged);
        d.handle_message(Message::Commit(2), None).unwrap();
        assert!(!d.owns() && d.poll_action().is_none());
    }
}
