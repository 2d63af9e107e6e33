//! What a kept state of a task knows of its streams: where a standby that goes on from it takes them up.
//!
//! Clients' bytes are gone from the ingress once the task has consumed them. One that may have to go on from an older state
//! needs them again: an ingress that keeps them ([`IngressEnd::keep`](crate::IngressEnd::keep)) lets go of those that
//! come before the mark of a state that is safe ([`IngressEnd::release`](crate::IngressEnd::release)), and hands out the
//! others once more when the task goes back to it ([`IngressEnd::go_back`](crate::IngressEnd::go_back)).
//!
//! ```text
//! count u32, streams, identities ascending:
//!     identity u64   consumed u64 (the end counts as one more)   unacknowledged from u64
//! count u32, identities u64 of streams that the task has forgotten
//! ```

use crate::codec::{DecodeError, Reader};
use crate::{STREAMS_MAX, TaskEnd};
use alloc::vec::Vec;

/// Of one stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct At {
    pub id: u64,
    /// What the guest has read of what the client has sent; its end counts as one more.
    pub consumed: u64,
    /// Where what the client has perhaps not got begins.
    pub base: u64,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mark {
    pub(crate) streams: Vec<At>,
    pub(crate) forgotten: Vec<u64>,
}

/// Most streams of which it is remembered that they were forgotten. An ingress that keeps as many takes no more clients.
pub(crate) const FORGOTTEN_MAX: usize = STREAMS_MAX;

const AT: usize = 24;

impl Mark {
    /// Of the state that [`TaskEnd::freeze`] has written.
    ///
    /// # Errors
    /// As [`TaskEnd::thaw`].
    pub fn of(frozen: &[u8]) -> Result<Mark, DecodeError> {
        Ok(TaskEnd::thaw(frozen, STREAMS_MAX)?.mark())
    }

    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + self.streams.len() * AT + self.forgotten.len() * 8);
        out.extend((self.streams.len() as u32).to_le_bytes());
        for At { id, consumed, base } in &self.streams {
            [id, consumed, base].into_iter().for_each(|n| out.extend(n.to_le_bytes()));
        }
        out.extend((self.forgotten.len() as u32).to_le_bytes());
        self.forgotten.iter().for_each(|id| out.extend(id.to_le_bytes()));
        out
    }

    /// Reads one.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(bytes: &[u8]) -> Result<Mark, DecodeError> {
        let mut r = Reader(bytes);
        let mut mark = Mark::default();
        let count = r.u32()? as usize;
        if count > r.0.len() / AT {
            return Err(DecodeError::Truncated);
        }
        for _ in 0..count {
            let at = At { id: r.u64()?, consumed: r.offset()?, base: r.offset()? };
            if mark.streams.last().is_some_and(|last| last.id >= at.id) {
                return Err(DecodeError::Invalid("the order of streams"));
            }
            mark.streams.push(at);
        }
        let count = r.u32()? as usize;
        if count > r.0.len() / 8 {
            return Err(DecodeError::Truncated);
        }
        for _ in 0..count {
            mark.forgotten.push(r.u64()?);
        }
        r.finish()?;
        Ok(mark)
    }
}
