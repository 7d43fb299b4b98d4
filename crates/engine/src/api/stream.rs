//! Streams that faces pass on: attached standard streams, log lines, events; and the detach keys.

use tokio::net::UnixStream;
use tokio::sync::{broadcast, mpsc, watch};

use super::event::Event;
use tare_model::Result;

/// The standard streams of a process, both ways over one socket.
///
/// From the container: raw bytes if `tty`, else frames of 8 bytes head (stream number, three zeros, big-endian length)
/// and payload, which is Docker's wire form, so that a face copies bytes 1:1. To the container: raw standard input;
/// shutting down the writing side is end of file.
#[derive(Debug)]
pub struct AttachStream {
    /// One end; the other is the monitor's.
    pub socket: UnixStream,
    /// The process has a terminal.
    pub tty: bool,
    /// See [`AttachStream::settled`].
    pub(crate) done: Option<watch::Receiver<bool>>,
}

/// A line a container wrote, without its newline unless it is a terminal's or unterminated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Standard error (else standard output).
    pub stderr: bool,
    /// When, nanoseconds since the epoch.
    pub time: u64,
    /// The bytes, newline included if one was written.
    pub bytes: Vec<u8>,
}

/// Log lines in order, read as fast as they are taken; memory stays bounded.
#[derive(Debug)]
pub struct LogStream {
    pub(crate) lines: mpsc::Receiver<Result<LogLine>>,
}

/// Events: those kept that are at or after `since`, then new ones as they happen.
#[derive(Debug)]
pub struct EventStream {
    pub(crate) past: std::vec::IntoIter<Event>,
    pub(crate) live: broadcast::Receiver<Event>,
}

/// Recognises the detach sequence in what a client types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetachKeys {
    sequence: Vec<u8>,
    matched: usize,
}

/// What [`DetachKeys::feed`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fed {
    /// Bytes to pass on.
    pub pass: Vec<u8>,
    /// The sequence is complete: detach now.
    pub detached: bool,
}

// === impl AttachStream ===

impl AttachStream {
    /// Resolves once the engine knows how an exec ended. A face awaits it after the socket's end of file and before it
    /// closes the client's connection, so that the client's next `exec_inspect` has the exit code. Resolves at once
    /// for a container's own streams.
    pub async fn settled(&mut self) {
        if let Some(done) = &mut self.done {
            // An error means the container is gone, and with it what could be waited for.
            let _ = done.wait_for(|done| *done).await;
        }
    }
}

// === impl LogStream ===

impl LogStream {
    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// A log file that cannot be read or is damaged; the stream ends after it.
    pub async fn next(&mut self) -> Option<Result<LogLine>> {
        self.lines.recv().await
    }
}

// === impl EventStream ===

impl EventStream {
    /// The next event. A reader that falls far behind skips what it missed.
    pub async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.past.next() {
            return Some(event);
        }
        loop {
            match self.live.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

// === impl DetachKeys ===

impl Default for DetachKeys {
    /// Docker's `ctrl-p,ctrl-q`.
    fn default() -> Self {
        Self { sequence: vec![16, 17], matched: 0 }
    }
}

impl DetachKeys {
    /// Reads Docker's form: comma-separated letters and `ctrl-X`, X a letter or one of `@[\]^_`. Empty text is the
    /// default sequence.
    ///
    /// # Errors
    /// Names the key that is none.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let sequence = text.split(',').map(key).collect::<Result<Vec<u8>>>()?;
        Ok(Self { sequence, matched: 0 })
    }

    /// Takes what the client typed and says what of it to pass on. Bytes that may begin the sequence are held back
    /// until the next call decides.
    pub fn feed(&mut self, input: &[u8]) -> Fed {
        let mut pass = Vec::with_capacity(input.len());
        for &byte in input {
            if byte != self.sequence[self.matched] && self.matched > 0 {
                pass.extend_from_slice(&self.sequence[..self.matched]);
                self.matched = 0;
            }
            if byte != self.sequence[self.matched] {
                pass.push(byte);
                continue;
            }
            self.matched += 1;
            if self.matched == self.sequence.len() {
                self.matched = 0;
                return Fed { pass, detached: true };
            }
        }
        Fed { pass, detached: false }
    }
}

fn key(text: &str) -> Result<u8> {
    let bad = || {
        tare_model::Error::invalid(format!(
            "Unknown character: '{text}' in detach keys (want a letter or ctrl-X)"
        ))
    };
    match text.strip_prefix("ctrl-").map(str::as_bytes) {
        None if text.len() == 1 && text.is_ascii() => Ok(text.as_bytes()[0]),
        Some([c @ b'a'..=b'z']) => Ok(c - b'a' + 1),
        Some([b'@']) => Ok(0),
        Some([b'[']) => Ok(27),
        Some([b'\\']) => Ok(28),
        Some([b']']) => Ok(29),
        Some([b'^']) => Ok(30),
        Some([b'_']) => Ok(31),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fed(pass: &[u8], detached: bool) -> Fed {
        Fed { pass: pass.to_vec(), detached }
    }

    #[test]
    fn the_default_sequence_detaches_even_when_typed_in_two_reads() {
        let mut keys = DetachKeys::parse("").expect("default");
        assert_eq!(keys.feed(b"ls\n\x10"), fed(b"ls\n", false));
        assert_eq!(keys.feed(b"\x11rest"), fed(b"", true));
    }

    #[test]
    fn a_broken_off_sequence_reaches_the_process() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.feed(b"\x10x"), fed(b"\x10x", false));
        assert_eq!(keys.feed(b"\x10\x10\x11"), fed(b"\x10", true));
    }

    #[test]
    fn keys_are_letters_and_control_characters() {
        let mut keys = DetachKeys::parse("ctrl-@,q").expect("valid");
        assert_eq!(keys.feed(b"\0q"), fed(b"", true));
        for bad in ["ctrl-", "ctrl-1", "ab", "a,,b", "ctrl-A", "é"] {
            assert!(DetachKeys::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn without_the_first_key_everything_passes(input in proptest::collection::vec(17u8..=255, 0..64)) {
            prop_assert_eq!(DetachKeys::default().feed(&input), fed(&input, false));
        }
    }
}
