//! The streams as a part of a moving task's state.
//!
//! What the client has sent and the guest has not read stays behind, since the ingress keeps all that is not
//! acknowledged as consumed: a state grows by what the guest has written only. So for the moment until it has been sent
//! again a stream may be not readable that was so before the move, as with any wake-up without cause: a read that does
//! not wait says that there is nothing yet.
//!
//! ```text
//! version u16   how u8: 1 listening, 2 keeps in mind what is over, 4 has gone back
//! count u32, streams, identities ascending:
//!     identity u64   peer: length u8, UTF-8   flags u8   wire u8 (0 live, 1 resetting, 2 gone)
//!     consumed u64   base u64   unacknowledged: length u32, bytes
//! count u32, identities u64 of those not accepted yet, in the order of their arrival
//! if it keeps that in mind: count u32, identities u64 of those that are over
//! flags: 1 the end has been read, 2 shut down for reading, 4 finished writing, 8 the client has that too, 16 closed
//! ```

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::codec::{DecodeError, Reader, peer};
use crate::half::{Inbound, Outbound, joined};
use crate::mark::FORGOTTEN_MAX;
use crate::task::{Stream, TaskEnd, Wire};
use crate::{OFFSET_MAX, WINDOW};

const VERSION: u16 = 2;

const LISTENING: u8 = 1;
const KEEPS: u8 = 2;
const BEHIND: u8 = 4;

const ENDED: u8 = 1;
const READ_SHUT: u8 = 2;
const FIN: u8 = 4;
const FIN_ACKED: u8 = 8;
const CLOSED: u8 = 16;

/// Bytes of a stream without address and content.
const STREAM_MIN: usize = 31;

impl TaskEnd {
    /// The streams as bytes. The guest must stand still from here until it goes on with them, here or elsewhere.
    pub fn freeze(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(VERSION.to_le_bytes());
        let how = [(self.listening, LISTENING), (self.forgotten.is_some(), KEEPS), (self.behind, BEHIND)];
        out.push(how.iter().map(|(set, bit)| if *set { *bit } else { 0 }).sum());
        // Both counts are at most STREAMS_MAX.
        out.extend((self.streams.len() as u32).to_le_bytes());
        for (id, stream) in &self.streams {
            let Stream { peer, inbound, outbound, wire, .. } = stream;
            out.extend(id.to_le_bytes());
            out.push(peer.len() as u8);
            out.extend_from_slice(peer.as_bytes());
            let flags = [
                (inbound.is_ended(), ENDED),
                (stream.read_shut, READ_SHUT),
                (outbound.is_finished(), FIN),
                (outbound.is_fin_acked(), FIN_ACKED),
                (stream.closed, CLOSED),
            ];
            out.push(flags.iter().map(|(set, bit)| if *set { *bit } else { 0 }).sum());
            out.push(*wire as u8);
            out.extend(inbound.consumed().to_le_bytes());
            out.extend(outbound.base().to_le_bytes());
            let unacknowledged = joined(outbound.kept());
            out.extend((unacknowledged.len() as u32).to_le_bytes());
            out.extend(unacknowledged);
        }
        out.extend((self.queue.len() as u32).to_le_bytes());
        self.queue.values().for_each(|id| out.extend(id.to_le_bytes()));
        if let Some(forgotten) = &self.forgotten {
            out.extend((forgotten.len() as u32).to_le_bytes());
            forgotten.iter().for_each(|id| out.extend(id.to_le_bytes()));
        }
        out
    }

    /// As [`TaskEnd::thaw`], of a state that the task has gone on from since: a standby takes over. Before the channel is used,
    /// the ingress goes back too ([`IngressEnd::go_back`](crate::IngressEnd::go_back)).
    ///
    /// # Errors
    /// As [`TaskEnd::thaw`].
    pub fn thaw_behind(bytes: &[u8], most: usize) -> Result<Self, DecodeError> {
        let mut end = TaskEnd::thaw(bytes, most)?;
        end.behind = true;
        end.streams.values_mut().for_each(|stream| stream.outbound.is_behind());
        Ok(end)
    }

    /// The streams of a task that has come here. There is no channel yet.
    ///
    /// # Errors
    /// Refuses what [`TaskEnd::freeze`] does not write, and more than `most` streams; allocates in proportion to `bytes`.
    pub fn thaw(bytes: &[u8], most: usize) -> Result<Self, DecodeError> {
        let mut r = Reader(bytes);
        match r.u16()? {
            VERSION => {}
            version => return Err(DecodeError::Version(version)),
        }
        let mut end = TaskEnd::new(most);
        let how = r.u8()?;
        if how > LISTENING | KEEPS | BEHIND {
            return Err(DecodeError::Invalid("how the task has its streams"));
        }
        end.listening = how & LISTENING != 0;
        end.behind = how & BEHIND != 0;
        let count = r.u32()? as usize;
        if count > end.most {
            return Err(DecodeError::Streams(count));
        }
        if count > r.0.len() / STREAM_MIN {
            return Err(DecodeError::Truncated);
        }
        let mut streams = BTreeMap::new();
        for _ in 0..count {
            let id = r.u64()?;
            if streams.last_key_value().is_some_and(|(last, _)| *last >= id) {
                return Err(DecodeError::Invalid("the order of streams"));
            }
            let mut stream = thaw_stream(&mut r)?;
            if end.behind {
                stream.outbound.is_behind();
            }
            streams.insert(id, stream);
        }
        for _ in 0..r.u32()? {
            let id = r.u64()?;
            let stream: &mut Stream = streams.get_mut(&id).ok_or(DecodeError::Invalid("a connection in the queue"))?;
            // Nobody has done anything to it.
            let (inbound, outbound) = (&stream.inbound, &stream.outbound);
            let touched = stream.read_shut || inbound.is_ended() || outbound.is_finished();
            let moved = inbound.consumed() > 0 || outbound.base() > 0 || outbound.len() > 0;
            if stream.waiting.is_some() || touched || moved || !end.listening {
                return Err(DecodeError::Invalid("a connection in the queue"));
            }
            stream.waiting = Some(end.arrivals);
            end.queue.insert(end.arrivals, id);
            end.arrivals += 1;
        }
        if how & KEEPS != 0 {
            let count = r.u32()? as usize;
            if count > r.0.len() / 8 || count > FORGOTTEN_MAX {
                return Err(DecodeError::Truncated);
            }
            let forgotten: BTreeSet<u64> = (0..count).map(|_| r.u64()).collect::<Result<_, _>>()?;
            if forgotten.len() < count {
                return Err(DecodeError::Invalid("streams that are over"));
            }
            end.forgotten = Some(forgotten);
        }
        r.finish()?;
        end.streams = streams;
        Ok(end)
    }
}

fn thaw_stream(r: &mut Reader<'_>) -> Result<Stream, DecodeError> {
    let len = r.u8()?;
    let peer = peer(r.take(len.into())?)?.into();
    let flags = r.u8()?;
    let wire = match r.u8()? {
        0 => Wire::Live,
        1 => Wire::Resetting,
        2 => Wire::Gone,
        _ => return Err(DecodeError::Invalid("what the ingress has of a stream")),
    };
    let (consumed, base, len) = (r.offset()?, r.offset()?, r.u32()? as usize);
    if len > WINDOW || base + len as u64 > OFFSET_MAX {
        return Err(DecodeError::Invalid("the length of what is unacknowledged"));
    }
    let bytes = r.take(len)?;
    let is = |bit| flags & bit != 0;
    // One that is broken has nothing to send; one that is closed has no more to say; one that both have forgotten is none.
    let consistent = flags < 32
        && (!is(FIN_ACKED) || (is(FIN) && bytes.is_empty()))
        && (wire == Wire::Live || is(FIN_ACKED))
        && (!is(CLOSED) || (is(FIN) && wire != Wire::Gone));
    if !consistent {
        return Err(DecodeError::Invalid("the state of a stream"));
    }
    Ok(Stream {
        peer,
        waiting: None,
        read_shut: is(READ_SHUT),
        closed: is(CLOSED),
        wire,
        inbound: Inbound::thawed(consumed, is(ENDED)),
        outbound: Outbound::thawed(base, bytes, is(FIN), is(FIN_ACKED)),
        end_sent: false,
    })
}
