//! The agent's log, and its spans where somebody wants them ([`crate::spans`]). The log: lines on stderr, of which nobody can provoke more than the disk likes. A peer that is refused may
//! come again as often as it wants; of each kind of line only so many are written, and how many were left out.

use crate::spans::{self, Exporting};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use tracing::callsite::Identifier;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Begins to log: what `WAYFARE_LOG` says, else all that is of interest. Spans are exported until what this gives goes: as those of
/// `instance`, the node.
#[must_use = "spans are exported for as long as this is there"]
pub fn begin(instance: &str) -> Option<Exporting> {
    let filter = EnvFilter::try_from_env("WAYFARE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(ansi);
    // Lines say nothing of the spans that they are in: they are the same whether spans are exported or not.
    let events = filter_fn(|of| of.is_event()).with_max_level_hint(LevelFilter::TRACE);
    let lines = lines.and_then(Throttle::default()).with_filter(filter.and(events));
    let (layer, exporting) = match spans::begin(instance) {
        Ok(Some((layer, exporting))) => (Some(layer), Ok(Some(exporting))),
        Ok(None) => (None, Ok(None)),
        Err(e) => (None, Err(e)),
    };
    tracing_subscriber::registry().with(layer).with(lines).init();
    exporting.unwrap_or_else(|e| {
        tracing::warn!("no spans are exported: {e:#}");
        None
    })
}

/// Lines of one kind that may come at once.
const BURST: f64 = 100.0;
/// And each second in the long run.
const RATE: f64 = 1.0;

/// Lets through so many lines from each place in the code.
#[derive(Default)]
struct Throttle(Mutex<HashMap<Identifier, Bucket>>);

struct Bucket {
    tokens: f64,
    at: Instant,
    left_out: u64,
}

impl Bucket {
    fn new(at: Instant) -> Self {
        Bucket { tokens: BURST, at, left_out: 0 }
    }

    /// Whether a line may come now; if so, how many before it might not.
    fn take(&mut self, now: Instant) -> Option<u64> {
        self.tokens = (self.tokens + (now - self.at).as_secs_f64() * RATE).min(BURST);
        self.at = now;
        if self.tokens < 1.0 {
            self.left_out += 1;
            return None;
        }
        self.tokens -= 1.0;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl<S: Subscriber> Layer<S> for Throttle {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        // Nobody but this machine can cause an error, and none is to be missed.
        if *event.metadata().level() == Level::ERROR {
            return true;
        }
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let bucket = kinds.entry(event.metadata().callsite()).or_insert_with(|| Bucket::new(now));
        let left_out = bucket.take(now);
        if let Some(n @ 1..) = left_out {
            // Not an event: one must not be made while another is.
            eprintln!("(of lines like the next one, {n} were left out)");
        }
        left_out.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn of_a_flood_of_lines_a_few_are_written_and_the_rest_counted() {
        let began = Instant::now();
        let mut bucket = Bucket::new(began);
        // A thousand a second, for ten seconds.
        let written = (0..10_000).filter_map(|n| bucket.take(began + Duration::from_millis(n))).collect::<Vec<_>>();
        assert!((100..=110).contains(&written.len()), "{}", written.len());
        assert_eq!(written.len() as u64 + written.iter().sum::<u64>() + bucket.left_out, 10_000);
        assert_eq!(bucket.take(began + Duration::from_secs(100)), Some(bucket_rest(&written)));
    }

    /// What was not told yet.
    fn bucket_rest(written: &[u64]) -> u64 {
        10_000 - written.len() as u64 - written.iter().sum::<u64>()
    }
}
