//! PAX records: `LENGTH KEY=VALUE\n`, where the length counts itself and decides where the record ends.

use tare_model::Result;

use crate::error::corrupt;

/// Calls `each` with every key and value, in order.
pub(super) fn records(mut bytes: &[u8], mut each: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
    while !bytes.is_empty() {
        let (record, rest) = split(bytes).ok_or_else(|| corrupt("malformed PAX record"))?;
        let at = record.iter().position(|b| *b == b'=').filter(|at| *at > 0);
        let at = at.ok_or_else(|| corrupt("PAX record without a key"))?;
        each(&record[..at], &record[at + 1..])?;
        bytes = rest;
    }
    Ok(())
}

/// A global header would change every entry after it; GNU tar obeys it and Go's callers do not. `git archive` writes
/// one with a comment, which is harmless.
pub(super) fn check_global(bytes: &[u8]) -> Result<()> {
    records(bytes, |key, _| match key {
        b"comment" => Ok(()),
        _ => Err(corrupt(format!("a global PAX header sets {:?}: readers disagree about it", shown(key)))),
    })
}

/// A decimal number without sign.
pub(super) fn decimal(value: &[u8], what: &str) -> Result<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits);
    text.and_then(|t| t.parse().ok())
        .ok_or_else(|| corrupt(format!("PAX {what} is no number: {:?}", shown(value))))
}

/// Seconds and nanoseconds of `[-]SECONDS[.FRACTION]`.
pub(super) fn time(value: &[u8]) -> Result<(i64, u32)> {
    parse_time(value).ok_or_else(|| corrupt(format!("PAX mtime is no time: {:?}", shown(value))))
}

fn parse_time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let nanos: u32 = format!("{fraction:0<9.9}").parse().ok()?;
    Some(match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = bytes.iter().take(8).position(|b| *b == b' ')?;
    let digits = &bytes[..space];
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let record = bytes.get(space + 1..length)?;
    Some((record.strip_suffix(b"\n")?, &bytes[length..]))
}

fn shown(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(60)].escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut found = Vec::new();
        records(bytes, |key, value| {
            found.push((key.to_vec(), value.to_vec()));
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn a_value_may_hold_line_feeds_and_equals_signs() {
        let found = all(b"9 a=b\n=c\n6 d=e\n").expect("two records");
        assert_eq!(found, [(b"a".to_vec(), b"b\n=c".to_vec()), (b"d".to_vec(), b"e".to_vec())]);
    }

    #[test]
    fn broken_lengths_are_refused() {
        for bad in [
            &b"5 a=b\n"[..],
            b"7 a=b\n",
            b"99 a=b\n",
            b"-6 a=b\n",
            b"6a=b\n",
            b"0 a=b\n",
            b"6 =bb\n",
            b"6 abb\n",
            b"99999999999999999999 a=b\n",
            b" 6 a=b\n",
            b"6 a=b\n\0",
        ] {
            assert!(all(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn times_have_fractions_and_signs() {
        assert_eq!(parse_time(b"1.5"), Some((1, 500_000_000)));
        assert_eq!(parse_time(b"1.0000000019"), Some((1, 1)));
        assert_eq!(parse_time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(parse_time(b"-3"), Some((-3, 0)));
        for bad in [&b"NaN"[..], b"", b"-", b".5", b"1e3", b"1.x", b"99999999999999999999", b"--1", b"+1"] {
            assert_eq!(parse_time(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_global_header_may_only_comment() {
        assert!(check_global(b"13 comment=x\n").is_ok());
        assert!(check_global(b"9 path=x\n").is_err());
        assert!(check_global(b"9 size=1\n").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = all(&bytes);
            let _ = parse_time(&bytes);
        }
    }
}
