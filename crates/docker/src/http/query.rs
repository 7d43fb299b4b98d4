//! The query of a request, decoded, with the readings Docker gives to its values.

use tare_model::{Error, Result};

/// Names and values in the order they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

// === impl Query ===

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let pair = |p: &str| {
            let (name, value) = p.split_once('=').unwrap_or((p, ""));
            (decode(name, true), decode(value, true))
        };
        Self(text.split('&').filter(|p| !p.is_empty()).map(pair).collect())
    }

    /// The first value of `name`; empty if there is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v.as_str())
    }

    /// Every value of `name`.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name)
    }

    /// Docker's booleans: everything but these words is true.
    pub(crate) fn flag(&self, name: &str) -> bool {
        !matches!(self.text(name).trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// As [`Query::flag`], with another value for "not given".
    pub(crate) fn flag_or(&self, name: &str, absent: bool) -> bool {
        if self.has(name) { self.flag(name) } else { absent }
    }

    /// A whole number; absent if not given.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        match self.text(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                Error::invalid(format!("invalid value for {name:?}: {text:?} is not a number in range"))
            }),
        }
    }
}

/// Undoes percent-encoding (and `+` for space in a query). What is not an escape stands for itself; bytes that are not
/// UTF-8 are replaced, so that they match nothing.
pub(crate) fn decode(text: &str, plus: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(h, l)| h << 4 | l),
            _ => None,
        };
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(if plus && first == b'+' { b' ' } else { first });
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_decoded_and_repeated_names_kept() {
        let q =
            Query::parse("filters=%7B%22a%22%3A%5B%22b%22%5D%7D&changes=CMD+x&changes=ENV%20a%3Db&all&n=1");
        assert_eq!(q.text("filters"), r#"{"a":["b"]}"#);
        assert_eq!(q.all("changes").collect::<Vec<_>>(), ["CMD x", "ENV a=b"]);
        assert!(q.has("all") && !q.flag("all"));
        assert_eq!(q.number::<u16>("n"), Ok(Some(1)));
        assert_eq!(q.number::<u16>("m"), Ok(None));
    }

    #[test]
    fn booleans_follow_docker() {
        for (text, value) in [
            ("1", true),
            ("true", true),
            ("True", true),
            ("yes", true),
            ("0", false),
            ("False", false),
            ("none", false),
        ] {
            assert_eq!(Query::parse(&format!("f={text}")).flag("f"), value, "{text}");
        }
        assert!(Query::default().flag_or("f", true));
        assert!(!Query::parse("f=0").flag_or("f", true));
    }

    #[test]
    fn a_number_that_is_none_is_refused_by_name() {
        let e = Query::parse("h=ten").number::<u16>("h").expect_err("no number");
        assert!(e.message().contains("\"h\""), "{e}");
        assert!(Query::parse("h=70000").number::<u16>("h").is_err());
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(text in ".{0,40}") {
            let encoded: String = text.bytes().map(|b| format!("%{b:02x}")).collect();
            prop_assert_eq!(decode(&encoded, true), text);
        }

        #[test]
        fn no_query_panics(text in "[%+&=a-f0-9]{0,40}") {
            let _ = Query::parse(&text);
        }
    }
}
