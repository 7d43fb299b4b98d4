//! Streams put together from their parts, so that a face can be tested against an engine that is not there.

use tokio::net::UnixStream;
use tokio::sync::{broadcast, mpsc};

use super::event::Event;
use super::stream::{AttachStream, EventStream, LogLine, LogStream};
use tare_model::Result;

impl AttachStream {
    /// Streams over `socket` that are settled at once.
    pub fn new(socket: UnixStream, tty: bool) -> Self {
        Self { socket, tty, done: None }
    }
}

impl LogStream {
    /// The lines that `lines` receives.
    pub fn new(lines: mpsc::Receiver<Result<LogLine>>) -> Self {
        Self { lines }
    }
}

impl EventStream {
    /// `past`, then what `live` receives.
    pub fn new(past: Vec<Event>, live: broadcast::Receiver<Event>) -> Self {
        Self { past: past.into_iter(), live }
    }
}
