//! Whether a task that runs should go to another node: what it gains against what the move costs.
//!
//! The move is pre-copy (Clark and others 2005; seed 002, 3.2): the memory is sent while the task runs, then what was written
//! meanwhile, in rounds that shrink by r = dirty rate / bandwidth, until little is left, with which the task stands still.
//!
//! ```text
//! sent = M (1 + r + ... + r^k),  copy = sent / bandwidth,  downtime = M r^k / bandwidth + latency   (r < 1)
//! cost = copy * slowdown + downtime                        gain = left/speed here - left/speed there
//! ```

use crate::Nanos;
use crate::model::{Estimate, Link};
use crate::units::{Span, nanos, seconds, within};
use core::fmt;

/// A move that could be made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Move {
    /// What the task has left to do.
    pub left: Estimate,
    /// Speed that it has here, what it shares with others counted.
    pub here: f64,
    /// Speed that it would have there.
    pub there: f64,
    /// Seconds that it would have to wait there.
    pub wait: f64,
    /// Bytes of it that the other node lacks.
    pub memory: u64,
    /// Bytes per second that it writes anew.
    pub dirty: f64,
    /// The way there.
    pub link: Link,
}

/// What is taken for granted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Part of the task's speed that being copied costs, 0 to 1.
    pub slowdown: f64,
    /// Seconds of downtime below which no further round is made.
    pub downtime: f64,
    /// Rounds, at most.
    pub rounds: u32,
    /// How many times the cost the gain must be: a move is work for two nodes and a link, and can fail.
    pub margin: f64,
    /// Seconds that must be gained at least.
    pub least: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { slowdown: 0.1, downtime: 0.05, rounds: 8, margin: 2.0, least: 1.0 }
    }
}

/// Whether to move, in numbers; all in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Worth it.
    pub go: bool,
    /// How much sooner the task would end if the move were free, in the worse one of two likely cases.
    pub gain: f64,
    /// How much of that the move takes.
    pub cost: f64,
    /// From order to end.
    pub copy: f64,
    /// During which the task stands still.
    pub downtime: f64,
}

/// Weighs a move.
pub fn weigh(case: &Move, settings: &Settings) -> Verdict {
    let bandwidth = within(case.link.bandwidth, 1.0, 1e12);
    let latency = seconds(case.link.latency);
    let ratio = within(case.dirty, 0.0, 1e12) / bandwidth;
    let (mut copy, mut round) = (0.0, case.memory as f64 / bandwidth);
    for _ in 0..settings.rounds {
        // The first is sent in any case while the task runs, however short it is; no more can be written anew than there is.
        copy += round;
        round *= ratio.min(1.0);
        // Rounds that do not shrink only fill the link.
        if round <= settings.downtime || ratio >= 0.9 {
            break;
        }
    }
    let downtime = round + latency;
    copy += downtime;
    let (here, there) = (within(case.here, 1e-6, 1e6), within(case.there, 1e-6, 1e6));
    // A task that ends sooner than thought gains less: one standard deviation less is left. What is done during the copy
    // is not gained.
    let left = within(case.left.seconds, 0.0, 1e9) / (1.0 + within(case.left.cv, 0.0, 10.0));
    let left = (left - (copy - downtime) * here * (1.0 - settings.slowdown)).max(0.0);
    let gain = left / here - left / there - within(case.wait, 0.0, 1e9);
    let cost = (copy - downtime) * within(settings.slowdown, 0.0, 1.0) + downtime;
    Verdict { go: left > 0.0 && gain > cost * settings.margin && gain >= settings.least, gain, cost, copy, downtime }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = |s: f64| Span(nanos(s) as Nanos);
        let verdict = if self.go { "move" } else { "stay" };
        let (sign, gain) = if self.gain < 0.0 { ("-", -self.gain) } else { ("", self.gain) };
        write!(
            f,
            "{verdict}: gains {sign}{}, costs {} ({} of copying, {} standing still)",
            span(gain),
            span(self.cost),
            span(self.copy),
            span(self.downtime)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    const CASE: Move = Move {
        left: Estimate::exact(100.0),
        here: 1.0,
        there: 2.0,
        wait: 0.0,
        memory: 1_000_000_000,
        dirty: 10e6,
        link: Link { bandwidth: 100e6, latency: 1_000_000 },
    };

    #[test]
    fn a_move_by_hand() {
        // Rounds of 10 s, 1 s, 0.1 s, and 0.01 s standing still. 100 - 11.1 * 0.9 left: half of that is gained.
        let verdict = weigh(&CASE, &Settings::default());
        assert!((verdict.copy - 11.111).abs() < 1e-9 && (verdict.downtime - 0.011).abs() < 1e-9, "{verdict:?}");
        assert!((verdict.gain - 45.005).abs() < 1e-9 && (verdict.cost - 1.121).abs() < 1e-9, "{verdict:?}");
        assert_eq!(verdict.to_string(), "move: gains 45.0 s, costs 1.1 s (11.1 s of copying, 11 ms standing still)");
    }

    #[test]
    fn what_is_small_is_sent_before_it_stands_still_too() {
        // 10 ms for all of it, of which a tenth is written meanwhile.
        let verdict = weigh(&Move { memory: 1_000_000, ..CASE }, &Settings::default());
        assert!((verdict.copy - 0.012).abs() < 1e-9 && (verdict.downtime - 0.002).abs() < 1e-9, "{verdict:?}");
    }

    #[test]
    fn who_stays() {
        let go = |case: Move| weigh(&case, &Settings::default()).go;
        assert!(go(CASE));
        assert!(!go(Move { there: 1.0, ..CASE }), "no faster");
        assert!(!go(Move { left: Estimate::exact(11.0), ..CASE }), "over before it has moved");
        assert!(!go(Move { wait: 60.0, ..CASE }), "a queue there");
        assert!(!go(Move { left: Estimate::exact(1.5), memory: 0, ..CASE }), "little to be gained");
        assert!(
            !go(Move { dirty: 200e6, left: Estimate::exact(40.0), ..CASE }),
            "writes faster than the link: 10 s still"
        );
        assert!(!go(Move { left: Estimate { seconds: 20.0, cv: 1.0 }, ..CASE }), "perhaps nearly over");
        assert!(!go(Move { here: f64::NAN, there: f64::NAN, dirty: f64::NAN, ..CASE }));
    }
}
