//! One direction of a connection over a link: a pipe of bytes as TCP makes it, which takes a while, gets slow when
//! packets are lost, and otherwise loses nothing until it is cut.
//!
//! ```text
//! send ─► buffer (bounded: back pressure) ─► rate ─► delay, and a retransmission for each lost packet ─► arrivals
//! ```

use crate::clock::{MILLI, Nanos, Rng, SECOND};
use crate::trace::Trace;
use std::collections::VecDeque;

/// Bytes of a packet that are a connection's own.
const PACKET: usize = 1448;
/// What arrives at once: a few packets, so that rates show within short times.
const SEGMENT: usize = 8 * PACKET;

/// What a link is like.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Rate and delay over time.
    pub trace: Trace,
    /// Probability with which a packet is lost. It arrives all the same, after a retransmission, and what follows
    /// waits for it.
    pub loss: f64,
    /// Bytes that wait to go out before a sender has to wait.
    pub buffer: usize,
}

impl Shape {
    /// Bytes per second and one-way delay, the same at all times.
    pub fn new(rate: u64, delay: Nanos) -> Self {
        Self { trace: Trace::constant(rate, delay), loss: 0.0, buffer: 256 << 10 }
    }
}

struct Segment {
    /// When its last byte has left the sender.
    left: Nanos,
    arrives: Nanos,
    bytes: Vec<u8>,
}

/// One direction.
pub struct Pipe {
    shape: Shape,
    rng: Rng,
    segments: VecDeque<Segment>,
    /// When the line is free.
    free: Nanos,
    /// Nothing overtakes.
    last: Nanos,
    /// When the other end learns that no more will come.
    end: Option<Nanos>,
    sent: u64,
}

impl Pipe {
    /// An empty one.
    pub fn new(shape: Shape, seed: u64) -> Self {
        Self { shape, rng: Rng::new(seed), segments: VecDeque::new(), free: 0, last: 0, end: None, sent: 0 }
    }

    /// Bytes that it takes before a sender should wait.
    pub fn room(&self, now: Nanos) -> usize {
        let waiting = self.segments.iter().rev().take_while(|s| s.left > now).map(|s| s.bytes.len()).sum();
        self.shape.buffer.saturating_sub(waiting)
    }

    /// When there will be more room, if some is taken.
    pub fn more_room(&self, now: Nanos) -> Option<Nanos> {
        self.segments.iter().map(|s| s.left).find(|left| *left > now)
    }

    /// Bytes that were sent, in all.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Takes bytes, whether there is room or not.
    pub fn send(&mut self, now: Nanos, bytes: &[u8]) {
        if self.end.is_some() {
            return;
        }
        self.sent += bytes.len() as u64;
        for piece in bytes.chunks(SEGMENT) {
            let start = self.free.max(now);
            // A link that never comes back: far enough away for a cut to come first.
            let left = self.shape.trace.finish(start, piece.len() as u64).unwrap_or(start + 3600 * SECOND);
            let delay = self.shape.trace.at(left).delay;
            let mut arrives = left + delay;
            for _ in 0..piece.len().div_ceil(PACKET) {
                if self.rng.chance(self.shape.loss) {
                    // Fast retransmission takes a round trip, a timeout ten times as long.
                    let lost_again = self.rng.chance(self.shape.loss);
                    arrives += if lost_again { (20 * delay).max(200 * MILLI) } else { 2 * delay };
                }
            }
            self.free = left;
            self.last = self.last.max(arrives);
            self.segments.push_back(Segment { left, arrives: self.last, bytes: piece.to_vec() });
        }
    }

    /// When the next bytes, or the word that there will be none, arrive.
    pub fn next(&self) -> Option<Nanos> {
        self.segments.front().map(|s| s.arrives).or(self.end)
    }

    /// What has arrived.
    pub fn deliver(&mut self, now: Nanos) -> Option<Vec<u8>> {
        (self.segments.front()?.arrives <= now).then(|| self.segments.pop_front().map(|s| s.bytes)).flatten()
    }

    /// Whether the other end has learnt that no more will come.
    pub fn ended(&self, now: Nanos) -> bool {
        self.segments.is_empty() && self.end.is_some_and(|end| end <= now)
    }

    /// Nothing more is sent; what was sent still arrives.
    pub fn finish(&mut self, now: Nanos) {
        let delay = self.shape.trace.at(now).delay;
        self.end.get_or_insert(self.last.max(self.free.max(now) + delay));
    }

    /// The sender is gone at once: what has not left it is lost.
    pub fn drop_unsent(&mut self, now: Nanos) {
        self.segments.retain(|s| s.left <= now);
    }

    /// Everything on the way is lost.
    pub fn cut(&mut self) {
        self.segments.clear();
    }

    /// Nothing moves for a while: a short outage that the connection outlives.
    pub fn stall(&mut self, now: Nanos, long: Nanos) {
        self.free = self.free.max(now) + long;
        self.last += long;
        self.end = self.end.map(|end| end + long);
        for segment in &mut self.segments {
            segment.arrives += long;
            if segment.left > now {
                segment.left += long;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_in_order_at_the_rate_and_after_the_delay() {
        for (loss, slack) in [(0.0, 1), (0.01, 40)] {
            let mut pipe = Pipe::new(Shape { loss, ..Shape::new(10_000_000, 5 * MILLI) }, 7);
            let bytes: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
            pipe.send(0, &bytes);
            assert_eq!(pipe.room(0), 0);
            let (mut got, mut last) = (Vec::new(), 0);
            while let Some(now) = pipe.next() {
                last = now;
                got.extend(pipe.deliver(now).unwrap());
            }
            assert_eq!(got, bytes);
            let least = 105 * MILLI;
            assert!((least..least + slack * 10 * MILLI).contains(&last), "loss {loss}: {last}");
        }
    }

    #[test]
    fn what_is_cut_is_lost_and_what_is_finished_arrives() {
        let mut pipe = Pipe::new(Shape::new(1_000_000, MILLI), 7);
        pipe.send(0, &[1; 10_000]);
        pipe.finish(0);
        assert!(!pipe.ended(10 * MILLI));
        assert_eq!(pipe.deliver(11 * MILLI).unwrap().len(), 10_000);
        assert!(pipe.ended(11 * MILLI));
        let mut pipe = Pipe::new(Shape::new(1_000_000, MILLI), 7);
        pipe.send(0, &[1; 20_000]);
        pipe.drop_unsent(13 * MILLI);
        assert_eq!(pipe.deliver(SECOND).unwrap().len(), SEGMENT);
        assert!(pipe.deliver(SECOND).is_none());
    }
}
