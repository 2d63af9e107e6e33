//! NAPS, the thesis's policy (seed 002, section 3.3.2), as it is printed and with its signs put right.
//!
//! Over the last n samples of bandwidth B and latency L:
//! ```text
//!            printed (3-1), (3-2)                right
//! P_B   (B - Bmin) / (Bmax - Bmin)       (Bmax - B) / (Bmax - Bmin)
//! P_L   1 - (L - Lmin) / (Lmax - Lmin)   (L - Lmin) / (Lmax - Lmin)      each 0 where max = min
//! P     1 - (1 - P_B)(1 - P_L)                                          (3-3)
//! V(S) = M/S + P S, least at S* = sqrt(M / P)                           (3-4)
//! ```
//! As printed, a fast link of low latency scores as about to break. Right signs leave these faults, which are the
//! policy's own: P is a rank within the last n samples and no probability, so that jitter on a perfect link spans 0 to
//! 1; (3-4) adds bytes per second to seconds, so that S* depends on the unit of M, here megabytes and minutes, by which
//! the intervals come out as in Table 4-3; bandwidth does not enter the cost; and P = 0 asks for no sync at all.
//!
//! A sync is only ever started at the end of a sampling interval I, as the text says. By it two hours hold 7 syncs at
//! most at I = 16 min; Table 4-3 prints 14, 16 and 7.

use crate::units::within;

/// Most samples that are looked back on.
pub const MOST_SAMPLES: usize = 64;

/// Which form of (3-1) and (3-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signs {
    /// As the thesis prints them.
    Printed,
    /// As it means them.
    Right,
}

/// (3-1): the part of the outage's score that the bandwidth gives, 0 to 1; bandwidths in any one unit.
pub fn bandwidth_score(signs: Signs, b: f64, min: f64, max: f64) -> f64 {
    let spread = max - min;
    if spread <= 0.0 || !spread.is_finite() {
        return 0.0;
    }
    let part = match signs {
        Signs::Printed => b - min,
        Signs::Right => max - b,
    };
    within(part / spread, 0.0, 1.0)
}

/// (3-2): the part that the latency gives, 0 to 1; latencies in any one unit.
pub fn latency_score(signs: Signs, l: f64, min: f64, max: f64) -> f64 {
    let spread = max - min;
    if spread <= 0.0 || !spread.is_finite() {
        return 0.0;
    }
    let part = within((l - min) / spread, 0.0, 1.0);
    match signs {
        Signs::Printed => 1.0 - part,
        Signs::Right => part,
    }
}

/// (3-3).
pub fn score(bandwidth: f64, latency: f64) -> f64 {
    1.0 - (1.0 - bandwidth) * (1.0 - latency)
}

/// (3-4): the cost of an interval of `s` minutes, with `m` megabytes to send and score `p`.
pub fn cost(m: f64, p: f64, s: f64) -> f64 {
    m / s + p * s
}

/// The interval at which (3-4) is least, minutes, for `m` megabytes; none where the score is 0.
pub fn interval(m: f64, p: f64) -> Option<f64> {
    (p > 0.0).then(|| within(libm::sqrt(m / p), 0.0, 1e9))
}

/// The last n samples, one per sampling interval.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    signs: Signs,
    n: usize,
    /// A ring of bandwidth and latency.
    samples: [(f64, f64); MOST_SAMPLES],
    taken: usize,
}

impl Window {
    /// Looks back on `n` samples, at least 2 and at most [`MOST_SAMPLES`].
    pub fn new(signs: Signs, n: usize) -> Self {
        Self { signs, n: n.clamp(2, MOST_SAMPLES), samples: [(0.0, 0.0); MOST_SAMPLES], taken: 0 }
    }

    /// Takes a sample in and gives its score P.
    pub fn add(&mut self, bandwidth: f64, latency: f64) -> f64 {
        self.samples[self.taken % self.n] = (bandwidth, latency);
        self.taken += 1;
        // After a very long time the ring starts anew rather than the count passing its end.
        if self.taken == usize::MAX {
            self.taken = self.n;
        }
        let held = &self.samples[..self.taken.min(self.n)];
        let bounds = |of: fn(&(f64, f64)) -> f64| {
            held.iter().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)))
        };
        let ((b_min, b_max), (l_min, l_max)) = (bounds(|s| s.0), bounds(|s| s.1));
        score(bandwidth_score(self.signs, bandwidth, b_min, b_max), latency_score(self.signs, latency, l_min, l_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} {b}");
    }

    #[test]
    fn as_printed_a_good_link_scores_as_about_to_break_and_with_the_signs_right_a_bad_one_does() {
        // Bandwidth 10..50, latency 20..120.
        for (b, l, printed, right) in [
            (50.0, 20.0, 1.0, 0.0),
            (10.0, 120.0, 0.0, 1.0),
            // P_B = 0.75 or 0.25; P_L = 1 - 0.2 or 0.2: 1 - 0.25 * 0.2 and 1 - 0.75 * 0.8.
            (40.0, 40.0, 0.95, 0.4),
        ] {
            for (signs, p) in [(Signs::Printed, printed), (Signs::Right, right)] {
                close(score(bandwidth_score(signs, b, 10.0, 50.0), latency_score(signs, l, 20.0, 120.0)), p);
            }
        }
    }

    #[test]
    fn where_all_samples_are_alike_there_is_no_division_by_zero() {
        for signs in [Signs::Printed, Signs::Right] {
            assert_eq!(bandwidth_score(signs, 5.0, 5.0, 5.0), 0.0);
            assert_eq!(latency_score(signs, 5.0, 5.0, 5.0), 0.0);
            let mut window = Window::new(signs, 4);
            (0..10).for_each(|_| assert_eq!(window.add(5.0, 7.0), 0.0));
        }
        assert_eq!(interval(10.0, 0.0), None);
    }

    #[test]
    fn the_interval_is_where_the_cost_is_least() {
        // sqrt(64 / 0.25) = 16, V = 2 sqrt(64 * 0.25) = 8.
        close(interval(64.0, 0.25).unwrap(), 16.0);
        close(cost(64.0, 0.25, 16.0), 8.0);
        assert!(cost(64.0, 0.25, 15.0) > 8.0 && cost(64.0, 0.25, 17.0) > 8.0);
    }

    #[test]
    fn only_the_last_samples_count() {
        let mut window = Window::new(Signs::Right, 2);
        window.add(100.0, 1.0);
        window.add(10.0, 1.0);
        // The window is 10, 20 now: 20 is its best.
        assert_eq!(window.add(20.0, 1.0), 0.0);
        assert_eq!(window.add(10.0, 1.0), 1.0);
    }
}
