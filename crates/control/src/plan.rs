//! What would become of a set of tasks, without doing it: from a [`Scene`], which the core takes or a file describes, to what
//! users see. Nothing here waits for anything, and a plan may take seconds: not for the core, and not on its thread.

use crate::task::{self, demand};
use std::collections::HashMap;
use wayfare_api::{
    NodeRequest, Objective, PlanNode, PlanRequest, PlanView, PlannedTask, Problem, RefusedTask, SetRequest, Taken,
    Wrong,
};
use wayfare_sched::units::seconds;
use wayfare_sched::{Cluster, Estimate, History, Node, Plan, Policy, TaskSpec, bounds};

/// Most work that a plan may be: tasks times nodes that are looked at, or genes that are weighed. Some seconds.
const WORK_MAX: u64 = 1_000_000_000;

/// What there is when a plan is made.
pub struct Scene {
    /// Names of the nodes.
    pub(crate) names: Vec<String>,
    /// The nodes, with what runs there.
    pub(crate) cluster: Cluster,
    /// Names of what runs on each, in the same order.
    pub(crate) running: Vec<Vec<String>>,
    /// How long each kind of task of the set will run, in the order of the set.
    pub(crate) estimates: Vec<Estimate>,
    /// Tasks of other sets that wait.
    pub(crate) waiting: Vec<TaskSpec>,
}

impl Scene {
    /// An idle cluster that is described, and a set of which nothing is known but what it says.
    pub fn described(nodes: &[NodeRequest], set: &SetRequest) -> Scene {
        let nothing = History::default();
        let as_node = |(i, node): (usize, &NodeRequest)| Node {
            cores: task::hundredths(node.cores),
            memory: node.memory,
            speed: node.speed,
            gpu: node.gpu,
            labels: node.labels.clone(),
            is_initiator: i == 0,
            ..Node::new(i as u32, 1, 1)
        };
        Scene {
            names: nodes.iter().map(|node| node.name.clone()).collect(),
            cluster: Cluster { nodes: nodes.iter().enumerate().map(as_node).collect() },
            running: vec![Vec::new(); nodes.len()],
            estimates: set.tasks.iter().map(|request| task::estimate(&nothing, request)).collect(),
            waiting: Vec::new(),
        }
    }
}

/// What of a request cannot be used.
///
/// # Errors
/// All that is wrong, by field; 422.
pub fn check(request: &PlanRequest) -> Result<Policy, Problem> {
    let mut errors = Vec::new();
    if let Err(wrong) = request.set.check() {
        errors.extend(wrong.into_iter().map(|w| Wrong::new(format!("set.{}", w.field), w.message)));
    }
    let policy = request.policy.as_deref().unwrap_or("list").parse::<Policy>();
    if let Err(e) = &policy {
        errors.push(Wrong::new("policy", e.to_string()));
    }
    if i64::try_from(request.seed).is_err() {
        errors.push(Wrong::new("seed", format!("{} is more than {}", request.seed, i64::MAX)));
    }
    match policy {
        Ok(policy) if errors.is_empty() => Ok(policy),
        _ => Err(Problem { status: 422, title: "this cannot be planned".into(), errors }),
    }
}

/// How much work a plan is, roughly: steps of some nanoseconds.
fn work(policy: Policy, tasks: u64, nodes: u64) -> u64 {
    match policy {
        // Of which some tens.
        Policy::List | Policy::Local => tasks.max(nodes),
        Policy::MemoryFirst | Policy::EarliestFinish => tasks.saturating_mul(nodes),
        // Each of thousands of tries runs two nodes again.
        Policy::LocalSearch => tasks.saturating_mul(nodes.max(2_000)),
        Policy::MbctGa => {
            let settings = wayfare_sched::genetic::Settings::default();
            (tasks + nodes).saturating_mul((settings.population * settings.generations) as u64)
        }
    }
}

/// Refuses what would keep a processor busy for long.
///
/// # Errors
/// What to do instead.
pub fn check_work(policy: Policy, tasks: u64, nodes: u64) -> Result<(), String> {
    if work(policy, tasks, nodes) > WORK_MAX {
        return Err(format!(
            "{policy} would take too long for {tasks} tasks on {nodes} nodes: use list, or fewer of them"
        ));
    }
    Ok(())
}

/// Makes the plan.
///
/// # Errors
/// When it would take too long, or there is no node; 422.
pub fn make(request: &PlanRequest, policy: Policy, scene: Scene) -> Result<PlanView, Problem> {
    let PlanRequest { set, seed, .. } = request;
    let objective = match set.objective {
        Objective::Makespan => wayfare_sched::Objective::Makespan,
        Objective::MeanResponse => wayfare_sched::Objective::MeanResponse,
    };
    // Which request each task is of, and its name; those of others that wait come behind.
    let mut tasks = Vec::new();
    let mut whose: Vec<(usize, String)> = Vec::new();
    for (i, (request, estimate)) in set.tasks.iter().zip(&scene.estimates).enumerate() {
        let spec = demand(request, 0, *estimate);
        for name in request.names() {
            tasks.push(TaskSpec { id: wayfare_sched::TaskId(tasks.len() as u64), ..spec.clone() });
            whose.push((i, name));
        }
    }
    let waiting = scene.waiting.len() as u64;
    for spec in scene.waiting {
        tasks.push(TaskSpec { id: wayfare_sched::TaskId(tasks.len() as u64), ..spec });
    }
    let cluster = scene.cluster;
    check_work(policy, tasks.len() as u64, cluster.nodes.len() as u64).map_err(|message| Problem {
        status: 422,
        title: "this cannot be planned".into(),
        errors: vec![Wrong::new("policy", message)],
    })?;
    let plan = wayfare_sched::plan(&cluster, &tasks, policy, objective, *seed);
    let nodes = cluster.nodes.iter().enumerate().map(|(n, node)| PlanNode {
        name: scene.names[n].clone(),
        cores: f64::from(node.usable_cores()) / 100.0,
        memory: node.usable_memory(),
        speed: node.speed,
        taken: (node.busy.iter().zip(&scene.running[n]))
            .map(|(busy, name)| Taken {
                name: name.clone(),
                cores: f64::from(busy.cores) / 100.0,
                end_s: seconds(busy.end),
            })
            .collect(),
    });
    let mut view = PlanView {
        set: set.name.clone(),
        objective: set.objective,
        policy: policy.to_string(),
        seed: *seed,
        tasks: Vec::with_capacity(whose.len()),
        refused: Vec::new(),
        makespan_s: 0.0,
        mean_response_s: 0.0,
        lower_bound_s: 0.0,
        late: 0,
        running: scene.running.iter().map(|there| there.len() as u64).sum(),
        waiting,
        nodes: nodes.collect(),
    };
    tasks.truncate(whose.len());
    fill(&mut view, &plan, set, &tasks, &whose, &scene.names);
    let mut planned = tasks;
    let refused: std::collections::HashSet<u64> = plan.refused.iter().map(|(id, _)| id.0).collect();
    planned.retain(|task| !refused.contains(&task.id.0));
    let times: Vec<f64> = planned.iter().map(TaskSpec::seconds).collect();
    view.lower_bound_s = match objective {
        wayfare_sched::Objective::Makespan => bounds::makespan(&cluster, &planned, &times),
        wayfare_sched::Objective::MeanResponse => bounds::mean_response(&cluster, &planned, &times),
    };
    Ok(view)
}

/// Puts what was decided about the set's own tasks into the view.
fn fill(
    view: &mut PlanView,
    plan: &Plan,
    set: &SetRequest,
    tasks: &[TaskSpec],
    whose: &[(usize, String)],
    names: &[String],
) {
    let mut sum = 0.0;
    for placement in plan.placements.iter().filter(|p| (p.index as usize) < tasks.len()) {
        let spec = &tasks[placement.index as usize];
        let (of, name) = &whose[placement.index as usize];
        let request = &set.tasks[*of];
        let late = spec.deadline.is_some_and(|deadline| placement.end > deadline);
        let end = seconds(placement.end);
        view.late += u64::from(late);
        view.makespan_s = view.makespan_s.max(end);
        sum += end;
        view.tasks.push(PlannedTask {
            name: name.clone(),
            image: request.image.clone(),
            node: names[placement.at as usize].clone(),
            start_s: seconds(placement.start),
            end_s: end,
            cores: request.cores,
            memory: request.memory,
            estimate: spec.seconds(),
            estimate_cv: spec.work.cv,
            late,
            why: placement.reason.to_string(),
        });
    }
    view.mean_response_s = sum / view.tasks.len().max(1) as f64;
    // Names are given in the set's order: t-2 comes before t-10.
    let order: HashMap<&str, usize> = whose.iter().enumerate().map(|(i, (_, name))| (name.as_str(), i)).collect();
    view.tasks.sort_by(|a, b| {
        let place = |task: &PlannedTask| order.get(task.name.as_str()).copied();
        a.start_s.total_cmp(&b.start_s).then_with(|| place(a).cmp(&place(b)))
    });
    let own = plan.refused.iter().filter_map(|(id, why)| Some((whose.get(id.0 as usize)?, why)));
    view.refused.extend(own.map(|((_, name), why)| RefusedTask { name: name.clone(), why: why.to_string() }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use wayfare_api::read;
    use wayfare_sched::Busy;
    use wayfare_sched::units::SECOND;

    fn request(tasks: &str, policy: Option<&str>) -> PlanRequest {
        let set = format!("{{\"name\": \"s\", \"tasks\": [{tasks}]}}");
        PlanRequest { set: read(set.as_bytes()).unwrap(), policy: policy.map(Into::into), seed: 1 }
    }

    fn task(name: &str, more: &str) -> String {
        format!("{{\"name\": \"{name}\", \"image\": \"{}\"{more}}}", "ab".repeat(32))
    }

    fn node(name: &str, cores: f64) -> NodeRequest {
        NodeRequest { name: name.into(), cores, memory: 8 << 30, speed: 1.0, gpu: false, labels: Vec::new() }
    }

    fn made(request: &PlanRequest, nodes: &[NodeRequest]) -> Result<PlanView, Problem> {
        let policy = check(request)?;
        make(request, policy, Scene::described(nodes, &request.set))
    }

    #[test]
    fn a_plan_says_where_when_and_why_and_what_could_be() {
        let tasks = [task("t", ", \"count\": 3, \"estimate\": 10"), task("wide", ", \"cores\": 64")].join(",");
        let view = made(&request(&tasks, None), &[node("a", 1.0), node("b", 1.0)]).unwrap();
        assert_eq!(view.tasks.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["t-1", "t-2", "t-3"]);
        assert_eq!((view.makespan_s, view.lower_bound_s, view.late), (20.0, 15.0, 0));
        assert_eq!((view.refused.len(), view.refused[0].name.as_str()), (1, "wide"));
        assert!(view.refused[0].why.contains("64 cores") && view.tasks[0].why.contains("longest"));
        assert_eq!(view.nodes.len(), 2);
    }

    #[test]
    fn what_runs_and_what_waits_is_taken_into_account() {
        let request = request(&task("t", ", \"estimate\": 10, \"deadline\": 35"), None);
        let mut scene = Scene::described(&[node("a", 1.0)], &request.set);
        scene.cluster.nodes[0].busy = vec![Busy { end: 5 * SECOND, cores: 100, memory: 1 << 20 }];
        scene.running[0].push("before".into());
        scene.waiting = vec![TaskSpec::new(9, 30.0)];
        let view = make(&request, Policy::List, scene).unwrap();
        // The other one is longer, and comes first.
        assert_eq!((view.tasks.len(), view.tasks[0].start_s, view.makespan_s), (1, 35.0, 45.0));
        assert_eq!((view.running, view.waiting, view.late), (1, 1, 1));
        assert_eq!((view.nodes[0].taken[0].end_s, view.lower_bound_s), (5.0, 15.0));
    }

    #[test]
    fn what_cannot_be_planned_is_refused() {
        let e = check(&request(&task("t", ", \"cores\": 0"), Some("best"))).unwrap_err();
        let fields: Vec<_> = e.errors.iter().map(|w| w.field.as_str()).collect();
        assert_eq!(fields, ["set.tasks[0].cores", "policy"]);
        assert!(e.errors[1].message.contains("list, local, memory-first"), "{e}");
        let many = request(&task("t", ", \"count\": 100000"), Some("mbct-ga"));
        let e = made(&many, &[node("a", 4.0)]).unwrap_err();
        assert!(e.status == 422 && e.to_string().contains("too long for 100000 tasks"), "{e}");
        let list = PlanRequest { policy: None, ..many };
        assert_eq!(made(&list, &[node("a", 4.0)]).unwrap().tasks.len(), 100_000);
    }
}
