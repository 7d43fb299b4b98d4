//! Mounts: prepared detached while the host's files can still be seen, attached when they no longer can.
//!
//! ```text
//!   host's mounts visible          pivot           only the container's root visible
//!   ─────────────────────────────────┼──────────────────────────────────────────────────
//!   source: fsmount / open_tree ─────┼──▶ attach: resolve destination, move_mount
//!   rootfs: overlay or directory ────┘    mask, read-only
//! ```
//!
//! So a hostile root file system can lead a destination only to places inside itself: nothing of the host is there to
//! be reached any more. Read: [`options`], [`source`], [`idmap`], [`rootfs`], [`resolve`], [`attach`], [`mask`].

pub mod options;

pub(crate) mod aside;
pub(crate) mod attach;
pub(crate) mod copy_up;
pub(crate) mod idmap;
pub(crate) mod later;
pub(crate) mod mask;
pub(crate) mod resolve;
pub(crate) mod rootfs;
pub(crate) mod source;
pub(crate) mod table;
pub(crate) mod view;
