//! Starts `tared` where nobody listens, so that the first `tare run` on a machine works.
//!
//! ```text
//! tare ──spawn──> tare (as STARTER) ──setsid, own cgroup, exec──> tared --ready-fd N
//!   └──────────────── blocks on the pipe: "ready", an error line, or its end ───┘
//! ```
//!
//! The step in between is this same binary: it may do to itself what a parent could not do to a child without unsafe
//! code. Under systemd it is wrapped in a transient scope, which keeps descriptors and leaves the caller's session.
//! An ordinary user's daemon goes on from there into a user namespace by itself.
//! Clients that race take turns on a lock file. A daemon that finds another one holding its directory says
//! "already running" instead of "ready", which is as good.

use crate::failure::{Failure, OWN_ERROR, plain};
use crate::host::DEFAULT_SOCKET;
use crate::say::complain;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};

/// First argument of the process between client and daemon; no command has this name.
pub(crate) const STARTER: &str = "--start-daemon";
/// The log of a daemon that nobody started by hand is cut when it has grown beyond this.
const LOG_LIMIT: u64 = 4 << 20;
/// How long a daemon may take to end that could not start.
const GOING: Duration = Duration::from_secs(2);
/// The kernel's answer for a group that somebody is in.
const BUSY: i32 = rustix::io::Errno::BUSY.raw_os_error();
/// The environment of a daemon: the paths that tools of the system live in.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What else of the caller's environment a daemon gets: where things are, for an ordinary user and that user's systemd.
const KEPT: [&str; 7] = [
    "TARE_LIBEXEC",
    "TARE_ROOT",
    "HOME",
    "USER",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
];

/// Starts a daemon for `socket` and returns when it answers.
pub(crate) fn start(socket: &Path) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() && socket == Path::new(DEFAULT_SOCKET) {
        return Err(fail(format!(
            "no daemon listens on {} and only root can start the machine's: run `sudo tare ...` once; without --host and \
             TARE_HOST you get a daemon of your own",
            socket.display()
        )));
    }
    let run_dir = socket.parent().unwrap_or(Path::new("/run/tare"));
    let _turn = take_turn(run_dir)?;
    if UnixStream::connect(socket).is_ok() {
        return Ok(());
    }
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|e| fail(format!("starting tared: pipe2: {e}")))?;
    complain(format!("tare: starting the daemon (tared) on {}", socket.display()));
    let mut child = spawn(socket, run_dir, write)?;
    let answer = read_answer(File::from(read))?;
    if answer == "ready" || answer.contains("already running") {
        return Ok(());
    }
    // It is gone or going.
    let ended = ended(&mut child);
    remove_groups(&group_name(run_dir));
    if answer.is_empty() {
        // Its own words are in the log.
        let how = ended.map_or_else(String::new, |status| format!(" ({status})"));
        let log = log_path(run_dir);
        return Err(fail(format!("tared ended before it was ready{how}; see {}", log.display())));
    }
    Err(fail(format!("tared could not start: {answer}")))
}

/// How a daemon ended that could not start, once it has; not for ever is it waited for.
fn ended(child: &mut Child) -> Option<ExitStatus> {
    if let Ok(process) = pidfd_open(rustix::process::Pid::from_child(child), PidfdFlags::empty()) {
        wait(&mut [PollFd::new(&process, PollFlags::IN)], GOING);
    }
    child.try_wait().ok().flatten()
}

/// Nobody is in them who is not just ending: who has ended counts as a member until the kernel has switched away from it.
fn remove_groups(name: &str) {
    let groups = groups(name);
    let is_left = |group: &PathBuf| fs::remove_dir(group).is_err_and(|e| e.raw_os_error() == Some(BUSY));
    (0..20).any(|_| {
        let left = groups.iter().filter(|group| is_left(group)).count();
        if left > 0 {
            wait(&mut [], Duration::from_millis(1));
        }
        left == 0
    });
}

fn wait(fds: &mut [PollFd<'_>], time: Duration) {
    // What is not there in time is done without.
    let _ = poll(fds, Timespec::try_from(time).ok().as_ref());
}

/// Clients that find no daemon at the same time go one after another: the first starts it, the others wait here until
/// it is ready and find it. Held until the file is dropped; the daemon does not inherit it.
fn take_turn(run_dir: &Path) -> Result<File, Failure> {
    // A group may be allowed to use the machine's socket; a user's own is nobody else's.
    let mode = if rustix::process::geteuid().is_root() { 0o711 } else { 0o700 };
    let made = fs::DirBuilder::new().recursive(true).mode(mode).create(run_dir);
    made.map_err(|e| fail(format!("creating {}: {}", run_dir.display(), plain(&e))))?;
    let path = run_dir.join("autostart.lock");
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).mode(0o600).open(&path);
    let file = file.map_err(|e| fail(format!("opening {}: {}", path.display(), plain(&e))))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
        .map_err(|e| fail(format!("flock({}): {e}", path.display())))?;
    Ok(file)
}

fn fail(message: String) -> Failure {
    Failure::with_code(OWN_ERROR, message)
}

/// The first line from the daemon, or nothing if it closed the pipe in silence.
fn read_answer(pipe: File) -> Result<String, Failure> {
    let mut line = String::new();
    BufReader::new(pipe.take(4096))
        .read_line(&mut line)
        .map_err(|e| fail(format!("waiting for tared: {e}")))?;
    Ok(line.trim().to_owned())
}

fn spawn(socket: &Path, run_dir: &Path, ready: OwnedFd) -> Result<Child, Failure> {
    let me = std::env::current_exe().map_err(|e| fail(format!("reading /proc/self/exe: {e}")))?;
    // Only this descriptor is to reach the daemon; the copy here is closed when `ready` is dropped on return.
    rustix::io::fcntl_setfd(&ready, rustix::io::FdFlags::empty())
        .map_err(|e| fail(format!("starting tared: fcntl(F_SETFD): {e}")))?;
    let mut command = match manager() {
        Some(words) => {
            let mut command = Command::new("systemd-run");
            command.args(words).arg("--").arg(&me);
            command
        }
        None => Command::new(&me),
    };
    command.arg(STARTER).arg(ready.as_raw_fd().to_string()).arg(find_daemon(&me)?).arg(socket);
    // An ordinary user's daemon has that user's rights, and newuidmap may be where the user says.
    let own = std::env::var_os("PATH").filter(|_| !rustix::process::geteuid().is_root());
    command.env_clear().env("PATH", own.unwrap_or_else(|| PATH.into())).current_dir("/");
    for name in KEPT {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    let log = open_log(run_dir)?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(log));
    command
        .spawn()
        .map_err(|e| fail(format!("starting tared: {}: {e}", command.get_program().to_string_lossy())))
}

/// How systemd is asked for a scope, if it runs: a user's own manager hands over what groups the user may have.
fn manager() -> Option<&'static [&'static str]> {
    if !Path::new("/run/systemd/system").exists() {
        return None;
    }
    if rustix::process::geteuid().is_root() {
        return Some(&["--scope", "--quiet", "--collect", "--slice=system.slice"]);
    }
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)?;
    let there = runtime_dir.join("systemd/private").exists() || runtime_dir.join("bus").exists();
    there.then_some(&["--user", "--scope", "--quiet", "--collect", "--property=Delegate=yes"])
}

/// `tared` beside this binary, or where `TARE_LIBEXEC` says.
fn find_daemon(me: &Path) -> Result<PathBuf, Failure> {
    let libexec = std::env::var_os("TARE_LIBEXEC").map(PathBuf::from);
    let beside = me.parent().map(Path::to_owned);
    let places: Vec<PathBuf> = libexec.into_iter().chain(beside).map(|dir| dir.join("tared")).collect();
    places.iter().find(|p| p.is_file()).cloned().ok_or_else(|| {
        let tried: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
        fail(format!("no tared found (looked at {}); set TARE_LIBEXEC to its directory", tried.join(", ")))
    })
}

fn log_path(run_dir: &Path) -> PathBuf {
    run_dir.join("tared.log")
}

fn open_log(run_dir: &Path) -> Result<File, Failure> {
    let path = log_path(run_dir);
    let grown = fs::metadata(&path).is_ok_and(|m| m.len() > LOG_LIMIT);
    let mut options = OpenOptions::new();
    options.create(true).append(!grown).write(true).truncate(grown).mode(0o600);
    options.open(&path).map_err(|e| fail(format!("opening {}: {}", path.display(), plain(&e))))
}

/// The step between: leaves the caller's session and cgroups, then becomes the daemon. Returns only what failed.
pub(crate) fn become_daemon(args: &[String]) -> Failure {
    let [ready, daemon, socket] = args else { return fail(format!("{STARTER} is not for use by hand")) };
    let Ok(keep) = ready.parse::<i32>() else { return fail(format!("{STARTER} {ready}: not a descriptor")) };
    // What the caller's shell had open is none of the daemon's business; it would hold pipes open for ever.
    close_fds::set_fds_cloexec(3, &[keep]);
    if let Err(e) = rustix::process::setsid() {
        return fail(format!("setsid: {e}"));
    }
    let run_dir = Path::new(socket).parent().unwrap_or(Path::new("/run/tare"));
    if !Path::new("/run/systemd/system").exists() {
        leave_cgroups(&group_name(run_dir));
    }
    let mut command = Command::new(daemon);
    command.arg("--ready-fd").arg(ready);
    if socket != DEFAULT_SOCKET {
        command.arg("--socket").arg(socket).arg("--run-dir").arg(run_dir);
        if let Some(root) = std::env::var_os("TARE_ROOT") {
            command.arg("--root").arg(root);
        }
    }
    let error = command.exec();
    fail(format!("exec {daemon}: {error}"))
}

fn group_name(run_dir: &Path) -> String {
    let tail: String =
        run_dir.to_string_lossy().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("tared{tail}")
}

/// Moves this single-threaded process into a group of its own in the hierarchies that count processes as a session's
/// (name=systemd and v2), and to the root of the others where the caller had limits. Best effort: where there is no
/// such file system a daemon in its parent's group still works.
fn leave_cgroups(name: &str) {
    for Hierarchy { controllers, root, path } in hierarchies() {
        if is_session(&controllers) {
            let group = root.join(name);
            // What is left of an earlier daemon may remove the empty group between the two.
            let _ = (0..3).find(|_| {
                let _ = fs::create_dir(&group);
                enter(&group, controllers.is_empty()).is_ok()
            });
        } else if path != "/" {
            let _ = enter(&root, false);
        }
    }
}

/// Those that [`leave_cgroups`] makes.
fn groups(name: &str) -> Vec<PathBuf> {
    let all = hierarchies().into_iter().filter(|hierarchy| is_session(&hierarchy.controllers));
    all.map(|hierarchy| hierarchy.root.join(name)).collect()
}

/// A hierarchy of cgroups.
struct Hierarchy {
    controllers: String,
    root: PathBuf,
    /// Of the group that this process is in.
    path: String,
}

fn hierarchies() -> Vec<Hierarchy> {
    let read = |name| fs::read_to_string(Path::new("/proc/self").join(name)).unwrap_or_default();
    let (own, mounts) = (read("cgroup"), read("mounts"));
    let one = |line: &str| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let root = hierarchy(&mounts, controllers)?;
        Some(Hierarchy { controllers: controllers.to_owned(), root, path: path.to_owned() })
    };
    own.lines().filter_map(one).collect()
}

/// Processes are counted as a session's by it.
fn is_session(controllers: &str) -> bool {
    controllers.is_empty() || controllers.starts_with("name=")
}

/// Writing to `tasks` moves one thread, which is all of us, and does not wait for a grace period; v2 has no `tasks`.
fn enter(group: &Path, v2: bool) -> io::Result<()> {
    fs::write(group.join(if v2 { "cgroup.procs" } else { "tasks" }), "0")
}

/// Where the hierarchy with just these controllers is mounted.
fn hierarchy(mounts: &str, controllers: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (place, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
        let matches = match kind {
            "cgroup2" => controllers.is_empty(),
            "cgroup" => {
                !controllers.is_empty() && controllers.split(',').all(|c| options.split(',').any(|o| o == c))
            }
            _ => false,
        };
        matches.then(|| PathBuf::from(place))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "tmpfs /sys/fs/cgroup tmpfs ro 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
        cgroup /sys/fs/cgroup/systemd cgroup rw,xattr,name=systemd 0 0\ncgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n";

    #[test]
    fn each_hierarchy_is_found_by_its_controllers() {
        let at = |c| hierarchy(MOUNTS, c).map(|p| p.to_string_lossy().into_owned());
        assert_eq!(at("").as_deref(), Some("/sys/fs/cgroup/unified"));
        assert_eq!(at("name=systemd").as_deref(), Some("/sys/fs/cgroup/systemd"));
        assert_eq!(at("cpu,cpuacct").as_deref(), Some("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(at("memory"), None);
    }

    #[test]
    fn a_daemon_that_closes_the_pipe_in_silence_said_nothing() {
        let (read, write) = rustix::pipe::pipe().expect("a pipe");
        drop(write);
        assert_eq!(read_answer(File::from(read)), Ok(String::new()));
    }

    #[test]
    fn only_the_first_line_is_the_answer() {
        let (read, write) = rustix::pipe::pipe().expect("a pipe");
        rustix::io::write(&write, b"ready\nmore").expect("a write");
        // The pipe stays open, as that of a daemon that forgot to close it.
        assert_eq!(read_answer(File::from(read)), Ok("ready".into()));
        drop(write);
    }

    #[test]
    fn the_group_is_named_after_the_run_directory() {
        assert_eq!(group_name(Path::new("/run/tare")), "tared-run-tare");
    }
}
