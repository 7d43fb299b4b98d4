//! D-Bus, as far as services of the machine need it that no other way leads to: systemd's manager, firewalld.
//!
//! Not the kernel's, but below every room that talks to one of them. One question at a time, each with an end.

mod wire;

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

pub use wire::{FIXED, Kind, MOST, Malformed, Message, Reader, Value, Writer};

/// A connection, on which we are introduced.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    serial: u32,
}

// === impl Connection ===

impl Connection {
    /// Introduces us by the credentials that the kernel passes (`EXTERNAL`); `uid` is ours as the peer sees it.
    ///
    /// # Errors
    /// The peer's refusal; that it says nothing for so long.
    pub fn introduce(mut stream: UnixStream, uid: u32, patience: Duration) -> io::Result<Self> {
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let hex: String = uid.to_string().bytes().map(|byte| format!("{byte:02x}")).collect();
        // All at once, and no question before the answer: what systemd reads together with the beginning it keeps, and looks
        // at only when more comes.
        stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\n").as_bytes())?;
        let answer = line(&mut stream)?;
        if !answer.starts_with("OK ") {
            return Err(io::Error::other(format!("the bus answered {:?}", answer.trim())));
        }
        Ok(Self { stream, serial: 0 })
    }

    /// Calls a method and gives its answer, a [`Kind::Return`] or a [`Kind::Error`]; news that come meanwhile go to `news`.
    ///
    /// # Errors
    /// `TimedOut` after so long; `InvalidData` for what is no message; others of the socket.
    pub fn ask(
        &mut self,
        mut call: Message,
        patience: Duration,
        mut news: impl FnMut(Message),
    ) -> io::Result<Message> {
        self.serial += 1;
        call.serial = self.serial;
        self.stream.write_all(&call.write())?;
        let deadline = Instant::now() + patience;
        loop {
            let message = self.receive(deadline)?;
            match message.kind {
                Kind::Return | Kind::Error if message.answers == call.serial => return Ok(message),
                Kind::Signal => news(message),
                _ => {} // nobody calls us
            }
        }
    }

    /// The next message.
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub fn receive(&mut self, deadline: Instant) -> io::Result<Message> {
        let none = |_| io::Error::from(ErrorKind::InvalidData);
        let mut fixed = [0u8; FIXED];
        self.fill(&mut fixed, deadline)?;
        let size = Message::size(&fixed).map_err(none)?;
        let mut bytes = vec![0u8; size];
        bytes[..FIXED].copy_from_slice(&fixed);
        self.fill(&mut bytes[FIXED..], deadline)?;
        Message::read(&bytes).map_err(none)
    }

    fn fill(&mut self, mut buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
        while !buffer.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => buffer = &mut buffer[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(ErrorKind::TimedOut.into());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// One line of the introduction.
fn line(stream: &mut UnixStream) -> io::Result<String> {
    const LONGEST: usize = 1024;
    let mut line = Vec::new();
    let mut byte = [0u8];
    while line.len() < LONGEST && !line.ends_with(b"\n") {
        stream.read_exact(&mut byte)?;
        line.extend(byte);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}
