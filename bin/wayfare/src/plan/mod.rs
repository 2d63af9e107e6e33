//! `wayfare plan`: what would go where and when, and why, without doing it.

mod chart;

use crate::api::Api;
use crate::cli::{Plan, PlanFormat};
use crate::output::{self, Paint};
use crate::sets::{is_digest, read_json};
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use wayfare_api::{NodeRequest, PlanRequest, PlanView, Problem, SetRequest};
use wayfare_control::plan::{Scene, check, make};
use wayfare_snapshot::Digest;

/// Plans a set.
///
/// # Errors
/// When something of it cannot be used, or nobody can plan it.
pub fn run(args: &Plan) -> Result<ExitCode> {
    let mut set: SetRequest = read_json(&args.file)?;
    if let Some(goal) = args.objective {
        set.objective = goal.into();
    }
    let programs = name_programs(&mut set, args)?;
    let request = PlanRequest { set, policy: Some(args.policy.to_string()), seed: args.seed };
    let view: PlanView = match &args.cluster {
        Some(file) => {
            let nodes: Vec<NodeRequest> = read_json(file)?;
            NodeRequest::check(&nodes).map_err(|errors| Problem {
                status: 422,
                title: format!("{} cannot be used", file.display()),
                errors,
            })?;
            let policy = check(&request)?;
            make(&request, policy, Scene::described(&nodes, &request.set))?
        }
        None => Api::of(args.at.state.as_deref())?.ask("/v1/plan", &serde_json::to_vec(&request)?)?,
    };
    match args.output {
        PlanFormat::Json => output::print_json(&json!(view))?,
        PlanFormat::Svg if view.nodes.len() > chart::NODES_MAX => {
            bail!("a chart shows {} nodes at most, not {}: use -o json", chart::NODES_MAX, view.nodes.len())
        }
        PlanFormat::Svg => output::print(&chart::svg(&view, &programs))?,
        PlanFormat::Text => output::print(&text(&view))?,
    }
    for task in view.refused.iter().take(10) {
        output::complain(&format!("{}: {}", task.name, task.why));
    }
    if view.refused.len() > 10 {
        output::complain(&format!("and {} more", view.refused.len() - 10));
    }
    Ok(if view.refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Replaces paths by digests; gives what to call the programs. Without a controller nobody knows a program, and it need not be
/// there.
fn name_programs(set: &mut SetRequest, args: &Plan) -> Result<BTreeMap<String, String>> {
    let beside = args.file.parent().unwrap_or(Path::new("."));
    let (mut digests, mut names) = (BTreeMap::new(), BTreeMap::new());
    for task in &mut set.tasks {
        if is_digest(&task.image) {
            names.insert(task.image.clone(), task.image.chars().take(8).collect());
            continue;
        }
        if !digests.contains_key(&task.image) {
            let path = beside.join(&task.image);
            let digest = match std::fs::read(&path) {
                Ok(module) => Digest::of(&module),
                Err(e) if args.cluster.is_some() && e.kind() == ErrorKind::NotFound => {
                    Digest::of(task.image.as_bytes())
                }
                Err(e) => {
                    return Err(e).with_context(|| format!("task {}: {}", task.name, path.display()));
                }
            };
            let stem = Path::new(&task.image).file_stem().unwrap_or_default().to_string_lossy().into_owned();
            names.insert(digest.to_string(), stem);
            digests.insert(task.image.clone(), digest.to_string());
        }
        if let Some(digest) = digests.get(&task.image) {
            task.image.clone_from(digest);
        }
    }
    Ok(names)
}

/// Seconds, as people read them.
fn span(seconds: f64) -> String {
    output::long_duration(Duration::from_secs_f64(seconds.clamp(0.0, 1e12)))
}

fn text(view: &PlanView) -> String {
    let place: BTreeMap<&str, usize> = view.nodes.iter().enumerate().map(|(i, node)| (node.name.as_str(), i)).collect();
    // By start already: the sort keeps that.
    let mut tasks: Vec<_> = view.tasks.iter().collect();
    tasks.sort_by_key(|task| place.get(task.node.as_str()));
    let row = |task: &&wayfare_api::PlannedTask| {
        let late = if task.late { "; too late for its deadline" } else { "" };
        vec![
            task.node.clone(),
            span(task.start_s),
            span(task.end_s),
            task.name.clone(),
            task.cores.to_string(),
            format!("{}{late}", task.why),
        ]
    };
    let rows: Vec<Vec<String>> = tasks.iter().map(row).collect();
    let table = output::table(&["NODE", "FROM", "TO", "TASK", "CORES", "WHY"], &rows, Paint::stdout());
    format!("{table}\n{}\n", summary(view))
}

/// A line or two about the whole.
fn summary(view: &PlanView) -> String {
    let times = |value: f64| {
        let over = if view.lower_bound_s > 0.0 { value / view.lower_bound_s } else { 1.0 };
        format!(", {over:.2} times what no plan could beat ({})", span(view.lower_bound_s))
    };
    let (makespan, mean) = match view.objective {
        wayfare_api::Objective::Makespan => (times(view.makespan_s), String::new()),
        wayfare_api::Objective::MeanResponse => (String::new(), times(view.mean_response_s)),
    };
    let mut line = format!(
        "{}: {} on {} by {}: all over after {}{makespan}; on average after {}{mean}",
        view.set,
        output::count(view.tasks.len() as u64, "task"),
        output::count(view.nodes.len() as u64, "node"),
        view.policy,
        span(view.makespan_s),
        span(view.mean_response_s),
    );
    if view.late > 0 {
        line += &format!("; {} late", view.late);
    }
    if view.running + view.waiting > 0 {
        line += &format!("; beside others: {} running, {} waiting", view.running, view.waiting);
    }
    line
}
