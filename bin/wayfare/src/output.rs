//! How things look: messages, sizes, times, tables, colours where there is a terminal.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// One line to stderr about something that ends the command.
pub fn complain(message: &str) {
    // Errors from below may have several lines; ours have one.
    let line = message.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("; ");
    let _ = writeln!(std::io::stderr(), "wayfare: {line}");
}

/// One line to stderr about something that does not.
pub fn notice(message: &str) {
    complain(message);
}

/// Prints a whole listing; a reader that has gone away is no error.
///
/// # Errors
/// When stdout takes nothing for another reason.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(anyhow::anyhow!("cannot write to stdout: {e}")),
        _ => Ok(()),
    }
}

/// Prints a value as JSON.
///
/// # Errors
/// Those of [`print`].
pub fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    print(&format!("{value:#}\n"))
}

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub struct Paint(bool);

impl Paint {
    /// For stdout: colours on a terminal, unless NO_COLOR is set.
    pub fn stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Paint(wanted && std::io::stdout().is_terminal())
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
    }

    /// A heading.
    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    /// Something less important.
    pub fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    /// A name.
    pub fn name(self, text: &str) -> String {
        self.with("36", text)
    }

    /// Something to look at.
    pub fn warn(self, text: &str) -> String {
        self.with("33", text)
    }
}

/// Rows under headings, as wide as their widest cell; the last column is not filled up.
pub fn table(headings: &[&str], rows: &[Vec<String>], paint: Paint) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([headings[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: &[String]| {
        let mut out = String::new();
        for (i, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            if i + 1 == cells.len() {
                out.push_str(cell);
            } else {
                let _ = write!(out, "{cell:width$}  ");
            }
        }
        out.trim_end().to_string()
    };
    let headings: Vec<String> = headings.iter().map(ToString::to_string).collect();
    let mut out = format!("{}\n", paint.bold(&line(&headings)));
    for row in rows {
        let _ = writeln!(out, "{}", line(row));
    }
    out
}

/// `label  value` lines, aligned.
pub fn fields(rows: &[(&str, String)], paint: Paint) -> String {
    let width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    let mut out = String::new();
    for (label, value) in rows {
        let _ = writeln!(out, "{}  {value}", paint.bold(&format!("{label:width$}")));
    }
    out
}

/// A number of bytes, in the unit that leaves up to four digits before the point.
pub fn bytes(n: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

/// A duration with three digits or so.
pub fn duration(d: Duration) -> String {
    let ns = d.as_nanos();
    match ns {
        0..10_000 => format!("{:.1} us", ns as f64 / 1e3),
        10_000..1_000_000 => format!("{:.0} us", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => long_duration(d),
    }
}

/// A duration of seconds to days.
pub fn long_duration(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0..60 => format!("{:.1}s", d.as_secs_f64()),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86400 => format!("{}h{:02}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d{:02}h", s / 86400, s % 86400 / 3600),
    }
}

/// "1 page", "2 pages".
pub fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_have_the_unit_that_fits() {
        for (n, text) in [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1 << 20, "1.0 MiB"), (1 << 30, "1.0 GiB")] {
            assert_eq!(bytes(n), text);
        }
        for (ms, text) in
            [(1, "1.0 ms"), (1500, "1.5s"), (61_000, "1m01s"), (3_660_000, "1h01m"), (90_000_000, "1d01h")]
        {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
        assert_eq!(duration(Duration::from_micros(12)), "12 us");
    }

    #[test]
    fn a_table_is_as_wide_as_its_cells() {
        let rows = [vec!["a".into(), "b".into()], vec!["long name".into(), "c".into()]];
        assert_eq!(table(&["NAME", "X"], &rows, Paint(false)), "NAME       X\na          b\nlong name  c\n");
    }
}
