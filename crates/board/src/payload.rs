//! The payload: a checksum, then the description of what to start, then the task's image.

use crate::Error;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 8] = b"WAYFNOD\x01";
/// Magic, digest, length of the description.
const HEAD: usize = 8 + 32 + 4;

/// What to start, by whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Under which key the image is signed. Whoever can write this can write the kernel.
    pub key: [u8; 32],
    /// The program's name, and its arguments.
    pub args: Vec<String>,
    /// Its environment.
    pub env: Vec<(String, String)>,
}

/// A payload as it lies in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload<'a> {
    /// What to start.
    pub start: Start,
    /// The task's image, for the kernel's target.
    pub image: &'a [u8],
}

impl<'a> Payload<'a> {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let start = postcard::to_allocvec(&self.start).unwrap_or_default();
        let mut bytes = Vec::with_capacity(HEAD + start.len() + self.image.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[0; 32]);
        bytes.extend_from_slice(&(start.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&start);
        bytes.extend_from_slice(self.image);
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
        let len = u32::from_le_bytes([head[40], head[41], head[42], head[43]]) as usize;
        let (start, image) = body.split_at_checked(len).ok_or(Error::Damaged)?;
        Ok(Payload { start: postcard::from_bytes(start).map_err(|_| Error::Damaged)?, image })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn payload(image: &[u8]) -> Payload<'_> {
        let args = alloc::vec!["a".to_string(), "b c".to_string()];
        Payload { start: Start { key: [7; 32], args, env: Vec::new() }, image }
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        for image in [&b""[..], b"image"] {
            let bytes = payload(image).encode();
            assert_eq!(Payload::decode(&bytes), Ok(payload(image)));
        }
    }

    #[test]
    fn no_byte_can_be_changed_or_left_out() {
        let bytes = payload(b"image").encode();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(Payload::decode(&changed).is_err(), "{at}");
            assert!(Payload::decode(&bytes[..at]).is_err(), "{at}");
        }
    }
}
