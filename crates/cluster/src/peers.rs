//! The other nodes, as far as this one has heard of them: what nodes tell each other, and whom they tell.

use crate::restart::Restart;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use wayfare_transfer::TaskId;
use wayfare_transfer::identity::{Certificate, Revocations};

/// A node that was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// What it runs on: an instruction set, with [`BARE`] after it where there is no operating system.
    pub isa: String,
    /// When it last spoke to somebody, seconds since 1970.
    pub seen: u64,
}

/// After the instruction set of a node without an operating system.
pub const BARE: &str = "-none";

impl Peer {
    /// Its instruction set.
    pub fn instruction_set(&self) -> &str {
        self.isa.strip_suffix(BARE).unwrap_or(&self.isa)
    }

    /// Whether it has no operating system: it runs tasks, and compiles none.
    pub fn is_bare(&self) -> bool {
        self.isa.ends_with(BARE)
    }
}

/// Most nodes in one message.
const PEERS_MAX: usize = 512;

/// What agents say to each other besides moves ([`wayfare_transfer::Kind::Node`]).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum NodeMessage {
    /// I am here, and know of these. The answer is the same.
    Hello {
        /// The sender.
        me: Peer,
        /// Others.
        peers: Vec<Peer>,
        /// Certificates that hold no longer.
        revoked: Revocations,
        /// The sender's clock, nanoseconds since 1970; 0 if it has none.
        clock: u64,
    },
    /// I was invited.
    Join {
        /// Which invitation.
        invitation: [u8; 8],
        /// Its secret.
        secret: [u8; 16],
        /// The name I would like.
        name: String,
    },
    /// Welcome.
    Joined {
        /// For the key that was shown in the handshake.
        certificate: Certificate,
        /// The cluster's name.
        cluster: String,
        /// The others.
        peers: Vec<Peer>,
    },
    /// A member asks for a certificate for a new key of its own.
    Renew {
        /// The new public key.
        key: [u8; 32],
    },
    /// The task is with me, at this epoch: give me what its clients say.
    Attach {
        /// Which.
        task: TaskId,
        /// Its epoch.
        epoch: u64,
        /// It goes on from an older state, with these marks of its streams, by port; none if it does not.
        back: Vec<Vec<u8>>,
    },
    /// The task, which is with me at this epoch, has a standby: keep what it may have to hear once more, but for what is
    /// before these marks, by port. The answer is `Noted`, or `Refused`.
    Keep {
        /// Which.
        task: TaskId,
        /// Its epoch.
        epoch: u64,
        /// Of a state that is safe; none at first.
        marks: Vec<Vec<u8>>,
    },
    /// It has none any more. The answer is `Noted`, or `Refused`.
    KeepNothing {
        /// Which.
        task: TaskId,
        /// Its epoch.
        epoch: u64,
    },
    /// Here it comes, as segments.
    Attached,
    /// The task has ended, and has said all.
    Ended,
    /// Compile this program for me: I cannot. The answer is `Image`, or `Unknown` if the program is to be sent first, as
    /// parts ([`wayfare_transfer::message::Long::Module`]).
    Compile {
        /// BLAKE3 of the module.
        module: [u8; 32],
        /// Whether NaNs are canonical.
        canonical_nan: bool,
        /// For what, by the short name of the target.
        target: String,
        /// With this key the image is to be signed; it is used for nothing else.
        key: [u8; 32],
    },
    /// The program is not here.
    Unknown,
    /// The image follows, as parts.
    Image,
    /// A user's wish, as another node has got it ([`crate::control::Request`]); the answers are `Reply`, and `Bytes` of a
    /// log, until the link closes.
    Request(Vec<u8>),
    /// An answer ([`crate::control::Reply`]).
    Reply(Vec<u8>),
    /// Some of a log.
    Bytes(Vec<u8>),
    /// No.
    Refused(String),
    /// I have failed, and was reset. The answer is `Noted`.
    Restarted {
        /// Seconds ago.
        ago: u64,
        /// Why.
        why: Restart,
    },
    /// That is kept for people.
    Noted,
    /// The module is here: what it is to go on from is to be sent, as parts, first the snapshot
    /// ([`wayfare_transfer::message::Long::State`]) and then its log ([`wayfare_transfer::message::Long::Extra`]).
    GoOn,
}

impl NodeMessage {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// Reads one.
    ///
    /// # Errors
    /// When it is none, or names more nodes, or says more, than a message may.
    pub fn decode(bytes: &[u8]) -> anyhow::Result<Self> {
        let message: Self = postcard::from_bytes(bytes).map_err(|_| anyhow::anyhow!("a message that is none"))?;
        if let Self::Hello { peers, .. } | Self::Joined { peers, .. } = &message {
            let long = |p: &Peer| p.name.len() > 63 || p.address.len() > 255 || p.isa.len() > 31;
            anyhow::ensure!(peers.len() <= PEERS_MAX && !peers.iter().any(long), "more nodes than a message may name");
        }
        if let Self::Restarted { why, .. } = &message {
            why.check()?;
        }
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restart::Part;

    fn read(text: String) -> anyhow::Result<NodeMessage> {
        let why = Restart { part: Part::Kernel, text, times: 1 };
        NodeMessage::decode(&NodeMessage::Restarted { ago: 7, why }.encode())
    }

    #[test]
    fn a_reason_for_a_restart_is_one_line() {
        assert!(matches!(read("it failed".into()), Ok(NodeMessage::Restarted { ago: 7, .. })));
        assert!(read("x".repeat(1024)).is_ok());
        for text in ["x".repeat(1025), "a\nb".into(), "\x1b[2J".into(), "\u{9b}2J".into()] {
            assert!(read(text).is_err());
        }
    }
}
