//! Is the other side gone, or is it late? An accrual failure detector: the longer the silence compared with how
//! regularly heartbeats have come, the higher the suspicion.
//!
//! Source: Hayashibara, Defago, Yared, Katayama, "The phi accrual failure detector", SRDS 2004. phi(t) = -log10 of the
//! chance that a heartbeat is still to come after a silence of t, for gaps that are normally distributed with the mean
//! and deviation of the last ones. The paper's detector is asked for a threshold and gives whatever time that takes;
//! here the time on a regular link is given, and the deviation is never taken to be less than makes it so: a detector
//! "at 500 ms" suspects after 500 ms of silence, and later where the heartbeats' own jitter asks for it.
//!
//! It knows nothing but the times at which heartbeats arrived by its own clock; what the sender's clock says, or how
//! the two differ, does not matter.

use crate::Nanos;
use crate::units::{nanos, seconds, within};

/// Gaps that are remembered.
const WINDOW: usize = 64;

/// Suspicion of one other side.
#[derive(Clone, Copy, Debug)]
pub struct Detector {
    bound: Nanos,
    threshold: f64,
    /// Deviations above the mean at which phi is the threshold.
    z: f64,
    gaps: [Nanos; WINDOW],
    held: usize,
    next: usize,
    last: Option<Nanos>,
    /// Gaps in a row that were too long to be jitter.
    broken: u32,
}

impl Detector {
    /// The threshold that Hayashibara et al. find to err less than once in a day of heartbeats (section 5, phi = 8).
    pub const THRESHOLD: f64 = 8.0;

    /// Suspects after `bound` of silence where heartbeats come regularly and faster than that, with a chance of error of
    /// 10^-8 per heartbeat.
    pub fn new(bound: Nanos) -> Self {
        Self::with_threshold(bound, Self::THRESHOLD)
    }

    /// With another threshold of phi, 0.5 to 16.
    pub fn with_threshold(bound: Nanos, phi: f64) -> Self {
        let threshold = within(phi, 0.5, 16.0);
        let (mut low, mut high) = (0.0, 10.0);
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if tail_phi(middle) < threshold { low = middle } else { high = middle }
        }
        Self { bound: bound.max(1), threshold, z: high, gaps: [0; WINDOW], held: 0, next: 0, last: None, broken: 0 }
    }

    /// A heartbeat, or anything else from the other side, has arrived.
    pub fn heartbeat(&mut self, now: Nanos) {
        let Some(last) = self.last else {
            self.last = Some(now);
            return;
        };
        let gap = now.saturating_sub(last);
        self.last = Some(now.max(last));
        // What lasted that long was an outage and no jitter: it says nothing of how heartbeats come. If it happens again
        // and again, though, that is how they come.
        let outage = gap > self.suspect_after().saturating_mul(4);
        self.broken = if outage { self.broken.saturating_add(1) } else { 0 };
        if outage && self.broken < 4 {
            return;
        }
        self.gaps[self.next] = gap;
        self.next = (self.next + 1) % WINDOW;
        self.held = (self.held + 1).min(WINDOW);
    }

    /// Begins anew: what came before, a longer pause included, says nothing of the other side from now on.
    pub fn reset(&mut self, now: Nanos) {
        (self.held, self.next, self.broken) = (0, 0, 0);
        self.last = Some(now);
    }

    /// Mean and deviation of the gaps, seconds.
    fn spread(&self) -> (f64, f64) {
        let gaps = &self.gaps[..self.held];
        if gaps.is_empty() {
            return (0.0, 0.0);
        }
        let n = gaps.len() as f64;
        let mean = gaps.iter().map(|gap| seconds(*gap)).sum::<f64>() / n;
        let variance = gaps.iter().map(|gap| (seconds(*gap) - mean) * (seconds(*gap) - mean)).sum::<f64>() / n;
        (mean, libm::sqrt(within(variance, 0.0, 1e30)))
    }

    /// Mean gap and the deviation that is reckoned with: no less than makes a regular link suspected at the bound.
    fn reckoned(&self) -> (f64, f64) {
        let (mean, deviation) = self.spread();
        let room = within(seconds(self.bound) - mean, 0.0, 1e12);
        // A link whose heartbeats take longer than the bound still gets a tenth of their gap as deviation.
        (mean, deviation.max(room / self.z).max(mean / 10.0 / self.z).max(1e-9))
    }

    /// How long nothing has been heard; none if nothing ever was.
    pub fn silence(&self, now: Nanos) -> Option<Nanos> {
        self.last.map(|last| now.saturating_sub(last))
    }

    /// The silence after which the other side is suspected.
    pub fn suspect_after(&self) -> Nanos {
        let (mean, deviation) = self.reckoned();
        nanos(mean + self.z * deviation).max(self.bound)
    }

    /// When it will be suspected if nothing comes; none if nothing has ever come.
    pub fn suspect_at(&self) -> Option<Nanos> {
        self.last.map(|last| last.saturating_add(self.suspect_after()))
    }

    /// Suspicion: 0 where nothing is overdue; at most 1000.
    pub fn phi(&self, now: Nanos) -> f64 {
        let Some(last) = self.last else { return 0.0 };
        let (mean, deviation) = self.reckoned();
        tail_phi((seconds(now.saturating_sub(last)) - mean) / deviation)
    }

    /// Whether the other side is taken to be gone.
    pub fn suspected(&self, now: Nanos) -> bool {
        self.suspect_at().is_some_and(|at| now >= at)
    }

    /// The threshold of phi.
    pub fn threshold(&self) -> f64 {
        self.threshold
    }
}

/// -log10 of the chance that a standard normal exceeds `x`.
fn tail_phi(x: f64) -> f64 {
    if x < 20.0 {
        let tail = 0.5 * libm::erfc(within(x, -38.0, 38.0) * core::f64::consts::FRAC_1_SQRT_2);
        return within(-libm::log10(tail), 0.0, 1000.0);
    }
    // Beyond, the tail is exp(-x^2 / 2) / (x sqrt(2 pi)) to within a quarter of a percent, and soon below every f64.
    let x = x.min(1e6);
    let ln = x * x / 2.0 + libm::log(x) + 0.918_938_533_204_672_7;
    within(ln / core::f64::consts::LN_10, 0.0, 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Nanos = 1_000_000;

    fn beating(detector: &mut Detector, gaps: impl IntoIterator<Item = Nanos>) -> Nanos {
        let mut now = 0;
        detector.heartbeat(now);
        for gap in gaps {
            now += gap;
            detector.heartbeat(now);
        }
        now
    }

    #[test]
    fn a_regular_link_is_suspected_at_the_bound() {
        let mut detector = Detector::new(500 * MS);
        let last = beating(&mut detector, [100 * MS; 50]);
        assert!(!detector.suspected(last + 499 * MS));
        assert!(detector.suspected(last + 501 * MS));
        assert!((detector.phi(last + 500 * MS) - 8.0).abs() < 0.01);
        assert_eq!(detector.phi(last), 0.0f64.max(detector.phi(last)));
        // 200 ms of 400 are 2.806 deviations of 5.612.
        assert!((detector.phi(last + 300 * MS) - 2.6).abs() < 0.01);
    }

    #[test]
    fn phi_by_hand() {
        // One in two: log10 2. At 5.612 deviations 10^-8.
        assert!((tail_phi(0.0) - core::f64::consts::LOG10_2).abs() < 1e-5);
        assert!((tail_phi(5.612) - 8.0).abs() < 1e-3);
        assert!((tail_phi(19.999) - tail_phi(20.0)).abs() < 0.02);
    }

    #[test]
    fn jitter_makes_it_wait_longer_and_an_outage_does_not() {
        let mut detector = Detector::new(500 * MS);
        let last = beating(&mut detector, (0..64).map(|i| if i % 4 == 0 { 400 * MS } else { 50 * MS }));
        assert!(detector.suspect_after() > 800 * MS && detector.suspect_after() < 1500 * MS);
        let mut steady = Detector::new(500 * MS);
        let end = beating(&mut steady, [100 * MS; 50]);
        steady.heartbeat(end + 300_000 * MS);
        assert!(steady.suspect_after() < 501 * MS);
        assert!(!detector.suspected(last));
    }

    #[test]
    fn heartbeats_slower_than_the_bound_are_learnt_in_the_end() {
        let mut detector = Detector::new(500 * MS);
        let last = beating(&mut detector, [5000 * MS; 80]);
        assert!(!detector.suspected(last + 5100 * MS));
        assert!(detector.suspected(last + 12_000 * MS));
    }

    #[test]
    fn nothing_is_suspected_that_was_never_heard() {
        let detector = Detector::new(500 * MS);
        assert!(!detector.suspected(Nanos::MAX));
        assert_eq!((detector.phi(Nanos::MAX), detector.suspect_at()), (0.0, None));
    }

    proptest! {
        #[test]
        fn suspicion_only_grows_with_silence_and_is_a_number(
            bound in 1..10_000_000_000u64,
            gaps in prop::collection::vec(0..20_000_000_000u64, 0..200),
            silences in prop::collection::vec(any::<u64>(), 2..20),
        ) {
            let mut detector = Detector::new(bound);
            let last = beating(&mut detector, gaps);
            let mut silences = silences;
            silences.sort_unstable();
            let mut before = 0.0;
            for silence in silences {
                let phi = detector.phi(last.saturating_add(silence));
                prop_assert!(phi.is_finite() && phi >= before);
                before = phi;
            }
            prop_assert!(detector.suspect_after() >= bound);
            prop_assert!(!detector.suspected(last.saturating_add(bound - 1)));
        }

        /// Two clocks that differ by any amount: only differences of the own one count.
        #[test]
        fn where_the_clock_started_does_not_matter(
            offset in 0..1u64 << 62,
            gaps in prop::collection::vec(1..2_000_000_000u64, 1..100),
        ) {
            let (mut a, mut b) = (Detector::new(500 * MS), Detector::new(500 * MS));
            let (mut at, mut bt) = (0, offset);
            for gap in gaps {
                at += gap;
                bt += gap;
                a.heartbeat(at);
                b.heartbeat(bt);
                prop_assert_eq!(a.suspect_after(), b.suspect_after());
                prop_assert_eq!(a.phi(at + gap).to_bits(), b.phi(bt + gap).to_bits());
            }
        }

        /// Every heartbeat within a fifth of its period, at a bound of five periods: never suspected in vain.
        #[test]
        fn a_link_that_jitters_a_little_is_never_suspected(gaps in prop::collection::vec(80..120u64, 100..2000)) {
            let mut detector = Detector::new(500 * MS);
            let mut now = 0;
            for gap in gaps {
                now += gap * MS;
                prop_assert!(!detector.suspected(now));
                detector.heartbeat(now);
            }
        }
    }
}
