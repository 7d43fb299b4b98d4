//! Numbers and text in the fixed fields of a header.

use tare_model::Result;

use crate::error::corrupt;

/// A number: octal text, or big-endian two's complement where the first bit is set (GNU and star, for large ones).
pub(super) fn number(field: &[u8], what: &str) -> Result<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => binary(field),
        _ => octal(field),
    }
    .ok_or_else(|| {
        corrupt(format!(
            "header field {what} holds no number that fits: {:?}",
            field.escape_ascii().to_string()
        ))
    })
}

/// A number that cannot be negative.
pub(super) fn unsigned(field: &[u8], what: &str) -> Result<u64> {
    u64::try_from(number(field, what)?).map_err(|_| corrupt(format!("header field {what} is negative")))
}

/// Bytes up to the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    &field[..end]
}

fn octal(field: &[u8]) -> Option<i64> {
    let blank = |b: &u8| matches!(b, b' ' | 0);
    let begin = field.iter().position(|b| !blank(b)).unwrap_or(field.len());
    let end = field.iter().rposition(|b| !blank(b)).map_or(begin, |at| at + 1);
    text(&field[begin..end]).iter().try_fold(0i64, |sum, digit| match digit {
        b'0'..=b'7' => sum.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

fn binary(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let flip = if negative { 0xff } else { 0 };
    let mut value: u64 = 0;
    for (at, byte) in field.iter().enumerate() {
        let byte = if at == 0 { (byte ^ flip) & 0x7f } else { byte ^ flip };
        if value >> 56 != 0 {
            return None;
        }
        value = value << 8 | u64::from(byte);
    }
    let value = i64::try_from(value).ok()?;
    Some(if negative { !value } else { value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(field: &[u8]) -> Option<i64> {
        number(field, "x").ok()
    }

    #[test]
    fn octal_text_may_be_padded_on_both_sides() {
        for field in [&b"0000644\0"[..], b"    644 ", b"644\0\0\0\0\0", b" 644 \0\0\0", b"000644 \0"] {
            assert_eq!(read(field), Some(0o644), "{field:?}");
        }
        assert_eq!(read(b"\0\0\0\0\0\0\0\0"), Some(0));
    }

    #[test]
    fn what_is_no_octal_number_is_refused() {
        for field in [&b"8\0\0\0"[..], b"-1\0\0", b"0x1\0", b"1 1\0", b"7777777777777777777777777"] {
            assert_eq!(read(field), None, "{field:?}");
        }
    }

    #[test]
    fn large_and_negative_numbers_are_binary() {
        assert_eq!(read(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]), Some(256));
        assert_eq!(read(&[0xff; 12]), Some(-1));
        assert_eq!(read(&[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Some(i64::MAX));
        assert_eq!(read(&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]), None, "2^63");
        assert_eq!(read(&[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]), None, "2^64 must not wrap to 0");
        assert!(unsigned(&[0xff; 12], "size").is_err());
    }

    proptest! {
        #[test]
        fn every_binary_number_reads_back(value in any::<i64>()) {
            let mut field = [if value < 0 { 0xff } else { 0 }; 12];
            field[4..].copy_from_slice(&value.to_be_bytes());
            field[0] |= 0x80;
            prop_assert_eq!(read(&field), Some(value));
        }
    }
}
