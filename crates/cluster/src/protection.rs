//! What users, agents and boards say to each other of tasks that have a standby.

use alloc::string::String;
use alloc::vec::Vec;
use anyhow::{Result, anyhow};
use serde::{Deserialize, Serialize};
use wayfare_transfer::standby::STANDBYS_MAX;

/// Whose state counts when a node that was cut off is back, and its task has gone on at the standby meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnReturn {
    /// A service: the side that has served its clients, which is the standby's unless they stayed with the other one.
    #[default]
    Standby,
    /// Pure computation: the side that has come further (thesis, definition 3.1).
    Furthest,
}

/// How to protect a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Protect {
    /// The task's name.
    pub name: String,
    /// The standbys' nodes, nearest first.
    pub standbys: Vec<String>,
    /// The policy that says when to sync, as users write it.
    pub policy: String,
    /// Progress that may be lost at most, nanoseconds, where the link can do it.
    pub max_loss: Option<u64>,
    /// Whose state counts in the end.
    #[serde(default)]
    pub on_return: OnReturn,
    /// The task stays at its standby after a takeover until somebody has it go back.
    #[serde(default)]
    pub stay: bool,
}

/// How a task is protected, as it and one of its standbys tell each other and write it down. Where it has been taken over, the
/// roles are exchanged: the node that was its primary becomes a standby.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// As it was ordered.
    #[serde(flatten)]
    pub order: Protect,
    /// The standby that these are for.
    pub standby: String,
    /// The node that the task goes back to.
    pub home: String,
    /// A person has had it taken over: it does not go back by itself.
    #[serde(default)]
    pub by_hand: bool,
    /// How often it has been taken over lately for want of the link: the longer it waits before it goes back.
    #[serde(default)]
    pub flaps: u32,
}

// Each of them has a rank of its own, and the home one when the task is not there.
const _: () = assert!(Terms::MOST <= STANDBYS_MAX as usize);

impl Terms {
    /// Takeovers that follow each other within so many seconds of the link's return are one flapping link.
    pub const CALM_SECONDS: u64 = 20;
    /// Waiting times double with each of them, at most so often: until the other side counts as gone, as each takeover that was
    /// for nothing costs a state to be sent whole; and until the task goes home.
    const DOUBLINGS: [u32; 2] = [3, 5];

    /// Most standbys of a task that may be named: each is a link, and a copy.
    pub const MOST: usize = 8;

    /// Who stands by for the task while it is at a node, nearest first. Where it is not at home, its home does.
    pub fn line<'a>(&'a self, at: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.order.standbys.iter().map(String::as_str);
        core::iter::once(&*self.home).chain(named).filter(move |node| *node != at)
    }

    /// Who of those that stand by while the task is at a node is to go on with it before this one.
    pub fn nearer<'a>(&'a self, at: &'a str, standby: &'a str) -> impl Iterator<Item = &'a str> {
        self.line(at).take_while(move |node| *node != standby)
    }

    /// Where its standby stands among the nodes of the task, nearest first.
    pub fn place(&self) -> usize {
        self.nearer("", &self.standby).count()
    }

    /// As they are for another of its standbys, of whose link nothing is known.
    #[must_use]
    pub fn of(&self, standby: &str) -> Terms {
        if self.standby == standby { self.clone() } else { Terms { standby: standby.into(), flaps: 0, ..self.clone() } }
    }

    /// By how much longer than usual the other side may be silent before it counts as gone.
    pub fn patience(&self) -> u32 {
        1 << self.flaps.saturating_sub(1).min(Self::DOUBLINGS[0])
    }

    /// By how much longer than usual the task waits before it goes home.
    pub fn hesitation(&self) -> u32 {
        1 << self.flaps.saturating_sub(1).min(Self::DOUBLINGS[1])
    }

    /// The link has broken and the other side has gone on; it had held for so many seconds.
    pub fn broken(mut self, held_for: u64) -> Terms {
        self.flaps = if held_for > Self::CALM_SECONDS { 1 } else { self.flaps.saturating_add(1) };
        self
    }

    /// As they travel.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what a peer sent.
    ///
    /// # Errors
    /// When they are none.
    pub fn decode(bytes: &[u8]) -> Result<Terms> {
        serde_json::from_slice(bytes).map_err(|e| anyhow!("terms of a standby that are none: {e}"))
    }

    /// As they are at the standby, `here`, that takes over from `primary`. `handed`: the primary's word, if it handed the task over, to stay
    /// or not; else the link, which had held for so many seconds, has broken.
    pub fn exchanged(mut self, here: &str, primary: &str, handed: Option<bool>, held_for: u64) -> Terms {
        self.standby = primary.into();
        self.by_hand = handed == Some(true) && here != self.home;
        if handed.is_some() { self } else { self.broken(held_for) }
    }
}

/// Which side of a pair a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The task runs there.
    Primary,
    /// It would go on there.
    Standby,
}

/// A task and its standby, as one of the two nodes sees them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pair {
    /// The task's name.
    pub name: String,
    /// What the node that answers is.
    pub role: Role,
    /// The other node.
    pub peer: String,
    /// The node that the task goes back to.
    pub home: String,
    /// Whose state counts after both went on.
    pub on_return: OnReturn,
    /// The link is up.
    pub connected: bool,
    /// Complete syncs; the last one's number.
    pub sync: u64,
    /// How old the standby's state is, nanoseconds; none before the first sync.
    pub age: Option<u64>,
    /// How long the policy waits between syncs at present, nanoseconds.
    pub interval: Option<u64>,
    /// Why it syncs now, or does not.
    pub reason: String,
    /// Bytes of the last sync, and of all.
    pub bytes: u64,
    /// Of all syncs.
    pub all_bytes: u64,
    /// How long the last sync took, nanoseconds.
    pub took: Option<u64>,
    /// How long the task stood still for it, nanoseconds.
    pub pause: Option<u64>,
    /// Progress that would be lost now, nanoseconds of the task's run time.
    pub loss: u64,
    /// How long ago something was heard of the other node, nanoseconds; none where there is no link.
    pub heard: Option<u64>,
    /// Bytes per second of the link, as far as the task's node knows.
    pub bandwidth: Option<u64>,
    /// How long it takes there, one way, nanoseconds.
    pub delay: Option<u64>,
    /// How long after the last sign of life the standby would run it, nanoseconds, as far as can be told.
    pub takeover: Option<u64>,
}

impl Pair {
    /// Before the first sync.
    pub fn new(terms: &Terms, role: Role, peer: &str) -> Pair {
        Pair {
            name: terms.order.name.clone(),
            role,
            peer: peer.into(),
            home: terms.home.clone(),
            on_return: terms.order.on_return,
            connected: true,
            sync: 0,
            age: None,
            interval: None,
            reason: String::new(),
            bytes: 0,
            all_bytes: 0,
            took: None,
            pause: None,
            loss: 0,
            heard: None,
            bandwidth: None,
            delay: None,
            takeover: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn terms() -> Terms {
        let order = Protect {
            name: "sim".into(),
            standbys: vec!["gateway".into(), "cloud".into()],
            policy: "auto".into(),
            max_loss: None,
            on_return: OnReturn::Standby,
            stay: false,
        };
        Terms { order, standby: "gateway".into(), home: "server".into(), by_hand: false, flaps: 0 }
    }

    #[test]
    fn roles_are_exchanged_and_home_stays() {
        let there = terms().exchanged("gateway", "server", None, 3600);
        assert_eq!((&*there.standby, &*there.home, there.by_hand, there.flaps), ("server", "server", false, 1));
        let back = there.clone().exchanged("server", "gateway", Some(false), 20);
        assert_eq!((&*back.standby, back.flaps), ("gateway", 1));
        // It flaps.
        let mut again = back.exchanged("gateway", "server", None, 10);
        assert_eq!((again.flaps, again.patience()), (2, 2));
        for _ in 0..20 {
            again = again.broken(1);
        }
        assert_eq!((again.patience(), again.hesitation(), again.broken(21).patience()), (8, 32, 1));
        // Who has it taken over by hand wants it there; nobody is kept from home.
        assert!(terms().exchanged("gateway", "server", Some(true), 1).by_hand);
        assert!(!there.exchanged("server", "gateway", Some(true), 1).by_hand);
    }

    #[test]
    fn those_that_stand_by_are_in_line() {
        let terms = terms();
        let line = |at| terms.line(at).collect::<Vec<_>>();
        assert_eq!(line("server"), ["gateway", "cloud"]);
        assert_eq!(line("gateway"), ["server", "cloud"]);
        assert_eq!(line("cloud"), ["server", "gateway"]);
        assert_eq!(terms.nearer("server", "gateway").count(), 0);
        assert_eq!(terms.nearer("server", "cloud").collect::<Vec<_>>(), ["gateway"]);
        assert_eq!(terms.nearer("gateway", "cloud").collect::<Vec<_>>(), ["server"]);
        let there = terms.clone().broken(1).broken(1);
        assert_eq!((there.of("gateway").flaps, there.of("cloud").flaps, &*there.of("cloud").standby), (2, 0, "cloud"));
    }

    #[test]
    fn terms_travel_and_others_are_refused() {
        assert_eq!(Terms::decode(&terms().encode()).unwrap(), terms());
        assert!(Terms::decode(b"{}").is_err() && Terms::decode(&[]).is_err());
    }
}
