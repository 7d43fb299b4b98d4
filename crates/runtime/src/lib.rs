//! OCI runtime core: from a specification to a running, isolated process, and everything that is done to it later.
//!
//! # Nouns
//!
//! - A [`Runtime`] knows the machine and starts containers; it implements
//!   [`tare_model::sandbox::Sandbox`].
//! - A [`Plan`](plan::Plan) is the list of typed steps for one process. Making it is pure;
//!   [`apply`](launch::apply) runs it, in the child, in one loop.
//! - A [`Container`] is the handle on a running one ([`tare_model::sandbox::Running`]).
//!
//! # Invariants
//!
//! 1. The caller has one thread. A child is made by `clone3` with its namespaces, so that it may run ordinary code.
//! 2. No path inside a container's root is resolved while the host's files can be seen: sources are prepared detached,
//!    then the root is entered and the host's tree dropped, then places are looked up, by descriptor.
//! 3. Whatever can be refused is refused by the plan, before anything is made. After a failed launch nothing is left.
//! 4. What a container sees of the runtime's own descriptors is: its three streams.
//! 5. Processes enter v1 cgroups by writing `0` themselves, v2 ones by being made there; nobody is moved.
//!
//! # What it does not do
//!
//! No logs, no attach, no restarts, no images, no network beyond a namespace with a loopback: those are other rooms'.
//!
//! # Reading order
//!
//! [`plan`], [`launch`] with [`apply`](launch::apply) and
//! [`become_program`](launch::become_program), [`channel`], [`mount`], [`container`], [`runtime`]; then
//! [`cgroup`] and [`seccomp`], which stand alone.

pub mod cgroup;
pub mod error;
pub mod foreground;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod harden;
pub mod hooks;
pub mod identity;
pub mod init;
pub mod label;
pub mod mount;
pub mod plan;
pub mod rdt;
pub mod runtime;
pub mod seccomp;

mod attributes;
mod channel;
mod device;
mod door;
mod kernel;
mod launch;
mod net_devices;
mod program;
mod terminal;

pub use error::{Error, Result};
pub use runtime::container::{self, Container};
pub use runtime::{Extra, Options, Runtime};

use tare_model::sandbox::{Stdio, WindowSize};

/// The size a terminal starts with.
fn terminal_size(stdio: &Stdio) -> WindowSize {
    match stdio {
        Stdio::Terminal { size } => *size,
        Stdio::Pipes { .. } => WindowSize::default(),
    }
}

impl From<cgroup::Error> for Error {
    fn from(error: cgroup::Error) -> Self {
        tare_model::Error::from(error).into()
    }
}
