//! nftables by netlink: tables, chains, sets, rules and elements, written as typed values.
//!
//! Everything is a [`Change`]; a list of them takes effect together or not at all ([`apply`]). One change of an element
//! costs the same however many there are.
//!
//! ```text
//!   Change ─▶ Request (subsystem, family, attributes) ─▶ netlink::Socket::batch ─▶ kernel's verdict
//!   Rule   =  expressions over registers: load (meta, payload, ct, fib) ─▶ compare, look up ─▶ verdict, nat
//! ```
//!
//! See [nft(8)](https://man7.org/linux/man-pages/man8/nft.8.html). Numbers are in network byte order here, as everywhere
//! in nf_tables.

mod change;
mod expression;
mod list;

pub use change::{
    Chain, Change, Element, Family, Field, Forgets, Hook, MapData, Part, Set, SetFlags, TableFlags, apply,
    apply_all,
};
pub use expression::{CtKey, Data, Expression, FibResult, Meta, NatKind, Payload, Register, Verdict};
pub use list::{Monitor, News, dropping_chains, elements, hooked, rules, tables};

#[cfg(test)]
mod tests;
