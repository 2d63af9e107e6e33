//! What the core is told, and what it has done: everything that happens to a controller comes as a [`Command`], and everything that
//! it does to nodes goes as a [`Deed`].

use super::{Candidate, Order, Usages};
use crate::metrics::Counts;
use crate::store::Token;
use crate::trace::Place;
use std::time::Duration;
use tokio::sync::oneshot;
use wayfare_api::{
    Accepted, DestinationView, Moment, Moved, NodeView, Problem, SetRequest, SetView, SnapshotView, TaskState, TaskView,
};
use wayfare_cluster::control::{Brief, NodeInfo, Sample};
use wayfare_node::snapshots::Kept;
use wayfare_transfer::TaskId;

/// Where an answer goes.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, Problem>>;

/// Something happens.
pub(crate) enum Command {
    Submit {
        owner: String,
        set: SetRequest,
        place: Place,
        answer: Answer<Accepted>,
    },
    Cancel {
        name: String,
        answer: Answer<()>,
    },
    Remove {
        name: String,
        answer: Answer<u64>,
    },
    Task {
        name: String,
        answer: Answer<TaskView>,
    },
    /// Where its log is: its number, by which that is kept once it is over, and its node.
    Log {
        name: String,
        answer: Answer<(u64, Option<String>)>,
    },
    Tasks {
        set: Option<String>,
        state: Option<TaskState>,
        answer: Answer<Vec<TaskView>>,
    },
    Set {
        name: String,
        answer: Answer<SetView>,
    },
    Sets {
        answer: Answer<Vec<SetView>>,
    },
    /// What became of a task.
    History {
        name: String,
        answer: Answer<Vec<Moment>>,
    },
    /// Where a task is that is to move, and whether it has a standby: refused if the node cannot have it.
    MayMove {
        name: String,
        to: String,
        answer: Answer<(String, bool)>,
    },
    /// A task has moved because the controller has asked for it.
    Carried {
        name: String,
        moved: Moved,
    },
    /// A task that was to move stays where it is.
    Stayed {
        name: String,
    },
    /// A task for which a move might pay has been looked at, if it could be.
    Weighed {
        candidate: Candidate,
        sample: Option<Sample>,
    },
    /// Where a task could move to, and what that would cost, if it takes so much.
    Destinations {
        name: String,
        sample: Option<Sample>,
        answer: Answer<Vec<DestinationView>>,
    },
    /// A snapshot of a task is to be made; the answer comes when it is there.
    Snapshot {
        name: String,
        answer: Answer<SnapshotView>,
    },
    /// What became of that: how many bytes it has, or why there is none.
    SnapshotMade {
        order: Box<Order>,
        made: Result<u64, String>,
    },
    Snapshots {
        name: String,
        answer: Answer<Vec<SnapshotView>>,
    },
    SnapshotFiles {
        id: u64,
        answer: Answer<(Kept, SnapshotView)>,
    },
    RemoveSnapshot {
        id: u64,
        answer: Answer<()>,
    },
    /// A new task goes on from a snapshot.
    Resume {
        owner: String,
        id: u64,
        name: String,
        place: Place,
        answer: Answer<Accepted>,
    },
    /// How many tasks stand where.
    Counts {
        answer: Answer<Counts>,
    },
    PutToken {
        token: Token,
        answer: Answer<()>,
    },
    EndToken {
        name: String,
        answer: Answer<()>,
    },
    PutShare {
        name: String,
        share: f64,
        answer: Answer<()>,
    },
    /// Who has how much of the cluster.
    Usages {
        answer: Answer<Usages>,
    },
    Nodes {
        answer: Answer<Vec<NodeView>>,
    },
    Node {
        name: String,
        answer: Answer<NodeView>,
    },
    /// A node is to be forgotten: nothing new begins there.
    PrepareRemoval {
        name: String,
        answer: Answer<()>,
    },
    RemoveNode {
        name: String,
        answer: Answer<()>,
    },
    /// What a plan for a set is made of.
    Scene {
        set: SetRequest,
        answer: Answer<crate::plan::Scene>,
    },
    Cordon {
        node: String,
        cordoned: bool,
        answer: Answer<()>,
    },
    Label {
        node: String,
        add: Vec<String>,
        remove: Vec<String>,
        answer: Answer<()>,
    },
    /// Nodes are to come: they have their labels as soon as they do.
    Expect {
        nodes: Vec<wayfare_api::NodeWish>,
        answer: Answer<()>,
    },
    /// Where tasks of a node could go that is drained.
    Drain {
        node: String,
        answer: Answer<Vec<Leaving>>,
    },
    /// A node is there, with so much room.
    Joined {
        info: NodeInfo,
    },
    /// What a node has, asked again; and how long that took.
    Looked {
        info: NodeInfo,
        rtt: Duration,
    },
    /// What was measured of it.
    Measured {
        node: String,
        survey: Survey,
    },
    /// What it says of its tasks; `all` if that is all of them.
    Heard {
        node: String,
        tasks: Vec<Brief>,
        all: bool,
    },
    /// Nothing is heard of it any more.
    Lost {
        node: String,
    },
    /// What became of the word to start a task.
    Launched {
        id: TaskId,
        number: u64,
        result: Start,
    },
    /// A task has got a standby because somebody has asked for it, or has none any more.
    Guarded {
        name: String,
        standby: Option<String>,
    },
    /// A task has got a standby, or not.
    Protected {
        id: TaskId,
        number: u64,
        standby: String,
        result: Result<(), String>,
    },
    /// The log of a task that has ended is here.
    Collected {
        id: TaskId,
    },
    /// Time passes.
    Tick,
}

/// What was measured of a node.
#[derive(Default)]
pub(crate) struct Survey {
    pub(crate) speed: Option<f64>,
    /// The first bytes of digests.
    pub(crate) images: Option<Vec<u64>>,
    pub(crate) bandwidth: Option<f64>,
}

/// A task that is to leave its node.
pub(crate) struct Leaving {
    pub(crate) name: String,
    /// A node with room.
    pub(crate) to: String,
    /// It has a standby, which is taken away first.
    pub(crate) guarded: bool,
}

/// What became of the word to start a task.
pub(crate) enum Start {
    Done,
    /// The node has not, and says why.
    Refused(String),
    /// The node does not answer: it may have.
    Unheard(String),
}

/// Something to do on a node.
pub(crate) enum Deed {
    Launch {
        node: String,
        number: u64,
        task: Box<wayfare_cluster::spec::Spec>,
        /// A snapshot that it goes on from.
        from: Option<Kept>,
    },
    /// A task is looked at, for which a move might pay.
    Weigh(Candidate),
    /// A task moves because that pays.
    Move {
        name: String,
        from: String,
        to: String,
    },
    /// A snapshot is made.
    Snapshot(Box<Order>),
    Stop {
        node: String,
        name: String,
    },
    /// Its log is fetched, and it is forgotten there.
    Collect {
        node: String,
        id: TaskId,
        name: String,
        number: u64,
    },
    /// It gets a standby.
    Protect {
        node: String,
        id: TaskId,
        number: u64,
        name: String,
        standby: String,
    },
    /// It goes on elsewhere, or has: it is stopped and forgotten there.
    Discard {
        node: String,
        name: String,
    },
}

impl Deed {
    /// The task's name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Deed::Launch { task, .. } => &task.name,
            Deed::Weigh(candidate) => &candidate.name,
            Deed::Snapshot(order) => &order.name,
            Deed::Move { name, .. }
            | Deed::Stop { name, .. }
            | Deed::Collect { name, .. }
            | Deed::Protect { name, .. }
            | Deed::Discard { name, .. } => name,
        }
    }
}

/// Something to do, and the span of doing it.
pub(crate) type Doing = (Deed, tracing::Span);
