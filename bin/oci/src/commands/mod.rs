//! The commands. Each is a short story over [`state`](crate::state) and the runtime.

pub(crate) mod create;
pub(crate) mod end;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod features;
pub(crate) mod pause;
pub(crate) mod show;
pub(crate) mod update;

use std::io::Write;
use std::path::Path;

use tare_model::{Error, Result};
use tare_runtime::foreground::Signals;

use crate::log::Log;
use crate::manager::Manager;

/// What every command needs.
pub(crate) struct Context<'a> {
    /// Where states are kept.
    pub(crate) root: &'a Path,
    /// Who makes the groups of new containers.
    pub(crate) manager: Manager,
    /// Where warnings go.
    pub(crate) log: &'a Log,
}

/// Writes to standard output.
fn print(text: &str) -> Result<u8> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| Error::system(format!("write: {error}")))?;
    Ok(0)
}

fn block_signals() -> Result<Signals> {
    Signals::block().map_err(|error| Error::system(format!("signalfd: {error}")))
}
