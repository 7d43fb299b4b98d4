//! A response body of any framing, as `Read` or one socket read at a time for callers that poll.

use super::chunked::ChunkDecoder;
use super::conn::{Connection, Head, READ_CHUNK};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};

/// Body of a response.
#[derive(Debug)]
pub struct Body {
    conn: Connection,
    framing: Framing,
    keep_alive: bool,
    /// Decoded bytes that no reader has taken yet, from `taken` on.
    decoded: Vec<u8>,
    taken: usize,
}

#[derive(Debug)]
enum Framing {
    Length(u64),
    Chunked(ChunkDecoder),
    UntilClose,
    Ended,
}

/// What one step of a body brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Bytes may have come, and more will.
    More,
    /// The body is over.
    End,
}

// === impl Body ===

impl Body {
    pub(super) fn new(conn: Connection, head: &Head) -> Self {
        let framing = match (head.bodiless, head.chunked, head.length) {
            (true, ..) | (_, false, Some(0)) => Framing::Ended,
            (_, true, _) => Framing::Chunked(ChunkDecoder::default()),
            (_, false, Some(n)) => Framing::Length(n),
            (_, false, None) => Framing::UntilClose,
        };
        let keep_alive = head.keep_alive && !matches!(framing, Framing::UntilClose);
        Self { conn, framing, keep_alive, decoded: Vec::new(), taken: 0 }
    }

    /// Appends what is there to `out`, after at most one read of the socket. Does not block when the socket is readable.
    ///
    /// # Errors
    /// What the socket said, or `InvalidData` for broken framing, `UnexpectedEof` for a body cut short.
    pub fn advance(&mut self, out: &mut Vec<u8>) -> io::Result<Progress> {
        out.extend_from_slice(&self.decoded[self.taken..]);
        self.decoded.clear();
        self.taken = 0;
        if matches!(self.framing, Framing::Ended) {
            return Ok(Progress::End);
        }
        if self.conn.early.is_empty() && self.conn.fill()? == 0 {
            return self.ended_by_peer();
        }
        let early = std::mem::take(&mut self.conn.early);
        let used = self.decode(&early, out)?;
        self.conn.early = early;
        self.conn.early.drain(..used);
        Ok(if matches!(self.framing, Framing::Ended) { Progress::End } else { Progress::More })
    }

    /// Whether bytes are at hand that no poll of the socket would announce.
    pub fn has_buffered(&self) -> bool {
        self.taken < self.decoded.len() || !self.conn.early.is_empty()
    }

    fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
        let (used, over) = match &mut self.framing {
            Framing::Ended => (0, true),
            Framing::UntilClose => {
                out.extend_from_slice(input);
                (input.len(), false)
            }
            Framing::Length(left) => {
                let n = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                out.extend_from_slice(&input[..n]);
                *left -= n as u64;
                (n, *left == 0)
            }
            Framing::Chunked(decoder) => {
                let used =
                    decoder.decode(input, out).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
                (used, decoder.is_done())
            }
        };
        if over {
            self.framing = Framing::Ended;
        }
        Ok(used)
    }

    fn ended_by_peer(&mut self) -> io::Result<Progress> {
        let whole = matches!(self.framing, Framing::UntilClose);
        self.framing = Framing::Ended;
        self.keep_alive = false;
        if whole {
            return Ok(Progress::End);
        }
        Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the daemon closed the connection within its answer",
        ))
    }

    /// The connection, if the body was read to its end and the daemon keeps it open.
    pub(super) fn into_connection(mut self) -> Option<Connection> {
        // An unread empty body (`Content-Length: 0`) is already at its end.
        let ended = matches!(self.framing, Framing::Ended) && self.taken == self.decoded.len();
        self.conn.early.shrink_to(READ_CHUNK);
        (ended && self.keep_alive && self.conn.early.is_empty()).then_some(self.conn)
    }
}

impl Read for Body {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.decoded.len() {
            let mut fresh = std::mem::take(&mut self.decoded);
            fresh.clear();
            self.taken = 0;
            let progress = self.advance(&mut fresh)?;
            self.decoded = fresh;
            if progress == Progress::End && self.decoded.is_empty() {
                return Ok(0);
            }
        }
        let n = buf.len().min(self.decoded.len() - self.taken);
        buf[..n].copy_from_slice(&self.decoded[self.taken..self.taken + n]);
        self.taken += n;
        Ok(n)
    }
}

impl AsFd for Body {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.conn.as_fd()
    }
}
