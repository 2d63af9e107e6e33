//! What users ask of a task's standby: to have one, or none any more; to hand the task over; and what an agent does about it when
//! it begins and ends. [`crate::primary`] keeps the standby up to date.

use crate::agent::{Agent, Entry, lock};
use crate::depart::offer;
use crate::primary::{Driver, set_keeping};
use crate::protection::{Pair, Protect, Role, Terms};
use crate::shared::Shared;
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use wayfare_policy::Policy;
use wayfare_transfer::message::Mode;
use wayfare_transfer::standby::Primary;

/// How long the way to a task's clients is waited for.
const ATTACHING: Duration = Duration::from_secs(5);
/// Between two attempts to give a task its standby back.
const AGAIN: Duration = Duration::from_secs(1);
/// How long an agent that ends takes to hand its tasks over, all of them together.
const LAST_SYNCS: Duration = Duration::from_secs(5);

/// A task's name, and the node of one of its standbys.
pub(crate) type Couple = (String, String);

/// A task of this node that has a standby.
pub(crate) struct Protection {
    pub(crate) terms: Terms,
    /// The task's epoch, which the standby knows.
    epoch: u64,
    pub(crate) pair: Mutex<Pair>,
    /// When the task was as the standby has it.
    pub(crate) of: Mutex<Option<Instant>>,
    /// Nobody is to keep it up to date any more.
    pub(crate) dismissed: watch::Sender<Option<Leave>>,
    /// Nobody keeps it up to date any more.
    pub(crate) over: watch::Sender<bool>,
    /// Who wants the task handed over.
    pub(crate) hand: mpsc::UnboundedSender<Hand>,
}

/// A wish to have the task handed over.
pub(crate) struct Hand {
    /// It is to stay there.
    pub(crate) stays: bool,
    /// Told when the standby runs it, or why it does not.
    pub(crate) done: oneshot::Sender<Result<(), String>>,
}

/// How a standby is left.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// It is to be none any more.
    Dismissed,
    /// It is asked again: the task goes on at this epoch.
    Renewed(u64),
    /// This node ends, and says nothing: the standby takes over.
    Alone,
}

impl Protection {
    pub(crate) async fn leave(&self, how: Leave) {
        let mut over = self.over.subscribe();
        self.dismissed.send_replace(Some(how));
        let _ = over.wait_for(|over| *over).await;
    }

    async fn hand_over(&self, stays: bool) -> Result<()> {
        let (done, answer) = oneshot::channel();
        let _ = self.hand.send(Hand { stays, done });
        answer.await.context("it has no standby any more")?.map_err(|why| anyhow!(why))
    }

    /// As it is shown.
    pub(crate) fn pair(&self) -> Pair {
        let age = lock(&self.of).map(|of| of.elapsed().as_nanos() as u64);
        Pair { age, ..lock(&self.pair).clone() }
    }
}

/// A task of this node whose standby is away: it is to have it again as soon as that is there.
pub(crate) struct Awaited {
    terms: Terms,
    /// Why it has none yet.
    why: Mutex<String>,
    /// It is to have none any more.
    dismissed: watch::Sender<bool>,
}

impl Awaited {
    /// As it is shown.
    pub(crate) fn pair(&self) -> Pair {
        let pair = Pair::new(&self.terms, Role::Primary, &self.terms.standby);
        Pair { connected: false, reason: lock(&self.why).clone(), ..pair }
    }
}

impl Agent {
    /// Gives a task its standbys: all that are named, or none.
    ///
    /// # Errors
    /// When it cannot have one there; it runs on without any.
    pub(crate) async fn protect(self: &Arc<Self>, order: Protect) -> Result<()> {
        let (name, standbys) = (order.name.clone(), order.standbys.clone());
        ensure!(!standbys.is_empty(), "no node is named that is to be the standby of {name}");
        ensure!(standbys.len() <= Terms::MOST, "{name} can have {} standbys at most", Terms::MOST);
        if let Some(twice) = standbys.iter().enumerate().find(|(i, node)| standbys[..*i].contains(node)) {
            bail!("{} is named twice", twice.1);
        }
        self.is_unprotected(&name)?;
        ensure!(self.awaited_of(&name).is_empty(), "{}", self.awaits(&name));
        let home = self.identity()?.name;
        let terms = Terms { standby: standbys[0].clone(), order, home, by_hand: false, flaps: 0 };
        let mut done = Vec::new();
        for standby in &standbys {
            match self.protect_by(terms.of(standby), true).await {
                Ok(protection) => done.push(protection),
                Err(e) => {
                    for protection in done {
                        protection.leave(Leave::Dismissed).await;
                    }
                    return Err(e);
                }
            }
        }
        Ok(())
    }

    /// Gives it one, by terms that may be older. `ordered`: if it cannot be done, nobody tries again.
    async fn protect_by(self: &Arc<Self>, terms: Terms, ordered: bool) -> Result<Arc<Protection>> {
        let order = &terms.order;
        let policy: Policy = order.policy.parse().map_err(|e| anyhow!("--policy {}: {e}", order.policy))?;
        let entry = self.task(&order.name)?;
        let me = self.identity()?.name;
        ensure!(terms.standby != me, "{} runs on {me}: its standby must be another node", order.name);
        ensure!(entry.spec.dirs.is_empty(), "{} uses directories of its host, which a standby has none of", order.name);
        let shared = Shared::of(&entry).await?;
        let link = self.dial(&terms.standby).await?;
        // One that has just taken over goes back with its clients first: what is kept for it then is not for the next standby.
        if let Some(sockets) = entry.sockets().filter(|_| !entry.spec.publish.is_empty()) {
            let attached = tokio::time::timeout(ATTACHING, sockets.until_attached()).await;
            attached.map_err(|_| anyhow!("the clients of {} are not reached", order.name))?;
        }
        let (id, epoch) = (entry.spec.id, entry.epoch.load(Ordering::SeqCst));
        let (offer, module) = offer(&entry, epoch, Mode::Stop, Vec::new())?;
        let rank = terms.nearer(&me, &terms.standby).count() as u32;
        let (hand, hands) = mpsc::unbounded_channel();
        let protection = Arc::new(Protection {
            pair: Mutex::new(Pair::new(&terms, Role::Primary, &terms.standby)),
            of: Mutex::default(),
            dismissed: watch::Sender::new(None),
            over: watch::Sender::new(false),
            hand,
            epoch,
            terms: terms.clone(),
        });
        let couple = (order.name.clone(), terms.standby.clone());
        {
            let mut all = lock(&self.protections);
            let is_there = all.contains_key(&couple);
            ensure!(!is_there, "{} is being given a standby on {} already", order.name, terms.standby);
            self.db.put_standby(id, &terms)?;
            all.insert(couple.clone(), protection.clone());
        }
        // States that are written from here on are such as a standby can go on from.
        if let Err(e) = set_keeping(self, &entry, true).await {
            lock(&self.protections).remove(&couple);
            if ordered {
                self.db.remove_standby(id, Some(&terms.standby))?;
            }
            return Err(e.context(format!("{}, which has its clients", entry.spec.origin)));
        }
        let primary = Primary::new(offer, rank, terms.encode(), module);
        let (driver, first) = Driver::new(self.clone(), entry, protection.clone(), primary, shared, policy, link);
        tokio::spawn(driver.keeps_terms(!ordered).run(hands));
        // The first sync says whether it can be done at all.
        first.await.context("the agent has ended it")?.map_err(|why| anyhow!(why))?;
        Ok(protection)
    }

    /// What keeps the standbys of a task up to date, nearest first.
    pub(crate) fn protections_of(&self, name: &str) -> Vec<Arc<Protection>> {
        let all = lock(&self.protections);
        let mut all: Vec<_> = all.iter().filter(|(couple, _)| couple.0 == name).map(|(_, p)| p.clone()).collect();
        all.sort_by_key(|protection| protection.terms.place());
        all
    }

    fn awaited_of(&self, name: &str) -> Vec<Arc<Awaited>> {
        let all = lock(&self.awaited);
        let mut all: Vec<_> = all.iter().filter(|(couple, _)| couple.0 == name).map(|(_, a)| a.clone()).collect();
        all.sort_by_key(|awaited| awaited.terms.place());
        all
    }

    /// Tasks of this node that have standbys, and those whose standbys are awaited, nearest first.
    pub(crate) fn pairs(&self) -> Vec<Pair> {
        let mut names: BTreeSet<String> = lock(&self.protections).keys().map(|(name, _)| name.clone()).collect();
        names.extend(lock(&self.awaited).keys().map(|(name, _)| name.clone()));
        let of = |name: &String| {
            let kept = self.protections_of(name);
            let awaited = self.awaited_of(name).into_iter().filter(|awaited| {
                // It is being given back.
                !kept.iter().any(|protection| protection.terms.standby == awaited.terms.standby)
            });
            let awaited: Vec<Pair> = awaited.map(|awaited| awaited.pair()).collect();
            kept.iter().map(|protection| protection.pair()).chain(awaited).collect::<Vec<_>>()
        };
        names.iter().flat_map(of).collect()
    }

    /// Gives a task its standbys, or its standbys back, as soon as they are there: until somebody does not want them any more,
    /// or the task is not here any more.
    pub(crate) fn keep_protected(self: &Arc<Self>, entry: &Arc<Entry>, terms: Terms) {
        let me = match self.identity() {
            Ok(identity) => identity.name,
            Err(e) => return tracing::error!(task = %entry.spec.name, "has no standby: {e:#}"),
        };
        for standby in terms.line(&me) {
            // In a box: what protects a task may come to a reunion, and that to this.
            let kept: Pin<Box<dyn Future<Output = ()> + Send>> =
                Box::pin(self.clone().try_to_protect(entry.clone(), terms.of(standby)));
            tokio::runtime::Handle::current().spawn(kept);
        }
    }

    async fn try_to_protect(self: Arc<Self>, entry: Arc<Entry>, terms: Terms) {
        let (id, name) = (entry.spec.id, terms.order.name.clone());
        if let Err(e) = self.db.put_standby(id, &terms) {
            tracing::error!(task = %name, "that it has a standby cannot be written down: {e:#}");
        }
        let dismissed = watch::Sender::new(false);
        let mut is_dismissed = dismissed.subscribe();
        let awaited = Arc::new(Awaited { terms: terms.clone(), why: Mutex::default(), dismissed });
        let couple = (name.clone(), terms.standby.clone());
        lock(&self.awaited).insert(couple.clone(), awaited.clone());
        // By newer terms, or another word, somebody else does.
        let is_wanted = || lock(&self.awaited).get(&couple).is_some_and(|other| Arc::ptr_eq(other, &awaited));
        let mut protected = false;
        while !protected && is_wanted() && entry.state().is_alive() && !*is_dismissed.borrow() {
            let epoch = entry.epoch.load(Ordering::SeqCst);
            if lock(&self.protections).get(&couple).is_some_and(|protection| protection.epoch == epoch) {
                protected = true;
                break;
            }
            match self.protect_by(terms.clone(), false).await {
                Ok(protection) if *is_dismissed.borrow() => protection.leave(Leave::Dismissed).await,
                Ok(_) => protected = true,
                Err(e) => {
                    tracing::debug!(task = %name, "has no standby on {} yet: {e:#}", terms.standby);
                    *lock(&awaited.why) = format!("{} is awaited: {e:#}", terms.standby);
                    tokio::select! {
                        () = tokio::time::sleep(AGAIN) => {}
                        () = entry.changed.notified() => {}
                        _ = is_dismissed.changed() => {}
                    }
                }
            }
        }
        if !is_wanted() {
            return;
        }
        lock(&self.awaited).remove(&couple);
        if !protected && let Err(e) = self.db.remove_standby(id, Some(&terms.standby)) {
            tracing::error!(task = %name, "that it has no standby cannot be written down: {e:#}");
        }
    }

    /// Takes a task's standbys away.
    ///
    /// # Errors
    /// When it has none.
    pub(crate) async fn unprotect(&self, name: &str) -> Result<()> {
        let awaited = self.awaited_of(name);
        awaited.iter().for_each(|awaited| _ = awaited.dismissed.send_replace(true));
        let all = self.protections_of(name);
        if all.is_empty() && awaited.is_empty() {
            bail!("{name} has no standby: `wayfare protected` lists those that have one");
        }
        for protection in all {
            protection.leave(Leave::Dismissed).await;
        }
        Ok(())
    }

    /// Has a standby of a task take over, the nearest that is there; with all that the task has done, where both sides are there.
    /// `back`: its home is to.
    ///
    /// # Errors
    /// When it has none, or that has nothing to go on from.
    pub(crate) async fn fail_over(&self, name: &str, back: bool) -> Result<()> {
        let me = self.identity()?.name;
        let all = self.protections_of(name);
        if let Some(first) = all.first() {
            ensure!(!back || first.terms.home != me, "{name} is at home here, on {me}");
            let to = if back {
                let home = all.iter().find(|protection| protection.terms.standby == protection.terms.home);
                home.with_context(|| self.awaits(name))?
            } else {
                // Without one that is there, the nearest says what is wrong.
                all.iter().find(|protection| lock(&protection.pair).connected).unwrap_or(first)
            };
            return to.hand_over(true).await;
        }
        ensure!(self.awaited_of(name).is_empty(), "{}", self.awaits(name));
        let held = lock(&self.standbys).values().find(|held| held.pair().name == name).cloned();
        let held = held.with_context(|| {
            format!("{name} has no standby, or is on another node: `wayfare protected` lists those that have one")
        })?;
        let pair = held.pair();
        ensure!(!back || pair.home == me, "{name} is at home where it is, on {}", pair.peer);
        held.take_over().await
    }

    fn awaits(&self, name: &str) -> String {
        let why: Vec<String> = self.awaited_of(name).iter().map(|awaited| lock(&awaited.why).clone()).collect();
        let why = why.join("; ");
        format!("the standby of {name} is away ({why}): `wayfare unprotect {name}` has it wait no longer")
    }

    /// The agent ends: tasks are handed over to the nearest of their standbys that is there; if none is, they are left alone.
    pub(crate) async fn leave_standbys(&self) {
        let names: BTreeSet<String> = lock(&self.protections).keys().map(|(name, _)| name.clone()).collect();
        let all: Vec<_> = names.iter().map(|name| (name, self.protections_of(name))).collect();
        let by = tokio::time::Instant::now() + LAST_SYNCS;
        for (name, nearest_first) in &all {
            for protection in nearest_first {
                let to = &protection.terms.standby;
                match tokio::time::timeout_at(by, protection.hand_over(false)).await {
                    Ok(Ok(())) => {
                        tracing::info!(task = %name, "goes on at its standby, {to}");
                        break;
                    }
                    Ok(Err(e)) => tracing::warn!(task = %name, "is not handed over to its standby, {to}: {e:#}"),
                    Err(_) => {
                        tracing::warn!(task = %name, "is not handed over to its standby, {to}: that takes too long")
                    }
                }
            }
        }
        // Until nothing is done with any of them any more.
        for (_, protections) in all {
            for protection in protections {
                protection.leave(Leave::Alone).await;
            }
        }
    }

    /// What cannot be done to a task with a standby is refused.
    ///
    /// # Errors
    /// When it has one.
    pub(crate) fn is_unprotected(&self, name: &str) -> Result<()> {
        match self.protections_of(name).first() {
            Some(protection) => {
                bail!(
                    "{name} has a standby on {}: take it away first (`wayfare unprotect {name}`)",
                    protection.terms.standby
                )
            }
            None => Ok(()),
        }
    }
}
