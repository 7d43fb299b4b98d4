//! The API versions served, oldest first, and how a request's version is chosen.
//!
//! A path may begin with `/v1.NN`; without it the newest version is meant. A version outside the list is refused with
//! the words Docker's daemon uses, which its clients show to people.

use std::fmt;
use std::str::FromStr;

use tare_model::{Error, Result};

/// An API version. Ordered by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    major: u32,
    minor: u32,
}

const fn v(minor: u32) -> Version {
    Version { major: 1, minor }
}

/// Every version served, oldest first. A remark stands where an answer's shape depends on the version.
pub const VERSIONS: [Version; 16] = [
    v(40), // Docker 19.03
    v(41), // 20.10
    v(42), // 23.0: attach and logs name multiplexed streams by their own media type
    v(43), // 24.0
    v(44), // 25.0: image inspection without `VirtualSize`
    v(45), // 26.0: image inspection without `Container` and `ContainerConfig`
    v(46), // 27.0
    v(47), // 27.2
    v(48), // 28.0
    v(49), // 28.1
    v(50), // 28.2: `info` without the `BridgeNf*` fields
    v(51), // 28.3
    v(52), // 29.0: events and network settings without their deprecated twins; `system/df` summarises
    v(53), // 29.2
    v(54),
    v(55),
];

// === impl Version ===

impl Version {
    /// The oldest version served.
    pub const MIN: Version = VERSIONS[0];
    /// The newest version served, meant by a path without a version.
    pub const MAX: Version = VERSIONS[VERSIONS.len() - 1];

    /// Version 1.`minor`, for comparisons; it need not be one that is served.
    pub const fn new(minor: u32) -> Self {
        v(minor)
    }

    /// The version a request path names, and the path without it.
    ///
    /// `/v1.41/info` is 1.41 and `/info`; `/info` is the newest and itself; `/volumes` is not a version.
    ///
    /// # Errors
    /// The version is older or newer than those served.
    pub fn of_path(path: &str) -> Result<(Self, &str)> {
        let Some(rest) = path.strip_prefix("/v") else { return Ok((Self::MAX, path)) };
        let end = rest.find('/').unwrap_or(rest.len());
        let (text, rest) = rest.split_at(end);
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Ok((Self::MAX, path));
        }
        Ok((text.parse::<Self>()?.served()?, rest))
    }

    fn served(self) -> Result<Self> {
        if self < Self::MIN {
            return Err(Error::invalid(format!(
                "client version {self} is too old. Minimum supported API version is {}, please upgrade your client \
                 to a newer version",
                Self::MIN
            )));
        }
        if self > Self::MAX {
            return Err(Error::invalid(format!(
                "client version {self} is too new. Maximum supported API version is {}",
                Self::MAX
            )));
        }
        Ok(self)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Version {
    type Err = Error;

    /// `1.41`; missing parts are zero and further ones must be, as Docker compares them.
    fn from_str(s: &str) -> Result<Self> {
        let bad =
            || Error::invalid(format!("invalid API version {s:?}: want two numbers, like {}", Self::MAX));
        let part = |p: &str| if p.is_empty() { Ok(0) } else { p.parse::<u32>().map_err(|_| bad()) };
        let mut parts = s.split('.').map(part);
        let mut next = || parts.next().unwrap_or(Ok(0));
        let version = Self { major: next()?, minor: next()? };
        match parts.all(|p| p == Ok(0)) {
            true => Ok(version),
            false => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_list_is_ordered_and_without_gaps() {
        assert!(VERSIONS.windows(2).all(|w| w[0].major == w[1].major && w[0].minor + 1 == w[1].minor));
        assert_eq!((Version::MIN.to_string(), Version::MAX.to_string()), ("1.40".into(), "1.55".into()));
    }

    #[test]
    fn a_path_without_a_version_means_the_newest() {
        for path in ["/info", "/", "", "/volumes", "/version", "/v/info", "/vx.1/info", "info", "/v1.4a/info"]
        {
            assert_eq!(Version::of_path(path), Ok((Version::MAX, path)), "{path}");
        }
    }

    #[test]
    fn a_version_is_taken_off_the_path() {
        assert_eq!(Version::of_path("/v1.41/containers/json"), Ok((v(41), "/containers/json")));
        assert_eq!(Version::of_path("/v1.55"), Ok((v(55), "")));
        assert_eq!(Version::of_path("/v1.41.0/_ping"), Ok((v(41), "/_ping")));
    }

    #[test]
    fn versions_outside_the_list_are_refused_in_dockers_words() {
        let old = Version::of_path("/v1.39/info").expect_err("too old");
        assert_eq!(
            old.message(),
            "client version 1.39 is too old. Minimum supported API version is 1.40, please upgrade your client to a \
             newer version"
        );
        let new = Version::of_path("/v1.56/info").expect_err("too new");
        assert_eq!(new.message(), "client version 1.56 is too new. Maximum supported API version is 1.55");
        for path in
            ["/v1/info", "/v0.9/info", "/v2.0/info", "/v1.400/info", "/v1.99999999999/info", "/v1.40.1/info"]
        {
            assert!(Version::of_path(path).is_err(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn exactly_the_listed_versions_are_served(major in 0u32..4, minor in 0u32..80) {
            let path = format!("/v{major}.{minor}/info");
            let listed = VERSIONS.contains(&Version { major, minor });
            prop_assert_eq!(Version::of_path(&path).is_ok(), listed);
        }

        #[test]
        fn no_path_panics(path in "/v?[0-9./a-z]{0,20}") {
            let _ = Version::of_path(&path);
        }
    }
}
