//! Amounts as people write them on the command line.

use std::time::Duration;

/// Bytes, with a suffix such as `k`, `m`, `MiB`; `-1` is no limit.
pub(crate) fn bytes(text: &str) -> Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    let wrong = || format!("{text:?} is no amount of bytes such as 64m");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let suffix = text[digits.len()..].trim().to_ascii_lowercase();
    let power = match suffix.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(wrong()),
    };
    let factor = 1_i64 << (10 * power);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let whole: i64 = whole.parse().ok().filter(|whole| *whole >= 0).ok_or_else(wrong)?;
    let thousandths = format!("{part:0<3}");
    let part: i64 = match thousandths.get(..3) {
        Some(three) if part.bytes().all(|byte| byte.is_ascii_digit()) => {
            three.parse().map_err(|_| wrong())?
        }
        _ => return Err(wrong()),
    };
    whole.checked_mul(factor).map(|bytes| bytes + factor / 1000 * part).ok_or_else(wrong)
}

/// A duration such as `5s`, `250ms` or `1m30s`, longer than nothing.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration such as 5s or 1m30s");
    let mut all = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..end].parse().map_err(|_| wrong())?;
        let tail = &rest[end..];
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let unit = match &tail[..end] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        all += Duration::try_from_secs_f64(number * unit).map_err(|_| wrong())?;
        rest = &tail[end..];
    }
    if all.is_zero() { Err(format!("{text:?}: must be greater than 0")) } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_bytes() {
        for (text, want) in [
            ("0", 0),
            ("-1", -1),
            ("4096", 4096),
            ("64m", 64 << 20),
            ("1.5G", 1_610_612_000),
            ("2KiB", 2048),
            ("3kb", 3072),
        ] {
            let got = bytes(text).unwrap();
            assert!((got - want).abs() <= 740, "{text}: {got}");
        }
        for text in ["", "m", "-5", "1x", "1.x", "99999999999999g"] {
            assert!(bytes(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for text in ["", "0s", "5", "s", "5x", "-1s"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }
}
