//! What a program that is never captured pays for being capturable: time, code size, build time.

use super::{Bench, Program, Row, chosen, geometric_mean, hello, large, load, median, on_task_thread, read, task};
use anyhow::{Result, bail};
use rustix::time::{ClockId, clock_gettime};
use std::time::Instant;
use wayfare_engine::{Form, Image, Outcome};
use wayfare_instrument::{Options, instrument};

/// The rows of the table.
pub fn measure(args: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let (mut times, mut counted, mut sizes, mut with_clones) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut bytes, mut seconds) = (0usize, 0.0);
    for program in chosen(args) {
        let wasm = read(args, program.name)?;
        let mut best = f64::INFINITY;
        for _ in 0..args.runs {
            let began = Instant::now();
            instrument(&wasm, &Options::default())?;
            best = best.min(began.elapsed().as_secs_f64());
        }
        seconds += best;
        bytes += wasm.len();
        let (plain, instrumented) = (load(&wasm, None)?, load(&wasm, Some(Form::Start))?);
        let text = |image: &Image| image.module().text().len() as f64;
        let size = text(&instrumented) / text(&plain);
        with_clones.push(text(&load(&wasm, Some(Form::Resume))?) / text(&plain));
        // The same but for the counting of work: for a comparison, it need not be one that can be captured.
        let silent = Options { resume_clones: false, count_work: false, ..Options::default() };
        let silent = load(&instrument(&wasm, &silent)?.wasm, None)?;
        let (mut ratios, mut counting) = (Vec::new(), Vec::new());
        for image in [&plain, &instrumented, &silent] {
            run(image, program)?;
        }
        let mut best = f64::INFINITY;
        for i in 0..args.runs {
            // Alternate which goes first: the machine's speed drifts.
            let (a, b, c) = if i % 2 == 0 {
                let a = run(&plain, program)?;
                let b = run(&instrumented, program)?;
                (a, b, run(&silent, program)?)
            } else {
                let c = run(&silent, program)?;
                let b = run(&instrumented, program)?;
                (run(&plain, program)?, b, c)
            };
            best = best.min(a);
            ratios.push(b / a);
            counting.push(b / c);
        }
        let counting = median(&mut counting);
        counted.push(counting);
        let ratio = median(&mut ratios);
        times.push(ratio);
        sizes.push(size);
        rows.push(Row {
            name: format!("time {}", program.name),
            value: ratio,
            unit: "ratio",
            target: Some(1.10),
            at_least: false,
            ratio: Some(ratio),
            note: format!("plain {best:.2} s, code {size:.2}, counting work {counting:.2}"),
        });
    }
    rows.extend([
        total("time, geometric mean", geometric_mean(&times), "ratio", Some(1.03)),
        total("of it, to count work", geometric_mean(&counted), "ratio", Some(1.01)),
        total("code size, geometric mean", geometric_mean(&sizes), "ratio", Some(2.0)),
        total("the same, to resume as well", geometric_mean(&with_clones), "ratio", None),
        Row { at_least: true, ..total("instrumenting", bytes as f64 / 1e6 / seconds, "MB/s", Some(10.0)) },
    ]);
    if args.only.is_empty() {
        let (seconds, memory) = large::measure(&read(args, "sqlite")?)?;
        rows.push(total("instrumenting 50 MB", seconds, "s", Some(10.0)));
        rows.push(total("instrumenting 50 MB, memory", memory as f64 / 1e9, "GB", Some(2.0)));
        rows.push(hello::measure(args)?);
    }
    Ok(rows)
}

fn total(name: &str, value: f64, unit: &'static str, target: Option<f64>) -> Row {
    Row { name: name.into(), value, unit, target, at_least: false, ratio: None, note: String::new() }
}

/// Processor seconds of one run.
fn run(image: &Image, program: &Program) -> Result<f64> {
    on_task_thread(|| {
        let mut task = task(image, program)?;
        let began = processor_time();
        match task.run() {
            Outcome::Exited(0) => Ok(processor_time() - began),
            Outcome::Trapped(e) => Err(e.into()),
            other => bail!("{} ended with {other:?}", program.name),
        }
    })
}

/// Seconds that this thread has run.
pub(super) fn processor_time() -> f64 {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9
}
