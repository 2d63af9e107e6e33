//! Standbys in simulated time: what the policies of `wayfare-policy` cost on links that are made up or were recorded.
//!
//! ```text
//! condition ─┐
//!            ├─> Course ──> run ──> Outcome ──> judge, table, plot
//! csv ───────┘   1 s each    │
//!                            └── Keeper: a Synchroniser, as a node drives it, or the Oracle
//! ```
//! # The model
//! A task works without pause on a server. Its standby has the state of the last complete sync. A sync that begins when
//! the task is x ahead of that carries 1 + 64 (1 - exp(-x / 10 min)) MB over all that the link gives, and is complete
//! after that and a round trip. When the link breaks, a sync under way is lost, and the standby has to recompute what it
//! lacks: that is the loss, in minutes of progress. When the link returns, both sides have the same state again.
//! The cost is J = syncs begun x c + minutes lost; see [`judge`].
//!
//! Source: seed 002, sections 3.3 and 4.2; its traces are not published, so [`condition`] describes our own.

pub mod condition;
pub mod course;
pub mod judge;
pub mod oracle;
pub mod plot;
pub mod run;
pub mod table;
pub mod training;
pub mod verdict;

pub use condition::Condition;
pub use course::{Course, CsvError, Hidden, Point};
pub use run::{Event, Keeper, Outcome, run};

/// Seeds that parameters may be fitted on.
pub const TUNING: std::ops::Range<u64> = 1_000_000..1_010_000;
/// Seeds that figures are taken from, and that nothing was ever fitted on.
pub const HELD_OUT: std::ops::Range<u64> = 5_000_000..5_010_000;
