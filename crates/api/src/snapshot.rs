//! Snapshots of tasks that the controller keeps, what a task takes, and where it could move.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A snapshot that the controller keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotView {
    /// Its number: no other snapshot of this controller has it, or will.
    pub id: u64,
    /// The task.
    pub task: String,
    /// The node that the task ran on.
    pub node: String,
    /// When it was made, milliseconds since 1970.
    pub at: u64,
    /// Bytes of its file.
    pub bytes: u64,
    /// Seconds of the task's work, on a node of speed 1, that are in it.
    pub done: f64,
    /// Somebody has asked for it; else it was made because the task's order says so, and goes when two later ones are there.
    pub by_hand: bool,
}

/// A task is to go on from a snapshot, under another name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResumeRequest {
    /// The name.
    #[schema(min_length = 1, max_length = 48, pattern = "^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
    pub name: String,
}

/// What a task takes at present.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageView {
    /// When it was looked at, milliseconds since 1970.
    pub at: u64,
    /// Bytes of its memories.
    pub memory: u64,
    /// Bytes of its memory that it writes to in a second, by whole pages; none where that cannot be seen, as while it moves.
    pub dirty: Option<f64>,
    /// Processors that it keeps busy, 0 to 1.
    pub busy: Option<f64>,
    /// Milliseconds that it has run on its node.
    pub ran: f64,
}

/// A node that a task could move to, or could not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DestinationView {
    /// The node.
    pub node: String,
    /// Why the task cannot move there now; none if it can.
    pub refused: Option<String>,
    /// How long the move would take, milliseconds, as far as the task and the link are known.
    pub took: Option<f64>,
    /// How long the task would stand still, milliseconds.
    pub downtime: Option<f64>,
    /// Seconds by which the task would end sooner (or, if negative, later) there, all told.
    pub gain: Option<f64>,
}
