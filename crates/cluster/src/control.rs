//! What users ask of an agent, and what it answers: by this machine's socket, or from another node.

use crate::peers::Peer;
use crate::protection::{Pair, Protect};
use crate::restart::Restarted;
use crate::spec::Spec;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use wayfare_transfer::TaskId;
use wayfare_transfer::message::Mode;
use wayfare_transfer::source::{Phase, Progress, Source};

/// A question.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Request {
    /// Start a task.
    Run {
        /// Which; its identity, module and times are the agent's to set.
        spec: Spec,
    },
    /// Start a task as it is: its identity and its module's digest are the asker's. The same once more finds it.
    Launch {
        /// Which.
        spec: Spec,
        /// Not from its beginning: a snapshot is sent after the module.
        #[serde(default)]
        resumes: bool,
    },
    /// The tasks.
    List,
    /// What has become of the tasks that a controller has placed: when something has changed since, or after a while.
    Changes {
        /// The count of changes that was answered last; 0 for an answer at once.
        seen: u64,
    },
    /// What a task has written.
    Logs {
        /// Which.
        name: String,
        /// And what it will.
        follow: bool,
    },
    /// Stop a task.
    Stop {
        /// Which.
        name: String,
    },
    /// Forget a task that is over.
    Remove {
        /// Which.
        name: String,
    },
    /// Move a task.
    Migrate {
        /// How.
        order: Order,
    },
    /// Write a snapshot of a task.
    Capture {
        /// Which.
        name: String,
        /// The file, absolute.
        output: String,
        /// Whether it runs on.
        keep_running: bool,
    },
    /// Send a snapshot of a task that runs on: the answer is `Snapshot`, and its bytes.
    Snapshot {
        /// Which.
        name: String,
    },
    /// What a task takes at present: the answer is `Sampled`, after a moment.
    Sample {
        /// Which.
        name: String,
    },
    /// What a controller wants to know of a node once: the answer is `Profile`.
    Profile,
    /// Send so many bytes, at most [`PROBE_MAX`], so that the asker sees how fast they come: the answer is `Probe`.
    Probe {
        /// How many.
        bytes: u32,
    },
    /// Decide what became of a task that may be on another node.
    Resolve {
        /// Which.
        name: String,
        /// Whether it is to go on here.
        here: bool,
    },
    /// Give a task a standby.
    Protect {
        /// How.
        order: Protect,
    },
    /// Take a task's standby away.
    Unprotect {
        /// Which.
        name: String,
    },
    /// The tasks that have a standby, and those whose standby the node is.
    Protected,
    /// Have a task's standby take over.
    Failover {
        /// Which.
        name: String,
        /// Only where the standby is the task's home.
        back: bool,
    },
    /// The nodes that are known.
    Nodes,
    /// Ask another node.
    At {
        /// Which.
        node: String,
        /// What.
        request: Box<Request>,
    },
}

impl Request {
    /// The task that it is about, and that may have moved on.
    pub fn task(&self) -> Option<&str> {
        match self {
            Request::Logs { name, .. } | Request::Stop { name } => Some(name),
            Request::Snapshot { name } | Request::Sample { name } => Some(name),
            Request::Unprotect { name } | Request::Failover { name, .. } => Some(name),
            Request::Migrate { order } => Some(&order.name),
            Request::Protect { order } => Some(&order.name),
            _ => None,
        }
    }

    /// Whether it may come from another node: what has to do with files may not.
    pub fn is_for_others(&self) -> bool {
        matches!(
            self,
            Request::List
                | Request::Launch { .. }
                | Request::Changes { .. }
                | Request::Logs { .. }
                | Request::Snapshot { .. }
                | Request::Sample { .. }
                | Request::Profile
                | Request::Probe { .. }
                | Request::Stop { .. }
                | Request::Remove { .. }
                | Request::Migrate { .. }
                | Request::Resolve { .. }
                | Request::Protect { .. }
                | Request::Unprotect { .. }
                | Request::Protected
                | Request::Failover { .. }
                | Request::Nodes
        )
    }
}

/// A task, for a listing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TaskInfo {
    /// What it is.
    #[serde(flatten)]
    pub spec: Spec,
    /// What it is doing.
    #[serde(flatten)]
    pub state: State,
    /// What it is compiled for there, by the target's short name.
    pub target: String,
    /// Its epoch.
    pub epoch: u64,
    /// Nanoseconds that it has run.
    pub ran: u64,
    /// Bytes of its memories.
    pub memory: u64,
    /// Bytes that it has written.
    pub log_bytes: u64,
}

/// A task, for whoever follows what becomes of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Brief {
    /// Its identity.
    pub id: TaskId,
    /// Its name.
    pub name: String,
    /// Its epoch: how often it has changed nodes.
    pub epoch: u64,
    /// What it is doing.
    #[serde(flatten)]
    pub state: State,
}

/// Most tasks in an answer.
pub const BRIEFS: usize = 128;

/// Most programs that a node names.
pub const IMAGES: usize = 512;

/// Most bytes of a probe: they must go into one message.
pub const PROBE_MAX: u32 = 48 << 10;

/// What a task takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Bytes of its memories.
    pub memory: u64,
    /// Of these, those in pages that are not as they were at first: what a move would send. None where that cannot be seen.
    #[serde(default)]
    pub touched: Option<u64>,
    /// Bytes of its memory that it has written to in a second, by whole pages; none where that cannot be seen: it moves, or its kernel
    /// does not note writes.
    pub dirty: Option<f64>,
    /// Processors that it keeps busy, 0 to 1; none where the kernel does not say.
    pub busy: Option<f64>,
    /// Nanoseconds that it has run.
    pub ran: u64,
}

/// A node, for a listing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Which.
    #[serde(flatten)]
    pub peer: Peer,
    /// Whether it is the one that answers.
    pub this: bool,
    /// Bytes of memory that tasks could take now, of the one that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<u64>,
    /// That it was reset because it had failed, if the one that answers was told so: the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted: Option<Restarted>,
    /// Processors, of the one that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processors: Option<u32>,
    /// What it has for tasks, of the one that answers: hundredths of processors, and bytes of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<(u32, u64)>,
}

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "lowercase")]
pub enum Reply {
    /// It is done.
    Done,
    /// It runs.
    Started {
        /// Under this name.
        name: String,
    },
    /// The tasks.
    Tasks {
        /// All of them.
        tasks: Vec<TaskInfo>,
    },
    /// What has become of the tasks.
    Changes {
        /// The count of changes.
        seen: u64,
        /// Tasks, as many as there is room for; those that are over first.
        tasks: Vec<Brief>,
        /// There are more.
        more: bool,
    },
    /// The nodes.
    Nodes {
        /// All of them.
        nodes: Vec<NodeInfo>,
    },
    /// Tasks and their standbys.
    Protected {
        /// As this node sees them.
        pairs: Vec<Pair>,
    },
    /// The log's bytes follow, to the end of the connection.
    Log,
    /// A snapshot's bytes follow, and then those of the log that belongs to it.
    Snapshot {
        /// Bytes of the snapshot.
        snapshot: u64,
        /// Bytes of the log.
        log: u64,
    },
    /// What the task takes.
    Sampled {
        /// In figures.
        sample: Sample,
    },
    /// What the node is good for.
    Profile {
        /// How many times as fast as a node of speed 1 it runs tasks.
        speed: f64,
        /// Programs that need not be sent: the first eight bytes of their digests, as a number. The latest, [`IMAGES`] at most.
        images: Vec<u64>,
    },
    /// The bytes that were asked for.
    Probe {
        /// As many characters.
        filler: String,
    },
    /// A move goes on.
    Moving {
        /// How.
        line: Line,
    },
    /// It has moved.
    Moved {
        /// How that went.
        report: Report,
    },
    /// The task has moved on: ask there.
    Elsewhere {
        /// Which node.
        node: String,
    },
    /// It could not be done.
    Failed {
        /// Why.
        error: String,
    },
}

/// What a task is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    /// It runs.
    Running,
    /// It runs, and is on its way to another node.
    Moving {
        /// Which.
        to: String,
    },
    /// It stands still: the other node may have it, and does not answer.
    Unknown {
        /// Which.
        to: String,
        /// The epoch at which it may have it.
        claimed: u64,
    },
    /// It ended by itself.
    Exited {
        /// With this status.
        status: u32,
    },
    /// It trapped.
    Trapped {
        /// How.
        why: String,
    },
    /// It was stopped.
    Stopped {
        /// By whom or what.
        why: String,
    },
    /// It is on another node.
    Left {
        /// Which.
        to: String,
        /// It is on the disk there. Until then it is kept here as it was when it left, and goes on here if it is lost.
        saved: bool,
    },
    /// It cannot go on here.
    Failed {
        /// Why.
        why: String,
    },
}

impl State {
    /// Whether it may still run here.
    pub fn is_alive(&self) -> bool {
        matches!(self, State::Running | State::Moving { .. } | State::Unknown { .. })
    }

    /// Whether it may run here yet, now or again: its name is not to be had.
    pub fn holds_name(&self) -> bool {
        self.is_alive() || matches!(self, State::Left { saved: false, .. })
    }
}

/// How to move a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The task's name.
    pub name: String,
    /// The node's name.
    pub to: String,
    /// How memory comes along.
    pub mode: Mode,
    /// The bound on the downtime, nanoseconds.
    pub max_downtime: u64,
    /// Whether to leave the task where it is if the bound cannot be kept.
    pub give_up: bool,
    /// Bytes per second, at most.
    pub limit: Option<u64>,
    /// Connections that pages go by, at most eight.
    pub streams: u8,
}

/// A line of progress.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// What is being done.
    pub phase: String,
    /// How far it is.
    #[serde(flatten)]
    pub progress: Progress,
}

impl Line {
    /// How far a source is; `connected` is false while it has no link.
    pub fn of(source: &Source, connected: bool) -> Line {
        let phase = match source.phase() {
            Phase::Offering | Phase::Offered => "offering",
            Phase::Module(_) => "sending the program",
            Phase::Landing => "compiling there",
            Phase::Extra(_) | Phase::Digesting => "comparing",
            Phase::Copying | Phase::Round => "copying",
            Phase::Clearing => "making room for what comes late",
            Phase::Freezing | Phase::Final(_) | Phase::Preparing => "switching",
            Phase::Unknown => "waiting for the word that it runs there",
            Phase::Draining if !connected => "LINK LOST: it runs there without the pages that are still here",
            Phase::Draining => "sending late pages",
            Phase::Keeping => "kept until it is on the disk there",
            Phase::Done => "done",
            Phase::Failed(_) => "failed",
        };
        Line { phase: phase.into(), progress: source.progress() }
    }
}

/// How a move went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The last line.
    pub last: Line,
    /// From the moment at which the task stood still to the word that it runs there, nanoseconds.
    pub downtime: u64,
    /// Until it runs there with all of its pages, nanoseconds.
    pub total: u64,
    /// Round-trip time of the link, nanoseconds.
    pub rtt: u64,
    /// Bytes of all that is not memory and went while the task stood still.
    pub state_bytes: u64,
    /// Bytes of the last pages, packed, which went then too.
    pub last_bytes: u64,
}
