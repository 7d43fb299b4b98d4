//! Where a container's output is kept, and how it is read again.
//!
//! The shim holds a [`Writer`], which takes chunks as they come and never fails: what a full disk refuses is counted, and
//! the container goes on. The daemon opens a [`Reader`] on the same directory, at the same time if it likes; it yields
//! lines. Both agree on the format by [`tare_model::container::LogDriver`]:
//!
//! - `local`: frames of whole chunks (`frame.rs` has the format), split into lines only when read;
//! - `json-file`: Docker's JSON lines;
//! - `none`: nothing.
//!
//! Files are numbered and never renamed (`files.rs`), bounded by size and number unless `max_size` is 0. Whatever is in
//! them, a reader neither fails nor waits nor takes more than a few hundred kilobytes of memory: what is damaged is skipped.

mod append;
mod cursor;
mod files;
mod frame;
mod json;
mod local;
mod reader;
mod stamp;
mod tail;
mod window;

use tare_model::container::LogDriver;
use tare_model::{Error, Result};

pub use reader::{Entry, Options, Reader};

use crate::protocol::LogSettings;
use append::Appender;

/// Lines longer than this are given, and in JSON lines also kept, in parts.
pub const LINE_MAX: usize = 16 * 1024;

/// A standard stream of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output, or a terminal.
    Stdout = 0,
    /// Standard error.
    Stderr = 1,
}

/// Keeps the output of one run of a container.
#[derive(Debug)]
pub struct Writer {
    sink: Sink,
    dropped: u64,
}

#[derive(Debug)]
enum Sink {
    Local(local::Local),
    JsonFile(json::JsonFile),
    None,
}

// === impl Stream ===

impl Stream {
    /// `stdout` or `stderr`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

// === impl Writer ===

impl Writer {
    /// Opens the log for a run that begins at `time`, behind what earlier runs left.
    ///
    /// # Errors
    /// The directory cannot be opened, or the last file of the log for reading and writing. Where there is none, that of the
    /// driver `local` is made at the first write: if that cannot be, the bytes count as dropped.
    pub fn open(settings: &LogSettings, time: u64) -> Result<Self> {
        let open = |prefix, whole: append::IsWhole| {
            let late = prefix == local::PREFIX;
            Appender::open(&settings.directory, prefix, &settings.config, whole, late)
                .map_err(|e| Error::system(format!("open the log in {}: {e}", settings.directory.display())))
        };
        let sink = match settings.config.driver {
            LogDriver::Local => Sink::Local(local::Local::new(open(local::PREFIX, local::is_whole)?, time)),
            LogDriver::JsonFile => Sink::JsonFile(json::JsonFile::new(open(json::PREFIX, json::is_whole)?)),
            LogDriver::None => Sink::None,
        };
        Ok(Self { sink, dropped: 0 })
    }

    /// Keeps `bytes`, which were read from `stream` at `time`.
    pub fn append(&mut self, stream: Stream, time: u64, bytes: &[u8]) {
        self.dropped += match &mut self.sink {
            Sink::Local(local) => local.append(stream, time, bytes),
            Sink::JsonFile(json) => json.append(stream, time, bytes),
            Sink::None => 0,
        };
    }

    /// Keeps what was held back for the end of its line; the process has ended.
    pub fn finish(&mut self) {
        if let Sink::JsonFile(json) = &mut self.sink {
            self.dropped += json.finish();
        }
    }

    /// How many bytes could not be kept so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests;
