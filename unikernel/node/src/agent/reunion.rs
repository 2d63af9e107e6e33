//! Two copies of a task, where the link between this board and the task's home broke and is there again: one goes on, and the
//! other stands still until the first is safe on both. `crates/node/src/reunion.rs` draws it; a board says and hears the same,
//! but it is no primary: it does not offer what runs here, and waits for the other node to come.
//!
//! About a task of which nothing is known here it is said that what was here is lost ([`Said::Yield`]): so it is, if it was.

use super::task::Live;
use super::{Agent, Entry, log, service};
use crate::clock;
use crate::host::{Said as Told, Verdict};
use crate::link::Link;
use alloc::rc::Rc;
use alloc::string::ToString;
use anyhow::{Context, Result, anyhow, bail, ensure};
use wayfare_cluster::control::State;
use wayfare_cluster::envelope::Envelope;
use wayfare_cluster::protection::{OnReturn, Terms};
use wayfare_snapshot::Header;
use wayfare_transfer::Kind;
use wayfare_transfer::journal::Record;
use wayfare_transfer::message::{Answer, Message, Reason, Refusal, TaskId};
use wayfare_transfer::standby::{Claim, Said, is_ahead, takeover};

/// Between two looks at whether the successor is there, milliseconds.
const LOOK: u64 = 1_000;
/// A successor that was not to be reached for so long, before anything of it was safe here, is given up, nanoseconds.
const FORSAKEN: u64 = 10_000_000_000;

/// A copy that another one has replaced, and that is kept until that is safe here. It stands still.
pub(super) struct Displaced {
    entry: Rc<Entry>,
    live: Rc<Live>,
    /// The other copy's epoch.
    epoch: u64,
    /// How the task is protected; the other copy's node is the standby in that.
    terms: Terms,
}

/// A task that stands still, for as long as nobody has said what becomes of it: then it runs on.
struct Still {
    live: Rc<Live>,
    entry: Rc<Entry>,
    /// How much work it stands for.
    work: u64,
    judged: bool,
}

impl Still {
    fn judge(mut self, verdict: Verdict) {
        self.judged = true;
        self.live.judge(verdict);
    }

    /// It stands still on, and somebody else says what becomes of it.
    fn stays(mut self) -> Rc<Live> {
        self.judged = true;
        self.live.clone()
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        self.entry.moving.set(false);
        if !self.judged {
            self.live.judge(Verdict::Thaw(None));
        }
    }
}

/// What the other side says of its copy.
enum Fate {
    /// There is none that runs; but it may be a standby that could go on.
    None { stands_by: bool },
    /// It counts.
    Counts,
    /// It was put aside, or is lost: the one that is here goes on at this epoch.
    Yields(u64),
}

impl Agent {
    async fn stand_still(&self, entry: &Rc<Entry>) -> Result<Still> {
        let live = entry.live()?;
        ensure!(!entry.moving.replace(true), "{} is being moved", entry.spec.name);
        match live.stop(&self.executor).await {
            Told::Frozen(Ok(snapshot), _) => {
                let mut still = Still { live, entry: entry.clone(), work: 0, judged: false };
                still.work = Header::parse(&snapshot).context("a state that is none")?.progress;
                Ok(still)
            }
            Told::Frozen(Err(why), _) => {
                entry.moving.set(false);
                bail!("{why}")
            }
            Told::Ended(_) => {
                entry.moving.set(false);
                bail!("{} has ended", entry.spec.name)
            }
        }
    }

    /// Another copy of the task counts, of this epoch: the one that is here, and stands still, is put aside.
    fn displace(self: &Rc<Self>, entry: &Rc<Entry>, still: Still, epoch: u64, terms: Terms) {
        let (id, to) = (entry.spec.id, terms.standby.clone());
        log!("{} goes on at {to}, epoch {epoch}: what is here is kept until that is safe here", entry.spec.name);
        self.set_record(id, Record::Left { epoch, to: to.clone() });
        entry.terms.borrow_mut().take();
        let displaced = Displaced { entry: entry.clone(), live: still.stays(), epoch, terms };
        self.displaced.borrow_mut().insert(id, displaced);
        entry.set_state(State::Left { to, saved: false });
        self.executor.spawn(self.clone().watch_over(entry.clone(), epoch));
    }

    /// The copy that goes on is safe here, or nobody wants this one: it is dropped.
    pub(super) fn settle(&self, id: TaskId) {
        let Some(Displaced { entry, live, terms, .. }) = self.displaced.borrow_mut().remove(&id) else { return };
        live.judge(Verdict::Drop);
        *entry.live.borrow_mut() = None;
        entry.set_state(State::Left { to: terms.standby, saved: true });
    }

    /// The copy that was to go on is lost: this one does. Gives its new epoch.
    fn retake(self: &Rc<Self>, id: TaskId) -> Option<u64> {
        let Displaced { entry, live, epoch, terms } = self.displaced.borrow_mut().remove(&id)?;
        let epoch = takeover(epoch, 0);
        log!("{}: {} is gone with what went on there: what was kept here goes on", entry.spec.name, terms.standby);
        if let Some(held) = self.standbys.borrow().get(&id) {
            held.end();
        }
        self.goes_on(&entry, &live, epoch, terms, true);
        live.judge(Verdict::Thaw(Some(epoch)));
        Some(epoch)
    }

    /// A task that stands still here is about to go on at another epoch. `behind`: its clients have heard another copy since.
    fn goes_on(self: &Rc<Self>, entry: &Rc<Entry>, live: &Live, epoch: u64, terms: Terms, behind: bool) {
        self.set_record(entry.spec.id, Record::Owned { epoch });
        entry.epoch.set(epoch);
        if behind {
            entry.clients.go_back(&mut live.seat.ports.lock());
        }
        *entry.terms.borrow_mut() = Some(terms);
        entry.set_state(State::Running);
        service::begin(self, entry, None);
        self.take_home(entry);
    }

    /// Waits until what goes on elsewhere is safe here; or lost, or a person says which it is.
    async fn watch_over(self: Rc<Self>, entry: Rc<Entry>, epoch: u64) {
        let (id, mut heard) = (entry.spec.id, clock::nanos());
        loop {
            self.executor.sleep(LOOK).await;
            let to = {
                let all = self.displaced.borrow();
                all.get(&id).filter(|d| d.epoch == epoch).map(|d| d.terms.standby.clone())
            };
            let Some(to) = to else { return };
            match entry.decision.take() {
                Some(Answer::Owns) => return self.settle(id),
                Some(_) => {
                    self.retake(id);
                    return;
                }
                None => {}
            }
            // Its syncs come.
            let comes = self.standbys.borrow().get(&id).is_some_and(|held| held.pair().connected);
            // As much work as there is: nobody is to take over for this.
            let asked = Said::Ask { task: id, epoch, work: u64::MAX };
            match if comes { Ok(Fate::None { stands_by: true }) } else { self.question(&to, asked).await } {
                Ok(Fate::None { .. }) => heard = clock::nanos(),
                // It has moved on, or ended there.
                Ok(Fate::Counts) => return self.settle(id),
                Err(e) if clock::nanos() - heard <= FORSAKEN => log!("{}: {to} is not there: {e:#}", entry.spec.name),
                // It has lost what it had; or is gone.
                Ok(Fate::Yields(_)) | Err(_) => {
                    self.retake(id);
                    return;
                }
            }
        }
    }

    /// Whether a standby that is nearer to a task will go on with it, or has, or another node has it: this one is not to.
    pub(super) async fn is_elsewhere(&self, task: TaskId, epoch: u64, node: &str) -> bool {
        let asked = Said::Ask { task, epoch, work: u64::MAX };
        matches!(self.question(node, asked).await, Ok(Fate::None { stands_by: true } | Fate::Counts))
    }

    async fn question(&self, to: &str, said: Said) -> Result<Fate> {
        let mut link = self.dial(to).await?;
        link.send(Kind::Transfer, &Message::Standby(said).encode()).await?;
        Ok(match Message::decode(&link.expect(Kind::Transfer).await?)? {
            Message::Standby(Said::TakenOver(_)) => Fate::Counts,
            Message::Standby(Said::Yield(epoch)) => Fate::Yields(epoch),
            Message::Standby(Said::NotTakenOver { stands_by }) => Fate::None { stands_by },
            Message::Standby(Said::Refuse(why)) if why.reason == Reason::Ended => Fate::Counts,
            _ => bail!("it answered something else"),
        })
    }

    /// The task as it runs here, for a node that has the other copy.
    fn counterpart(&self, peer: &str, task: TaskId) -> Option<(Rc<Entry>, Terms)> {
        let all = self.tasks.borrow();
        let entry = all.values().find(|e| e.spec.id == task && e.state().is_alive())?;
        let terms = entry.terms.borrow().clone().filter(|terms| terms.standby == peer)?;
        Some((entry.clone(), terms))
    }

    /// Weighs another node's claim: at which epoch it may go on, if it may.
    async fn weigh(self: &Rc<Self>, peer: &str, task: TaskId, epoch: u64, claim: Claim) -> Result<Option<u64>> {
        let Some((entry, terms)) = self.counterpart(peer, task).filter(|(e, _)| e.epoch.get() == epoch) else {
            return Ok(None);
        };
        let still = match (claim, terms.order.on_return) {
            (Claim::Served, _) => {
                if !entry.clients.are_kept_away(&self.executor).await {
                    return Ok(None);
                }
                self.stand_still(&entry).await.inspect_err(|_| entry.clients.are_not_kept_away())?
            }
            (Claim::Work(_), OnReturn::Standby) => return Ok(None),
            (Claim::Work(theirs), OnReturn::Furthest) => {
                let still = self.stand_still(&entry).await?;
                log!("{}: work done here: {}, and at {peer}: {theirs}", entry.spec.name, still.work);
                if theirs <= still.work {
                    return Ok(None);
                }
                still
            }
        };
        let epoch = takeover(epoch, 0);
        self.displace(&entry, still, epoch, terms);
        Ok(Some(epoch))
    }

    /// A node goes on, at this epoch, with a copy that it took for the only one that is left. One of the two is put aside. Gives the
    /// epoch of the one that is here, if that counts.
    async fn reunite(self: &Rc<Self>, peer: &str, entry: Rc<Entry>, terms: Terms, epoch: u64) -> Result<Option<u64>> {
        let (task, is_served) = (entry.spec.id, entry.clients.are_attached() && !entry.spec.publish.is_empty());
        let mut still = None;
        let claim = match terms.order.on_return {
            OnReturn::Standby => is_served.then_some(Claim::Served),
            OnReturn::Furthest => {
                let stands = self.stand_still(&entry).await?;
                let work = stands.work;
                still = Some(stands);
                Some(Claim::Work(work))
            }
        };
        let fate = match claim {
            Some(claim) => self.question(peer, Said::Claim { task, epoch, claim }).await?,
            None => Fate::Counts,
        };
        let still = match still {
            Some(still) => still,
            None => self.stand_still(&entry).await?,
        };
        let Fate::Yields(at) = fate else {
            self.displace(&entry, still, epoch, terms);
            return Ok(None);
        };
        log!("{}: what is here counts, epoch {at}, and {peer} has put its own aside", entry.spec.name);
        // Clients who have stayed with it all the time have heard all that it has said, and nothing else.
        self.goes_on(&entry, &still.live, at, terms, !entry.clients.are_attached());
        still.judge(Verdict::Thaw(Some(at)));
        Ok(Some(at))
    }

    /// Answers a node that asks whether a task of it was taken over here, or claims it; `None` if there is nothing to say.
    async fn reunion(self: &Rc<Self>, peer: &str, said: &Said) -> Result<Option<Said>> {
        let (task, epoch) = match said {
            Said::Protect { offer, .. } => (offer.task, offer.epoch),
            Said::Ask { task, epoch, .. } | Said::Claim { task, epoch, .. } => (*task, *epoch),
            _ => bail!("a message that begins nothing"),
        };
        // What was put aside for that node, which has not heard so.
        let yielded = {
            let all = self.displaced.borrow();
            all.get(&task).filter(|d| d.terms.standby == peer && d.epoch > epoch).map(|d| d.epoch)
        };
        if let Some(at) = yielded {
            return Ok(match said {
                Said::Protect { .. } | Said::Claim { .. } => Some(Said::Yield(at)),
                // It was started anew since, and has less than what is here.
                _ => self.retake(task).map(Said::TakenOver),
            });
        }
        let held = self.standbys.borrow().get(&task).cloned();
        let stands_by = held.as_ref().is_some_and(|held| held.could_go_on());
        if let (Said::Ask { work, .. }, Some(held)) = (said, held.filter(|held| held.pair().peer == peer)) {
            held.replace(*work).await;
        }
        let record = self.record(task);
        if record.is_none() && !self.standbys.borrow().contains_key(&task) {
            return Ok(match said {
                Said::Protect { .. } => None,
                // What was lost, if anything, had this epoch, or the next one of a takeover.
                Said::Claim { .. } => Some(Said::Yield(takeover(epoch, 0))),
                _ => Some(Said::Yield(takeover(takeover(epoch, 0), 0))),
            });
        }
        if let Some(Record::Lost { epoch: lost }) = record
            && lost >= epoch
        {
            return Ok(Some(Said::Yield(takeover(lost, 0))));
        }
        let known = record.as_ref().map_or(0, Record::epoch);
        match (said, record) {
            (Said::Claim { claim, .. }, _) => Ok(Some(match self.weigh(peer, task, epoch, *claim).await? {
                Some(epoch) => Said::Yield(epoch),
                None => Said::TakenOver(known.max(epoch)),
            })),
            (_, Some(_)) if is_ahead(known, epoch) => Ok(Some(Said::TakenOver(known))),
            // The other way round.
            (Said::Protect { .. }, _) => match self.counterpart(peer, task) {
                Some((entry, terms)) if is_ahead(epoch, entry.epoch.get()) => {
                    Ok(self.reunite(peer, entry, terms, epoch).await?.map(Said::TakenOver))
                }
                _ => Ok(None),
            },
            (_, Some(Record::Ended { .. })) => Ok(Some(Said::Refuse(Refusal::new(Reason::Ended, "it has ended")))),
            // It has moved on, and is safe where it is.
            (_, Some(Record::Left { epoch: at, .. })) if at > epoch => Ok(Some(Said::TakenOver(at))),
            _ => Ok(Some(Said::NotTakenOver { stands_by })),
        }
    }
}

/// How much work a state stands for.
pub(super) fn work(state: &[u8]) -> Result<u64> {
    let envelope = Envelope::decode(state)?;
    Ok(Header::parse(&envelope.snapshot).context("a state that is none")?.progress)
}

/// Answers a message that begins a channel, where that is all there is to it; gives the link back where it is not.
///
/// # Errors
/// When the link breaks, or this is no moment to answer: whoever asks does so again.
pub(super) async fn answered(agent: &Rc<Agent>, mut link: Link, said: &Said) -> Result<Option<Link>> {
    let peer = link.peer().ok_or_else(|| anyhow!("a stranger has a task protected"))?.to_string();
    let Some(answer) = agent.reunion(&peer, said).await? else { return Ok(Some(link)) };
    link.send(Kind::Transfer, &Message::Standby(answer).encode()).await?;
    link.part().await;
    Ok(None)
}
