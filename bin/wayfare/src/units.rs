//! Times, sizes and rates as people type them: `10ms`, `256MiB`, `100Mbit`.

use std::time::Duration;

fn split(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    number.is_finite().then(|| (number, text[end..].trim()))
}

/// `500us`, `10ms`, `1.5s`, `2m`, `1h`; a bare number is seconds.
///
/// # Errors
/// Says what may be typed.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: use a number with us, ms, s, m or h, such as 10ms");
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())
}

/// A part of the cluster against others'.
///
/// # Errors
/// Says what may be typed.
pub fn share(text: &str) -> Result<f64, String> {
    let (least, most) = wayfare_api::SHARES.into_inner();
    let share = text.parse().ok().filter(|share| wayfare_api::SHARES.contains(share));
    share.ok_or_else(|| format!("{text:?} is no share: use a number of {least} to {most}"))
}

/// `4096`, `64KiB`, `256MiB`, `2GiB`; `K`, `M`, `G` mean the same.
///
/// # Errors
/// Says what may be typed.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size: use a number of bytes, or one with KiB, MiB or GiB, such as 256MiB");
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let bytes = match unit {
        "" | "B" => 1.0,
        "K" | "KiB" => 1024.0,
        "M" | "MiB" => 1024.0 * 1024.0,
        "G" | "GiB" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(wrong()),
    };
    Ok((number * bytes) as u64)
}

/// `100Mbit`, `1Gbit` (per second), or bytes per second as a size with `/s`: `12MiB/s`. Gives bytes per second.
///
/// # Errors
/// Says what may be typed.
pub fn rate(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no rate: use kbit, Mbit or Gbit, or bytes with /s, such as 100Mbit or 12MiB/s");
    if let Some(bytes) = text.strip_suffix("/s") {
        return size(bytes).map_err(|_| wrong()).and_then(|n| if n == 0 { Err(wrong()) } else { Ok(n) });
    }
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let bits = match unit {
        "kbit" => 1e3,
        "Mbit" => 1e6,
        "Gbit" => 1e9,
        _ => return Err(wrong()),
    };
    let bytes = (number * bits / 8.0) as u64;
    if bytes == 0 { Err(wrong()) } else { Ok(bytes) }
}

/// A number of processors, in hundredths.
///
/// # Errors
/// Says what may be typed.
pub fn cpus(text: &str) -> Result<u32, String> {
    match text.parse::<f64>() {
        Ok(n) if (0.01..=4096.0).contains(&n) => Ok((n * 100.0).round() as u32),
        _ => Err(format!("{text:?} is no number of processors: use 0.5, 1, 2, ...")),
    }
}

/// Reads a variable of an environment: `NAME=VALUE`.
///
/// # Errors
/// When it is none.
pub fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("this is not NAME=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_is_understood() {
        for (text, ms) in [("10ms", 10), ("1.5s", 1500), ("2m", 120_000), ("3", 3000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for (text, n) in [("4096", 4096), ("64KiB", 65536), ("1G", 1 << 30)] {
            assert_eq!(size(text), Ok(n), "{text}");
        }
        for (text, n) in [("100Mbit", 12_500_000), ("1Gbit", 125_000_000), ("1MiB/s", 1 << 20)] {
            assert_eq!(rate(text), Ok(n), "{text}");
        }
        assert_eq!(cpus("0.5"), Ok(50));
        for bad in ["", "x", "10", "10 furlongs", "-1Mbit", "0Mbit", "1e999Mbit"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
        for bad in ["", "ms", "5 days", "1e999", "-1s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
