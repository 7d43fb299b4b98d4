//! The Docker Engine API as both sides of the socket see it: wire types, version table and the blocking client that
//! the command line uses. No policy and, outside [`client`], no I/O.
//!
//! - [`models`]: documents, generated from Docker's own description and kept by the Bollard project.
//! - [`version`]: which API versions are served, and how a request's is chosen.
//! - [`extension`]: what tare adds to Docker's documents (`--rootfs`).
//! - [`filters`], [`stamp`], [`media`], [`ulimit`]: the parameter, time, media-type and limit-name forms that the
//!   documents leave as strings.
//! - [`client`]: HTTP/1.1 over a unix socket, for callers that wait for one thing at a time.
//!
//! `docs/api.md` says what of the API is served.

pub mod client;
pub mod extension;
pub mod filters;
pub mod media;
pub mod stamp;
pub mod ulimit;
pub mod version;

pub use bollard_stubs::models;
pub use filters::Filters;
pub use version::Version;
