//! The way in: stdin, minus the detach keys, to the container; its end is passed on as a half-closed stream.

use crate::failure::Failure;
use crate::options::keys::Detacher;
use rustix::io::Errno;
use tare_docker_api::client::Hijacked;

/// Stdin is not read while more than this waits to be sent.
const ROOM: usize = 64 << 10;

/// What stdin gave and the container has not taken yet.
pub(super) struct Input {
    open: bool,
    pending: Vec<u8>,
    /// The end of stdin is to be passed on once `pending` is out.
    close_after: bool,
    detacher: Detacher,
}

// === impl Input ===

impl Input {
    pub(super) fn new(open: bool, detach_keys: Vec<u8>) -> Self {
        Self { open, pending: Vec::new(), close_after: false, detacher: Detacher::new(detach_keys) }
    }

    pub(super) fn wants_stdin(&self) -> bool {
        self.open && self.pending.len() < ROOM
    }

    pub(super) fn has_work(&self) -> bool {
        self.close_after || !self.pending.is_empty()
    }

    /// Nobody takes input any more.
    pub(super) fn stop(&mut self) {
        self.open = false;
        self.close_after = false;
        self.pending.clear();
    }

    /// Reads stdin once; true if the detach keys were in it.
    pub(super) fn read(&mut self) -> Result<bool, Failure> {
        let mut buf = [0u8; 16 << 10];
        match rustix::io::read(std::io::stdin(), &mut buf) {
            // A terminal that went away gives EIO, a stdin that was closed from the start EBADF: both are an end.
            Ok(0) | Err(Errno::IO | Errno::BADF) => {
                self.open = false;
                self.close_after = true;
                self.detacher.finish(&mut self.pending);
                Ok(false)
            }
            Ok(n) => Ok(self.detacher.feed(&buf[..n], &mut self.pending)),
            Err(Errno::INTR | Errno::AGAIN) => Ok(false),
            Err(e) => Err(Failure::io("standard input", &e.into())),
        }
    }

    /// Sends what fits. A container that closed its stdin is no error: `head -1` does.
    pub(super) fn write(&mut self, stream: &Hijacked) {
        if !self.pending.is_empty() {
            match rustix::io::write(&stream.stream, &self.pending) {
                Ok(n) => drop(self.pending.drain(..n)),
                Err(Errno::AGAIN | Errno::INTR) => return,
                Err(_) => return self.stop(),
            }
        }
        if self.pending.is_empty() && self.close_after {
            self.close_after = false;
            let _ = stream.close_write();
        }
    }
}

#[cfg(test)]
impl Input {
    pub(super) fn push_for_test(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    pub(super) fn end_for_test(&mut self) {
        self.open = false;
        self.close_after = true;
    }
}
