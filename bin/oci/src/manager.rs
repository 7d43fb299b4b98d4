//! Who makes the groups of containers, and where a container without a `cgroupsPath` gets its own.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tare_model::{Error, Result};
use tare_runtime::cgroup::systemd::Systemd;
use tare_runtime::cgroup::{Driver, Layout};
use tare_runtime::{Options, Runtime};

use crate::cli::Cli;

/// Who makes them. It is kept with each container: whoever made its groups has to remove them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Manager {
    /// We do.
    #[default]
    Us,
    /// We do, in what is delegated to a user.
    UsInDelegated,
    /// The system's systemd.
    Systemd,
    /// The user's systemd.
    UsersSystemd,
}

// === impl Manager ===

impl Manager {
    /// As the command line asks.
    pub(crate) fn of(cli: &Cli) -> Self {
        match (cli.systemd_cgroup, cli.is_rootless()) {
            (false, false) => Self::Us,
            (false, true) => Self::UsInDelegated,
            (true, false) => Self::Systemd,
            (true, true) => Self::UsersSystemd,
        }
    }

    /// The runtime as this program uses it: containers live on when it exits.
    pub(crate) fn runtime(self) -> Result<Runtime> {
        let cgroups = match self {
            Self::Us | Self::UsInDelegated => Driver::Cgroupfs,
            Self::Systemd => Driver::Systemd(Systemd::system()),
            Self::UsersSystemd => {
                let run = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
                Driver::Systemd(Systemd::user(run))
            }
        };
        Runtime::new(Options { die_with_parent: false, cgroups, ..Options::default() })
    }

    /// The path of a container's groups, from the one that its document names.
    pub(crate) fn settled(self, path: Option<&Path>, id: &str) -> Result<PathBuf> {
        let path = path.filter(|path| !path.as_os_str().is_empty());
        match (self, path) {
            (Self::Systemd | Self::UsersSystemd, Some(path)) => Ok(path.to_owned()),
            (Self::Systemd, None) => Ok(format!("system.slice:tare:{id}").into()),
            (Self::UsersSystemd, None) => Ok(format!("user.slice:tare:{id}").into()),
            // A relative one is below the root as well.
            (Self::Us | Self::UsInDelegated, Some(path)) => Ok(Path::new("/").join(path)),
            // No group above it, which nobody would remove.
            (Self::Us, None) => Ok(format!("/tare-oci-{id}").into()),
            (Self::UsInDelegated, None) => Ok(delegated()?.join(format!("tare-oci-{id}"))),
        }
    }
}

fn delegated() -> Result<PathBuf> {
    let found = Layout::detect()?.delegated()?;
    found.map(|found| PathBuf::from(found.path)).ok_or_else(|| {
        Error::unsupported(
            "--rootless: no cgroup v2 is delegated to us; use --systemd-cgroup, or start this in a unit with Delegate=yes",
        )
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn of(flags: &str) -> Manager {
        Manager::of(&Cli::try_parse_from(format!("tare-oci {flags} list").split(' ')).unwrap())
    }

    #[test]
    fn the_command_line_says_who() {
        assert_eq!(of("--rootless false"), Manager::Us);
        assert_eq!(of("--rootless true"), Manager::UsInDelegated);
        assert_eq!(of("--systemd-cgroup --rootless false"), Manager::Systemd);
        assert_eq!(of("--systemd-cgroup=true --rootless=true"), Manager::UsersSystemd);
    }

    #[test]
    fn a_container_without_a_path_gets_one_by_its_id() {
        let path = |who: Manager, said: Option<&str>| {
            who.settled(said.map(Path::new), "box").unwrap().display().to_string()
        };
        assert_eq!(path(Manager::Us, None), "/tare-oci-box");
        assert_eq!(path(Manager::Us, Some("")), "/tare-oci-box");
        assert_eq!(path(Manager::Us, Some("a/b")), "/a/b");
        assert_eq!(path(Manager::Us, Some("/a/b")), "/a/b");
        assert_eq!(path(Manager::Systemd, None), "system.slice:tare:box");
        assert_eq!(path(Manager::UsersSystemd, None), "user.slice:tare:box");
        assert_eq!(path(Manager::Systemd, Some("a.slice:p:n")), "a.slice:p:n");
    }
}
