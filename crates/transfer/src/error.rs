//! What can be wrong with a peer.

use alloc::string::String;

/// Why a channel is closed. Nothing of what came after is looked at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The other side does not speak this protocol, or somebody changed what it said.
    #[error("the handshake failed: the other side is no Wayfare node, or the link changes bytes")]
    Handshake,
    /// A record was damaged, replayed, reordered or forged.
    #[error("a record is damaged or forged")]
    Record,
    /// No version that both sides speak.
    #[error("the other side speaks versions {0} to {1} of the protocol, this one {2} to {3}: update the older one")]
    Version(u16, u16, u16, u16),
    /// A peer whose certificate is not this cluster's, has expired or was revoked.
    #[error("the other side is not a member of the cluster: {0}")]
    Stranger(String),
    /// A frame that is longer than any of its kind may be.
    #[error("a frame of {len} bytes, where at most {cap} are allowed")]
    Oversized {
        /// Its length.
        len: u64,
        /// The longest there may be.
        cap: u64,
    },
    /// Bytes that are no message.
    #[error("a message of kind {0} cannot be read")]
    Malformed(u8),
}

/// A peer that does not keep to the protocol. The channel to it is to be closed; the task is safe all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other side broke the protocol: {0}")]
pub struct Violation(pub &'static str);
