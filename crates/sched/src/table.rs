//! Table 5-3 of the thesis: how much sooner its sets of tasks end when they are offloaded, for any policy, beside what it prints.

use crate::bounds;
use crate::model::{Estimate, TaskSpec};
use crate::plan::{Objective, Policy, plan};
use crate::rng::Rng;
use crate::simulate::{MIX, acceleration, outcomes, run, tasks_of, thesis_cluster};
use alloc::vec::Vec;

/// Numbers of tasks of its sets.
pub const SIZES: [usize; 3] = [100, 500, 1000];
/// A in per cent, as printed: three sets of each size.
pub const PRINTED: [[f64; 3]; 3] = [[78.08, 77.18, 72.58], [69.41, 79.30, 74.78], [77.03, 74.01, 77.53]];

/// The experiment.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// Run times of the nine programs, seconds at speed 1.
    pub seconds: [f64; MIX.len()],
    /// How far outcomes are from these: standard deviation / mean.
    pub cv: f64,
    /// Of what is drawn.
    pub seed: u64,
    /// Sets of each size.
    pub sets: usize,
}

impl Default for Experiment {
    fn default() -> Self {
        Self { seconds: MIX.map(|kind| kind.4), cv: 0.15, seed: 0, sets: 3 }
    }
}

/// What came of one set.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its place in [`SIZES`].
    pub size: usize,
    /// Which of that size, from 0.
    pub set: usize,
    /// T_local, seconds.
    pub local: f64,
    /// What no policy could beat, seconds: makespan, and mean response.
    pub bounds: (f64, f64),
    /// The makespan of a plan that knows what each task will really take, seconds: the better of the list and local search.
    pub foreseen: f64,
    /// By policy, in the order asked for.
    pub off: Vec<Off>,
}

/// What came of one set by one policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Off {
    /// (5-9), 0 to 1.
    pub acceleration: f64,
    /// T_off with the makespan as objective, seconds.
    pub makespan: f64,
    /// The mean response with that as objective, seconds.
    pub mean_response: f64,
}

/// Runs the experiment, set by set.
pub fn rows(experiment: &Experiment, policies: &[Policy]) -> Vec<Row> {
    let cluster = thesis_cluster();
    let sets = (0..SIZES.len()).flat_map(|size| (0..experiment.sets).map(move |set| (size, set)));
    sets.map(|(size, set)| {
        let n = SIZES[size];
        let mut rng = Rng::new((100 * n + set) as u64 ^ experiment.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let tasks = tasks_of(&experiment.seconds, n, experiment.cv, &mut rng);
        let actual = outcomes(&tasks, &mut rng);
        let by = |policy, objective| run(&cluster, &tasks, &actual, policy, objective, 1);
        let local = by(Policy::Local, Objective::Makespan);
        let known: Vec<TaskSpec> =
            tasks.iter().zip(&actual).map(|(t, &s)| TaskSpec { work: Estimate::exact(s), ..t.clone() }).collect();
        let foreseen = [Policy::List, Policy::LocalSearch]
            .map(|policy| plan(&cluster, &known, policy, Objective::Makespan, 1).value(Objective::Makespan));
        let off = |&policy: &Policy| {
            let off = by(policy, Objective::Makespan);
            Off {
                acceleration: acceleration(&local, &off),
                makespan: off.value(Objective::Makespan),
                mean_response: by(policy, Objective::MeanResponse).value(Objective::MeanResponse),
            }
        };
        Row {
            size,
            set,
            local: local.value(Objective::Makespan),
            bounds: (bounds::makespan(&cluster, &tasks, &actual), bounds::mean_response(&cluster, &tasks, &actual)),
            foreseen: foreseen[0].min(foreseen[1]),
            off: policies.iter().map(off).collect(),
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_ends_four_to_six_times_sooner_and_not_before_it_can() {
        let experiment = Experiment { sets: 1, ..Experiment::default() };
        let rows = rows(&experiment, &[Policy::List, Policy::Local]);
        assert_eq!(rows.len(), SIZES.len());
        for row in rows {
            let [list, local] = row.off[..] else { panic!("two policies") };
            assert!(list.acceleration > 0.79 && local.acceleration == 0.0, "{row:?}");
            assert!(row.foreseen >= row.bounds.0 - 1e-6 && list.makespan >= row.bounds.0 - 1e-6, "{row:?}");
        }
    }
}
