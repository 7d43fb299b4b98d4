//! The per-container monitor: protocol, client, supervisor loop; owns stdio, logs and exit status.
//!
//! Read in this order: [`protocol`] (what is said between daemon, nursery and shim), [`wire`] (how a message travels),
//! [`record`] (what outlives everyone), `client` (the daemon's side).

mod checksum;
#[cfg(feature = "client")]
pub mod client;
pub mod protocol;
pub mod record;
pub mod wire;
