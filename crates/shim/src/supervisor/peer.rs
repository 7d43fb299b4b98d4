//! An attached peer: gets output, gives input, at its own pace.
//!
//! At most one chunk is kept for a peer while its process runs: as long as something is kept, nothing more is read from
//! the process. Only at the process's end is what its pipes still hold (their capacity at most) kept in addition.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};

use super::poll::{Poller, Registration, Token};
use crate::logs::Stream;
use crate::protocol::Streams;

const FRAME_HEADER: usize = 8;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) number: u32,
    pub(super) wants: Streams,
    socket: OwnedFd,
    /// Put Docker's header before each chunk.
    framed: bool,
    kept: Vec<u8>,
    sent: usize,
    /// It has ended its input.
    pub(super) input_ended: bool,
    /// It has closed: nothing can be sent any more, though input may be left.
    deaf: bool,
    registration: Registration,
}

/// What came of reading from a peer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Bytes, now in the buffer.
    Bytes,
    /// Nothing at the moment.
    Nothing,
    /// The end of its input.
    End,
}

// === impl Peer ===

impl Peer {
    pub(super) fn new(number: u32, socket: OwnedFd, wants: Streams, framed: bool) -> Self {
        let (kept, registration) = (Vec::new(), Registration::default());
        Self { number, wants, socket, framed, kept, sent: 0, input_ended: false, deaf: false, registration }
    }

    /// Sends a chunk of output, and keeps what does not fit.
    pub(super) fn give(&mut self, stream: Stream, bytes: &[u8]) {
        let wanted = match stream {
            Stream::Stdout => self.wants.stdout,
            Stream::Stderr => self.wants.stderr,
        };
        if !wanted || self.deaf {
            return;
        }
        let header = frame_header(stream, bytes.len());
        let header = if self.framed { &header[..] } else { &[] };
        let sent = if self.is_behind() { 0 } else { self.send(&[header, bytes]) };
        let header_sent = sent.min(header.len());
        self.kept.extend_from_slice(&header[header_sent..]);
        self.kept.extend_from_slice(&bytes[sent - header_sent..]);
    }

    /// Sends what was kept.
    pub(super) fn flush(&mut self) {
        while self.is_behind() {
            let kept = std::mem::take(&mut self.kept);
            let sent = self.send(&[&kept[self.sent..]]);
            if self.deaf {
                return;
            }
            self.kept = kept;
            self.sent += sent;
            if sent == 0 {
                return;
            }
        }
        (self.kept, self.sent) = (Vec::new(), 0);
    }

    /// Whether something is kept for it.
    pub(super) fn is_behind(&self) -> bool {
        self.sent < self.kept.len()
    }

    /// Reads its input into `buffer`.
    pub(super) fn hear(&mut self, buffer: &mut Vec<u8>) -> Heard {
        buffer.clear();
        let flags = RecvFlags::DONTWAIT;
        match rustix::net::recv(&self.socket, rustix::buffer::spare_capacity(buffer), flags) {
            Ok((_, 0)) => self.end_input(),
            Ok(_) => Heard::Bytes,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Heard::Nothing,
            Err(_) => {
                self.hang_up();
                self.end_input()
            }
        }
    }

    fn end_input(&mut self) -> Heard {
        self.input_ended = true;
        Heard::End
    }

    /// It has closed its socket: what was kept for it is of no use.
    pub(super) fn hang_up(&mut self) {
        self.deaf = true;
        (self.kept, self.sent) = (Vec::new(), 0);
    }

    /// Nothing will come from it, and nothing can be sent to it.
    pub(super) fn is_gone(&self) -> bool {
        self.deaf && self.input_ended
    }

    /// Waits for what can be done: `may_speak` is whether there is room for input.
    pub(super) fn register(&mut self, poller: &Poller, owner: u32, may_speak: bool) -> io::Result<()> {
        let behind = self.is_behind();
        let listen = may_speak && !self.input_ended;
        // After the end of its input only its hanging up is news, and that needs no flag.
        let idle = self.input_ended && !self.deaf;
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN | EventFlags::RDHUP, listen);
        flags.set(EventFlags::OUT, behind);
        let wanted = (listen || behind || idle).then_some(flags);
        poller.set(&self.socket, Token::Peer(owner, self.number), &mut self.registration, wanted)
    }

    /// Closes so that the peer reads to an orderly end.
    pub(super) fn close(self) {
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
        // Unread input would make the kernel report a reset instead of the end.
        let mut scrap = [0u8; 4096];
        while rustix::net::recv(&self.socket, &mut scrap[..], RecvFlags::DONTWAIT).is_ok_and(|(_, n)| n > 0) {
        }
    }

    /// How many bytes of `parts` could be sent.
    fn send(&mut self, parts: &[&[u8]]) -> usize {
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        loop {
            match rustix::net::sendmsg(&self.socket, &slices, &mut SendAncillaryBuffer::default(), flags) {
                Ok(n) => return n,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return 0,
                Err(_) => {
                    self.hang_up();
                    return parts.iter().map(|part| part.len()).sum();
                }
            }
        }
    }
}

/// Docker's header of a chunk: stream, three zeros, length.
fn frame_header(stream: Stream, length: usize) -> [u8; FRAME_HEADER] {
    let [a, b, c, d] = (length as u32).to_be_bytes();
    [stream as u8 + 1, 0, 0, 0, a, b, c, d]
}
