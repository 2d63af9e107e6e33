//! How large a sync will be: M(S), the bytes that change in S seconds of work.
//!
//! A working set saturates: what is written twice is sent once. So M(S) = m0 + m1 (1 - exp(-S / tau)), the form of the
//! thesis's simulation, with all three learnt from the sizes of past syncs: m0 and m1 by least squares for each tau of
//! a short list, older syncs counting less, and the tau that has erred least. A node that counts dirty pages while the
//! task runs says so, and that count is then trusted above the model.

use crate::Nanos;
use crate::units::{seconds, within};

/// The time constants that are tried, seconds: from a task that rewrites one buffer to one that walks through its data.
const TAUS: [f64; 8] = [1.0, 5.0, 20.0, 60.0, 180.0, 600.0, 1800.0, 7200.0];
/// How much a past sync counts for each one after it.
const FORGET: f64 = 0.9;
/// Bytes that a sync is believed to have before the first one, where the node does not count dirty pages.
const UNKNOWN: f64 = 4e6;

/// Weighted sums of one straight line, y = m0 + m1 u.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    n: f64,
    u: f64,
    uu: f64,
    y: f64,
    uy: f64,
    yy: f64,
}

impl Line {
    fn add(&mut self, u: f64, y: f64) {
        for (sum, x) in [
            (&mut self.n, 1.0),
            (&mut self.u, u),
            (&mut self.uu, u * u),
            (&mut self.y, y),
            (&mut self.uy, u * y),
            (&mut self.yy, y * y),
        ] {
            *sum = FORGET * *sum + x;
        }
    }

    /// m0, m1, neither negative, and the sum of squared errors.
    fn fit(&self) -> (f64, f64, f64) {
        let spread = self.n * self.uu - self.u * self.u;
        let error = |m0: f64, m1: f64| {
            self.yy - 2.0 * (m0 * self.y + m1 * self.uy) + m0 * m0 * self.n + 2.0 * m0 * m1 * self.u + m1 * m1 * self.uu
        };
        // Through the origin, where the syncs were all of one length, or the line would fall or start below nothing.
        let origin = if self.uu > 0.0 { self.uy / self.uu } else { 0.0 };
        let (m0, m1) = if spread > 1e-9 * (1.0 + self.n * self.uu) {
            let m1 = (self.n * self.uy - self.u * self.y) / spread;
            (((self.y - m1 * self.u) / self.n), m1)
        } else {
            (-1.0, 0.0)
        };
        if m0 >= 0.0 && m1 >= 0.0 {
            (m0, m1, error(m0, m1))
        } else if m1 < 0.0 && self.n > 0.0 {
            let mean = self.y / self.n;
            (mean, 0.0, error(mean, 0.0))
        } else {
            (0.0, origin, error(0.0, origin))
        }
    }
}

/// M(S) of one task.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delta {
    lines: [Line; TAUS.len()],
    syncs: u32,
    m0: f64,
    m1: f64,
    tau: f64,
    /// Bytes on the wire for each byte that is dirty.
    packed: Option<f64>,
    dirty: Option<u64>,
}

impl Delta {
    /// A task that has not been synced yet.
    pub fn new() -> Self {
        Self { m0: UNKNOWN, tau: TAUS[0], ..Self::default() }
    }

    /// A sync was complete that carried the work of `since`.
    pub fn synced(&mut self, since: Nanos, bytes: u64, dirty: Option<u64>) {
        let bytes = bytes as f64;
        for (line, tau) in self.lines.iter_mut().zip(TAUS) {
            line.add(1.0 - libm::exp(-seconds(since) / tau), bytes);
        }
        self.syncs = self.syncs.saturating_add(1);
        let mut least = f64::INFINITY;
        for (line, tau) in self.lines.iter().zip(TAUS) {
            let (m0, m1, error) = line.fit();
            // What differs by rounding only is alike, and then the first is as good.
            if error < least - 1e-9 * line.yy {
                (least, self.m0, self.m1, self.tau) = (error, m0, m1, tau);
            }
        }
        if let Some(dirty) = dirty.filter(|dirty| *dirty > 0) {
            let ratio = within(bytes / dirty as f64, 0.001, 2.0);
            self.packed = Some(self.packed.map_or(ratio, |packed| packed + 0.3 * (ratio - packed)));
        }
        self.dirty = None;
    }

    /// How many bytes of the task differ from what the standby has.
    pub fn dirty(&mut self, bytes: u64) {
        self.dirty = Some(bytes);
    }

    /// The last count of dirty bytes.
    pub fn dirty_bytes(&self) -> Option<u64> {
        self.dirty
    }

    /// Bytes of a sync now, `since` of work after the last.
    pub fn now(&self, since: Nanos) -> f64 {
        match self.dirty {
            Some(dirty) => dirty as f64 * self.packed.unwrap_or(1.0),
            None => self.after(seconds(since)),
        }
    }

    /// M(S): bytes of a sync after `s` seconds of work.
    pub fn after(&self, s: f64) -> f64 {
        within(self.m0 + self.m1 * (1.0 - libm::exp(-within(s, 0.0, 1e9) / self.tau)), 0.0, 1e15)
    }

    /// Bytes that change per second of work right after a sync: M'(0).
    pub fn rate(&self) -> f64 {
        within(self.m1 / self.tau, 0.0, 1e15)
    }

    /// S M'(S), which the best interval needs.
    pub fn slope(&self, s: f64) -> f64 {
        let u = within(s, 0.0, 1e9) / self.tau;
        within(self.m1 * u * libm::exp(-u), 0.0, 1e15)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{MINUTE, SECOND};

    #[test]
    fn a_saturating_task_is_learnt_from_its_syncs() {
        let truth = |s: f64| 1e6 + 64e6 * (1.0 - libm::exp(-s / 600.0));
        let mut delta = Delta::new();
        for minutes in [2, 7, 4, 12] {
            delta.synced(minutes * MINUTE, truth(minutes as f64 * 60.0) as u64, None);
        }
        for s in [30.0, 300.0, 1200.0] {
            assert!((delta.after(s) / truth(s) - 1.0).abs() < 1e-3, "{s}: {} {}", delta.after(s), truth(s));
        }
        // M'(0) = 64e6 / 600.
        assert!((delta.rate() - 106_667.0).abs() < 200.0);
    }

    #[test]
    fn syncs_of_one_length_say_the_size_of_the_next() {
        let mut delta = Delta::new();
        (0..5).for_each(|_| delta.synced(4 * MINUTE, 20_000_000, None));
        assert!((delta.after(240.0) - 2e7).abs() < 1.0);
        assert!(delta.after(60.0) < 2e7 + 1.0 && delta.after(1e9) > 2e7 - 1.0);
    }

    #[test]
    fn counted_pages_are_trusted_above_the_model_and_scaled_by_how_they_pack() {
        let mut delta = Delta::new();
        delta.dirty(8_000_000);
        assert_eq!(delta.now(SECOND), 8e6);
        delta.synced(SECOND, 2_000_000, Some(8_000_000));
        delta.dirty(4_000_000);
        assert_eq!(delta.now(SECOND), 1e6);
    }

    #[test]
    fn sizes_that_fall_with_time_make_no_negative_slope() {
        let mut delta = Delta::new();
        delta.synced(MINUTE, 1000, None);
        delta.synced(10 * MINUTE, 10, None);
        assert!(delta.rate() >= 0.0 && delta.after(1e9) >= delta.after(0.0));
    }
}
