//! Making room in a cgroup that was delegated to the user: a group with processes of its own can have no limited children.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

const ROOT: &str = "/sys/fs/cgroup";
/// The group of the daemon itself, below the one that it was started in.
const LEAF: &str = "tared";

/// Moves this process into a group of its own below the present one, if that is ours. Where it is not, there are no groups
/// for containers either, and the engine says so when one is needed.
pub(super) fn step_aside() {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(own) = own_group(&own).map(|path| Path::new(ROOT).join(path)) else { return };
    if is_ours(&own) {
        let leaf = own.join(LEAF);
        let _ = fs::create_dir(&leaf);
        let _ = fs::write(leaf.join("cgroup.procs"), "0");
    }
}

/// The group, below the root of the version 2 hierarchy, whose children the containers' groups can be: what this daemon
/// stepped aside in, or, where controllers stop above it, the nearest that has some. `None`: none was delegated.
pub fn delegated_group() -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let start = own_group(&own)?.strip_suffix(LEAF)?.trim_end_matches('/');
    let above = Path::new(start).ancestors().filter(|group| !group.as_os_str().is_empty());
    let ours: Vec<&Path> = above.take_while(|group| is_ours(&Path::new(ROOT).join(group))).collect();
    let has_controllers = |group: &&&Path| {
        let list = fs::read_to_string(Path::new(ROOT).join(group).join("cgroup.controllers"));
        list.is_ok_and(|list| !list.trim().is_empty())
    };
    let found = ours.iter().find(has_controllers).or(ours.first())?;
    Some(Path::new("/").join(found))
}

/// The group in the version 2 hierarchy; nothing for the root.
fn own_group(text: &str) -> Option<&str> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    (!path.is_empty() && !path.contains("..")).then_some(path)
}

/// What is handed over on delegation, and only that (cgroups(7)).
fn is_ours(group: &Path) -> bool {
    let may_write = |path: PathBuf| accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok();
    // Beside version 1 hierarchies this one limits nothing.
    let is_unified = Path::new(ROOT).join("cgroup.controllers").exists();
    is_unified
        && ["", "cgroup.procs", "cgroup.subtree_control"].iter().all(|name| may_write(group.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_the_line_without_controllers() {
        let text = "5:memory:/a\n0::/user.slice/x.scope\n";
        assert_eq!(own_group(text), Some("user.slice/x.scope"));
        for other in ["5:memory:/a\n", "0::/\n", "0::/../x\n", ""] {
            assert_eq!(own_group(other), None, "{other}");
        }
    }
}
