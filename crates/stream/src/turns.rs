//! Who may send next: streams take turns, and answers to what no stream is there for come first.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::{Overrun, STREAMS_MAX, Segment};

/// What is said about a stream that there is nothing to keep of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    Close,
    Reset,
}

/// The streams that may have something to send, in turns by their numbers: one with much to say does not keep the others
/// waiting, and there is at most one entry for each, so that nothing grows while nobody polls.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    attached: bool,
    pending: BTreeSet<u64>,
    last: u64,
    answers: BTreeMap<u64, Answer>,
    /// An answer was dropped, so this channel is of no more use.
    overrun: bool,
}

impl Turns {
    /// A fresh channel: answers were for the old one.
    pub fn attach(&mut self) {
        *self = Self { attached: true, last: self.last, ..Self::default() };
    }

    /// The next turn is the first stream's.
    pub fn begin(&mut self) {
        self.last = u64::MAX;
    }

    /// No channel: nothing is kept for it, since the next one starts from the streams themselves.
    pub fn detach(&mut self) {
        self.attach();
        self.attached = false;
    }

    pub fn add(&mut self, stream: u64) {
        if self.attached {
            self.pending.insert(stream);
        }
    }

    pub fn remove(&mut self, stream: u64) {
        self.pending.remove(&stream);
    }

    /// Takes the stream whose turn it is out; the caller adds it again if it had something to send.
    pub fn next(&mut self) -> Option<u64> {
        let after = self.last.checked_add(1).and_then(|from| self.pending.range(from..).next());
        let stream = *after.or_else(|| self.pending.first())?;
        self.pending.remove(&stream);
        self.last = stream;
        Some(stream)
    }

    pub fn answer(&mut self, stream: u64, answer: Answer) {
        // Without a channel none is needed: on the next one the other side asks again.
        if self.attached {
            self.answers.insert(stream, answer);
        }
        if self.answers.len() > STREAMS_MAX {
            self.answers.remove(&stream);
            self.overrun = true;
        }
    }

    pub fn check(&self) -> Result<(), Overrun> {
        if self.overrun { Err(Overrun) } else { Ok(()) }
    }

    /// There is a stream of this number now; what was to be said about it is out of date.
    pub fn forget_answer(&mut self, stream: u64) {
        self.answers.remove(&stream);
    }

    pub fn next_answer(&mut self) -> Option<Segment> {
        self.answers.pop_first().map(|(stream, answer)| match answer {
            Answer::Close => Segment::Close { stream },
            Answer::Reset => Segment::Reset { stream },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_take_turns_in_a_circle() {
        let mut turns = Turns::default();
        turns.add(1);
        assert_eq!(turns.next(), None, "nothing is sent without a channel");
        turns.attach();
        [5, u64::MAX, 2].into_iter().for_each(|stream| turns.add(stream));
        let order: std::vec::Vec<u64> = (0..7)
            .map(|_| {
                let stream = turns.next().unwrap();
                turns.add(stream);
                stream
            })
            .collect();
        assert_eq!(order, [2, 5, u64::MAX, 2, 5, u64::MAX, 2]);
        turns.remove(5);
        assert_eq!((turns.next(), turns.next(), turns.next()), (Some(u64::MAX), Some(2), None));
    }

    #[test]
    fn answers_nobody_takes_are_bounded() {
        let mut turns = Turns::default();
        turns.attach();
        for stream in 0..STREAMS_MAX as u64 {
            turns.answer(stream, Answer::Reset);
        }
        turns.answer(3, Answer::Close);
        assert_eq!(turns.check(), Ok(()));
        turns.answer(u64::MAX, Answer::Reset);
        assert_eq!(turns.check(), Err(Overrun));
        turns.attach();
        assert_eq!((turns.check(), turns.next_answer()), (Ok(()), None));
    }
}
