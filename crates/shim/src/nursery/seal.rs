//! Executes the program again where nobody can write to it.
//!
//! Root in a container that shares the host's ids could otherwise open `/proc/PID/exe` of a monitor and, once nobody
//! executes it any more, write to the file on the host. From the copy that [`tare_sys::program`] makes, it cannot.

use std::ffi::CString;
use std::os::fd::AsFd;

use tare_model::Error;
use tare_sys::process::fexecve;
use tare_sys::program;

/// Executes the running program with `args` from such a copy. Returns only on failure.
pub(super) fn execute_again(args: &[&str]) -> Error {
    let Ok(args) = args.iter().map(|arg| CString::new(*arg)).collect::<Result<Vec<CString>, _>>() else {
        return Error::invalid(format!("nursery: an argument of {args:?} has a NUL byte"));
    };
    let why = match program::unwritable(c"/proc/self/exe") {
        Ok(copy) => format!("execveat: {}", fexecve(copy.as_fd(), &args, &[])),
        Err(error) => error.to_string(),
    };
    Error::system(format!(
        "nursery: execute a copy of this program that nobody can write to: {why}; this needs root"
    ))
}
