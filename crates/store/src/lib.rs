//! Durable state: images and their layers, containers' directories, volumes, and the one metadata database.
//!
//! # Tutorial
//!
//! An engine opens one [`Store`] for its root directory; a second engine on the same root is refused. Images come in by
//! [`Store::load`] (archives of `docker save`, OCI layouts) or [`Store::import`] (the tar of a root file system):
//!
//! ```no_run
//! # fn main() -> tare_model::Result<()> {
//! # use tare_store::*;
//! let config = StoreConfig { root: "/var/lib/tare".into(), run_dir: "/run/tare".into() };
//! let store = Store::open(&config)?;
//! for damage in store.damage() {
//!     eprintln!("{damage}"); // everything else works
//! }
//! let report = store.load(&mut std::io::stdin())?;
//! println!("{}", report.images[0].image.id());
//! # Ok(()) }
//! ```
//!
//! A container is created from what its configuration names. Its directories come first, then its record; if the
//! engine dies between the two, the next [`Store::open`] clears the directories away.
//!
//! ```no_run
//! # fn create(store: &tare_store::Store, id: tare_model::ContainerId) -> tare_model::Result<()> {
//! # use tare_store::*;
//! # use tare_model::container::ImageSource;
//! let source = store.root_source(&ImageSource::Image { name: "nginx:1.27".into() })?;
//! let rootfs = store.prepare(&id, &source, Durability::Disk)?; // goes into the sandbox's spec; the monitor mounts it
//! let ids = store.containers().hold_ids(1)?; // of the host, for the container's user namespace
//! let record = ContainerRecord {
//!     id,
//!     name: "web".parse()?,
//!     body: b"{}".to_vec(),
//!     durability: Durability::Disk,
//!     ids: Some(ids.range()),
//! };
//! store.containers().put(&record)?; // on disk when it returns, or refused because the name is taken
//! # drop(rootfs); Ok(()) }
//! ```
//!
//! Removing goes the other way: the record ([`Containers::remove`]), then [`Store::discard_container`] and
//! [`Store::remove_volume`], which only rename into the trash; a worker empties it.
//!
//! # Vocabulary
//!
//! - *layer*: a directory in the form overlayfs takes, unpacked from one archive and never changed again. Its *key* is
//!   the digest of that archive, uncompressed (the *DiffID*), and its directory depends on nothing else.
//! - *image*: a configuration document, whose digest is the image's id, and the keys of its layers, lowest first.
//! - *record*: what is kept of a container or volume; its [`Durability`] says what it survives.
//!
//! # Invariants
//!
//! 1. What was acknowledged is on disk; what failed, or was under way when the engine died, is not visible.
//! 2. All bytes of images are hostile: memory is bounded, names go one component at a time from open directories, no
//!    symlink is followed, and what readers of archives disagree about is refused.
//! 3. An image is run only if every digest on the way to its files was computed here and agreed.
//! 4. Looking up never reads the disk; every method that does says so. All are synchronous and may be called from any
//!    thread: from async code, call those that block in a blocking task.
//!
//! `docs/store.md` has the formats, the commit protocol and the rules after a crash.
//!
//! # What it does not do
//!
//! It mounts nothing, runs no program, and knows no registry. Layer archives are not kept (see `docs/store.md`).
//!
//! Reading order: `layout`, `meta`, `store`; `tape`, `unpack`, `archive`, `images`; `snapshots`, `merged`, `volumes`.

mod archive;
mod containers;
mod copy;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod images;
mod layout;
mod mask;
mod merged;
mod meta;
mod networks;
mod parts;
mod pool;
mod rows;
mod snapshots;
mod store;
mod stream;
mod tape;
#[cfg(test)]
mod testing;
mod trash;
mod unpack;
mod volumes;

use tare_model::Result;

use crate::error::SystemContext;

pub use archive::{ImportOptions, LoadReport, LoadedImage};
pub use containers::{ContainerRecord, Containers, HeldIds};
pub use images::{InUse, Removed};
pub use rows::Durability;
pub use snapshots::RootSource;
pub use store::{Store, StoreConfig};
pub use volumes::{NewVolume, VolumeRecord};

/// Fills `buffer` from the kernel's random source.
pub(crate) fn random(buffer: &mut [u8]) -> Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        let rest = &mut buffer[filled..];
        filled +=
            rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()).while_(|| "getrandom")?;
    }
    Ok(())
}
