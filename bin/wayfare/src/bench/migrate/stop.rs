//! What a move sends when everything goes at once, against the memory that the program has touched.

use super::super::cluster::{migrate, order};
use super::{Setting, row};
use crate::bench::{PROGRAMS, Program, Row, geometric_mean};
use anyhow::{Context, Result, anyhow};
use std::time::Duration;
use wayfare_node::control::Report;
use wayfare_snapshot::PAGE_SIZE;
use wayfare_transfer::message::Mode;

/// How long a program has run by then, if it lasts that long, so that it has its memory and is in the middle of its work.
const AFTER: [u64; 4] = [400, 150, 50, 10];

/// The rows.
pub fn measure(setting: &Setting<'_>) -> Result<Vec<Row>> {
    let (mut rows, mut ratios, mut sent, mut raw) = (Vec::new(), Vec::new(), 0.0, 0.0);
    for program in PROGRAMS {
        let report = one(setting, program)?;
        let bytes = (report.last.progress.bytes + report.state_bytes) as f64;
        let touched = (report.last.progress.pages * PAGE_SIZE as u64) as f64;
        ratios.push(bytes / touched);
        sent += bytes;
        raw += touched;
        let note =
            format!("{:.2} MB of {:.2}, still for {:.0} ms", bytes / 1e6, touched / 1e6, report.downtime as f64 / 1e6);
        rows.push(row(format!("sent / touched, {}", program.name), bytes / touched, "ratio", None, note));
    }
    let note = format!("all together {:.2}: {:.1} MB of {:.1}", sent / raw, sent / 1e6, raw / 1e6);
    let mean = geometric_mean(&ratios);
    rows.push(row("stop-and-copy, sent / touched, mean", mean, "ratio", Some(0.5), note));
    Ok(rows)
}

fn one(setting: &Setting<'_>, program: &Program) -> Result<Report> {
    let (cluster, name) = (&setting.cluster, program.name);
    let mut order = order(name, &cluster.b);
    order.mode = Mode::Stop;
    let mut tried = Err(anyhow!("{name} was not moved"));
    for after in AFTER {
        cluster.a.run(name, &setting.program(name)?, None, program.args)?;
        tried = cluster.a.ran(name, Duration::from_millis(after)).and_then(|()| migrate(&cluster.a, order.clone()));
        if tried.is_ok() {
            cluster.a.left(name)?;
            cluster.b.forget(name)?;
        }
        cluster.a.forget(name)?;
        if tried.is_ok() {
            break;
        }
    }
    tried.with_context(|| format!("{name} does not move"))
}
