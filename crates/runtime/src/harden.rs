//! The running program out of the containers' reach.
//!
//! A process that enters a container shows, through `/proc/PID/exe`, the file that it runs. Whoever opens that for
//! writing would own the runtime (CVE-2019-5736). So the program runs from a read-only mount of itself that is attached
//! nowhere: opened through it, the file cannot be written by anybody.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags, StatVfsMountFlags, fstatvfs};
use tare_sys::mount::{Attributes, Change};

use crate::error::{Call, Context, Result};
use crate::mount::source;

/// Executes this program anew, with the same arguments and environment, from a read-only mount of itself; returns if it
/// runs from one already.
///
/// # Errors
/// The kernel's refusal.
pub fn reexecute_read_only() -> tare_model::Result<()> {
    Ok(reexecute().context(|| "execute this program from a read-only mount of itself")?)
}

fn reexecute() -> Result<()> {
    let own = rustix::fs::open("/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .call(|| "open(\"/proc/self/exe\", O_PATH)")?;
    let flags = fstatvfs(&own).call(|| "fstatvfs(/proc/self/exe)")?.f_flag;
    if flags.contains(StatVfsMountFlags::RDONLY) {
        return Ok(());
    }
    let mount = source::bind(Path::new("/proc/self/exe"), false)?;
    source::change(mount.as_fd(), Change { set: Attributes::RDONLY, ..Change::default() })?;
    let c_strings =
        |list: Vec<Vec<u8>>| list.into_iter().filter_map(|s| CString::new(s).ok()).collect::<Vec<_>>();
    let args = c_strings(std::env::args_os().map(OsStringExt::into_vec).collect());
    let env = std::env::vars_os().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
    let errno = tare_sys::process::fexecve(mount.as_fd(), &args, &c_strings(env.collect()));
    Err(errno).call(|| "execveat(own mount)")
}
