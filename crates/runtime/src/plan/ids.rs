//! Which ids of the host the ids inside a user namespace are.

use std::fmt::Write;

use oci_spec::runtime::LinuxIdMapping;

use crate::error::{Error, Result};

/// Ids of users and groups: what they are inside, what they are outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMaps {
    uids: Vec<Extent>,
    gids: Vec<Extent>,
}

/// Neighbouring ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first one inside.
    pub inside: u32,
    /// The first one outside.
    pub outside: u32,
    /// How many.
    pub size: u32,
}

/// How many extents one map of the kernel's takes.
const MOST: usize = 340;

// === impl IdMaps ===

impl IdMaps {
    /// Reads both lists of a specification; `field` is what they belong to.
    ///
    /// # Errors
    /// One list is empty, or an extent is, or reaches beyond the last id, or overlaps another.
    pub(crate) fn of(
        uids: Option<&Vec<LinuxIdMapping>>,
        gids: Option<&Vec<LinuxIdMapping>>,
        field: &str,
    ) -> Result<Self> {
        let read = |list: Option<&Vec<LinuxIdMapping>>, name: &str| {
            let extents = list.into_iter().flatten().map(|map| Extent {
                inside: map.container_id(),
                outside: map.host_id(),
                size: map.size(),
            });
            checked(extents.collect(), &format!("{field}{name}"))
        };
        Ok(Self { uids: read(uids, "uidMappings")?, gids: read(gids, "gidMappings")? })
    }

    /// Reads what the kernel shows in `uid_map` and `gid_map`.
    pub(crate) fn from_kernel(uids: &str, gids: &str) -> Result<Self> {
        let read = |text: &str, name: &str| {
            let extents: Option<Vec<Extent>> = text.lines().map(Extent::from_kernel).collect();
            let unreadable =
                || Error::invalid(format!("{name} of the user namespace cannot be read: {text:?}"));
            checked(extents.ok_or_else(unreadable)?, name)
        };
        Ok(Self { uids: read(uids, "uid_map")?, gids: read(gids, "gid_map")? })
    }

    /// What user `inside` is outside.
    pub fn uid(&self, inside: u32) -> Option<u32> {
        outside(&self.uids, inside)
    }

    /// What group `inside` is outside.
    pub fn gid(&self, inside: u32) -> Option<u32> {
        outside(&self.gids, inside)
    }

    /// What root and its group are outside.
    ///
    /// # Errors
    /// They are nobody.
    pub(crate) fn root(&self) -> Result<(u32, u32)> {
        let missing = || Error::invalid("the user namespace has no root: container id 0 is not mapped");
        Ok((self.uid(0).ok_or_else(missing)?, self.gid(0).ok_or_else(missing)?))
    }

    /// What to write to `uid_map` and `gid_map`.
    pub(crate) fn texts(&self) -> (String, String) {
        (lines(&self.uids), lines(&self.gids))
    }
}

// === impl Extent ===

impl Extent {
    fn from_kernel(line: &str) -> Option<Self> {
        let mut numbers = line.split_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Self { inside: next()?, outside: next()?, size: next()? })
    }
}

fn outside(extents: &[Extent], inside: u32) -> Option<u32> {
    extents.iter().find_map(|extent| {
        let offset = inside.checked_sub(extent.inside).filter(|offset| *offset < extent.size)?;
        extent.outside.checked_add(offset)
    })
}

fn lines(extents: &[Extent]) -> String {
    extents.iter().fold(String::new(), |mut text, extent| {
        let _ = writeln!(text, "{} {} {}", extent.inside, extent.outside, extent.size);
        text
    })
}

fn checked(extents: Vec<Extent>, field: &str) -> Result<Vec<Extent>> {
    let wrong = |why: String| Err(Error::invalid(format!("{field}: {why}")));
    if extents.is_empty() {
        return wrong("missing: a user namespace needs ids of users and of groups".to_owned());
    }
    if extents.len() > MOST {
        return wrong(format!("{} extents; the kernel takes {MOST}", extents.len()));
    }
    for (at, extent) in extents.iter().enumerate() {
        let Extent { inside, outside, size } = *extent;
        // The highest number is no id.
        if size == 0 || [inside, outside].iter().any(|first| u32::MAX - first < size) {
            return wrong(format!("{inside} {outside} {size}: empty, or beyond the last id"));
        }
        let meets = |a: u32, b: u32, other: u32| a < b + other && b < a + size;
        let other = extents[..at].iter().find(|other| {
            meets(inside, other.inside, other.size) || meets(outside, other.outside, other.size)
        });
        if let Some(other) = other {
            let Extent { inside: i, outside: o, size: s } = *other;
            return wrong(format!("{inside} {outside} {size} overlaps {i} {o} {s}"));
        }
    }
    Ok(extents)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn maps(text: &str) -> Result<IdMaps> {
        IdMaps::from_kernel(text, "0 9 1")
    }

    #[test]
    fn ids_are_looked_up_in_their_extent() {
        let maps = maps("0 1000 10\n100000 5000 1\n").unwrap();
        for (inside, want) in
            [(0, Some(1000)), (9, Some(1009)), (10, None), (100_000, Some(5000)), (100_001, None)]
        {
            assert_eq!(maps.uid(inside), want, "{inside}");
        }
        assert_eq!((maps.root(), maps.gid(1)), (Ok((1000, 9)), None));
        assert_eq!(maps.texts(), ("0 1000 10\n100000 5000 1\n".into(), "0 9 1\n".into()));
    }

    #[test]
    fn maps_that_the_kernel_would_refuse_are_refused_by_field() {
        for text in [
            "",
            "0 0 0",
            "0 4294967295 1",
            "4294967295 0 1",
            "0 1 4294967295",
            "0 100 10\n9 500 1",
            "0 100 10\n50 109 1",
            "0 1",
            "a b c",
        ] {
            assert!(maps(text).unwrap_err().to_string().contains("uid_map"), "{text:?}");
        }
        assert!(maps("0 0 4294967295").is_ok(), "the initial namespace's own");
        let many: String = (0..341).map(|n| format!("{n} {n} 1\n")).collect();
        assert!(maps(&many).is_err());
    }

    proptest! {
        #[test]
        fn no_two_ids_inside_are_the_same_outside(
            extents in proptest::collection::vec((0..64_u32, 0..64_u32, 0..16_u32), 1..6)
        ) {
            let text: String = extents.iter().map(|(i, o, s)| format!("{i} {o} {s}\n")).collect();
            if let Ok(maps) = maps(&text) {
                let mut all: Vec<u32> = (0..96).filter_map(|inside| maps.uid(inside)).collect();
                let count = all.len();
                all.sort_unstable();
                all.dedup();
                prop_assert_eq!(all.len(), count);
                prop_assert_eq!(count, extents.iter().map(|(_, _, s)| *s as usize).sum::<usize>());
            }
        }
    }
}
