//! The best that can be done by who sees the hidden state of the link, and knows the process, but not the future.
//!
//! Dynamic programming over (time left, hidden state, progress at risk) in steps of [`STEP`] seconds: to wait a step, or to
//! sync, which takes as long as its bytes do at the state's bandwidth, during which the state may change and the link may
//! break. An outage costs what is at risk; after it both sides are alike. What comes out is, for each hidden state, the
//! progress at risk from which a sync is worth its cost, taken so far from the end that the end does not matter: the oracle
//! does not know when the course ends.

use super::condition::{Chain, LEVELS};
use super::course::{Hidden, Point};
use super::run::{Keeper, size};
use crate::clock::{Nanos, SECOND};
use wayfare_policy::LinkSample;

/// Seconds of a step.
const STEP: f64 = 2.0;
/// Steps of progress at risk that are told apart: an hour.
const RISKS: usize = 1800;
/// Steps that are looked ahead: two hours and a half.
const AHEAD: usize = 4500;

/// Sees what nobody else does.
#[derive(Clone, Debug)]
pub struct Oracle {
    /// For good and marginal: progress at risk in seconds from which to sync; infinite where never.
    pub thresholds: [f64; 2],
    hidden: Hidden,
    safe: Nanos,
    carries: Nanos,
}

/// Chances after a step, of good, marginal and outage, from good or marginal.
fn step(chain: &Chain) -> [[f64; 3]; 2] {
    let leaves = |mean: f64| 1.0 - (-STEP / mean).exp();
    let (g, m) = (leaves(chain.good), leaves(chain.marginal));
    [
        [1.0 - g, g * (1.0 - chain.good_breaks), g * chain.good_breaks],
        [m * (1.0 - chain.marginal_breaks), 1.0 - m, m * chain.marginal_breaks],
    ]
}

impl Oracle {
    /// For a process and a cost of a sync in minutes.
    pub fn new(chain: &Chain, c: f64) -> Self {
        let step = step(chain);
        let c = c * 60.0;
        // Both in steps. A sync lasts at least one.
        let lasts = |state: usize, risk: usize| -> usize {
            let seconds = size(risk as f64 * STEP) / LEVELS[state].0 + 2.0 * LEVELS[state].1;
            ((seconds / STEP).round() as usize).max(1)
        };
        let longest = lasts(1, RISKS);
        // Chances of being in good, in marginal after so many steps, and of breaking in each step, from each state.
        let spread = |state: usize| {
            let mut at = [0.0; 2];
            at[state] = 1.0;
            let mut all = vec![(at, 0.0)];
            for _ in 0..longest {
                let breaks = at[0] * step[0][2] + at[1] * step[1][2];
                at = [at[0] * step[0][0] + at[1] * step[1][0], at[0] * step[0][1] + at[1] * step[1][1]];
                all.push((at, breaks));
            }
            all
        };
        let spread = [spread(0), spread(1)];
        // values[left % held][state][risk]: least cost of what is left, in seconds, while the link is up. Outages are
        // taken to last no time: after them the same comes for every policy. No sync looks further ahead than the ring.
        let held = longest + 1;
        let mut values: Vec<[Vec<f64>; 2]> = vec![[vec![0.0; RISKS + 1], vec![0.0; RISKS + 1]]; held];
        let mut thresholds = [f64::INFINITY; 2];
        for left in 1..=AHEAD {
            let mut now = [vec![0.0; RISKS + 1], vec![0.0; RISKS + 1]];
            let after_outage = |left: usize| {
                chain.to_marginal * values[left % held][1][0] + (1.0 - chain.to_marginal) * values[left % held][0][0]
            };
            for state in 0..2 {
                thresholds[state] = f64::INFINITY;
                for risk in (0..=RISKS).rev() {
                    let next = (risk + 1).min(RISKS);
                    let p = step[state];
                    let before = &values[(left - 1) % held];
                    let wait = p[0] * before[0][next]
                        + p[1] * before[1][next]
                        + p[2] * ((risk as f64 + 0.5) * STEP + after_outage(left - 1));
                    let lasts = lasts(state, risk).min(left);
                    let mut sync = c;
                    for (i, (_, breaks)) in spread[state].iter().enumerate().take(lasts + 1).skip(1) {
                        sync += breaks * ((risk as f64 + i as f64 - 0.5) * STEP + after_outage(left - i));
                    }
                    let (at, _) = spread[state][lasts];
                    let then = &values[(left - lasts) % held];
                    sync += at[0] * then[0][lasts.min(RISKS)] + at[1] * then[1][lasts.min(RISKS)];
                    now[state][risk] = wait.min(sync);
                    if sync < wait {
                        thresholds[state] = risk as f64 * STEP;
                    }
                }
            }
            values[left % held] = now;
        }
        Self { thresholds, hidden: Hidden::Good, safe: 0, carries: 0 }
    }
}

impl Keeper for Oracle {
    fn second(&mut self, _now: Nanos, point: &Point, _sample: Option<LinkSample>) {
        self.hidden = point.hidden;
    }

    fn sync(&mut self, _now: Nanos, work: Nanos, _ahead: Nanos) -> bool {
        self.carries = work;
        let risk = (work - self.safe) as f64 / SECOND as f64;
        risk >= self.thresholds[usize::from(self.hidden == Hidden::Marginal)]
    }

    fn finished(&mut self, _now: Nanos, _bytes: u64) {
        self.safe = self.carries;
    }

    fn broke(&mut self, _now: Nanos) {}

    fn back(&mut self, _now: Nanos, work: Nanos) {
        self.safe = work;
    }
}
