//! How long `capture --keep-running` stops a task that has much memory and writes to it.

use super::{Bench, Program, Row, load, on_task_thread, read, task};
use anyhow::{Result, bail};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use wayfare_engine::{Form, Freezer, Frozen, Outcome, Stopped};

/// 256 MiB of noise, of which every step reads and writes some pages, without a pause between steps.
const PROGRAM: Program = Program { name: "steady", args: &["256", "1000000000", "0"] };
/// Snapshots in each run.
const TIMES: usize = 10;
/// The most that a pause may be, milliseconds.
const TARGET: f64 = 2.0;

/// The row of the table.
pub fn measure(args: &Bench) -> Result<Row> {
    let image = load(&read(args, PROGRAM.name)?, Some(Form::Resume))?;
    let mut pauses = Vec::new();
    let (mut whole, mut copied) = (0, 0.0f64);
    for _ in 0..args.runs {
        on_task_thread(|| {
            let mut task = task(&image, &PROGRAM)?;
            let handle = task.handle();
            let asked = handle.clone();
            let (freezers, waiting) = mpsc::channel::<Freezer>();
            let (done, results) = mpsc::channel::<Frozen>();
            let given_up = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let ask = move || -> Result<(u64, f64)> {
                    let (mut bytes, mut longest) = (0, 0.0f64);
                    // Until its memory is filled.
                    std::thread::sleep(Duration::from_secs(2));
                    for _ in 0..TIMES {
                        std::thread::sleep(Duration::from_millis(50));
                        let began = Instant::now();
                        let Some(freezer) = asked.prepare_freeze() else {
                            bail!("this kernel cannot protect the memory of a running task (userfaultfd)");
                        };
                        freezers.send(freezer)?;
                        if asked.capture()? != Stopped::Captured {
                            bail!("steady has ended");
                        }
                        let snapshot = results.recv()?.collect()?;
                        longest = longest.max(began.elapsed().as_secs_f64());
                        bytes = snapshot.memories.iter().map(|m| m.size).sum();
                    }
                    Ok((bytes, longest))
                };
                let given_up = &given_up;
                let asks = scope.spawn(move || {
                    let result = ask();
                    if result.is_err() {
                        // Else the task would run for ever.
                        given_up.store(true, Ordering::SeqCst);
                        let _ = handle.capture();
                    }
                    result
                });
                let mut taken = 0;
                loop {
                    match task.run() {
                        Outcome::Captured => {}
                        other => bail!("steady ended with {other:?}"),
                    }
                    let began = Instant::now();
                    // A request that was repeated captures once more.
                    let freezer = waiting.try_recv().ok();
                    let took = freezer.is_some();
                    if let Some(freezer) = freezer {
                        let frozen = freezer.frozen(&mut task)?;
                        let while_running = frozen.while_running();
                        done.send(frozen)?;
                        pauses.push(began.elapsed().as_secs_f64() * 1e3);
                        if !while_running {
                            bail!("the task stood still for the copy");
                        }
                    }
                    task.unpause();
                    taken += usize::from(took);
                    if taken == TIMES || given_up.load(Ordering::SeqCst) {
                        break;
                    }
                }
                // The last one is being collected.
                let (bytes, longest) = asks.join().unwrap_or_else(|_| bail!("the measurement panicked"))?;
                (whole, copied) = (bytes, copied.max(longest));
                Ok(())
            })
        })?;
    }
    pauses.sort_by(f64::total_cmp);
    let (median, worst) = (pauses[pauses.len() / 2], pauses[pauses.len() - 1]);
    Ok(Row {
        name: "pause, --keep-running, 256 MiB".into(),
        value: median,
        unit: "ms",
        target: Some(TARGET),
        at_least: false,
        ratio: None,
        note: format!(
            "worst of {} {worst:.2} ms; {} MiB of memory, copied within {copied:.2} s",
            pauses.len(),
            whole >> 20
        ),
    })
}
