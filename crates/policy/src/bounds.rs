//! What a policy may not do, whatever it wants: put more at risk than the task allows, or take more of the link.

use crate::Nanos;
use crate::units::{SECOND, seconds, within};

/// Limits of the syncs of one task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Never more progress at risk than this, where the link can do it within its share.
    pub max_loss: Option<Nanos>,
    /// The share of the link's time that syncs may take, 0 to 1.
    pub share: f64,
    /// Link time that may be taken in one go before the share is counted, seconds: so much is saved up while no sync runs.
    pub burst: f64,
    /// No two syncs begin closer together than this.
    pub least: Nanos,
    /// The longest interval that `auto` and `young` choose for a task that runs.
    pub most: Nanos,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { max_loss: None, share: 0.10, burst: 60.0, least: SECOND, most: 2 * 3600 * SECOND }
    }
}

impl Bounds {
    /// The same with what makes no sense replaced.
    pub fn checked(self) -> Self {
        let least = self.least.max(1);
        Self {
            share: within(self.share, 0.001, 1.0),
            burst: within(self.burst, 0.1, 1e6),
            least,
            most: self.most.max(least),
            ..self
        }
    }
}

/// Link time that syncs may still take.
///
/// Time while the link is up adds a share of itself, up to the burst; a sync takes what it lasts, and may overdraw. The
/// next has to wait until there is as much as it is expected to take, or the whole burst where it takes more than that.
/// So over any span T the syncs take at most share T + burst + what the last of them exceeded its expectation by.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    share: f64,
    burst: f64,
    left: f64,
    at: Nanos,
}

impl Budget {
    /// Starts full.
    pub fn new(bounds: &Bounds, now: Nanos) -> Self {
        Self { share: bounds.share, burst: bounds.burst, left: bounds.burst, at: now }
    }

    /// Time passes, during which the link was up or not.
    pub fn advance(&mut self, now: Nanos, up: bool) {
        if up {
            self.left = (self.left + self.share * seconds(now.saturating_sub(self.at))).min(self.burst);
        }
        self.at = now.max(self.at);
    }

    /// A sync has taken the link for so many seconds.
    pub fn take(&mut self, seconds: f64) {
        self.left -= within(seconds, 0.0, 1e9);
    }

    /// Seconds until a sync of so many seconds may begin; 0 if it may now.
    pub fn wait(&self, expected: f64) -> f64 {
        within((expected.min(self.burst) - self.left) / self.share, 0.0, 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_saved_up_to_the_burst_and_paid_off_after_an_overdraft() {
        let bounds = Bounds { burst: 10.0, ..Bounds::default() };
        let mut budget = Budget::new(&bounds, 0);
        assert_eq!(budget.wait(5.0), 0.0);
        assert_eq!(budget.wait(50.0), 0.0);
        budget.take(12.0);
        // 2 s overdrawn, 5 s needed, a tenth of the time: 70 s.
        assert!((budget.wait(5.0) - 70.0).abs() < 1e-9);
        budget.advance(70 * SECOND, true);
        assert!(budget.wait(5.0) < 1e-9);
        budget.advance(90 * SECOND, false);
        assert!((budget.wait(6.0) - 10.0).abs() < 1e-9);
        budget.advance(10_000 * SECOND, true);
        assert_eq!(budget.wait(1e6), 0.0);
    }
}
