//! Holds streams of bytes to a rate: whoever has moved some waits until they were allowed.

use crate::agent::lock;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A rate that several streams share.
pub(crate) struct Rate {
    bytes_per_s: f64,
    /// When all that was moved so far will have been allowed.
    paid: Mutex<Instant>,
}

impl Rate {
    /// So many bytes per second together.
    pub(crate) fn new(bytes_per_s: u64) -> Rate {
        Rate { bytes_per_s: bytes_per_s.max(1) as f64, paid: Mutex::new(Instant::now()) }
    }

    /// Bytes that may well be moved at once: so few that a tenth of a second allows them.
    pub(crate) fn step(&self, most: usize) -> usize {
        ((self.bytes_per_s / 10.0) as usize).clamp(256, most)
    }

    /// Counts bytes that were moved; gives how long to wait before the next ones.
    fn count(&self, bytes: usize, now: Instant) -> Duration {
        let mut paid = lock(&self.paid);
        // A quiet time saves nothing up.
        *paid = (*paid).max(now) + Duration::from_secs_f64(bytes as f64 / self.bytes_per_s);
        *paid - now
    }

    /// Counts bytes that were moved, and waits until they were allowed.
    pub(crate) async fn pay(&self, bytes: usize) {
        tokio::time::sleep(self.count(bytes, Instant::now())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_together_keep_to_the_rate_and_save_nothing_up() {
        let rate = Rate::new(1000);
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert!(rate.count(100, at(10)) >= Duration::from_millis(99));
        // Another stream at the same moment waits for both.
        assert!(rate.count(100, at(10)) >= Duration::from_millis(199));
        // After a long while it is as at the start.
        assert_eq!(rate.count(50, at(10_000)), Duration::from_millis(50));
        assert_eq!(Rate::new(1_000_000_000).step(32 << 10), 32 << 10);
        assert_eq!(Rate::new(1).step(32 << 10), 256);
    }
}
