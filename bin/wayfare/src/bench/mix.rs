//! How long the nine programs of the thesis's Table 5-1 run on this machine.

use super::{Program, guest_in, load, on_task_thread, task};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::time::Instant;
use wayfare_engine::{Form, Outcome};
use wayfare_sched::simulate::MIX;

/// The programs' files, in the order of [`MIX`].
const GUESTS: [&str; MIX.len()] =
    ["maze", "sha256", "queens", "quicksort", "hashzip", "dynprog", "huffman", "pi", "matrix"];

/// Seconds of one run of each, without arguments, as tasks run: instrumented.
///
/// # Errors
/// When a program is missing, or does not end well.
pub fn measure(guests: &Path) -> Result<[f64; MIX.len()]> {
    let mut seconds = [0.0; MIX.len()];
    for (name, seconds) in GUESTS.into_iter().zip(&mut seconds) {
        let image = load(&std::fs::read(guest_in(guests, name)?)?, Some(Form::Start)).context(name)?;
        let program = Program { name, args: &[] };
        *seconds = on_task_thread(|| {
            let mut task = task(&image, &program)?;
            let began = Instant::now();
            match task.run() {
                Outcome::Exited(0) => Ok(began.elapsed().as_secs_f64()),
                Outcome::Trapped(e) => Err(e.into()),
                other => bail!("{name} ended with {other:?}"),
            }
        })?;
    }
    Ok(seconds)
}
