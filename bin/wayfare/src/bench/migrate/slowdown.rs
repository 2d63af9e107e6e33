//! What a task loses while its memory is copied.
//!
//! A program runs from its beginning to its end while it is being moved all the time: each move may take no downtime at
//! all, so that it copies in rounds, as fast as the link goes, until it gives up, and the next one begins.

use super::super::median;
use super::cluster::{migrate, order};
use super::{Setting, row, spread};
use crate::bench::Row;
use anyhow::{Result, bail};
use std::time::{Duration, Instant};
use wayfare_node::agent::State;

const PROGRAMS: [(&str, &[&str]); 2] = [("npb_cg", &["A"]), ("sqlite", &["150000", "2"])];

/// The rows.
pub fn measure(setting: &Setting<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, args) in PROGRAMS {
        let (mut ratios, mut busy, mut plain, mut moves, mut sent) = (Vec::new(), Vec::new(), Vec::new(), 0, 0);
        undisturbed(setting, name, args, false)?;
        for _ in 0..setting.args.runs.max(1) {
            let alone = undisturbed(setting, name, args, false)?;
            let copied = undisturbed(setting, name, args, true)?;
            ratios.push((copied.seconds / alone.seconds - 1.0) * 100.0);
            busy.push((copied.busy / alone.busy - 1.0) * 100.0);
            plain.push(alone.seconds);
            moves += copied.moves;
            sent += copied.bytes;
        }
        let runs = ratios.len() as u64;
        let note = format!(
            "{}; of its own processor time {:.1} %, {}; {:.2} s alone; {} pre-copies and {:.0} MB in each run",
            spread(&ratios),
            median(&mut busy),
            spread(&busy),
            median(&mut plain),
            moves / runs,
            sent as f64 / 1e6 / runs as f64
        );
        rows.push(row(format!("slowdown by pre-copy, {name}"), median(&mut ratios), "%", Some(10.0), note));
    }
    Ok(rows)
}

/// From the task's start to its end.
struct Run {
    seconds: f64,
    /// Of processor time.
    busy: f64,
    /// How often it was copied, and the bytes of that.
    moves: u64,
    bytes: u64,
}

/// A run in which the task stayed.
fn undisturbed(setting: &Setting<'_>, name: &str, args: &[&str], copied: bool) -> Result<Run> {
    for _ in 0..20 {
        if let Some(figures) = run(setting, name, args, copied)? {
            return Ok(figures);
        }
    }
    bail!("{name} moves, where it was to be copied only")
}

/// One run. Nothing, if the task moved: in a round in which a task writes nothing at all there is nothing that could take
/// time.
fn run(setting: &Setting<'_>, name: &str, args: &[&str], copied: bool) -> Result<Option<Run>> {
    let cluster = &setting.cluster;
    let before = cluster.b.carried();
    cluster.a.run(name, &setting.program(name)?, None, args)?;
    let (began, mut busy) = (Instant::now(), 0.0);
    let (seconds, moves) = std::thread::scope(|scope| {
        let copies = scope.spawn(|| {
            let mut order = order(name, &cluster.b);
            order.give_up = true;
            order.max_downtime = 0;
            let mut moves = 0;
            // Refused because it gave up, and at last because the task has ended.
            while copied && cluster.a.task(name)?.is_some_and(|t| matches!(t.state, State::Running)) {
                if migrate(&cluster.a, order.clone()).is_ok() {
                    break;
                }
                moves += 1;
            }
            anyhow::Ok(moves)
        });
        let seconds = loop {
            // The last of it, before the thread is gone.
            busy = cluster.a.busy(name).unwrap_or(busy);
            match cluster.a.task(name)?.map(|t| t.state) {
                Some(State::Running | State::Moving { .. }) => std::thread::sleep(Duration::from_millis(2)),
                Some(State::Exited { status: 0 }) => break Some(began.elapsed().as_secs_f64()),
                Some(State::Left { .. }) => break None,
                other => bail!("{name} did not run to its end: {other:?}"),
            }
        };
        Ok((seconds, copies.join().unwrap_or_else(|_| bail!("the copies panicked"))?))
    })?;
    let Some(seconds) = seconds else {
        cluster.b.forget(name)?;
        cluster.a.forget(name)?;
        return Ok(None);
    };
    cluster.a.forget(name)?;
    Ok(Some(Run { seconds, busy, moves, bytes: cluster.b.carried() - before }))
}
