//! Numbers and times as people read them, and the forms they may be typed in.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A size: binary units, three significant digits.
#[must_use]
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = n as f64;
    let mut unit = 0;
    // 999.5 would be written with four digits.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{} {}", digits3(value), UNITS[unit]) }
}

/// A rate or a large count: decimal units, three significant digits.
#[must_use]
pub fn count(n: f64) -> String {
    const UNITS: [&str; 5] = ["", "k", "M", "G", "T"];
    let mut value = n;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 && value.fract() == 0.0 {
        return format!("{value:.0}");
    }
    format!("{}{}", digits3(value), UNITS[unit])
}

/// A number with thousands separated, exact.
#[must_use]
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

fn digits3(value: f64) -> String {
    if value >= 99.95 {
        format!("{value:.0}")
    } else if value >= 9.995 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// A duration: three significant digits and a unit up to a minute, then minutes and seconds.
#[must_use]
pub fn duration(d: Duration) -> String {
    let ns = d.as_nanos() as f64;
    if ns < 999.5e3 {
        format!("{} µs", digits3(ns / 1e3))
    } else if ns < 999.5e6 {
        format!("{} ms", digits3(ns / 1e6))
    } else if ns < 59.95e9 {
        format!("{} s", digits3(ns / 1e9))
    } else {
        let s = d.as_secs_f64().round() as u64;
        match (s / 86400, s / 3600 % 24, s / 60 % 60, s % 60) {
            (0, 0, m, s) => format!("{m}m {s:02}s"),
            (0, h, m, _) => format!("{h}h {m:02}m"),
            (d, h, ..) => format!("{d}d {h:02}h"),
        }
    }
}

/// A time of the log as RFC 3339 in UTC with milliseconds; "-" for none (0).
#[must_use]
pub fn timestamp(ms: u64) -> String {
    if ms == 0 {
        return "-".into();
    }
    match i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()) {
        Some(t) => format!("{t:.3}"),
        // A clock beyond the year 9999: show what was stored.
        None => format!("{ms} ms"),
    }
}

/// Bytes as lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
        write!(out, "{b:02x}").expect("writing to a String cannot fail");
        out
    })
}

/// Reads hex of any even length.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        // from_str_radix alone would take "+f".
        .map(|i| text[i..i + 2].bytes().all(|b| b.is_ascii_hexdigit()).then_some(&text[i..i + 2]))
        .map(|pair| pair.and_then(|p| u8::from_str_radix(p, 16).ok()))
        .collect()
}

/// clap parser: "250ms", "10s", "1m 30s"; a bare number is seconds.
///
/// # Errors
/// A sentence for people.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is not a duration: write 250ms, 10s, 2m or 1h 30m");
    let d = match text.trim().parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|_| bad())?,
        Err(_) => {
            let signed: SignedDuration = text.trim().parse().map_err(|_| bad())?;
            Duration::try_from(signed).map_err(|_| bad())?
        }
    };
    if d.is_zero() {
        Err(format!("{text:?}: a duration must be longer than nothing"))
    } else {
        Ok(d)
    }
}

/// clap parser: milliseconds since the Unix epoch, or RFC 3339.
///
/// # Errors
/// A sentence for people.
pub fn parse_timestamp(text: &str) -> Result<u64, String> {
    if let Ok(ms) = text.parse() {
        return Ok(ms);
    }
    let bad =
        || format!("{text:?} is not a time: write milliseconds since 1970 or 2026-11-21T08:30:00Z");
    let t: Timestamp = text.parse().map_err(|_| bad())?;
    u64::try_from(t.as_millisecond()).map_err(|_| bad())
}

/// clap parser: "4096", "64k", "1MiB", "8m"; units are binary.
///
/// # Errors
/// A sentence for people.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let t = text.trim();
    let split = t.find(|c: char| !c.is_ascii_digit()).unwrap_or(t.len());
    let factor = match t[split..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        "k" | "kb" | "kib" => Some(1 << 10),
        "m" | "mb" | "mib" => Some(1 << 20),
        "g" | "gb" | "gib" => Some(1 << 30),
        _ => None,
    };
    factor
        .and_then(|f: u64| t[..split].parse::<u64>().ok()?.checked_mul(f))
        .filter(|&n| n > 0)
        .ok_or_else(|| format!("{text:?} is not a size: write 4096, 64KiB or 1MiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let table = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "0.98 KiB"),
            (1024, "1.00 KiB"),
            (10 * 1024, "10.0 KiB"),
            (1 << 20, "1.00 MiB"),
            (1_234_567_890, "1.15 GiB"),
            (u64::MAX, "16384 PiB"),
        ];
        for (n, want) in table {
            assert_eq!(bytes(n), want);
        }
    }

    #[test]
    fn counts() {
        for (n, want) in
            [(0.0, "0"), (12.0, "12"), (12.34, "12.3"), (999.9, "1.00k"), (1.5e6, "1.50M")]
        {
            assert_eq!(count(n), want);
        }
        for (n, want) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(n), want);
        }
    }

    #[test]
    fn durations() {
        let table = [
            (Duration::from_nanos(1500), "1.50 µs"),
            (Duration::from_micros(999), "999 µs"),
            (Duration::from_micros(1000), "1.00 ms"),
            (Duration::from_millis(12), "12.0 ms"),
            (Duration::from_millis(1500), "1.50 s"),
            (Duration::from_secs(60), "1m 00s"),
            (Duration::from_secs(3 * 3600 + 125), "3h 02m"),
            (Duration::from_secs(50 * 3600), "2d 02h"),
        ];
        for (d, want) in table {
            assert_eq!(duration(d), want);
        }
    }

    #[test]
    fn typed_durations() {
        for (text, ms) in
            [("250ms", 250), ("10s", 10_000), ("2m", 120_000), ("3", 3_000), ("0.5", 500)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(parse_duration("1m 30s"), Ok(Duration::from_secs(90)));
        for text in ["", "x", "-1", "-1s", "0", "1e400", "NaN"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn times() {
        assert_eq!(timestamp(0), "-");
        assert_eq!(timestamp(1_795_249_800_123), "2026-11-21T08:30:00.123Z");
        assert_eq!(timestamp(u64::MAX), format!("{} ms", u64::MAX));
        assert_eq!(parse_timestamp("2026-11-21T08:30:00.123Z"), Ok(1_795_249_800_123));
        assert_eq!(parse_timestamp("17"), Ok(17));
        assert!(parse_timestamp("yesterday").is_err());
        assert!(parse_timestamp("1960-01-01T00:00:00Z").is_err());
    }

    #[test]
    fn typed_sizes() {
        for (text, n) in
            [("1", 1), ("64k", 65536), ("1MiB", 1 << 20), ("8 m", 8 << 20), ("1g", 1 << 30)]
        {
            assert_eq!(parse_bytes(text), Ok(n), "{text}");
        }
        for text in
            ["", "k", "0", "-1", "1x", "1.5m", "99999999999999999999", "18446744073709551615k"]
        {
            assert!(parse_bytes(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn hex_both_ways() {
        assert_eq!(hex(&[0, 255, 16]), "00ff10");
        assert_eq!(unhex("00ff10"), Some(vec![0, 255, 16]));
        assert_eq!(unhex(""), Some(vec![]));
        for text in ["0", "0g", "+f", "ü0"] {
            assert_eq!(unhex(text), None, "{text}");
        }
    }
}
