//! Packets: one JSON message with its descriptors, over a `SOCK_SEQPACKET` socket.
//!
//! A packet begins with `{` and is the message itself, or is the single byte `M` and its first descriptor is a memfd that
//! holds the message (it was longer than [`INLINE_MAX`]). Nothing here waits: sockets are non-blocking, and a full one is
//! `WouldBlock`, with the packet still in the caller's hands.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tare_model::{Error, ErrorKind, Result};

/// The longest message that travels in the packet itself.
pub const INLINE_MAX: usize = 60 * 1024;
/// The longest message at all.
pub const MESSAGE_MAX: usize = 16 * 1024 * 1024;
/// The most descriptors of one message (the kernel's limit is 253; one is kept for the memfd).
pub const FDS_MAX: usize = 64;

const SPILLED: &[u8] = b"M";

/// A message ready to be sent.
#[derive(Debug)]
pub struct Outgoing {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

/// A message that was received.
#[derive(Debug)]
pub struct Incoming {
    bytes: Vec<u8>,
    /// Descriptors, in the sender's order.
    pub fds: Vec<OwnedFd>,
}

/// A pair of connected, non-blocking sockets.
///
/// # Errors
/// The kernel's refusal (descriptors used up).
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(|e| Error::system(format!("socketpair(AF_UNIX, SOCK_SEQPACKET): {e}")))
}

/// A path for a socket called `name` in the open directory `dir`: as short as a socket's address must be.
pub fn path_below(dir: &OwnedFd, name: &OsStr) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name)
}

// === impl Outgoing ===

impl Outgoing {
    /// Encodes `message`, which `fds` ride along with.
    ///
    /// # Errors
    /// `InvalidInput` when it exceeds [`MESSAGE_MAX`] or [`FDS_MAX`], `System` when no memfd could be made.
    pub fn new<T: Serialize>(message: &T, mut fds: Vec<OwnedFd>) -> Result<Self> {
        let bytes = serde_json::to_vec(message).map_err(|e| Error::invalid(format!("shim message: {e}")))?;
        if bytes.len() > MESSAGE_MAX || fds.len() > FDS_MAX {
            return Err(Error::invalid(format!(
                "shim message of {} bytes and {} descriptors: the most are {MESSAGE_MAX} and {FDS_MAX}",
                bytes.len(),
                fds.len()
            )));
        }
        if bytes.len() <= INLINE_MAX {
            return Ok(Self { bytes, fds });
        }
        fds.insert(0, spill(&bytes)?);
        Ok(Self { bytes: SPILLED.to_vec(), fds })
    }

    /// Sends it.
    ///
    /// # Errors
    /// `WouldBlock` when the socket is full; `BrokenPipe` or `ConnectionReset` when nobody is at the other end.
    pub fn send(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let fds: Vec<BorrowedFd<'_>> = self.fds.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX + 1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        rustix::net::sendmsg(socket, &[IoSlice::new(&self.bytes)], &mut control, flags)?;
        Ok(())
    }
}

// === impl Incoming ===

impl Incoming {
    /// Receives one message; `None` when the peer has closed.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; `InvalidData` when it is longer or has more descriptors than allowed.
    pub fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        // The length first, so that the buffer is as large as the message and no larger.
        let flags = RecvFlags::PEEK | RecvFlags::TRUNC | RecvFlags::DONTWAIT;
        let peek = || rustix::net::recv(socket, &mut [0u8; 1][..], flags);
        // A peer that closed without having read everything is reported as a reset, once, before what it sent.
        let (_, length) = match peek() {
            Err(rustix::io::Errno::CONNRESET) => peek()?,
            result => result?,
        };
        if length > INLINE_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("packet of {length} bytes")));
        }
        let mut bytes = vec![0; length];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX + 1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let got = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)?;
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        if got.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "more descriptors than allowed, or no room for them",
            ));
        }
        bytes.truncate(got.bytes);
        if bytes.is_empty() {
            return Ok(None);
        }
        if bytes == SPILLED {
            bytes = unspill(&mut fds)?;
        }
        Ok(Some(Self { bytes, fds }))
    }

    /// Decodes the message.
    ///
    /// # Errors
    /// `InvalidInput`, with the place in the text.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.bytes).map_err(|e| {
            Error::new(ErrorKind::InvalidInput, format!("shim message of {} bytes: {e}", self.bytes.len()))
        })
    }
}

// === impl spilling ===

fn spill(bytes: &[u8]) -> Result<OwnedFd> {
    let make = || -> io::Result<OwnedFd> {
        let fd = rustix::fs::memfd_create("tare-message", rustix::fs::MemfdFlags::CLOEXEC)?;
        let mut file = File::from(fd);
        file.write_all(bytes)?;
        Ok(file.into())
    };
    make().map_err(|e| {
        Error::system(format!("memfd_create(\"tare-message\") for a message of {} bytes: {e}", bytes.len()))
    })
}

fn unspill(fds: &mut Vec<OwnedFd>) -> io::Result<Vec<u8>> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    if fds.is_empty() {
        return Err(bad("a long message came without its memfd"));
    }
    let file = File::from(fds.remove(0));
    let length = file.metadata()?.len();
    let length =
        usize::try_from(length).ok().filter(|n| *n <= MESSAGE_MAX).ok_or_else(|| bad("message too long"))?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use proptest::prelude::*;

    use super::*;

    fn round_trip(text: &str) -> String {
        let (a, b) = pair().expect("pair");
        Outgoing::new(&text, vec![]).expect("encodes").send(a.as_fd()).expect("sends");
        Incoming::receive(b.as_fd()).expect("receives").expect("a message").parse().expect("parses")
    }

    #[test]
    fn long_messages_travel_in_a_memfd() {
        for n in [0, 1, INLINE_MAX - 2, INLINE_MAX - 1, INLINE_MAX, 3_000_000] {
            let text = "x".repeat(n);
            assert!(round_trip(&text) == text, "{n} characters");
        }
    }

    #[test]
    fn a_message_beyond_the_limit_is_refused_by_the_sender() {
        let e = Outgoing::new(&"x".repeat(MESSAGE_MAX), vec![]).expect_err("too long");
        assert_eq!(e.kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn descriptors_keep_their_order_even_beside_a_memfd() {
        let (a, b) = pair().expect("pair");
        for text in ["short".to_owned(), "x".repeat(INLINE_MAX * 2)] {
            let fds = ["one", "two", "three"].map(|t| spill(t.as_bytes()).expect("memfd"));
            Outgoing::new(&text, fds.into()).expect("encodes").send(a.as_fd()).expect("sends");
            let got = Incoming::receive(b.as_fd()).expect("receives").expect("a message");
            let contents: Vec<String> = got.fds.into_iter().map(content).collect();
            assert_eq!(contents, ["one", "two", "three"]);
        }
    }

    #[test]
    fn an_empty_socket_would_block_and_a_closed_one_is_the_end() {
        let (a, b) = pair().expect("pair");
        assert_eq!(
            Incoming::receive(b.as_fd()).expect_err("nothing there").kind(),
            io::ErrorKind::WouldBlock
        );
        drop(a);
        assert!(Incoming::receive(b.as_fd()).expect("the end is no error").is_none());
        let left = Outgoing::new(&1, vec![]).expect("encodes").send(b.as_fd()).expect_err("nobody there");
        assert_eq!(left.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn what_a_peer_sent_before_it_left_is_received_even_if_it_left_something_unread() {
        let (a, b) = pair().expect("pair");
        Outgoing::new(&"unread", vec![]).expect("encodes").send(b.as_fd()).expect("sends");
        Outgoing::new(&"last words", vec![]).expect("encodes").send(a.as_fd()).expect("sends");
        drop(a);
        let words: String =
            Incoming::receive(b.as_fd()).expect("receives").expect("a message").parse().expect("parses");
        assert_eq!(words, "last words");
        assert!(Incoming::receive(b.as_fd()).expect("the end is no error").is_none());
    }

    #[test]
    fn a_full_socket_would_block_and_loses_nothing() {
        let (a, b) = pair().expect("pair");
        let message = Outgoing::new(&"y".repeat(10_000), vec![]).expect("encodes");
        let mut sent = 0;
        while message.send(a.as_fd()).is_ok() {
            sent += 1;
        }
        for _ in 0..sent {
            assert!(Incoming::receive(b.as_fd()).expect("receives").is_some());
        }
        message.send(a.as_fd()).expect("room again");
    }

    #[test]
    fn a_long_message_without_its_memfd_is_refused() {
        let (a, b) = pair().expect("pair");
        rustix::net::send(&a, SPILLED, SendFlags::NOSIGNAL).expect("sends");
        assert_eq!(Incoming::receive(b.as_fd()).expect_err("refused").kind(), io::ErrorKind::InvalidData);
    }

    proptest! {
        #[test]
        fn any_text_arrives_as_it_was_sent(text in ".{0,300}") {
            prop_assert_eq!(round_trip(&text), text);
        }
    }

    fn content(fd: OwnedFd) -> String {
        let mut file = File::from(fd);
        file.rewind().expect("seekable");
        let mut text = String::new();
        file.read_to_string(&mut text).expect("readable");
        text
    }
}
