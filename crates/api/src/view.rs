//! What the controller shows.

use crate::task::Objective;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// It has no node yet.
    Waiting,
    /// Its node was told to start it.
    Starting,
    /// It runs.
    Running,
    /// It runs, and is on its way to another node.
    Moving,
    /// It has ended with status 0.
    Succeeded,
    /// It has ended otherwise, or cannot be run.
    Failed,
    /// Nobody wanted it any more.
    Cancelled,
}

impl TaskState {
    /// All.
    pub const ALL: [TaskState; 7] = [
        TaskState::Waiting,
        TaskState::Starting,
        TaskState::Running,
        TaskState::Moving,
        TaskState::Succeeded,
        TaskState::Failed,
        TaskState::Cancelled,
    ];

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
            TaskState::Moving => "moving",
            TaskState::Succeeded => "succeeded",
            TaskState::Failed => "failed",
            TaskState::Cancelled => "cancelled",
        }
    }
}

/// A task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
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
    /// The node that it is on its way to.
    pub to: Option<String>,
    /// The node where it has a warm standby.
    pub standby: Option<String>,
    /// It was given to another node than the controller's.
    pub offloaded: bool,
    /// It needs a GPU.
    pub gpu: bool,
    /// Labels that its node must have.
    pub labels: Vec<String>,
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
    /// The snapshot that it went on from when it was started last; none if it began at its beginning.
    pub snapshot: Option<u64>,
    /// Seconds from one snapshot to the next, if any are made by themselves.
    pub snapshot_every: Option<f64>,
}

/// A set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
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
    /// Where it listens for other nodes.
    pub address: String,
    /// It has no operating system: tasks move there, and none begins there.
    pub bare: bool,
    /// The controller is there.
    pub controller: bool,
    /// Bytes of memory that tasks could take now, by its own word.
    pub free: Option<u64>,
    /// How long a question of the controller and its answer take, milliseconds.
    pub rtt: Option<f64>,
    /// How many times as fast as a node of speed 1 it runs tasks; none until that was measured.
    pub speed: Option<f64>,
    /// Bytes per second from there to the controller, as far as has been seen.
    pub bandwidth: Option<u64>,
}

/// Something that became of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Moment {
    /// When, milliseconds since 1970.
    pub at: u64,
    /// Where it has stood since.
    pub state: TaskState,
    /// On which node.
    pub node: Option<String>,
    /// Why.
    pub why: String,
    /// How often it had been started.
    pub attempt: u32,
}

/// A set was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    /// The set.
    pub set: String,
    /// Its tasks.
    pub tasks: u64,
}

/// Something has changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Event {
    /// A task.
    Task {
        /// When, milliseconds since 1970.
        at: u64,
        /// As it is now.
        task: TaskView,
    },
    /// A task was removed.
    Removed {
        /// When, milliseconds since 1970.
        at: u64,
        /// Its name.
        name: String,
        /// The set it belonged to.
        set: String,
    },
    /// A node.
    Node {
        /// When, milliseconds since 1970.
        at: u64,
        /// As it is now.
        node: NodeView,
    },
    /// A node was removed.
    Gone {
        /// When, milliseconds since 1970.
        at: u64,
        /// Its name.
        name: String,
    },
}

impl Event {
    /// What it is, as listeners choose by.
    pub fn kind(&self) -> &'static str {
        match self {
            Event::Task { .. } => "task",
            Event::Removed { .. } => "removed",
            Event::Node { .. } => "node",
            Event::Gone { .. } => "gone",
        }
    }
}
