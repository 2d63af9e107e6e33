//! Where and when tasks run: a set of tasks, finished soonest.
//!
//! Nothing here has a clock, a socket, a thread or a source of randomness. A controller gives a [`Cluster`] and tasks to
//! [`plan()`] and gets a [`Plan`]; or it tells an [`Engine`] what happens, as it happens, and polls it for what to start. The
//! simulator drives the same code.
//!
//! ```text
//! past runs --> History   seconds on a node of speed 1, and how sure --+
//! tasks, cluster ------------------------------------------------------+--> plan()   placements, each with its reason
//!                                                                      |      bounds   how much better could be done
//! arrived, ended, cancelled, joined, lost, cordoned -------------------+--> Engine   start this there, now, and why
//! ```
//! The default is late binding: a task gets its node when cores are free, longest first to have the set finished soonest,
//! smallest first for the least mean response. The thesis's two policies are here as it has them, to compare with.
//!
//! Source: seed 002 (the thesis), chapter 5, and what is wrong with its formulas: see [`genetic`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod bounds;
pub mod engine;
pub mod estimates;
pub mod genetic;
mod greedy;
mod list;
pub mod migrate;
pub mod model;
pub mod plan;
pub mod rng;
mod search;
pub mod simulate;
pub mod table;
mod timeline;
pub mod tune;
pub mod units;

pub use engine::{Action, Engine};
pub use estimates::History;
pub use model::{Busy, Cluster, Estimate, ImageId, Link, Node, NodeId, Refusal, TaskId, TaskSpec};
pub use plan::{Objective, Placement, Plan, Policy, Reason, plan};

/// Nanoseconds since the beginning of a plan, or of any clock that does not go back.
pub type Nanos = u64;
