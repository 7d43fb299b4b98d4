//! Files of procfs that are written during set-up, and the session keyring.
//!
//! The procfs is one we made or hold by descriptor and is attached nowhere the container could reach it; every file is
//! opened on exactly that mount, without links (CVE-2019-16884, CVE-2025-52881).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, fstatfs};
use rustix::io::Errno;

use crate::error::{Call, Context, Error, Result};
use crate::mount::attach::PROC_MAGIC;
use crate::mount::resolve;
use crate::plan::Sysctl;

/// Writes a namespaced kernel parameter.
pub(crate) fn sysctl(proc: BorrowedFd<'_>, sysctl: &Sysctl) -> Result<()> {
    let path = format!("sys/{}", sysctl.path);
    write(proc, &path, &sysctl.value).context(|| {
        let name = sysctl.path.replace('/', ".");
        let hint = match name.as_str() {
            "net.ipv4.ping_group_range" => " (both ends must be groups of the container's user namespace)",
            _ => "",
        };
        format!("sysctl {name}{hint}")
    })
}

/// Where the parameters of this process's network are, for a time when /proc/sys is covered.
pub(crate) fn network_parameters(proc: BorrowedFd<'_>) -> Result<OwnedFd> {
    open(proc, "sys/net", OFlags::PATH | OFlags::DIRECTORY)
}

/// Writes a parameter below what [`network_parameters`] gave.
pub(crate) fn network_parameter(parameters: BorrowedFd<'_>, path: &str, value: &str) -> Result<()> {
    write(parameters, path, value).context(|| format!("sysctl net.{}", path.replace('/', ".")))
}

/// Sets how likely this process is killed for lack of memory. Lowering needs a privilege that a machine may lack; what
/// is so already needs none. Called while the host's /proc is the one to be seen.
pub(crate) fn own_oom_score(score: i32) -> Result<()> {
    oom_score_at("/proc/self/oom_score_adj", score)
}

/// The same for the process `pid`.
pub(crate) fn oom_score(pid: i32, score: i32) -> Result<()> {
    let set = oom_score_at(&format!("/proc/{pid}/oom_score_adj"), score);
    match set {
        // A quick one has executed its program and ended meanwhile; what it leaves in /proc is root's of the machine.
        Err(error) if error.errno() == Some(Errno::ACCESS) && has_ended(pid) => Ok(()),
        set => set,
    }
}

fn has_ended(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
}

fn oom_score_at(path: &str, score: i32) -> Result<()> {
    let file = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .call(|| format!("open({path:?}, O_RDWR)"))?;
    require_proc(file.as_fd())?;
    let mut text = [0_u8; 64];
    let length = rustix::io::read(&file, &mut text).call(|| format!("read({path:?})"))?;
    if String::from_utf8_lossy(&text[..length]).trim() == score.to_string() {
        return Ok(());
    }
    rustix::io::pwrite(&file, score.to_string().as_bytes(), 0)
        .call(|| format!("write({path:?}, \"{score}\")"))
        .context(|| "process.oomScoreAdj (lowering it needs CAP_SYS_RESOURCE, which the runtime may lack)")
        .map(drop)
}

/// A session keyring of its own; kernels without keyrings have nothing to hide.
pub(crate) fn new_keyring() -> Result<()> {
    match tare_sys::process::new_session_keyring() {
        Err(Errno::NOSYS) => Ok(()),
        other => other.call(|| "keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)"),
    }
}

fn write(proc: BorrowedFd<'_>, path: &str, value: &str) -> Result<()> {
    let file = open(proc, path, OFlags::WRONLY)?;
    let written =
        rustix::io::write(&file, value.as_bytes()).call(|| format!("write(proc {path}, {value:?})"))?;
    if written == value.len() {
        return Ok(());
    }
    Err(Error::invalid(format!("write(proc {path}, {value:?}): only {written} bytes were taken")))
}

fn open(proc: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd> {
    require_proc(proc)?;
    resolve::open_on_mount(proc, path, flags).call(|| format!("openat2(proc, {path:?}, RESOLVE_NO_XDEV)"))
}

/// Refuses what only looks like procfs.
pub(crate) fn require_proc(file: BorrowedFd<'_>) -> Result<()> {
    let magic = fstatfs(file).call(|| "fstatfs(proc)")?.f_type;
    if u64::try_from(magic).ok() == Some(PROC_MAGIC) {
        return Ok(());
    }
    Err(Error::forbidden(format!("what should be procfs has magic {magic:#x}")))
}
