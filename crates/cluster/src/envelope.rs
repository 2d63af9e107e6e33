//! A task's state as it travels.

use alloc::vec::Vec;
use anyhow::{Result, anyhow};
use serde::{Deserialize, Serialize};

/// What travels in the moment in which a task stands still.
#[derive(Serialize, Deserialize)]
pub struct Envelope {
    /// A snapshot without pages.
    pub snapshot: Vec<u8>,
    /// What the task has logged since the move began.
    pub log: Vec<u8>,
    /// Its connections, by port.
    pub sockets: Vec<Vec<u8>>,
}

impl Envelope {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// Reads one, from a peer.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        postcard::from_bytes(bytes).map_err(|_| anyhow!("a state that is none"))
    }
}
