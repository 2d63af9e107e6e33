//! What the two ends say to each other.
//!
//! ```text
//! kind u8   stream u64   then
//!     1, open:  the client's address, UTF-8, to the end
//!     2, data:  offset u64, bytes to the end, at least one
//!     3, ack:   offset u64
//!     4, fin:   offset u64
//!     5, close
//!     6, reset
//! ```

use alloc::string::String;
use alloc::vec::Vec;

use crate::codec::{DecodeError, Reader, peer};
use crate::{OFFSET_MAX, SEGMENT_MAX};

/// One message of a channel. Channels keep their boundaries: an encoded segment does not say how long it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Segment {
    /// To the task: a client is there. Repeated on every channel; known already, it says nothing new.
    Open {
        /// The stream.
        stream: u64,
        /// The client's address, for the task to see; at most [`PEER_MAX`](crate::PEER_MAX) bytes.
        peer: String,
    },
    /// Bytes of a direction.
    Data {
        /// The stream.
        stream: u64,
        /// Where the first of them is.
        offset: u64,
        /// 1 to [`SEGMENT_MAX`] bytes.
        bytes: Vec<u8>,
    },
    /// Everything below `offset` has been consumed and need not be kept. The end of a direction counts as one byte more.
    Ack {
        /// The stream.
        stream: u64,
        /// How far.
        offset: u64,
    },
    /// The end of a direction.
    Fin {
        /// The stream.
        stream: u64,
        /// The number of bytes there were.
        offset: u64,
    },
    /// To the ingress, after the fin: the guest has closed the stream; it reads no more, and once the client has all
    /// bytes it is over. To the task, as the answer to this and to a reset: it is over, and forgotten.
    Close {
        /// The stream.
        stream: u64,
    },
    /// The stream is broken, or unknown here.
    Reset {
        /// The stream.
        stream: u64,
    },
}

impl Segment {
    /// The stream it is about.
    pub fn stream(&self) -> u64 {
        match *self {
            Self::Open { stream, .. }
            | Self::Data { stream, .. }
            | Self::Ack { stream, .. }
            | Self::Fin { stream, .. }
            | Self::Close { stream }
            | Self::Reset { stream } => stream,
        }
    }

    /// The segment as bytes, at most [`Segment::ENCODED_MAX`].
    pub fn encode(&self) -> Vec<u8> {
        let (kind, offset, rest): (u8, Option<u64>, &[u8]) = match self {
            Self::Open { peer, .. } => (1, None, peer.as_bytes()),
            Self::Data { offset, bytes, .. } => (2, Some(*offset), bytes),
            Self::Ack { offset, .. } => (3, Some(*offset), &[]),
            Self::Fin { offset, .. } => (4, Some(*offset), &[]),
            Self::Close { .. } => (5, None, &[]),
            Self::Reset { .. } => (6, None, &[]),
        };
        let mut out = Vec::with_capacity(Self::HEADER + rest.len());
        out.push(kind);
        out.extend(self.stream().to_le_bytes());
        out.extend(offset.into_iter().flat_map(u64::to_le_bytes));
        out.extend_from_slice(rest);
        out
    }

    const HEADER: usize = 17;

    /// Length of the longest encoded segment; a channel refuses more before it reads it.
    pub const ENCODED_MAX: usize = Self::HEADER + SEGMENT_MAX;

    /// Reads one segment back.
    ///
    /// # Errors
    /// Refuses whatever [`Segment::encode`] does not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader(bytes);
        let (kind, stream) = (r.u8()?, r.u64()?);
        let segment = match kind {
            1 => Self::Open { stream, peer: peer(r.rest())?.into() },
            2 => {
                let (offset, bytes) = (r.offset()?, r.rest());
                if bytes.is_empty() || bytes.len() > SEGMENT_MAX {
                    return Err(DecodeError::Invalid("the number of bytes in a segment"));
                }
                if offset + bytes.len() as u64 > OFFSET_MAX {
                    return Err(DecodeError::Invalid("an offset"));
                }
                Self::Data { stream, offset, bytes: bytes.to_vec() }
            }
            3 => Self::Ack { stream, offset: r.offset()? },
            4 => Self::Fin { stream, offset: r.offset()? },
            5 => Self::Close { stream },
            6 => Self::Reset { stream },
            _ => return Err(DecodeError::Invalid("the kind of a segment")),
        };
        r.finish()?;
        Ok(segment)
    }
}
