//! One connection: a request goes out, a response head comes in; what follows belongs to `body` or `hijack`.

use super::error::ClientError;
use super::request::{Payload, Request};
use crate::Version;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A response head larger than this is an attack or a mistake.
const MAX_HEAD: usize = 64 << 10;
/// Headers the parser makes room for; the Engine API sends about ten.
const MAX_HEADERS: usize = 64;
/// Bytes taken from an upload's source at once.
const UPLOAD_CHUNK: usize = 256 << 10;
/// Bytes asked of the socket at once, at most.
pub(super) const READ_CHUNK: usize = 64 << 10;
/// And at first: most answers are shorter, and memory that is not touched costs nothing.
const FIRST_CHUNK: usize = 4 << 10;

/// A stream socket and the bytes that arrived beyond what was parsed.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: UnixStream,
    pub(super) early: Vec<u8>,
    chunk: usize,
}

/// The parts of a response head that the client acts on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) keep_alive: bool,
    pub(super) content_type: String,
    /// The newest version that the daemon serves, where it says so.
    pub(super) api_version: Option<Version>,
    /// Answers that have no body whatever their headers say (to HEAD, 1xx, 204, 304).
    pub(super) bodiless: bool,
}

// === impl Connection ===

impl Connection {
    pub(super) fn open(socket: &Path) -> super::Result<Self> {
        let stream = UnixStream::connect(socket).map_err(|e| ClientError::connect(socket, e))?;
        Ok(Self { stream, early: Vec::new(), chunk: FIRST_CHUNK })
    }

    /// Whether a kept connection is still quiet: anything readable on it is the daemon's goodbye.
    pub(super) fn is_fresh(&self) -> bool {
        let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
        self.early.is_empty() && matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0))
    }

    pub(super) fn write_request(&mut self, prefix: &str, request: Request<'_>) -> super::Result<()> {
        let what = request.describe();
        let mut head = request.head(prefix).into_bytes();
        match request.payload {
            Payload::Empty => self.write(&head, &what),
            Payload::Json(bytes) => {
                // One write: head and body in one packet of the daemon's first read.
                head.extend_from_slice(&bytes);
                self.write(&head, &what)
            }
            Payload::Stream(source) => {
                self.write(&head, &what)?;
                self.upload(source, &what)
            }
        }
    }

    fn write(&mut self, bytes: &[u8], what: &str) -> super::Result<()> {
        self.stream.write_all(bytes).map_err(|e| ClientError::io(what, e))
    }

    /// Sends `source` chunked. A daemon that refuses early closes its end: stop then, its answer says why.
    fn upload(&mut self, source: &mut dyn Read, what: &str) -> super::Result<()> {
        let mut buf = vec![0u8; UPLOAD_CHUNK];
        loop {
            let n = match source.read(&mut buf) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(ClientError::io(format!("{what} (reading the archive)"), e)),
            };
            let sent = if n == 0 { self.stream.write_all(b"0\r\n\r\n") } else { self.write_chunk(&buf[..n]) };
            match sent {
                Ok(()) if n == 0 => return Ok(()),
                Ok(()) => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                    return Ok(());
                }
                Err(e) => return Err(ClientError::io(what, e)),
            }
        }
    }

    fn write_chunk(&mut self, data: &[u8]) -> io::Result<()> {
        write!(self.stream, "{:x}\r\n", data.len())?;
        self.stream.write_all(data)?;
        self.stream.write_all(b"\r\n")
    }

    /// Reads one response head, passing over interim (1xx) answers other than an upgrade.
    pub(super) fn read_head(&mut self, what: &str) -> super::Result<Head> {
        let to_head = what.starts_with("HEAD ");
        loop {
            if let Some((head, used)) =
                parse_head(&self.early, to_head).map_err(|e| ClientError::protocol(what, e))?
            {
                self.early.drain(..used);
                if head.status >= 200 || head.status == 101 {
                    return Ok(head);
                }
                continue;
            }
            if self.early.len() > MAX_HEAD {
                return Err(ClientError::protocol(what, "a response head of more than 64 KiB"));
            }
            if self.fill().map_err(|e| ClientError::io(what, e))? == 0 {
                let why = io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the daemon closed the connection unanswered",
                );
                return Err(ClientError::io(what, why));
            }
        }
    }

    /// One read from the socket into `early`; 0 is the end.
    pub(super) fn fill(&mut self) -> io::Result<usize> {
        let old = self.early.len();
        self.early.resize(old + self.chunk, 0);
        let got = loop {
            match self.stream.read(&mut self.early[old..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let read = *got.as_ref().unwrap_or(&0);
        self.early.truncate(old + read);
        if read == self.chunk {
            self.chunk = (self.chunk * 4).min(READ_CHUNK);
        }
        got
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Parses a head at the start of `bytes`: the head and its length, or nothing if more bytes are needed.
fn parse_head(bytes: &[u8], to_head: bool) -> Result<Option<(Head, usize)>, String> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let used = match response.parse(bytes).map_err(|e| format!("not an HTTP response head: {e}"))? {
        httparse::Status::Complete(used) => used,
        httparse::Status::Partial => return Ok(None),
    };
    let status = response.code.unwrap_or(0);
    let mut head = Head {
        status,
        length: None,
        chunked: false,
        keep_alive: response.version == Some(1),
        content_type: String::new(),
        api_version: None,
        bodiless: to_head || status < 200 || status == 204 || status == 304,
    };
    for header in response.headers.iter() {
        head.take(header.name, &String::from_utf8_lossy(header.value))?;
    }
    Ok(Some((head, used)))
}

impl Head {
    fn take(&mut self, name: &str, value: &str) -> Result<(), String> {
        if name.eq_ignore_ascii_case("content-length") {
            let length =
                value.trim().parse().map_err(|_| format!("Content-Length {value:?} is not a number"))?;
            if self.length.is_some_and(|before| before != length) {
                return Err("two Content-Length headers that differ".to_owned());
            }
            self.length = Some(length);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.trim().eq_ignore_ascii_case("chunked") {
                return Err(format!("Transfer-Encoding {value:?} is not one this client reads"));
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case("connection") {
            if value.split(',').any(|v| v.trim().eq_ignore_ascii_case("close")) {
                self.keep_alive = false;
            }
        } else if name.eq_ignore_ascii_case("content-type") {
            value.trim().clone_into(&mut self.content_type);
        } else if name.eq_ignore_ascii_case("api-version") {
            self.api_version = value.trim().parse().ok();
        }
        Ok(())
    }
}
