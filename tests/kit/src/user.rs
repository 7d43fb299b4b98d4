//! An ordinary user of a test's own: not in the machine's files, but in copies of them that only that user's processes see.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::cmd::Cmd;
use crate::debs;
use crate::engine::program;
use crate::leftovers::Traces;
use crate::space::{NEIGHBOUR, NEIGHBOUR6, Space};
use crate::wait;

/// The user's id and group; nobody's on any machine.
pub const UID: u32 = 64_242;
/// The first id that the user is given beside the own one, and how many.
pub const SUBIDS: (u32, u32) = (700_000_000, 65_536);
const NAME: &str = "tess";

/// What runs in a mount namespace of its own, as root, before the user's program: arguments are the scratch directory, the
/// directory of our programs, that of `newuidmap`, that of `pasta`, the user's cgroup, the id and the program. Where no udev runs,
/// /dev/net/tun is not everybody's, as it is elsewhere.
const ENTER: &str = r#"set -e
mount --bind "$1/etc" /etc
mount --bind "$2" "$1/bin"
if [ -n "$3" ]; then mount --bind "$3" "$1/uidmap"; fi
case "$4" in
    "") ;;
    none) if [ -e /usr/bin/pasta ]; then mount --bind /dev/null /usr/bin/pasta; fi ;;
    *) mount --bind "$4" "$1/pasta" ;;
esac
if [ -e /dev/net/tun ]; then mount --bind "$1/tun" /dev/net/tun; fi
if [ -n "$5" ]; then echo 0 > "$5/job/cgroup.procs"; fi
uid=$6; shift 6
exec setpriv --reuid "$uid" --regid "$uid" --clear-groups -- "$@""#;

/// A user with a home, a runtime directory, ranges of ids and an engine that is started when it is first needed. The end
/// fails a test that passed if anything is left.
pub struct User {
    dir: TempDir,
    /// `newuidmap` is there.
    has_tools: bool,
    /// `pasta` is there.
    has_pasta: bool,
    /// A cgroup that is the user's to divide.
    group: Option<PathBuf>,
    /// The machine's network, if it is not the one that the test has.
    space: Option<Space>,
}

impl User {
    /// One that has everything.
    pub fn new() -> User {
        let line = format!("{NAME}:{}:{}\n", SUBIDS.0, SUBIDS.1);
        User::with(&line, true)
    }

    /// One that may divide a cgroup as well; `None` where version 2 has no controllers.
    pub fn with_group() -> Option<User> {
        let top = Path::new("/sys/fs/cgroup");
        let offered =
            fs::read_to_string(top.join("cgroup.controllers")).ok().filter(|o| o.contains("pids"))?;
        let switches: String = offered.split_whitespace().map(|name| format!("+{name} ")).collect();
        fs::write(top.join("cgroup.subtree_control"), switches).expect("controllers for the groups below");
        let mut user = User::new();
        let group = top.join(user.dir().file_name().expect("a name"));
        for dir in [&group, &group.join("job")] {
            fs::create_dir(dir).expect("a cgroup");
            for file in [".", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
                chown(dir.join(file), Some(UID), Some(UID)).expect("chown");
            }
        }
        user.group = Some(group);
        Some(user)
    }

    /// One with this text in `/etc/subuid` and `/etc/subgid`, with or without `newuidmap` and `newgidmap`.
    pub fn with(subids: &str, has_tools: bool) -> User {
        assert!(
            rustix::process::geteuid().is_root(),
            "tests of an ordinary user have to become one: run them as root"
        );
        let dir = tempfile::Builder::new().prefix("tare-user-").tempdir().expect("a temporary directory");
        let open =
            |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
        open(dir.path(), 0o755);
        Cmd::new("cp").args(["-a", "/etc"]).args([dir.path()]).ok();
        let etc = dir.path().join("etc");
        let passwd = fs::read_to_string(etc.join("passwd")).expect("the machine's users");
        let home = dir.path().join("home");
        let line = format!("{NAME}:x:{UID}:{UID}::{}:/bin/sh\n", home.display());
        fs::write(etc.join("passwd"), passwd + &line).expect("writes");
        for file in ["subuid", "subgid"] {
            fs::write(etc.join(file), subids).expect("writes");
        }
        for (name, mode) in
            [("home", 0o755), ("run", 0o700), ("bin", 0o755), ("uidmap", 0o755), ("pasta", 0o755)]
        {
            fs::create_dir(dir.path().join(name)).expect("makes");
            open(&dir.path().join(name), mode);
        }
        for own in ["home", "run"] {
            chown(dir.path().join(own), Some(UID), Some(UID)).expect("chown");
        }
        let tun = dir.path().join("tun");
        let device = makedev(10, 200);
        mknodat(CWD, &tun, FileType::CharacterDevice, Mode::from_raw_mode(0o666), device).expect("mknod");
        open(&tun, 0o666);
        User { dir, has_tools, has_pasta: true, group: None, space: None }
    }

    /// One on a machine of its own, and another machine on a LAN with it, to which it sends what is for elsewhere and where it
    /// asks for names. That one has to go before the user does.
    pub fn on_a_lan() -> (User, Space) {
        let mut user = User::new();
        let here = Space::new();
        let neighbour = here.neighbour();
        here.sh(&format!("ip route add default via {NEIGHBOUR}; ip -6 route add default via {NEIGHBOUR6}"));
        let names = user.dir().join("etc/resolv.conf");
        // It may be a link to a file of the machine's.
        fs::remove_file(&names).expect("the machine's resolv.conf");
        fs::write(names, format!("nameserver {NEIGHBOUR}\n")).expect("writes");
        user.space = Some(here);
        (user, neighbour)
    }

    /// The machine's network of a user [`User::on_a_lan`].
    pub fn space(&self) -> &Space {
        self.space.as_ref().expect("a user on a LAN")
    }

    /// The same, without pasta.
    pub fn without_pasta(mut self) -> User {
        self.has_pasta = false;
        self
    }

    /// The scratch directory; everything of this user is in it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The user's home.
    pub fn home(&self) -> PathBuf {
        self.dir().join("home")
    }

    /// Where the user's engine keeps its state.
    pub fn root(&self) -> PathBuf {
        self.home().join(".local/share/tare")
    }

    /// Where it has its socket.
    pub fn run_dir(&self) -> PathBuf {
        self.dir().join("run/tare")
    }

    /// A program run by the user, with a clean environment.
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Cmd {
        let programs = program("tare");
        let programs = programs.parent().expect("a directory");
        let tools = if self.has_tools { package("uidmap", "newuidmap") } else { String::new() };
        let pasta = if self.has_pasta { package("passt", "pasta") } else { "none".to_owned() };
        let at = self.dir().display();
        // The machine's own must not help out.
        let others = if self.has_tools { ":/usr/sbin:/usr/bin:/sbin:/bin" } else { "" };
        let group = self.group.as_ref().map_or_else(String::new, |group| group.display().to_string());
        self.on_its_machine("unshare")
            .args(["--mount", "--propagation=private", "sh", "-c", ENTER, "sh"])
            .args([self.dir(), programs])
            .args([tools, pasta, group, UID.to_string()])
            .args(["/usr/bin/env", "-i"])
            .args([
                format!("PATH={at}/bin:{at}/uidmap:{at}/pasta{others}"),
                format!("HOME={at}/home"),
                format!("XDG_RUNTIME_DIR={at}/run"),
            ])
            .args(words)
    }

    fn on_its_machine(&self, program: &str) -> Cmd {
        self.space.as_ref().map_or_else(|| Cmd::new(program), |space| space.run([program]))
    }

    /// `tare ARGS…`.
    pub fn tare<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Cmd {
        self.run(["tare"]).args(args)
    }

    /// The process of the user's daemon, if one has been started.
    pub fn daemon(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.run_dir().join("tared.lock")).ok()?;
        Pid::from_raw(text.split_whitespace().next()?.parse().ok()?)
    }

    /// Kills the daemon as a crash would, and waits until it is gone.
    pub fn kill_daemon(&self) {
        self.end_daemon(Signal::KILL);
    }

    fn end_daemon(&self, signal: Signal) {
        let Some(pid) = self.daemon() else { return };
        // The number may be somebody else's by now.
        let line = fs::read(format!("/proc/{pid}/cmdline", pid = pid.as_raw_nonzero())).unwrap_or_default();
        if !String::from_utf8_lossy(&line).contains(&*self.dir().to_string_lossy()) {
            return;
        }
        let _ = kill_process(pid, signal);
        let gone =
            || fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default().is_empty();
        assert!(wait::until(wait::PATIENCE, || gone().then_some(())).is_some(), "the daemon does not end");
    }

    /// What the daemon has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.run_dir().join("tared.log")).unwrap_or_default()
    }

    fn end(&self) -> Vec<String> {
        if self.daemon().is_some() {
            let all = self.tare(["ps", "-aq", "--no-trunc"]).run().out();
            let ids: Vec<&str> = all.lines().collect();
            if !ids.is_empty() {
                self.tare(["rm", "-f"]).args(&ids).run();
            }
        }
        let mut traces = Traces::new(self.dir());
        let containers = fs::read_dir(self.root().join("containers")).into_iter().flatten().flatten();
        traces.ids = containers.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        self.end_daemon(Signal::TERM);
        let mut left = traces.left();
        if let Some(group) = &self.group {
            left.extend(remove_group(group).err());
        }
        left
    }
}

/// The directory of a program: empty for the machine's own, else that of Debian's package, unpacked.
fn package(package: &str, program: &str) -> String {
    if Path::new("/usr/bin").join(program).exists() {
        return String::new();
    }
    let root = debs::unpacked(package, &[package]);
    let tool = debs::find(&root, program).expect("the program in Debian's package");
    tool.parent().expect("a directory").display().to_string()
}

/// Takes away the user's cgroup, and what the daemon itself was in; anything else should be gone.
fn remove_group(group: &Path) -> Result<(), String> {
    for dir in [group.join("job/tared"), group.join("job"), group.to_path_buf()] {
        let gone = wait::until(wait::PATIENCE, || match fs::remove_dir(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => None,
            _ => Some(()),
        });
        gone.ok_or_else(|| format!("cgroup: {} with {}", dir.display(), groups_in(&dir).join(" ")))?;
    }
    Ok(())
}

fn groups_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let groups = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    groups.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

impl Default for User {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the user's tared said at last:\n{}", self.log());
            self.end_daemon(Signal::KILL);
            for pid in
                Traces::new(self.dir()).processes().into_iter().filter_map(|p| Pid::from_raw(p.cast_signed()))
            {
                let _ = kill_process(pid, Signal::KILL);
            }
            wait::pause(Duration::from_millis(100));
            if let Some(group) = &self.group {
                let _ = remove_group(group);
            }
            return;
        }
        let left = self.end();
        assert!(left.is_empty(), "the user's engine left on the machine:\n{}", left.join("\n"));
    }
}
