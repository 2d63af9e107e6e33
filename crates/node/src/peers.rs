//! The other nodes, as far as this one has heard of them: what nodes tell each other, and whom they tell.

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
    /// What it runs on.
    pub isa: String,
    /// When it last spoke to somebody, seconds since 1970.
    pub seen: u64,
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
    },
    /// Here it comes, as segments.
    Attached,
    /// The task has ended, and has said all.
    Ended,
    /// No.
    Refused(String),
}

impl NodeMessage {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// Reads one.
    ///
    /// # Errors
    /// When it is none, or names more nodes than a message may.
    pub fn decode(bytes: &[u8]) -> anyhow::Result<Self> {
        let message: Self = postcard::from_bytes(bytes).map_err(|_| anyhow::anyhow!("a message that is none"))?;
        if let Self::Hello { peers, .. } | Self::Joined { peers, .. } = &message {
            let long = |p: &Peer| p.name.len() > 63 || p.address.len() > 255 || p.isa.len() > 31;
            anyhow::ensure!(peers.len() <= PEERS_MAX && !peers.iter().any(long), "more nodes than a message may name");
        }
        Ok(message)
    }
}
