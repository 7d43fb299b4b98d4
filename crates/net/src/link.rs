//! The kernel's side of networks: bridges, links on a parent, and the interfaces of containers. By netlink only.
//!
//! ```text
//!   ensure ──▶ Fabric ── attach ──▶ interface in the container ── detach ──▶ gone
//!                 │                                  └ set_default
//!               remove
//! ```
//!
//! Two sockets take part: `host`, of the namespace that the bridges are in, and `inside`, which the container's first
//! process made in its own ([`crate::Sockets::route`]). The peer of a pair is made straight into the namespace that `inside`
//! belongs to; what it needs there is said through `inside`.
//!
//! Errors do not name the network, which whoever calls knows and says.
//!
//! A link with the name of ours that is not marked as ours is never touched: [`ensure`] refuses, [`remove`] leaves it.
//!
//! # Bridges of more than a thousand ports
//! The kernel's bridges have 1023. A network is a tree of them that grows when it has to:
//!
//! ```text
//!   root, with the gateway's addresses ─┬─ containers (the first 960)
//!                                       ├─ uplink ══ leaf 0 ── containers (1022)
//!                                       └─ uplink ══ leaf 1 ── …           (63 leaves)
//! ```
//!
//! Where containers must not reach one another, their ports are isolated, and so are the uplinks' ports on the root: frames
//! go between isolated ports nowhere in the tree, and from all of them to the root itself.

mod bridge;
mod endpoint;
pub(crate) mod mark;
mod parent;
pub(crate) mod refusal;
mod route;
mod settle;
mod sysctl;

use tare_model::error::Result;
use tare_model::network::{Driver, Network};
use tare_sys::netlink::Socket;

pub use bridge::Bridge;
pub use endpoint::{Attach, Doomed, attach, detach, sweep};
pub use mark::host_name;
pub use route::{Place, Way, destinations, indexes, lead_each, set_default};
pub use sysctl::route_localnet;

/// A network as it is in the kernel.
#[derive(Debug)]
pub enum Fabric {
    /// Bridges.
    Bridge(Bridge),
    /// A link of the host's, by its index, on which containers have links of their own.
    Parent(u32),
    /// Nothing: the host's own network, or none.
    Nothing,
}

/// Makes of a network what is missing in the kernel, and finds what is there.
///
/// # Errors
/// `Conflict` if a link that is not ours has its name; `NotFound` if the parent link is missing; `Unsupported` if the kernel
/// lacks a kind of link; `System` with the kernel's refusal.
pub fn ensure(host: &mut Socket, network: &Network) -> Result<Fabric> {
    match network.config.driver {
        Driver::Bridge => Bridge::ensure(host, network, bridge::Limits::default()).map(Fabric::Bridge),
        Driver::Macvlan | Driver::Ipvlan => parent::ensure(host, network).map(Fabric::Parent),
        Driver::Host | Driver::None => Ok(Fabric::Nothing),
    }
}

/// Takes a network out of the kernel; what is gone already is no error, and all is tried whatever fails.
///
/// Waits for the kernel, some 20 ms for each bridge: off the path of anybody who waits.
///
/// # Errors
/// `System` with each refusal of the kernel.
pub fn remove(host: &mut Socket, network: &Network) -> Result<()> {
    match network.config.driver {
        Driver::Bridge => bridge::remove(host, network),
        Driver::Macvlan | Driver::Ipvlan => parent::remove(host, network),
        Driver::Host | Driver::None => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
