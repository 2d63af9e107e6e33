//! What a task loses while its memory is copied.
//!
//! A program runs from its beginning to its end while it is being moved again and again: each move may take no downtime
//! at all, so that it copies in rounds, as fast as the link goes, until it gives up. What the run takes longer than one
//! that is left alone is set against the time in which it was copied.
//!
//! The clock shows what the agents and the emulated link take from a machine with few cores, most of which belongs to the
//! other node or to no node at all. What the copying does to the task itself, such as faults at its first writes to pages
//! that were sent and caches that it finds emptied, is in the processor time that its thread uses for the same work.

use super::super::median;
use super::cluster::{migrate, order};
use super::{Setting, row, spread};
use crate::bench::Row;
use anyhow::{Result, bail};
use std::time::{Duration, Instant};
use wayfare_node::agent::State;

const PROGRAMS: [(&str, &[&str]); 2] = [("npb_cg", &["A"]), ("sqlite", &["150000", "2"])];

/// Longer than any of them takes.
const LONGEST: Duration = Duration::from_secs(120);

/// The rows.
pub fn measure(setting: &Setting<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, args) in PROGRAMS {
        let (mut slower, mut busier) = (Vec::new(), Vec::new());
        let (mut alone_for, mut copied_for, mut copies, mut bytes) = (Vec::new(), Vec::new(), 0, 0);
        undisturbed(setting, name, args, false)?;
        for _ in 0..setting.args.runs.max(1) {
            let alone = undisturbed(setting, name, args, false)?;
            let run = undisturbed(setting, name, args, true)?;
            let share = |more: f64| more / (run.copied - more).max(1e-3) * 100.0;
            slower.push(share(run.seconds - alone.seconds));
            busier.push(share(run.busy - alone.busy));
            alone_for.push(alone.seconds);
            copied_for.push(run.copied);
            copies += run.copies;
            bytes += run.bytes;
        }
        let runs = slower.len() as u64;
        let note = format!(
            "its own processor time, {}; copied for {:.2} s in {:.2}, {} times, {:.0} MB",
            spread(&busier),
            median(&mut copied_for),
            median(&mut alone_for),
            copies / runs,
            bytes as f64 / 1e6 / runs as f64
        );
        rows.push(row(format!("slowdown by pre-copy, {name}"), median(&mut busier), "%", Some(10.0), note));
        let note = format!("{}; with both agents and the link's emulation on the same cores", spread(&slower));
        rows.push(row(format!("the same by the clock, {name}"), median(&mut slower), "%", Some(10.0), note));
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
    copies: u64,
    bytes: u64,
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
                    std::thread::sleep(Duration::from_millis(5));
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
