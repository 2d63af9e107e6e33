//! Who else is there: the others are told that this node is, and say what they know, and what time it is.

use super::{Agent, log, target};
use crate::clock;
use crate::link::Link;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use anyhow::{Result, anyhow, bail};
use wayfare_cluster::peers::{NodeMessage, Peer};
use wayfare_cluster::restart::Restart;
use wayfare_transfer::Kind;
use wayfare_transfer::identity::Revocations;
use wayfare_unikernel_abi::SECOND;

/// Between two rounds, milliseconds.
const GREETINGS: u64 = 30_000;
/// The same while nobody has answered yet.
const FIRST: u64 = 1_000;
/// Most nodes that are known.
const PEERS_MAX: usize = 256;

impl Agent {
    pub(super) fn me(&self) -> Peer {
        let address = self.address.borrow().clone();
        Peer { name: self.identity.name.clone(), address, isa: target(), seen: clock::unix() }
    }

    pub(super) fn hello(&self) -> NodeMessage {
        let peers = self.peers.borrow().values().cloned().collect();
        NodeMessage::Hello { me: self.me(), peers, revoked: self.revoked.borrow().clone(), clock: clock::wall() }
    }

    /// Takes over what another node says. It speaks for itself only (`is_itself`).
    pub(super) fn hear(&self, is_itself: bool, me: Peer, peers: Vec<Peer>, revoked: Revocations, time: u64) {
        clock::set_wall(time);
        self.revoked.borrow_mut().merge(revoked, &self.identity.authority);
        let now = clock::unix();
        let mut known = self.peers.borrow_mut();
        let itself = is_itself.then_some(Peer { seen: now, ..me });
        for peer in itself.into_iter().chain(peers) {
            if peer.name == self.identity.name || peer.address.is_empty() {
                continue;
            }
            // A clock that is ahead must not make its news the last for ever.
            let seen = peer.seen.min(now);
            let is_news = known.get(&peer.name).is_none_or(|old| old.seen <= seen);
            if is_news && (known.len() < PEERS_MAX || known.contains_key(&peer.name)) {
                known.insert(peer.name.clone(), Peer { seen, ..peer });
            }
        }
    }

    /// Whether a node is there, and what it knows.
    ///
    /// # Errors
    /// When it is not.
    pub(super) async fn greet(&self, address: &str) -> Result<()> {
        let mut link = Link::dial(&self.net, &self.executor, address, self.credentials()).await?;
        link.send(Kind::Node, &self.hello().encode()).await?;
        match NodeMessage::decode(&link.expect(Kind::Node).await?)? {
            NodeMessage::Hello { me, peers, revoked, clock } => {
                self.hear(link.peer() == Some(&me.name), me, peers, revoked, clock);
                Ok(())
            }
            _ => bail!("it answered something else"),
        }
    }

    /// Tells a node why this machine was reset.
    async fn tell(&self, address: &str, why: &Restart) -> Result<()> {
        let mut link = Link::dial(&self.net, &self.executor, address, self.credentials()).await?;
        let restarted = NodeMessage::Restarted { ago: clock::nanos() / SECOND, why: why.clone() };
        link.send(Kind::Node, &restarted.encode()).await?;
        match NodeMessage::decode(&link.expect(Kind::Node).await?)? {
            NodeMessage::Noted => Ok(()),
            _ => bail!("it answered something else"),
        }
    }

    /// Tells all who keep it for people and do not know it yet.
    async fn tell_all(&self) {
        let Some(why) = &self.failures.last else { return };
        let is_to_know = |peer: &&Peer| !peer.is_bare() && !self.told.borrow().contains(&peer.name);
        let all: Vec<Peer> = self.peers.borrow().values().filter(is_to_know).cloned().collect();
        for peer in all {
            match self.tell(&peer.address, why).await {
                Ok(()) => _ = self.told.borrow_mut().insert(peer.name),
                Err(e) => log!("{} does not hear why this board was reset: {e:#}", peer.name),
            }
        }
    }

    pub(super) async fn greet_all(&self) -> bool {
        let mut answered = false;
        let all: Vec<(String, String)> =
            self.peers.borrow().values().map(|peer| (peer.name.clone(), peer.address.clone())).collect();
        for (name, address) in all {
            match self.greet(&address).await {
                Ok(()) => answered = true,
                Err(e) => log!("{name} is not there: {e:#}"),
            }
        }
        answered
    }

    pub(super) async fn greet_for_ever(self: Rc<Self>) {
        let mut joined = false;
        loop {
            if self.greet_all().await && !core::mem::replace(&mut joined, true) {
                log!("joined after {} ms", clock::nanos() / 1_000_000);
                self.failures.on_purpose();
            }
            if joined {
                self.tell_all().await;
            }
            self.executor.sleep(if joined { GREETINGS } else { FIRST }).await;
        }
    }

    /// A link to a node, by its name.
    ///
    /// # Errors
    /// When nobody knows it, or it is not there.
    pub(super) async fn dial(&self, name: &str) -> Result<Link> {
        let find = || self.peers.borrow().get(name).cloned();
        if find().is_none() {
            self.greet_all().await;
        }
        let peer = find().ok_or_else(|| anyhow!("no node named {name} is known to {}", self.identity.name))?;
        let link = Link::dial(&self.net, &self.executor, &peer.address, self.credentials()).await?;
        if link.peer() != Some(name) {
            bail!("at {} there is {} now, not {name}", peer.address, link.peer().unwrap_or("a stranger"));
        }
        Ok(link)
    }
}
