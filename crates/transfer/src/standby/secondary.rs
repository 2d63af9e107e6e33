//! The node that would go on with the task.

use super::Said;
use crate::destination::{Caps, Landing};
use crate::error::{ChannelError, Violation};
use crate::message::{Assembly, Long, Message, Offer, Part, Reason, Refusal};
use crate::pages::{self, Batch, PageDigest, PageRange, Run};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use wayfare_snapshot::PAGE_SIZE;

/// Where it stands.
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
    /// Syncs come.
    Holding,
    /// The link is gone; what is there stays: [`Standby::reattach`].
    Away,
    /// It has taken over, at this epoch.
    TakenOver(u64),
    /// It is none any more, for this reason.
    Over(Refusal),
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Look at the offer: memory, processors, directories, the name; then [`Event::Admitted`] or [`Event::Failed`].
    Admit,
    /// Compile or load the module, which is given if it had to be sent, and make an instance that is written to and does not
    /// run; then [`Event::Landed`].
    Land(Option<Vec<u8>>),
    /// The instance's memory is that of this sync.
    Kept(u64),
    /// Go on with the task from this state, at this epoch.
    Run {
        /// As the primary's driver gave it.
        state: Vec<u8>,
        /// The epoch.
        epoch: u64,
        /// The primary's word, if it handed the task over: to stay here or not.
        handed: Option<bool>,
    },
    /// The task goes on at another node, which has not said its offer yet: nobody takes over while that is there.
    Passed(String),
    /// Throw away what is there.
    Discard,
}

/// What happened at the driver.
#[derive(Clone, Debug)]
pub enum Event {
    /// There is room; whether the module is there, too.
    Admitted {
        /// It need not be sent.
        has_module: bool,
    },
    /// The instance is there.
    Landed,
    /// Something of the above could not be done.
    Failed(Refusal),
    /// The channel is gone.
    Disconnected,
}

/// A sync that is coming.
struct Coming {
    sync: u64,
    /// As they came.
    batches: Vec<Vec<u8>>,
    state: Assembly,
    whole: Option<Vec<u8>>,
}

/// The machine.
pub struct Standby {
    caps: Caps,
    phase: Phase,
    offer: Option<Offer>,
    rank: u32,
    terms: Vec<u8>,
    messages: VecDeque<Message>,
    actions: VecDeque<Action>,
    module: Assembly,
    /// The last complete sync, and the state that belongs to it.
    kept: Option<(u64, Vec<u8>)>,
    /// It is of a primary before this one.
    is_older: bool,
    /// The epoch at which the task goes on, by the word of who had it before.
    passed: u64,
    coming: Option<Coming>,
    /// Bytes of what is coming, and of what is left of one that was cut off.
    aside: u64,
    /// Of a sync that is cut off nothing is kept.
    is_forgetful: bool,
    /// Pages of a sync that was cut off.
    rest: BTreeMap<(u32, u64), Vec<u8>>,
}

/// Of what is put aside, for memories that grow.
const ROOM: u64 = 64 << 20;
/// Answers that may wait to go out.
const ANSWERS_MAX: usize = 8192;

impl Standby {
    /// A machine that waits for an offer.
    pub fn new(caps: Caps) -> Self {
        Self {
            caps,
            phase: Phase::Waiting,
            offer: None,
            rank: 0,
            terms: Vec::new(),
            messages: VecDeque::new(),
            actions: VecDeque::new(),
            module: Assembly::default(),
            kept: None,
            is_older: false,
            passed: 0,
            coming: None,
            aside: 0,
            is_forgetful: false,
            rest: BTreeMap::new(),
        }
    }

    /// What has come of a sync that is cut off is dropped, and comes again: pages that are kept take more memory than packed ones, and
    /// where that is short there must be enough to go on.
    #[must_use]
    pub fn forgetful(self) -> Self {
        Self { is_forgetful: true, ..self }
    }

    /// Where it stands.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// What was offered last.
    pub fn offer(&self) -> Option<&Offer> {
        self.offer.as_ref()
    }

    /// What came along with it.
    pub fn terms(&self) -> &[u8] {
        &self.terms
    }

    /// The last complete sync; 0 if there is none.
    pub fn kept(&self) -> u64 {
        self.kept.as_ref().map_or(0, |(sync, _)| *sync)
    }

    /// The state that belongs to it.
    pub fn state(&self) -> Option<&[u8]> {
        self.kept.as_ref().map(|(_, state)| &state[..])
    }

    /// What to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next message.
    pub fn poll_message(&mut self) -> Option<Message> {
        self.messages.pop_front()
    }

    /// Whether the machine has nothing to do any more, but for saying so.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::TakenOver(_) | Phase::Over(_))
    }

    fn say(&mut self, said: Said) {
        self.messages.push_back(Message::Standby(said));
    }

    fn refuse(&mut self, refusal: Refusal) {
        if !self.is_over() {
            self.say(Said::Refuse(refusal.clone()));
            self.end(refusal);
        }
    }

    fn end(&mut self, refusal: Refusal) {
        (self.kept, self.coming) = (None, None);
        self.rest.clear();
        self.phase = Phase::Over(refusal);
        self.actions.push_back(Action::Discard);
    }

    /// The task goes on here, from the last complete sync. The primary, and what it may still say, is fenced off by the epoch.
    ///
    /// # Errors
    /// When no sync is complete, or this is over already.
    pub fn take_over(&mut self) -> Result<u64, Refusal> {
        self.take(None)
    }

    /// Asks the primary to hand the task over; `false` if it is not there, or nothing of the task is.
    pub fn ask_for_it(&mut self) -> bool {
        let can = self.phase == Phase::Holding && self.kept.is_some();
        if can {
            self.say(Said::HandMe);
        }
        can
    }

    fn take(&mut self, handed: Option<bool>) -> Result<u64, Refusal> {
        if let Phase::Over(refusal) = &self.phase {
            return Err(refusal.clone());
        }
        let (Some(offer), Some((_, state))) = (&self.offer, self.kept.take()) else {
            return Err(Refusal::new(Reason::State, "nothing of the task is complete here"));
        };
        let epoch = super::takeover(offer.epoch.max(self.passed), self.rank);
        self.coming = None;
        self.rest.clear();
        self.phase = Phase::TakenOver(epoch);
        self.actions.push_back(Action::Run { state, epoch, handed });
        Ok(epoch)
    }

    /// The primary has come by a new channel, and will say its offer again.
    pub fn reattach(&mut self) {
        self.messages.clear();
        if matches!(self.phase, Phase::Holding | Phase::Away) {
            self.cut_off();
            self.phase = Phase::Away;
        }
    }

    /// What has come of a sync is kept for the next one.
    fn cut_off(&mut self) {
        let Some(coming) = self.coming.take() else { return };
        if self.is_forgetful {
            self.aside = 0;
            return;
        }
        for bytes in &coming.batches {
            // It was parsed when it came.
            let Ok(batch) = Batch::parse(bytes) else { continue };
            for run in batch.runs() {
                let Run::Bytes(range, bytes) = run else { continue };
                for (page, bytes) in (range.first..).zip(bytes.chunks(PAGE_SIZE)) {
                    self.rest.insert((range.memory, page), bytes.into());
                }
            }
        }
        self.aside = self.rest.len() as u64 * PAGE_SIZE as u64;
    }

    /// Takes what happened at the driver.
    pub fn handle_event(&mut self, event: Event) {
        match (&self.phase, event) {
            (Phase::Admitting, Event::Admitted { has_module }) => {
                self.say(Said::Accept { has_module, sync: 0, has_rest: false });
                if has_module {
                    self.land(None);
                } else {
                    self.phase = Phase::Module;
                }
            }
            (Phase::Landing, Event::Landed) => {
                self.phase = Phase::Holding;
                self.say(Said::Landed);
            }
            (_, Event::Failed(refusal)) => self.refuse(refusal),
            (Phase::Holding, Event::Disconnected) => {
                self.messages.clear();
                self.cut_off();
                self.phase = Phase::Away;
            }
            (Phase::Away | Phase::TakenOver(_) | Phase::Over(_), Event::Disconnected) => self.messages.clear(),
            // Nothing is here yet that would be of use.
            (_, Event::Disconnected) => self.end(Refusal::new(Reason::Link, "the link to the primary broke")),
            _ => {}
        }
    }

    fn land(&mut self, module: Option<Vec<u8>>) {
        self.phase = Phase::Landing;
        self.actions.push_back(Action::Land(module));
    }

    /// Takes a message.
    ///
    /// # Errors
    /// A message that has no place here: close the channel, then [`Event::Disconnected`].
    pub fn handle_message(&mut self, message: Said, landing: Option<&mut dyn Landing>) -> Result<(), Violation> {
        if self.messages.len() >= ANSWERS_MAX {
            return Err(Violation("questions whose answers are not taken"));
        }
        match (&self.phase, message) {
            (Phase::TakenOver(epoch), Said::Protect { .. }) => {
                let said = Said::TakenOver(*epoch);
                self.say(said);
            }
            (Phase::TakenOver(_) | Phase::Over(_), _) => {}
            (_, Said::Protect { terms, .. }) if terms.len() > super::TERMS_MAX => {
                return Err(Violation("terms that are too long"));
            }
            (Phase::Waiting, Said::Protect { offer, rank, terms }) => {
                offer.check()?;
                (self.offer, self.rank, self.terms) = (Some(offer), rank, terms);
                self.phase = Phase::Admitting;
                self.actions.push_back(Action::Admit);
            }
            (Phase::Away, Said::Protect { offer, rank, terms }) => {
                offer.check()?;
                let same =
                    |old: &Offer| (old.task, old.module) == (offer.task, offer.module) && old.epoch <= offer.epoch;
                let Some(old) = self.offer.as_ref().filter(|old| same(old)) else {
                    return Err(Violation("an offer of another task"));
                };
                // The task has gone on elsewhere: syncs are counted anew. What is here stays until the first of them is.
                self.is_older |= old.epoch != offer.epoch;
                (self.offer, self.rank, self.terms) = (Some(offer), rank, terms);
                let sync = if self.is_older { 0 } else { self.kept() };
                let has_rest = !self.rest.is_empty();
                self.say(Said::Accept { has_module: true, sync, has_rest });
                self.say(Said::Landed);
                self.phase = Phase::Holding;
            }
            (Phase::Holding, Said::Hand { stays }) if self.coming.is_none() => {
                self.take(Some(stays)).map_err(|_| Violation("a task that was never sent is handed over"))?;
            }
            (Phase::Holding | Phase::Away, Said::Passed { to, epoch }) => {
                self.passed = self.passed.max(epoch);
                self.cut_off();
                self.phase = Phase::Away;
                self.actions.push_back(Action::Passed(to));
            }
            (_, Said::Passed { .. }) => self.end(Refusal::new(Reason::Cancelled, "the task goes on elsewhere")),
            (_, Said::Dismiss) => self.end(Refusal::new(Reason::Cancelled, "it is no standby any more")),
            (Phase::Holding, Said::Begin { sync, since }) => {
                if self.coming.is_some() || sync == 0 || (since != 0 && (self.is_older || since != self.kept())) {
                    return Err(Violation("a sync that does not follow from what is here"));
                }
                self.coming = Some(Coming { sync, batches: Vec::new(), state: Assembly::default(), whole: None });
            }
            (Phase::Holding, Said::Digests { range, digests }) => {
                let bits = self.recall(range, &digests)?;
                self.say(Said::Have(bits));
            }
            (Phase::Holding, Said::End { sync, batches }) => {
                let landing = landing.ok_or(Violation("a sync before an instance"))?;
                self.complete(sync, batches, landing)?;
            }
            _ => return Err(Violation("a message out of place")),
        }
        Ok(())
    }

    /// Takes what is left of an earlier sync for this one, where it is the same.
    fn recall(&mut self, range: PageRange, digests: &[PageDigest]) -> Result<Vec<u8>, Violation> {
        let coming = self.coming.as_mut().ok_or(Violation("digests before a sync"))?;
        if digests.len() as u64 != range.count || range.first.checked_add(range.count).is_none() {
            return Err(Violation("digests of other pages"));
        }
        let mut bits = vec![0; digests.len().div_ceil(8)];
        for (i, digest) in digests.iter().enumerate() {
            let page = range.first + i as u64;
            let Some(bytes) = self.rest.remove(&(range.memory, page)) else { continue };
            self.aside -= PAGE_SIZE as u64;
            if pages::digest(&bytes) == *digest {
                bits[i / 8] |= 1 << (i % 8);
                let mut batch = Vec::new();
                pages::Packer::default().pack(0, PageRange { first: page, count: 1, ..range }, &bytes, &mut batch);
                self.aside += batch.len() as u64;
                coming.batches.push(batch);
            }
        }
        Ok(bits)
    }

    /// All of it is there, or the primary is wrong.
    fn complete(&mut self, sync: u64, batches: u64, landing: &mut dyn Landing) -> Result<(), Violation> {
        let coming = self.coming.take().filter(|coming| coming.sync == sync).ok_or(Violation("another sync"))?;
        let state = coming.whole.ok_or(Violation("a sync without a state"))?;
        if (coming.batches.len() as u64) < batches {
            return Err(Violation("a sync with pages missing"));
        }
        // From here to the end nobody looks at the instance. If it cannot be done, half of it is: there is no state then.
        let applied = coming.batches.iter().try_for_each(|bytes| {
            let refused = |_| Refusal::new(Reason::State, "pages that are none");
            let batch = Batch::parse(bytes).map_err(refused)?;
            batch.runs().try_for_each(|run| match run {
                Run::Bytes(range, bytes) => landing.write(range, bytes),
                Run::Zero(range) => landing.zero(range),
            })
        });
        self.rest.clear();
        self.aside = 0;
        match applied {
            Ok(()) => {
                (self.kept, self.is_older) = (Some((sync, state)), false);
                self.say(Said::Kept(sync));
                self.actions.push_back(Action::Kept(sync));
            }
            Err(refusal) => self.refuse(refusal),
        }
        Ok(())
    }

    /// Takes pages.
    ///
    /// # Errors
    /// Pages that are none, out of place, or more than the task can have.
    pub fn handle_pages(&mut self, payload: Vec<u8>) -> Result<(), Violation> {
        if self.is_over() {
            return Ok(());
        }
        let most = self.offer.as_ref().map_or(0, Offer::memory).saturating_mul(2).saturating_add(ROOM);
        let coming = self.coming.as_mut().ok_or(Violation("pages before a sync"))?;
        Batch::parse(&payload).map_err(|_| Violation("pages that are none"))?;
        self.aside += payload.len() as u64;
        if self.aside > most {
            return Err(Violation("more pages than the task can have written"));
        }
        coming.batches.push(payload);
        Ok(())
    }

    /// Takes a part of the module or of a state.
    ///
    /// # Errors
    /// As [`Assembly::take`]; a part that has no place here.
    pub fn handle_part(&mut self, part: &Part<'_>) -> Result<(), ChannelError> {
        let malformed = ChannelError::Malformed(crate::Kind::Part as u8);
        match (&self.phase, part.what) {
            (Phase::TakenOver(_) | Phase::Over(_), _) => {}
            (Phase::Module, Long::Module) => {
                if let Some(module) = self.module.take(part, self.caps.module)? {
                    self.land(Some(module));
                }
            }
            (Phase::Holding, Long::State) => {
                let coming = self.coming.as_mut().filter(|coming| coming.whole.is_none()).ok_or(malformed)?;
                coming.whole = coming.state.take(part, self.caps.state)?;
            }
            _ => return Err(malformed),
        }
        Ok(())
    }
}
