//! Two copies of a task, where the link to its standby broke and is there again: one goes on, and the other is dropped as soon as
//! the first is safe on both nodes.
//!
//! ```text
//! node that was cut off (epoch e)                node that took over (epoch e')
//!   | Protect(e) ----------------------------------> |
//!   | <----------------------------- TakenOver(e') |
//!   # has it a claim?                                |
//!   |   no: stands still, and waits                  |
//!   |   Claim(served, or so much work) ------------> # weighs it
//!   | <---------------- TakenOver(e'), or Yield(e'') | stands still, and waits
//!   # goes on at e''                                  |
//! ```
//! Whoever goes on takes the other node for its standby, and the copy that stands still there ([`Displaced`]) is dropped when
//! the first sync is complete. If its successor is not to be reached any more before that, it goes on itself.

use crate::agent::{Agent, Entry, lock};
use crate::control::State;
use crate::link::Link;
use crate::protect::Leave;
use crate::protection::{OnReturn, Terms};
use crate::spec::Spec;
use crate::task::{Still, Verdict};
use anyhow::{Context, Result, bail};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use wayfare_cluster::envelope::Envelope;
use wayfare_snapshot::Header;
use wayfare_store::snapshots;
use wayfare_transfer::journal::Record;
use wayfare_transfer::message::{Answer, Message, Reason, Refusal};
use wayfare_transfer::standby::{Claim, Said, is_ahead, takeover};
use wayfare_transfer::{Kind, TaskId};

/// How long a node that was away waits for the word whether its task's standby has taken over.
const ASKING: Duration = Duration::from_secs(3);
/// Between two looks at whether the successor is there, or two attempts to say a claim.
const LOOK: Duration = Duration::from_secs(1);
/// A successor that was not to be reached for so long, before anything of it was safe here, is given up.
const FORSAKEN: Duration = Duration::from_secs(10);

/// A copy that another one has replaced, and that is kept until that is safe here.
pub(crate) struct Displaced {
    entry: Arc<Entry>,
    /// It stands still; or what is on the disk is all there is of it.
    still: Option<Still>,
    /// The other copy's epoch.
    epoch: u64,
    /// How the task is protected; the other copy's node is the standby in that.
    terms: Terms,
}

/// What the other side says of its copy.
pub(crate) enum Fate {
    /// There is none that runs; but it may be a standby that could go on.
    None { stands_by: bool },
    /// It counts, at this epoch.
    Counts(u64),
    /// It has ended.
    Ended,
    /// It was put aside, or is lost: the one that is here goes on at this epoch.
    Yields(u64),
}

impl Agent {
    /// The standby of a task that was cut off here has taken over. One of the two copies is put aside.
    pub(crate) async fn reunite(self: Arc<Self>, entry: Arc<Entry>, epoch: u64, terms: Terms) {
        // More than one standby may say so.
        if !lock(&self.reuniting).insert(entry.spec.id) {
            return;
        }
        if entry.state().is_alive() {
            self.clone().weigh_copies(&entry, epoch, terms).await;
        }
        lock(&self.reuniting).remove(&entry.spec.id);
    }

    async fn weigh_copies(self: Arc<Self>, entry: &Arc<Entry>, mut epoch: u64, terms: Terms) {
        loop {
            let (claim, still) = match self.claim(entry, &terms).await {
                Ok(claim) => claim,
                // It has ended.
                Err(e) => return tracing::debug!(task = %entry.spec.name, "{e:#}"),
            };
            let fate = match claim {
                Some(claim) => self.say_claim(entry.spec.id, epoch, claim, &terms.standby).await,
                None => Ok(Fate::Counts(epoch)),
            };
            match fate {
                Ok(Fate::Yields(at)) => return self.win(entry, still, at, terms).await,
                Ok(Fate::Counts(at)) if at != epoch => epoch = at,
                Ok(_) => {
                    let still = match still {
                        Some(still) => Ok(still),
                        None => self.stand_still(entry, 0).await,
                    };
                    return match still {
                        Ok(still) => self.displace(entry, Some(still), epoch, terms),
                        Err(e) => tracing::debug!(task = %entry.spec.name, "{e:#}"),
                    };
                }
                // It goes on meanwhile.
                Err(e) => tracing::debug!(task = %entry.spec.name, "cannot say why it should count: {e:#}"),
            }
            drop(still);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Why the copy that is here should count, and the task, if it stands still for that.
    async fn claim(&self, entry: &Entry, terms: &Terms) -> Result<(Option<Claim>, Option<Still>)> {
        match terms.order.on_return {
            OnReturn::Standby => {
                let served = entry.sockets().is_some_and(|sockets| sockets.is_attached());
                Ok(((!entry.spec.publish.is_empty() && served).then_some(Claim::Served), None))
            }
            OnReturn::Furthest => {
                let still = self.stand_still(entry, 0).await?;
                Ok((Some(Claim::Work(work(&still.state)?)), Some(still)))
            }
        }
    }

    async fn say_claim(&self, task: TaskId, epoch: u64, claim: Claim, to: &str) -> Result<Fate> {
        self.question(to, Said::Claim { task, epoch, claim }).await
    }

    /// Asks a task's standby whether it has taken over.
    pub(crate) async fn ask_standby(&self, task: TaskId, epoch: u64, work: u64, standby: &str) -> Result<Fate> {
        self.question(standby, Said::Ask { task, epoch, work }).await
    }

    async fn question(&self, to: &str, said: Said) -> Result<Fate> {
        let mut link = self.dial(to).await?;
        link.send(Kind::Transfer, &Message::Standby(said).encode()).await?;
        Ok(match Message::decode(&link.expect(Kind::Transfer).await?)? {
            Message::Standby(Said::TakenOver(epoch)) => Fate::Counts(epoch),
            Message::Standby(Said::Yield(epoch)) => Fate::Yields(epoch),
            Message::Standby(Said::NotTakenOver { stands_by }) => Fate::None { stands_by },
            Message::Standby(Said::Refuse(why)) if why.reason == Reason::Ended => Fate::Ended,
            _ => bail!("it answered something else"),
        })
    }

    /// The copy that is here goes on, at this epoch; the other one stands still.
    pub(crate) async fn win(self: &Arc<Self>, entry: &Arc<Entry>, still: Option<Still>, epoch: u64, terms: Terms) {
        tracing::warn!(task = %entry.spec.name, epoch, "what is here counts, and {} has put its own aside", terms.standby);
        let still = match still {
            Some(still) => still,
            None => match self.stand_still(entry, 0).await {
                Ok(still) => still,
                Err(e) => return tracing::error!(task = %entry.spec.name, "cannot go on at its new epoch: {e:#}"),
            },
        };
        if let Err(e) = self.db.set_record(entry.spec.id, &Record::Owned { epoch }) {
            tracing::error!(task = %entry.spec.name, "that it goes on here cannot be written down: {e:#}");
        }
        entry.epoch.store(epoch, Ordering::SeqCst);
        // Clients who have stayed with it all the time have heard all that it has said, and nothing else.
        if let Some(sockets) = entry.sockets().filter(|sockets| !sockets.is_attached()) {
            sockets.go_back();
        }
        let _ = still.verdict.send(Verdict::Thaw(Some(epoch)));
        // The others know it by an epoch that is over.
        for protection in self.protections_of(&entry.spec.name) {
            protection.leave(Leave::Renewed(epoch)).await;
        }
        self.keep_protected(entry, terms);
    }

    /// Another copy of the task counts, of this epoch: the one that is here, and stands still, is put aside; or what the disk has.
    pub(crate) fn displace(self: &Arc<Self>, entry: &Arc<Entry>, still: Option<Still>, epoch: u64, terms: Terms) {
        let (id, to) = (entry.spec.id, terms.standby.clone());
        tracing::warn!(task = %entry.spec.name, epoch, "goes on at {to}: what is here is kept until that is safe here");
        let written = self.db.set_record(id, &Record::Left { epoch, to: to.clone() });
        if let Err(e) = written.and_then(|()| self.db.remove_standby(id, None)) {
            tracing::error!(task = %entry.spec.name, "that it goes on elsewhere cannot be written down: {e:#}");
        }
        if let Some(still) = &still {
            still.given_away.store(true, Ordering::SeqCst);
        }
        let displaced = Displaced { entry: entry.clone(), still, epoch, terms };
        lock(&self.displaced).insert(id, displaced);
        entry.set_state(State::Left { to, saved: false });
        tokio::spawn(self.clone().watch_over(entry.clone(), epoch));
    }

    /// The copy that goes on is safe here, or nobody wants this one: it is dropped.
    pub(crate) fn settle(&self, id: TaskId) {
        let Some(displaced) = lock(&self.displaced).remove(&id) else { return };
        if let Some(still) = displaced.still {
            let _ = still.verdict.send(Verdict::Drop);
        }
        let _ = std::fs::remove_file(self.dirs.checkpoint(id));
        displaced.entry.set_state(State::Left { to: displaced.terms.standby, saved: true });
    }

    /// The copy that goes on has come here itself, by a move. Gives how the task is protected, if one was kept here for it.
    pub(crate) fn came_back(&self, id: TaskId) -> Option<Terms> {
        let terms = lock(&self.displaced).get(&id).map(|displaced| displaced.terms.clone())?;
        self.settle(id);
        Some(terms)
    }

    /// The copy that was to go on is lost: this one does. Gives its new epoch.
    pub(crate) fn retake(self: &Arc<Self>, id: TaskId) -> Option<u64> {
        let Displaced { entry, still, epoch, terms } = lock(&self.displaced).remove(&id)?;
        let epoch = takeover(epoch, 0);
        tracing::warn!(task = %entry.spec.name, epoch, "{} is gone with what went on there: what was kept here goes on", terms.standby);
        // What is in memory is on no disk yet.
        let record = if still.is_some() { Record::Taken { epoch } } else { Record::Owned { epoch } };
        if let Err(e) = self.db.put_task(&entry.spec, &record) {
            tracing::error!(task = %entry.spec.name, "that it goes on here cannot be written down: {e:#}");
        }
        let entry = match still {
            Some(still) => {
                entry.unsaved.store(true, Ordering::SeqCst);
                entry.epoch.store(epoch, Ordering::SeqCst);
                entry.sockets().iter().for_each(|sockets| sockets.go_back());
                entry.set_state(State::Running);
                let _ = still.verdict.send(Verdict::Thaw(Some(epoch)));
                self.look_after(&entry);
                self.save_soon(&entry);
                entry
            }
            None => self.revive(entry.spec.clone(), epoch),
        };
        self.keep_protected(&entry, terms);
        Some(epoch)
    }

    /// Waits until what goes on elsewhere is safe here; or lost, or a person says which it is.
    async fn watch_over(self: Arc<Self>, entry: Arc<Entry>, epoch: u64) {
        let (id, mut decision, mut heard) = (entry.spec.id, entry.decision.subscribe(), Instant::now());
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                _ = decision.changed() => {}
            }
            let to = lock(&self.displaced).get(&id).filter(|d| d.epoch == epoch).map(|d| d.terms.standby.clone());
            let Some(to) = to else { return };
            let decided = *decision.borrow_and_update();
            if let Some(answer) = decided {
                if answer == Answer::Owns {
                    self.settle(id)
                } else {
                    _ = self.retake(id)
                }
                return;
            }
            let is_held = lock(&self.standbys).contains_key(&id);
            // As much work as there is: nobody is to take over for this.
            let fate = if is_held {
                Ok(Fate::None { stands_by: true })
            } else {
                self.ask_standby(id, epoch, u64::MAX, &to).await
            };
            match fate {
                Ok(Fate::None { .. }) => heard = Instant::now(),
                // It has moved on, or ended there.
                Ok(Fate::Counts(_) | Fate::Ended) => return self.settle(id),
                Err(e) if heard.elapsed() <= FORSAKEN => {
                    tracing::debug!(task = %entry.spec.name, "{to} is not there: {e:#}")
                }
                // It has lost what it had; or is gone.
                Ok(Fate::Yields(_)) | Err(_) => {
                    self.retake(id);
                    return;
                }
            }
        }
    }

    /// Weighs another node's claim: at which epoch it may go on, if it may.
    async fn weigh(self: &Arc<Self>, peer: &str, task: TaskId, epoch: u64, claim: Claim) -> Result<Option<u64>> {
        let put_aside = lock(&self.displaced).get(&task).filter(|d| d.terms.standby == peer).map(|d| d.epoch);
        if put_aside.is_some() {
            return Ok(put_aside);
        }
        let entry = self.tasks().into_iter().find(|e| e.spec.id == task && e.state().is_alive());
        let Some(entry) = entry.filter(|e| e.epoch.load(Ordering::SeqCst) == epoch) else { return Ok(None) };
        let Some(terms) = self.db.standbys(task)?.into_iter().find(|terms| terms.standby == peer) else {
            return Ok(None);
        };
        let still = match (claim, terms.order.on_return) {
            (Claim::Served, _) => {
                let Some(sockets) = entry.sockets() else { return Ok(None) };
                if !sockets.keep_from_clients().await {
                    return Ok(None);
                }
                self.stand_still(&entry, 0).await?
            }
            (Claim::Work(_), OnReturn::Standby) => return Ok(None),
            (Claim::Work(theirs), OnReturn::Furthest) => {
                let still = self.stand_still(&entry, 0).await?;
                let ours = work(&still.state)?;
                tracing::info!(task = %entry.spec.name, ours, theirs, "work done here, and at {peer}");
                if theirs <= ours {
                    return Ok(None);
                }
                still
            }
        };
        let epoch = takeover(epoch, 0);
        self.displace(&entry, Some(still), epoch, terms);
        Ok(Some(epoch))
    }

    /// Answers a node that asks whether a task of it was taken over here, or claims it; `None` if there is nothing to say.
    ///
    /// # Errors
    /// When what is here cannot be read.
    pub(crate) async fn reunion(self: &Arc<Self>, peer: &str, said: &Said) -> Result<Option<Said>> {
        let (task, epoch) = match said {
            Said::Protect { offer, .. } => (offer.task, offer.epoch),
            Said::Ask { task, epoch, .. } | Said::Claim { task, epoch, .. } => (*task, *epoch),
            _ => bail!("a message that begins nothing"),
        };
        // What was put aside for that node, which has not heard so.
        let yielded =
            lock(&self.displaced).get(&task).filter(|d| d.terms.standby == peer && d.epoch > epoch).map(|d| d.epoch);
        if let Some(at) = yielded {
            return Ok(match said {
                Said::Protect { .. } | Said::Claim { .. } => Some(Said::Yield(at)),
                // It was started anew since, and has less than what is here.
                _ => self.retake(task).map(Said::TakenOver),
            });
        }
        if let Said::Protect { terms, .. } = said
            && self.is_taken_over(peer, task, epoch, terms)?
        {
            let text = "it runs there, too: which copy counts is being weighed";
            return Ok(Some(Said::Refuse(Refusal::new(Reason::Busy, text))));
        }
        let held = lock(&self.standbys).get(&task).cloned();
        let stands_by = held.as_ref().is_some_and(|held| held.could_go_on());
        if let (Said::Ask { work, .. }, Some(held)) = (said, held.filter(|held| held.pair().peer == peer)) {
            held.replace(*work).await;
        }
        let record = self.db.record(task)?;
        // What it took over died with it.
        if let Some(Record::Lost { epoch: lost }) = record
            && lost >= epoch
        {
            return Ok(Some(Said::Yield(takeover(lost, 0))));
        }
        Ok(match said {
            Said::Claim { claim, .. } => Some(match self.weigh(peer, task, epoch, *claim).await? {
                Some(epoch) => Said::Yield(epoch),
                None => Said::TakenOver(record.map_or(epoch, |record| record.epoch())),
            }),
            _ => match record {
                Some(record) if is_ahead(record.epoch(), epoch) => Some(Said::TakenOver(record.epoch())),
                Some(Record::Ended { .. }) if matches!(said, Said::Ask { .. }) => {
                    Some(Said::Refuse(Refusal::new(Reason::Ended, "it has ended")))
                }
                _ if matches!(said, Said::Ask { .. }) => Some(Said::NotTakenOver { stands_by }),
                _ => None,
            },
        })
    }

    /// Whether a task that runs here has been taken over by a node which asks this one to be its standby. One of the two copies is
    /// put aside then.
    fn is_taken_over(self: &Arc<Self>, peer: &str, task: TaskId, epoch: u64, terms: &[u8]) -> Result<bool> {
        let runs = |entry: &Arc<Entry>| {
            let is_running = entry.spec.id == task && entry.state() == State::Running;
            is_running && is_ahead(epoch, entry.epoch.load(Ordering::SeqCst))
        };
        let Some(entry) = self.tasks().into_iter().find(runs) else { return Ok(false) };
        let terms = Terms::decode(terms)?;
        if !terms.line("").any(|node| node == peer) {
            return Ok(false);
        }
        let known = self.db.standbys(task)?.into_iter().find(|known| known.standby == peer);
        let reunited: Pin<Box<dyn Future<Output = ()> + Send>> =
            Box::pin(self.clone().reunite(entry, epoch, known.unwrap_or_else(|| terms.of(peer))));
        tokio::spawn(reunited);
        Ok(true)
    }

    /// A task that had standbys, of a node that was away: it goes on here, unless it does there.
    pub(crate) async fn come_back(self: Arc<Self>, spec: Spec, epoch: u64, mut all: Vec<Terms>) {
        all.sort_by_key(Terms::place);
        // An agent that was ended in peace has written down how far the task was.
        let saved = snapshots::header(&self.dirs.checkpoint(spec.id)).ok().map(|header| header.progress);
        let mut yielded = epoch;
        // One after the other: one of them that has something newer takes over for that.
        for terms in &all {
            match self.fate_of(&spec, epoch, saved, terms).await {
                Fate::None { .. } => {}
                // Another one may have it all the same.
                Fate::Yields(at) => yielded = yielded.max(at),
                Fate::Counts(at) => {
                    let entry = Entry::new(spec, State::Left { to: terms.standby.clone(), saved: false }, at);
                    self.remember(entry.clone());
                    return self.displace(&entry, None, at, terms.clone());
                }
                Fate::Ended => {
                    let entry = Entry::new(spec, State::Left { to: terms.standby.clone(), saved: true }, epoch);
                    self.remember(entry.clone());
                    self.displace(&entry, None, epoch, terms.clone());
                    return self.settle(entry.spec.id);
                }
            }
        }
        if yielded > epoch
            && let Err(e) = self.db.set_record(spec.id, &Record::Owned { epoch: yielded })
        {
            tracing::error!(task = %spec.name, "that it goes on here cannot be written down: {e:#}");
        }
        let entry = self.revive(spec, yielded);
        if let Some(terms) = all.first() {
            self.keep_protected(&entry, terms.clone());
        }
    }

    /// Whether one of a task's standbys has gone on with it while this node was away, and is to go on.
    async fn fate_of(&self, spec: &Spec, epoch: u64, saved: Option<u64>, terms: &Terms) -> Fate {
        let standby = &terms.standby;
        let asking = self.ask_standby(spec.id, epoch, saved.unwrap_or(0), standby);
        let fate = match tokio::time::timeout(ASKING, asking).await {
            Ok(Ok(fate)) => fate,
            _ => return Fate::None { stands_by: false },
        };
        if let Fate::Counts(epoch) = fate {
            tracing::warn!(task = %spec.name, "goes on at {standby}, as this node was away");
            if let Some(work) = saved.filter(|_| terms.order.on_return == OnReturn::Furthest)
                && let Ok(weighed) = self.say_claim(spec.id, epoch, Claim::Work(work), standby).await
            {
                return weighed;
            }
        }
        fate
    }
}

/// How much work a state stands for.
pub(crate) fn work(state: &[u8]) -> Result<u64> {
    let envelope = Envelope::decode(state)?;
    Ok(Header::parse(&envelope.snapshot).context("a state that is none")?.progress)
}

/// Answers a message that begins a channel, where that is all there is to it; gives the link back where it is not.
///
/// # Errors
/// When the link breaks, or what is here cannot be read.
pub(crate) async fn answered(agent: &Arc<Agent>, mut link: Link, said: &Said) -> Result<Option<Link>> {
    let peer = link.peer().context("a stranger has a task protected")?.to_string();
    let Some(answer) = agent.reunion(&peer, said).await? else { return Ok(Some(link)) };
    link.send(Kind::Transfer, &Message::Standby(answer).encode()).await?;
    link.part().await;
    Ok(None)
}
