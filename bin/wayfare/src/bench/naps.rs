//! What keeping a standby costs. In simulated time: J = syncs x c + minutes of progress lost, of `auto` against the best
//! fixed interval in hindsight, against NAPS, and against an oracle that sees the hidden state of the link. On real nodes
//! ([`super::standby`]): what a task and its clients notice.

use super::{Bench, Row, check_parts, standby};
use crate::{output, simulate};
use anyhow::Result;
use std::path::{Path, PathBuf};
use wayfare_sim::naps::verdict::{self, Figure};
use wayfare_sim::naps::{Course, HELD_OUT};

/// What `--only` may name.
const PARTS: [&str; 5] = ["networks", "recorded", "pause", "takeover", "overhead"];

/// The rows of the table.
///
/// # Errors
/// When a part does not exist, or a recording cannot be read.
pub fn measure(args: &Bench) -> Result<Vec<Row>> {
    check_parts(args, &PARTS)?;
    let wanted = |part: &str| args.only.is_empty() || args.only.iter().any(|only| only == part);
    let mut figures = Vec::new();
    if wanted("networks") {
        figures.extend(verdict::networks(&(HELD_OUT.start..HELD_OUT.start + args.seeds)));
    }
    if wanted("recorded") {
        let drives = drives(&args.traces)?;
        if drives.is_empty() {
            output::notice(&format!("{}: no recorded drives there; give --traces", args.traces.display()));
        } else {
            figures.extend(verdict::recorded(&drives));
        }
    }
    let mut rows: Vec<Row> = figures.into_iter().map(row).collect();
    for (part, measure) in [
        ("pause", standby::pause as fn(&Bench) -> Result<Vec<Row>>),
        ("takeover", standby::takeover),
        ("overhead", standby::overhead),
    ] {
        if wanted(part) {
            rows.extend(measure(args)?);
        }
    }
    Ok(rows)
}

fn row(figure: Figure) -> Row {
    let Figure { name, value, unit, target, note } = figure;
    let note = format!("+- {:.3}; {note}", value.within);
    Row { name, value: value.value, unit, target, at_least: false, ratio: None, note }
}

/// All recordings in a directory and in those right below it, by name; none where there is no such directory.
fn drives(directory: &Path) -> Result<Vec<Course>> {
    let mut paths = Vec::new();
    for path in entries(directory) {
        if path.is_dir() { paths.extend(entries(&path)) } else { paths.push(path) }
    }
    paths.retain(|path| path.extension().is_some_and(|e| e == "csv"));
    paths.sort();
    paths.iter().map(|path| simulate::recording(path)).collect()
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}
