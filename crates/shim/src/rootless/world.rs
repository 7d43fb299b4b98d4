//! The user namespace of an earlier daemon of the same directory, while shims of it live.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tare_model::{Error, Result};
use tare_sys::process::{Namespaces, setns};
use tare_sys::userns;

use crate::record::{NAME, Record};

/// Enters the user namespace of a living shim that has its record below `run_dir`; says whether there was one.
pub(super) fn join(run_dir: &Path) -> Result<bool> {
    let records = fs::read_dir(run_dir.join("containers")).into_iter().flatten().flatten();
    let pids = records.filter_map(|entry| Record::read(&entry.path().join(NAME)).ok().flatten());
    let Some(userns) = pids.into_iter().find_map(|record| of_shim(record.shim_pid)) else { return Ok(false) };
    setns(userns.as_fd(), Namespaces::USER).map_err(|e| {
        Error::system(format!("setns(user namespace of the running containers' monitors): {e}"))
    })?;
    Ok(true)
}

/// The user namespace of a shim of ours. Its number may be another process's by now, even one inside a container: that has
/// another parent namespace than the one this process is in.
fn of_shim(pid: i32) -> Option<OwnedFd> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let owner = fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    if name.trim_end() != "tare-shim" || owner != rustix::process::geteuid().as_raw() {
        return None;
    }
    let userns = open(&format!("/proc/{pid}/ns/user"))?;
    let (parent, own) = (userns::parent(userns.as_fd()).ok()?, open("/proc/self/ns/user")?);
    (inode(parent.as_fd())? == inode(own.as_fd())?).then_some(userns)
}

fn open(path: &str) -> Option<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

fn inode(file: BorrowedFd<'_>) -> Option<(u64, u64)> {
    rustix::fs::fstat(file).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

/// Why a user namespace cannot be made, with the switch that is in the way.
pub(super) fn refused(errno: Errno) -> Error {
    let is = |switch: &str, value: &str| {
        fs::read_to_string(format!("/proc/sys/{}", switch.replace('.', "/")))
            .is_ok_and(|text| text.trim() == value)
    };
    let hint = if is("user.max_user_namespaces", "0") {
        "sysctl user.max_user_namespaces is 0: root has to raise it"
    } else if is("kernel.unprivileged_userns_clone", "0") {
        "sysctl kernel.unprivileged_userns_clone is 0: root has to set it to 1"
    } else if is("kernel.apparmor_restrict_unprivileged_userns", "1") {
        "sysctl kernel.apparmor_restrict_unprivileged_userns is 1: root has to set it to 0, or give tare-shim an AppArmor \
         profile with the rule \"userns,\""
    } else if errno == Errno::NOSPC {
        "there are as many as sysctl user.max_user_namespaces allows"
    } else {
        "something on this machine forbids user namespaces to ordinary users (a container around it, seccomp, SELinux)"
    };
    Error::unsupported(format!("unshare(CLONE_NEWUSER|CLONE_NEWNS): {errno}: {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_no_shim_is_not_followed() {
        assert!(of_shim(std::process::id().cast_signed()).is_none());
        assert!(of_shim(0).is_none());
    }

    #[test]
    fn without_records_there_is_nothing_to_join() {
        let dir = tempfile::tempdir().expect("scratch");
        assert_eq!(join(dir.path()), Ok(false));
        fs::create_dir_all(dir.path().join("containers/x")).expect("makes");
        fs::write(dir.path().join("containers/x/record"), "nonsense").expect("writes");
        assert_eq!(join(dir.path()), Ok(false));
    }

    #[test]
    fn a_refusal_names_a_reason() {
        assert!(refused(Errno::PERM).message().contains("user namespaces"));
    }
}
