//! The task's side: what the guest accepts, reads and writes, and what of it the ingress does not know yet.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use crate::half::{Inbound, Outbound, Violation};
use crate::mark::{At, FORGOTTEN_MAX, Mark};
use crate::turns::{Answer, Turns};
use crate::{Overrun, PEER_MAX, STREAMS_MAX, Segment, StreamError};

type Result<T> = core::result::Result<T, StreamError>;

/// What the ingress has of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wire {
    /// Its side of it.
    Live,
    /// Its side, broken here; it is told so until it says that it knows. Forgetting the stream before that would make a
    /// new client of it when the ingress speaks of it again.
    Resetting,
    /// Nothing any more: it is not spoken of again.
    Gone,
}

#[derive(Debug)]
pub(crate) struct Stream {
    pub peer: String,
    /// Its place in the queue, until the guest accepts it.
    pub waiting: Option<u64>,
    /// The guest has shut it down for reading: it reads what is there, and then the end. The ingress is not told; as
    /// on Linux, what is not read fills the window.
    pub read_shut: bool,
    /// The guest has closed it: what is left is between the ends.
    pub closed: bool,
    pub wire: Wire,
    pub inbound: Inbound,
    pub outbound: Outbound,
    /// Whether this channel has carried the close, or the reset.
    pub end_sent: bool,
}

impl Stream {
    fn next(&mut self, id: u64) -> Option<Segment> {
        match self.wire {
            Wire::Gone => None,
            Wire::Resetting if self.end_sent => None,
            Wire::Resetting => {
                self.end_sent = true;
                Some(Segment::Reset { stream: id })
            }
            Wire::Live => {
                let next = self.inbound.next(id).or_else(|| self.outbound.next(id));
                // A closed stream is finished, so nothing left to say means that the fin has been said.
                if next.is_none() && self.closed && !self.end_sent {
                    self.end_sent = true;
                    return Some(Segment::Close { stream: id });
                }
                next
            }
        }
    }
}

/// All streams of one task at the node where it is. Part of the task's state: see [`TaskEnd::freeze`].
#[derive(Debug)]
pub struct TaskEnd {
    pub(crate) streams: BTreeMap<u64, Stream>,
    /// New connections in the order of their arrival.
    pub(crate) queue: BTreeMap<u64, u64>,
    pub(crate) arrivals: u64,
    pub(crate) listening: bool,
    pub(crate) most: usize,
    /// Streams that are known neither here nor to the ingress any more, where that is kept in mind.
    pub(crate) forgotten: Option<BTreeSet<u64>>,
    /// It goes on from an older state.
    pub(crate) behind: bool,
    turns: Turns,
}

impl TaskEnd {
    /// No streams yet, and no channel. At most `most` at a time, and never more than [`STREAMS_MAX`]: a client beyond
    /// that is reset.
    pub fn new(most: usize) -> Self {
        Self {
            streams: BTreeMap::new(),
            queue: BTreeMap::new(),
            arrivals: 0,
            listening: true,
            most: most.min(STREAMS_MAX),
            forgotten: None,
            behind: false,
            turns: Turns::default(),
        }
    }

    /// From now on it is kept in mind which streams are over, for [`TaskEnd::mark`]: the task gets a standby.
    pub fn keep(&mut self) {
        self.forgotten.get_or_insert_default();
    }

    /// It has no standby any more.
    pub fn keep_nothing(&mut self) {
        self.forgotten = None;
    }

    /// What a state that is written now knows of the streams.
    pub fn mark(&self) -> Mark {
        let at = |(&id, stream): (&u64, &Stream)| At {
            id,
            consumed: stream.inbound.consumed() + u64::from(stream.inbound.is_ended()),
            base: stream.outbound.base(),
        };
        let (live, gone): (Vec<_>, Vec<_>) = self.streams.iter().partition(|(_, stream)| stream.wire != Wire::Gone);
        let forgotten = self.forgotten.iter().flatten().copied();
        Mark {
            streams: live.into_iter().map(at).collect(),
            // Of those the ingress has nothing to say any more.
            forgotten: gone.into_iter().map(|(id, _)| *id).chain(forgotten).collect(),
        }
    }

    /// The ingress has let go of all that comes before a mark.
    pub fn released(&mut self, mark: &Mark) {
        if let Some(forgotten) = &mut self.forgotten {
            mark.forgotten.iter().for_each(|id| _ = forgotten.remove(id));
        }
    }

    fn forget(&mut self, id: u64) {
        self.streams.remove(&id);
        if let Some(forgotten) = self.forgotten.as_mut().filter(|forgotten| forgotten.len() < FORGOTTEN_MAX) {
            forgotten.insert(id);
        }
    }

    // For the guest.

    /// The next new connection.
    pub fn accept(&mut self) -> Option<u64> {
        let (_, id) = self.queue.pop_first()?;
        self.streams.get_mut(&id)?.waiting = None;
        Some(id)
    }

    /// Whether [`TaskEnd::accept`] gives one.
    pub fn can_accept(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The client's address, as the ingress has told it.
    pub fn peer(&self, stream: u64) -> Option<&str> {
        self.streams.get(&stream).map(|stream| stream.peer.as_str())
    }

    /// Whether the guest has this stream: accepted and not closed. What a task that has come here claims to have is to
    /// be looked up before it runs.
    pub fn holds(&self, stream: u64) -> bool {
        self.streams.get(&stream).is_some_and(|stream| stream.waiting.is_none() && !stream.closed)
    }

    fn of_guest(&mut self, stream: u64) -> Result<&mut Stream> {
        let found = self.streams.get_mut(&stream).filter(|stream| stream.waiting.is_none() && !stream.closed);
        found.ok_or(StreamError::Unknown)
    }

    /// Takes bytes that the client has sent, or with `peek` looks at them. `Ok(0)` is the end, or an empty `buf`. What
    /// came before a reset can still be read, as long as the task does not move.
    ///
    /// # Errors
    /// [`StreamError::WouldBlock`], [`StreamError::Reset`], [`StreamError::Unknown`].
    pub fn recv(&mut self, stream: u64, buf: &mut [u8], peek: bool) -> Result<usize> {
        let found = self.of_guest(stream)?;
        if buf.is_empty() {
            return Ok(0);
        }
        match found.inbound.read(buf, peek) {
            Some(len) => {
                self.turns.add(stream);
                Ok(len)
            }
            None if found.read_shut => Ok(0),
            None if found.wire != Wire::Live => Err(StreamError::Reset),
            None => Err(StreamError::WouldBlock),
        }
    }

    /// Takes as many bytes for the client as there is room for.
    ///
    /// # Errors
    /// [`StreamError::WouldBlock`] if that is none, [`StreamError::Closed`] after a shutdown, [`StreamError::Reset`],
    /// [`StreamError::Unknown`].
    pub fn send(&mut self, stream: u64, bytes: &[u8]) -> Result<usize> {
        let found = self.of_guest(stream)?;
        match found.wire {
            Wire::Live if found.outbound.is_finished() => return Err(StreamError::Closed),
            Wire::Live => {}
            Wire::Resetting | Wire::Gone => return Err(StreamError::Reset),
        }
        match found.outbound.push(bytes) {
            0 if !bytes.is_empty() => Err(StreamError::WouldBlock),
            len => {
                self.turns.add(stream);
                Ok(len)
            }
        }
    }

    /// Ends one or both directions; what has been sent before is delivered.
    ///
    /// # Errors
    /// [`StreamError::Reset`], [`StreamError::Unknown`].
    pub fn shutdown(&mut self, stream: u64, read: bool, write: bool) -> Result<()> {
        let found = self.of_guest(stream)?;
        if found.wire != Wire::Live {
            return Err(StreamError::Reset);
        }
        found.read_shut |= read;
        if write {
            found.outbound.finish();
            self.turns.add(stream);
        }
        Ok(())
    }

    /// The guest lets go of the stream. What it has sent is delivered, and then the client's connection ends cleanly;
    /// what it has not read is dropped.
    pub fn close(&mut self, stream: u64) {
        let Ok(found) = self.of_guest(stream) else {
            return;
        };
        found.closed = true;
        found.inbound.drop_unread();
        found.outbound.finish();
        if found.wire == Wire::Gone {
            self.forget(stream);
        } else {
            self.turns.add(stream);
        }
    }

    /// Whether [`TaskEnd::recv`] would answer something else than [`StreamError::WouldBlock`].
    pub fn is_readable(&self, stream: u64) -> bool {
        self.streams.get(&stream).is_none_or(|s| s.inbound.is_ready() || s.read_shut || s.wire != Wire::Live)
    }

    /// Whether [`TaskEnd::send`] would answer something else than [`StreamError::WouldBlock`].
    pub fn is_writable(&self, stream: u64) -> bool {
        let ready = |s: &Stream| s.outbound.room() > 0 || s.outbound.is_finished() || s.wire != Wire::Live;
        self.streams.get(&stream).is_none_or(ready)
    }

    /// The guest has closed its listener: who waits to be accepted is reset, and so is who comes after.
    pub fn stop_listening(&mut self) {
        self.listening = false;
        let waiting: Vec<u64> = self.queue.values().copied().collect();
        waiting.into_iter().for_each(|stream| self.abort(stream));
    }

    /// The task has ended: closes all that the guest has left open. Go on carrying segments until
    /// [`TaskEnd::is_empty`], or clients lose the last bytes.
    pub fn close_all(&mut self) {
        self.stop_listening();
        let open: Vec<u64> = self.streams.keys().copied().collect();
        open.into_iter().for_each(|stream| self.close(stream));
    }

    /// The task has been killed: clients are reset. Go on carrying segments until [`TaskEnd::is_empty`].
    pub fn reset_all(&mut self) {
        self.stop_listening();
        let all: Vec<u64> = self.streams.keys().copied().collect();
        for stream in all {
            self.abort(stream);
            self.close(stream);
        }
    }

    // For the channel.

    /// Takes a segment of the ingress. The guest may be able to go on after it: wake it.
    ///
    /// # Errors
    /// If the other side does not take the answers: the channel is of no more use.
    pub fn handle(&mut self, segment: Segment) -> core::result::Result<(), Overrun> {
        let id = segment.stream();
        match self.streams.get_mut(&id) {
            None => self.handle_unknown(segment),
            // While the guest has it open, a close is as bad as a reset.
            Some(_) if matches!(segment, Segment::Close { .. } | Segment::Reset { .. }) => self.gone(id),
            Some(stream) => {
                let live = stream.wire == Wire::Live;
                let handled = match segment {
                    // Known already; but one that the ingress had forgotten must not come back.
                    Segment::Open { .. } if stream.wire == Wire::Gone => {
                        self.turns.answer(id, Answer::Reset);
                        Ok(())
                    }
                    Segment::Ack { offset, .. } if live => stream.outbound.acked(offset),
                    Segment::Data { offset, bytes, .. } if live && !stream.closed => {
                        stream.inbound.data(offset, &bytes)
                    }
                    Segment::Fin { offset, .. } if live && !stream.closed => stream.inbound.fin(offset),
                    _ => Ok(()),
                };
                if handled == Err(Violation) {
                    self.abort(id);
                }
            }
        }
        self.turns.check()
    }

    fn handle_unknown(&mut self, segment: Segment) {
        match segment {
            Segment::Open { stream, peer }
                if self.listening && self.streams.len() < self.most && peer.len() <= PEER_MAX =>
            {
                self.turns.forget_answer(stream);
                let mut outbound = Outbound::default();
                if self.behind {
                    outbound.is_behind();
                }
                let new = Stream {
                    peer,
                    waiting: Some(self.arrivals),
                    read_shut: false,
                    closed: false,
                    wire: Wire::Live,
                    inbound: Inbound::default(),
                    outbound,
                    end_sent: false,
                };
                self.queue.insert(self.arrivals, stream);
                self.arrivals += 1;
                self.streams.insert(stream, new);
            }
            // It has never been here, or is over here too.
            Segment::Close { stream } | Segment::Reset { stream } => self.forget(stream),
            segment => self.turns.answer(segment.stream(), Answer::Reset),
        }
    }

    /// The ingress has forgotten the stream.
    fn gone(&mut self, id: u64) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.wire = Wire::Gone;
        stream.outbound.abandon();
        self.turns.remove(id);
        // A client that has gone before it was accepted is nobody the guest has to hear of.
        if let Some(place) = stream.waiting {
            self.queue.remove(&place);
            self.forget(id);
        } else if stream.closed {
            self.forget(id);
        }
    }

    /// Breaks the stream on this side.
    fn abort(&mut self, id: u64) {
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.wire == Wire::Live) else {
            return;
        };
        (stream.wire, stream.end_sent) = (Wire::Resetting, false);
        stream.outbound.abandon();
        if let Some(place) = stream.waiting.take() {
            self.queue.remove(&place);
            stream.closed = true;
        }
        self.turns.add(id);
    }

    /// The next segment for the ingress; `None` if there is nothing to say now, or no channel.
    pub fn poll_transmit(&mut self) -> Option<Segment> {
        if let Some(answer) = self.turns.next_answer() {
            return Some(answer);
        }
        while let Some(id) = self.turns.next() {
            if let Some(segment) = self.streams.get_mut(&id).and_then(|stream| stream.next(id)) {
                self.turns.add(id);
                return Some(segment);
            }
        }
        None
    }

    /// There is a fresh channel to the ingress, with nothing in it: all that is not acknowledged is sent again.
    pub fn attached(&mut self) {
        self.turns.attach();
        for (&id, stream) in &mut self.streams {
            stream.inbound.rewind();
            stream.outbound.rewind();
            stream.end_sent = false;
            self.turns.add(id);
        }
    }

    /// There is no channel now. Need not be called before [`TaskEnd::attached`]; it keeps [`TaskEnd::poll_transmit`]
    /// from giving segments that go nowhere.
    pub fn detached(&mut self) {
        self.turns.detach();
    }

    /// Whether nothing is left, neither for the guest nor for the ingress.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Number of streams, those included that the guest has closed and the ingress has not confirmed.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Bytes kept for all streams: at most twice [`WINDOW`](crate::WINDOW) for each.
    pub fn buffered(&self) -> usize {
        self.streams.values().map(|stream| stream.inbound.len() + stream.outbound.len()).sum()
    }
}
