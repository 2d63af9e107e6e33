//! Why a sync is made or not, as one line that the user sees.

use crate::units::{Rate, Size, Span};
use core::fmt;

/// Why a sync is not even considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The link is broken.
    Down,
    /// A sync is under way.
    InFlight,
    /// The task is suspended, or waits.
    Idle,
    /// The task has done nothing since the last sync.
    Clean,
}

/// Why a decision is what it is. Times in seconds, rates per second, sizes in bytes; all finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    /// Nothing can or need be done.
    Hold(Hold),
    /// `auto` and `young`: progress at risk against the interval that is best for the hazard.
    Risk {
        /// Progress at risk.
        risk: f64,
        /// The interval that costs least.
        interval: f64,
        /// Outages per second.
        hazard: f64,
        /// Bytes per second, where known.
        bandwidth: Option<f64>,
        /// One way, where known.
        delay: Option<f64>,
    },
    /// A fixed interval.
    Fixed {
        /// Time since the last sync.
        since: f64,
        /// The interval.
        interval: f64,
    },
    /// NAPS at the end of a sampling interval, or before it.
    Naps {
        /// Time since the last sync.
        since: f64,
        /// S*; none where P is 0.
        interval: Option<f64>,
        /// P of (3-3).
        score: f64,
        /// M, bytes.
        size: f64,
    },
    /// The next sync has to begin now, or more than the task allows would be at risk before it is complete.
    MaxLoss {
        /// Progress at risk.
        risk: f64,
        /// What the task allows.
        most: f64,
        /// How long the sync will take.
        takes: f64,
    },
    /// One is due, but syncs have had their share of the link.
    Share {
        /// Progress at risk.
        risk: f64,
        /// The share, 0 to 1.
        share: f64,
        /// How long the sync would take.
        takes: f64,
    },
    /// One is due, but the last one has only just begun.
    Soon {
        /// Time since then.
        since: f64,
    },
    /// One is due, but the link would hardly stay up for it.
    Unlikely {
        /// How long the sync would take.
        takes: f64,
        /// The chance that the link stays up for so long, 0 to 1.
        chance: f64,
    },
    /// One is due, but nothing is heard from the other side.
    Silent {
        /// For how long.
        silence: f64,
    },
    /// One is due, but the last ones were cut.
    Cut {
        /// How many in a row.
        cuts: u32,
        /// How long to wait before the next try.
        wait: f64,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Reason::Hold(Hold::Down) => f.write_str("no sync: the link is down"),
            Reason::Hold(Hold::InFlight) => f.write_str("a sync is under way"),
            Reason::Hold(Hold::Idle) => f.write_str("no sync: the task does nothing"),
            Reason::Hold(Hold::Clean) => f.write_str("no sync: nothing has changed since the last"),
            Reason::Risk { risk, interval, hazard, bandwidth, delay } => {
                let (verdict, sign) = if risk >= interval { ("sync", ">=") } else { ("wait", "<") };
                let every = Span(1.0 / hazard);
                write!(
                    f,
                    "{verdict}: {} at risk {sign} {}; an outage about every {every}",
                    Span(risk),
                    Span(interval)
                )?;
                match (bandwidth, delay) {
                    (Some(b), Some(d)) => write!(f, " at {}, {}", Rate(b), Span(d)),
                    (Some(b), None) => write!(f, " at {}", Rate(b)),
                    (None, Some(d)) => write!(f, " at {}", Span(d)),
                    (None, None) => Ok(()),
                }
            }
            Reason::Fixed { since, interval } => {
                let verdict = if since >= interval { "sync" } else { "wait" };
                write!(f, "{verdict}: {} since the last sync, every {}", Span(since), Span(interval))
            }
            Reason::Naps { since, interval: Some(interval), score, size } => {
                let verdict = if since >= interval { "sync" } else { "wait" };
                let (since, interval, size) = (Span(since), Span(interval), Size(size));
                write!(f, "{verdict}: {since} since the last sync, S* {interval} for P {score:.2} and {size}")
            }
            Reason::Naps { since, interval: None, .. } => {
                write!(f, "wait: {} since the last sync, and P is 0", Span(since))
            }
            Reason::MaxLoss { risk, most, takes } => {
                write!(f, "sync: {} at risk and {} to send it, of {} allowed", Span(risk), Span(takes), Span(most))
            }
            Reason::Share { risk, share, takes } => {
                let percent = share * 100.0;
                write!(
                    f,
                    "wait: {} at risk, but {} of sync is beyond {percent:.0} % of the link",
                    Span(risk),
                    Span(takes)
                )
            }
            Reason::Soon { since } => write!(f, "wait: the last sync began {} ago", Span(since)),
            Reason::Unlikely { takes, chance } => {
                let percent = chance * 100.0;
                write!(f, "wait: a sync takes {}, and the link lasts that long with {percent:.0} %", Span(takes))
            }
            Reason::Silent { silence } => write!(f, "wait: nothing heard for {}", Span(silence)),
            Reason::Cut { cuts, wait } => {
                let syncs = if cuts == 1 { "the last sync was" } else { "the last syncs were" };
                write!(f, "wait: {syncs} cut ({cuts}), the next try in {}", Span(wait))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn every_reason_is_one_line_with_units() {
        for (reason, text) in [
            (
                Reason::Risk {
                    risk: 252.0,
                    interval: 230.0,
                    hazard: 1.0 / 840.0,
                    bandwidth: Some(762_500.0),
                    delay: Some(0.08),
                },
                "sync: 4m12s at risk >= 3m50s; an outage about every 14m00s at 6.1 Mbit/s, 80 ms",
            ),
            (
                Reason::Naps { since: 60.0, interval: Some(300.0), score: 0.4, size: 2097152.0 },
                "wait: 1m00s since the last sync, S* 5m00s for P 0.40 and 2.0 MiB",
            ),
            (
                Reason::Share { risk: 90.0, share: 0.1, takes: 20.0 },
                "wait: 1m30s at risk, but 20.0 s of sync is beyond 10 % of the link",
            ),
            (
                Reason::MaxLoss { risk: 4.5, most: 5.0, takes: 0.6 },
                "sync: 4.5 s at risk and 600 ms to send it, of 5.0 s allowed",
            ),
            (Reason::Cut { cuts: 2, wait: 8.0 }, "wait: the last syncs were cut (2), the next try in 8.0 s"),
        ] {
            assert_eq!(reason.to_string(), text);
        }
    }
}
