//! How much width counts in the list, found by trying: a few lists are run against invented outcomes, and the one that does
//! best on average is taken.
//!
//! Longest first is good for tasks of one core. When some use half of one, those that come last decide how evenly the
//! set ends, and narrow tasks are the better last ones, unless they are long: see [`width`]. How far that goes
//! depends on how sure the estimates are, so that the outcomes are drawn with their errors. The number of trials falls as
//! sets grow, where it matters less.

use crate::list::{Rule, dispatch};
use crate::model::{Cluster, TaskSpec};
use crate::plan::{Objective, Plan};
use crate::rng::Rng;
use crate::simulate::outcomes;
use alloc::vec::Vec;

/// The exponents that are tried.
const WIDE: [f64; 6] = [0.0, 1.0, 2.0, 0.5, 0.3, 0.7];
/// Those that are tried where estimates are not exact.
const UNSURE: [f64; 2] = [0.5, 1.0];

/// The power of cores that suits the set: what an engine that gets it is to be set to.
pub fn width(cluster: &Cluster, tasks: &[TaskSpec], seed: u64) -> f64 {
    rule(cluster, tasks, Objective::Makespan, seed).0.wide
}

/// The rule for the list, without a target; with the plan that it makes if that has been made.
pub(crate) fn rule(cluster: &Cluster, tasks: &[TaskSpec], objective: Objective, seed: u64) -> (Rule, Option<Plan>) {
    let mut rule = Rule { objective, wide: 0.0, slack: None };
    let level = tasks.windows(2).all(|w| w[0].cores == w[1].cores);
    if objective == Objective::MeanResponse || level || tasks.len() > 20_000 {
        return (rule, None);
    }
    let sure = tasks.iter().all(|t| t.work.cv <= 0.0);
    // More trials, and more widths, make plans no better where nothing is sure, and ten times as slow.
    let trials = if sure { 1 } else { (400 / tasks.len()).clamp(1, 2) };
    let widths = match (sure, tasks.len()) {
        (false, _) => &UNSURE[..],
        (true, ..800) => &WIDE[..],
        (true, _) => &WIDE[..3],
    };
    let mut rng = Rng::new(seed);
    let drawn: Vec<Vec<f64>> = (0..trials).map(|_| outcomes(tasks, &mut rng)).collect();
    let (mut least, mut best) = (u128::MAX, None);
    for &wide in widths {
        let tried = Rule { wide, ..rule };
        let mut sum = 0;
        let mut last = None;
        for outcome in &drawn {
            let plan = dispatch(cluster, tasks, Some(outcome), tried);
            sum += u128::from(plan.makespan());
            last = Some(plan);
        }
        if sum < least {
            (least, rule, best) = (sum, tried, last);
        }
    }
    // What was drawn is what is estimated, if that is sure.
    (rule, best.filter(|_| sure))
}
