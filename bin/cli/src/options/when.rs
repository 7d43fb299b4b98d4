//! Points in time for `--since` and `--until`: durations back from now, RFC 3339 in whole or part, or Unix seconds.

use super::Parsed;
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime, PrimitiveDateTime, macros::format_description};

/// What the API takes: `seconds[.nanoseconds]` since 1970. Without a zone a time is UTC.
pub(crate) fn timestamp(text: &str, now: OffsetDateTime) -> Parsed<String> {
    // A bare zero is the beginning of all, not "no time ago", as Docker has it.
    if let Some(nanos) = duration(text).filter(|_| text != "0") {
        return Ok(unix(now.unix_timestamp_nanos() - i128::from(nanos)));
    }
    if let Some(at) = calendar(text) {
        return Ok(unix(at.unix_timestamp_nanos()));
    }
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if digits(seconds) && digits(fraction) && fraction.len() <= 9 {
        return Ok(text.to_owned());
    }
    Err(format!("failed to parse value as time or duration: {text:?}"))
}

fn unix(nanos: i128) -> String {
    format!("{}.{:09}", nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000))
}

fn calendar(text: &str) -> Option<OffsetDateTime> {
    if let Ok(at) = OffsetDateTime::parse(text, &Rfc3339) {
        return Some(at);
    }
    let text = text.strip_suffix('Z').unwrap_or(text);
    if let Ok(date) = Date::parse(text, format_description!("[year]-[month]-[day]")) {
        return Some(date.midnight().assume_utc());
    }
    let minutes = format_description!("[year]-[month]-[day]T[hour]:[minute]");
    let seconds = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
    let fractions = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond]");
    PrimitiveDateTime::parse(text, minutes)
        .or_else(|_| PrimitiveDateTime::parse(text, seconds))
        .or_else(|_| PrimitiveDateTime::parse(text, fractions))
        .ok()
        .map(PrimitiveDateTime::assume_utc)
}

/// A Go duration, `1h30m`, `1.5s`, `-10ms`, in nanoseconds.
pub(crate) fn duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += value * nanos_of(&rest[..unit_end])?;
        rest = &rest[unit_end..];
    }
    (!text.is_empty() && total < 9e18).then_some((sign * total) as i64)
}

fn nanos_of(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        _ => return None,
    })
}
