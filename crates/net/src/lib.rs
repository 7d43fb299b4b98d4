//! Networks of containers: bridges, address pools, published ports, the firewall, names, shaping.
//!
//! ```text
//!   pool ── subnets of networks, addresses of containers (pure)
//!   link ── bridges, and a pair of interfaces for each container: netlink, through sockets of both namespaces
//!   firewall ── one table of ours: an element of a map for each published port; what keeps networks apart
//!   shape ── rates and shares: a tree of token buckets for each network that has any
//!   fault ── what is done to packets on purpose, for tests: delays, losses, partitions
//!   dns ── names of containers and what is beyond, asked through sockets inside of containers
//! ```
//!
//! Invariants:
//! - Nobody here enters a namespace or starts a program. What has to be done inside of a container is done through sockets
//!   that the container's own first process made there, [`Sockets`], before it became the program.
//! - Nobody else's links, addresses, routes and rules are touched.
//! - What the kernel knows can be made again from what is stored: the daemon may die at any instant, and so may our rules.

pub mod addresses;
pub mod dns;
pub mod fault;
pub mod firewall;
pub mod link;
pub mod pool;
pub mod shape;
mod span;

pub use tare_model::sandbox::NetworkSockets as Sockets;
