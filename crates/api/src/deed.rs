//! What users have done with tasks and nodes, and what nodes say when they are asked.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A task is to move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveRequest {
    /// The node.
    pub to: String,
}

/// A task has moved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Moved {
    /// The node where it was.
    pub from: String,
    /// The node where it is.
    pub to: String,
    /// How long it stood still, milliseconds.
    pub downtime: f64,
    /// How long it took, milliseconds.
    pub took: f64,
    /// Bytes that were sent.
    pub bytes: u64,
}

/// Labels to be set, and to be taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// To be set, each 1 to 64 characters without spaces.
    #[serde(default)]
    pub add: Vec<String>,
    /// To be taken away.
    #[serde(default)]
    pub remove: Vec<String>,
}

/// Something that runs on a node, whoever has started it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OnNode {
    /// Its name.
    pub name: String,
    /// What it does: `running`, `moving`, `exited`, `left`, ...
    pub state: String,
    /// The controller has placed it.
    pub placed: bool,
    /// Milliseconds that it has run.
    pub ran: f64,
    /// Bytes of its memories.
    pub memory: u64,
    /// Bytes that it has written.
    pub log: u64,
    /// How often it has changed nodes.
    pub epoch: u64,
    /// What it is compiled for there.
    pub target: String,
}

/// A task and its standby.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StandbyView {
    /// The task.
    pub task: String,
    /// The node where it runs.
    pub primary: String,
    /// The node where it would go on.
    pub standby: String,
    /// The node that it goes back to.
    pub home: String,
    /// The link is up.
    pub connected: bool,
    /// Complete syncs.
    pub syncs: u64,
    /// How old the standby's state is, milliseconds; none before the first sync.
    pub age: Option<f64>,
    /// How long is waited between syncs at present, milliseconds.
    pub interval: Option<f64>,
    /// Why it syncs now, or does not.
    pub why: String,
    /// Bytes of the last sync.
    pub bytes: u64,
    /// How long the task stood still for the last sync, milliseconds.
    pub pause: Option<f64>,
    /// Progress that would be lost now, milliseconds of the task's run time.
    pub loss: f64,
    /// Bytes per second of the link, as far as is known.
    pub bandwidth: Option<u64>,
    /// How long the link takes, one way, milliseconds.
    pub delay: Option<f64>,
}

/// A task is to have standbys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProtectRequest {
    /// The nodes, nearest first.
    #[schema(min_items = 1, max_items = 8)]
    pub standbys: Vec<String>,
}
