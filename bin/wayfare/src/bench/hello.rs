//! How long a program that does next to nothing takes as a whole process, against wasmtime's own command with
//! the same program compiled ahead of time.

use super::{Bench, Row, median};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Runs of each.
const RUNS: usize = 40;

/// The row of the table. Without a `wasmtime` there is nothing to compare with, and its value is not a number.
pub fn measure(args: &Bench) -> Result<Row> {
    let mut row = Row {
        name: "start of hello / wasmtime run".into(),
        value: f64::NAN,
        unit: "ratio",
        target: Some(1.2),
        at_least: false,
        ratio: None,
        note: "no wasmtime on the PATH to compare with".into(),
    };
    let Some(wasmtime) = find("wasmtime") else { return Ok(row) };
    let hello = std::path::absolute(args.guests.join("hello.wasm"))?;
    let directory = tempfile::tempdir()?;
    let compiled = directory.path().join("hello.cwasm");
    run(Command::new(&wasmtime).arg("compile").arg(&hello).arg("-o").arg(&compiled))?;
    let ours = || {
        let mut command = Command::new(std::env::current_exe().unwrap_or_else(|_| "wayfare".into()));
        command.arg("run").arg(&hello);
        command
    };
    let theirs = || {
        let mut command = Command::new(&wasmtime);
        command.arg("run").arg("--allow-precompiled").arg(&compiled);
        command
    };
    // The first run fills our cache.
    run(&mut ours())?;
    run(&mut theirs())?;
    let (mut ratios, mut best) = (Vec::new(), f64::INFINITY);
    for i in 0..RUNS {
        let (a, b) = if i % 2 == 0 {
            let a = run(&mut ours())?;
            (a, run(&mut theirs())?)
        } else {
            let b = run(&mut theirs())?;
            (run(&mut ours())?, b)
        };
        best = best.min(a);
        ratios.push(a / b);
    }
    row.value = median(&mut ratios);
    row.note = format!("{:.1} ms at best", best * 1e3);
    Ok(row)
}

fn find(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// Seconds.
fn run(command: &mut Command) -> Result<f64> {
    let began = Instant::now();
    let name = Path::new(command.get_program()).display().to_string();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status().with_context(|| name.clone())?;
    if !status.success() {
        bail!("{name} ended with {status}");
    }
    Ok(began.elapsed().as_secs_f64())
}
