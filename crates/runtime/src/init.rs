//! The program of `--init`: process 1 that starts the real program, passes signals on to it and reaps what is orphaned.
//!
//! ```text
//!   block signals ─▶ fork ─┬─▶ child: own process group, foreground, execve
//!                          └─▶ wait for a signal ─┬─ SIGCHLD: reap all; the child itself ended? exit with its code
//!                                 ▲                └─ another: send it to the child
//!                                 └──────────────────────────────┘
//! ```

use std::ffi::{CString, OsString};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::io::Errno;
use tare_model::ErrorKind;
use tare_model::state::Exit;
use tare_sys::process::{self, Forked, Namespaces, fork};
use tare_sys::signal;

use crate::error::{Call, Error, Result};
use crate::program;

/// What Docker answers when a container cannot be started at all.
const CANNOT_START: i32 = 125;

/// Runs `args` (an optional `--`, the program, its arguments) and gives the exit code of this process: the program's, or
/// 128 plus the signal that killed it; 126 or 127 if it cannot be executed.
pub fn main(args: impl Iterator<Item = OsString>) -> i32 {
    let args: Vec<OsString> = args.skip_while(|arg| arg == "--").collect();
    match run(args) {
        Ok(exit) => exit.code(),
        Err(error) => {
            // Standard error is all there is to speak to; if it is closed nobody listens.
            let _ = writeln!(std::io::stderr(), "docker-init: {error}");
            code(&error)
        }
    }
}

fn code(error: &Error) -> i32 {
    match error.kind() {
        ErrorKind::CommandNotFound => 127,
        ErrorKind::CommandNotExecutable => 126,
        _ => CANNOT_START,
    }
}

fn run(args: Vec<OsString>) -> Result<Exit> {
    let Some(name) = args.first().map(|name| name.to_string_lossy().into_owned()) else {
        return Err(Error::invalid("there is no program to run"));
    };
    let path = std::env::var("PATH").ok();
    let file = program::find_in(&name, path.as_deref())?;
    // Blocked before the child exists, so that none is lost.
    signal::block_all().call(|| "sigprocmask(SIG_BLOCK, all)")?;
    match fork(Namespaces::NONE, None).call(|| "clone3()")? {
        Forked::Parent { pid, .. } => serve(pid.as_raw_nonzero().get()),
        Forked::Child => {
            let error = execute(&file, args);
            let _ = writeln!(std::io::stderr(), "docker-init: {error}");
            process::exit_now(code(&error))
        }
    }
}

fn execute(file: &CString, args: Vec<OsString>) -> Error {
    // A process group of its own, in the foreground of the terminal if there is one: Ctrl-C goes to the program.
    let _ = rustix::process::setpgid(None, None);
    let _ = rustix::termios::tcsetpgrp(std::io::stdin(), rustix::process::getpgrp());
    process::default_signals();
    let c_strings =
        |list: Vec<Vec<u8>>| list.into_iter().filter_map(|s| CString::new(s).ok()).collect::<Vec<_>>();
    let args = c_strings(args.into_iter().map(OsStringExt::into_vec).collect());
    let env = std::env::vars_os().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
    let errno = process::execve(file, &args, &c_strings(env.collect()));
    program::cannot(&file.to_string_lossy(), errno, false)
}

fn serve(child: i32) -> Result<Exit> {
    loop {
        match signal::wait_any().call(|| "sigwaitinfo(all)") {
            Ok(signal::CHILD) => {
                if let Some(exit) = reap(child)? {
                    return Ok(exit);
                }
            }
            // A child that has just ended is told by the next SIGCHLD.
            Ok(other) => match signal::kill(child, other) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => return Err(errno).call(|| format!("kill({child}, {other})")),
            },
            Err(error) if error.errno() == Some(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Takes every status there is; the child's own ends the program.
fn reap(child: i32) -> Result<Option<Exit>> {
    let mut ended = None;
    while let Some((pid, exit)) = process::reap_any().call(|| "waitpid(-1, WNOHANG)")? {
        if pid == child {
            ended = Some(match exit {
                process::Ended::Code(code) => Exit::Code(code),
                process::Ended::Signal(number) => Exit::Signal(number),
            });
        }
    }
    Ok(ended)
}
