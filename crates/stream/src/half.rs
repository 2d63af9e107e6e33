//! The two directions of a stream as one side sees them: what it sends, and what it receives. Both ends of a stream are
//! made of these.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::{OFFSET_MAX, SEGMENT_MAX, Segment, WINDOW};

/// A segment that does not fit what came before: the other side has gone back to an older state, or is none of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Violation;

type Result<T> = core::result::Result<T, Violation>;

/// An empty buffer above this gives its memory back: most connections are idle most of the time.
const KEEP: usize = 16 << 10;

fn drop_front(bytes: &mut VecDeque<u8>, count: usize) {
    bytes.drain(..count);
    if bytes.is_empty() && bytes.capacity() > KEEP {
        *bytes = VecDeque::new();
    }
}

/// Copies from `skip` on as much as fits.
fn copy(bytes: &VecDeque<u8>, mut skip: usize, to: &mut [u8]) -> usize {
    let (front, back) = bytes.as_slices();
    let mut done = 0;
    for part in [front, back] {
        let from = skip.min(part.len());
        skip -= from;
        let len = (part.len() - from).min(to.len() - done);
        to[done..done + len].copy_from_slice(&part[from..from + len]);
        done += len;
    }
    done
}

/// What has been consumed, up to where the rest begins, for as long as it is kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept(Option<VecDeque<u8>>);

impl Kept {
    /// Keeps what is consumed from now on.
    pub fn begin(&mut self) {
        self.0.get_or_insert_default();
    }

    /// Keeps nothing any more.
    pub fn end(&mut self) {
        self.0 = None;
    }

    /// Bytes that are kept.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, VecDeque::len)
    }

    /// What comes before `offset` is not needed any more; they end at `end`.
    fn release(&mut self, offset: u64, end: u64) {
        let Some(kept) = &mut self.0 else { return };
        let first = end - kept.len() as u64;
        drop_front(kept, (offset.clamp(first, end) - first) as usize);
    }
}

/// What this side sends: everything the other has not consumed, and how much of that this channel has carried.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbound {
    /// Offset of the first byte kept.
    base: u64,
    bytes: VecDeque<u8>,
    /// How far this channel has carried it, at least `base`.
    sent: u64,
    fin: bool,
    fin_sent: bool,
    fin_acked: bool,
    /// What was consumed before `base` and may be asked for again, where that is kept.
    pub kept: Kept,
    /// How far the other side has consumed what a later state of this one has sent: it is said once more, for it to
    /// compare, and not kept. One that is not behind has none.
    ahead: Option<u64>,
}

impl Outbound {
    /// As it was frozen: nothing carried yet.
    pub fn thawed(base: u64, bytes: &[u8], fin: bool, fin_acked: bool) -> Self {
        Self { base, bytes: bytes.iter().copied().collect(), sent: base, fin, fin_acked, ..Self::default() }
    }

    /// The other side may have had more than this one knows of.
    pub fn is_behind(&mut self) {
        self.ahead = Some(0);
    }

    /// What was consumed before `offset` will not be asked for again.
    pub fn release(&mut self, offset: u64) {
        self.kept.release(offset, self.base);
    }

    /// All that is kept is to be consumed once more.
    pub fn go_back(&mut self) {
        if let Some(mut kept) = self.kept.0.replace(VecDeque::new()) {
            self.base -= kept.len() as u64;
            kept.append(&mut self.bytes);
            self.bytes = kept;
            self.fin_acked = false;
        }
        self.rewind();
    }

    pub fn base(&self) -> u64 {
        self.base
    }

    pub fn is_finished(&self) -> bool {
        self.fin
    }

    pub fn is_fin_acked(&self) -> bool {
        self.fin_acked
    }

    pub fn kept(&self) -> (&[u8], &[u8]) {
        self.bytes.as_slices()
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn room(&self) -> usize {
        // After going back there may be far more than a window.
        if self.fin || self.end() >= OFFSET_MAX - WINDOW as u64 { 0 } else { WINDOW.saturating_sub(self.bytes.len()) }
    }

    fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// Takes as much as there is room for.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let len = bytes.len().min(self.room());
        self.bytes.extend(&bytes[..len]);
        len
    }

    pub fn finish(&mut self) {
        self.fin = true;
    }

    /// The other side wants nothing any more.
    pub fn abandon(&mut self) {
        let (base, kept) = (self.base, core::mem::take(&mut self.kept));
        *self = Self {
            base,
            sent: base,
            fin: true,
            fin_sent: true,
            fin_acked: true,
            kept,
            ahead: self.ahead,
            ..Self::default()
        };
    }

    /// A fresh channel has carried nothing.
    pub fn rewind(&mut self) {
        (self.sent, self.fin_sent) = (self.base, false);
    }

    pub fn next(&mut self, stream: u64) -> Option<Segment> {
        let all = self.end() - self.sent;
        let left = all.min(self.base + WINDOW as u64 - self.sent) as usize;
        if left > 0 {
            let offset = self.sent;
            let mut bytes = alloc::vec![0; left.min(SEGMENT_MAX)];
            let len = copy(&self.bytes, (offset - self.base) as usize, &mut bytes);
            self.sent += len as u64;
            self.drop_known();
            return Some(Segment::Data { stream, offset, bytes });
        }
        if all == 0 && self.fin && !self.fin_sent && !self.fin_acked {
            self.fin_sent = true;
            self.fin_acked = self.ahead.is_some_and(|ahead| ahead > self.end());
            return Some(Segment::Fin { stream, offset: self.end() });
        }
        None
    }

    /// Drops what has been said once more and the other side has had before.
    fn drop_known(&mut self) {
        let known = self.ahead.unwrap_or(0).min(self.sent);
        if known > self.base {
            self.drop_until(known);
        }
    }

    fn drop_until(&mut self, offset: u64) {
        let len = (offset - self.base) as usize;
        match &mut self.kept.0 {
            Some(kept) => kept.extend(self.bytes.drain(..len)),
            None => drop_front(&mut self.bytes, len),
        }
        self.base = offset;
        self.sent = self.sent.max(offset);
    }

    /// The other side has consumed everything below `offset`. It may say so of bytes that only an older channel has
    /// carried; and of bytes that are not here yet, if this side has gone back.
    pub fn acked(&mut self, offset: u64) -> Result<()> {
        let known = self.base + u64::from(self.fin_acked);
        if let Some(ahead) = &mut self.ahead {
            if offset < known || offset > OFFSET_MAX {
                return Err(Violation);
            }
            *ahead = offset.max(*ahead);
            self.fin_acked |= self.fin_sent && offset > self.end();
            self.drop_known();
            return Ok(());
        }
        if offset < known || offset > self.end() + u64::from(self.fin) {
            return Err(Violation);
        }
        self.fin_acked |= offset > self.end();
        self.drop_until(offset.min(self.end()));
        Ok(())
    }
}

/// What this side receives: how far it has been consumed, and what comes after.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inbound {
    consumed: u64,
    bytes: VecDeque<u8>,
    fin: Option<u64>,
    fin_consumed: bool,
    /// What this channel has been told of.
    acked: u64,
    /// Whether it has to be told whatever there is.
    ack_due: bool,
    /// What was consumed last, where that is kept, to compare it with what a side that has gone back says.
    pub kept: Kept,
    /// Nothing is kept any more once the other side says something new.
    until_new: bool,
}

/// Consumed bytes are acknowledged when there are this many, or none left to consume: small reads of a large request need
/// not each be spoken of.
const ACK_EVERY: u64 = WINDOW as u64 / 8;

impl Inbound {
    /// As it was frozen: nothing unread, and the end not known unless it was consumed.
    pub fn thawed(consumed: u64, ended: bool) -> Self {
        Self { consumed, fin: ended.then_some(consumed), fin_consumed: ended, ..Self::default() }
    }

    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    pub fn is_ended(&self) -> bool {
        self.fin_consumed
    }

    /// Whether it is known where the end is.
    pub fn has_fin(&self) -> bool {
        self.fin.is_some()
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether [`Inbound::read`] gives something.
    pub fn is_ready(&self) -> bool {
        !self.bytes.is_empty() || self.fin == Some(self.consumed)
    }

    fn received(&self) -> u64 {
        self.consumed + self.bytes.len() as u64
    }

    /// Keeps what is consumed from now on.
    pub fn keep(&mut self) {
        self.kept.begin();
        self.until_new = false;
    }

    /// Keeps what there is until the other side has said all of it once more.
    pub fn keep_until_new(&mut self) {
        self.until_new = true;
    }

    /// What was consumed before `offset` is not said again.
    pub fn release(&mut self, offset: u64) {
        self.kept.release(offset, self.consumed);
    }

    /// Whether bytes are those that were consumed, as far as that is known here.
    fn is_as_before(&self, offset: u64, bytes: &[u8]) -> bool {
        let Some(kept) = &self.kept.0 else { return true };
        let first = self.consumed - kept.len() as u64;
        let from = first.max(offset);
        let to = self.consumed.min(offset + bytes.len() as u64);
        from >= to
            || kept
                .range((from - first) as usize..(to - first) as usize)
                .eq(&bytes[(from - offset) as usize..(to - offset) as usize])
    }

    pub fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let end = offset.checked_add(bytes.len() as u64).ok_or(Violation)?;
        let received = self.received();
        if offset > received || end > self.consumed + WINDOW as u64 || self.fin.is_some_and(|fin| end > fin) {
            return Err(Violation);
        }
        if !self.is_as_before(offset, bytes) {
            return Err(Violation);
        }
        if end > received {
            if core::mem::take(&mut self.until_new) {
                self.kept.end();
            }
            self.bytes.extend(&bytes[(received - offset) as usize..]);
        }
        Ok(())
    }

    pub fn fin(&mut self, offset: u64) -> Result<()> {
        // A second one must say the same, the first must come after all bytes.
        if offset != self.fin.unwrap_or(self.received()) {
            return Err(Violation);
        }
        self.fin = Some(offset);
        Ok(())
    }

    /// Takes bytes out, or with `peek` looks at them. `Some(0)` is the end, `None` says that nothing is there yet.
    pub fn read(&mut self, buf: &mut [u8], peek: bool) -> Option<usize> {
        if self.bytes.is_empty() {
            self.fin?;
            self.fin_consumed |= !peek;
            return Some(0);
        }
        let len = copy(&self.bytes, 0, buf);
        if !peek {
            if let Some(kept) = &mut self.kept.0 {
                kept.extend(self.bytes.range(..len));
            }
            drop_front(&mut self.bytes, len);
            self.consumed += len as u64;
        }
        Some(len)
    }

    /// Forgets what has not been consumed: it is sent again.
    pub fn drop_unread(&mut self) {
        self.bytes = VecDeque::new();
        if !self.fin_consumed {
            self.fin = None;
        }
    }

    /// Consumes all that is there: nobody else does.
    pub fn drain(&mut self) {
        let mut nowhere = [0; 256];
        while self.read(&mut nowhere, false).is_some_and(|len| len > 0) {}
    }

    /// A fresh channel: whatever has been consumed is said again.
    pub fn rewind(&mut self) {
        self.ack_due = true;
    }

    pub fn next(&mut self, stream: u64) -> Option<Segment> {
        let offset = self.consumed + u64::from(self.fin_consumed);
        let new = offset.saturating_sub(self.acked);
        if !self.ack_due && (new == 0 || (new < ACK_EVERY && !self.bytes.is_empty())) {
            return None;
        }
        (self.acked, self.ack_due) = (offset, false);
        Some(Segment::Ack { stream, offset })
    }
}

/// Both parts of a ring buffer as one, for writing out.
pub(crate) fn joined((front, back): (&[u8], &[u8])) -> Vec<u8> {
    [front, back].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_that_wraps_is_copied_from_anywhere() {
        let mut ring: VecDeque<u8> = VecDeque::with_capacity(8);
        ring.extend(0..8);
        ring.drain(..5);
        ring.extend(8..13);
        assert!(!ring.as_slices().1.is_empty());
        for skip in 0..9 {
            for len in 0..9 {
                let mut to = alloc::vec![0; len];
                let done = copy(&ring, skip, &mut to);
                let expect: Vec<u8> = ring.iter().copied().skip(skip).take(len).collect();
                assert_eq!(to[..done], expect);
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut inbound = Inbound::default();
        assert_eq!(inbound.data(1, b"x"), Err(Violation));
        assert_eq!(inbound.data(u64::MAX, b"x"), Err(Violation));
        inbound.data(0, b"abc").unwrap();
        inbound.data(1, b"bcd").unwrap();
        inbound.data(0, b"a").unwrap();
        assert_eq!((inbound.fin(3), inbound.fin(5)), (Err(Violation), Err(Violation)));
        inbound.fin(4).unwrap();
        inbound.fin(4).unwrap();
        assert_eq!(inbound.data(4, b"e"), Err(Violation));
        let mut buf = [0; 9];
        assert_eq!((inbound.read(&mut buf, true), inbound.read(&mut buf, false)), (Some(4), Some(4)));
        assert_eq!(buf[..4], *b"abcd");
        assert_eq!(inbound.read(&mut buf, false), Some(0));
        assert_eq!(Inbound::default().data(0, &alloc::vec![0; WINDOW + 1]), Err(Violation));

        let mut outbound = Outbound::default();
        assert_eq!(outbound.push(&alloc::vec![7; WINDOW + 1]), WINDOW);
        assert_eq!(outbound.acked(WINDOW as u64 + 1), Err(Violation));
        outbound.acked(10).unwrap();
        assert_eq!((outbound.acked(9), outbound.room()), (Err(Violation), 10));
        outbound.finish();
        assert_eq!(outbound.room(), 0);
        outbound.acked(WINDOW as u64 + 1).unwrap();
        assert!(outbound.is_fin_acked() && outbound.acked(WINDOW as u64) == Err(Violation));
    }
}
