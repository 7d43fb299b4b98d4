//! The groups as directories, for whoever shows them to the container.

use std::path::PathBuf;

use super::{Cgroup, Hierarchy, Version};

impl Cgroup {
    /// Each group's directory, with the name under which its hierarchy is known in `/sys/fs/cgroup`: `memory`,
    /// `cpu,cpuacct`, `systemd`, `unified`; empty if the one v2 hierarchy is the whole tree.
    ///
    /// Paths and not descriptors: a mount can only be copied in the mount namespace that it is in, and whoever shows
    /// these is in another than the one they would be opened in.
    pub fn directories(&self) -> Vec<(String, PathBuf)> {
        let alone = self.layout.hierarchies.iter().all(|one| one.version == Version::V2);
        self.hierarchies()
            .map(|one| (directory_name(one, alone), one.mount.join(self.path.as_str())))
            .collect()
    }
}

fn directory_name(hierarchy: &Hierarchy, alone: bool) -> String {
    match (hierarchy.version, alone) {
        (Version::V2, true) => String::new(),
        (Version::V2, false) => "unified".to_owned(),
        (Version::V1, _) => hierarchy
            .mount
            .file_name()
            .map_or_else(|| "unnamed".to_owned(), |name| name.to_string_lossy().into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use oci_spec::runtime::LinuxResources;

    use super::super::{Cgroup, Layout};

    #[test]
    fn every_group_is_shown_as_the_directory_that_it_is() {
        let layout = Arc::new(Layout::detect().unwrap());
        let path = format!("/tare-view-test-{}", std::process::id());
        let group = Cgroup::create(&layout, &path, &LinuxResources::default()).unwrap();
        let shown = group.directories();
        let missing: Vec<_> = shown.iter().filter(|(_, directory)| !directory.is_dir()).collect();
        group.destroy().unwrap();
        assert!(!shown.is_empty() && missing.is_empty(), "{missing:?}");
        assert!(shown.iter().all(|(_, directory)| !directory.exists()));
    }
}
