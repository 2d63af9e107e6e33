//! What a link could carry over time: rate and delay, piecewise constant, as recorded or as made up.
//!
//! ```text
//! t_s,rate_bps,delay_ms          rate in bits per second; 0 is an outage
//! 0,100000000,1
//! 12.5,0,1
//! ```
//! The first piece begins at 0 whatever it says, the last one lasts for ever.

use crate::clock::{MILLI, Nanos, SECOND};

/// A piece of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// When it begins.
    pub at: Nanos,
    /// Bytes per second; 0: nothing passes.
    pub rate: u64,
    /// One way.
    pub delay: Nanos,
}

/// Pieces in ascending order, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace(Vec<Piece>);

/// A text that is no trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the trace: {what}")]
pub struct TraceError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

impl Trace {
    /// A link that is always the same.
    pub fn constant(rate: u64, delay: Nanos) -> Self {
        Self(vec![Piece { at: 0, rate, delay }])
    }

    /// Reads CSV; a line of names, empty lines and lines that begin with `#` are passed over.
    ///
    /// # Errors
    /// Lines that are not three numbers, times that do not ascend, no line at all.
    pub fn parse(text: &str) -> Result<Self, TraceError> {
        let mut pieces: Vec<Piece> = Vec::new();
        for (n, line) in text.lines().enumerate() {
            let line = line.trim();
            let wrong = |what| TraceError { line: n + 1, what };
            if line.is_empty() || line.starts_with('#') || line.starts_with("t_s") {
                continue;
            }
            let numbers: Vec<f64> = line
                .split(',')
                .map(|field| field.trim().parse())
                .collect::<Result<_, _>>()
                .map_err(|_| wrong("a field is no number"))?;
            let [at, rate, delay] = numbers[..] else { return Err(wrong("not three fields")) };
            if !numbers.iter().all(|x| x.is_finite() && (0.0..1e15).contains(x)) || at > 1e9 || delay > 1e9 {
                return Err(wrong("a number out of range"));
            }
            let at = if pieces.is_empty() { 0 } else { (at * SECOND as f64) as Nanos };
            if pieces.last().is_some_and(|last| last.at >= at) {
                return Err(wrong("times do not ascend"));
            }
            pieces.push(Piece { at, rate: (rate / 8.0) as u64, delay: (delay * MILLI as f64) as Nanos });
        }
        if pieces.is_empty() {
            return Err(TraceError { line: 1, what: "no piece" });
        }
        Ok(Self(pieces))
    }

    /// Its pieces.
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    fn index(&self, now: Nanos) -> usize {
        self.0.partition_point(|piece| piece.at <= now).saturating_sub(1)
    }

    /// What holds at a moment.
    pub fn at(&self, now: Nanos) -> Piece {
        self.0[self.index(now)]
    }

    /// When the last of `bytes` has left, if the first begins at `start`; none if the link never comes back.
    pub fn finish(&self, start: Nanos, bytes: u64) -> Option<Nanos> {
        // In byte-nanoseconds, so that nothing is lost to rounding over many pieces.
        let mut left = u128::from(bytes) * u128::from(SECOND);
        let mut now = start;
        for i in self.index(start)..self.0.len() {
            let rate = u128::from(self.0[i].rate);
            let end = self.0.get(i + 1).map(|next| next.at);
            let room = end.map_or(u128::MAX, |end| u128::from(end - now) * rate);
            if rate > 0 && room >= left {
                return Some(now + left.div_ceil(rate) as Nanos);
            }
            left -= room.min(left);
            now = end?;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_wait_for_the_end_of_an_outage() {
        let trace = Trace::parse("t_s,rate_bps,delay_ms\n0,8000,1\n# off\n1,0,1\n3, 80000, 5\n").unwrap();
        assert_eq!(trace.at(0), Piece { at: 0, rate: 1000, delay: MILLI });
        assert_eq!(trace.at(5 * SECOND).delay, 5 * MILLI);
        assert_eq!(trace.finish(0, 500), Some(SECOND / 2));
        assert_eq!(trace.finish(0, 1000), Some(SECOND));
        assert_eq!(trace.finish(SECOND / 2, 1000), Some(3 * SECOND + SECOND / 20));
        assert_eq!(trace.finish(2 * SECOND, 10_000), Some(4 * SECOND));
        assert_eq!(Trace::constant(0, 0).finish(0, 1), None);
    }

    #[test]
    fn a_text_that_is_no_trace_is_refused_with_its_line() {
        for (text, line) in
            [("", 1), ("0,1", 1), ("0,1,1\n0,1,1", 2), ("0,1,1\n\n2,x,1", 3), ("0,-1,1", 1), ("0,nan,1", 1)]
        {
            assert_eq!(Trace::parse(text).unwrap_err().line, line, "{text:?}");
        }
    }
}
