//! Freezing and thawing.

use tare_model::sandbox::Running;
use tare_model::{Error, Result};

use super::Context;
use crate::state::{Directory, Status};

pub(crate) fn pause(context: &Context<'_>, id: &str) -> Result<u8> {
    let directory = Directory::of(context.root, id)?;
    let state = directory.read()?;
    match state.status(&directory)? {
        Status::Running | Status::Created => state.open()?.pause().map(|()| 0),
        other => Err(Error::conflict(format!("cannot pause a container that is {}", other.as_str()))),
    }
}

pub(crate) fn resume(context: &Context<'_>, id: &str) -> Result<u8> {
    let directory = Directory::of(context.root, id)?;
    let state = directory.read()?;
    match state.status(&directory)? {
        Status::Paused => state.open()?.resume().map(|()| 0),
        other => Err(Error::conflict(format!("cannot resume a container that is {}", other.as_str()))),
    }
}
