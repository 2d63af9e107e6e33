//! The interval at which syncs cost least against a hazard: Young's (1974), for a sync whose cost depends on its size.
//!
//! V(S) = (c0 + g M(S)) / S + rho lambda S / 2, the cost per second of work when the standby is brought up to date every
//! S seconds: c0 what a sync costs whatever its size, g what a byte costs, rho how much slower the standby recomputes,
//! lambda outages per second, and one half because an outage finds half an interval at risk on average. With g = 0 the
//! least is at S = sqrt(2 c0 / (rho lambda)).

use crate::delta::Delta;
use crate::units::within;

/// What syncs and losses are worth. All costs are in seconds of the task's progress.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// c0: what a sync costs, whatever its size: the loss that one would accept to be spared it.
    pub per_sync: f64,
    /// g: what a byte of a sync costs.
    pub per_byte: f64,
    /// rho: how many times longer the standby takes than the server for the same progress.
    pub slowdown: f64,
}

impl Default for Costs {
    /// A sync weighs as much as a minute of lost progress, the middle of what NAPS is judged by here.
    fn default() -> Self {
        Self { per_sync: 60.0, per_byte: 0.0, slowdown: 1.0 }
    }
}

impl Costs {
    /// The same with what makes no sense replaced: nothing below 0, a slowdown of at least a thousandth.
    pub fn checked(self) -> Self {
        Self {
            per_sync: within(self.per_sync, 0.0, 1e9),
            per_byte: within(self.per_byte, 0.0, 1e3),
            slowdown: within(self.slowdown, 1e-3, 1e6),
        }
    }
}

/// Young's interval, seconds: sqrt(2 c / lambda), for a cost of `c` seconds and `lambda` outages per second; none where
/// there are no outages.
pub fn young(c: f64, lambda: f64) -> Option<f64> {
    (lambda > 0.0).then(|| within(libm::sqrt(2.0 * c / lambda), 0.0, 1e9))
}

/// The rate of outages that is expected after `k` of them in `uptime` seconds of a link that was up, per second:
/// (0.5 + k) / (30 min + uptime). The halves keep it from 0 before the first, and from a jump at it.
pub fn rate(k: u32, uptime: f64) -> f64 {
    (0.5 + f64::from(k)) / (1800.0 + within(uptime, 0.0, 1e12))
}

/// The interval at which V is least, seconds, at most `most`.
///
/// V'(S) = 0 is h(S) = rho lambda S^2 / 2 + g (S M'(S) - M(S)) - c0 = 0. For a saturating M, h falls first and then
/// rises, from below 0, so that it has one root, which lies further out the larger costs and M are and the smaller
/// lambda is.
pub fn best(costs: Costs, delta: &Delta, lambda: f64, most: f64) -> f64 {
    let h = |s: f64| {
        costs.slowdown * lambda * s * s / 2.0 + costs.per_byte * (delta.slope(s) - delta.after(s)) - costs.per_sync
    };
    if h(most) <= 0.0 {
        return most;
    }
    if costs.per_byte == 0.0 {
        return young(costs.per_sync, costs.slowdown * lambda).unwrap_or(most).min(most);
    }
    let (mut low, mut high) = (0.0, most);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if h(middle) <= 0.0 { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MINUTE;

    #[test]
    fn youngs_interval_by_hand() {
        // A sync of a minute, an outage each half hour: sqrt(2 * 60 * 1800) = 464.76 s.
        assert!((young(60.0, 1.0 / 1800.0).unwrap() - 464.758).abs() < 1e-3);
        assert_eq!(young(60.0, 0.0), None);
        // Half an outage in half an hour; two and a half in an hour and a half.
        assert!((rate(0, 0.0) - 1.0 / 3600.0).abs() < 1e-12);
        assert!((rate(2, 3600.0) - 2.5 / 5400.0).abs() < 1e-12);
    }

    #[test]
    fn the_interval_is_where_the_cost_is_least() {
        let mut delta = Delta::new();
        for minutes in [2_u64, 5, 9, 20] {
            let bytes = 1e6 + 64e6 * (1.0 - libm::exp(-(minutes as f64) / 10.0));
            delta.synced(minutes * MINUTE, bytes as u64, None);
        }
        let costs = Costs { per_sync: 20.0, per_byte: 2e-6, slowdown: 3.0 };
        let lambda = 1.0 / 1200.0;
        let v = |s: f64| (20.0 + 2e-6 * delta.after(s)) / s + 3.0 * lambda * s / 2.0;
        let s = best(costs, &delta, lambda, 1e5);
        assert!(v(s) < v(s * 0.98) && v(s) < v(s * 1.02), "{s}");
        // Without a cost per byte it is Young's: sqrt(2 * 20 / (3 / 1200)) = 126.49 s.
        let s = best(Costs { per_byte: 0.0, ..costs }, &delta, lambda, 1e5);
        assert!((s - 126.491).abs() < 1e-3);
    }
}
