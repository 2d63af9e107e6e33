//! The policies, as they are typed: `auto`, `naps`, `naps-printed`, `fixed:4m`, `young`.

use crate::Nanos;
use crate::units::{MINUTE, SECOND};
use core::fmt;
use core::str::FromStr;

/// How the moment of the next sync is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Ours: progress at risk against the hazard that the link's signs, its past and its silence give.
    #[default]
    Auto,
    /// The thesis's, with the two inverted signs put right.
    Naps,
    /// The thesis's as it is printed, to reproduce its figures.
    NapsPrinted,
    /// Whenever so much time has passed, whatever the link does.
    Fixed(Nanos),
    /// Young's interval for the mean rate of outages so far.
    Young,
}

/// A text that names no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParsePolicyError {
    /// No such name.
    #[error("no such policy: use auto, naps, naps-printed, young, or fixed:TIME such as fixed:4m")]
    Unknown,
    /// `fixed` without a time, or with one that cannot be read.
    #[error("fixed needs a time, a number with ms, s, m or h: fixed:4m")]
    Time,
    /// A time out of range.
    #[error("the time of fixed is between 1ms and 1000h")]
    Range,
}

const UNITS: [(&str, Nanos); 4] = [("ms", SECOND / 1000), ("h", 60 * MINUTE), ("m", MINUTE), ("s", SECOND)];

impl FromStr for Policy {
    type Err = ParsePolicyError;

    fn from_str(text: &str) -> Result<Self, ParsePolicyError> {
        Ok(match text {
            "auto" => Policy::Auto,
            "naps" => Policy::Naps,
            "naps-printed" => Policy::NapsPrinted,
            "young" => Policy::Young,
            _ => match text.split_once(':') {
                Some(("fixed", time)) => Policy::Fixed(parse_time(time)?),
                _ if text == "fixed" => return Err(ParsePolicyError::Time),
                _ => return Err(ParsePolicyError::Unknown),
            },
        })
    }
}

fn parse_time(text: &str) -> Result<Nanos, ParsePolicyError> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(ParsePolicyError::Time)?;
    let (number, unit) = text.split_at(digits);
    let unit = UNITS.iter().find(|(name, _)| *name == unit).ok_or(ParsePolicyError::Time)?.1;
    let number: f64 = number.parse().map_err(|_| ParsePolicyError::Time)?;
    let time = (number * unit as f64 + 0.5) as Nanos;
    if (SECOND / 1000..=1000 * 60 * MINUTE).contains(&time) { Ok(time) } else { Err(ParsePolicyError::Range) }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Policy::Auto => f.write_str("auto"),
            Policy::Naps => f.write_str("naps"),
            Policy::NapsPrinted => f.write_str("naps-printed"),
            Policy::Young => f.write_str("young"),
            Policy::Fixed(time) => {
                for (name, unit) in [("h", 60 * MINUTE), ("m", MINUTE), ("s", SECOND), ("ms", SECOND / 1000)] {
                    if time % unit == 0 {
                        return write!(f, "fixed:{}{name}", time / unit);
                    }
                }
                // A digit for each nanosecond, so that what is printed reads back as the same policy.
                write!(f, "fixed:{}.{:06}ms", time / 1_000_000, time % 1_000_000)
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
    fn every_policy_reads_back_as_it_is_printed() {
        for (text, policy) in [
            ("auto", Policy::Auto),
            ("naps", Policy::Naps),
            ("naps-printed", Policy::NapsPrinted),
            ("young", Policy::Young),
            ("fixed:4m", Policy::Fixed(4 * MINUTE)),
            ("fixed:90s", Policy::Fixed(90 * SECOND)),
            ("fixed:2h", Policy::Fixed(120 * MINUTE)),
            ("fixed:250ms", Policy::Fixed(SECOND / 4)),
            ("fixed:1.500001ms", Policy::Fixed(1_500_001)),
        ] {
            assert_eq!(text.parse(), Ok(policy), "{text}");
            assert_eq!(policy.to_string(), text);
        }
        assert_eq!("fixed:1.5m".parse(), Ok(Policy::Fixed(90 * SECOND)));
    }

    #[test]
    fn what_is_no_policy_is_refused_with_a_reason() {
        use ParsePolicyError::*;
        for (text, error) in [
            ("", Unknown),
            ("Auto", Unknown),
            ("fix:4m", Unknown),
            ("fixed", Time),
            ("fixed:", Time),
            ("fixed:4", Time),
            ("fixed:4 m", Time),
            ("fixed:-4m", Time),
            ("fixed:1.2.3m", Time),
            ("fixed:0m", Range),
            ("fixed:1e9h", Time),
            ("fixed:99999999999999999999h", Range),
        ] {
            assert_eq!(text.parse::<Policy>(), Err(error), "{text}");
        }
    }
}
