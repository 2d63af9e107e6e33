//! `wayfare simulate table-5-3` and `sched`: the scheduler that the controller has, in simulated time.

use super::write;
use crate::bench::mix;
use crate::cli::{Format, SimulateSched, SimulateTable};
use crate::output::{self, Paint};
use crate::sets::read_json;
use anyhow::{Result, bail};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use wayfare_control::plan::check_work;
use wayfare_sched::engine::Settings;
use wayfare_sched::rng::Rng;
use wayfare_sched::simulate::{MIX, Moves, drive_with, outcomes, run as run_policy, speed_classes, thesis_tasks};
use wayfare_sched::table::{Experiment, PRINTED, Row, SIZES, rows};
use wayfare_sched::{Objective, Policy, TaskSpec, bounds, migrate, plan};
use wayfare_sim::svg::{Chart, GRID, INK, KINDS, PALE};

/// Table 5-3.
///
/// # Errors
/// When run times cannot be read or measured, or a chart cannot be written.
pub fn table(args: &SimulateTable) -> Result<ExitCode> {
    let mut experiment = Experiment { cv: args.cv, seed: args.seed, sets: args.sets.into(), ..Experiment::default() };
    if let Some(file) = &args.times {
        experiment.seconds = times(file)?;
    } else if args.measure {
        experiment.seconds =
            crate::standing::while_running("running the nine programs", || mix::measure(&args.guests))?;
    }
    let rows = rows(&experiment, &args.policy);
    if let Some(path) = &args.plot {
        write(path, &chart(args, &rows))?;
    }
    if args.output == Format::Json {
        let seconds: BTreeMap<&str, f64> = MIX.iter().map(|kind| kind.0).zip(experiment.seconds).collect();
        let sets: Vec<_> = rows
            .iter()
            .map(|row| {
                let policies: Vec<_> = (args.policy.iter().zip(&row.off))
                    .map(|(policy, off)| {
                        json!({"policy": policy.to_string(), "acceleration_percent": 100.0 * off.acceleration,
                               "makespan_s": off.makespan, "mean_response_s": off.mean_response})
                    })
                    .collect();
                json!({"tasks": SIZES[row.size], "set": row.set + 1, "printed_percent": printed(row), "local_s": row.local,
                       "makespan_bound_s": row.bounds.0, "mean_response_bound_s": row.bounds.1,
                       "makespan_foreseen_s": row.foreseen, "policies": policies})
            })
            .collect();
        output::print_json(&json!({"cv": args.cv, "seed": args.seed, "run_times_s": seconds, "sets": sets}))?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print(&text(args, &rows, &experiment))?;
    Ok(ExitCode::SUCCESS)
}

/// A of the same set in the thesis, per cent.
fn printed(row: &Row) -> Option<f64> {
    PRINTED[row.size].get(row.set).copied()
}

fn text(args: &SimulateTable, rows: &[Row], experiment: &Experiment) -> String {
    let mut headings = vec!["TASKS".to_string(), "SET".into(), "PRINTED".into()];
    for policy in &args.policy {
        headings.extend([policy.to_string().to_uppercase(), "/ BOUND".into()]);
    }
    headings.push("FORESEEN / BOUND".into());
    let line = |row: &Row| {
        let mut cells = vec![SIZES[row.size].to_string(), (row.set + 1).to_string()];
        cells.push(printed(row).map_or("-".into(), |a| format!("{a:.2}")));
        for off in &row.off {
            let ratio = off.makespan / row.bounds.0;
            cells.extend([format!("{:.2}", 100.0 * off.acceleration), format!("{ratio:.3}")]);
        }
        cells.push(format!("{:.3}", row.foreseen / row.bounds.0));
        cells
    };
    let mut cells: Vec<Vec<String>> = rows.iter().map(line).collect();
    let mean = |of: &dyn Fn(&Row) -> f64| rows.iter().map(of).sum::<f64>() / rows.len().max(1) as f64;
    let thesis = PRINTED.iter().flatten().sum::<f64>() / 9.0;
    let mut last = vec!["mean".to_string(), String::new(), format!("{thesis:.2}")];
    for p in 0..args.policy.len() {
        last.push(format!("{:.2}", mean(&|row| 100.0 * row.off[p].acceleration)));
        last.push(format!("{:.3}", mean(&|row| row.off[p].makespan / row.bounds.0)));
    }
    last.push(format!("{:.3}", mean(&|row| row.foreseen / row.bounds.0)));
    cells.push(last);
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let table = output::table(&headings, &cells, Paint::stdout());
    let measured = if args.measure {
        let times = MIX.iter().zip(experiment.seconds).map(|(kind, s)| format!("{} {s:.2}", kind.0));
        format!("\nmeasured here, seconds: {}\n", times.collect::<Vec<_>>().join(", "))
    } else {
        String::new()
    };
    format!(
        "{table}{measured}\nA in per cent, 83.33 if work could be divided at will; makespan / max(total work / cores, longest task); \
         FORESEEN: a plan\nthat knows what each task will take. cv {}, seed {}\n",
        args.cv, args.seed
    )
}

/// Run times by the names of Table 5-1.
fn times(file: &Path) -> Result<[f64; MIX.len()]> {
    let given: BTreeMap<String, f64> = read_json(file)?;
    let names = MIX.map(|kind| kind.0);
    if let Some(unknown) = given.keys().find(|name| !names.contains(&name.as_str())) {
        bail!("{}: {unknown} is none of the programs: {}", file.display(), names.join(", "));
    }
    let mut seconds = [0.0; MIX.len()];
    for (name, seconds) in names.iter().zip(&mut seconds) {
        *seconds = match given.get(*name) {
            Some(s) if *s > 0.0 && *s <= 1e9 => *s,
            Some(s) => bail!("{}: {name}: {s} is not a number of seconds above 0 and up to 1e9", file.display()),
            None => bail!("{}: {name} is missing", file.display()),
        };
    }
    Ok(seconds)
}

const WIDTH: f64 = 960.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 84.0;
const HIGH: f64 = 300.0;

/// A bar for each policy and set, and what the thesis prints.
fn chart(args: &SimulateTable, rows: &[Row]) -> String {
    let title = format!("Acceleration A by offloading, Table 5-3, estimates off by cv {}", args.cv);
    let mut out = Chart::new(WIDTH, TOP + HIGH + 64.0, &title);
    out.text((LEFT, 26.0), "start", INK, 16.0, &title);
    let wide = (WIDTH - LEFT - 24.0) / rows.len().max(1) as f64;
    let bar = wide * 0.8 / args.policy.len().max(1) as f64;
    let y = |a: f64| TOP + HIGH * (1.0 - a.clamp(0.0, 100.0) / 100.0);
    for a in [0.0, 20.0, 40.0, 60.0, 80.0, 100.0] {
        out.line((LEFT, y(a)), (WIDTH - 24.0, y(a)), GRID, 0.8, "");
        out.text((LEFT - 8.0, y(a) + 4.0), "end", PALE, 11.0, &format!("{a:.0} %"));
    }
    let mut at = LEFT;
    for (policy, colour) in args.policy.iter().zip(KINDS.iter().cycle()) {
        out.rect((at, 44.0), (12.0, 12.0), colour);
        out.text((at + 18.0, 54.0), "start", INK, 12.0, &policy.to_string());
        at += 46.0 + 7.4 * policy.to_string().len() as f64;
    }
    out.line((at, 50.0), (at + 18.0, 50.0), INK, 2.5, "");
    out.text((at + 24.0, 54.0), "start", INK, 12.0, "printed in the thesis");
    out.line((at + 190.0, 50.0), (at + 208.0, 50.0), PALE, 1.2, "5 3");
    out.text((at + 214.0, 54.0), "start", INK, 12.0, "ideal, 83.33 %");
    for (i, row) in rows.iter().enumerate() {
        let from = LEFT + wide * (i as f64 + 0.1);
        for (p, (off, colour)) in row.off.iter().zip(KINDS.iter().cycle()).enumerate() {
            let a = 100.0 * off.acceleration;
            let ratio = off.makespan / row.bounds.0;
            let here = from + bar * p as f64;
            let title = format!("{}: A {a:.2} %, makespan / bound {ratio:.3}", args.policy[p]);
            let _ = writeln!(out, "<g><title>{title}</title>");
            out.rect((here, y(a)), (bar - 1.0, y(0.0) - y(a)), colour);
            if bar >= 22.0 {
                out.text((here + bar / 2.0 - 0.5, y(0.0) - 8.0), "middle", "white", 9.5, &format!("{a:.0}"));
            }
            let _ = writeln!(out, "</g>");
        }
        if let Some(a) = printed(row) {
            out.line((from - 3.0, y(a)), (from + wide * 0.8 + 2.0, y(a)), INK, 2.5, "");
        }
        let middle = from + wide * 0.4;
        out.text((middle, TOP + HIGH + 18.0), "middle", INK, 11.0, &format!("{} tasks", SIZES[row.size]));
        out.text((middle, TOP + HIGH + 34.0), "middle", PALE, 11.0, &format!("set {}", row.set + 1));
    }
    out.line((LEFT, y(83.33)), (WIDTH - 24.0, y(83.33)), PALE, 1.2, "5 3");
    out.end()
}

/// Bytes per second that tasks write anew while they are moved.
const DIRTY: f64 = 10e6;

/// Many tasks on many nodes.
///
/// # Errors
/// When a policy would take too long for so many.
pub fn run(args: &SimulateSched) -> Result<ExitCode> {
    for policy in &args.policy {
        check_work(*policy, args.tasks.into(), args.nodes.into()).map_err(anyhow::Error::msg)?;
    }
    let objective: Objective = args.objective.into();
    let mut cluster = speed_classes(args.nodes as usize, args.classes as usize);
    cluster.nodes[0].is_initiator = true;
    let mut rng = Rng::new(args.seed);
    let tasks = thesis_tasks(args.tasks as usize, args.cv, &mut rng);
    let actual = outcomes(&tasks, &mut rng);
    let bound = |seconds: &[f64]| match objective {
        Objective::Makespan => bounds::makespan(&cluster, &tasks, seconds),
        Objective::MeanResponse => bounds::mean_response(&cluster, &tasks, seconds),
    };
    let estimates: Vec<f64> = tasks.iter().map(TaskSpec::seconds).collect();
    let (planned_bound, real_bound) = (bound(&estimates), bound(&actual));
    let of = |policy: &Policy| {
        let began = Instant::now();
        let planned = plan(&cluster, &tasks, *policy, objective, args.seed).value(objective);
        let took = began.elapsed();
        let real = run_policy(&cluster, &tasks, &actual, *policy, objective, args.seed).value(objective);
        (policy.to_string(), took, planned, real)
    };
    let mut results: Vec<_> = args.policy.iter().map(of).collect();
    if args.moves {
        // As the controller works: not planned, so that there is nothing that was to come out.
        let settings = Settings { objective, ..Settings::default() };
        let moves = Moves { dirty: DIRTY, weighing: migrate::Settings::default() };
        for (name, moves) in [("as it happens", None), ("with moves", Some(moves))] {
            let (plan, moved) = drive_with(&cluster, &tasks, &actual, settings, moves);
            let name = if moves.is_some() { format!("{name} ({moved})") } else { name.into() };
            results.push((name, Duration::ZERO, f64::NAN, plan.value(objective)));
        }
    }
    if args.output == Format::Json {
        let policies: Vec<_> = results
            .iter()
            .map(|(policy, took, planned, real)| {
                let known = |value: f64| if planned.is_finite() { json!(value) } else { json!(null) };
                json!({"policy": policy, "planning_s": known(took.as_secs_f64()), "planned_s": known(*planned),
                       "planned_over_bound": known(planned / planned_bound), "came_out_s": real,
                       "came_out_over_bound": real / real_bound})
            })
            .collect();
        let objective: wayfare_api::Objective = args.objective.into();
        output::print_json(&json!({"nodes": args.nodes, "tasks": args.tasks, "classes": args.classes, "cv": args.cv,
                                   "seed": args.seed, "objective": objective, "policies": policies}))?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = results
        .into_iter()
        .map(|(policy, took, planned, real)| {
            let is_planned = planned.is_finite();
            let or_none = |text: String| if is_planned { text } else { "-".into() };
            vec![
                policy,
                or_none(output::duration(took)),
                or_none(format!("{planned:.1} s")),
                or_none(format!("{:.3}", planned / planned_bound)),
                format!("{real:.1} s"),
                format!("{:.3}", real / real_bound),
            ]
        })
        .collect();
    let headings = ["POLICY", "PLANNING", "PLANNED", "/ BOUND", "CAME OUT", "/ BOUND"];
    output::print(&output::table(&headings, &rows, Paint::stdout()))?;
    Ok(ExitCode::SUCCESS)
}
