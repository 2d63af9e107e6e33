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
    /// How much of the weight of a long past is there so far, 0 to 1; 1 from the first sample on where that is the mean.
    known: f64,
}

impl Mean {
    /// With a time constant of `tau` seconds.
    pub fn new(tau: f64) -> Self {
        Self { tau, most: f64::INFINITY, value: 0.0, last: None, known: 1.0 }
    }

    /// The same, but no sample stands for more than `most` seconds: after a gap a single one would otherwise be the mean.
    pub fn at_most(self, most: f64) -> Self {
        Self { most, ..self }
    }

    /// The same, but the first sample is no more than a sample: until the time constant has passed, all count about alike.
    pub fn unbiased(self) -> Self {
        Self { known: 0.0, ..self }
    }

    /// Takes in a sample, a finite number. Samples of one instant share the weight of a hundredth of the time constant
    /// each, so that a burst of them is neither ignored nor believed outright.
    pub fn add(&mut self, now: Nanos, x: f64) {
        self.value = match self.last {
            None => {
                self.known = self.known.max(0.01);
                x
            }
            Some(last) => {
                let dt = seconds(now.saturating_sub(last)).min(self.most).max(self.tau / 100.0);
                let weight = 1.0 - libm::exp(-dt / self.tau);
                self.known += weight * (1.0 - self.known);
                self.value + weight / self.known * (x - self.value)
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
    fn unbiased_the_first_samples_count_alike() {
        let (mut plain, mut warm) = (Mean::new(100.0), Mean::new(100.0).unbiased());
        for (i, x) in [9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0].into_iter().enumerate() {
            let now = i as u64 * SECOND;
            plain.add(now, x);
            warm.add(now, x);
        }
        // 8 s of 100 have passed: the plain mean is still near the first sample, the other one near 9 / 9.
        assert!(plain.value().unwrap() > 8.0);
        assert!((warm.value().unwrap() - 1.0).abs() < 0.1, "{:?}", warm.value());
        // In the long run they are the same.
        for i in 9..2000 {
            plain.add(i * SECOND, 5.0);
            warm.add(i * SECOND, 5.0);
        }
        assert!((plain.value().unwrap() - warm.value().unwrap()).abs() < 1e-6);
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
