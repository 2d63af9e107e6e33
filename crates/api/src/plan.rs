//! Plans: what would go where and when, without doing it.

use crate::problem::Wrong;
use crate::task::{Objective, SetRequest};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use utoipa::ToSchema;

/// What may decide in a plan, for the API's description: the names are read by whoever makes plans.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
pub enum PlanPolicy {
    /// As the controller does.
    List,
    /// All on the controller's node.
    Local,
    /// There while there is room, else where most memory is free.
    MemoryFirst,
    /// Least sum of response times, by genetic algorithm.
    MbctGa,
    /// Each where it ends soonest.
    EarliestFinish,
    /// That, and then better by moves and swaps.
    LocalSearch,
}

/// A set that somebody wants to have planned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// The set, as it would be submitted; its programs need not be there.
    pub set: SetRequest,
    /// What decides: `list`, as the controller does, unless something else is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<PlanPolicy>)]
    pub policy: Option<String>,
    /// Of the chance in it: the same seed, set and cluster give the same plan.
    #[serde(default)]
    pub seed: u64,
}

/// A plan. All times are seconds from now, by the estimates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlanView {
    /// The set's name.
    pub set: String,
    /// What the plan is to be good at.
    pub objective: Objective,
    /// What decided.
    pub policy: String,
    /// Of the chance in it.
    pub seed: u64,
    /// Where and when, by start, then by name.
    pub tasks: Vec<PlannedTask>,
    /// Those that can never run here.
    pub refused: Vec<RefusedTask>,
    /// When the last of the set's tasks ends.
    pub makespan_s: f64,
    /// The mean of their ends.
    pub mean_response_s: f64,
    /// What no plan of these tasks could beat, for the objective: the tasks of others that wait are not in it.
    pub lower_bound_s: f64,
    /// Tasks that end after their deadlines.
    pub late: u64,
    /// Tasks of other sets that run: their room is taken until they are thought to end.
    pub running: u64,
    /// Tasks of other sets that wait: they are planned with these, and not shown.
    pub waiting: u64,
    /// The nodes that take tasks, with what runs there.
    pub nodes: Vec<PlanNode>,
}

/// A task in a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlannedTask {
    /// Its name.
    pub name: String,
    /// Its program's digest.
    pub image: String,
    /// Where it would run.
    pub node: String,
    /// From when.
    pub start_s: f64,
    /// Until when.
    pub end_s: f64,
    /// Processors.
    pub cores: f64,
    /// Bytes of memory.
    pub memory: u64,
    /// Seconds that it is thought to run on a node of speed 1.
    pub estimate: f64,
    /// How sure that is: standard deviation / mean.
    pub estimate_cv: f64,
    /// It ends after its deadline.
    pub late: bool,
    /// Why there, and then.
    pub why: String,
}

/// A task that can never run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedTask {
    /// Its name.
    pub name: String,
    /// Why.
    pub why: String,
}

/// A node in a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlanNode {
    /// Its name.
    pub name: String,
    /// Processors for tasks.
    pub cores: f64,
    /// Bytes of memory for tasks.
    pub memory: u64,
    /// How many times as fast as a node of speed 1.
    pub speed: f64,
    /// What runs there now.
    pub taken: Vec<Taken>,
}

/// A task that runs already.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Taken {
    /// Its name.
    pub name: String,
    /// Processors.
    pub cores: f64,
    /// When it is thought to end.
    pub end_s: f64,
}

/// A node of a cluster that is described in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeRequest {
    /// Its name.
    pub name: String,
    /// Processors for tasks, 0.01 to 4096.
    pub cores: f64,
    /// Bytes of memory for tasks, 64 KiB to 64 TiB.
    pub memory: u64,
    /// How many times as fast as a node of speed 1, 0.001 to 1000.
    #[serde(default = "one")]
    pub speed: f64,
    /// It has a GPU.
    #[serde(default)]
    pub gpu: bool,
    /// What tasks may ask for.
    #[serde(default)]
    pub labels: Vec<String>,
}

fn one() -> f64 {
    1.0
}

/// Most nodes of a cluster that is described in a file.
pub const NODES_MAX: usize = 100_000;

impl NodeRequest {
    /// What of a cluster cannot be used. Its first node is the one where tasks come from.
    ///
    /// # Errors
    /// All that is wrong, by field.
    pub fn check(nodes: &[NodeRequest]) -> Result<(), Vec<Wrong>> {
        let mut wrong = Vec::new();
        if nodes.is_empty() || nodes.len() > NODES_MAX {
            wrong.push(Wrong::new("", format!("{} nodes are not 1 to {NODES_MAX}", nodes.len())));
        }
        let mut names = HashSet::new();
        for (i, node) in nodes.iter().enumerate() {
            let mut say = |field: &str, message: String| wrong.push(Wrong::new(format!("[{i}].{field}"), message));
            if node.name.is_empty() || node.name.len() > 64 || node.name.chars().any(|c| c.is_control()) {
                say("name", format!("{:?} cannot be a name: use 1 to 64 characters", node.name));
            } else if !names.insert(&node.name) {
                say("name", format!("{} stands here twice", node.name));
            }
            if !(0.01..=4096.0).contains(&node.cores) {
                say("cores", format!("{} is not 0.01 to 4096", node.cores));
            }
            if !(64 << 10..=64 << 40).contains(&node.memory) {
                say("memory", format!("{} bytes are not 64 KiB to 64 TiB", node.memory));
            }
            if !(1e-3..=1e3).contains(&node.speed) {
                say("speed", format!("{} is not 0.001 to 1000", node.speed));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read;

    #[test]
    fn a_cluster_is_read_and_what_is_wrong_is_told_by_field() {
        let good: Vec<NodeRequest> = read(b"[{\"name\": \"a\", \"cores\": 4, \"memory\": 1000000}]").unwrap();
        assert_eq!((NodeRequest::check(&good), good[0].speed, good[0].gpu), (Ok(()), 1.0, false));
        let wrong = read::<Vec<NodeRequest>>(b"[\n{\"name\": \"a\", \"cores\": \"four\"}]").unwrap_err();
        assert!(wrong.field == "[0].cores" && wrong.message.contains("line 2"), "{wrong:?}");
        let twice = NodeRequest { cores: 0.0, speed: f64::NAN, memory: 1, ..good[0].clone() };
        let fields: Vec<String> =
            NodeRequest::check(&[good[0].clone(), twice]).unwrap_err().into_iter().map(|w| w.field).collect();
        assert_eq!(fields, ["[1].name", "[1].cores", "[1].memory", "[1].speed"]);
        assert!(NodeRequest::check(&[]).is_err());
    }
}
