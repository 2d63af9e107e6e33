//! How long a capture stops a program, what it costs against a plain copy, and how soon a resume runs.

use super::overhead::processor_time;
use super::{Bench, Program, Row, chosen, geometric_mean, host, load, median, on_task_thread, pause, read, task};
use anyhow::{Result, bail};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use wayfare_engine::{Form, Image, Outcome, Stopped, Task};
use wayfare_snapshot::{Compression, Limits, Pages, Snapshot};

/// Captures of one run, if it lasts that long.
const CAPTURES: usize = 40;

#[derive(Default)]
struct Figures {
    frozen: Vec<f64>,
    against_copy: Vec<f64>,
    resume: Vec<f64>,
    size: Vec<f64>,
    bytes: u64,
}

/// The rows of the table.
pub fn measure(args: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let (mut frozen, mut copies, mut resumes, mut sizes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut moves = Vec::new();
    if args.only == ["pause"] {
        return Ok(vec![pause::measure(args)?]);
    }
    for program in chosen(args) {
        let image = load(&read(args, program.name)?, Some(Form::Resume))?;
        let mut f = Figures::default();
        for _ in 0..args.runs {
            one(&image, program, &mut f)?;
        }
        if f.frozen.is_empty() {
            bail!("{} ended before it could be captured", program.name);
        }
        f.frozen.sort_by(f64::total_cmp);
        let p99 = f.frozen[(f.frozen.len() * 99).div_ceil(100) - 1];
        let copy = median(&mut f.against_copy);
        let resume = median(&mut f.resume);
        let mut moved = (0..args.runs).map(|_| moved(&image, program)).collect::<Result<Vec<f64>>>()?;
        let moved = median(&mut moved);
        let note = format!(
            "{} captures, {} bytes, {copy:.2} of a copy, resume {resume:.2} ms over a copy, then {moved:.2}",
            f.frozen.len(),
            f.bytes
        );
        rows.push(Row {
            name: format!("request to frozen, p99, {}", program.name),
            value: p99,
            unit: "ms",
            target: Some(1.0),
            at_least: false,
            ratio: None,
            note,
        });
        frozen.push(p99);
        copies.push(copy);
        resumes.push(resume);
        moves.push(moved);
        sizes.push(f.size.iter().copied().fold(0.0, f64::max));
    }
    let worst = |v: &[f64]| v.iter().copied().fold(0.0, f64::max);
    let mut total = |name: &str, value, unit, target: Option<f64>| {
        rows.push(Row { name: name.into(), value, unit, target, at_least: false, ratio: None, note: String::new() });
    };
    total("request to frozen, p99, worst", worst(&frozen), "ms", Some(1.0));
    total("to a file / copy, geometric mean", geometric_mean(&copies), "ratio", Some(1.5));
    total("resume over a copy, worst", worst(&resumes), "ms", Some(5.0));
    total("time after a resume, geometric mean", geometric_mean(&moves), "ratio", None);
    total("snapshot / non-zero pages, worst", worst(&sizes), "ratio", Some(1.0));
    if args.only.is_empty() {
        rows.push(pause::measure(args)?);
    }
    Ok(rows)
}

/// One run of a program, captured again and again in place until it ends.
fn one(image: &Image, program: &Program, f: &mut Figures) -> Result<()> {
    on_task_thread(|| {
        let mut task = task(image, program)?;
        let handle = task.handle();
        let (asked, times) = mpsc::channel::<Instant>();
        let (runs, running) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut wait = Duration::from_millis(17);
                for () in running.iter().take(CAPTURES) {
                    std::thread::sleep(wait);
                    wait = Duration::from_micros((wait.as_micros() as u64 * 7 + 3_577) % 20_000);
                    let now = Instant::now();
                    if asked.send(now).is_err() || handle.capture().ok() != Some(Stopped::Captured) {
                        return;
                    }
                }
            });
            // Dropped on every way out, or the other thread would wait for ever.
            let (runs, mut captures) = (runs, 0);
            let _ = runs.send(());
            loop {
                match task.run() {
                    Outcome::Captured => {
                        let now = Instant::now();
                        // A request that was repeated while the first one was being met captures once more.
                        if let Ok(asked) = times.try_recv() {
                            f.frozen.push((now - asked).as_secs_f64() * 1e3);
                            if captures % 8 == 1 {
                                weigh(image, &mut task, f)?;
                            }
                            captures += 1;
                            let _ = runs.send(());
                        }
                        task.unpause();
                    }
                    Outcome::Exited(0) => return Ok(()),
                    Outcome::Trapped(e) => return Err(e.into()),
                    other => bail!("{} ended with {other:?}", program.name),
                }
            }
        })
    })
}

/// What remains of a run after it was moved, about a quarter into it, against the same part of an undisturbed one.
fn moved(image: &Image, program: &Program) -> Result<f64> {
    on_task_thread(|| {
        let run = |task: &mut Task| {
            let began = processor_time();
            let outcome = task.run();
            (outcome, processor_time() - began)
        };
        let (Outcome::Exited(0), whole) = run(&mut task(image, program)?) else {
            bail!("{} does not run to its end", program.name);
        };
        let mut task = task(image, program)?;
        let handle = task.handle();
        let (outcome, before) = std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(Duration::from_secs_f64(whole / 4.0));
                handle.capture()
            });
            run(&mut task)
        });
        if !matches!(outcome, Outcome::Captured) {
            bail!("{} ended before it could be moved", program.name);
        }
        let bytes = wayfare_snapshot::encode(&task.snapshot()?, Compression::Lz4)?;
        drop(task);
        let packed = wayfare_snapshot::open(bytes, &Limits::default())?;
        match run(&mut Task::resume(image, &packed, host()?)?) {
            (Outcome::Exited(0), after) => Ok(after / (whole - before)),
            (other, _) => bail!("{} ended with {other:?} after a move", program.name),
        }
    })
}

/// A capture to a file and back, each against a plain copy of the same pages; both files are on the disk at
/// the end, as the command has it.
fn weigh(image: &Image, task: &mut Task, f: &mut Figures) -> Result<()> {
    let directory = tempfile::tempdir_in(std::env::current_dir()?)?;
    let (path, copy) = (directory.path().join("snapshot"), directory.path().join("copy"));
    // Warm both: the first pass over the pages pays for their cache misses.
    let snapshot = task.snapshot()?;
    let plain = plain_copy(&snapshot, &copy)?;
    drop(snapshot);
    let began = Instant::now();
    let snapshot = task.snapshot()?;
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&path)?);
    wayfare_snapshot::encode_into(&snapshot, Compression::Lz4, &mut file).map_err(|e| anyhow::anyhow!("{e}"))?;
    file.flush()?;
    file.get_ref().sync_all()?;
    let capture = began.elapsed().as_secs_f64();
    let non_zero: usize = snapshot
        .memories
        .iter()
        .flat_map(|m| &m.runs)
        .filter_map(|r| match &r.pages {
            Pages::Bytes(b) => {
                Some(b.chunks(4096).filter(|p| p.iter().any(|x| *x != 0)).map(<[u8]>::len).sum::<usize>())
            }
            Pages::Zero(_) => None,
        })
        .sum();
    drop(snapshot);
    let bytes = std::fs::read(&path)?;
    f.against_copy.push(capture / plain);
    f.bytes = bytes.len() as u64;
    f.size.push(bytes.len() as f64 / (non_zero as f64).max(1.0));
    let began = Instant::now();
    std::hint::black_box(bytes.clone());
    let read = began.elapsed().as_secs_f64();
    let began = Instant::now();
    let packed = wayfare_snapshot::open(&bytes, &Limits::default())?;
    let resumed = Task::resume(image, &packed, host()?)?;
    f.resume.push((began.elapsed().as_secs_f64() - read) * 1e3);
    drop(resumed);
    Ok(())
}

fn plain_copy(snapshot: &Snapshot<'_>, path: &std::path::Path) -> Result<f64> {
    let began = Instant::now();
    let mut file = File::create(path)?;
    for run in snapshot.memories.iter().flat_map(|m| &m.runs) {
        if let Pages::Bytes(bytes) = &run.pages {
            file.write_all(bytes)?;
        }
    }
    file.sync_all()?;
    Ok(began.elapsed().as_secs_f64())
}
