//! The running program out of the containers' reach.
//!
//! A process that enters a container shows, through `/proc/PID/exe`, the file that it runs. Whoever opens that for
//! writing would own the runtime (CVE-2019-5736). So the program runs from where nobody can write to it: see
//! [`tare_sys::program`].

use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tare_sys::dir::CallError;
use tare_sys::program;
use tare_sys::userns::is_initial;

use crate::error::{Call, Context, Result};

/// Executes this program anew, with the same arguments and environment, from a copy that cannot be written to; returns if
/// it runs from one already.
///
/// # Errors
/// The kernel's refusal.
pub fn reexecute_read_only() -> tare_model::Result<()> {
    let done = reexecute().context(|| "execute this program from where nobody can write to it");
    match done {
        Err(error) if error.errno() == Some(Errno::PERM) && is_ordinary_user() => {
            Ok(Err(error).context(|| ORDINARY)?)
        }
        done => Ok(done?),
    }
}

/// What somebody without rights over any user namespace has to do.
const ORDINARY: &str = "an ordinary user runs containers as root of a user namespace, and all commands for one container in the \
                        same (unshare --user --map-auto --map-root-user)";

fn is_ordinary_user() -> bool {
    is_initial() && !rustix::process::geteuid().is_root()
}

fn reexecute() -> Result<()> {
    let own = rustix::fs::open("/proc/self/exe", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .call(|| "open(\"/proc/self/exe\", O_RDONLY)")?;
    if of(program::is_unwritable(own.as_fd()))? {
        return Ok(());
    }
    let copy = of(program::unwritable(c"/proc/self/exe"))?;
    let c_strings =
        |list: Vec<Vec<u8>>| list.into_iter().filter_map(|s| CString::new(s).ok()).collect::<Vec<_>>();
    let args = c_strings(std::env::args_os().map(OsStringExt::into_vec).collect());
    let env = std::env::vars_os().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
    let errno = tare_sys::process::fexecve(copy.as_fd(), &args, &c_strings(env.collect()));
    Err(errno).call(|| "execveat(copy of this program)")
}

fn of<T>(answer: std::result::Result<T, CallError>) -> Result<T> {
    answer
        .map_err(|error| (error.errno(), error))
        .or_else(|(errno, error)| Err(errno).call(|| error.failed_call().to_owned()))
}
