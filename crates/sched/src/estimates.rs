//! How long a task will run, from how long tasks like it have run.
//!
//! The thesis takes the mean of the last runs on the system (5.1.2 (2)), found its estimates spoiled by runs that competed
//! with the controller, and asks for better ones (5.2.3). Here: runs are normalised by the speed of their node, kept by kind of
//! task and class of arguments, and the estimate is their median, recent runs weighing more, which one bad run in three does
//! not move far. How sure it is comes from the spread of the logarithms (run times are spread like a lognormal) and from how few
//! they are. A first run is estimated from other arguments of the same kind, or a default.

use crate::model::Estimate;
use crate::units::{normal_quantile, within};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Runs that are kept of one kind and class.
const KEPT: usize = 32;
/// Kinds and classes that are kept; the one that was not used for longest goes.
const MOST: usize = 4096;
/// Weight of a run against that of the next.
const DECAY: f64 = 0.9;
/// The spread that is assumed before anything is known of it, as the standard deviation of the logarithm, and how many runs
/// that assumption weighs.
const PRIOR: (f64, f64) = (0.5, 2.0);

#[derive(Debug, Default)]
struct Runs {
    /// Logarithms of seconds at speed 1, the latest last.
    logs: VecDeque<f64>,
    used: u64,
}

/// What has been seen of run times.
#[derive(Debug)]
pub struct History {
    runs: BTreeMap<(String, String), Runs>,
    by_use: BTreeMap<u64, (String, String)>,
    uses: u64,
    default: Estimate,
}

impl Default for History {
    /// A minute, give or take as much, for what nothing is known of.
    fn default() -> Self {
        Self::new(Estimate { seconds: 60.0, cv: 1.0 })
    }
}

impl History {
    /// With an estimate for what nothing is known of.
    pub fn new(default: Estimate) -> Self {
        Self { runs: BTreeMap::new(), by_use: BTreeMap::new(), uses: 0, default }
    }

    /// A task of that kind, with arguments of that class, has run for so many seconds on a node of that speed. Runs that were
    /// cut short are not to be told.
    pub fn handle_run(&mut self, kind: &str, class: &str, seconds: f64, speed: f64) {
        if !(seconds > 0.0 && speed > 0.0) {
            return;
        }
        let key = (kind.to_string(), class.to_string());
        self.uses += 1;
        let runs = self.runs.entry(key.clone()).or_default();
        self.by_use.remove(&runs.used);
        runs.used = self.uses;
        runs.logs.push_back(libm::log(within(seconds * speed, 1e-6, 1e9)));
        if runs.logs.len() > KEPT {
            runs.logs.pop_front();
        }
        self.by_use.insert(self.uses, key);
        if self.runs.len() > MOST
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.runs.remove(&oldest);
        }
    }

    /// Whether a task of that kind with arguments of that class has run.
    pub fn has_run(&self, kind: &str, class: &str) -> bool {
        self.runs.contains_key(&(kind.to_string(), class.to_string()))
    }

    /// How long such a task will run.
    pub fn estimate(&self, kind: &str, class: &str) -> Estimate {
        if let Some(runs) = self.runs.get(&(kind.to_string(), class.to_string())) {
            let (median, spread, weight) = spread(&runs.logs);
            // The prior counts as a few runs; and the median is itself less sure the fewer runs there are.
            let variance = (weight * spread * spread + PRIOR.1 * PRIOR.0 * PRIOR.0) / (weight + PRIOR.1);
            return lognormal(median, variance * (1.0 + 1.0 / weight));
        }
        // Other arguments: each class counts once, however often it ran.
        let alike = self.runs.range((kind.to_string(), String::new())..).take_while(|(k, _)| k.0 == kind);
        let medians: VecDeque<f64> = alike.take(256).map(|(_, runs)| spread(&runs.logs).0).collect();
        if medians.is_empty() {
            return self.default;
        }
        let (median, spread, _) = spread(&medians);
        lognormal(median, (spread * spread).max(PRIOR.0 * PRIOR.0) * (1.0 + 1.0 / medians.len() as f64))
    }

    /// Seconds at speed 1 within which such a task ends with probability `q`.
    pub fn quantile(&self, kind: &str, class: &str, q: f64) -> f64 {
        let estimate = self.estimate(kind, class);
        let sigma = libm::sqrt(libm::log1p(estimate.cv * estimate.cv));
        estimate.seconds * libm::exp(sigma * normal_quantile(within(q, 1e-6, 1.0 - 1e-6)))
    }
}

/// The median of a lognormal, with the coefficient of variation of that variance of the logarithm.
fn lognormal(median: f64, variance: f64) -> Estimate {
    Estimate { seconds: libm::exp(median), cv: libm::sqrt(libm::expm1(variance.min(4.0))) }
}

/// Weighted median; 1.4826 times the weighted median of distances from it (which is the standard deviation of what is normal);
/// and the sum of weights.
fn spread(logs: &VecDeque<f64>) -> (f64, f64, f64) {
    let mut weighted: Vec<(f64, f64)> =
        logs.iter().rev().enumerate().map(|(age, &x)| (x, libm::pow(DECAY, age as f64))).collect();
    let sum: f64 = weighted.iter().map(|w| w.1).sum();
    let middle = median(&mut weighted, sum);
    for w in &mut weighted {
        w.0 = libm::fabs(w.0 - middle);
    }
    (middle, 1.4826 * median(&mut weighted, sum), sum)
}

fn median(weighted: &mut [(f64, f64)], sum: f64) -> f64 {
    weighted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut before = 0.0;
    for (i, &(x, weight)) in weighted.iter().enumerate() {
        before += weight;
        if before > sum / 2.0 + 1e-9 {
            return x;
        }
        if before > sum / 2.0 - 1e-9 {
            return weighted.get(i + 1).map_or(x, |next| (x + next.0) / 2.0);
        }
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(runs: &[(f64, f64)]) -> History {
        let mut history = History::default();
        runs.iter().for_each(|&(seconds, speed)| history.handle_run("sha256", "1 GB", seconds, speed));
        history
    }

    #[test]
    fn nothing_known_is_the_default_and_a_like_kind_is_better() {
        assert_eq!(History::default().estimate("pi", ""), Estimate { seconds: 60.0, cv: 1.0 });
        let estimate = history(&[(20.0, 1.0); 5]).estimate("sha256", "2 GB");
        assert!((estimate.seconds - 20.0).abs() < 1e-9 && estimate.cv > 0.5, "{estimate:?}");
    }

    #[test]
    fn runs_on_fast_and_slow_nodes_count_alike() {
        let estimate = history(&[(20.0, 1.0), (10.0, 2.0), (40.0, 0.5)]).estimate("sha256", "1 GB");
        assert!((estimate.seconds - 20.0).abs() < 1e-9);
    }

    #[test]
    fn one_bad_run_in_three_moves_little_and_new_runs_outweigh_old_ones() {
        let spoiled = [(20.0, 1.0), (21.0, 1.0), (300.0, 1.0), (20.5, 1.0), (19.5, 1.0), (250.0, 1.0)];
        let estimate = history(&spoiled).estimate("sha256", "1 GB");
        assert!((19.5..=22.0).contains(&estimate.seconds), "{estimate:?}");
        let mut runs = [(20.0, 1.0); 30];
        runs[20..].fill((40.0, 1.0));
        assert!((history(&runs).estimate("sha256", "1 GB").seconds - 40.0).abs() < 1e-9);
    }

    #[test]
    fn more_runs_make_it_surer_and_quantiles_are_in_order() {
        let few = history(&[(20.0, 1.0); 2]).estimate("sha256", "1 GB");
        let history = history(&[(20.0, 1.0); 30]);
        assert!(history.estimate("sha256", "1 GB").cv < few.cv);
        let at = |q| history.quantile("sha256", "1 GB", q);
        assert!(at(0.1) < at(0.5) && at(0.5) < at(0.9));
        assert!((at(0.5) - 20.0).abs() < 1e-6 && (normal_quantile(0.975) - 1.959_964).abs() < 1e-5);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut history = History::default();
        for i in 0..MOST + 100 {
            history.handle_run("k", &i.to_string(), 1.0, 1.0);
            history.handle_run("often", "", 1.0, 1.0);
        }
        assert_eq!((history.runs.len(), history.by_use.len()), (MOST, MOST));
        assert!(history.runs.contains_key(&("often".to_string(), String::new())));
    }
}
