//! Numbers as a user reads them, and the few functions of real numbers that `core` lacks.
//!
//! Every value that leaves an estimator passes through here once, so that neither a division by zero nor the logarithm
//! of a silent link can put an infinity or a NaN into a decision.

use crate::Nanos;
use core::fmt;

/// Nanoseconds of a second.
pub const SECOND: Nanos = 1_000_000_000;
/// Nanoseconds of a minute.
pub const MINUTE: Nanos = 60 * SECOND;

/// Seconds of a span; exact to a nanosecond up to about 100 days.
pub fn seconds(span: Nanos) -> f64 {
    span as f64 / SECOND as f64
}

/// Nanoseconds of that many seconds: nothing for what is negative or no number, the longest span for what is too long.
pub fn nanos(seconds: f64) -> Nanos {
    // The cast saturates, and gives 0 for a NaN.
    (seconds * SECOND as f64) as Nanos
}

/// `x` within `low..=high`; `low` for a NaN.
pub fn within(x: f64, low: f64, high: f64) -> f64 {
    if x >= high {
        high
    } else if x >= low {
        x
    } else {
        low
    }
}

/// The natural logarithm of something that is at least 1.
pub fn ln_at_least_one(x: f64) -> f64 {
    libm::log(within(x, 1.0, 1e300))
}

/// A span in seconds: `850 ms`, `12.3 s`, `4m12s`, `1h05m`.
#[derive(Clone, Copy, Debug)]
pub struct Span(pub f64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = within(self.0, 0.0, 1e12);
        if s < 0.9995 {
            return write!(f, "{:.0} ms", s * 1e3);
        }
        if s < 59.95 {
            return write!(f, "{s:.1} s");
        }
        let whole = (s + 0.5) as u64;
        if whole < 3600 {
            write!(f, "{}m{:02}s", whole / 60, whole % 60)
        } else if whole < 100 * 3600 {
            write!(f, "{}h{:02}m", whole / 3600, whole % 3600 / 60)
        } else {
            write!(f, "{} days", whole / 86400)
        }
    }
}

/// A rate in bytes per second, as the bits per second that links are sold by.
#[derive(Clone, Copy, Debug)]
pub struct Rate(pub f64);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = within(self.0, 0.0, 1e15) * 8.0;
        match bits {
            ..1e6 => write!(f, "{:.0} kbit/s", bits / 1e3),
            ..1e9 => write!(f, "{:.1} Mbit/s", bits / 1e6),
            _ => write!(f, "{:.1} Gbit/s", bits / 1e9),
        }
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug)]
pub struct Size(pub f64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = within(self.0, 0.0, 1e18);
        match n {
            ..1024.0 => write!(f, "{n:.0} B"),
            ..1_024_000.0 => write!(f, "{:.1} KiB", n / 1024.0),
            ..1_048_576_000.0 => write!(f, "{:.1} MiB", n / 1_048_576.0),
            _ => write!(f, "{:.1} GiB", n / 1_073_741_824.0),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn spans_rates_and_sizes_have_the_unit_that_fits() {
        for (s, text) in [
            (0.0, "0 ms"),
            (0.85, "850 ms"),
            (12.34, "12.3 s"),
            (59.96, "1m00s"),
            (252.0, "4m12s"),
            (3900.0, "1h05m"),
            (1e6, "11 days"),
            (f64::NAN, "0 ms"),
        ] {
            assert_eq!(Span(s).to_string(), text);
        }
        for (bytes, text) in [(12_500.0, "100 kbit/s"), (1e6, "8.0 Mbit/s"), (250e6, "2.0 Gbit/s")] {
            assert_eq!(Rate(bytes).to_string(), text);
        }
        for (bytes, text) in
            [(17.0, "17 B"), (2048.0, "2.0 KiB"), (1_572_864.0, "1.5 MiB"), (2_147_483_648.0, "2.0 GiB")]
        {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_number_becomes_one() {
        assert_eq!(nanos(f64::NAN), 0);
        assert_eq!(nanos(-1.0), 0);
        assert_eq!(nanos(f64::INFINITY), Nanos::MAX);
        assert_eq!(within(f64::NAN, 2.0, 3.0), 2.0);
        assert_eq!(within(f64::INFINITY, 2.0, 3.0), 3.0);
    }
}
