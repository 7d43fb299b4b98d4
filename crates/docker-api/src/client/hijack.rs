//! A connection that has become a raw byte stream: attach and exec.

use super::conn::{Connection, Head};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// How the output that comes over a stream is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamFormat {
    /// A terminal's bytes, as they are.
    Raw,
    /// Frames that tell stdout from stderr.
    Multiplexed,
}

/// A two-way stream to a container's or an exec's stdio.
#[derive(Debug)]
pub struct Hijacked {
    /// The socket: what is written is stdin, what is read is output.
    pub stream: UnixStream,
    /// Output that arrived together with the answer's head; it comes before anything read from the socket.
    pub early: Vec<u8>,
    /// The layout of the output, where the daemon says so.
    pub format: Option<StreamFormat>,
}

// === impl Hijacked ===

impl Hijacked {
    pub(super) fn new(conn: Connection, head: &Head) -> Self {
        Self { stream: conn.stream, early: conn.early, format: StreamFormat::of(head) }
    }

    /// Tells the daemon that stdin has ended; output goes on.
    ///
    /// # Errors
    /// What `shutdown` said.
    pub fn close_write(&self) -> std::io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }
}

impl AsFd for Hijacked {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl StreamFormat {
    /// What `Content-Type` says; daemons since API 1.42 tell the two apart.
    pub(super) fn of(head: &Head) -> Option<Self> {
        match head.content_type.as_str() {
            "application/vnd.docker.multiplexed-stream" => Some(StreamFormat::Multiplexed),
            _ => None,
        }
    }
}
