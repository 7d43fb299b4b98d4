//! A cgroup of the nursery and its shims, below the root of each hierarchy.
//!
//! What kills or limits the daemon's group (a service manager that stops it, its memory limit) must not touch them. Only
//! hierarchies where that could happen count: the service manager's, and those with limits.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, getpid, getppid};
use tare_model::{Error, Result};
use tare_sys::fd::install_stdio;
use tare_sys::pidfd;
use tare_sys::process::{Forked, Namespaces, exit_now, fork};

use crate::rootless::is_inside;

const ROOT: &str = "/sys/fs/cgroup";
/// Hierarchies of version 1 that count. There a process with one thread moves itself by `tasks` at no cost.
const V1: [&str; 4] = ["systemd", "pids", "memory", "cpu"];

/// How long to wait at once for members that tell nothing.
const MOMENT: Duration = Duration::from_millis(10);
/// And for those that tell their end, as they may not be the only ones.
const WHILE: Duration = Duration::from_millis(100);
/// How long for members that end while this process leaves, and for those that take their time, as the daemon does.
const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(3);
/// And between the end of a process and its leaving the group.
const SWITCH: Duration = Duration::from_millis(1);
/// More members than this are not just ending.
const FEW: usize = 16;

/// What the names of the nursery's groups begin with; the engine's mark follows.
const NURSERY: &str = "tare-shims-";
/// And those of the groups that the containers of the same engine are in.
const CONTAINERS: &str = "tare-";
/// And those that the command line makes for a daemon that it starts.
const DAEMON: &str = "tared-";

/// The nursery's group, in every hierarchy where it was entered, and what is to go with it.
#[derive(Debug)]
pub(super) struct Cgroup {
    places: Vec<Place>,
    /// The group that the containers' are in, wherever it may be.
    containers: Vec<Place>,
    /// The daemon's group, if it was made for it.
    daemon: Vec<Place>,
    /// Where this process was before in the hierarchy of version 2, below its root.
    origin: String,
}

/// A group in one hierarchy.
#[derive(Debug)]
struct Place {
    root: PathBuf,
    name: String,
    /// The file that processes are moved by.
    members: &'static str,
}

// === impl Cgroup ===

impl Cgroup {
    /// Makes the group `name` where it is not there yet, and moves this process into it.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is no plain file name, `System` when a hierarchy that is there refuses.
    pub(super) fn enter(name: &str) -> Result<Self> {
        // Below a group that was delegated to the engine's user, if it is an ordinary one.
        let (parent, last) = name.rsplit_once('/').unwrap_or(("", name));
        let plain = last.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        let climbs = parent.split('/').any(|part| part == "..") || parent.chars().any(char::is_control);
        if last.is_empty() || !plain || climbs {
            return Err(Error::invalid(format!("nursery name {name:?}: want letters, digits, '-' and '_'")));
        }
        let name = name.trim_start_matches('/');
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let origin = origin(&own);
        let daemon = daemons(Path::new(ROOT), &own);
        let containers = containers(Path::new(ROOT), parent.trim_start_matches('/'), last);
        let mut places = Vec::new();
        for place in hierarchies(Path::new(ROOT), name) {
            match place.enter() {
                // Where an ordinary user may make no group there is none, and nobody's limits are in the way.
                Err(e) if is_inside() && is_closed(&e) => {}
                Err(e) => {
                    let group = place.group();
                    return Err(Error::system(format!("nursery: enter the cgroup {}: {e}", group.display())));
                }
                Ok(()) => places.push(place),
            }
        }
        Ok(Self { places, containers, daemon, origin })
    }

    /// Leaves the group, and removes it if nobody else is in it; and so the daemon's, if it was made for it, and the one
    /// that the containers' are in. For when the daemon is gone: it removes its own only when it ends in good order.
    pub(super) fn leave(&self) {
        for place in &self.places {
            let move_to = |group: PathBuf| fs::write(group.join(place.members), "0");
            // An ordinary user may not move to the root, but back. At the end of the process there is nobody to tell if
            // neither can be; a group that stays is found by the next nursery.
            let _ = move_to(place.root.clone()).or_else(|_| move_to(place.root.join(&self.origin)));
        }
        let mut left: Vec<&Place> = self.places.iter().chain(&self.containers).collect();
        remove(&mut left, SHORT, None);
        left.extend(&self.daemon);
        let parent = getpid();
        // A daemon that ends in good order waits for its nursery: another process waits for the daemon, and for monitors
        // that were ending when this process was still there to put out the light.
        if !left.is_empty() && matches!(fork(Namespaces::NONE, None), Ok(Forked::Child)) {
            // Whoever reads what the daemon says is not to wait for its end.
            let _ = File::options()
                .write(true)
                .open("/dev/null")
                .map(|null| install_stdio([null.as_fd(), null.as_fd(), null.as_fd()]));
            remove(&mut left, LONG, Some(parent));
            exit_now(0);
        }
    }
}

// === impl Place ===

impl Place {
    fn group(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    fn enter(&self) -> io::Result<()> {
        // A nursery or shim that leaves at this moment may remove the group between the two steps.
        let mut last = None;
        for _ in 0..5 {
            match fs::create_dir(self.group()) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
            match fs::OpenOptions::new().write(true).open(self.group().join(self.members)) {
                Ok(mut file) => match io::Write::write_all(&mut file, b"0") {
                    Err(e) if e.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => last = Some(e),
                    result => return result,
                },
                Err(e) if e.kind() == io::ErrorKind::NotFound => last = Some(e),
                Err(e) => return Err(e),
            }
        }
        Err(last.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
    }
}

/// What a group is like that was to be removed.
enum Removal {
    /// It is gone, or not to be removed by this process.
    Done,
    /// Somebody is in it: these, as far as they tell their end.
    Waits(Vec<OwnedFd>),
    /// None but monitors that have not come to their end are in it.
    Lives(Vec<OwnedFd>),
}

impl Place {
    fn remove(&self) -> Removal {
        match fs::remove_dir(self.group()) {
            Err(e) if e.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => self.members(),
            _ => Removal::Done,
        }
    }

    /// Who keeps the group, if they may just be ending.
    fn members(&self) -> Removal {
        let text = fs::read_to_string(self.group().join("cgroup.procs")).unwrap_or_default();
        // This process, where it may not leave the group, does not wait for itself.
        let own = getpid().to_string();
        let others: Vec<&str> = text.lines().filter(|line| *line != own).collect();
        let is_alone = others.is_empty() && !text.is_empty();
        if is_alone || others.len() > FEW || self.has_groups() {
            return Removal::Done;
        }
        // A process that has ended counts as a member until the kernel has switched away from it, which nothing tells. It
        // may have no number any more.
        let pids = others.iter().filter_map(|line| line.parse().ok());
        let opened = pids.filter_map(|pid| pidfd::open(pid).ok());
        let processes = opened.filter(|process| pidfd::tells_end(process.as_fd())).collect();
        let lives = !others.is_empty() && others.iter().all(|pid| is_living_monitor(pid));
        if lives { Removal::Lives(processes) } else { Removal::Waits(processes) }
    }

    /// Whether there are groups in the group.
    fn has_groups(&self) -> bool {
        let mut entries = fs::read_dir(self.group()).into_iter().flatten().flatten();
        entries.any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
    }
}

/// Whether the process is a shim that has yet to look whether its nursery is gone.
fn is_living_monitor(pid: &str) -> bool {
    fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_ascii_end() == super::SHIM.to_bytes())
}

/// Removes the groups, and waits for that until their members have ended, but no longer than `patience`. Those that stay are
/// in `left` then. Once `parent` is not this process' parent any more, a group of living monitors is left to them: each looks
/// for its nursery after it has changed its name.
fn remove(left: &mut Vec<&Place>, patience: Duration, parent: Option<Pid>) {
    let end = Instant::now() + patience;
    loop {
        // Asked before the names are read.
        let is_gone = parent.is_some() && getppid() != parent;
        let mut members = Vec::new();
        let mut soon = false;
        left.retain(|place| match place.remove() {
            Removal::Done => false,
            Removal::Lives(_) if is_gone => false,
            Removal::Waits(processes) => {
                members.extend(processes);
                true
            }
            Removal::Lives(processes) => {
                members.extend(processes);
                soon = parent.is_some();
                true
            }
        });
        let remaining = end.saturating_duration_since(Instant::now());
        if left.is_empty() || remaining.is_zero() {
            return;
        }
        let wait = remaining.min(if members.is_empty() || soon { MOMENT } else { WHILE });
        let mut ends: Vec<PollFd<'_>> =
            members.iter().map(|process| PollFd::new(process, PollFlags::IN)).collect();
        // One that has ended and still counts does not let `poll` wait.
        if poll_for(&mut ends, wait) > 0 {
            poll_for(&mut [], SWITCH);
        }
    }
}

/// How many are ready after that time at most.
fn poll_for(fds: &mut [PollFd<'_>], time: Duration) -> usize {
    rustix::event::poll(fds, Timespec::try_from(time).ok().as_ref()).unwrap_or(0)
}

/// The group of version 2 that `/proc/PID/cgroup` names.
fn origin(text: &str) -> String {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    path.unwrap_or_default().trim_start_matches('/').to_owned()
}

/// The groups among those of `/proc/PID/cgroup` that the command line has made for the daemon, which this process was
/// started in: right below the root of the hierarchies that count a session's processes.
fn daemons(root: &Path, text: &str) -> Vec<Place> {
    let lines =
        text.lines().filter_map(|line| line.split_once(':').and_then(|(_, rest)| rest.split_once(':')));
    let named = lines.filter_map(|(controllers, path)| {
        let name = path.strip_prefix('/').filter(|name| name.starts_with(DAEMON) && !name.contains('/'))?;
        let root = match controllers {
            "" if root.join("cgroup.controllers").exists() => root.to_owned(),
            "" => root.join("unified"),
            other => root.join(other.strip_prefix("name=")?),
        };
        Some(Place { root, name: name.to_owned(), members: "cgroup.procs" })
    });
    named.collect()
}

/// The groups that those of the containers are in, wherever there may be one: of the nursery `name` below `parent`.
fn containers(root: &Path, parent: &str, name: &str) -> Vec<Place> {
    let Some(mark) = name.strip_prefix(NURSERY) else { return Vec::new() };
    let name = Path::new(parent).join(format!("{CONTAINERS}{mark}")).to_string_lossy().into_owned();
    let place = |root: PathBuf| Place { root, name: name.clone(), members: "cgroup.procs" };
    if root.join("cgroup.controllers").exists() {
        return vec![place(root.to_owned())];
    }
    let all = fs::read_dir(root).into_iter().flatten().flatten();
    all.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| place(entry.path()))
        .collect()
}

fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// The hierarchies below `root` that are there.
fn hierarchies(root: &Path, name: &str) -> Vec<Place> {
    let place = |root: PathBuf, members| Place { root, name: name.to_owned(), members };
    if root.join("cgroup.controllers").exists() {
        return vec![place(root.to_owned(), "cgroup.procs")];
    }
    let mut places: Vec<Place> = V1.iter().map(|controller| place(root.join(controller), "tasks")).collect();
    places.push(place(root.join("unified"), "cgroup.procs"));
    places.retain(|place| place.root.join(place.members).exists());
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_has_one_place_and_version_1_those_that_are_there() {
        let dir = tempfile::tempdir().expect("temporary directory");
        for path in ["pids", "memory", "freezer", "unified"] {
            fs::create_dir(dir.path().join(path)).expect("makes");
        }
        for file in ["pids/tasks", "memory/tasks", "freezer/tasks", "unified/cgroup.procs"] {
            fs::write(dir.path().join(file), "").expect("writes");
        }
        let groups =
            |dir: &Path| -> Vec<PathBuf> { hierarchies(dir, "x").iter().map(Place::group).collect() };
        let expected = ["pids/x", "memory/x", "unified/x"].map(|group| dir.path().join(group));
        assert_eq!(groups(dir.path()), expected);
        fs::write(dir.path().join("cgroup.controllers"), "").expect("writes");
        assert_eq!(groups(dir.path()), [dir.path().join("x")]);
    }

    #[test]
    fn groups_that_nobody_else_removes_are_found_by_their_names() {
        let dir = tempfile::tempdir().expect("temporary directory");
        for path in ["pids", "cpu,cpuacct", "unified"] {
            fs::create_dir(dir.path().join(path)).expect("makes");
        }
        std::os::unix::fs::symlink("cpu,cpuacct", dir.path().join("cpu")).expect("links");
        let sorted = |places: Vec<Place>| -> Vec<PathBuf> {
            let mut all: Vec<PathBuf> = places.iter().map(Place::group).collect();
            all.sort();
            all
        };
        let at =
            |names: &[&str]| -> Vec<PathBuf> { names.iter().map(|name| dir.path().join(name)).collect() };
        let found = |name| sorted(containers(dir.path(), "", name));
        assert_eq!(found("tare-shims-07"), at(&["cpu,cpuacct/tare-07", "pids/tare-07", "unified/tare-07"]));
        assert_eq!(found("others"), at(&[]));
        let own = "9:pids:/tared-x\n4:name=systemd:/tared-run\n3:cpu:/\n0::/tared-run\n";
        assert_eq!(sorted(daemons(dir.path(), own)), at(&["systemd/tared-run", "unified/tared-run"]));
        assert_eq!(sorted(daemons(dir.path(), "0::/user.slice/tared-x\n1:name=systemd:/s\n")), at(&[]));
        fs::write(dir.path().join("cgroup.controllers"), "").expect("writes");
        assert_eq!(sorted(daemons(dir.path(), "0::/tared-run\n")), at(&["tared-run"]));
        assert_eq!(sorted(containers(dir.path(), "a/b", "tare-shims-07")), at(&["a/b/tare-07"]));
    }

    #[test]
    fn the_way_back_is_the_group_of_version_2() {
        assert_eq!(origin("9:pids:/x\n0::/user.slice/job\n"), "user.slice/job");
        assert_eq!(origin("0::/\n"), "");
        assert_eq!(origin("9:pids:/x\n"), "");
    }

    #[test]
    fn a_name_with_a_way_out_is_refused() {
        for name in ["", "..", "../b", "/a/../b", "a/", "a\n", "ü"] {
            assert!(Cgroup::enter(name).is_err(), "{name:?}");
        }
    }
}
