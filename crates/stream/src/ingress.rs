//! The clients' side: what they have sent and the task has not consumed, and what the task has sent and they have not
//! got.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::half::{Inbound, Outbound, Violation};
use crate::mark::Mark;
use crate::turns::{Answer, Turns};
use crate::{Overrun, PEER_MAX, STREAMS_MAX, Segment, StreamError};

type Result<T> = core::result::Result<T, StreamError>;

/// What a stream that is over counts for among bytes that are kept.
pub const PAST: usize = 256;

/// Why a client is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenError {
    /// There are as many as there may be: leave it in the kernel's queue.
    Full,
    /// The identity is in use.
    Taken,
    /// The address is longer than [`PEER_MAX`].
    Peer,
}

impl core::fmt::Display for OpenError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Full => "as many clients as there may be",
            Self::Taken => "the identity of the stream is in use",
            Self::Peer => "the client's address is too long",
        })
    }
}

impl core::error::Error for OpenError {}

/// What the driver of a client's connection has to look at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// There may be bytes or an end for the client ([`IngressEnd::read`]), or room for more of what it sends, or no use
    /// for that any more ([`IngressEnd::write`]).
    Changed(u64),
    /// The client has got everything, and the task has closed the stream: close the client's connection. It is
    /// forgotten here.
    Closed(u64),
    /// The task, or the stream to it, is broken: reset the client's connection. It is forgotten here.
    Reset(u64),
}

#[derive(Debug)]
struct Stream {
    peer: String,
    /// Whether this channel has carried the open.
    opened: bool,
    /// The guest has closed it: the client's bytes are not wanted, what it has not got is still to be delivered.
    closing: bool,
    /// From the task to the client.
    inbound: Inbound,
    /// From the client to the task.
    outbound: Outbound,
    /// There is no client any more: a task that has gone back hears it once more, and nobody hears the task.
    is_past: bool,
}

impl Stream {
    fn kept(&self) -> usize {
        self.inbound.kept.len() + self.outbound.kept.len()
    }

    fn next(&mut self, id: u64) -> Option<Segment> {
        // The task has closed what it knows; one that does not know it has gone back to an older state, and must not
        // take it for a new client.
        if !self.opened && !self.closing {
            self.opened = true;
            return Some(Segment::Open { stream: id, peer: self.peer.clone() });
        }
        self.inbound.next(id).or_else(|| self.outbound.next(id))
    }
}

/// All clients of one task at the node that they are connected to.
#[derive(Debug)]
pub struct IngressEnd {
    streams: BTreeMap<u64, Stream>,
    /// Those that are over, for a task that goes back to when they were not.
    past: BTreeMap<u64, Stream>,
    /// Most bytes kept of what has been consumed, if any are.
    keeps: Option<usize>,
    /// How many are, and what streams that are over count for.
    kept: usize,
    events: BTreeMap<u64, Event>,
    most: usize,
    turns: Turns,
}

impl IngressEnd {
    /// No clients yet, and no channel. At most `most` at a time, and never more than [`STREAMS_MAX`].
    pub fn new(most: usize) -> Self {
        Self {
            streams: BTreeMap::new(),
            past: BTreeMap::new(),
            keeps: None,
            kept: 0,
            events: BTreeMap::new(),
            most: most.min(STREAMS_MAX),
            turns: Turns::default(),
        }
    }

    // For a task that may go on from an older state.

    /// From now on what is consumed is kept, in both directions, up to about so many bytes: then clients wait. States of the
    /// task that are written before this are of no use to a standby.
    pub fn keep(&mut self, most: usize) {
        self.keeps = Some(most);
        for stream in self.streams.values_mut() {
            stream.inbound.keep();
            stream.outbound.kept.begin();
        }
        self.count();
    }

    /// Nothing is kept any more: the task has no standby.
    pub fn keep_nothing(&mut self) {
        (self.keeps, self.kept) = (None, 0);
        self.past.clear();
        for (&id, stream) in &mut self.streams {
            stream.inbound.kept.end();
            stream.outbound.kept.end();
            // Who waited for room may go on.
            self.events.entry(id).or_insert(Event::Changed(id));
        }
    }

    /// Bytes that are kept of what has been consumed; a stream that is over counts as [`PAST`] more.
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// Does something to one stream, and counts what is kept of it: all of them are too many to be counted each time.
    fn counted<T>(&mut self, id: u64, f: impl FnOnce(&mut Self) -> T) -> T {
        if self.keeps.is_none() {
            return f(self);
        }
        let before = self.kept_of(id);
        let result = f(self);
        self.kept = self.kept + self.kept_of(id) - before;
        result
    }

    fn kept_of(&self, id: u64) -> usize {
        let past = self.past.get(&id).map_or(0, |stream| stream.kept() + PAST);
        past + self.streams.get(&id).map_or(0, Stream::kept)
    }

    fn count(&mut self) {
        let all = self.streams.values().chain(self.past.values());
        self.kept = all.map(Stream::kept).sum::<usize>() + self.past.len() * PAST;
    }

    fn is_full(&self) -> bool {
        self.keeps.is_some_and(|most| self.kept >= most)
    }

    /// The state with this mark is safe: what comes before it is not asked for again.
    pub fn release(&mut self, mark: &Mark) {
        for at in &mark.streams {
            let live = self.streams.get_mut(&at.id);
            let Some(stream) = live.or_else(|| self.past.get_mut(&at.id)) else { continue };
            stream.outbound.release(at.consumed);
            stream.inbound.release(at.base);
        }
        mark.forgotten.iter().for_each(|id| _ = self.past.remove(id));
        self.count();
        for &id in self.streams.keys() {
            // Who waited for room may go on.
            self.events.entry(id).or_insert(Event::Changed(id));
        }
    }

    /// As [`IngressEnd::attached`], to a task that goes on from the last state that was [released](IngressEnd::release).
    pub fn go_back(&mut self) {
        for (id, mut stream) in core::mem::take(&mut self.past) {
            stream.is_past = true;
            stream.closing = false;
            stream.outbound.finish();
            self.streams.insert(id, stream);
        }
        for stream in self.streams.values_mut() {
            stream.closing = false;
            stream.outbound.go_back();
        }
        self.attached();
        self.count();
        // Clients come in the order in which they came.
        self.turns.begin();
    }

    /// After [`IngressEnd::go_back`]: the task has no standby any more. What is needed to compare its answers is kept until
    /// it says something new.
    pub fn keep_no_more(&mut self) {
        (self.keeps, self.kept) = (None, 0);
        for stream in self.streams.values_mut() {
            stream.inbound.keep_until_new();
            stream.outbound.kept.end();
        }
    }

    // For the drivers of the clients' connections.

    /// A client has come. `stream` must be an identity that no stream of this task has had.
    ///
    /// # Errors
    /// As [`OpenError`] says; nothing has changed then.
    pub fn open(&mut self, stream: u64, peer: &str) -> core::result::Result<(), OpenError> {
        if self.streams.len() >= self.most || self.is_full() {
            return Err(OpenError::Full);
        }
        if peer.len() > PEER_MAX {
            return Err(OpenError::Peer);
        }
        if self.streams.contains_key(&stream) || self.past.contains_key(&stream) {
            return Err(OpenError::Taken);
        }
        let (mut inbound, mut outbound) = (Inbound::default(), Outbound::default());
        if self.keeps.is_some() {
            inbound.keep();
            outbound.kept.begin();
        }
        let new = Stream { peer: peer.into(), opened: false, closing: false, inbound, outbound, is_past: false };
        self.streams.insert(stream, new);
        self.turns.add(stream);
        Ok(())
    }

    /// How many bytes of the client [`IngressEnd::write`] takes now. While it is 0, do not read from the client.
    pub fn room(&self, stream: u64) -> usize {
        if self.is_full() {
            return 0;
        }
        self.of_client(stream).map_or(0, |stream| stream.outbound.room())
    }

    fn of_client(&self, stream: u64) -> Option<&Stream> {
        self.streams.get(&stream).filter(|stream| !stream.is_past)
    }

    fn of_client_mut(&mut self, stream: u64) -> Option<&mut Stream> {
        self.streams.get_mut(&stream).filter(|stream| !stream.is_past)
    }

    /// Takes bytes that the client has sent, as many as there is room for.
    ///
    /// # Errors
    /// [`StreamError::WouldBlock`] if that is none, [`StreamError::Closed`] if they are not wanted any more or the end
    /// was announced, [`StreamError::Unknown`].
    pub fn write(&mut self, stream: u64, bytes: &[u8]) -> Result<usize> {
        let found = self.of_client_mut(stream).ok_or(StreamError::Unknown)?;
        if found.outbound.is_finished() {
            return Err(StreamError::Closed);
        }
        match found.outbound.push(bytes) {
            0 if !bytes.is_empty() => Err(StreamError::WouldBlock),
            len => {
                self.turns.add(stream);
                Ok(len)
            }
        }
    }

    /// The client sends no more (it has shut its connection down for writing, or closed it).
    pub fn finish(&mut self, stream: u64) {
        if let Some(found) = self.of_client_mut(stream) {
            found.outbound.finish();
            self.turns.add(stream);
        }
    }

    /// The client is gone, or reading from it or writing to it fails. The stream is forgotten here, and broken for the
    /// task.
    pub fn reset(&mut self, stream: u64) {
        if self.of_client(stream).is_some() {
            self.counted(stream, |this| this.forget(stream, None, Answer::Reset));
        }
    }

    /// Takes bytes for the client: they count as delivered, so the caller writes them all or resets the client. `Ok(0)`
    /// is the end (shut the client's connection down for writing), or an empty `buf`.
    ///
    /// # Errors
    /// [`StreamError::WouldBlock`], [`StreamError::Unknown`].
    pub fn read(&mut self, stream: u64, buf: &mut [u8]) -> Result<usize> {
        self.counted(stream, |this| this.read_some(stream, buf))
    }

    fn read_some(&mut self, stream: u64, buf: &mut [u8]) -> Result<usize> {
        let found = self.of_client_mut(stream).ok_or(StreamError::Unknown)?;
        if buf.is_empty() {
            return Ok(0);
        }
        let len = found.inbound.read(buf, false).ok_or(StreamError::WouldBlock)?;
        self.turns.add(stream);
        self.end_if_over(stream);
        Ok(len)
    }

    /// Whether [`IngressEnd::read`] would answer something else than [`StreamError::WouldBlock`].
    pub fn is_readable(&self, stream: u64) -> bool {
        self.of_client(stream).is_none_or(|stream| stream.inbound.is_ready())
    }

    /// What to look at, once for each stream however much has happened. Poll after every [`IngressEnd::handle`] and
    /// [`IngressEnd::read`].
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_first().map(|(_, event)| event)
    }

    /// The task is no more, and neither is its end: every client is to be reset.
    pub fn reset_all(&mut self) {
        self.keep_nothing();
        for stream in self.streams.keys().copied().collect::<Vec<u64>>() {
            self.forget(stream, Some(Event::Reset(stream)), Answer::Reset);
        }
    }

    // For the channel.

    /// Takes a segment of the task.
    ///
    /// # Errors
    /// If the other side does not take the answers: the channel is of no more use.
    pub fn handle(&mut self, segment: Segment) -> core::result::Result<(), Overrun> {
        let id = segment.stream();
        self.counted(id, |this| this.take(id, segment))
    }

    fn take(&mut self, id: u64, segment: Segment) -> core::result::Result<(), Overrun> {
        match self.streams.get_mut(&id) {
            None => {
                let over = matches!(segment, Segment::Close { .. } | Segment::Reset { .. });
                self.turns.answer(id, if over { Answer::Close } else { Answer::Reset });
            }
            Some(stream) => {
                let handled = match segment {
                    Segment::Open { .. } => Err(Violation),
                    Segment::Data { offset, bytes, .. } => stream.inbound.data(offset, &bytes),
                    Segment::Fin { offset, .. } => stream.inbound.fin(offset),
                    // Of bytes that are not kept any more.
                    Segment::Ack { .. } if stream.closing => Ok(()),
                    Segment::Ack { offset, .. } => stream.outbound.acked(offset),
                    Segment::Close { .. } if stream.inbound.has_fin() => {
                        stream.closing = true;
                        stream.outbound.abandon();
                        Ok(())
                    }
                    Segment::Close { .. } => Err(Violation),
                    Segment::Reset { .. } => {
                        self.forget(id, Some(Event::Reset(id)), Answer::Close);
                        return self.turns.check();
                    }
                };
                if stream.is_past {
                    stream.inbound.drain();
                }
                match handled {
                    Ok(()) => {
                        // After going back there may be more than was let go at once.
                        self.turns.add(id);
                        if !stream.is_past {
                            self.events.insert(id, Event::Changed(id));
                        }
                        self.end_if_over(id);
                    }
                    Err(Violation) => self.forget(id, Some(Event::Reset(id)), Answer::Reset),
                }
            }
        }
        self.turns.check()
    }

    fn end_if_over(&mut self, id: u64) {
        if self.streams.get(&id).is_some_and(|stream| stream.closing && stream.inbound.is_ended()) {
            self.forget(id, Some(Event::Closed(id)), Answer::Close);
        }
    }

    /// The task may be told only once: if this is lost, it is told again when it speaks of the stream.
    fn forget(&mut self, id: u64, event: Option<Event>, answer: Answer) {
        let mut nobody = false;
        if let Some(mut stream) = self.streams.remove(&id) {
            nobody = stream.is_past;
            if self.keeps.is_some() {
                // What nobody has consumed, nobody will.
                stream.inbound.drop_unread();
                stream.outbound.abandon();
                self.past.insert(id, stream);
            }
        }
        self.turns.remove(id);
        self.turns.answer(id, answer);
        match event.filter(|_| !nobody) {
            Some(event) => self.events.insert(id, event),
            None => self.events.remove(&id),
        };
    }

    /// The next segment for the task; `None` if there is nothing to say now, or no channel.
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

    /// There is a fresh channel to the task, with nothing in it. What the task has not consumed is sent again; what the
    /// clients have not got is forgotten, since the task sends it again: it is the one who decides what it says.
    pub fn attached(&mut self) {
        self.turns.attach();
        for (&id, stream) in &mut self.streams {
            stream.opened = false;
            stream.inbound.drop_unread();
            stream.inbound.rewind();
            stream.outbound.rewind();
            self.turns.add(id);
        }
        // Until the task says that it knows.
        self.past.keys().for_each(|id| self.turns.answer(*id, Answer::Reset));
    }

    /// There is no channel now; clients are served from what is here. Need not be called before
    /// [`IngressEnd::attached`].
    pub fn detached(&mut self) {
        self.turns.detach();
    }

    /// Whether there is no client.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of clients.
    pub fn len(&self) -> usize {
        self.streams.values().filter(|stream| !stream.is_past).count()
    }

    /// Bytes kept for all clients, but for [`IngressEnd::kept`]: at most twice [`WINDOW`](crate::WINDOW) for each, unless the
    /// task has gone back.
    pub fn buffered(&self) -> usize {
        self.streams.values().map(|stream| stream.inbound.len() + stream.outbound.len()).sum()
    }
}
