//! What a link did, second by second: made up by [`super::condition`], or read from a recording.

/// The state of a made-up network that no policy sees; the oracle does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hidden {
    /// The link is as it should be.
    #[default]
    Good,
    /// It is weak.
    Marginal,
}

/// One second of a link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Bytes per second.
    pub bandwidth: f64,
    /// Seconds, one way; none where it was not measured.
    pub delay: Option<f64>,
    /// Nothing passes, and the standby takes over.
    pub up: bool,
    /// Why it is so, where it was made up.
    pub hidden: Hidden,
}

/// A link over time, one point per second.
#[derive(Clone, Debug, PartialEq)]
pub struct Course {
    /// What it is called.
    pub name: String,
    /// At least one.
    pub points: Vec<Point>,
}

/// A text that is no recording.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the recording: {what}")]
pub struct CsvError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

/// Below this many bytes per second a link is stalled: 100 kbit/s.
pub const STALL: f64 = 100e3 / 8.0;
/// A stall of this many seconds is an outage.
pub const STALLED: usize = 5;
/// The longest recording that is read, seconds: a week.
const LONGEST: f64 = 7.0 * 86400.0;
/// The most rows that are read.
const MOST_ROWS: usize = 2_000_000;

impl Course {
    /// Reads a recording: a line of names, then rows of `t_s,down_kbps,rtt_ms` and anything after that; `t_s` in seconds
    /// that do not go back, `down_kbps` in kbit/s, `rtt_ms` in milliseconds, which may be empty. Rows of one second are
    /// averaged; a second without one is as the one before. A stall of 5 s or more below 100 kbit/s is an outage from
    /// its first second on.
    ///
    /// # Errors
    /// Lines that are not that, no row at all, more than a week or two million rows.
    pub fn parse(name: &str, text: &str) -> Result<Self, CsvError> {
        // Sum and count of both columns for each second.
        let mut cells: Vec<(f64, u32, f64, u32)> = Vec::new();
        let mut last = 0.0;
        let mut rows = 0;
        for (n, line) in text.lines().enumerate() {
            let line = line.trim();
            let wrong = |what| CsvError { line: n + 1, what };
            if line.is_empty() || line.starts_with('#') || line.starts_with("t_s") {
                continue;
            }
            let mut fields = line.split(',').map(str::trim);
            let mut number = |empty: &'static str| match fields.next() {
                None => Err(wrong("fewer than three fields: t_s,down_kbps,rtt_ms")),
                Some("") if empty.is_empty() => Ok(None),
                Some("") => Err(wrong(empty)),
                Some(field) => match field.parse::<f64>() {
                    Ok(x) if x.is_finite() && (0.0..1e12).contains(&x) => Ok(Some(x)),
                    Ok(_) => Err(wrong("a number out of range")),
                    Err(_) => Err(wrong("a field is no number")),
                },
            };
            let (at, rate, rtt) = (number("t_s is empty")?, number("down_kbps is empty")?, number("")?);
            let (at, rate) = (at.unwrap_or(0.0), rate.unwrap_or(0.0));
            rows += 1;
            if at > LONGEST || rows > MOST_ROWS {
                return Err(wrong("longer than a week, or more than two million rows"));
            }
            if at < last {
                return Err(wrong("time goes back"));
            }
            last = at;
            let second = at as usize;
            if cells.len() <= second {
                cells.resize(second + 1, (0.0, 0, 0.0, 0));
            }
            let cell = &mut cells[second];
            (cell.0, cell.1) = (cell.0 + rate, cell.1 + 1);
            if let Some(rtt) = rtt {
                (cell.2, cell.3) = (cell.2 + rtt, cell.3 + 1);
            }
        }
        if cells.is_empty() {
            return Err(CsvError { line: 1, what: "no row" });
        }
        let mut bandwidth = 0.0;
        let points = cells
            .iter()
            .map(|&(rate, rates, rtt, rtts)| {
                if rates > 0 {
                    bandwidth = rate / f64::from(rates) * 1000.0 / 8.0;
                }
                let delay = (rtts > 0).then(|| rtt / f64::from(rtts) / 2000.0);
                Point { bandwidth, delay, up: true, hidden: Hidden::Good }
            })
            .collect();
        let mut course = Self { name: name.into(), points };
        course.mark_stalls();
        Ok(course)
    }

    fn mark_stalls(&mut self) {
        let mut start = 0;
        while start < self.points.len() {
            let stall = self.points[start..].iter().take_while(|p| p.bandwidth < STALL).count();
            if stall >= STALLED {
                self.points[start..start + stall].iter_mut().for_each(|p| p.up = false);
            }
            start += stall.max(1);
        }
    }

    /// Outages, each as first second and the one after the last.
    pub fn outages(&self) -> Vec<(usize, usize)> {
        let mut outages: Vec<(usize, usize)> = Vec::new();
        for (i, _) in self.points.iter().enumerate().filter(|(_, p)| !p.up) {
            match outages.last_mut() {
                Some(last) if last.1 == i => last.1 = i + 1,
                _ => outages.push((i, i + 1)),
            }
        }
        outages
    }

    /// Minutes during which the link was up.
    pub fn up_minutes(&self) -> f64 {
        self.points.iter().filter(|p| p.up).count() as f64 / 60.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_second_are_averaged_and_gaps_filled() {
        let text = "t_s,down_kbps,rtt_ms,handover\n0,800,,0\n0,1600,40,0\n3,8000,,1\n";
        let course = Course::parse("x", text).unwrap();
        let rates: Vec<f64> = course.points.iter().map(|p| p.bandwidth).collect();
        assert_eq!(rates, [150e3, 150e3, 150e3, 1e6]);
        assert_eq!(course.points[0].delay, Some(0.02));
        assert_eq!(course.points[1].delay, None);
        assert!(course.outages().is_empty());
    }

    #[test]
    fn a_stall_of_five_seconds_is_an_outage_and_one_of_four_is_not() {
        let row = |t: usize, kbps: u32| format!("{t},{kbps},\n");
        let text: String =
            (0..20).map(|t| row(t, if (2..6).contains(&t) || (10..15).contains(&t) { 99 } else { 100 })).collect();
        assert_eq!(Course::parse("x", &text).unwrap().outages(), [(10, 15)]);
    }

    #[test]
    fn a_text_that_is_no_recording_is_refused_with_its_line() {
        for (text, line, what) in [
            ("", 1, "no row"),
            ("t_s,down_kbps,rtt_ms\n0,1\n", 2, "fewer than three fields: t_s,down_kbps,rtt_ms"),
            ("0,1,1\n\n2,x,1", 3, "a field is no number"),
            ("5,1,1\n4,1,1", 2, "time goes back"),
            ("0,,1", 1, "down_kbps is empty"),
            (",1,1", 1, "t_s is empty"),
            ("0,-1,1", 1, "a number out of range"),
            ("0,nan,1", 1, "a number out of range"),
            ("1e9,1,1", 1, "longer than a week, or more than two million rows"),
        ] {
            assert_eq!(Course::parse("x", text), Err(CsvError { line, what }), "{text:?}");
        }
    }
}
