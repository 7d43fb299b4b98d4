//! Which hierarchies this machine has, found once: the mount points, their controllers, and our own place in each.
//!
//! - **legacy**: v1 hierarchies only, one or several controllers each (`cpu,cpuacct` is one hierarchy).
//! - **hybrid**: v1 hierarchies that have the controllers, and the v2 hierarchy beside them, which may have others and
//!   in any case freezes, kills and tells of emptiness.
//! - **unified**: v2 only.
//!
//! Each mount point is opened here and never resolved again: everything later is relative to the descriptor.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode as FileMode, OFlags, fstatfs, openat};

use super::controller::{Controller, Version};
use super::error::{Error, Result};

/// The hierarchies of this machine. Shared by all groups; detect once.
#[derive(Debug)]
pub struct Layout {
    pub(super) hierarchies: Vec<Hierarchy>,
    /// Whether v2 is mounted with this option.
    pub(super) nsdelegate: bool,
    /// Flags for writing a group's files. On a fake tree for tests the files must be made by whoever writes them.
    pub(super) write_flags: OFlags,
}

/// One mounted hierarchy.
#[derive(Debug)]
pub struct Hierarchy {
    pub(super) version: Version,
    pub(super) controllers: Vec<Controller>,
    /// A v1 hierarchy without controllers that some manager uses to track processes (`systemd`).
    pub(super) name: Option<String>,
    pub(super) mount: PathBuf,
    pub(super) root: OwnedFd,
    /// Our own group in it, absolute below its root.
    pub(super) own: String,
}

/// What `mountinfo` says of one cgroup mount.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    device: String,
    root: String,
    point: PathBuf,
    version: Option<Version>,
    options: Vec<String>,
}

/// What kind of machine it is; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// v1 only.
    Legacy,
    /// v1 with v2 beside it.
    Hybrid,
    /// v2 only.
    Unified,
}

// === impl Layout ===

impl Layout {
    /// Looks at the mounts of the calling process.
    ///
    /// # Errors
    /// `/proc` cannot be read, a mount point cannot be opened, or there is no cgroup hierarchy at all.
    pub fn detect() -> Result<Self> {
        let systemd = Path::new("/run/systemd/system").is_dir();
        Self::of(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?, systemd)
    }

    /// What these contents of `mountinfo` and `/proc/self/cgroup` describe.
    pub(super) fn of(mountinfo: &str, own: &str, systemd: bool) -> Result<Self> {
        let mounts = parse_mounts(mountinfo);
        let own = parse_own(own);
        let nsdelegate = mounts.iter().any(|mount| {
            mount.version == Some(Version::V2) && mount.options.iter().any(|option| option == "nsdelegate")
        });
        let mut hierarchies = Vec::new();
        for mount in mounts {
            if let Some(hierarchy) = Hierarchy::open(mount, &own, systemd)? {
                hierarchies.push(hierarchy);
            }
        }
        if hierarchies.is_empty() {
            return Err(Error::Unsupported {
                what: "containers".to_owned(),
                why: "no cgroup hierarchy is mounted; mount -t cgroup2 none /sys/fs/cgroup".to_owned(),
            });
        }
        Ok(Self { hierarchies, nsdelegate, write_flags: OFlags::WRONLY | OFlags::CLOEXEC })
    }

    /// None, for a container without groups.
    pub(crate) fn none() -> Self {
        Self { hierarchies: Vec::new(), nsdelegate: false, write_flags: OFlags::WRONLY | OFlags::CLOEXEC }
    }

    /// What kind of machine this is.
    pub fn mode(&self) -> Mode {
        match (self.has(Version::V1), self.has(Version::V2)) {
            (true, true) => Mode::Hybrid,
            (true, false) => Mode::Legacy,
            (false, _) => Mode::Unified,
        }
    }

    /// How a controller is spoken to here; `None`: it is not there. Devices on v2 are a BPF program, freezing and
    /// accounting are built in.
    pub fn version_of(&self, controller: Controller) -> Option<Version> {
        match self.holding(controller) {
            Some(at) => Some(self.hierarchies[at].version),
            None => match controller {
                Controller::Devices | Controller::Freezer | Controller::Core => {
                    self.v2().map(|_| Version::V2)
                }
                Controller::Cpuacct if self.mode() == Mode::Unified => Some(Version::V2),
                _ => None,
            },
        }
    }

    /// Our own group for a controller, absolute below the hierarchy's root.
    pub fn own_path(&self, controller: Controller) -> Option<&str> {
        self.holding(controller).map(|at| self.hierarchies[at].own.as_str())
    }

    /// The hierarchy that has this controller.
    pub(super) fn holding(&self, controller: Controller) -> Option<usize> {
        self.hierarchies.iter().position(|one| one.controllers.contains(&controller))
    }

    /// The v2 hierarchy.
    pub(super) fn v2(&self) -> Option<usize> {
        self.hierarchies.iter().position(|one| one.version == Version::V2)
    }

    /// Whether this is a tree of plain files for tests, where a file is there when it was written.
    pub(super) fn makes_files(&self) -> bool {
        self.write_flags.contains(OFlags::CREATE)
    }

    fn has(&self, version: Version) -> bool {
        self.hierarchies.iter().any(|one| one.version == version)
    }

    /// A layout on plain directories, whose files are made when they are first written.
    #[cfg(test)]
    pub(crate) fn fake(trees: &[(Version, &[Controller], &Path)]) -> Self {
        let hierarchies = trees
            .iter()
            .map(|(version, controllers, mount)| Hierarchy {
                version: *version,
                controllers: controllers.to_vec(),
                name: None,
                mount: mount.to_path_buf(),
                root: open_root(mount).unwrap(),
                own: "/".to_owned(),
            })
            .collect();
        let write_flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::CREATE | OFlags::TRUNC;
        Self { hierarchies, nsdelegate: false, write_flags }
    }
}

// === impl Hierarchy ===

impl Hierarchy {
    /// Opens a mount that we can use; `None` if it has nothing for us.
    fn open(mount: Mount, own: &[Own], systemd: bool) -> Result<Option<Self>> {
        let Some(version) = mount.version else { return Ok(None) };
        let name = mount.options.iter().find_map(|option| option.strip_prefix("name=")).map(str::to_owned);
        let named = mount.options.iter().filter_map(|option| Controller::from_v1(option)).collect();
        let controllers: Vec<Controller> = match version {
            Version::V1 => named,
            Version::V2 => Vec::new(), // it says so itself, below
        };
        // Without systemd nobody looks at its hierarchy; with it, a container must not stay in our unit's group.
        let tracked = systemd && name.as_deref() == Some("systemd");
        if version == Version::V1 && controllers.is_empty() && !tracked {
            return Ok(None);
        }
        let root = open_root(&mount.point)?;
        // Something may be mounted over it: what is written there would limit nothing.
        let magic = fstatfs(&root).map(|status| status.f_type).unwrap_or_default();
        if magic != magic_of(version) {
            return Ok(None);
        }
        let controllers = match version {
            Version::V1 => controllers,
            Version::V2 => controllers_v2(&mount.point)?,
        };
        let own = own_group(own, version, &mount.options);
        Ok(Some(Self { version, controllers, name, mount: mount.point, root, own }))
    }

    /// The descriptor everything is relative to.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

/// `CGROUP_SUPER_MAGIC` and `CGROUP2_SUPER_MAGIC`.
fn magic_of(version: Version) -> rustix::fs::FsWord {
    match version {
        Version::V1 => 0x0027_e0eb,
        Version::V2 => 0x6367_7270,
    }
}

fn open_root(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, FileMode::empty())
        .map_err(|source| Error::Call { call: format!("open {}", path.display()), source })
}

fn controllers_v2(point: &Path) -> Result<Vec<Controller>> {
    let path = point.join("cgroup.controllers");
    let words = read(&path.to_string_lossy())?;
    Ok(words.split_whitespace().filter_map(Controller::from_v2).collect())
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).map_err(|error| Error::Call {
        call: format!("read {path}"),
        source: rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO),
    })
}

// === parsing ===

/// Runs the parsers alone; for fuzzers.
pub(super) fn fuzz(text: &str) {
    let own = parse_own(text);
    for mount in parse_mounts(text) {
        let _ = own_group(&own, mount.version.unwrap_or(Version::V2), &mount.options);
    }
}

/// The cgroup mounts, one for each hierarchy: of several mounts of one hierarchy the one that shows its root, or else
/// the first.
fn parse_mounts(mountinfo: &str) -> Vec<Mount> {
    let mut found: Vec<Mount> = Vec::new();
    for mount in mountinfo.lines().filter_map(parse_mount).filter(|mount| mount.version.is_some()) {
        match found.iter_mut().find(|other| other.device == mount.device) {
            Some(other) if other.root != "/" && mount.root == "/" => *other = mount,
            Some(_) => {}
            None => found.push(mount),
        }
    }
    found
}

fn parse_mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(2);
    let (device, root, point) = (left.next()?, left.next()?, left.next()?);
    let mut right = right.split(' ');
    let (kind, _source, options) = (right.next()?, right.next()?, right.next()?);
    let version = match kind {
        "cgroup" => Some(Version::V1),
        "cgroup2" => Some(Version::V2),
        _ => None,
    };
    Some(Mount {
        device: device.to_owned(),
        root: unescape(root),
        point: PathBuf::from(unescape(point)),
        version,
        options: options.split(',').map(str::to_owned).collect(),
    })
}

/// `mountinfo` writes blanks and backslashes as `\040`.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) if code.is_ascii() => {
                plain.push(char::from(code));
                rest = &rest[at + 4..];
            }
            _ => {
                plain.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    plain.push_str(rest);
    plain
}

/// One line of `/proc/self/cgroup`: the controllers of a hierarchy (none: v2) and our own group in it.
type Own = (Vec<String>, String);

fn parse_own(text: &str) -> Vec<Own> {
    let line = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (names, path) = (parts.next()?, parts.next()?);
        let names = names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Some((names, path.to_owned()))
    };
    text.lines().filter_map(line).collect()
}

/// Our own group in the hierarchy mounted with these options.
fn own_group(own: &[Own], version: Version, options: &[String]) -> String {
    let is_it = |names: &[String]| match version {
        Version::V1 => !names.is_empty() && names.iter().all(|name| options.contains(name)),
        Version::V2 => names.is_empty(),
    };
    let found = own.iter().find(|(names, _)| is_it(names));
    found.map_or_else(|| "/".to_owned(), |(_, path)| path.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEPARATE: &str = "\
23 1 254:0 / / rw,relatime - ext4 /dev/root rw\n\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n\
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn mounts_of_cgroups_are_found_among_others() {
        let mounts = parse_mounts(SEPARATE);
        let points: Vec<_> = mounts.iter().map(|mount| mount.point.to_string_lossy().into_owned()).collect();
        assert_eq!(
            points,
            ["cpu", "memory", "systemd", "unified"].map(|name| format!("/sys/fs/cgroup/{name}"))
        );
        assert_eq!(mounts[3].version, Some(Version::V2));
        let own = parse_own("9:name=systemd:/init\n0::/\n");
        assert_eq!(own_group(&own, Version::V1, &mounts[2].options), "/init");
    }

    #[test]
    fn mounted_together_is_one_hierarchy_with_both() {
        let line = "30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,seclabel,cpu,cpuacct";
        let mount = parse_mount(line).unwrap();
        let found: Vec<_> = mount.options.iter().filter_map(|option| Controller::from_v1(option)).collect();
        assert_eq!(found, [Controller::Cpu, Controller::Cpuacct]);
        let own = parse_own("4:cpuacct,cpu:/user.slice\n0::/init.scope\n");
        assert_eq!(own_group(&own, Version::V1, &mount.options), "/user.slice");
        assert_eq!(own_group(&own, Version::V2, &mount.options), "/init.scope");
        assert_eq!(own_group(&own, Version::V1, &["rw".to_owned(), "pids".to_owned()]), "/");
    }

    #[test]
    fn of_two_mounts_of_a_hierarchy_the_one_with_its_root_is_taken() {
        let text = "\
50 1 0:29 /docker/x /inner rw - cgroup cgroup rw,cpu\n\
51 1 0:29 / /outer rw - cgroup cgroup rw,cpu\n\
52 1 0:29 / /again rw - cgroup cgroup rw,cpu\n";
        let mounts = parse_mounts(text);
        assert_eq!(mounts.len(), 1);
        assert_eq!(mounts[0].point, PathBuf::from("/outer"));
    }

    #[test]
    fn escaped_mount_points_are_read() {
        assert_eq!(unescape(r"/my\040groups\134x"), r"/my groups\x");
        assert_eq!(unescape(r"tail\04"), r"tail\04");
    }

    #[test]
    fn a_path_with_colons_stays_whole() {
        let own = parse_own("1:name=systemd:/a:b:c\n");
        assert_eq!(own[0].1, "/a:b:c");
    }

    #[test]
    fn this_machine_has_hierarchies() {
        let layout = Layout::detect().unwrap();
        assert!(
            layout.version_of(Controller::Memory).is_some()
                || layout.version_of(Controller::Hugetlb).is_some()
        );
        for hierarchy in &layout.hierarchies {
            assert!(hierarchy.own.starts_with('/'), "{}: {}", hierarchy.mount.display(), hierarchy.own);
        }
    }

    #[test]
    fn modes_follow_from_what_is_mounted() {
        let dir = tempfile::tempdir().unwrap();
        let v1 = (Version::V1, &[Controller::Cpu][..], dir.path());
        let v2 = (Version::V2, &[Controller::Hugetlb][..], dir.path());
        assert_eq!(Layout::fake(&[v1]).mode(), Mode::Legacy);
        assert_eq!(Layout::fake(&[v1, v2]).mode(), Mode::Hybrid);
        assert_eq!(Layout::fake(&[v2]).mode(), Mode::Unified);
        assert_eq!(Layout::fake(&[v1, v2]).version_of(Controller::Freezer), Some(Version::V2));
        assert_eq!(Layout::fake(&[v1]).version_of(Controller::Freezer), None);
        assert_eq!(Layout::fake(&[v1, v2]).version_of(Controller::Memory), None);
    }
}
