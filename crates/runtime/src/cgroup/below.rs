//! Groups that a container has made below its own, as places for one of its processes.

use std::str::FromStr;

use super::controller::{Controller, Version};
use super::error::{Error, Result};
use super::group::{Entry, Mover};
use super::layout::Hierarchy;
use super::systemd::Scope;
use super::{Cgroup, GroupPath};

/// A group below a container's: in the hierarchies of some controllers, or in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Below {
    /// Names as v1 has them; empty for all.
    controllers: Vec<String>,
    /// `None`: the container's own group.
    path: Option<GroupPath>,
}

// === impl Below ===

impl FromStr for Below {
    type Err = Error;

    /// Reads `[CONTROLLER[,CONTROLLER…]:]PATH`.
    fn from_str(text: &str) -> Result<Self> {
        let (names, path) = text.split_once(':').unwrap_or(("", text));
        let controllers = names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let path = match path.trim_matches('/') {
            "" | "." => None,
            path => Some(GroupPath::parse(format!("/{path}"))?),
        };
        Ok(Self { controllers, path })
    }
}

impl Below {
    fn is_for(&self, hierarchy: &Hierarchy) -> bool {
        self.controllers.is_empty() || self.controllers.iter().any(|name| has(hierarchy, name))
    }
}

fn has(hierarchy: &Hierarchy, name: &str) -> bool {
    let named = |controller: &Controller| controller.name() == name || controller.name_v2() == Some(name);
    let own = hierarchy.name.as_deref().is_some_and(|own| name.strip_prefix("name=").unwrap_or(name) == own);
    own || hierarchy.controllers.iter().any(named)
}

// === impl Cgroup ===

impl Cgroup {
    /// As [`Cgroup::entry`], into groups below; a hierarchy that no place is for is entered at the container's own group.
    /// Where several are for one, the first that names a controller counts.
    ///
    /// # Errors
    /// A controller is named that the container has no group of; a group is not there.
    pub fn entry_below(&self, places: &[Below]) -> Result<Entry> {
        for name in places.iter().flat_map(|place| &place.controllers) {
            if !self.hierarchies().any(|hierarchy| has(hierarchy, name)) {
                let why = "the container has no group of this controller".to_owned();
                return Err(Error::Unsupported { what: format!("group of {name}"), why });
            }
        }
        let mut entry = self.entry_by(|hierarchy| {
            let fits = || places.iter().filter(|place| place.is_for(hierarchy));
            let place = fits().find(|place| !place.controllers.is_empty()).or_else(|| fits().next());
            match place.and_then(|place| place.path.as_ref()) {
                Some(path) => self.path.join(path.as_str()),
                None => self.path.as_str().to_owned(),
            }
        })?;
        if places.is_empty() {
            entry.mover = self.mover();
        }
        Ok(entry)
    }

    fn entry_by(&self, path: impl Fn(&Hierarchy) -> String) -> Result<Entry> {
        let mut entry = Entry::default();
        for hierarchy in self.hierarchies() {
            let path = path(hierarchy);
            match hierarchy.version {
                Version::V1 => {
                    let file = hierarchy.open_at(&format!("{path}/tasks"), self.layout.write_flags)?;
                    entry.tasks.push(file);
                }
                Version::V2 => {
                    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY;
                    entry.unified = Some(hierarchy.open_at(&path, flags)?);
                }
            }
        }
        Ok(entry)
    }

    /// Opens what a new process needs to come in.
    ///
    /// # Errors
    /// The groups are gone, or a call failed.
    pub fn entry(&self) -> Result<Entry> {
        let mut entry = self.entry_by(|_| self.path.as_str().to_owned())?;
        entry.mover = self.mover();
        Ok(entry)
    }

    fn mover(&self) -> Option<Mover> {
        self.scope.as_ref().and_then(Scope::mover)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_place_is_for_some_controllers_or_for_all() {
        let read = |text: &str| text.parse::<Below>().unwrap();
        assert_eq!(read("sub/sub"), read("/sub/sub/"));
        assert_eq!(read("cpu,memory:sub").controllers, ["cpu", "memory"]);
        assert_eq!(read("cpu:/").path, None);
        assert_eq!(read("sub").controllers, Vec::<String>::new());
        for text in ["../up", "cpu:../up", "a/../../b", "a\nb"] {
            assert!(text.parse::<Below>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_place_leads_up(text in "[ab./:,]{0,16}") {
            if let Ok(Below { path: Some(path), .. }) = text.parse::<Below>() {
                prop_assert!(path.as_str().split('/').all(|part| !part.is_empty() && part != ".." && part != "."));
            }
        }
    }
}
