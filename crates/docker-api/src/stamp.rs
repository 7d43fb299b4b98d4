//! Moments and spans of time as the API writes and people read them.
//!
//! Inside, a moment is nanoseconds since 1970. On the wire it is RFC 3339 as Go prints it (nanoseconds without trailing
//! zeros, UTC), in queries also `seconds[.fraction]`; "never" is Go's zero time.

use std::time::Duration;

use tare_model::{Error, Result};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How Go prints a time that was never set.
pub const NEVER: &str = "0001-01-01T00:00:00Z";

const NANOS: i128 = 1_000_000_000;

/// RFC 3339 with as many digits of the second's fraction as are not zero: Go's `RFC3339Nano`.
pub fn rfc3339(nanos: u64) -> String {
    let whole =
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(nanos)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    whole.format(&Rfc3339).unwrap_or_else(|_| NEVER.to_owned())
}

/// RFC 3339 with all nine digits, which aligns log lines: Docker's `RFC3339NanoFixed`.
pub fn rfc3339_fixed(nanos: u64) -> String {
    let text = rfc3339(nanos - nanos % NANOS as u64);
    format!("{}.{:09}Z", text.trim_end_matches('Z'), nanos % NANOS as u64)
}

/// Nanoseconds since 1970 of an RFC 3339 moment; moments before 1970 are 0.
pub fn parse_rfc3339(text: &str) -> Option<u64> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Some(u64::try_from(at.unix_timestamp_nanos().max(0)).unwrap_or(u64::MAX))
}

/// A moment in a query (`since`, `until`): `seconds[.fraction]` or RFC 3339. Nothing and `0` mean no bound.
///
/// # Errors
/// Neither of the two forms.
pub fn parse_query(name: &str, text: &str) -> Result<Option<u64>> {
    if matches!(text, "" | "0") {
        return Ok(None);
    }
    let bad = || {
        Error::invalid(format!(
            "invalid value for {name:?}: {text:?} is neither seconds since 1970 nor RFC 3339"
        ))
    };
    if let Some(at) = parse_seconds(text) {
        return Ok(Some(at));
    }
    parse_rfc3339(text).map(Some).ok_or_else(bad)
}

/// `1700000000.000000123`; negative moments are 0.
fn parse_seconds(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let whole: i64 = whole.parse().ok()?;
    let digits = !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit());
    let fraction: u64 = digits.then(|| format!("{fraction:0<9.9}"))?.parse().ok()?;
    let whole = u64::try_from(whole.max(0)).ok()?;
    whole.checked_mul(NANOS as u64)?.checked_add(fraction)
}

/// A span of time as listings tell it: `3 seconds`, `About an hour`.
pub fn human(span: Duration) -> String {
    let seconds = span.as_secs();
    let minutes = seconds / 60;
    // Docker rounds hours to the nearest one, but lets the smaller units fall.
    let hours = (seconds + 1800) / 3600;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (.., 1) => "About an hour".to_owned(),
        (.., 2..48) => format!("{hours} hours"),
        (.., 48..336) => format!("{} days", hours / 24),
        (.., 336..1440) => format!("{} weeks", hours / 24 / 7),
        (.., 1440..17_520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn moments_print_as_go_prints_them() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_700_000_000_000_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(rfc3339(1_700_000_000_120_000_000), "2023-11-14T22:13:20.12Z");
        assert_eq!(rfc3339_fixed(1_700_000_000_120_000_000), "2023-11-14T22:13:20.120000000Z");
    }

    #[test]
    fn queries_take_seconds_and_rfc3339() {
        let at = 1_700_000_000_000_000_000;
        assert_eq!(parse_query("since", "1700000000"), Ok(Some(at)));
        assert_eq!(parse_query("since", "1700000000.000000123"), Ok(Some(at + 123)));
        assert_eq!(parse_query("since", "1700000000.5"), Ok(Some(at + 500_000_000)));
        assert_eq!(parse_query("since", "2023-11-14T23:13:20+01:00"), Ok(Some(at)));
        assert_eq!(parse_query("since", ""), Ok(None));
        assert_eq!(parse_query("since", "0"), Ok(None));
        for bad in ["x", "1.x", "1.", "2023-11-14", "10m", "99999999999999999999"] {
            let e = parse_query("until", bad).expect_err(bad);
            assert!(e.message().contains("until"), "{e}");
        }
    }

    #[test]
    fn spans_read_as_dockers() {
        let minute = 60;
        let hour = 60 * minute;
        let day = 24 * hour;
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (minute, "About a minute"),
            (2 * minute, "2 minutes"),
            (59 * minute, "59 minutes"),
            (hour, "About an hour"),
            (hour + 40 * minute, "2 hours"),
            (47 * hour, "47 hours"),
            (2 * day, "2 days"),
            (13 * day, "13 days"),
            (14 * day, "2 weeks"),
            (60 * day, "2 months"),
            (730 * day, "2 years"),
        ] {
            assert_eq!(human(Duration::from_secs(seconds)), text, "{seconds} s");
        }
    }

    proptest! {
        #[test]
        fn a_printed_moment_parses_back(nanos in 0u64..4_000_000_000_000_000_000) {
            prop_assert_eq!(parse_rfc3339(&rfc3339(nanos)), Some(nanos));
            prop_assert_eq!(parse_rfc3339(&rfc3339_fixed(nanos)), Some(nanos));
            let seconds = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
            prop_assert_eq!(parse_query("t", &seconds), Ok(Some(nanos)));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = parse_query("t", &text);
        }
    }
}
