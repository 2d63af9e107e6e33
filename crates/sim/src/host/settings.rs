//! What hosts differ in: how long things take there, and what they refuse.

use crate::clock::{MICRO, MILLI, Nanos, SECOND};

/// How long things take at a host, and what it refuses.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of memory that a task may have here.
    pub memory: u64,
    /// Until a record is durable.
    pub log: Nanos,
    /// Until a task stands still.
    pub freeze: Nanos,
    /// Until an instance is made.
    pub land: Nanos,
    /// Until a state is restored and checked.
    pub prepare: Nanos,
    /// Between checkpoints.
    pub checkpoint: Nanos,
    /// After so long without a word a connection counts as broken. A sign of life goes out four times as often.
    pub idle: Nanos,
    /// Between two tries to reach somebody.
    pub retry: Nanos,
    /// Whether a task can run here before all of its pages have come.
    pub can_be_late: bool,
    /// The next instance, or state, cannot be had.
    pub fails: Option<Fails>,
}

/// What fails once at a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fails {
    /// Admission.
    Admit,
    /// The instance.
    Land,
    /// The state.
    Prepare,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            memory: 1 << 30,
            log: 200 * MICRO,
            freeze: 100 * MICRO,
            land: 2 * MILLI,
            prepare: 500 * MICRO,
            checkpoint: 100 * MILLI,
            idle: SECOND,
            retry: 50 * MILLI,
            can_be_late: true,
            fails: None,
        }
    }
}
