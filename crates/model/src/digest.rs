//! Content digests: SHA-256 and nothing else, checked before the text is used for anything.
//!
//! A digest becomes a file name and a database key, so only one spelling of it exists: `sha256:` and 64 lower-case
//! hexadecimal digits. Other algorithms are refused by name rather than stored unverified.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The SHA-256 of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// The one algorithm, as it is written before the colon.
const ALGORITHM: &str = "sha256";

// === impl Digest ===

impl Digest {
    /// The digest whose value is `bytes` (the hash function is the caller's).
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 digits without the algorithm; safe as a file name.
    pub fn hex(&self) -> String {
        crate::id::hex(&self.0)
    }

    /// The first twelve digits, as listings show them.
    pub fn short(&self) -> String {
        crate::id::hex(&self.0[..6])
    }

    /// The digest with these 64 lower-case digits.
    ///
    /// # Errors
    /// Anything else.
    pub fn from_hex(digits: &str) -> Result<Self, Error> {
        let mut bytes = [0; 32];
        let text = digits.as_bytes();
        if text.len() != 64 {
            return Err(malformed(digits));
        }
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            match (nibble(pair[0]), nibble(pair[1])) {
                (Some(high), Some(low)) => *byte = high << 4 | low,
                _ => return Err(malformed(digits)),
            }
        }
        Ok(Self(bytes))
    }
}

impl FromStr for Digest {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self, Error> {
        match s.split_once(':') {
            Some((ALGORITHM, digits)) => Self::from_hex(digits),
            Some((other @ ("sha384" | "sha512"), _)) => {
                Err(Error::unsupported(format!("digest algorithm {other} is not supported: only sha256 is")))
            }
            _ => Err(malformed(s)),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;
    fn try_from(s: String) -> Result<Self, Error> {
        s.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM}:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// The text may be a megabyte of an attacker's; the message holds its beginning.
fn malformed(text: &str) -> Error {
    let head: String = text.chars().take(80).collect();
    Error::invalid(format!("invalid digest {head:?}: want sha256: and 64 lower-case hexadecimal digits"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn only_one_spelling_is_a_digest() {
        let hex = "0123456789abcdef".repeat(4);
        assert!(format!("sha256:{hex}").parse::<Digest>().is_ok());
        let upper = hex.to_uppercase();
        for bad in [
            "",
            "sha256:",
            &hex,
            &format!("sha256:{upper}"),
            &format!("SHA256:{hex}"),
            &format!("sha256:{}", &hex[1..]),
            &format!("sha256:{hex}0"),
            &format!("sha256:../../{}", &hex[6..]),
            &format!("sha256:{hex}\n"),
            &format!(" sha256:{hex}"),
            &format!("sha256:{}é", &hex[2..]),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn another_algorithm_is_refused_by_name() {
        let e = format!("sha512:{}", "0".repeat(128)).parse::<Digest>().expect_err("sha512");
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(e.message().contains("sha512"), "{e}");
    }

    #[test]
    fn a_megabyte_of_digest_makes_a_short_message() {
        let e = "x".repeat(1 << 20).parse::<Digest>().expect_err("no digest");
        assert!(e.message().len() < 300);
    }

    proptest! {
        #[test]
        fn every_digest_parses_back(bytes in any::<[u8; 32]>()) {
            let digest = Digest::from_bytes(bytes);
            prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
            prop_assert_eq!(Digest::from_hex(&digest.hex()).unwrap(), digest);
            prop_assert!(digest.hex().starts_with(&digest.short()));
        }

        #[test]
        fn any_text_is_judged_without_panic(s in "\\PC{0,100}") {
            let _ = s.parse::<Digest>();
        }
    }
}
