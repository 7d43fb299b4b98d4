//! A connection to systemd's manager: opened, introduced, asked. One question at a time, each with an end.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::super::error::{Error, Result};
use super::manager::outer_uid;
use super::wire::{Connection, Kind, Message, Writer};

/// How long an answer, or the end of a job, may take.
const PATIENCE: Duration = Duration::from_secs(30);

const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const OBJECT: &str = "/org/freedesktop/systemd1";
const NAME: &str = "org.freedesktop.systemd1";

/// A connection.
pub(super) struct Bus {
    connection: Connection,
    /// Other programs are on it too, so that each message names whom it is for.
    is_shared: bool,
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
    pub(super) fn on(stream: UnixStream, is_shared: bool) -> io::Result<Self> {
        let connection = Connection::introduce(stream, outer_uid(), PATIENCE)?;
        let mut bus = Self { connection, is_shared, news: Vec::new() };
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
            let message = self.connection.receive(deadline).map_err(|error| broken(&error))?;
            self.news.push(message);
        }
    }

    fn ask(&mut self, mut call: Message) -> Answer<Message> {
        if self.is_shared && call.destination.is_empty() {
            call.destination = NAME.to_owned();
        }
        let news = &mut self.news;
        let answer = self.connection.ask(call, PATIENCE, |message| news.push(message));
        match answer.map_err(|error| broken(&error))? {
            answer if answer.kind == Kind::Return => Ok(answer),
            refusal => {
                let said = refusal.reader().string().unwrap_or_default();
                Err(Refusal::Named(refusal.member, said))
            }
        }
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

fn broken(error: &io::Error) -> Refusal {
    let said = match error.kind() {
        ErrorKind::TimedOut => format!("nothing came within {} s", PATIENCE.as_secs()),
        ErrorKind::InvalidData => return nonsense(),
        _ => error.to_string(),
    };
    Refusal::Broken(Error::Systemd { call: "talk to systemd".to_owned(), said })
}

fn nonsense() -> Refusal {
    let said = "it sent a message that is none".to_owned();
    Refusal::Broken(Error::Systemd { call: "talk to systemd".to_owned(), said })
}
