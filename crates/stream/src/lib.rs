//! Connections that outlive a move: the bookkeeping of byte streams between the node that owns a client's connection
//! (the *ingress*) and the node where the task is, which changes. The client sees a pause, never a reset, and no byte
//! is lost or doubled.
//!
//! There is no input or output and no clock here. [`IngressEnd`] is one side, for all clients of one task; [`TaskEnd`]
//! is the other, and part of the task's state. A driver carries their [`Segment`]s over a channel:
//! ```
//! use wayfare_stream::{Event, IngressEnd, Segment, TaskEnd};
//!
//! let (mut ingress, mut task) = (IngressEnd::new(100), TaskEnd::new(100));
//! ingress.open(7, "192.0.2.1:40000")?;
//! ingress.write(7, b"request");
//! // A fresh channel:
//! ingress.attached();
//! task.attached();
//! let carry = |ingress: &mut IngressEnd, task: &mut TaskEnd| {
//!     while let Some(segment) = ingress.poll_transmit() {
//!         task.handle(Segment::decode(&segment.encode()).expect("what was encoded")).expect("an answer is taken");
//!     }
//!     while let Some(segment) = task.poll_transmit() {
//!         ingress.handle(segment).expect("an answer is taken");
//!     }
//! };
//! carry(&mut ingress, &mut task);
//!
//! let (stream, mut buf) = (task.accept().expect("a client"), [0; 100]);
//! assert_eq!(task.recv(stream, &mut buf, false)?, 7);
//! task.send(stream, b"ans")?;
//!
//! // The task moves with half an answer on its way. The channel goes, and what was in it:
//! let mut task = TaskEnd::thaw(&task.freeze(), 100)?;
//! ingress.attached();
//! task.attached();
//! task.send(stream, b"wer")?;
//! task.close(stream);
//! carry(&mut ingress, &mut task);
//! assert_eq!(ingress.read(7, &mut buf)?, 6);
//! assert_eq!(ingress.read(7, &mut buf)?, 0); // the end: shut the client's connection down for writing
//! assert_eq!(ingress.poll_event(), Some(Event::Closed(7)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What the driver must see to
//! - **A channel** delivers whole segments in order and without loss until it breaks. When it breaks, drop everything
//!   that is in it, in both directions, *before* [`IngressEnd::attached`] and [`TaskEnd::attached`] are called for the
//!   next one.
//! - **A channel is bound to an epoch of the task.** Segments carry none. When a move has been committed, the ingress
//!   takes no channel of an older epoch any more and reads nothing more from the one it has; otherwise a copy of the
//!   task that should have stopped could answer clients. What such a copy still says goes nowhere.
//! - **Freezing** ([`TaskEnd::freeze`]) comes after the guest has stopped and before it runs again anywhere. Only what the
//!   guest does counts: segments handled or sent after it change nothing that the copy needs, so that the channel may
//!   stay up until the commit, and the task may go on here if the move fails.
//! - **Identities** are chosen by the ingress and never used again. One pair of ends has one channel and one queue of
//!   new connections: a task with several listeners, or clients at several ingresses, has a pair for each.
//! - **Going back to an older state** of a task (after a crash) is no move: what clients have sent since may
//!   be acknowledged, and what they have received the older task does not know of. Both are found out by their offsets
//!   when the ends attach, and such a stream is reset; one on which nothing has happened since goes on.
//! - **A standby** is prepared for that ([`Mark`]): the ingress keeps what the task has consumed since the last state that
//!   is safe elsewhere ([`IngressEnd::keep`], [`IngressEnd::release`]). When the task goes on from that state
//!   ([`TaskEnd::thaw_behind`], [`IngressEnd::go_back`]), it reads all that once more, in the order of the clients'
//!   coming, also from those who have left since; what it answers once more is compared with what the clients have got,
//!   and not given to them again. A stream on which it says something else is reset: no client hears two stories.
//!
//! # Why it holds
//! Bytes have offsets, counted from the start of the stream in each direction; the end of a direction has the offset
//! after the last byte. What has been sent is kept until the other side has *consumed* it: until the guest has read it,
//! or the client's driver has taken it. So a receiver may lose everything unread at any time, as it does in a move
//! ([`TaskEnd::freeze`] writes none of it), and the sender's bound ([`WINDOW`]) is the receiver's too, without any
//! further flow control. On a fresh channel both sides say again all that they are not sure the other has understood;
//! what is known already is recognised by its offset. The task's side of a stream is forgotten only once the ingress has
//! forgotten its own: so a [`Segment::Open`] for a stream that is unknown there is a new client, always.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod codec;
mod freeze;
mod half;
mod ingress;
mod mark;
pub mod ports;
mod segment;
mod task;
mod turns;

pub use codec::DecodeError;
pub use ingress::{Event, IngressEnd, OpenError};
pub use mark::Mark;
pub use segment::Segment;
pub use task::TaskEnd;

/// Most bytes of one direction of one stream that are kept at a time: sent and not consumed, or received and not
/// consumed.
pub const WINDOW: usize = 256 << 10;
/// Most bytes in one [`Segment::Data`].
pub const SEGMENT_MAX: usize = 64 << 10;
/// Longest text of a client's address.
pub const PEER_MAX: usize = 64;
/// Most streams of one end, whatever it is made with.
pub const STREAMS_MAX: usize = 65_536;
/// Offsets end here, far beyond what any connection carries, so that sums of them do not overflow.
const OFFSET_MAX: u64 = 1 << 62;

/// Why a stream gives or takes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StreamError {
    /// Not now.
    WouldBlock,
    /// The other side is gone, or has done what no other side does.
    Reset,
    /// This direction has been shut down here.
    Closed,
    /// There is no such stream, or not any more.
    Unknown,
}

impl core::fmt::Display for StreamError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::WouldBlock => "not ready",
            Self::Reset => "reset by the other side",
            Self::Closed => "shut down for writing",
            Self::Unknown => "no such stream",
        })
    }
}

impl core::error::Error for StreamError {}

/// The other side asks for more answers than it takes. Drop the channel; on the next one nothing of this matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overrun;

impl core::fmt::Display for Overrun {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the other side sends and does not receive")
    }
}

impl core::error::Error for Overrun {}
