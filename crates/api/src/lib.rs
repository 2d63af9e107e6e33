//! What users say to the controller, and what it answers: the types of the HTTP API, shared by the controller, the command line
//! and whoever writes a client. What comes from outside is read here, into types, and checked; whoever has one of these has
//! one that can be used.

mod access;
mod deed;
mod machine;
mod plan;
mod problem;
mod snapshot;
mod task;
mod view;

pub use access::{Role, SHARES, ShareRequest, SignIn, TokenMade, TokenRequest, TokenView, WhoView};
pub use deed::{Labels, MoveRequest, Moved, OnNode, ProtectRequest, StandbyView};
pub use machine::{
    INVITED_MAX, Invitation, InviteRequest, LABELS_MAX, Label, NodeWish, UnikernelView, check_label, check_node_name,
};
pub use plan::{NODES_MAX, NodeRequest, PlanNode, PlanPolicy, PlanRequest, PlanView, PlannedTask, RefusedTask, Taken};
pub use problem::{Problem, Wrong, read};
pub use snapshot::{DestinationView, ResumeRequest, SnapshotView, UsageView};
pub use task::{Objective, SetRequest, TaskRequest, check_name};
pub use view::{Accepted, Event, Moment, NodeView, SetView, TaskState, TaskView};

/// Longest body of a request, bytes.
pub const BODY_MAX: usize = 16 << 20;
/// Most tasks in a set, each counted as often as it is to run.
pub const SET_MAX: usize = 100_000;
