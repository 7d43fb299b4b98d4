//! A live connection between this terminal and a process in a container: `run`, `attach`, `start -a`, `exec`.
//!
//! One thread, one poll set. Output is never lost (the stream is read to its end and written out before anything else
//! is believed), nothing is gathered without bound (a side that does not take stops the side that gives), and no call
//! in here can block while signals wait: a hung daemon or reader leaves Ctrl-C working.
//!
//! ```text
//! stdin ──> (detach keys) ──> to_container ──> socket ──> frames ──> out, err ──> stdout, stderr
//! signals ──> Control: kill, resize, on connections of their own        started?, exited? ──> answers
//! ```

mod control;
mod input;
mod output;

pub(crate) use control::Control;

use crate::failure::{Failure, OWN_ERROR};
use crate::term::{RawMode, Signals};
use input::Input;
use output::Output;
use rustix::event::{PollFd, PollFlags, poll};
use signal_hook::consts::SIGWINCH;
use std::io::Read;
use std::os::fd::AsFd;
use tare_docker_api::client::{Body, Frames, Hijacked, Pending, Progress, Response, Stream, StreamFormat};

/// Output read at once.
const READ_CHUNK: usize = 64 << 10;

/// What the session is made of.
pub(crate) struct Parts {
    /// The stream to the process.
    pub(crate) stream: Hijacked,
    /// How its output is laid out.
    pub(crate) format: StreamFormat,
    /// Whether our stdin goes to the process.
    pub(crate) stdin: bool,
    /// Whether stdin is a terminal to be made raw, the process having one too.
    pub(crate) raw: bool,
    /// Bytes that detach; empty for none.
    pub(crate) detach_keys: Vec<u8>,
    /// The answer to `start`, if it is still to come.
    pub(crate) starting: Option<Pending>,
    /// The answer to `wait`, if its code ends the session.
    pub(crate) exiting: Option<Response>,
}

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The stream is over; with it the body of `wait`'s answer, if there was one to wait for.
    Finished(Vec<u8>),
    /// The detach keys were typed.
    Detached,
}

/// What can go wrong, told apart because `run` gives start errors exit codes of their own.
#[derive(Debug)]
pub(crate) enum SessionError {
    /// `start` was refused.
    Start(tare_docker_api::client::ClientError),
    /// Anything else.
    Other(Failure),
}

impl From<Failure> for SessionError {
    fn from(failure: Failure) -> Self {
        SessionError::Other(failure)
    }
}

struct Session<'a> {
    socket: Option<Hijacked>,
    frames: Option<Frames>,
    input: Input,
    output: Output,
    starting: Option<Pending>,
    exiting: Option<Response>,
    exit_body: Vec<u8>,
    want_raw: bool,
    raw: Option<RawMode>,
    signals: Signals,
    control: &'a mut Control,
    scratch: Vec<u8>,
}

/// Which descriptors a poll found ready.
#[derive(Default)]
struct Ready {
    socket_in: bool,
    socket_out: bool,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    signals: bool,
    starting: bool,
    exiting: bool,
}

/// Runs a session to its end. Signals are caught from before `parts.starting` can be answered until this returns.
pub(crate) fn run(parts: Parts, signals: Signals, control: &mut Control) -> Result<Ended, SessionError> {
    let Parts { mut stream, format, stdin, raw, detach_keys, starting, exiting } = parts;
    stream.stream.set_nonblocking(true).map_err(|e| Failure::io("the stream's O_NONBLOCK", &e))?;
    let early = std::mem::take(&mut stream.early);
    let mut session = Session {
        socket: Some(stream),
        frames: (format == StreamFormat::Multiplexed).then(Frames::default),
        input: Input::new(stdin, detach_keys),
        output: Output::new(),
        starting,
        exiting,
        exit_body: Vec::new(),
        want_raw: raw,
        raw: None,
        signals,
        control,
        scratch: vec![0; READ_CHUNK],
    };
    session.received(&early)?;
    if session.starting.is_none() {
        session.started()?;
    }
    let ended = session.pump();
    // The terminal is given back before anyone prints how it ended.
    session.raw = None;
    ended
}

// === impl Session ===

impl Session<'_> {
    fn pump(&mut self) -> Result<Ended, SessionError> {
        loop {
            if self.socket.is_none()
                && self.output.is_empty()
                && self.exiting.is_none()
                && self.starting.is_none()
            {
                return Ok(Ended::Finished(std::mem::take(&mut self.exit_body)));
            }
            let ready = self.wait()?;
            if ready.signals {
                self.on_signals()?;
            }
            if ready.starting {
                self.on_start_answer()?;
            }
            if ready.socket_in {
                self.on_output()?;
            }
            self.output.write(ready.stdout, ready.stderr)?;
            if ready.stdin && self.input.read()? {
                return Ok(Ended::Detached);
            }
            if ready.socket_out {
                self.on_input_room();
            }
            if ready.exiting {
                self.on_exit_answer()?;
            }
        }
    }

    fn wait(&self) -> Result<Ready, Failure> {
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let mut marks: Vec<fn(&mut Ready, PollFlags)> = Vec::with_capacity(7);
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(7);
        marks.push(|r, _| r.signals = true);
        fds.push(PollFd::new(&self.signals, PollFlags::IN));
        if let Some(socket) = &self.socket {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, self.output.has_room());
            flags.set(PollFlags::OUT, self.input.has_work());
            marks.push(|r, found| {
                r.socket_in = found.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
                r.socket_out = found.intersects(PollFlags::OUT | PollFlags::ERR);
            });
            fds.push(PollFd::new(socket, flags));
        }
        if self.input.wants_stdin() && self.started_already() {
            marks.push(|r, _| r.stdin = true);
            fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
        }
        if !self.output.out.is_empty() {
            marks.push(|r, _| r.stdout = true);
            fds.push(PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::OUT));
        }
        if !self.output.err.is_empty() {
            marks.push(|r, _| r.stderr = true);
            fds.push(PollFd::from_borrowed_fd(stderr.as_fd(), PollFlags::OUT));
        }
        if let Some(starting) = &self.starting {
            marks.push(|r, _| r.starting = true);
            fds.push(PollFd::new(starting, PollFlags::IN));
        }
        if let Some(exiting) = &self.exiting {
            marks.push(|r, _| r.exiting = true);
            fds.push(PollFd::new(exiting, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Failure::new(format!("poll: {e}"))),
        }
        let mut ready = Ready::default();
        for (fd, mark) in fds.iter().zip(marks) {
            if !fd.revents().is_empty() {
                mark(&mut ready, fd.revents());
            }
        }
        Ok(ready)
    }

    fn started_already(&self) -> bool {
        self.starting.is_none()
    }

    fn on_start_answer(&mut self) -> Result<(), SessionError> {
        if let Some(pending) = self.starting.take() {
            let response = pending.response().map_err(SessionError::Start)?;
            self.control.reuse(response);
        }
        self.started()?;
        Ok(())
    }

    /// The process runs: the terminal becomes its own, and it learns the size it has.
    fn started(&mut self) -> Result<(), Failure> {
        if self.want_raw {
            self.raw = Some(RawMode::enter().map_err(|e| Failure::io("making the terminal raw", &e))?);
        }
        self.control.started();
        Ok(())
    }

    fn on_output(&mut self) -> Result<(), Failure> {
        let Some(socket) = &mut self.socket else { return Ok(()) };
        match socket.stream.read(&mut self.scratch) {
            Ok(0) => self.stream_ended(),
            Ok(n) => {
                let scratch = std::mem::take(&mut self.scratch);
                let result = self.received(&scratch[..n]);
                self.scratch = scratch;
                return result;
            }
            Err(e)
                if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted) => {}
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => self.stream_ended(),
            Err(e) => return Err(Failure::io("reading the container's output", &e)),
        }
        Ok(())
    }

    fn stream_ended(&mut self) {
        self.socket = None;
        self.input.stop();
    }

    fn received(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let output = &mut self.output;
        match &mut self.frames {
            None => output.out.extend_from_slice(bytes),
            Some(frames) => frames
                .feed(bytes, &mut |stream, data| match stream {
                    Stream::Stdout => output.out.extend_from_slice(data),
                    Stream::Stderr | Stream::SystemError => output.err.extend_from_slice(data),
                })
                .map_err(|e| {
                    Failure::new(format!("the container's output is not framed as it should be: {e}"))
                })?,
        }
        Ok(())
    }

    fn on_input_room(&mut self) {
        if let Some(socket) = &self.socket {
            self.input.write(socket);
        }
    }

    fn on_signals(&mut self) -> Result<(), Failure> {
        for signal in self.signals.arrived() {
            if signal == SIGWINCH {
                self.control.resize();
            } else {
                self.control.signal(signal)?;
            }
        }
        Ok(())
    }

    fn on_exit_answer(&mut self) -> Result<(), Failure> {
        let Some(response) = &mut self.exiting else { return Ok(()) };
        let body: &mut Body = response.body_mut();
        match body.advance(&mut self.exit_body) {
            Ok(Progress::More) => Ok(()),
            Ok(Progress::End) => {
                self.exiting = None;
                Ok(())
            }
            Err(e) => {
                let why =
                    format!("the daemon went away while the container ran, which goes on without it: {e}");
                Err(Failure::with_code(OWN_ERROR, why))
            }
        }
    }
}

#[cfg(test)]
mod tests;
