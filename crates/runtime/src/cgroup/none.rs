//! No groups at all: where an ordinary user may make none.
//!
//! Then nothing can be limited, frozen or counted, and what asks for it is refused by name. Its pid namespace alone keeps
//! the container's processes together.

use std::sync::Arc;

use oci_spec::runtime::LinuxResources;

use super::error::{Error, Result};
use super::group::Cgroup;
use super::layout::Layout;
use super::plan::{Current, plan};

/// What is missing, for those who ask for something that takes groups.
pub(crate) const NO_GROUPS: &str = "the engine may make no cgroups: it is an ordinary user's, and no cgroup v2 subtree was \
                                    delegated to that user (systemd does it for services and scopes with Delegate=yes)";

impl Cgroup {
    /// A container without groups.
    ///
    /// # Errors
    /// Limits were asked for, device rules among them.
    pub(crate) fn none(resources: &LinuxResources) -> Result<Self> {
        let layout = Arc::new(Layout::none());
        let asked = plan(resources, layout.as_ref(), &Current::default());
        let devices = resources.devices().as_ref().is_some_and(|rules| !rules.is_empty());
        let what = match asked {
            Err(error) => error.to_string(),
            Ok(_) if devices => "device rules".to_owned(),
            Ok(_) => return Self::open(&layout, "/none"),
        };
        Err(Error::Unsupported { what, why: NO_GROUPS.to_owned() })
    }

    /// Whether there are no groups.
    pub(crate) fn is_none(&self) -> bool {
        self.layout.hierarchies.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{LinuxPidsBuilder, LinuxResourcesBuilder};

    use super::*;

    #[test]
    fn nothing_asked_for_is_nothing_missing() {
        let group = Cgroup::none(&LinuxResources::default()).unwrap();
        assert!(group.is_none() && group.entry().unwrap().tasks().is_empty());
        group.kill_all().unwrap();
        group.destroy().unwrap();
        assert!(group.oom_watch().unwrap().is_none());
        assert!(group.pids().unwrap().is_empty());
    }

    #[test]
    fn a_limit_is_refused_with_what_is_missing() {
        let pids = LinuxPidsBuilder::default().limit(5).build().unwrap();
        let limited = LinuxResourcesBuilder::default().pids(pids).build().unwrap();
        let error = Cgroup::none(&limited).unwrap_err().to_string();
        assert!(error.contains("pids") && error.contains("delegated"), "{error}");
    }
}
