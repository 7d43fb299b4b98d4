//! Durable state: content by digest, layers and snapshots, volumes, and the one metadata database.

mod archive;
mod containers;
mod error;
mod images;
mod layout;
mod meta;
mod rows;
mod store;
mod stream;
mod tape;
mod trash;
mod unpack;

use tare_model::Result;

use crate::error::SystemContext;

pub use archive::{ImportOptions, LoadReport, LoadedImage};
pub use containers::{ContainerRecord, Containers};
pub use images::{InUse, Removed};
pub use rows::Durability;
pub use store::{Store, StoreConfig};

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
