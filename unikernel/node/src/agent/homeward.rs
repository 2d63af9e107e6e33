//! What was taken over here goes home by itself. A board keeps no standby up to date: a task that it has taken over has none
//! while it is here, so the board moves it as any task is moved, as soon as its home has been there for a while. There it is
//! protected again.

use super::depart::{Audience, Told, migrate};
use super::{Agent, Entry, Queue, log};
use crate::clock;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use anyhow::{Context, Result, anyhow, bail};
use core::cell::Cell;
use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use wayfare_cluster::control::{Order, Reply, Request};
use wayfare_cluster::peers::NodeMessage;
use wayfare_cluster::protection::{Pair, Role, Terms};
use wayfare_transfer::Kind;
use wayfare_transfer::message::Mode;

/// How long a task's home must have been there before the task goes back, nanoseconds; longer where the link flaps.
const HOMEWARD: u64 = 10_000_000_000;
/// Between two looks at whether it is there, milliseconds.
const LOOK: u64 = 2_000;
/// The bound on the downtime of the move, nanoseconds, that users have if they say nothing.
const DOWNTIME: u64 = 10_000_000;
/// How long the first sync there may take, milliseconds.
const FIRST_SYNC: u64 = 120_000;

impl Agent {
    /// Has a task that was taken over here go home in time.
    pub(super) fn take_home(self: &Rc<Self>, entry: &Rc<Entry>) {
        self.executor.spawn(self.clone().wait_for_home(entry.clone(), entry.epoch.get()));
    }

    async fn wait_for_home(self: Rc<Self>, entry: Rc<Entry>, epoch: u64) {
        let mut since = None;
        loop {
            self.executor.sleep(LOOK).await;
            let terms = entry.terms.borrow().clone();
            let Some(terms) = terms.filter(|_| entry.state().is_alive() && entry.epoch.get() == epoch) else { return };
            if terms.order.stay || terms.by_hand || entry.moving.get() {
                continue;
            }
            let address = self.peers.borrow().get(&terms.home).map(|peer| peer.address.clone());
            let is_there = match address {
                Some(address) => self.greet(&address).await.is_ok(),
                None => false,
            };
            if !is_there {
                since = None;
                continue;
            }
            let now = clock::nanos();
            if now - *since.get_or_insert(now) < HOMEWARD * u64::from(terms.hesitation()) {
                continue;
            }
            log!("{} goes back to {}", entry.spec.name, terms.home);
            if let Err(e) = self.go_to(&entry, terms.home).await {
                log!("{} stays here for now: {e:#}", entry.spec.name);
                since = None;
            }
        }
    }

    async fn go_to(self: &Rc<Self>, entry: &Entry, home: String) -> Result<()> {
        let (name, mode) = (entry.spec.name.clone(), Mode::PreCopy);
        let order = Order { name, to: home, mode, max_downtime: DOWNTIME, give_up: false, limit: None, streams: 1 };
        let audience = Rc::new(Audience { told: Queue::new(), left: Cell::new(false) });
        let mut moving = pin!(migrate(self.clone(), order, audience.clone()));
        poll_fn(|cx| {
            // Nobody reads it.
            while let Poll::Ready(Told::Line(_) | Told::Gone(_)) = audience.told.poll(cx) {}
            moving.as_mut().poll(cx)
        })
        .await
    }

    /// Has a task go over to the node that would be its standby if it had one: home, by a person's wish.
    ///
    /// # Errors
    /// When it was not taken over here, or cannot go.
    pub(super) async fn fail_back(self: &Rc<Self>, name: &str) -> Result<()> {
        let entry = self.task(name)?;
        let terms = entry.terms.borrow().clone().filter(|_| entry.state().is_alive());
        let terms = terms.with_context(|| format!("{name} has no standby, and was not taken over on this board"))?;
        self.go_to(&entry, terms.home).await
    }

    /// A task has left for a node: if that is where it belongs, it is to be protected there.
    pub(super) fn has_come(self: &Rc<Self>, entry: &Rc<Entry>, to: &str) {
        let Some(terms) = entry.terms.borrow_mut().take().filter(|terms| terms.home == to) else { return };
        let agent = self.clone();
        self.executor.spawn(async move {
            let name = terms.order.name.clone();
            // Where its home has kept its copy all the time it does that by itself.
            if let Err(e) = agent.have_protected(terms).await {
                log!("{name} is not protected from here: {e:#}");
            }
        });
    }

    async fn have_protected(&self, terms: Terms) -> Result<()> {
        let request = serde_json::to_vec(&Request::Protect { order: terms.order })?;
        let mut link = self.dial(&terms.home).await?;
        link.send(Kind::Node, &NodeMessage::Request(request).encode()).await?;
        let message = link.receive(FIRST_SYNC).await?;
        let NodeMessage::Reply(reply) = NodeMessage::decode(&message.payload)? else {
            bail!("{} answered something else", terms.home);
        };
        match serde_json::from_slice(&reply) {
            Ok(Reply::Done) => Ok(()),
            Ok(Reply::Failed { error }) => Err(anyhow!("{} said: {error}", terms.home)),
            _ => bail!("{} answered something else", terms.home),
        }
    }

    /// The tasks whose standby this board is, and those that were taken over here.
    pub(super) fn pairs(&self) -> Vec<Pair> {
        let held = self.standbys.borrow();
        let tasks = self.tasks.borrow();
        let taken = tasks.values().filter(|entry| entry.state().is_alive()).filter_map(|entry| {
            let terms = entry.terms.borrow().clone()?;
            let reason = match terms.order.stay || terms.by_hand {
                true => format!("a board keeps no standby: it stays until `wayfare failback {}`", entry.spec.name),
                false => format!("a board keeps no standby: it goes home once {} is there", terms.home),
            };
            let pair = Pair::new(&terms, Role::Primary, &terms.standby);
            Some(Pair { connected: false, reason, ..pair })
        });
        taken.chain(held.values().map(|held| held.pair())).collect()
    }
}
