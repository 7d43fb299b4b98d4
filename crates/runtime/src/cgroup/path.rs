//! The name of a group: absolute below every hierarchy's mount point, plain components only.

use std::fmt;
use std::path::{Component, Path};

use super::error::{Error, Result};

/// A group's path, without the leading slash. Never empty, never with `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPath(String);

/// Longest we take; the kernel's limit on a path is 4096 and files come below.
const LONGEST: usize = 2048;

impl GroupPath {
    /// Checks a path such as `/tare-1234/9f86d081`.
    ///
    /// # Errors
    /// It is relative, the root itself, has `..`, a control character or is too long.
    pub fn parse(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let refuse = |why| Err(Error::Path { path: path.display().to_string(), why });
        let Some(text) = path.to_str().filter(|text| !text.chars().any(char::is_control)) else {
            return refuse("it has characters that no group name may have");
        };
        if text.len() > LONGEST {
            return refuse("it is too long");
        }
        if !path.is_absolute() {
            return refuse("it must be absolute, as /parent/name below the hierarchies' mount points");
        }
        let mut parts = Vec::new();
        for component in path.components() {
            match component {
                Component::RootDir => {}
                Component::Normal(part) => parts.extend(part.to_str()),
                Component::CurDir | Component::ParentDir | Component::Prefix(_) => {
                    return refuse("it must not lead up with ..");
                }
            }
        }
        if parts.is_empty() {
            return refuse("the root group is not for containers; name a group below it");
        }
        Ok(Self(parts.join("/")))
    }

    /// Relative to a hierarchy's root.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// A file of the group, or a group below it.
    pub(super) fn join(&self, name: &str) -> String {
        format!("{}/{name}", self.0)
    }

    /// The groups above it, outermost first.
    pub(super) fn ancestors(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.match_indices('/').map(|(at, _)| &self.0[..at])
    }
}

impl fmt::Display for GroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_kept_relative_and_clean() {
        let path = GroupPath::parse("/tare//x/./9f86/").unwrap();
        assert_eq!(path.as_str(), "tare/x/9f86");
        assert_eq!(path.to_string(), "/tare/x/9f86");
        assert_eq!(path.ancestors().collect::<Vec<_>>(), ["tare", "tare/x"]);
        assert_eq!(GroupPath::parse("/one").unwrap().ancestors().count(), 0);
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for path in ["", "/", "x/y", "/x/../y", "..", "/..", "/x\ny", "/\u{0}"] {
            assert!(GroupPath::parse(path).is_err(), "{path:?}");
        }
        assert!(GroupPath::parse(format!("/{}", "x".repeat(3000))).is_err());
    }
}
