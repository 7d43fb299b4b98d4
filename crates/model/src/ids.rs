//! Ranges of the host's user and group ids, lent to containers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Ids of users and groups that belong to one container, or to several that share a user namespace: `first` and the
/// `count - 1` after it. Text form: `FIRST+COUNT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IdRange {
    /// The first id.
    pub first: u32,
    /// How many there are; never 0.
    pub count: u32,
}

// === impl IdRange ===

impl IdRange {
    /// Whether the two have an id in common.
    pub fn overlaps(self, other: Self) -> bool {
        let end = |range: Self| u64::from(range.first) + u64::from(range.count);
        u64::from(self.first) < end(other) && u64::from(other.first) < end(self)
    }
}

impl fmt::Display for IdRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.first, self.count)
    }
}

impl FromStr for IdRange {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::invalid(format!("id range {text:?}: want FIRST+COUNT"));
        let (first, count) = text.split_once('+').ok_or_else(wrong)?;
        let number = |text: &str| text.parse::<u32>().map_err(|_| wrong());
        let (first, count) = (number(first)?, number(count)?);
        // The highest number is no id.
        if count == 0 || u32::MAX - first < count {
            return Err(wrong());
        }
        Ok(Self { first, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_survives_its_text() {
        let range = IdRange { first: 0x7000_0000, count: 65_536 };
        assert_eq!(range.to_string(), "1879048192+65536");
        assert_eq!(range.to_string().parse::<IdRange>().expect("parses"), range);
        for bad in ["", "1", "1+0", "4294967295+1", "4294901761+65535", "a+1", "1+-1"] {
            assert!(bad.parse::<IdRange>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn neighbours_do_not_overlap() {
        let range = |first, count| IdRange { first, count };
        assert!(range(0, 10).overlaps(range(9, 1)) && range(9, 1).overlaps(range(0, 10)));
        assert!(!range(0, 10).overlaps(range(10, 10)) && !range(10, 10).overlaps(range(0, 10)));
        assert!(range(u32::MAX - 1, 1).overlaps(range(u32::MAX - 2, 2)));
    }
}
