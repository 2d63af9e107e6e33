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
/// Time constant of the volatility, seconds.
pub const SWING: f64 = 180.0;
/// The most that volatility counts for: deviations by a sixth.
pub const MOST_SWING: f64 = 1.4;
/// Samples from which the volatility is known.
const ENOUGH: u32 = 12;
/// How much wider an extrapolation from two noisy samples is spread than a sample: sqrt(1 + 4 + 1).
const EXTRAPOLATION: f64 = 2.449_489_742_783_178;
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
    /// Volatility: ln(1 + v / 0.05), at most [`MOST_SWING`], for the v by which samples are worse on average than those
    /// before them lead to expect, as a logarithm. Only the bad half counts: better than expected is no sign of trouble.
    pub swing: f64,
}

/// One quantity: fast and slow mean, and the best of the fast mean. "Better" is larger; a delay goes in negated.
#[derive(Clone, Copy, Debug)]
struct Track {
    fast: Mean,
    slow: Mean,
    best: f64,
    swing: Mean,
    /// Samples that it is of.
    swings: u32,
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
        // A trend is no volatility, so a sample is held against where the two before it lead to. Nor is a step: what is far
        // out of the ordinary counts as three times the ordinary.
        if let [Some((t1, x1)), Some((t2, x2))] = self.before {
            let (step, past) = (seconds(now.saturating_sub(t1)), seconds(t1 - t2).max(0.1));
            let expected = x1 + (x1 - x2) * (step / past).min(1.0);
            let ordinary = self.swing.value().unwrap_or(0.1).max(0.01);
            self.swing.add(now, within((expected - x) / EXTRAPOLATION, 0.0, 3.0 * ordinary));
            self.swings = self.swings.saturating_add(1);
        }
        let t = now.max(self.last);
        self.before = [Some((t, x)), self.before[0]];
        self.last = now.max(self.last);
    }

    /// How far samples are worse than expected, on average; none before there are enough.
    fn volatility(&self) -> Option<f64> {
        self.swing.value().filter(|_| self.swings >= ENOUGH)
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
