//! An exponential mean of samples that come when they come.
//!
//! A transfer gives a sample when there is something to send, a heartbeat when it arrives: with a weight per sample, a
//! busy minute would count more than a quiet one. Here the weight of a sample is that of the time it stands for.

use crate::Nanos;
use crate::units::seconds;

/// m <- m + (1 - exp(-dt / tau)) (x - m), with dt the time since the sample before; the first sample is the mean.
#[derive(Clone, Copy, Debug)]
pub struct Mean {
    tau: f64,
    most: f64,
    value: f64,
    last: Option<Nanos>,
}

impl Mean {
    /// With a time constant of `tau` seconds.
    pub fn new(tau: f64) -> Self {
        Self { tau, most: f64::INFINITY, value: 0.0, last: None }
    }

    /// The same, but no sample stands for more than `most` seconds: after a gap a single one would otherwise be the mean.
    pub fn at_most(self, most: f64) -> Self {
        Self { most, ..self }
    }

    /// Takes in a sample, a finite number. Samples of one instant share the weight of a hundredth of the time constant
    /// each, so that a burst of them is neither ignored nor believed outright.
    pub fn add(&mut self, now: Nanos, x: f64) {
        self.value = match self.last {
            None => x,
            Some(last) => {
                let dt = seconds(now.saturating_sub(last)).min(self.most).max(self.tau / 100.0);
                self.value + (1.0 - libm::exp(-dt / self.tau)) * (x - self.value)
            }
        };
        self.last = Some(now.max(self.last.unwrap_or(0)));
    }

    /// The mean; none before the first sample.
    pub fn value(&self) -> Option<f64> {
        self.last.map(|_| self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::SECOND;

    #[test]
    fn a_sample_weighs_as_much_as_the_time_it_stands_for() {
        let mut once = Mean::new(10.0);
        once.add(0, 0.0);
        once.add(10 * SECOND, 1.0);
        // 1 - 1/e after one time constant.
        assert!((once.value().unwrap() - 0.632_120_558_8).abs() < 1e-9);
        let mut often = Mean::new(10.0);
        often.add(0, 0.0);
        (1..=100).for_each(|i| often.add(i * SECOND / 10, 1.0));
        assert!((often.value().unwrap() - once.value().unwrap()).abs() < 1e-9);
    }

    #[test]
    fn a_sample_after_a_gap_is_only_a_sample() {
        let mut mean = Mean::new(10.0).at_most(10.0);
        mean.add(0, 0.0);
        mean.add(1000 * SECOND, 1.0);
        assert!((mean.value().unwrap() - 0.632_120_558_8).abs() < 1e-9);
    }

    #[test]
    fn time_that_goes_back_is_no_time() {
        let mut mean = Mean::new(10.0);
        assert_eq!(mean.value(), None);
        mean.add(5 * SECOND, 1.0);
        mean.add(SECOND, 3.0);
        assert!(mean.value().unwrap() < 1.03);
    }
}
