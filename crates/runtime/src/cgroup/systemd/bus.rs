//! A connection to systemd's manager: opened, introduced, asked. One question at a time, each with an end.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::super::error::{Error, Result};
use super::manager::outer_uid;
use super::wire::{FIXED, Kind, Message, Writer};

/// How long an answer, or the end of a job, may take.
const PATIENCE: Duration = Duration::from_secs(30);

const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const OBJECT: &str = "/org/freedesktop/systemd1";
const NAME: &str = "org.freedesktop.systemd1";

/// A connection.
pub(super) struct Bus {
    stream: UnixStream,
    /// Other programs are on it too, so that each message names whom it is for.
    is_shared: bool,
    serial: u32,
    /// News that came while an answer was waited for.
    news: Vec<Message>,
}

/// A job's end, as systemd tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JobEnd {
    pub(super) job: String,
    pub(super) result: String,
}

/// A refusal by the peer: `org.freedesktop.systemd1.NoSuchUnit`, and what it said.
#[derive(Debug)]
pub(super) enum Refusal {
    /// By name.
    Named(String, String),
    /// The connection itself failed.
    Broken(Error),
}

impl Refusal {
    /// As an error about a call.
    pub(super) fn of(self, call: &str) -> Error {
        match self {
            Self::Named(name, said) => {
                Error::Systemd { call: call.to_owned(), said: format!("{said} ({name})") }
            }
            Self::Broken(error) => error,
        }
    }

    /// Whether the unit is not (or no longer) there.
    pub(super) fn is_no_such_unit(&self) -> bool {
        matches!(self, Self::Named(name, _) if name.ends_with(".NoSuchUnit"))
    }

    /// Whether a unit of this name is there.
    pub(super) fn is_unit_exists(&self) -> bool {
        matches!(self, Self::Named(name, _) if name.ends_with(".UnitExists"))
    }
}

type Answer<T> = std::result::Result<T, Refusal>;

impl Bus {
    /// Connects to a socket and introduces us.
    pub(super) fn open(socket: &Path, is_shared: bool) -> Result<Self> {
        let failed = |what: &str, error: &io::Error| Error::Systemd {
            call: format!("{what} {}", socket.display()),
            said: error.to_string(),
        };
        let stream = UnixStream::connect(socket).map_err(|error| failed("connect to", &error))?;
        Self::on(stream, is_shared).map_err(|error| failed("authenticate at", &error))
    }

    /// Introduces us on a connection that is there: `EXTERNAL`, by the credentials that the kernel passes.
    pub(super) fn on(mut stream: UnixStream, is_shared: bool) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let uid = outer_uid().to_string();
        let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        // All at once, and no question before the answer: what systemd reads together with the beginning it keeps, and looks
        // at only when more comes.
        stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\n").as_bytes())?;
        let answer = line(&mut stream)?;
        if !answer.starts_with("OK ") {
            return Err(io::Error::other(format!("the bus answered {:?}", answer.trim())));
        }
        let mut bus = Self { stream, is_shared, serial: 0, news: Vec::new() };
        if is_shared {
            bus.introduce().map_err(|refusal| io::Error::other(refusal.of("Hello").to_string()))?;
        }
        Ok(bus)
    }

    /// A shared bus wants a greeting first, and passes on only the news that were asked for.
    fn introduce(&mut self) -> Answer<()> {
        let driver = |member: &str| Message {
            path: "/org/freedesktop/DBus".to_owned(),
            interface: "org.freedesktop.DBus".to_owned(),
            destination: "org.freedesktop.DBus".to_owned(),
            ..Message::new(Kind::Call, member)
        };
        self.ask(driver("Hello"))?;
        let wanted = format!("type='signal',sender='{NAME}',interface='{MANAGER}',member='JobRemoved'");
        self.ask(driver("AddMatch").with("s", |body| body.string(&wanted))).map(drop)
    }

    /// Calls a method of the manager.
    pub(super) fn call(
        &mut self,
        method: &str,
        signature: &str,
        write: impl FnOnce(&mut Writer),
    ) -> Answer<Message> {
        let mut call = Message::new(Kind::Call, method).with(signature, write);
        call.path = OBJECT.to_owned();
        call.interface = MANAGER.to_owned();
        self.ask(call)
    }

    /// A string property of an object.
    pub(super) fn property(&mut self, object: &str, interface: &str, name: &str) -> Answer<String> {
        let mut call = Message::new(Kind::Call, "Get").with("ss", |body| {
            body.string(interface);
            body.string(name);
        });
        call.path = object.to_owned();
        call.interface = "org.freedesktop.DBus.Properties".to_owned();
        let answer = self.ask(call)?;
        answer.reader().variant_string().map_err(|_| nonsense())
    }

    /// Waits for the end of a job; gives systemd's word for it.
    pub(super) fn wait_for(&mut self, job: &str) -> Answer<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = self.news.iter().filter_map(job_end).find(|end| end.job == job);
            if let Some(end) = ended {
                self.news.clear();
                return Ok(end.result);
            }
            let message = self.receive(deadline)?;
            self.news.push(message);
        }
    }

    fn ask(&mut self, mut call: Message) -> Answer<Message> {
        self.serial += 1;
        call.serial = self.serial;
        if self.is_shared && call.destination.is_empty() {
            call.destination = NAME.to_owned();
        }
        self.stream.write_all(&call.write()).map_err(|error| broken(&error))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = self.receive(deadline)?;
            match message.kind {
                Kind::Return if message.answers == call.serial => return Ok(message),
                Kind::Error if message.answers == call.serial => {
                    let said = message.reader().string().unwrap_or_default();
                    return Err(Refusal::Named(message.member, said));
                }
                Kind::Signal => self.news.push(message),
                _ => {} // nobody calls us
            }
        }
    }

    fn receive(&mut self, deadline: Instant) -> Answer<Message> {
        let mut fixed = [0u8; FIXED];
        self.fill(&mut fixed, deadline)?;
        let size = Message::size(&fixed).map_err(|_| nonsense())?;
        let mut bytes = vec![0u8; size];
        bytes[..FIXED].copy_from_slice(&fixed);
        self.fill(&mut bytes[FIXED..], deadline)?;
        Message::read(&bytes).map_err(|_| nonsense())
    }

    fn fill(&mut self, mut buffer: &mut [u8], deadline: Instant) -> Answer<()> {
        while !buffer.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(broken(&ErrorKind::TimedOut.into()));
            }
            self.stream.set_read_timeout(Some(left)).map_err(|error| broken(&error))?;
            match self.stream.read(buffer) {
                Ok(0) => return Err(broken(&ErrorKind::UnexpectedEof.into())),
                Ok(count) => buffer = &mut buffer[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(broken(&ErrorKind::TimedOut.into()));
                }
                Err(error) => return Err(broken(&error)),
            }
        }
        Ok(())
    }
}

fn job_end(message: &Message) -> Option<JobEnd> {
    if message.member != "JobRemoved" || message.interface != MANAGER {
        return None;
    }
    let mut body = message.reader();
    body.number().ok()?;
    let job = body.string().ok()?;
    body.string().ok()?;
    Some(JobEnd { job, result: body.string().ok()? })
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

fn broken(error: &io::Error) -> Refusal {
    let said = match error.kind() {
        ErrorKind::TimedOut => format!("nothing came within {} s", PATIENCE.as_secs()),
        _ => error.to_string(),
    };
    Refusal::Broken(Error::Systemd { call: "talk to systemd".to_owned(), said })
}

fn nonsense() -> Refusal {
    let said = "it sent a message that is none".to_owned();
    Refusal::Broken(Error::Systemd { call: "talk to systemd".to_owned(), said })
}
