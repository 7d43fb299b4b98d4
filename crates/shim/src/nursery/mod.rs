//! The process that shims are forked from: small, with one thread, holding nothing but its socket.
//!
//! ```text
//!   tared ── posix_spawn ──▶ tare-shim nursery NAME            the program, writable by root like any file
//!                                  │ executes itself again from a read-only clone of its mount
//!                                  ▼
//!                            tare-nursery: own session, own cgroup, children reaped by the kernel
//!                              │ fork               │ fork                  │ its socket closes
//!                              ▼                    ▼                       ▼
//!                            tare-shim            tare-cleanup            (end)
//!                            (a supervisor)       (answers once, ends)
//! ```
//!
//! The socket is standard input: the one descriptor that can be handed over without code between fork and exec. If the
//! nursery dies, shims go on, and the daemon spawns another.

mod cgroup;
mod cleanup;
mod seal;

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags};
use tare_model::sandbox::Sandbox;
use tare_model::{Error, Result};
use tare_sys::fd::install_stdio;
use tare_sys::process::{Forked, Namespaces, fork};

use crate::protocol::{Message, NurseryCall, NurseryRequest, VERSION};
use crate::supervisor::Supervisor;
use crate::wire::{Incoming, Outgoing};
use cgroup::Cgroup;

/// Marks the second execution.
const SEALED: &str = "--sealed";

/// The name of a shim, by which others tell that it lives, and from its end on, before it looks whether its nursery does.
const SHIM: &CStr = c"tare-shim";
const ENDING_SHIM: &CStr = c"tare-shim-end";

/// Runs the program `tare-shim nursery` with the arguments after that word. Returns when it, or the shim or cleanup that
/// was forked from it, has nothing more to do. `sandbox` gets the path of the program, which `/proc/self/exe` does not
/// tell any more.
///
/// # Errors
/// What kept the nursery from starting, or a shim from running; a request that fails is answered instead.
pub fn main<S: Sandbox>(args: &[String], sandbox: impl FnOnce(PathBuf) -> Result<S>) -> Result<()> {
    match args {
        [name] => {
            let program = own_path()?;
            rustix::process::chdir("/").map_err(|e| Error::system(format!("nursery: chdir(\"/\"): {e}")))?;
            Err(seal::execute_again(&["tare-shim", "nursery", name, SEALED, &program]))
        }
        [name, sealed, program] if sealed == SEALED => {
            let cgroup = settle(name)?;
            let sandbox = sandbox(program.into())?;
            let socket = take_socket()?;
            run(socket, cgroup, &sandbox)
        }
        _ => Err(Error::invalid(
            "usage: tare-shim nursery NAME (started by tared, with its socket as standard input)",
        )),
    }
}

fn own_path() -> Result<String> {
    let path = std::fs::read_link("/proc/self/exe")
        .map_err(|e| Error::system(format!("nursery: readlink(/proc/self/exe): {e}")))?;
    path.into_os_string().into_string().map_err(|path| {
        Error::invalid(format!("nursery: the path of the program {} is not UTF-8", path.display()))
    })
}

/// Becomes independent of whoever started it.
fn settle(name: &str) -> Result<Cgroup> {
    set_name(c"tare-nursery");
    rustix::process::setsid().map_err(|e| Error::system(format!("nursery: setsid: {e}")))?;
    tare_sys::child::ignore_children()
        .map_err(|e| Error::system(format!("nursery: signal(SIGCHLD, SIG_IGN): {e}")))?;
    Cgroup::enter(name)
}

/// Takes the socket from standard input and puts `/dev/null` in its place.
fn take_socket() -> Result<OwnedFd> {
    let take = || -> std::io::Result<OwnedFd> {
        let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        install_stdio([null.as_fd(), null.as_fd(), std::io::stderr().as_fd()])?;
        Ok(socket)
    };
    take().map_err(|e| Error::system(format!("nursery: take the socket from standard input: {e}")))
}

/// What a process is after [`nurse`].
enum Role {
    /// The nursery itself; its daemon has gone.
    Done,
    /// A new shim, with its control socket.
    Shim(OwnedFd),
    /// A clean-up, with the socket to answer on.
    Cleanup(cleanup::Task, OwnedFd),
}

fn run(socket: OwnedFd, cgroup: Cgroup, sandbox: &dyn Sandbox) -> Result<()> {
    let nursery = Some(rustix::process::getpid());
    // The socket is gone from a child before anything else happens in it.
    match nurse(socket)? {
        Role::Done => {
            cgroup.leave();
            Ok(())
        }
        Role::Shim(control) => {
            become_child(SHIM)?;
            Supervisor::new(control, sandbox)?.run()?;
            set_name(ENDING_SHIM);
            if rustix::process::getppid() != nursery {
                // The nursery is gone, perhaps for ever: the last one out puts out the light.
                cgroup.leave();
            }
            Ok(())
        }
        Role::Cleanup(task, answer) => {
            become_child(c"tare-cleanup")?;
            task.run(sandbox, &answer);
            Ok(())
        }
    }
}

/// Forks for each request; returns in the nursery at its end, and in each child at once.
fn nurse(socket: OwnedFd) -> Result<Role> {
    loop {
        let mut readable = [PollFd::new(&socket, PollFlags::IN)];
        match rustix::event::poll(&mut readable, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::system(format!("nursery: poll(socket): {e}"))),
        }
        match Incoming::receive(socket.as_fd()) {
            Ok(Some(packet)) => {
                if let Some(role) = admit(packet) {
                    return Ok(role);
                }
            }
            Ok(None) => return Ok(Role::Done),
            Err(e)
                if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted) => {}
            Err(e) => return Err(Error::system(format!("nursery: recvmsg(socket): {e}"))),
        }
    }
}

/// Forks for one request; `None` in the nursery.
fn admit(mut packet: Incoming) -> Option<Role> {
    // Without a socket there is nobody to answer to.
    let control = packet.fds.pop()?;
    let request = match packet.parse::<NurseryRequest>() {
        Ok(request) if request.version == VERSION => request,
        Ok(_) | Err(_) => {
            // The greeting tells a peer of another version what this one is.
            let shim_pid = std::process::id().cast_signed();
            send(&control, &Message::Hello { version: VERSION, shim_pid });
            return None;
        }
    };
    match fork(Namespaces::NONE, None) {
        Ok(Forked::Parent { .. }) => None,
        Ok(Forked::Child) => Some(match request.call {
            NurseryCall::Shim => Role::Shim(control),
            NurseryCall::Cleanup { container, cgroups_path, remove } => {
                Role::Cleanup(cleanup::Task { container, cgroups_path, remove }, control)
            }
        }),
        Err(e) => {
            let error = Error::system(format!("nursery: clone3: {e}"));
            send(&control, &Message::Reply { id: 0, result: Err(error) });
            None
        }
    }
}

/// Becomes independent of the nursery.
fn become_child(name: &CStr) -> Result<()> {
    set_name(name);
    rustix::process::setsid().map_err(|e| Error::system(format!("setsid: {e}")))?;
    tare_sys::child::wait_for_children().map_err(|e| Error::system(format!("signal(SIGCHLD): {e}")))?;
    // Standard error is the daemon's; a shim outlives it. The others are /dev/null already.
    let null = std::io::stdin();
    install_stdio([null.as_fd(); 3]).map_err(|e| Error::system(format!("dup2(/dev/null, 0 to 2): {e}")))
}

fn set_name(name: &CStr) {
    // Where it cannot be set, those who would read it wait for longer.
    let _ = rustix::thread::set_name(name);
}

/// Says one thing to a peer that may be gone.
fn send(socket: &OwnedFd, message: &Message) {
    if let Ok(packet) = Outgoing::new(message, Vec::new()) {
        let _ = packet.send(socket.as_fd());
    }
}
