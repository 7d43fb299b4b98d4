//! The way out: what the container wrote and our stdout and stderr have not taken yet.

use crate::failure::Failure;
use rustix::fs::{FileType, fstat};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// Reading stops while more than this waits to be written.
const ROOM: usize = 256 << 10;
/// What a pipe that polls as writable takes without blocking (PIPE_BUF, see pipe(7)).
const ATOMIC: usize = 4096;

/// Bytes for stdout and stderr.
pub(super) struct Output {
    pub(super) out: Queue,
    pub(super) err: Queue,
}

/// Bytes for one of them; taken from the front, added at the back.
pub(super) struct Queue {
    bytes: Vec<u8>,
    at: usize,
    /// The most to write after one poll: everything to a file, which never blocks.
    step: usize,
}

// === impl Output ===

impl Output {
    pub(super) fn new() -> Self {
        Self { out: Queue::new(io::stdout().as_fd()), err: Queue::new(io::stderr().as_fd()) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.out.is_empty() && self.err.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.out.len() < ROOM && self.err.len() < ROOM
    }

    /// Writes to whichever is ready.
    pub(super) fn write(&mut self, stdout: bool, stderr: bool) -> Result<(), Failure> {
        if stdout {
            self.out.write(io::stdout().as_fd()).map_err(|e| Failure::io("standard output", &e))?;
        }
        if stderr {
            self.err.write(io::stderr().as_fd()).map_err(|e| Failure::io("standard error", &e))?;
        }
        Ok(())
    }
}

// === impl Queue ===

impl Queue {
    pub(super) fn new(fd: BorrowedFd<'_>) -> Self {
        let file = fstat(fd).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile);
        Self { bytes: Vec::new(), at: 0, step: if file { usize::MAX } else { ATOMIC } }
    }

    pub(super) fn extend_from_slice(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// One write, as large as cannot block.
    pub(super) fn write(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let end = self.at + self.len().min(self.step);
        match rustix::io::write(fd, &self.bytes[self.at..end]) {
            Ok(n) => self.at += n,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(e) => return Err(e.into()),
        }
        if self.at == self.bytes.len() {
            self.bytes.clear();
            self.at = 0;
        }
        Ok(())
    }
}
