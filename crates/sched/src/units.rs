//! Time and sizes: whole nanoseconds inside, so that plans compare exactly; seconds and text for people.

use crate::Nanos;
use core::fmt;

/// Nanoseconds of a second.
pub const SECOND: Nanos = 1_000_000_000;
/// Bytes of a gigabyte, as the tables of the thesis count them.
pub const GB: u64 = 1_000_000_000;

/// Seconds of a span; exact to a nanosecond up to about 100 days.
pub fn seconds(span: Nanos) -> f64 {
    span as f64 / SECOND as f64
}

/// Nanoseconds of that many seconds: nothing for what is negative or no number, and at most some 146 years, so that two of
/// them can be added.
pub fn nanos(seconds: f64) -> Nanos {
    // The cast saturates, and gives 0 for a NaN.
    ((seconds * SECOND as f64) as Nanos).min(Nanos::MAX / 4)
}

/// The end of something that begins then, waits for so long and takes so long: at most the last moment there is.
pub fn end(start: Nanos, wait: Nanos, run: Nanos) -> Nanos {
    start.saturating_add(wait).saturating_add(run)
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

/// A span: `850 ms`, `12.3 s`, `4m12s`, `1h05m`.
#[derive(Clone, Copy, Debug)]
pub struct Span(pub Nanos);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = seconds(self.0);
        if s < 0.9995 {
            return write!(f, "{:.0} ms", s * 1e3);
        }
        if s < 59.95 {
            return write!(f, "{s:.1} s");
        }
        let whole = (s + 0.5) as u64;
        if whole < 3600 {
            write!(f, "{}m{:02}s", whole / 60, whole % 60)
        } else {
            write!(f, "{}h{:02}m", whole / 3600, whole % 3600 / 60)
        }
    }
}

/// A number of bytes: `512 B`, `1.5 MB`, `16.0 GB`.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let b = self.0 as f64;
        match self.0 {
            0..1_000 => write!(f, "{} B", self.0),
            1_000..1_000_000 => write!(f, "{:.1} KB", b / 1e3),
            1_000_000..1_000_000_000 => write!(f, "{:.1} MB", b / 1e6),
            _ => write!(f, "{:.1} GB", b / 1e9),
        }
    }
}

/// Hundredths of a core as cores: `1`, `0.5`, `0.25`.
#[derive(Clone, Copy, Debug)]
pub struct Cores(pub u32);

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 100, self.0 % 100) {
            (whole, 0) => write!(f, "{whole}"),
            (whole, part) if part % 10 == 0 => write!(f, "{whole}.{}", part / 10),
            (whole, part) => write!(f, "{whole}.{part:02}"),
        }
    }
}

/// Quantile of the normal distribution, by bisection of its distribution function.
pub(crate) fn normal_quantile(q: f64) -> f64 {
    let (mut low, mut high) = (-6.0, 6.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if libm::erfc(-middle / core::f64::consts::SQRT_2) / 2.0 < q { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}
