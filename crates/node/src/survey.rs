//! What a controller asks of a node so that it can place and move tasks well: how fast it is, which programs it has, how fast bytes
//! come from it, and what a task takes.

use crate::agent::{Agent, Entry, lock};
use crate::control::{IMAGES, PROBE_MAX, Reply, Sample};
use crate::speed;
use crate::watched::Memory;
use anyhow::{Result, ensure};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wayfare_engine::Method;
use wayfare_snapshot::PAGE_SIZE;
use wayfare_store::program;
use wayfare_transfer::pages::PageRange;
use wayfare_transfer::source::Guest;

/// How often the node's speed is measured when it is asked for first.
const RUNS: usize = 8;
/// How long a task is looked at.
const WHILE: Duration = Duration::from_millis(250);

impl Agent {
    /// How fast this node is, and what it has.
    pub(crate) async fn profile(self: &Arc<Self>) -> Result<Reply> {
        let agent = self.clone();
        let look = move || -> Result<Reply> {
            let before = *lock(&agent.speed);
            let now = measured(agent.settings.measure.as_deref(), if before.is_none() { RUNS } else { 1 })
                .inspect_err(|e| tracing::warn!("how fast this node is cannot be told: {e:#}"));
            let speed = f64::max(before.unwrap_or(0.0), now?);
            *lock(&agent.speed) = Some(speed);
            let digests = program::kept_modules(IMAGES)?;
            let first = |digest: &wayfare_snapshot::Digest| digest.0.first_chunk().map(|b| u64::from_be_bytes(*b));
            Ok(Reply::Profile { speed, images: digests.iter().filter_map(first).collect() })
        };
        tokio::task::spawn_blocking(look).await?
    }

    /// What a task takes: it is looked at for a moment.
    pub(crate) async fn sample(&self, name: &str) -> Result<Reply> {
        let entry = self.task(name)?;
        let live = entry.live()?;
        let (began, busy) = (Instant::now(), live.busy());
        let (touched, dirty) = match watched(&entry).await {
            Some(memory) => written(memory).await?,
            None => {
                tokio::time::sleep(WHILE).await;
                (None, None)
            }
        };
        let busy = busy.zip(live.busy()).map(|(before, now)| {
            (now.saturating_sub(before).as_secs_f64() / began.elapsed().as_secs_f64().max(1e-3)).min(1.0)
        });
        let (memory, ran) = (live.memory(), live.ran().as_nanos() as u64);
        Ok(Reply::Sampled { sample: Sample { memory, touched, dirty, busy, ran } })
    }
}

/// By another process, where there is a program for that.
fn measured(program: Option<&Path>, runs: usize) -> Result<f64> {
    let by_other = program.and_then(|program| {
        let mut command = Command::new(program);
        let done =
            command.args(["node", "speed", &runs.to_string()]).stdin(Stdio::null()).stderr(Stdio::null()).output();
        let text = String::from_utf8(done.ok().filter(|done| done.status.success())?.stdout).ok()?;
        text.trim().parse::<f64>().ok().filter(|speed| speed.is_finite() && *speed > 0.0)
    });
    by_other.map_or_else(|| speed::measure(runs), Ok)
}

/// The memory of a task, to be looked at without being in the way of anybody; none while it moves, and where all of it would have to
/// be read to see what was written.
async fn watched(entry: &Entry) -> Option<(Memory, Option<tokio::sync::OwnedMutexGuard<()>>)> {
    let shared = entry.shared.lock().await.upgrade();
    if let Some(shared) = shared {
        return Some((shared.whole_memory(), None));
    }
    let moving = entry.moving.clone().try_lock_owned().ok()?;
    let watch = entry.live().ok()?.watch().ok().filter(|watch| watch.method() == Method::Kernel)?;
    Some((Memory::new(watch), Some(moving)))
}

/// Bytes that have been written to since the task's beginning, where that can be seen, and bytes per second; by whole pages.
async fn written(
    (memory, moving): (Memory, Option<tokio::sync::OwnedMutexGuard<()>>),
) -> Result<(Option<u64>, Option<f64>)> {
    // Whoever is the first to look sees all; others what is new.
    let is_first = moving.is_some();
    let bytes = |ranges: &[PageRange]| ranges.iter().map(|range| range.count).sum::<u64>() * PAGE_SIZE as u64;
    let (mut seen, touched, began) = tokio::task::spawn_blocking(move || {
        let mut seen = memory.watched();
        // From here on writes are noted.
        let touched = bytes(&seen.dirty());
        (seen, touched, Instant::now())
    })
    .await?;
    tokio::time::sleep(WHILE).await;
    let dirty = tokio::task::spawn_blocking(move || {
        let took = began.elapsed();
        bytes(&seen.dirty()) as f64 / took.as_secs_f64()
    })
    .await?;
    drop(moving);
    Ok((is_first.then_some(touched), Some(dirty)))
}

/// So many bytes.
pub(crate) fn probe(bytes: u32) -> Result<Reply> {
    ensure!(bytes <= PROBE_MAX, "a probe has at most {PROBE_MAX} bytes");
    Ok(Reply::Probe { filler: "-".repeat(bytes as usize) })
}
