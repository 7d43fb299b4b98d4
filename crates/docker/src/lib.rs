//! The Docker Engine HTTP API, served over a unix socket.
//!
//! A face: it translates and nothing else. What a container may do when, and what is true about it, is the engine's.
//!
//! ```text
//! socket ─▶ server ─▶ http::Router ─▶ handlers ─▶ backend (the engine)
//!             │           (routes)       │  create: request ─▶ ContainerConfig
//!             └─ relay: hijacked bytes   └─ show:   views ─▶ Docker's documents
//! ```
//!
//! Read `routes` first (the whole surface on one page), then `create/fields.rs` (what of a create request is honoured),
//! then whatever handler you came for.
//!
//! Invariants:
//! - An error becomes a status in `error` and nowhere else.
//! - A field that asks for something this version does not do is refused by its name, never dropped.
//! - What changes something runs to its end even when its client is gone; what only reads ends with its client.
//! - Memory is bounded per connection: bodies that are kept are limited, streams are passed on piece by piece.
//!
//! Not here: authentication (the socket's permissions are the door), TLS, TCP.

mod backend;
mod changes;
mod create;
mod error;
mod handlers;
mod http;
mod network;
mod relay;
mod routes;
mod server;
mod show;
mod spelling;

pub use backend::{Backend, Containers, Execs, Images, Networks, Streams, System};
pub use server::{Limits, serve};

#[cfg(test)]
mod tests;
