//! Identifiers as types: a container id can never be passed where an exec id is meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Declares a newtype over 64 lower-case hexadecimal digits (32 random bytes), Docker's form of an id.
macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The id whose digits are those of `bytes`, which the caller draws at random.
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(hex(&bytes))
            }

            /// All 64 digits.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first twelve digits, as listings show them.
            pub fn short(&self) -> &str {
                &self.0[..12]
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(s: &str) -> Result<Self, Error> {
                if s.len() == 64 && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                    return Ok(Self(s.to_owned()));
                }
                Err(Error::invalid(format!(concat!("{:?} is not a ", $what, ": want 64 lower-case hexadecimal digits"), s)))
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(s: String) -> Result<Self, Error> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }
    };
}

hex_id! {
    /// A container.
    ContainerId, "container id"
}
hex_id! {
    /// A network.
    NetworkId, "network id"
}
hex_id! {
    /// A process started in a container by `exec`.
    ExecId, "exec id"
}
hex_id! {
    /// An anonymous volume.
    VolumeId, "volume id"
}
hex_id! {
    /// A fault of a container's networks.
    FaultId, "fault id"
}

/// A container's name: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, Docker's rule, at most 255 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerName(String);

// === impl ContainerName ===

impl ContainerName {
    /// The name without a leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerName {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self, Error> {
        // The API writes names with a leading slash; both forms mean the same container.
        let name = s.strip_prefix('/').unwrap_or(s);
        let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if first && name.len() >= 2 && name.len() <= 255 && name.bytes().all(ok) {
            return Ok(Self(name.to_owned()));
        }
        Err(Error::invalid(format!(
            "invalid container name ({s}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed (2 to 255 characters)"
        )))
    }
}

impl TryFrom<String> for ContainerName {
    type Error = Error;
    fn try_from(s: String) -> Result<Self, Error> {
        s.parse()
    }
}

impl From<ContainerName> for String {
    fn from(name: ContainerName) -> String {
        name.0
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n & 15)]);
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(*b)]).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_is_made_of_its_bytes() {
        let id = ContainerId::from_bytes([0xa5; 32]);
        assert_eq!(id.as_str(), "a5".repeat(32));
        assert_eq!(id.short(), "a5a5a5a5a5a5");
    }

    #[test]
    fn names_follow_dockers_rule() {
        for good in ["web", "/web", "a1", "a_b.c-d", "0x"] {
            assert!(good.parse::<ContainerName>().is_ok(), "{good}");
        }
        for bad in ["", "/", "a", "-ab", ".ab", "a/b", "a b", "ü1", "a\n", &"x".repeat(256)] {
            assert!(bad.parse::<ContainerName>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn only_64_lower_case_digits_are_an_id(s in ".{0,80}") {
            let ok = s.len() == 64 && s.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
            prop_assert_eq!(s.parse::<ContainerId>().is_ok(), ok);
        }

        #[test]
        fn every_id_parses_back(bytes in any::<[u8; 32]>()) {
            let id = ExecId::from_bytes(bytes);
            prop_assert_eq!(id.as_str().parse::<ExecId>().unwrap(), id);
        }
    }
}
