//! The per-container monitor: protocol, client, supervisor loop; owns stdio, logs and exit status.
//!
//! Read in this order: [`protocol`] (what is said between daemon, nursery and shim), [`wire`] (how a message travels),
//! `client` (the daemon's side).

#[cfg(feature = "client")]
pub mod client;
pub mod protocol;
pub mod wire;
