//! User namespaces as the parent sees them: their ids written and read, and ones made for a mapping alone.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use tare_model::ErrorKind;
use tare_sys::mount::can_map_ids;
use tare_sys::process::{Forked, Namespaces, exit_now, fork, join, setns, unshare};

use crate::channel::{self, Report};
use crate::error::{Call, Context, Error, Result};
use crate::plan::{IdMaps, Plan};

use super::become_program::become_root;

/// Refuses a container with a user namespace of its own where nobody can make its mounts.
pub(crate) fn require_mapping(plan: &Plan) -> Result<()> {
    if !plan.namespaces.has_own(Namespaces::USER) || can_map_ids() {
        return Ok(());
    }
    let text = "a user namespace takes mounts with mapped ids: open_tree(2) and mount_setattr(2) (Linux 5.12), which this \
                kernel, or the filter of an outer container, does not offer; --userns=host does without";
    Err(Error::unsupported(text))
}

/// Gives the user namespace that process `pid` was made in its ids.
pub(crate) fn write_ids(pid: i32, ids: &IdMaps) -> Result<()> {
    let (uids, gids) = ids.texts();
    for (name, text) in [("uid_map", uids), ("gid_map", gids)] {
        let path = format!("/proc/{pid}/{name}");
        let file = rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .call(|| format!("open({path:?}, O_WRONLY)"))?;
        rustix::io::write(&file, text.as_bytes()).call(|| format!("write({path:?}, {text:?})"))?;
    }
    Ok(())
}

/// The ids of the user namespace that process `pid` is in.
pub(crate) fn ids_of(pid: i32) -> Result<IdMaps> {
    let read = |name: &str| {
        let path = format!("/proc/{pid}/{name}");
        std::fs::read_to_string(&path)
            .map_err(|e| Error::new(ErrorKind::System, format!("read({path:?}): {e}")))
    };
    IdMaps::from_kernel(&read("uid_map")?, &read("gid_map")?)
}

/// The user namespace of process `pid`.
pub(crate) fn open(pid: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/user");
    rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .call(|| format!("open({path:?})"))
}

/// A user namespace with these ids that nobody lives in.
pub(crate) fn empty(ids: &IdMaps) -> Result<OwnedFd> {
    with_guest(Namespaces::USER, None, |pid| {
        write_ids(pid, ids)?;
        open(pid)
    })
    .context(|| "a user namespace for the mount's ids")
}

/// The ids of a user namespace that was opened: only those who are in it show them.
pub(crate) fn ids_of_file(userns: BorrowedFd<'_>) -> Result<IdMaps> {
    with_guest(Namespaces::NONE, Some(userns), ids_of).context(|| "the ids of the joined user namespace")
}

/// Locks every mount of this process's mount namespace: none can be taken off, nor lose `ro`, `nosuid`, `nodev` or
/// `noexec`, by whoever has all capabilities in this user namespace.
///
/// The kernel locks what is copied between mount namespaces whose user namespaces differ. So the mounts are copied for a
/// guest in a user namespace of its own, and back: the copy that stays belongs to this user namespace again. The guest is
/// the parent's ([`copy_mounts`]): this process may be the last that the container's limit of processes allows.
pub(crate) fn lock_mounts(report: &Report) -> Result<()> {
    let lock = || {
        let copy = report.copied_mounts()?;
        setns(copy.as_fd(), Namespaces::MOUNT).call(|| "setns(copied mounts, CLONE_NEWNS)")?;
        unshare(Namespaces::MOUNT).call(|| "unshare(CLONE_NEWNS)")
    };
    lock().context(|| "lock the mounts")
}

/// A copy of a process's mount namespace that belongs to a user namespace below that process's. Its maker must send it: it
/// is out of reach like the process that it is a copy of.
pub(crate) fn copy_mounts(of: BorrowedFd<'_>) -> Result<OwnedFd> {
    let (ours, theirs) = channel::pair()?;
    let pidfd = match fork(Namespaces::NONE, None).call(|| "clone3()")? {
        Forked::Parent { pidfd, .. } => pidfd,
        Forked::Child => {
            drop(ours);
            let _ = send_copy(of, &theirs).map_err(|error| theirs.failed(error));
            exit_now(0)
        }
    };
    drop(theirs);
    let copy = ours.copy();
    super::reap(&pidfd.as_fd());
    copy
}

fn send_copy(of: BorrowedFd<'_>, to: &Report) -> Result<()> {
    // While the host's /proc is still there.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let own = rustix::fs::open("/proc/self/ns", flags, Mode::empty()).call(|| "open(\"/proc/self/ns\")")?;
    join(of, Namespaces::USER | Namespaces::MOUNT).call(|| "setns(pidfd, CLONE_NEWUSER | CLONE_NEWNS)")?;
    // A user namespace is made by somebody whose ids are in the one above, and belongs to that user.
    become_root(true)?;
    let new = Namespaces::USER | Namespaces::MOUNT;
    unshare(new).call(|| "unshare(CLONE_NEWUSER | CLONE_NEWNS)")?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let copy = rustix::fs::openat(&own, "mnt", flags, Mode::empty())
        .call(|| "openat(\"/proc/self/ns\", \"mnt\")")?;
    to.copy(copy.as_fd())
}

/// Runs `act` on a process that was made in `new`, has joined `joined`, and does nothing.
fn with_guest<T>(
    new: Namespaces,
    joined: Option<BorrowedFd<'_>>,
    act: impl FnOnce(i32) -> Result<T>,
) -> Result<T> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).call(|| "pipe2(O_CLOEXEC)");
    let ((here_read, here_write), (go_read, go_write)) = (pipe()?, pipe()?);
    let (pid, pidfd) = match fork(new, None).call(|| format!("clone3({new:?})"))? {
        Forked::Parent { pid, pidfd } => (pid.as_raw_nonzero().get(), pidfd),
        Forked::Child => {
            drop((here_read, go_write));
            let joined = joined.is_none_or(|joined| setns(joined, Namespaces::USER).is_ok());
            if joined && File::from(here_write).write_all(b"x").is_ok() {
                let _ = File::from(go_read).read(&mut [0]);
            }
            exit_now(0)
        }
    };
    drop((here_write, go_read));
    let here = File::from(here_read).read(&mut [0]).is_ok_and(|count| count == 1);
    let done = if here {
        act(pid)
    } else {
        Err(Error::new(ErrorKind::System, "setns(user namespace) failed in a process made for it"))
    };
    drop(go_write);
    super::reap(&pidfd.as_fd());
    done
}
