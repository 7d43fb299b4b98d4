//! Durable state: content by digest, layers and snapshots, volumes, and the one metadata database.

mod containers;
mod error;
mod layout;
mod meta;
mod rows;
mod store;

use tare_model::Result;

use crate::error::SystemContext;

pub use containers::{ContainerRecord, Containers};
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
