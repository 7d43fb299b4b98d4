//! The daemon's side of the protocol (feature `client`, needs a tokio runtime).
//!
//! [`Nursery`] starts shims and cleans up after dead ones; [`Control`] is one connection to one shim, made by
//! [`Nursery::start`] or, by a daemon that came back, by [`Control::connect`]; [`Events`] is what that shim tells unasked.

mod control;
mod nursery;
mod socket;

pub use control::{Control, Events};
pub use nursery::{Network, Nursery, Ready};
