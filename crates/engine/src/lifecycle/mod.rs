//! The life of containers: one driver task each, one queue into it, one published view out of it.
//!
//! ```text
//!   face ─ verb ─▶ Engine ─ Command ─▶ queue ─▶ Driver ─ calls ─▶ monitor (tare-shim)
//!                     ▲                        │   ▲ events ──────────┘
//!                     └── Published (watch) ◀──┘   │
//!                          view, link, counts      └─ deadline of a stop
//! ```
//!
//! Only the driver changes a container; everyone else reads what it published. No lock is held while anything waits:
//! the table of containers is locked to look up a handle and for nothing else.

pub(crate) mod container;
pub(crate) mod core;
pub(crate) mod create;
pub(crate) mod driver;
mod ending;
pub(crate) mod faults;
mod finish;
pub(crate) mod handle;
mod levels;
pub(crate) mod list;
pub(crate) mod making;
pub(crate) mod networking;
mod prepare;
pub(crate) mod recover;
pub(crate) mod rules;
mod start;
pub(crate) mod table;
mod update;
