//! What a move costs, between real agents: how long a task stands still, what is sent, and what the task notices.
//!
//! The two agents are processes on this machine, and so is what emulates the link between them; with few cores they
//! take time from each other and from the task, which a real pair of machines would not. The link's rate and delay are
//! kept by the clock: both ways carry 1 Gbit/s, that is 125,000,000 bytes per second of what TCP carries (frames of
//! Ethernet and headers are not counted), and each byte takes half of the round-trip time besides.
//!
//! `--only` chooses parts: cg, sqlite, idle, stop, slowdown, link, criu, moves.

mod criu;
mod downtime;
mod link;
mod slowdown;
mod soak;
mod stop;

use super::cluster::Cluster;
use super::{Bench, Row, check_parts, guest};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::time::Duration;
use wayfare_sim::proxy::Shape;

/// Bytes per second of the link.
const RATE: u64 = 125_000_000;
/// What `--only` may name.
const PARTS: [&str; 8] = ["cg", "sqlite", "idle", "stop", "slowdown", "link", "criu", "moves"];

/// What is measured with.
struct Setting<'b> {
    args: &'b Bench,
    cluster: Cluster,
    rtt: Duration,
}

impl Setting<'_> {
    fn wants(&self, part: &str) -> bool {
        self.args.only.is_empty() || self.args.only.iter().any(|only| only == part)
    }

    fn program(&self, name: &str) -> Result<PathBuf> {
        guest(self.args, name)
    }

    /// Seconds that so many bytes take on the link, from the first one's departure to the word that they are there.
    fn once(&self, bytes: u64) -> f64 {
        bytes as f64 / RATE as f64 + self.rtt.as_secs_f64()
    }
}

/// How long a program of ours stands still.
struct Downtime {
    program: &'static str,
    ms: f64,
    /// What all of its touched pages, packed, take on the link.
    once_ms: f64,
}

/// The rows of the table.
///
/// # Errors
/// When a part does not exist, or a task that was to move ended or stayed.
pub fn measure(args: &Bench) -> Result<Vec<Row>> {
    check_parts(args, &PARTS)?;
    let shape = Shape::new(RATE, args.rtt / 2);
    let setting = Setting { args, cluster: Cluster::start(&shape, &[])?, rtt: args.rtt };
    let rows = parts(&setting);
    rows.with_context(|| format!("agents:\n{}\n{}", setting.cluster.a.log(), setting.cluster.b.log()))
}

fn parts(setting: &Setting<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut ours = Vec::new();
    for (part, measure) in [
        ("cg", downtime::cg as fn(&Setting<'_>, &mut Vec<Downtime>) -> Result<Vec<Row>>),
        ("sqlite", downtime::sqlite),
        ("idle", downtime::idle),
    ] {
        // What stands against CRIU is one of these.
        if setting.wants(part) || setting.wants("criu") {
            rows.extend(measure(setting, &mut ours)?);
        }
    }
    for (part, measure) in
        [("stop", stop::measure as fn(&Setting<'_>) -> Result<Vec<Row>>), ("slowdown", slowdown::measure)]
    {
        if setting.wants(part) {
            rows.extend(measure(setting)?);
        }
    }
    if setting.wants("link") {
        rows.extend(link::rows(setting.args.runs)?);
    }
    if setting.wants("criu") {
        rows.extend(criu::measure(setting, &ours)?);
    }
    if setting.wants("moves") {
        rows.extend(soak::measure(setting)?);
    }
    Ok(rows)
}

pub(super) fn row(name: impl Into<String>, value: f64, unit: &'static str, target: Option<f64>, note: String) -> Row {
    Row { name: name.into(), value, unit, target, at_least: false, ratio: None, note }
}

/// The extremes, for a note.
pub(super) fn spread(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    format!("{least:.2} to {most:.2} in {} runs", values.len())
}

pub(super) fn ms(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}
