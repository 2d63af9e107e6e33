//! The payload: a checksum, then the description of what to start, then the task's image, then the state that it goes on
//! from, if it does not begin.

use crate::Error;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use wayfare_cluster::identity::Identity;
use wayfare_cluster::peers::Peer;

const MAGIC: &[u8; 8] = b"WAYFNOD\x02";
/// Magic, digest, lengths of the description and the image.
const HEAD: usize = 8 + 32 + 8 + 8;

/// What the machine is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// A node of a cluster, to which tasks come.
    Node {
        /// Which.
        identity: Identity,
        /// The others, as far as they are known.
        peers: Vec<Peer>,
    },
    /// It runs one task, and ends with it.
    Task(Start),
}

/// What to start, by whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Under which key the image is signed. Whoever can write this can write the kernel.
    pub key: [u8; 32],
    /// The program's name, and its arguments; no matter for one that goes on from a snapshot, which has them.
    pub args: Vec<String>,
    /// Its environment, likewise.
    pub env: Vec<(String, String)>,
}

/// A payload as it lies in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload<'a> {
    /// What the machine is.
    pub role: Role,
    /// The task's image, for the kernel's target; of none for a node.
    pub image: &'a [u8],
    /// A snapshot to go on from; of none if the task begins.
    pub snapshot: &'a [u8],
}

impl<'a> Payload<'a> {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let start = postcard::to_allocvec(&self.role).unwrap_or_default();
        let mut bytes = Vec::with_capacity(HEAD + start.len() + self.image.len() + self.snapshot.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[0; 32]);
        for len in [start.len(), self.image.len()] {
            bytes.extend_from_slice(&(len as u64).to_le_bytes());
        }
        for part in [&start, self.image, self.snapshot] {
            bytes.extend_from_slice(part);
        }
        let digest = blake3::hash(&bytes[40..]);
        bytes[8..40].copy_from_slice(digest.as_bytes());
        bytes
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`Error::Version`], [`Error::Damaged`].
    pub fn decode(bytes: &'a [u8]) -> Result<Payload<'a>, Error> {
        let (head, body) = bytes.split_at_checked(HEAD).ok_or(Error::Damaged)?;
        if head[..7] != MAGIC[..7] {
            return Err(Error::Damaged);
        }
        if head[7] != MAGIC[7] {
            return Err(Error::Version);
        }
        if blake3::hash(&bytes[40..]).as_bytes() != &head[8..40] {
            return Err(Error::Damaged);
        }
        let len = |at: usize| {
            let bytes = head[at..at + 8].try_into().unwrap_or_default();
            usize::try_from(u64::from_le_bytes(bytes)).map_err(|_| Error::Damaged)
        };
        let (start, rest) = body.split_at_checked(len(40)?).ok_or(Error::Damaged)?;
        let (image, snapshot) = rest.split_at_checked(len(48)?).ok_or(Error::Damaged)?;
        let role = postcard::from_bytes(start).map_err(|_| Error::Damaged)?;
        Ok(Payload { role, image, snapshot })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn payload<'a>(image: &'a [u8], snapshot: &'a [u8]) -> Payload<'a> {
        let args = alloc::vec!["a".to_string(), "b c".to_string()];
        Payload { role: Role::Task(Start { key: [7; 32], args, env: Vec::new() }), image, snapshot }
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        for (image, snapshot) in [(&b""[..], &b""[..]), (b"image", b""), (b"", b"snapshot"), (b"image", b"snapshot")] {
            let bytes = payload(image, snapshot).encode();
            assert_eq!(Payload::decode(&bytes), Ok(payload(image, snapshot)));
        }
    }

    #[test]
    fn no_byte_can_be_changed_or_left_out() {
        let bytes = payload(b"image", b"snapshot").encode();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(Payload::decode(&changed).is_err(), "{at}");
            assert!(Payload::decode(&bytes[..at]).is_err(), "{at}");
        }
    }
}
