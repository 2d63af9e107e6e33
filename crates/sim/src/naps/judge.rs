//! What a policy costs: J = syncs begun x c + minutes of progress lost, summed over courses, and against what.
//!
//! A minute lost is a minute that the standby takes to recompute it; c is what a sync costs in such minutes, and
//! the policies know it. Three yardsticks: the best fixed interval *in hindsight*, one for all courses that are summed;
//! NAPS; and an oracle that sees the hidden state. None of them is a bound: no policy can beat "never" where no outage comes.

use super::condition::Condition;
use super::course::Course;
use super::oracle::Oracle;
use super::run::{Driven, Outcome, run};
use crate::clock::{Nanos, SECOND};
use rayon::prelude::*;
use wayfare_policy::{Costs, Policy, Settings};

/// The costs of a sync, in minutes, for which J is taken.
pub const COSTS: [f64; 3] = [0.5, 1.0, 2.0];

/// A mean and the half-width of its 95 % confidence interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// 1.96 standard errors.
    pub within: f64,
}

impl Mean {
    /// Of independent values.
    pub fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        if values.is_empty() {
            return Self::default();
        }
        let value = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|x| (x - value) * (x - value)).sum::<f64>() / (n - 1.0).max(1.0);
        Self { value, within: 1.96 * (variance / n).sqrt() }
    }

    /// Of the ratio of two sums over the same courses, by the delta method: what both have in common cancels out.
    pub fn of_ratio(a: &[f64], b: &[f64]) -> Self {
        let (sum_a, sum_b) = (a.iter().sum::<f64>(), b.iter().sum::<f64>());
        let value = if sum_b > 0.0 {
            sum_a / sum_b
        } else if sum_a > 0.0 {
            f64::INFINITY
        } else {
            1.0
        };
        let n = a.len() as f64;
        let rest: f64 = a.iter().zip(b).map(|(a, b)| (a - value * b) * (a - value * b)).sum();
        Self { value, within: if sum_b > 0.0 { 1.96 * (rest * n / (n - 1.0).max(1.0)).sqrt() / sum_b } else { 0.0 } }
    }
}

/// The settings that policies are compared with: as the defaults, but for the cost, and the policies of the thesis as it
/// describes them, without our bounds.
pub fn settings(c: f64) -> Settings {
    Settings { costs: Costs { per_sync: c * 60.0, ..Costs::default() }, bound_all: false, ..Settings::default() }
}

/// One outcome per course.
pub fn outcomes(courses: &[Course], policy: Policy, settings: Settings) -> Vec<Outcome> {
    courses.par_iter().map(|course| run(course, &mut Driven::new(policy, settings))).collect()
}

/// J per course.
pub fn costs(courses: &[Course], policy: Policy, settings: Settings) -> Vec<f64> {
    let c = settings.costs.per_sync / 60.0;
    courses.par_iter().map(|course| run(course, &mut Driven::new(policy, settings)).cost(c)).collect()
}

/// The fixed intervals that are tried in hindsight, nanoseconds: from half a minute in steps of 5 %, and one that is
/// longer than any course, which is never.
pub fn grid() -> Vec<Nanos> {
    let mut grid: Vec<Nanos> = (0..110)
        .map(|i| (30.0 * 1.05f64.powi(i)).round() as Nanos * SECOND)
        .take_while(|s| *s < 7200 * SECOND)
        .collect();
    grid.push(1000 * 3600 * SECOND);
    grid
}

/// The fixed interval whose sum of J is least over all courses, and its J per course.
pub fn best_fixed(courses: &[Course], c: f64) -> (Nanos, Vec<f64>) {
    let all = grid().into_iter().map(|interval| {
        let costs = costs(courses, Policy::Fixed(interval), settings(c));
        (interval, costs)
    });
    let sum = |costs: &[f64]| costs.iter().sum::<f64>();
    all.min_by(|a, b| sum(&a.1).total_cmp(&sum(&b.1))).unwrap_or_default()
}

/// J per course of the oracle for a condition, which is one of the thesis's.
pub fn oracle(condition: Condition, courses: &[Course], c: f64) -> Vec<f64> {
    let oracle = Oracle::new(&condition.chain(), c);
    courses.par_iter().map(|course| run(course, &mut oracle.clone()).cost(c)).collect()
}

/// Courses of a condition.
pub fn courses(condition: Condition, seeds: std::ops::Range<u64>) -> Vec<Course> {
    seeds.into_par_iter().map(|seed| condition.course(seed)).collect()
}

/// Several lists, value by value: the sum over conditions for each seed.
pub fn sum(lists: &[Vec<f64>]) -> Vec<f64> {
    let n = lists.iter().map(Vec::len).min().unwrap_or(0);
    (0..n).map(|i| lists.iter().map(|list| list[i]).sum()).collect()
}
