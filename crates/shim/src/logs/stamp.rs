//! Nanoseconds since the epoch as RFC 3339, as Docker's log files have it, and back.

const DAY: u64 = 86_400;

/// Appends `nanos` as `2026-11-21T10:47:24.123456789Z`, without trailing zeros of the fraction.
pub(super) fn format(nanos: u64, out: &mut Vec<u8>) {
    let (seconds, fraction) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let (year, month, day) = date(seconds / DAY);
    let (hour, minute, second) = (seconds % DAY / 3600, seconds % 3600 / 60, seconds % 60);
    digits(year, 4, out);
    for (separator, value) in [(b'-', month), (b'-', day), (b'T', hour), (b':', minute), (b':', second)] {
        out.push(separator);
        digits(value, 2, out);
    }
    if fraction != 0 {
        out.push(b'.');
        digits(fraction, 9, out);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    out.push(b'Z');
}

/// The instant that `text` (`YYYY-MM-DDThh:mm:ss[.fraction](Z|±hh:mm)`) names; `None` if it is no such text.
pub(super) fn parse(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<u64> {
        let part = bytes.get(from..to)?;
        if !part.iter().all(u8::is_ascii_digit) {
            return None;
        }
        Some(part.iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0')))
    };
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, want)| bytes.get(*at) != Some(want)) {
        return None;
    }
    let days = days(number(0, 4)?, number(5, 7)?, number(8, 10)?)?;
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut end = 19;
    let mut fraction = 0;
    if bytes.get(end) == Some(&b'.') {
        let count = bytes[20..].iter().take_while(|b| b.is_ascii_digit()).count();
        fraction = number(20, 20 + count.clamp(1, 9))? * 10u64.pow(9 - count.clamp(1, 9) as u32);
        end = 20 + count;
    }
    let offset = match &bytes[end..] {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let seconds =
                i64::try_from(number(end + 1, end + 3)? * 3600 + number(end + 4, end + 6)? * 60).ok()?;
            if *sign == b'+' { seconds } else { -seconds }
        }
        _ => return None,
    };
    let seconds = (days * DAY + hour * 3600 + minute * 60 + second).checked_add_signed(-offset)?;
    seconds.checked_mul(1_000_000_000)?.checked_add(fraction)
}

fn digits(mut value: u64, width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + width, b'0');
    for place in out[start..].iter_mut().rev() {
        *place = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Year, month, day of a day counted from 1970-01-01 (Gregorian calendar; years begin in March so that the leap day is
/// the last of one).
fn date(day: u64) -> (u64, u64, u64) {
    let day = day + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day - (153 * shifted + 2) / 5 + 1)
}

/// The inverse of [`date`]; `None` for a date that is none or before 1970.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year < 1970 {
        return None;
    }
    let year = year - u64::from(month <= 2);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * shifted + 2) / 5 + day - 1;
    (era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(nanos: u64) -> String {
        let mut out = Vec::new();
        format(nanos, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn well_known_instants_have_their_well_known_names() {
        for (nanos, name) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000_000_000, "2000-02-29T00:00:00Z"),
            (1_709_251_199_500_000_000, "2024-02-29T23:59:59.5Z"),
            (4_102_444_800_000_000_001, "2100-01-01T00:00:00.000000001Z"),
        ] {
            assert_eq!(text(nanos), name);
            assert_eq!(parse(name), Some(nanos));
        }
    }

    #[test]
    fn offsets_are_taken_into_account_and_nonsense_is_refused() {
        assert_eq!(parse("1970-01-01T02:00:00+02:00"), Some(0));
        assert_eq!(parse("1969-12-31T22:00:00-02:00"), None);
        assert_eq!(parse("1970-01-01T00:00:00-00:30"), Some(1_800_000_000_000));
        for bad in [
            "",
            "Z",
            "1970-01-01",
            "1970-01-01T00:00:00",
            "1970-13-01T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00.1",
            "1970-01-01T00:00:00Zz",
            "x970-01-01T00:00:00Z",
            "1970-01-01T00:00:00+2:00",
            "1970-01-01T00:00:00é",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_instant_parses_back(nanos in 0..8_000_000_000_000_000_000u64) {
            prop_assert_eq!(parse(&text(nanos)), Some(nanos));
        }

        #[test]
        fn no_text_makes_the_parser_fail(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }
    }
}
