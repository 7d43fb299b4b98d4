//! Durable state: content by digest, layers and snapshots, volumes, and the one metadata database.

mod archive;
mod containers;
mod copy;
mod error;
mod images;
mod layout;
mod mask;
mod merged;
mod meta;
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
pub use containers::{ContainerRecord, Containers};
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
