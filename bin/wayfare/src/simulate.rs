//! `wayfare simulate`: the policies that a node goes by, in simulated time; and a link between real nodes.

pub mod sched;

use crate::cli::{Format, SimulateLink, SimulateNaps};
use crate::output::{self, Paint};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;
use wayfare_policy::Policy;
use wayfare_sim::Trace;
use wayfare_sim::naps::judge::{self, Mean, settings};
use wayfare_sim::naps::plot::{Lane, svg};
use wayfare_sim::naps::{Condition, Course, HELD_OUT, Outcome, table};
use wayfare_sim::proxy::{Proxy, Shape};

/// The largest recording that is read, bytes.
const LARGEST: u64 = 64 << 20;

/// Runs it.
///
/// # Errors
/// When a recording cannot be read or a chart cannot be written.
pub fn run(args: &SimulateNaps) -> Result<ExitCode> {
    if args.table {
        thesis_table(args)?;
        return Ok(ExitCode::SUCCESS);
    }
    let first = HELD_OUT.start + args.seed;
    let courses = if Path::new(&args.trace).extension().is_some_and(|e| e == "csv") {
        vec![recording(Path::new(&args.trace))?]
    } else {
        match args.trace.parse::<Condition>() {
            Ok(condition) => judge::courses(condition, first..first + args.seeds),
            Err(e) => {
                output::complain(&e);
                return Ok(ExitCode::from(2));
            }
        }
    };
    let ran: Vec<(Policy, Vec<Outcome>)> =
        args.policy.iter().map(|p| (*p, judge::outcomes(&courses, *p, settings(args.cost)))).collect();
    if let Some(path) = &args.plot {
        let names: Vec<String> = ran.iter().map(|(policy, _)| policy.to_string()).collect();
        let lanes: Vec<Lane<'_>> =
            names.iter().zip(&ran).map(|(name, (_, outcomes))| Lane { name, outcome: &outcomes[0] }).collect();
        write(path, &svg(&courses[0], &lanes, args.cost))?;
    }
    report(args, courses.len(), &ran)?;
    Ok(ExitCode::SUCCESS)
}

/// Is a link until it is told to end.
///
/// # Errors
/// When an address is taken, or the trace is none.
pub fn link(args: &SimulateLink) -> Result<ExitCode> {
    let mut shape = Shape::new(args.rate, args.delay);
    if let Some(path) = &args.trace {
        let trace = Trace::parse(&text_of(path)?).with_context(|| path.display().to_string())?;
        shape.trace = Some(trace);
    }
    let mut links = Vec::new();
    for (listen, target) in &args.ways {
        let link =
            Proxy::start(*listen, *target, shape.clone()).with_context(|| format!("cannot listen on {listen}"))?;
        output::notice(&format!("{} goes to {target}", link.address()));
        links.push(link);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(tokio::signal::ctrl_c())?;
    let passed: u64 = links.iter().map(|link| link.stats().up + link.stats().down).sum();
    output::notice(&format!("{} passed", output::bytes(passed)));
    Ok(ExitCode::SUCCESS)
}

fn text_of(path: &Path) -> Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    file.take(LARGEST + 1).read_to_string(&mut text).with_context(|| path.display().to_string())?;
    if text.len() as u64 > LARGEST {
        bail!("{}: larger than {}", path.display(), output::bytes(LARGEST));
    }
    Ok(text)
}

/// Reads a recording.
///
/// # Errors
/// Names the file, and the line that is wrong.
pub fn recording(path: &Path) -> Result<Course> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    Course::parse(&name, &text_of(path)?).with_context(|| path.display().to_string())
}

/// Writes a file whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let beside = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = || format!("cannot write {}", path.display());
    let mut file = tempfile::NamedTempFile::new_in(beside).with_context(failed)?;
    file.write_all(text.as_bytes()).with_context(failed)?;
    // A temporary file is for its owner alone; a chart is not.
    use std::os::unix::fs::PermissionsExt;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).with_context(failed)?;
    file.persist(path).with_context(failed)?;
    Ok(())
}

fn mean(outcomes: &[Outcome], of: impl Fn(&Outcome) -> f64) -> Mean {
    Mean::of(&outcomes.iter().map(of).collect::<Vec<_>>())
}

fn cell(mean: Mean, alone: bool) -> String {
    if alone { format!("{:.1}", mean.value) } else { format!("{:.1} +- {:.1}", mean.value, mean.within) }
}

fn as_json(mean: Mean) -> Value {
    json!({"mean": mean.value, "within": mean.within})
}

fn report(args: &SimulateNaps, courses: usize, ran: &[(Policy, Vec<Outcome>)]) -> Result<()> {
    let figures = |outcomes: &[Outcome]| {
        [
            mean(outcomes, |o| f64::from(o.syncs)),
            mean(outcomes, |o| f64::from(o.cut)),
            mean(outcomes, |o| o.lost),
            mean(outcomes, |o| o.cost(args.cost)),
            mean(outcomes, |o| o.bytes / 1e6),
            mean(outcomes, |o| 100.0 * o.busy / o.up.max(1.0)),
        ]
    };
    if args.output == Format::Json {
        let policies: Vec<Value> = ran
            .iter()
            .map(|(policy, outcomes)| {
                let [syncs, cut, lost, cost, megabytes, share] = figures(outcomes).map(as_json);
                json!({"policy": policy.to_string(), "syncs": syncs, "cut": cut, "recomputed_min": lost, "cost": cost,
                       "megabytes": megabytes, "link_percent": share})
            })
            .collect();
        return output::print_json(
            &json!({"trace": args.trace, "courses": courses, "sync_cost_min": args.cost, "policies": policies}),
        );
    }
    let rows: Vec<Vec<String>> = ran
        .iter()
        .map(|(policy, outcomes)| {
            let cells = figures(outcomes).map(|mean| cell(mean, courses == 1));
            [policy.to_string()].into_iter().chain(cells).collect()
        })
        .collect();
    let headings = ["POLICY", "SYNCS", "CUT", "RECOMPUTED MIN", "COST J", "MB", "% OF LINK"];
    output::print(&output::table(&headings, &rows, Paint::stdout()))
}

fn thesis_table(args: &SimulateNaps) -> Result<()> {
    let first = HELD_OUT.start + args.seed;
    let rows = table::rows(first..first + args.seeds, args.cost);
    if args.output == Format::Json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|row| {
                json!({"network": row.network.to_string(), "policy": row.policy.to_string(), "sampling_min": row.sampling,
                       "syncs": as_json(row.syncs), "recomputed": as_json(row.recomputed),
                       "printed_syncs": row.printed.map(|p| p.0), "printed_recomputed": row.printed.map(|p| p.1)})
            })
            .collect();
        return output::print_json(&json!({ "rows": rows }));
    }
    let printed = |value: Option<u32>| value.map_or(String::new(), |value| value.to_string());
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let policy = match row.sampling {
                Some(minutes) => format!("{}, I = {minutes} min", row.policy),
                None => row.policy.to_string(),
            };
            vec![
                row.network.to_string(),
                policy,
                cell(row.syncs, false),
                printed(row.printed.map(|p| p.0)),
                cell(row.recomputed, false),
                printed(row.printed.map(|p| p.1)),
            ]
        })
        .collect();
    let headings = ["NETWORK", "POLICY", "SYNCS", "PRINTED", "RECOMPUTED (0.1 MIN)", "PRINTED"];
    output::print(&output::table(&headings, &cells, Paint::stdout()))
}
