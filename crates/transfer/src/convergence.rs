//! When to stop copying and freeze the task: as soon as the downtime that follows is predicted to be under the bound,
//! or when further rounds would only repeat the last one.

use crate::Nanos;
use alloc::vec::Vec;

/// What a round took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Round {
    /// Pages sent.
    pub pages: u64,
    /// Bytes that they took on the link.
    pub bytes: u64,
    /// From its first byte to the word that it had arrived.
    pub nanos: Nanos,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Another round.
    Continue,
    /// Freeze: the downtime will be about this.
    Freeze(Nanos),
    /// Rounds get no smaller; freezing now would take about this.
    Stalled(Nanos),
}

/// Watches the rounds of one move.
#[derive(Clone, Debug)]
pub struct Convergence {
    /// The bound.
    max_downtime: Nanos,
    rtt: Nanos,
    rounds: Vec<Round>,
    /// Rounds in a row that did not shrink.
    stuck: u32,
}

/// Most rounds there ever are.
const ROUNDS_MAX: usize = 60;
/// A round that leaves more than this share of the last one's pages has not shrunk.
const SHRINKS: f64 = 0.9;
/// So many of those in a row are no accident.
const STUCK: u32 = 3;
/// What a freeze takes besides the link: stopping, restoring, writing a log. Measured: 1 to 2 ms.
const FIXED: Nanos = 1_500_000;

impl Convergence {
    /// For a link with this round-trip time.
    pub fn new(max_downtime: Nanos, rtt: Nanos) -> Self {
        Self { max_downtime, rtt, rounds: Vec::new(), stuck: 0 }
    }

    /// The rounds so far.
    pub fn rounds(&self) -> &[Round] {
        &self.rounds
    }

    /// Bytes per second that the link took, by the largest of the last rounds: small ones measure the delay.
    pub fn bandwidth(&self) -> f64 {
        let recent = self.rounds.iter().rev().take(4);
        let rate = |r: &Round| r.bytes as f64 * 1e9 / r.nanos.saturating_sub(self.rtt).max(1000) as f64;
        recent.max_by_key(|r| r.bytes).map_or(0.0, rate)
    }

    /// How long the task will stand still if it is frozen with so many dirty pages: these, one and a half round trips
    /// (prepared, commit), and what is always there.
    pub fn predict(&self, dirty: u64) -> Nanos {
        let (pages, bytes) = self.rounds.iter().fold((0, 0), |(p, b), r| (p + r.pages, b + r.bytes));
        let per_page = if pages == 0 { 4096.0 } else { bytes as f64 / pages as f64 };
        let bandwidth = self.bandwidth();
        let copy = if bandwidth > 0.0 { dirty as f64 * per_page * 1e9 / bandwidth } else { f64::INFINITY };
        let copy = if dirty == 0 { 0.0 } else { copy };
        (copy as Nanos).saturating_add(self.rtt * 3 / 2 + FIXED)
    }

    /// A round is over, and since its beginning so many pages have become dirty.
    pub fn decide(&mut self, round: Round, dirty: u64) -> Decision {
        // A round without a page says nothing about link or task.
        if round.pages > 0 {
            self.rounds.push(round);
        }
        let predicted = self.predict(dirty);
        if predicted <= self.max_downtime || dirty == 0 {
            return Decision::Freeze(predicted);
        }
        if round.pages == 0 {
            return Decision::Continue;
        }
        let shrank = (dirty as f64) < round.pages as f64 * SHRINKS;
        self.stuck = if shrank { 0 } else { self.stuck + 1 };
        if self.stuck >= STUCK || self.rounds.len() >= ROUNDS_MAX {
            return Decision::Stalled(predicted);
        }
        Decision::Continue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    /// 100 MB/s, and a task that writes `rate` pages per second.
    fn run(rate: u64, first: u64) -> (usize, Decision) {
        let mut convergence = Convergence::new(10 * MS, MS);
        let mut pages = first;
        loop {
            let nanos = pages * 4096 * 10 + MS;
            let dirty = (rate * nanos / 1_000_000_000).min(first);
            match convergence.decide(Round { pages, bytes: pages * 4096, nanos }, dirty) {
                Decision::Continue => pages = dirty,
                done => return (convergence.rounds().len(), done),
            }
        }
    }

    #[test]
    fn an_idle_task_is_frozen_after_one_round() {
        let (rounds, decision) = run(0, 10_000);
        assert_eq!(rounds, 1);
        assert!(matches!(decision, Decision::Freeze(t) if t < 4 * MS));
    }

    #[test]
    fn rounds_shrink_until_the_bound_is_met() {
        let (rounds, decision) = run(10_000, 50_000);
        assert!((2..10).contains(&rounds), "{rounds}");
        assert!(matches!(decision, Decision::Freeze(t) if t <= 10 * MS));
    }

    #[test]
    fn a_task_that_outruns_the_link_is_found_out() {
        let (rounds, decision) = run(100_000, 20_000);
        assert!(rounds <= 6, "{rounds}");
        assert!(matches!(decision, Decision::Stalled(t) if t > 100 * MS));
    }
}
