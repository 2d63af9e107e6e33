//! What source and destination of a move say to each other.

use crate::channel::Kind;
use crate::error::{ChannelError, Violation};
use crate::pages::{PageDigest, PageRange};
use crate::standby::Said;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use wayfare_snapshot::Digest;

/// What a task is called for as long as it lives, on whatever node: 16 random bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId(pub [u8; 16]);

impl core::fmt::Display for TaskId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl core::fmt::Debug for TaskId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "TaskId({self})")
    }
}

/// How memory comes along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// In rounds while the task runs, until what is left is small.
    #[default]
    PreCopy,
    /// After the task has gone over, on demand and in the background. A link that breaks then takes the task with it
    /// until it is back.
    PostCopy,
    /// In rounds while each halves what is left; then at once, if that keeps the bound, else the rest after.
    Hybrid,
    /// While the task stands still.
    Stop,
}

impl Mode {
    /// Whether pages may come after the commit.
    pub fn is_late(self) -> bool {
        matches!(self, Mode::PostCopy | Mode::Hybrid)
    }
}

/// A task offered to another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The task.
    pub task: TaskId,
    /// Its name, for people.
    pub name: String,
    /// The epoch that the move claims.
    pub epoch: u64,
    /// BLAKE3 of its module.
    pub module: [u8; 32],
    /// Length of the module.
    pub module_len: u64,
    /// Whether NaNs are canonical.
    pub canonical_nan: bool,
    /// Bytes of its memories, by index.
    pub memories: Vec<u64>,
    /// How memory will come.
    pub mode: Mode,
    /// What the agents agree on besides: directories, limits, published ports. Not looked at here.
    pub settings: Vec<u8>,
}

/// Most memories that a task may have.
pub const MEMORIES_MAX: usize = 64;

impl Offer {
    /// The module's digest.
    pub fn digest(&self) -> Digest {
        Digest(self.module)
    }

    /// Whether a task may be like that.
    ///
    /// # Errors
    /// When it may not.
    pub(crate) fn check(&self) -> Result<(), Violation> {
        match self.memories.len() > MEMORIES_MAX || self.name.len() > 64 {
            true => Err(Violation("an offer that no task fits")),
            false => Ok(()),
        }
    }

    /// Bytes of all memories.
    pub fn memory(&self) -> u64 {
        self.memories.iter().fold(0, |sum, size| sum.saturating_add(*size))
    }
}

/// The answer to an [`Offer`] that is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accept {
    /// The module need not be sent.
    pub has_module: bool,
    /// Pages of this task are there from before: a look at their digests may spare sending them.
    pub has_pages: bool,
    /// A task can run there before all of its pages have come.
    pub can_be_late: bool,
}

/// Why a move does not take place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// Too many moves at once, or too many offers.
    Busy,
    /// Not enough memory.
    Memory,
    /// Not enough processors.
    Cores,
    /// A directory or another thing of its host that the task needs is not there.
    Missing,
    /// A task of that name is there.
    Name,
    /// The epoch is not a new one.
    Epoch,
    /// The module cannot be compiled or loaded there.
    Module,
    /// The state does not fit the module.
    State,
    /// The task has ended meanwhile.
    Ended,
    /// The task cannot be captured.
    Unmovable,
    /// Rounds do not get smaller, and the move was told to give up then.
    Stalled,
    /// Somebody called it off.
    Cancelled,
    /// The link broke.
    Link,
    /// The node is leaving, or lacks something of its own.
    Node,
}

/// A reason with a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Which.
    pub reason: Reason,
    /// The sentence.
    pub text: String,
}

impl Refusal {
    /// A reason in words.
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a node says of a task that it was to take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It took the task over at that epoch.
    Owns,
    /// It did not, and never will at that epoch.
    Never,
    /// It is about to, or has, and the task is not on its disk yet; ask again.
    Deciding,
    /// It did, and died with nothing of the task on its disk. It never will again at that epoch.
    Lost,
}

/// The protocol's messages; pages and long things go in their own kinds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Source: will you take it?
    Offer(Offer),
    /// Destination: yes.
    Accept(Accept),
    /// Destination: no. Also at any later time before the commit.
    Refuse(Refusal),
    /// Source: never mind. At any time before the commit.
    Abort(Refusal),
    /// Destination: pages can come.
    Landed,
    /// Source: digests of pages, asked for because they may be there.
    Digests {
        /// The pages.
        range: PageRange,
        /// One for each.
        digests: Vec<PageDigest>,
    },
    /// Destination: one bit for each page of the oldest unanswered `Digests`: it is there.
    Have(Vec<u8>),
    /// Source: a round is complete; so many pages came in it.
    Round {
        /// Counted from 1.
        number: u32,
        /// Pages in the batches of the round.
        pages: u64,
    },
    /// Destination: all of the round is in place.
    RoundDone(u32),
    /// Source, before it stops the task: what came of these pages is of no use, they will come after the commit.
    Stale(Vec<PageRange>),
    /// Destination: they are dropped.
    Dropped,
    /// Source: these pages come after the commit.
    Late(Vec<PageRange>),
    /// Destination: everything is in place and checked.
    Prepared,
    /// Source: it is yours. **After this message the task may run elsewhere: no error path resumes it here.**
    Commit(u64),
    /// Destination: it is mine.
    Committed(u64),
    /// Destination: these first, please (post-copy), the task waits for them.
    Fetch(PageRange),
    /// Source: all late pages were sent.
    Drained,
    /// Destination: all of the task is on its disk; the source may forget it.
    Received,
    /// Anybody: what became of the task?
    Ask {
        /// Which.
        task: TaskId,
        /// At the epoch that the move claimed.
        epoch: u64,
        /// Whoever asks still has it as it was when it moved, pages and all.
        holds: bool,
    },
    /// The answer to `Ask`; to `Reattach`, if the task is lost.
    Answer(Answer),
    /// Source, on a further channel, for nothing but pages: it belongs to this move, which was accepted.
    Lane {
        /// Of this task.
        task: TaskId,
        /// The epoch that the move claims.
        epoch: u64,
    },
    /// Source, on a new channel: I still have this task as it was. The answer is `Late`, with pages that are missing, or
    /// `Received`, as soon as that is true.
    Reattach {
        /// Which.
        task: TaskId,
        /// Its epoch there.
        epoch: u64,
    },
    /// About a standby.
    Standby(Said),
}

impl Message {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`ChannelError::Malformed`], for bytes left over as well.
    pub fn decode(bytes: &[u8]) -> Result<Self, ChannelError> {
        match postcard::take_from_bytes(bytes) {
            Ok((message, [])) => Ok(message),
            _ => Err(ChannelError::Malformed(Kind::Transfer as u8)),
        }
    }
}

/// What is too long for one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Long {
    /// The module.
    Module = 1,
    /// The task's state but for its memory.
    State = 2,
    /// What goes along with the task before it stands still.
    Extra = 3,
}

/// A piece of something long.
///
/// ```text
/// what u8 | offset u64 | total u64 | bytes
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'b> {
    /// Of what.
    pub what: Long,
    /// Where it begins.
    pub offset: u64,
    /// Length of the whole.
    pub total: u64,
    /// Its bytes.
    pub bytes: &'b [u8],
}

impl<'b> Part<'b> {
    /// Bytes in a part.
    pub const LEN: usize = 256 << 10;

    /// The part of `whole` that begins at `offset`.
    pub fn of(what: Long, whole: &'b [u8], offset: usize) -> Self {
        let bytes = &whole[offset.min(whole.len())..];
        let bytes = &bytes[..bytes.len().min(Self::LEN)];
        Part { what, offset: offset as u64, total: whole.len() as u64, bytes }
    }

    /// All parts of `whole`, in order: one at least.
    pub fn all(what: Long, whole: &'b [u8]) -> impl Iterator<Item = Part<'b>> {
        let mut next = Some(0);
        core::iter::from_fn(move || {
            let part = Part::of(what, whole, next?);
            next = (!part.is_last()).then(|| part.offset as usize + part.bytes.len());
            Some(part)
        })
    }

    /// Its bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(17 + self.bytes.len());
        self.encode(&mut bytes);
        bytes
    }

    /// Whether it is the last.
    pub fn is_last(&self) -> bool {
        self.offset + self.bytes.len() as u64 == self.total
    }

    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.what as u8);
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.total.to_le_bytes());
        out.extend_from_slice(self.bytes);
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`ChannelError::Malformed`].
    pub fn decode(bytes: &'b [u8]) -> Result<Self, ChannelError> {
        let malformed = ChannelError::Malformed(Kind::Part as u8);
        let number = |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
        let what = match bytes.first() {
            Some(1) => Long::Module,
            Some(2) => Long::State,
            Some(3) => Long::Extra,
            _ => return Err(malformed),
        };
        let (Some(offset), Some(total), Some(bytes)) = (number(1), number(9), bytes.get(17..)) else {
            return Err(malformed);
        };
        match offset.checked_add(bytes.len() as u64) {
            Some(end) if end <= total => Ok(Part { what, offset, total, bytes }),
            _ => Err(malformed),
        }
    }
}

/// Puts parts together again, in order and within a bound.
#[derive(Debug, Default)]
pub struct Assembly(Vec<u8>);

impl Assembly {
    /// Takes the next part; gives the whole after the last. Memory grows with what has come, not with what is claimed.
    ///
    /// # Errors
    /// [`ChannelError::Malformed`] for a part that is not the next one, [`ChannelError::Oversized`] beyond `cap`.
    pub fn take(&mut self, part: &Part<'_>, cap: u64) -> Result<Option<Vec<u8>>, ChannelError> {
        if part.total > cap {
            return Err(ChannelError::Oversized { len: part.total, cap });
        }
        if part.offset != self.0.len() as u64 || (part.bytes.is_empty() && !part.is_last()) {
            return Err(ChannelError::Malformed(Kind::Part as u8));
        }
        self.0.extend_from_slice(part.bytes);
        Ok(part.is_last().then(|| core::mem::take(&mut self.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn long_things_are_put_together_in_order_and_within_bounds() {
        for len in [0, 1, Part::LEN - 1, Part::LEN, Part::LEN + 1, 3 * Part::LEN] {
            let whole: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let (mut assembly, mut at) = (Assembly::default(), 0);
            let mut all = Part::all(Long::State, &whole);
            loop {
                let part = Part::of(Long::State, &whole, at);
                assert_eq!(all.next(), Some(part));
                let bytes = part.to_vec();
                let back = Part::decode(&bytes).unwrap();
                assert_eq!(back, part);
                at += part.bytes.len();
                if let Some(got) = assembly.take(&back, 1 << 20).unwrap() {
                    assert_eq!(got, whole);
                    break;
                }
            }
            assert_eq!(all.next(), None);
        }
        let mut assembly = Assembly::default();
        let part = Part { what: Long::State, offset: 0, total: 100, bytes: &[1; 10] };
        assembly.take(&part, 100).unwrap();
        assembly.take(&part, 100).unwrap_err();
        assert_eq!(assembly.take(&part, 99), Err(ChannelError::Oversized { len: 100, cap: 99 }));
        assert!(Part::decode(&[1; 16]).is_err());
        assert!(Part::decode(&[4; 30]).is_err());
    }

    #[test]
    fn messages_with_bytes_left_over_are_refused() {
        let mut bytes = Message::Commit(7).encode();
        assert_eq!(Message::decode(&bytes), Ok(Message::Commit(7)));
        bytes.push(0);
        Message::decode(&bytes).unwrap_err();
        Message::decode(&[]).unwrap_err();
        // A list that claims to be as long as memory.
        Message::decode(&[9, 255, 255, 255, 255, 15]).unwrap_err();
        let late = Message::Late(vec![PageRange { memory: 0, first: 3, count: 4 }]);
        assert_eq!(Message::decode(&late.encode()), Ok(late));
    }
}
