//! The per-container monitor: protocol, client, supervisor loop; owns stdio, logs and exit status.
//!
//! Read in this order: [`protocol`] (what is said between daemon, nursery and shim), [`wire`] (how a message travels),
//! [`record`] (what outlives everyone), [`logs`] (where output is kept), `client` (the daemon's side),
//! [`supervisor`] (the monitor's loop), [`nursery`] (what monitors are forked from), [`rootless`] (the way into a user's own
//! namespace).

mod checksum;
#[cfg(feature = "client")]
pub mod client;
pub mod fuzzing;
pub mod logs;
pub mod nursery;
pub mod protocol;
pub mod record;
pub mod rootless;
pub mod supervisor;
pub mod wire;
