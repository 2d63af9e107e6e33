//! What a task loses while its memory is copied.
//!
//! A program runs from its beginning to its end while it is being moved again and again: each move may take no downtime
//! at all, so that it copies in rounds, as fast as the link goes, until it gives up. What the run takes longer than one
//! that is left alone is set against the time in which it was copied.
//!
//! What belongs to the other node or to no node at all, that is its agent, the link's emulation and this program, is kept
//! to one core meanwhile, the last; the source's agent and the task have that one and all others. What the copying does to
//! the task itself, such as faults at its first writes to pages that were sent and caches that it finds emptied, is in the
//! processor time that its thread uses for the same work. The same program takes a few per cent more or less each time,
//! so that medians of many runs are compared.

use super::super::cluster::{Cluster, migrate, order};
use super::super::median;
use super::{RATE, Setting, row, spread};
use crate::bench::Row;
use anyhow::{Result, bail};
use std::time::{Duration, Instant};
use wayfare_node::control::State;
use wayfare_sim::proxy::Shape;

const PROGRAMS: [(&str, &[&str]); 2] = [("npb_cg", &["A"]), ("sqlite", &["150000", "2"])];

/// Runs alone and runs copied for each that is asked for.
const PAIRS: u32 = 3;
/// Longer than any of them takes.
const LONGEST: Duration = Duration::from_secs(120);

/// The rows.
pub fn measure(setting: &Setting<'_>) -> Result<Vec<Row>> {
    // So that each copy is one of everything, as a task's first is.
    let cluster = Cluster::start(&Shape::new(RATE, setting.rtt / 2), &["--keep", "0"])?;
    cluster.apart()?;
    let rows = slowdowns(&Setting { args: setting.args, cluster, rtt: setting.rtt });
    setting.cluster.together()?;
    rows
}

fn slowdowns(setting: &Setting<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, args) in PROGRAMS {
        let (mut alone, mut copied) = (Vec::new(), Vec::new());
        undisturbed(setting, name, args, false)?;
        for _ in 0..setting.args.runs.max(1) * PAIRS {
            alone.push(undisturbed(setting, name, args, false)?);
            copied.push(undisturbed(setting, name, args, true)?);
        }
        let middle = |runs: &[Run], of: fn(&Run) -> f64| median(&mut runs.iter().map(of).collect::<Vec<_>>());
        let share = |of: fn(&Run) -> f64| {
            let more = middle(&copied, of) - middle(&alone, of);
            more / (middle(&copied, |r| r.copied) - more).max(1e-3) * 100.0
        };
        let note = format!(
            "{:.3} s instead of {:.3}, of which it was copied for {:.3}, {:.0} MB in {:.0} copies; alone {}",
            middle(&copied, long),
            middle(&alone, long),
            middle(&copied, |r| r.copied),
            middle(&copied, |r| r.bytes as f64 / 1e6),
            middle(&copied, |r| f64::from(r.copies)),
            spread(&alone.iter().map(long).collect::<Vec<_>>())
        );
        rows.push(row(format!("slowdown by pre-copy, {name}"), share(long), "%", Some(10.0), note));
        let note = format!("{:.3} s instead of {:.3}", middle(&copied, own), middle(&alone, own));
        rows.push(row(format!("the same in its own processor time, {name}"), share(own), "%", Some(10.0), note));
    }
    Ok(rows)
}

/// From the task's start to its end.
struct Run {
    seconds: f64,
    /// Of processor time.
    busy: f64,
    /// For how long of that it was copied, how often, and the bytes of that.
    copied: f64,
    copies: u32,
    bytes: u64,
}

fn long(run: &Run) -> f64 {
    run.seconds
}

fn own(run: &Run) -> f64 {
    run.busy
}

/// A run in which the task stayed.
fn undisturbed(setting: &Setting<'_>, name: &str, args: &[&str], copying: bool) -> Result<Run> {
    for _ in 0..20 {
        if let Some(figures) = run(setting, name, args, copying)? {
            return Ok(figures);
        }
    }
    bail!("{name} moves, where it was to be copied only")
}

/// One run. Nothing, if the task moved: in a round in which a task writes nothing at all there is nothing that could take
/// time.
fn run(setting: &Setting<'_>, name: &str, args: &[&str], copying: bool) -> Result<Option<Run>> {
    let cluster = &setting.cluster;
    let before = cluster.b.carried();
    cluster.a.run(name, &setting.program(name)?, None, args)?;
    let (began, mut busy) = (Instant::now(), 0.0);
    let (seconds, copied, copies) = std::thread::scope(|scope| {
        let copier = scope.spawn(|| {
            let mut order = order(name, &cluster.b);
            order.give_up = true;
            order.max_downtime = 0;
            let (mut copied, mut copies) = (0.0, 0);
            // Refused because it gave up, and at last because the task has ended.
            while copying && cluster.a.task(name)?.is_some_and(|t| matches!(t.state, State::Running)) {
                let began = Instant::now();
                match migrate(&cluster.a, order.clone()) {
                    Ok(_) => break,
                    // A node takes so many offers in a row that come to nothing, and no more.
                    Err(e) if e.to_string().contains("too many offers") => std::thread::sleep(Duration::from_secs(1)),
                    Err(_) => {
                        copied += began.elapsed().as_secs_f64();
                        copies += 1;
                    }
                }
            }
            anyhow::Ok((copied, copies))
        });
        let seconds = loop {
            // The last of it, before the thread is gone.
            busy = cluster.a.busy(name).unwrap_or(busy);
            match cluster.a.task(name)?.map(|t| t.state) {
                Some(State::Running | State::Moving { .. }) if began.elapsed() < LONGEST => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Some(State::Exited { status: 0 }) => break Some(began.elapsed().as_secs_f64()),
                Some(State::Left { .. }) => break None,
                other => bail!("{name} did not run to its end: {other:?}"),
            }
        };
        let (copied, copies) = copier.join().unwrap_or_else(|_| bail!("the copies panicked"))?;
        Ok((seconds, copied, copies))
    })?;
    let Some(seconds) = seconds else {
        cluster.a.left(name)?;
        cluster.b.forget(name)?;
        cluster.a.forget(name)?;
        return Ok(None);
    };
    cluster.a.forget(name)?;
    Ok(Some(Run { seconds, busy, copied, copies, bytes: cluster.b.carried() - before }))
}
