//! The way into a world of one's own: an ordinary user's daemon runs as root of a user namespace.
//!
//! ```text
//!   tared, as the user ── exec ──▶ tare-shim rootless … -- tared …         one process, with one thread
//!                                       │ fork: helper ─────────────┐
//!                                       │ unshare(user, mount)      │ waits
//!                                       │ ── "go" ────────────────▶ │ newuidmap, newgidmap (set-user-id root)
//!                                       │ ◀── nothing, or why not ──┘
//!                                       ▼ exec
//!                                  tared, as root of the namespace
//! ```
//!
//! Inside, 0 is the user and 1, 2, … are the ids that `/etc/subuid` and `/etc/subgid` give that user. Where shims of an
//! earlier daemon live, theirs is the namespace that is entered ([`world`]): what they made stays within reach.
//!
//! The process keeps its id over all of this, so that whoever started the daemon can wait for it and stop it.

mod groups;
mod ids;
mod tools;
mod world;

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use tare_model::{Error, IdRange, Result};
use tare_sys::process::{Forked, Namespaces, execve, exit_now, fork, unshare};
use tare_sys::userns;

pub use groups::delegated_group;

use tools::Maps;

/// Users or groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Users,
    Groups,
}

/// What was asked for on the command line.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    /// Of the daemon; records of its shims are there.
    run_dir: PathBuf,
    /// Where the daemon is expected to say how it went.
    ready_fd: Option<u32>,
    /// The daemon and its arguments.
    program: Vec<OsString>,
}

/// Whether this process is inside: root of a user namespace and not of the machine, whoever made that.
pub fn is_inside() -> bool {
    !userns::is_initial()
}

/// The users and the groups that exist inside.
///
/// # Errors
/// /proc cannot be read.
pub fn own_ids() -> Result<(Vec<IdRange>, Vec<IdRange>)> {
    let ranges = |extents: std::io::Result<Vec<userns::Extent>>, name: &str| {
        let extents = extents.map_err(|e| Error::system(format!("read(/proc/self/{name}): {e}")))?;
        Ok::<_, Error>(extents.iter().map(|e| IdRange { first: e.inside, count: e.count }).collect())
    };
    Ok((ranges(userns::own_users(), "uid_map")?, ranges(userns::own_groups(), "gid_map")?))
}

/// Runs the program `tare-shim rootless --run-dir DIR [--ready-fd N] -- PROGRAM ARGS…`. Returns only what failed.
///
/// # Errors
/// What the machine lacks, in words: tools, id ranges, user namespaces.
pub fn main(args: impl Iterator<Item = OsString>) -> Result<Infallible> {
    let request = Request::parse(args)?;
    enter(&request)
        .and_then(|()| execute(&request.program))
        .inspect_err(|error| tell(request.ready_fd, error))
}

// === impl Request ===

impl Request {
    fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Self> {
        let usage = || {
            Error::invalid(
                "usage: tare-shim rootless --run-dir DIR [--ready-fd N] -- PROGRAM ARGS (by tared)",
            )
        };
        let (mut run_dir, mut ready_fd) = (None, None);
        loop {
            let word = args.next().ok_or_else(usage)?;
            match word.to_str() {
                Some("--run-dir") => run_dir = Some(PathBuf::from(args.next().ok_or_else(usage)?)),
                Some("--ready-fd") => {
                    let number = args.next().and_then(|n| n.to_str()?.parse().ok());
                    ready_fd = Some(number.ok_or_else(usage)?);
                }
                Some("--") => break,
                _ => return Err(usage()),
            }
        }
        let program: Vec<OsString> = args.collect();
        match run_dir {
            Some(run_dir) if !program.is_empty() => Ok(Self { run_dir, ready_fd, program }),
            _ => Err(usage()),
        }
    }
}

// === impl Kind ===

impl Kind {
    /// Who gives ids.
    fn file(self) -> &'static str {
        match self {
            Self::Users => "/etc/subuid",
            Self::Groups => "/etc/subgid",
        }
    }

    /// What writes the map.
    fn tool(self) -> &'static str {
        match self {
            Self::Users => "newuidmap",
            Self::Groups => "newgidmap",
        }
    }
}

/// Becomes root of a user namespace, with mounts of its own.
fn enter(request: &Request) -> Result<()> {
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return Err(Error::invalid("tare-shim rootless is for ordinary users: root starts tared itself"));
    }
    groups::step_aside();
    let maps = Maps::find(uid.as_raw(), rustix::process::getegid().as_raw())?;
    if world::join(&request.run_dir)? {
        unshare(Namespaces::MOUNT).map_err(|e| Error::system(format!("unshare(CLONE_NEWNS): {e}")))?;
    } else {
        new_namespaces(&maps)?;
    }
    become_root()
}

/// Makes the namespaces; a helper that stays outside has the maps written.
fn new_namespaces(maps: &Maps) -> Result<()> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|e| Error::system(format!("pipe2(O_CLOEXEC): {e}")));
    let ((go_read, go_write), (said_read, said_write)) = (pipe()?, pipe()?);
    let pid = std::process::id();
    let pidfd = match fork(Namespaces::NONE, None).map_err(|e| Error::system(format!("clone3: {e}")))? {
        Forked::Parent { pidfd, .. } => pidfd,
        Forked::Child => {
            drop((go_write, said_read));
            help(maps, pid, go_read, said_write);
            exit_now(0)
        }
    };
    drop((go_read, said_write));
    let made = unshare(Namespaces::USER | Namespaces::MOUNT).map_err(world::refused);
    if made.is_ok() {
        // A helper that is gone says nothing below.
        let _ = File::from(go_write).write_all(b"x");
    } else {
        drop(go_write);
    }
    let mut said = String::new();
    let read = File::from(said_read).read_to_string(&mut said);
    let _ = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED));
    made?;
    match (read, said.as_str()) {
        (Ok(_), "done") => Ok(()),
        (Ok(_), "") => Err(Error::system("the helper that writes the id maps ended without a word")),
        (Ok(_), why) => Err(Error::system(why)),
        (Err(e), _) => Err(Error::system(format!("read(from the helper that writes the id maps): {e}"))),
    }
}

/// The helper: waits until process `pid` has its namespace, and gives that its ids.
fn help(maps: &Maps, pid: u32, go: OwnedFd, said: OwnedFd) {
    if !matches!(File::from(go).read(&mut [0]), Ok(1)) {
        return;
    }
    let said_text = match maps.write(pid) {
        Ok(()) => "done".to_owned(),
        Err(error) => error.message().to_owned(),
    };
    let _ = File::from(said).write_all(said_text.as_bytes());
}

/// Root, in no group but root's: the user's other groups are nobody inside.
fn become_root() -> Result<()> {
    use rustix::process::{Gid, Uid};
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    set_thread_groups(&[]).map_err(|e| Error::system(format!("setgroups([]): {e}")))?;
    set_thread_res_gid(gid, gid, gid).map_err(|e| Error::system(format!("setresgid(0, 0, 0): {e}")))?;
    set_thread_res_uid(uid, uid, uid).map_err(|e| Error::system(format!("setresuid(0, 0, 0): {e}")))
}

fn execute(program: &[OsString]) -> Result<Infallible> {
    let c_string = |bytes: &[u8]| {
        CString::new(bytes).map_err(|_| Error::invalid("an argument or variable contains NUL"))
    };
    let args = program.iter().map(|word| c_string(word.as_bytes())).collect::<Result<Vec<_>>>()?;
    let env = std::env::vars_os()
        .map(|(name, value)| {
            let mut pair = name.into_vec();
            pair.push(b'=');
            pair.extend_from_slice(value.as_bytes());
            c_string(&pair)
        })
        .collect::<Result<Vec<_>>>()?;
    let Some(path) = args.first() else { return Err(Error::invalid("no program to execute")) };
    let errno = execve(path, &args, &env);
    Err(Error::system(format!("execve({path:?}): {errno}")))
}

/// Whoever waits for the daemon learns why there is none.
fn tell(ready_fd: Option<u32>, error: &Error) {
    let pipe = ready_fd.map(|fd| File::options().write(true).open(format!("/proc/self/fd/{fd}")));
    if let Some(Ok(mut pipe)) = pipe {
        // If nobody listens there is nothing else to do.
        let _ = writeln!(pipe, "{}", error.to_string().replace('\n', " "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Option<Request> {
        Request::parse(words.iter().map(OsString::from)).ok()
    }

    #[test]
    fn the_daemon_follows_two_dashes() {
        let request =
            parsed(&["--run-dir", "/r", "--ready-fd", "3", "--", "tared", "--root", "/x"]).expect("valid");
        assert_eq!((request.run_dir, request.ready_fd), (PathBuf::from("/r"), Some(3)));
        assert_eq!(request.program, ["tared", "--root", "/x"]);
    }

    #[test]
    fn anything_else_is_refused() {
        for words in [
            &["--", "tared"][..],
            &["--run-dir", "/r", "--"],
            &["--run-dir", "/r", "tared"],
            &["--run-dir"],
            &["--run-dir", "/r", "--ready-fd", "x", "--", "tared"],
            &[],
        ] {
            assert_eq!(parsed(words), None, "{words:?}");
        }
    }
}
