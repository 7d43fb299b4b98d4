//! Small readings that several parts of a create request share. Each error names the field.

use tare_model::{Error, Result};

/// A number that the model keeps in a narrower type.
pub(super) fn within<T: TryFrom<i64>>(field: &str, value: i64) -> Result<T> {
    T::try_from(value).map_err(|_| Error::invalid(format!("{field} = {value} is out of range")))
}

/// A number that may not be negative; zero and nothing mean "not set".
pub(super) fn natural(field: &str, value: Option<i64>) -> Result<Option<u64>> {
    match value.unwrap_or(0) {
        0 => Ok(None),
        n => within(field, n).map(Some),
    }
}

/// An absolute path without `.`, `..`, doubled or trailing slashes.
pub(super) fn absolute(field: &str, path: &str) -> Result<String> {
    if !path.starts_with('/') || path.contains('\0') {
        return Err(Error::invalid(format!("invalid {field}: '{path}' path must be absolute")));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    Ok(format!("/{}", parts.join("/")))
}

/// A host or domain name the kernel would take: at most 64 bytes, nothing that ends a line of `/etc/hosts`.
pub(super) fn host_name(field: &str, name: Option<String>) -> Result<String> {
    let name = name.unwrap_or_default();
    if name.len() > 64 || name.bytes().any(|b| b.is_ascii_whitespace() || b.is_ascii_control()) {
        return Err(Error::invalid(format!(
            "invalid {field} {name:?}: want at most 64 characters and no blanks"
        )));
    }
    Ok(name)
}

/// Docker's sizes: a number and a unit in powers of 1024: `64m`, `1.5g`, `10kb`, `4096`.
pub(super) fn bytes(field: &str, text: &str) -> Result<u64> {
    let bad = || Error::invalid(format!("invalid {field}: {text:?} is not a size like 64m"));
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit.trim().to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return Err(bad()),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift).ok_or_else(bad);
    }
    let value = number.parse::<f64>().map_err(|_| bad())? * (1u64 << shift) as f64;
    if value.is_finite() && value < 9e18 { Ok(value as u64) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, n) in [
            ("4096", 4096),
            ("64m", 64 << 20),
            ("64MB", 64 << 20),
            ("1.5g", 3 << 29),
            ("10KiB", 10 << 10),
            ("0", 0),
        ] {
            assert_eq!(bytes("size", text), Ok(n), "{text}");
        }
        for bad in ["", "m", "1x", "-1", "1.2.3", "99999999999999999999", "20000000p"] {
            assert!(bytes("size", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_are_cleaned_and_never_climb_above_the_root() {
        assert_eq!(absolute("p", "/a//b/./c/../d/"), Ok("/a/b/d".into()));
        assert_eq!(absolute("p", "/../../etc"), Ok("/etc".into()));
        assert_eq!(absolute("p", "/"), Ok("/".into()));
        for bad in ["", "a", "./a", "/a\0b"] {
            assert!(absolute("p", bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_cleaned_path_stays_as_it_is(path in "/[a-z./]{0,30}") {
            let clean = absolute("p", &path).expect("absolute");
            prop_assert!(!clean.split('/').any(|p| p == ".." || p == "."));
            prop_assert_eq!(absolute("p", &clean), Ok(clean.clone()));
        }

        #[test]
        fn no_size_panics(text in ".{0,24}") {
            let _ = bytes("size", &text);
        }
    }
}
