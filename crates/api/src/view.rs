//! What the controller shows.

use crate::task::Objective;
use serde::{Deserialize, Serialize};

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// It has no node yet.
    Waiting,
    /// Its node was told to start it.
    Starting,
    /// It runs.
    Running,
    /// It has ended with status 0.
    Succeeded,
    /// It has ended otherwise, or cannot be run.
    Failed,
    /// Nobody wanted it any more.
    Cancelled,
}

impl TaskState {
    /// Nothing becomes of it any more.
    pub fn is_over(self) -> bool {
        matches!(self, TaskState::Succeeded | TaskState::Failed | TaskState::Cancelled)
    }

    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            TaskState::Waiting => "waiting",
            TaskState::Starting => "starting",
            TaskState::Running => "running",
            TaskState::Succeeded => "succeeded",
            TaskState::Failed => "failed",
            TaskState::Cancelled => "cancelled",
        }
    }
}

/// A task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskView {
    /// Its name.
    pub name: String,
    /// The set it belongs to.
    pub set: String,
    /// Whose it is: a token's name.
    pub owner: String,
    /// Its program's digest.
    pub image: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Processors.
    pub cores: f64,
    /// Bytes of memory.
    pub memory: u64,
    /// Its priority.
    pub priority: i32,
    /// Where it stands.
    pub state: TaskState,
    /// The node where it is, or was.
    pub node: Option<String>,
    /// Why there; or why it waits, or has failed.
    pub why: String,
    /// How often it was started, from its beginning or not.
    pub attempt: u32,
    /// Seconds that it was thought to run when it was started, on that node.
    pub estimate: Option<f64>,
    /// When it was submitted, started and over, milliseconds since 1970.
    pub submitted: u64,
    /// See `submitted`.
    pub started: Option<u64>,
    /// See `submitted`.
    pub ended: Option<u64>,
    /// The status it ended with, if it did by itself.
    pub status: Option<u32>,
}

/// A set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetView {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub owner: String,
    /// What it is to be good at.
    pub objective: Objective,
    /// Its tasks, and how many of them stand where.
    pub total: u64,
    /// See `total`.
    pub waiting: u64,
    /// Starting, or running.
    pub running: u64,
    /// See `total`.
    pub succeeded: u64,
    /// See `total`.
    pub failed: u64,
    /// See `total`.
    pub cancelled: u64,
    /// When it was submitted, milliseconds since 1970.
    pub submitted: u64,
    /// When the last of its tasks was over, if all are.
    pub ended: Option<u64>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// The instruction set.
    pub isa: String,
    /// `ready`, `cordoned` or `lost`.
    pub state: String,
    /// Processors for tasks.
    pub cores: f64,
    /// Bytes of memory for tasks.
    pub memory: u64,
    /// Of these, what tasks of the controller have.
    pub cores_taken: f64,
    /// See `cores_taken`.
    pub memory_taken: u64,
    /// Tasks of the controller there.
    pub tasks: u64,
    /// What its owner says about it.
    pub labels: Vec<String>,
    /// How many milliseconds ago it was heard.
    pub heard: Option<u64>,
}

/// A set was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The set.
    pub set: String,
    /// Its tasks.
    pub tasks: u64,
}

/// Something has changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Event {
    /// A task stands elsewhere than before.
    Task {
        /// Milliseconds since 1970.
        at: u64,
        /// Which.
        name: String,
        /// Its set.
        set: String,
        /// Where it stands.
        state: TaskState,
        /// Its node.
        node: Option<String>,
    },
    /// A node does.
    Node {
        /// Milliseconds since 1970.
        at: u64,
        /// Which.
        name: String,
        /// `ready`, `cordoned` or `lost`.
        state: String,
    },
}
