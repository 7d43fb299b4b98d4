//! Blocking HTTP/1.1 client over a unix socket, as small as the Engine API needs and exact about framing.
//!
//! The command line waits for one answer at a time, so there is no runtime here: a [`Client`] is a socket path and
//! a few kept connections. Read the files in this order:
//!
//! - `request`: what is asked: method, path, query, body.
//! - `conn`: one connection: writes a request, reads a response head.
//! - `chunked`: the chunked coding, a state machine without I/O.
//! - `body`: a response body of any framing as `Read`; gives the connection back when it ends cleanly.
//! - `hijack`: a connection that has become a raw byte stream (attach, exec).
//! - `stdcopy`: the frames inside it, stdout and stderr told apart, a state machine without I/O.
//! - `error`: what can go wrong, with the words Docker's users know.
//!
//! A kept connection is looked at before it is used again, so a request is sent at most once. Only one that was refused for its
//! API version, which a daemon does before all else, is sent a second time ([`Client::assume_version`]).

mod body;
mod chunked;
mod conn;
mod error;
mod hijack;
mod request;
mod stdcopy;

pub use body::{Body, Progress};
pub use chunked::ChunkDecoder;
pub use error::{ClientError, ErrorKind};
pub use hijack::{Hijacked, StreamFormat};
pub use request::{Method, Request, percent_encode};
pub use stdcopy::{Frames, Stream};

use crate::Version;
use conn::{Connection, Head};
use serde::de::DeserializeOwned;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// API version that requests carry when nobody asks for another.
pub const DEFAULT_VERSION: &str = "1.51";

/// Result of a call to the daemon.
pub type Result<T> = std::result::Result<T, ClientError>;

/// A daemon's socket and the connections kept to it.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    prefix: String,
    /// The version was assumed, and nobody has said yet that the daemon has it.
    assumed: bool,
    idle: Vec<Connection>,
}

/// A request that has been written and whose answer has not been read yet.
///
/// Several may be under way at once, each on a connection of its own; that is how `run` overlaps attach and wait.
#[derive(Debug)]
pub struct Pending {
    conn: Connection,
    what: String,
}

/// Status and headers of an answer, its body still to be read.
#[derive(Debug)]
pub struct Response {
    head: Head,
    body: Body,
}

// === impl Client ===

impl Client {
    /// A client of the daemon behind `socket` that speaks API `version` (such as `1.51`). Connects when first used.
    pub fn new(socket: impl Into<PathBuf>, version: &str) -> Self {
        Self { socket: socket.into(), prefix: format!("/v{version}"), assumed: false, idle: Vec::new() }
    }

    /// The daemon's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Takes it that the daemon has our version. One that refuses a request for it is asked after all, once.
    pub fn assume_version(&mut self) {
        self.assumed = true;
    }

    /// Makes sure that somebody listens: opens a connection and keeps it for the first request.
    pub fn probe(&mut self) -> Result<()> {
        if self.idle.is_empty() {
            let conn = Connection::open(&self.socket)?;
            self.idle.push(conn);
        }
        Ok(())
    }

    /// Asks the daemon which versions it serves and speaks its newest if that is older than ours. One that does not say is
    /// spoken to as if it knew ours.
    ///
    /// # Errors
    /// Nobody listens, or what answers is no daemon.
    pub fn negotiate(&mut self) -> Result<()> {
        let mut conn = self.take_connection()?;
        let ping = Request::get("/_ping");
        let what = ping.describe();
        conn.write_request("", ping)?;
        let mut answer = Pending { conn, what }.response()?;
        answer.read_body()?;
        let ours = self.prefix.trim_start_matches("/v").parse::<Version>();
        if let (Ok(ours), Some(theirs)) = (ours, answer.head.api_version)
            && theirs < ours
        {
            self.prefix = format!("/v{theirs}");
        }
        self.reclaim(answer);
        Ok(())
    }

    /// Writes `request` whole and returns without waiting for the answer.
    pub fn begin(&mut self, request: Request<'_>) -> Result<Pending> {
        let mut conn = self.take_connection()?;
        let what = request.describe();
        conn.write_request(&self.prefix, request)?;
        Ok(Pending { conn, what })
    }

    /// Sends `request` and reads the head of the answer; an error status becomes an error here.
    pub fn send(&mut self, request: Request<'_>) -> Result<Response> {
        let again = self.if_refused(&request);
        match self.begin(request)?.response() {
            Err(e) if e.is_for_version() => self.ask_again(e, again),
            answer => answer,
        }
    }

    /// What is sent when `request` was refused for its version.
    fn if_refused(&mut self, request: &Request<'_>) -> Option<Request<'static>> {
        std::mem::take(&mut self.assumed).then(|| request.again()).flatten()
    }

    fn ask_again(&mut self, refusal: ClientError, again: Option<Request<'_>>) -> Result<Response> {
        let Some(again) = again else { return Err(refusal) };
        self.negotiate()?;
        self.begin(again)?.response()
    }

    /// Sends `request` and decodes the JSON answer; the connection is kept.
    pub fn json<T: DeserializeOwned>(&mut self, request: Request<'_>) -> Result<T> {
        let what = request.describe();
        let bytes = self.bytes(request)?;
        serde_json::from_slice(&bytes).map_err(|e| ClientError::decode(what, &e))
    }

    /// As [`Client::json`], and opens `more` connections for later requests while the daemon works on this one. One that cannot
    /// be opened is missed when it is needed.
    pub fn json_and_connect<T: DeserializeOwned>(&mut self, request: Request<'_>, more: usize) -> Result<T> {
        let again = self.if_refused(&request);
        let pending = self.begin(request)?;
        let what = pending.what.clone();
        // The first to be opened is the first to be used.
        let further: Vec<_> = (0..more).map_while(|_| Connection::open(&self.socket).ok()).collect();
        self.idle.extend(further.into_iter().rev());
        let mut response = match pending.response() {
            Err(e) if e.is_for_version() => self.ask_again(e, again)?,
            answer => answer?,
        };
        let bytes = response.read_body()?;
        self.reclaim(response);
        serde_json::from_slice(&bytes).map_err(|e| ClientError::decode(what, &e))
    }

    /// Sends `request` and reads the whole answer; the connection is kept.
    pub fn bytes(&mut self, request: Request<'_>) -> Result<Vec<u8>> {
        let what = request.describe();
        let mut response = self.send(request)?;
        let mut bytes = Vec::new();
        response.read_to_end(&mut bytes).map_err(|e| ClientError::io(what, e))?;
        self.reclaim(response);
        Ok(bytes)
    }

    /// Sends `request` where only success matters.
    pub fn done(&mut self, request: Request<'_>) -> Result<()> {
        self.bytes(request).map(drop)
    }

    /// Sends `request`, which must have asked for an upgrade, and takes the connection over as a byte stream.
    pub fn hijack(&mut self, request: Request<'_>) -> Result<Hijacked> {
        let again = self.if_refused(&request);
        match (self.begin(request)?.hijack(), again) {
            (Err(e), Some(again)) if e.is_for_version() => {
                self.negotiate()?;
                self.begin(again)?.hijack()
            }
            (answer, _) => answer,
        }
    }

    /// Keeps the connection of an answer that was read to its end.
    pub fn reclaim(&mut self, response: Response) {
        self.idle.extend(response.body.into_connection());
    }

    fn take_connection(&mut self) -> Result<Connection> {
        while let Some(conn) = self.idle.pop() {
            if conn.is_fresh() {
                return Ok(conn);
            }
        }
        Connection::open(&self.socket)
    }
}

// === impl Pending ===

impl Pending {
    /// Waits for the head of the answer; an error status becomes an error here, with the daemon's message.
    pub fn response(mut self) -> Result<Response> {
        let head = self.conn.read_head(&self.what)?;
        let body = Body::new(self.conn, &head);
        Response { head, body }.checked(self.what)
    }

    /// Waits for the daemon to turn the connection into a byte stream.
    pub fn hijack(mut self) -> Result<Hijacked> {
        let head = self.conn.read_head(&self.what)?;
        match head.status {
            101 => Ok(Hijacked::new(self.conn, &head)),
            // Daemons before 1.22 and some proxies answer 200 and stream all the same.
            200 if head.length.is_none() && !head.chunked => Ok(Hijacked::new(self.conn, &head)),
            _ => {
                let status = head.status;
                let body = Body::new(self.conn, &head);
                Response { head, body }.checked(self.what.clone())?;
                Err(ClientError::protocol(
                    self.what,
                    format!("status {status} where an upgraded stream was due"),
                ))
            }
        }
    }
}

impl AsFd for Pending {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.conn.as_fd()
    }
}

// === impl Response ===

impl Response {
    /// HTTP status, always below 400.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// How the body's output streams are mixed, where the daemon says so.
    pub fn format(&self) -> Option<StreamFormat> {
        StreamFormat::of(&self.head)
    }

    /// The body, to be read piece by piece or waited for in a poll set.
    pub fn body_mut(&mut self) -> &mut Body {
        &mut self.body
    }

    /// Reads the rest of the body.
    pub fn read_body(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.body.read_to_end(&mut bytes).map_err(|e| ClientError::io("reading the answer", e))?;
        Ok(bytes)
    }

    fn checked(mut self, what: String) -> Result<Self> {
        if self.head.status < 400 {
            return Ok(self);
        }
        let mut bytes = Vec::new();
        // A daemon that dies within its own error message still told us the status.
        let _ = self.body.by_ref().take(1 << 20).read_to_end(&mut bytes);
        Err(ClientError::api(what, self.head.status, &bytes))
    }
}

impl Read for Response {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.body.read(buf)
    }
}

impl AsFd for Response {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.body.as_fd()
    }
}

#[cfg(test)]
mod tests;
