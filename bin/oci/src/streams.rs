//! What connects a new process with the outside: its streams, and who is told of its terminal, descriptor and id.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use oci_spec::runtime::Process;
use tare_model::sandbox::{Launched, Stdio, WindowSize};
use tare_model::{Error, Result};

use crate::socket;
use crate::state::write_file;

/// What was asked for on the command line.
pub(crate) struct Asked<'a> {
    pub(crate) console_socket: Option<&'a Path>,
    pub(crate) pidfd_socket: Option<&'a Path>,
    pub(crate) pid_file: Option<&'a Path>,
    pub(crate) detached: bool,
}

/// Who is told when the process is there; connected before anything is made.
pub(crate) struct Listeners<'a> {
    console: Option<UnixStream>,
    pidfd: Option<UnixStream>,
    pid_file: Option<&'a Path>,
}

// === impl Asked ===

impl<'a> Asked<'a> {
    /// The streams of the process, and who wants to hear of it.
    pub(crate) fn open(&self, terminal: bool, process: Option<&Process>) -> Result<(Stdio, Listeners<'a>)> {
        let console = match (terminal, self.console_socket) {
            (true, Some(path)) => Some(socket::connect(path)?),
            (true, None) if self.detached => {
                let text = "cannot allocate tty if tare-oci will detach without setting console socket";
                return Err(Error::invalid(text));
            }
            (false, Some(_)) => {
                return Err(Error::invalid("cannot use console socket if tare-oci will not allocate a tty"));
            }
            (_, None) => None,
        };
        let stdio = if terminal { Stdio::Terminal { size: size(process) } } else { own()? };
        let pidfd = self.pidfd_socket.map(socket::connect).transpose()?;
        Ok((stdio, Listeners { console, pidfd, pid_file: self.pid_file }))
    }
}

fn size(process: Option<&Process>) -> WindowSize {
    let asked = process.and_then(|process| process.console_size());
    let narrow = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
    asked.map_or_else(WindowSize::default, |size| WindowSize {
        rows: narrow(size.height()),
        columns: narrow(size.width()),
    })
}

fn own() -> Result<Stdio> {
    let copy = |fd: BorrowedFd<'_>| {
        fd.try_clone_to_owned().map_err(|error| Error::system(format!("standard stream: {error}")))
    };
    Ok(Stdio::Pipes {
        stdin: copy(std::io::stdin().as_fd())?,
        stdout: copy(std::io::stdout().as_fd())?,
        stderr: copy(std::io::stderr().as_fd())?,
    })
}

// === impl Listeners ===

impl Listeners<'_> {
    /// Tells them.
    pub(crate) fn tell(&self, launched: &Launched) -> Result<()> {
        if let (Some(socket), Some(master)) = (&self.console, &launched.terminal) {
            socket::send(socket, "/dev/pts/ptmx", master)?;
        }
        if let Some(socket) = &self.pidfd {
            socket::send(socket, "pidfd", &launched.pidfd)?;
        }
        match self.pid_file {
            Some(path) => write_file(path, launched.pid.to_string().as_bytes()),
            None => Ok(()),
        }
    }
}
