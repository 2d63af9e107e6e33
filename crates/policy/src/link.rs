//! What the link gives at present, and how that compares with what it gave.
//!
//! Bandwidth and delay are sampled where data flows anyway: by the transfers of syncs, by the task's own streams, by
//! heartbeats. Both are kept as logarithms, because a fall from 80 to 40 Mbit/s says as much as one from 8 to 4, and
//! because only ratios can be carried over from one network to another.

use crate::mean::Mean;
use crate::units::{SECOND, ln_at_least_one, seconds, within};
use crate::{LinkSample, Nanos};

/// Time constant of what counts as "now", seconds.
pub const FAST: f64 = 8.0;
/// Time constant of what counts as usual, seconds.
pub const SLOW: f64 = 300.0;
/// Time constant of the volatility, seconds: it tells what kind of link it is, which does not change soon.
pub const SWING: f64 = 1200.0;
/// The most that volatility counts for: deviations of 45 %.
pub const MOST_SWING: f64 = 2.3;
/// Samples from which the volatility is known.
const ENOUGH: u32 = 12;
/// How much wider an extrapolation from two noisy samples is spread than a sample: sqrt(1 + 4 + 1).
const EXTRAPOLATION: f64 = 2.449_489_742_783_178;
/// The mean of the square root of the absolute value of a standard normal: 2^(1/4) gamma(3/4) / sqrt(pi).
const ROOT: f64 = 0.822_178_951_2;
/// Time constant by which the best that was seen is forgotten, seconds.
pub const BEST: f64 = 3600.0;

/// Signs of trouble, each a ratio as a natural logarithm and at least 0: 0 where the link is at its best, 0.69 for each
/// factor of two.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Signs {
    /// How far the bandwidth is below the best that was seen.
    pub drop: f64,
    /// How far the delay is above the least that was seen.
    pub rise: f64,
    /// Volatility: ln(1 + v / 0.05), at most [`MOST_SWING`], for the standard deviation v of samples from what those before
    /// them lead to expect, a natural logarithm. Of links, not of moments: one that is not known yet has the most.
    pub swing: f64,
}

/// One quantity: fast and slow mean, and the best of the fast mean. "Better" is larger; a delay goes in negated.
#[derive(Clone, Copy, Debug)]
struct Track {
    fast: Mean,
    slow: Mean,
    best: f64,
    /// Of the square roots of deviations, the last one excepted, and how many of them.
    swing: Mean,
    swings: u32,
    deviation: Option<f64>,
    /// The last sample and the one before it.
    before: [Option<(Nanos, f64)>; 2],
    last: Nanos,
}

impl Track {
    fn new() -> Self {
        Self {
            fast: Mean::new(FAST),
            slow: Mean::new(SLOW),
            best: 0.0,
            // The first deviation is as accidental as any: left to count for minutes, it would decide what kind of link it is.
            swing: Mean::new(SWING).at_most(10.0).unbiased(),
            swings: 0,
            deviation: None,
            before: [None; 2],
            last: 0,
        }
    }

    fn add(&mut self, now: Nanos, x: f64) {
        let first = self.fast.value().is_none();
        self.fast.add(now, x);
        self.slow.add(now, x);
        let (fast, slow) = (self.fast.value().unwrap_or(x), self.slow.value().unwrap_or(x));
        if first {
            self.best = fast;
        } else {
            // The best is forgotten towards the usual, not towards the present: a long bad spell is no new normal yet.
            let dt = seconds(now.saturating_sub(self.last));
            let usual = slow.min(self.best);
            self.best += (1.0 - libm::exp(-dt / BEST)) * (usual - self.best);
            self.best = self.best.max(fast);
        }
        // A trend is no volatility, so a sample is held against where the two before it lead to. Nor is a step: the mean of
        // square roots hardly minds what is far out of the ordinary, and is known nearly as soon as that of squares. A deviation
        // counts from the next sample on: at the moment better than expected is no sign of trouble.
        if let [Some((t1, x1)), Some((t2, x2))] = self.before {
            let (step, past) = (seconds(now.saturating_sub(t1)), seconds(t1 - t2).max(0.1));
            let expected = x1 + (x1 - x2) * (step / past).min(1.0);
            if let Some(root) = self.deviation.replace(libm::sqrt((x - expected).abs() / EXTRAPOLATION)) {
                self.swing.add(now, root);
                self.swings = self.swings.saturating_add(1);
            }
        }
        let t = now.max(self.last);
        self.before = [Some((t, x)), self.before[0]];
        self.last = now.max(self.last);
    }

    /// The standard deviation of samples from what was expected; none before there are enough.
    fn volatility(&self) -> Option<f64> {
        let root = self.swing.value().filter(|_| self.swings >= ENOUGH)? / ROOT;
        Some(root * root)
    }

    /// How far the present is below the best.
    fn below(&self) -> f64 {
        self.fast.value().map_or(0.0, |fast| within(self.best - fast, 0.0, 20.0))
    }
}

/// Estimates of a link.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// ln of bytes per second.
    bandwidth: Track,
    /// -ln of nanoseconds.
    delay: Track,
    /// Mean time between two heartbeats, seconds.
    beat: Mean,
    heard: Option<Nanos>,
}

impl Link {
    /// A link that nothing is known of.
    pub fn new() -> Self {
        Self { bandwidth: Track::new(), delay: Track::new(), beat: Mean::new(30.0), heard: None }
    }

    /// Takes in what a transfer or a heartbeat has measured.
    pub fn sample(&mut self, now: Nanos, sample: LinkSample) {
        if let Some(bandwidth) = sample.bandwidth {
            let x = ln_at_least_one(bandwidth as f64);
            self.bandwidth.add(now, x);
        }
        if let Some(delay) = sample.delay {
            self.delay.add(now, -ln_at_least_one(delay as f64));
        }
    }

    /// A heartbeat has come.
    pub fn heartbeat(&mut self, now: Nanos) {
        if let Some(heard) = self.heard {
            // A gap of an outage is no habit of the heartbeats.
            let gap = seconds(now.saturating_sub(heard));
            if gap < self.beat.value().map_or(60.0, |beat| 8.0 * beat + 1.0) {
                self.beat.add(now, gap);
            }
        }
        self.heard = Some(now.max(self.heard.unwrap_or(0)));
    }

    /// The link has come back: what is due from now on is not due since before.
    pub fn restored(&mut self, now: Nanos) {
        self.heard = self.heard.map(|heard| heard.max(now));
    }

    /// Heartbeats that are overdue, and for how long nothing was heard, seconds; 0 where none were ever heard.
    pub fn silence(&self, now: Nanos) -> (f64, f64) {
        let (Some(heard), Some(beat)) = (self.heard, self.beat.value()) else { return (0.0, 0.0) };
        let silent = seconds(now.saturating_sub(heard));
        (within(silent / beat.max(1e-3) - 1.0, 0.0, 1e9), silent)
    }

    /// Bytes per second now, if any transfer has been seen.
    pub fn bandwidth(&self) -> Option<f64> {
        self.bandwidth.fast.value().map(|ln| within(libm::exp(ln), 1.0, 1e15))
    }

    /// Seconds one way now.
    pub fn delay(&self) -> Option<f64> {
        self.delay.fast.value().map(|ln| within(libm::exp(-ln) / SECOND as f64, 0.0, 1e9))
    }

    /// Signs of trouble.
    pub fn signs(&self) -> Signs {
        let (drop, rise) = (self.bandwidth.below(), self.delay.below());
        let swing = match (self.bandwidth.volatility(), self.delay.volatility()) {
            (Some(b), Some(d)) => libm::log1p(0.5 * (b + d) / 0.05).min(MOST_SWING),
            (Some(one), None) | (None, Some(one)) => libm::log1p(one / 0.05).min(MOST_SWING),
            // Of a link that is not known yet, steadiness is not taken for granted.
            (None, None) => MOST_SWING,
        };
        Signs { drop, rise, swing }
    }
}

impl Default for Link {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The volatility after samples of the bandwidth every five seconds, which are e to these.
    fn swing(samples: impl IntoIterator<Item = f64>) -> f64 {
        let mut link = Link::new();
        for (i, ln) in samples.into_iter().enumerate() {
            let bandwidth = Some(libm::exp(16.0 + ln) as u64);
            link.sample(i as Nanos * 5 * SECOND, LinkSample { bandwidth, delay: None });
        }
        link.signs().swing
    }

    /// As it is for deviations of `v`.
    fn of(v: f64) -> f64 {
        libm::log1p(v / 0.05)
    }

    /// Noise of a deviation: sums of twelve uniform numbers, of which each is one in 2^32.
    fn noise(deviation: f64, samples: usize) -> impl Iterator<Item = f64> {
        let mut state = 7u64;
        let mut unit = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as f64 / (1u64 << 32) as f64
        };
        (0..samples).map(move |_| deviation * ((0..12).map(|_| unit()).sum::<f64>() - 6.0))
    }

    #[test]
    fn volatility_is_the_deviation_of_samples() {
        for deviation in [0.05, 0.15, 0.3] {
            let v = 0.05 * libm::expm1(swing(noise(deviation, 2000)));
            assert!((0.85..1.15).contains(&(v / deviation)), "{deviation}: {v}");
        }
    }

    #[test]
    fn after_two_minutes_steady_and_unsteady_links_are_told_apart() {
        let (steady, unsteady) = (swing(noise(0.1, 24)), swing(noise(0.25, 24)));
        assert!(steady + 0.4 < unsteady, "{steady} {unsteady}");
    }

    #[test]
    fn a_link_that_is_not_known_yet_is_not_taken_for_steady() {
        assert_eq!(swing([]), MOST_SWING);
        assert_eq!(swing([0.0; 10]), MOST_SWING);
        assert_eq!(swing([0.0; 20]), 0.0);
    }

    #[test]
    fn neither_a_trend_nor_a_step_is_volatility() {
        assert!(swing((0..200).map(|i| -0.02 * f64::from(i))) < of(0.001));
        let stepped = noise(0.1, 200).enumerate().map(|(i, x)| if i < 100 { x } else { x - 2.0 });
        let plain = swing(noise(0.1, 200));
        assert!(swing(stepped) < plain + 0.1);
    }
}
