//! Connections of a container: messages with their lengths before them, several questions at once.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::server::{Fate, Served};
use super::wire::{LARGEST_DATAGRAM, Transport};

/// A socket that fails at once would be asked for ever; it is given time.
const PAUSE: Duration = Duration::from_millis(100);
/// Questions outstanding on one connection; the next ones are not read yet.
const AT_ONCE: usize = 64;
/// Bytes of a question as most are.
const PLAIN_QUESTION: usize = 254;
/// Bytes of the length before a message.
const LENGTH: usize = 2;

/// Messages out of a stream of bytes.
struct Frames {
    stream: OwnedReadHalf,
    /// Begins with a length.
    buffer: Vec<u8>,
}

/// Accepts until it is dropped, and with it every connection.
pub(super) async fn run(served: Arc<Served>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let room = connections.len() < served.shared.limits.connections_each;
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if room => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(talk(served.clone(), stream));
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

/// Answers on one connection until the client ends it, breaks the rules, or keeps us waiting.
async fn talk(served: Arc<Served>, stream: TcpStream) {
    let idle = served.shared.limits.idle;
    let (stream, mut out) = stream.into_split();
    let mut frames = Frames { stream, buffer: Vec::new() };
    let mut handed = JoinSet::new();
    let (mut reading, mut end) = (true, Instant::now() + idle);
    while reading || !handed.is_empty() {
        let said = tokio::select! {
            Some(answer) = handed.join_next() => answer.ok(),
            // Who has ended its own direction still gets what it asked for.
            frame = timeout_at(end, frames.next()), if reading && handed.len() < AT_ONCE => {
                end = Instant::now() + idle;
                match frame {
                    Ok(Ok(Some(frame))) => match served.take(&frame, Transport::Tcp) {
                        Fate::Said(answer) => Some(answer),
                        Fate::Handed(question) => {
                            handed.spawn(question.answer());
                            None
                        }
                        // Nothing that deserves more time.
                        Fate::Ignored => return,
                    },
                    Ok(Ok(None)) | Err(_) => {
                        reading = false;
                        None
                    }
                    Ok(Err(_)) => return,
                }
            }
        };
        let Some(answer) = said else { continue };
        let Ok(length) = u16::try_from(answer.len()) else { return };
        let frame = [&length.to_be_bytes()[..], &answer].concat();
        if !matches!(timeout(idle, out.write_all(&frame)).await, Ok(Ok(()))) {
            return;
        }
    }
}

// === impl Frames ===

impl Frames {
    /// The next message; none at the end. Nothing is lost if it is dropped before.
    async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(Some(frame));
            }
            self.buffer.reserve(LENGTH + PLAIN_QUESTION);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    fn take(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(length) = self.buffer.first_chunk::<LENGTH>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes(*length));
        if length > LARGEST_DATAGRAM {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if self.buffer.len() < LENGTH + length {
            return Ok(None);
        }
        let frame = self.buffer.drain(..LENGTH + length).skip(LENGTH).collect();
        Ok(Some(frame))
    }
}
