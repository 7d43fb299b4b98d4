//! Netlink: talking to the kernel about links, addresses, routes and firewall rules in messages.
//!
//! A [`Socket`] belongs to the network namespace that it was made in, whoever holds it: with one that came from elsewhere
//! by `SCM_RIGHTS` a program configures a namespace that it never enters.
//!
//! ```text
//!   Request (header, fixed part, attributes) ──▶ Socket::call   ──▶ acknowledged, or Error with the kernel's own words
//!                                            ──▶ Socket::dump   ──▶ every object, as Parts
//!                          several of them   ──▶ Socket::batch  ──▶ all or none (nftables)
//! ```
//!
//! See [netlink(7)](https://man7.org/linux/man-pages/man7/netlink.7.html) and
//! [rtnetlink(7)](https://man7.org/linux/man-pages/man7/rtnetlink.7.html). Answers are read with every length checked:
//! a kernel is trusted, but a parser that is wrong about it must not read past the end.

mod error;
mod parse;
mod request;
mod socket;

pub mod address;
pub mod conntrack;
pub mod link;
pub mod route;
pub mod rule;
pub mod traffic;

pub use error::{Error, Result};
pub use parse::{Attributes, Message, Messages};
pub use request::Request;
pub use socket::{Protocol, Socket, namespace_of};

#[cfg(test)]
mod tests;
