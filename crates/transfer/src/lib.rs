//! Moving a task between two nodes: who may speak, what is said, and which of the two runs the task at any moment.
//!
//! Nothing here has a socket, a clock, a thread or a source of randomness. Machines take bytes, messages, events and
//! the time, an integer of nanoseconds that never goes back, by `handle_*`, and give messages and actions by `poll_*`.
//! The same machines are driven by an agent on Linux, by a board without an operating system, and by a simulator.
//!
//! ```text
//! bytes <-> Channel <-> Incoming/Outgoing <-> Source or Destination <-> actions of the driver
//!           Noise XX      wire                 the protocol              freeze, land, log, run
//! ```
//!
//! # A move
//! ```text
//! source                                   destination
//!   | Offer (epoch n+1) ------------------------> | admits it against memory and cores, or refuses
//!   | <------------------------------------ Accept | says whether it has the module, and pages of the task
//!   | Part(module)... --------------------------> | compiles
//!   | <------------------------------------ Landed | an instance is there whose memory can be written
//!   | Part(extra)... ---------------------------> |   what the drivers add: the log so far
//!   | Digests ----------------------------------> |   only where Accept spoke of pages that are there already
//!   | <-------------------------------------- Have |
//!   | Pages... Round(1) ------------------------> |
//!   | <--------------------------------- RoundDone |
//!   | Pages... Round(2) ------------------------> |   the task runs on all the while
//!   | <--------------------------------- RoundDone |
//!   # freeze                                      |
//!   | Pages... Part(state)... ------------------> | restores and checks everything; nothing of it runs
//!   | <---------------------------------- Prepared |
//!   | Commit -----------------------------------> # the commit point: it has logged that it owns the task
//!   | <--------------------------------- Committed | runs
//! ```
//! # Exactly one runs
//! A move claims epoch n+1. The commit point is the moment at which the destination has written to its log that it owns
//! the task at that epoch. Before the source sends `Commit`, whatever fails leaves the task running there as if nothing
//! had happened. From then on the source does not know, and says so ([`source::Phase::Unknown`]): it stays frozen and
//! asks, until the destination says that it owns the task, or that it does not and never will ([`Answer`]).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

pub mod channel;
pub mod convergence;
pub mod destination;
mod error;
pub mod identity;
pub mod journal;
pub mod message;
mod noise;
pub mod pages;
mod planes;
pub mod source;
pub mod standby;

pub use channel::{Channel, Incoming, Kind, Peer};
pub use error::{ChannelError, Violation};
pub use message::{Accept, Answer, Message, Mode, Offer, Part, Reason, Refusal, TaskId};
pub use pages::PageRange;

/// Versions of the protocol that this library speaks, both inclusive.
pub const VERSIONS: (u16, u16) = (1, 1);

/// Nanoseconds of any clock that does not go back.
pub type Nanos = u64;
