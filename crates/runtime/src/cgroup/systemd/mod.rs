//! The driver for machines on which systemd owns the tree: it makes the groups, as a transient scope, and we limit them.
//!
//! ```text
//!   anchor ── StartTransientUnit(PIDs=anchor, Delegate, properties) ──▶ JobRemoved "done"   the scope is there
//!      │        then the rest is written into the scope's groups, as without systemd
//!      │        the first process is cloned into it
//!      └── ends  (settle)                    the scope now lives by the container
//!   kill_all ── StopUnit ── ResetFailedUnit ── what is left of the groups is removed
//! ```
//!
//! systemd refuses a scope without a process, and the container's first one is to be born in the group and never moved:
//! so for the moment of the start an [`Anchor`] is in it, a process that does nothing. Limits are told to systemd as
//! far as it has words for them, since it writes its own idea of them again on `daemon-reload`; device rules likewise,
//! or it would open everything on cgroup v1.
//!
//! We speak D-Bus ourselves (`tare_sys::dbus`, `bus`): seven kinds of message over a socket, without waiting for anything else.
//! Libraries bring an asynchronous runtime (zbus) or a second layer of system calls (rustbus: nix) into a static
//! program of which one copy runs beside each container; zvariant alone is no longer kept outside of zbus.
//!
//! Read in this order: `name`, `property`, `manager`, `scope`; `bus` is below.

mod bus;
mod manager;
mod name;
mod property;
mod scope;

#[cfg(test)]
mod tests;

use tare_sys::dbus as wire;

pub use manager::{Systemd, is_of_user};
pub use name::ScopeName;
pub use scope::Anchor;
pub(super) use scope::Scope;

/// Reads bytes as a peer's message; for fuzzers.
pub(super) fn fuzz(bytes: &[u8]) {
    let _ = wire::Message::read(bytes);
    let mut reader = wire::Reader::new(bytes, false);
    let _ = (reader.string(), reader.number(), reader.variant_string());
}
