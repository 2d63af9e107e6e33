//! What users ask of a task's standby: to have one, or none any more; to hand the task over; and what an agent does about it when
//! it begins and ends. [`crate::primary`] keeps the standby up to date.

use crate::agent::{Agent, Entry, lock};
use crate::depart::offer;
use crate::primary::{Driver, set_keeping};
use crate::protection::{Pair, Protect, Role, Terms};
use crate::watched::Watched;
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use wayfare_policy::Policy;
use wayfare_transfer::message::Mode;
use wayfare_transfer::standby::Primary;

/// How long a move of the task is waited for.
const MOVING: Duration = Duration::from_secs(30);
/// How long the way to a task's clients is waited for.
const ATTACHING: Duration = Duration::from_secs(5);
/// Between two attempts to give a task its standby back.
const AGAIN: Duration = Duration::from_secs(1);
/// How long an agent that ends takes to hand its tasks over, all of them together.
const LAST_SYNCS: Duration = Duration::from_secs(5);

/// A task of this node that has a standby.
pub(crate) struct Protection {
    pub(crate) terms: Terms,
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
    /// This node ends, and says nothing: the standby takes over.
    Alone,
}

impl Protection {
    async fn leave(&self, how: Leave) {
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
        let pair = Pair::new(&self.terms, Role::Primary, &self.terms.order.standby);
        Pair { connected: false, reason: lock(&self.why).clone(), ..pair }
    }
}

impl Agent {
    /// Gives a task a standby.
    ///
    /// # Errors
    /// When it cannot have one there; it runs on without.
    pub(crate) async fn protect(self: &Arc<Self>, order: Protect) -> Result<()> {
        let home = self.identity()?.name;
        let terms = Terms { order, home, by_hand: false, flaps: 0 };
        self.protect_by(terms, true).await
    }

    /// The same, by terms that may be older. `ordered`: if it cannot be done, nobody tries again.
    async fn protect_by(self: &Arc<Self>, terms: Terms, ordered: bool) -> Result<()> {
        let order = &terms.order;
        let policy: Policy = order.policy.parse().map_err(|e| anyhow!("--policy {}: {e}", order.policy))?;
        let entry = self.task(&order.name)?;
        let me = self.identity()?.name;
        ensure!(order.standby != me, "{} runs on {me}: its standby must be another node", order.name);
        ensure!(entry.spec.dirs.is_empty(), "{} uses directories of its host, which a standby has none of", order.name);
        self.is_unprotected(&order.name)?;
        ensure!(!ordered || !lock(&self.awaited).contains_key(&order.name), "{}", self.awaits(&order.name));
        // One that has just come is on its way to the disk here.
        let moving = tokio::time::timeout(MOVING, entry.moving.clone().lock_owned()).await;
        let moving = moving.map_err(|_| anyhow!("{} is being moved", order.name))?;
        let live = entry.live()?;
        let link = self.dial(&order.standby).await?;
        // One that has just taken over goes back with its clients first: what is kept for it then is not for the next standby.
        if let Some(sockets) = entry.sockets().filter(|_| !entry.spec.publish.is_empty()) {
            let attached = tokio::time::timeout(ATTACHING, sockets.until_attached()).await;
            attached.map_err(|_| anyhow!("the clients of {} are not reached", order.name))?;
        }
        let memory = Watched::new(live.watch()?);
        let id = entry.spec.id;
        let (offer, module) = offer(&entry, entry.epoch.load(Ordering::SeqCst), Mode::Stop, Vec::new())?;
        let (hand, hands) = mpsc::unbounded_channel();
        let protection = Arc::new(Protection {
            pair: Mutex::new(Pair::new(&terms, Role::Primary, &order.standby)),
            of: Mutex::default(),
            dismissed: watch::Sender::new(None),
            over: watch::Sender::new(false),
            hand,
            terms: terms.clone(),
        });
        {
            let mut all = lock(&self.protections);
            ensure!(!all.contains_key(&order.name), "{} is being given a standby already", order.name);
            self.db.put_protection(id, &terms)?;
            all.insert(order.name.clone(), protection.clone());
        }
        // States that are written from here on are such as a standby can go on from.
        if let Err(e) = set_keeping(self, &entry, true).await {
            lock(&self.protections).remove(&order.name);
            if ordered {
                self.db.remove_protection(id)?;
            }
            return Err(e.context(format!("{}, which has its clients", entry.spec.origin)));
        }
        let primary = Primary::new(offer, terms.encode(), module);
        let (driver, first) = Driver::new(self.clone(), entry, protection, primary, memory, policy, link, moving);
        tokio::spawn(driver.keeps_terms(!ordered).run(hands));
        // The first sync says whether it can be done at all.
        first.await.context("the agent has ended it")?.map_err(|why| anyhow!(why))
    }

    /// Gives a task its standby, or its standby back, as soon as that is there: until somebody does not want it any more, or
    /// the task is not here any more.
    pub(crate) fn keep_protected(self: &Arc<Self>, entry: &Arc<Entry>, terms: Terms) {
        // In a box: what protects a task may come to a reunion, and that to this.
        let kept: Pin<Box<dyn Future<Output = ()> + Send>> =
            Box::pin(self.clone().try_to_protect(entry.clone(), terms));
        tokio::runtime::Handle::current().spawn(kept);
    }

    async fn try_to_protect(self: Arc<Self>, entry: Arc<Entry>, terms: Terms) {
        let (id, name) = (entry.spec.id, terms.order.name.clone());
        if let Err(e) = self.db.put_protection(id, &terms) {
            tracing::error!(task = %name, "that it has a standby cannot be written down: {e:#}");
        }
        let dismissed = watch::Sender::new(false);
        let mut is_dismissed = dismissed.subscribe();
        let awaited = Arc::new(Awaited { terms: terms.clone(), why: Mutex::default(), dismissed });
        lock(&self.awaited).insert(name.clone(), awaited.clone());
        let mut protected = false;
        while !protected && entry.state().is_alive() && !*is_dismissed.borrow() {
            match self.protect_by(terms.clone(), false).await {
                Ok(()) => protected = true,
                Err(e) => {
                    tracing::debug!(task = %name, "has no standby yet: {e:#}");
                    *lock(&awaited.why) = format!("{} is awaited: {e:#}", terms.order.standby);
                    tokio::select! {
                        () = tokio::time::sleep(AGAIN) => {}
                        () = entry.changed.notified() => {}
                        _ = is_dismissed.changed() => {}
                    }
                }
            }
        }
        lock(&self.awaited).retain(|_, other| !Arc::ptr_eq(other, &awaited));
        if !protected && let Err(e) = self.db.remove_protection(id) {
            tracing::error!(task = %name, "that it has no standby cannot be written down: {e:#}");
        }
    }

    /// Takes a task's standby away.
    ///
    /// # Errors
    /// When it has none.
    pub(crate) async fn unprotect(&self, name: &str) -> Result<()> {
        if let Some(awaited) = lock(&self.awaited).get(name) {
            awaited.dismissed.send_replace(true);
        }
        let found = lock(&self.protections).get(name).cloned();
        match found {
            Some(protection) => protection.leave(Leave::Dismissed).await,
            None if lock(&self.awaited).contains_key(name) => {}
            None => bail!("{name} has no standby: `wayfare protected` lists those that have one"),
        }
        Ok(())
    }

    /// Has the standby of a task take over; with all that the task has done, where both sides are there. `back`: only if
    /// the standby is the task's home.
    ///
    /// # Errors
    /// When it has none, or that has nothing to go on from.
    pub(crate) async fn fail_over(&self, name: &str, back: bool) -> Result<()> {
        let me = self.identity()?.name;
        let found = lock(&self.protections).get(name).cloned();
        if let Some(protection) = found {
            ensure!(!back || protection.terms.home != me, "{name} is at home here, on {me}");
            return protection.hand_over(true).await;
        }
        ensure!(!lock(&self.awaited).contains_key(name), "{}", self.awaits(name));
        let held = lock(&self.standbys).values().find(|held| held.pair().name == name).cloned();
        let held = held.with_context(|| {
            format!("{name} has no standby, or is on another node: `wayfare protected` lists those that have one")
        })?;
        let pair = held.pair();
        ensure!(!back || pair.home == me, "{name} is at home where it is, on {}", pair.peer);
        held.take_over().await
    }

    fn awaits(&self, name: &str) -> String {
        let why = lock(&self.awaited).get(name).map(|awaited| lock(&awaited.why).clone()).unwrap_or_default();
        format!("the standby of {name} is away ({why}): `wayfare unprotect {name}` has it wait no longer")
    }

    /// The agent ends: tasks are handed over to their standbys, and those that are not to be reached are left alone.
    pub(crate) async fn leave_standbys(&self) {
        let all: Vec<Arc<Protection>> = lock(&self.protections).values().cloned().collect();
        let by = tokio::time::Instant::now() + LAST_SYNCS;
        for protection in &all {
            let name = &protection.terms.order.name;
            match tokio::time::timeout_at(by, protection.hand_over(false)).await {
                Ok(Ok(())) => tracing::info!(task = %name, "goes on at its standby"),
                Ok(Err(e)) => tracing::warn!(task = %name, "is not handed over to its standby: {e:#}"),
                Err(_) => tracing::warn!(task = %name, "is not handed over to its standby: that takes too long"),
            }
        }
        for protection in all {
            protection.leave(Leave::Alone).await;
        }
    }

    /// What cannot be done to a task with a standby is refused.
    ///
    /// # Errors
    /// When it has one.
    pub(crate) fn is_unprotected(&self, name: &str) -> Result<()> {
        match lock(&self.protections).get(name) {
            Some(protection) => {
                bail!(
                    "{name} has a standby on {}: take it away first (`wayfare unprotect {name}`)",
                    protection.pair().peer
                )
            }
            None => Ok(()),
        }
    }
}
