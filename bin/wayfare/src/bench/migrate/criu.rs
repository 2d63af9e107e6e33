//! The same against CRIU, which moves whole processes: the same programs, compiled for this machine, are written to the
//! disk and started again from there, and what was written would cross the same link between.
//!
//! Where CRIU is not there or refuses (3.17, Debian's, does not start on some kernels that are newer), published figures
//! stand in for it: the least of them for checkpoint and restore, and on the link what we would send all at once, which
//! is less than CRIU's images. The note says so.

use super::super::median;
use super::{Downtime, Setting, row, spread};
use crate::bench::Row;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Published for CRIU 4 on several programs: 4 to 45 ms for a checkpoint, 4 to 25 ms for a restore.
const PUBLISHED_MS: (f64, f64) = (4.0, 4.0);

/// What it is against: a program of ours, and its twin here with how long it has run.
const TWINS: [(&str, &str, &[&str], u64); 3] = [
    ("npb_cg", "npb_cg", &["A"], 400),
    ("sqlite", "sqlite", &["150000", "50"], 500),
    // A service's socket would have to be handed over; one that sleeps is as idle.
    ("echo", "sleeper", &["1000"], 50),
];

/// The rows, for downtimes of ours in milliseconds.
pub fn measure(setting: &Setting<'_>, ours: &[Downtime]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (program, twin, args, after) in TWINS {
        let Some(mine) = ours.iter().find(|mine| mine.program == program) else { continue };
        let runs = (0..setting.args.runs.max(1)).map(|_| {
            let native = setting.args.guests.join("native").join(twin);
            one(setting, &native, args, Duration::from_millis(after))
        });
        let (theirs, note) = match runs.collect::<Result<Vec<_>>>() {
            Ok(times) => {
                let whole: Vec<f64> = times.iter().map(|t| t.iter().sum()).collect();
                let of = |i: usize| median(&mut times.iter().map(|t| t[i]).collect::<Vec<f64>>());
                let note = format!("dump {:.1}, link {:.1}, restore {:.1} ms; {}", of(0), of(1), of(2), spread(&whole));
                (median(&mut whole.clone()), note)
            }
            Err(e) => {
                let (dump, restore) = PUBLISHED_MS;
                let reason = format!("{e:#}").lines().next().unwrap_or_default().to_string();
                let note = format!(
                    "PUBLISHED figures, the least of them ({dump} + {restore} ms): not measured here, {reason}"
                );
                (dump + restore + mine.once_ms, note)
            }
        };
        let note = format!("{:.1} ms against {theirs:.1}; {note}", mine.ms);
        rows.push(row(format!("downtime / CRIU's, {program}"), mine.ms / theirs, "ratio", Some(1.0), note));
    }
    Ok(rows)
}

struct Native(Child);

impl Drop for Native {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Milliseconds of a checkpoint, of its bytes on the link, and of a restore.
fn one(setting: &Setting<'_>, native: &Path, args: &[&str], after: Duration) -> Result<[f64; 3]> {
    let dir = tempfile::tempdir()?;
    let images = dir.path().join("images");
    std::fs::create_dir(&images)?;
    let images = images.to_string_lossy().into_owned();
    let out = File::create(dir.path().join("out"))?;
    let mut program = Command::new(native);
    program.args(args).stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).process_group(0);
    let child =
        program.spawn().with_context(|| format!("{} is not there (guests/build.sh native)", native.display()))?;
    let child = Native(child);
    std::thread::sleep(after);
    let pid = child.0.id().to_string();
    let (dump, _) = criu(&["dump", "-t", &pid, "-D", &images, "--shell-job"])?;
    let bytes: u64 = std::fs::read_dir(&images)?.filter_map(|f| Some(f.ok()?.metadata().ok()?.len())).sum();
    // It is reaped here, or its number is not free for the one that takes its place.
    drop(child);
    let (restore, _) = criu(&["restore", "-D", &images, "--shell-job", "-d"])?;
    let _ = Command::new("kill").args(["-9", &pid]).status();
    Ok([dump, setting.once(bytes) * 1e3, restore])
}

fn criu(args: &[&str]) -> Result<(f64, Output)> {
    let began = Instant::now();
    let output = Command::new("criu").args(args).output().context("criu is not installed")?;
    let took = began.elapsed().as_secs_f64() * 1e3;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = text.lines().filter(|l| l.contains("Error")).take(2).collect();
        bail!("criu {}: {}", args[0], lines.join(", "));
    }
    Ok((took, output))
}
