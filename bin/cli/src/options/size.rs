//! Sizes (`512m`, `1.5GiB`) and numbers of processors (`0.5`).

use super::Parsed;

/// A size in bytes; suffixes count in 1024s, `k` as well as `kb` and `KiB`.
pub(crate) fn bytes(text: &str) -> Parsed<i64> {
    let bad = || format!("invalid size: '{text}'");
    let last = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').ok_or_else(bad)?;
    let number = text[..=last].strip_suffix(' ').unwrap_or(&text[..=last]);
    let suffix = &text[last + 1..];
    if !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(bad());
    }
    let value: f64 = number.parse().map_err(|_| bad())?;
    let scaled = value * multiplier(suffix).ok_or_else(|| format!("invalid suffix: '{suffix}'"))?;
    if scaled < 9.2e18 { Ok(scaled as i64) } else { Err(bad()) }
}

fn multiplier(suffix: &str) -> Option<f64> {
    let lower = suffix.to_ascii_lowercase();
    let Some(unit) = lower.chars().next() else { return Some(1.0) };
    let rest = &lower[unit.len_utf8()..];
    let power = match unit {
        'b' => return rest.is_empty().then_some(1.0),
        'k' => 1,
        'm' => 2,
        'g' => 3,
        't' => 4,
        'p' => 5,
        _ => return None,
    };
    matches!(rest, "" | "b" | "ib").then(|| 1024f64.powi(power))
}

/// The check of a size flag.
pub(crate) fn check_bytes(text: &str) -> Parsed<()> {
    bytes(text).map(drop)
}

/// A size, or -1 for no limit.
pub(crate) fn bytes_or_unlimited(text: &str) -> Parsed<i64> {
    if text == "-1" { Ok(-1) } else { bytes(text) }
}

/// The check of a size flag that takes -1.
pub(crate) fn check_bytes_or_unlimited(text: &str) -> Parsed<()> {
    bytes_or_unlimited(text).map(drop)
}

/// A number of processors in billionths, exactly: `1.5` is 1500000000.
pub(crate) fn nano_cpus(text: &str) -> Parsed<i64> {
    let bad = || format!("failed to parse {text} as a rational number");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return Err(bad());
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 9 {
        return Err("value is too precise".to_owned());
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| bad())? };
    let nano: i64 = format!("{fraction:0<9}").parse().map_err(|_| bad())?;
    whole.checked_mul(1_000_000_000).and_then(|n| n.checked_add(nano)).ok_or_else(bad)
}

/// The check of `--cpus`.
pub(crate) fn check_cpus(text: &str) -> Parsed<()> {
    nano_cpus(text).map(drop)
}
