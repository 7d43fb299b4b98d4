//! The standard streams of one process: from its pipes or terminal to the log and the attached peers, and back.
//!
//! ```text
//!   stdout ─┐ one chunk at a time  ┌─▶ log
//!   stderr ─┴──────────────────────┼─▶ peer ┐ while one of them is behind,
//!                                  └─▶ peer ┘ nothing is read
//!   stdin ◀── buffer (one chunk) ◀──── peers: while it is not empty, none is heard
//! ```

use std::io;
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::EventFlags;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::termios::Winsize;
use tare_model::sandbox::{Stdio, WindowSize};

use super::peer::{Heard, Peer};
use super::poll::{Poller, Registration, Token};
use crate::logs::Stream;
use crate::protocol;

/// The most that is read at once.
pub(super) const CHUNK: usize = 64 * 1024;
/// The most that is read from a terminal after its process has ended.
const TERMINAL_REST: usize = 1024 * 1024;

/// Where a process's output is kept.
pub(super) trait Log {
    /// Keeps a chunk.
    fn append(&mut self, stream: Stream, bytes: &[u8]);
}

/// No log: output of execs.
pub(super) struct NoLog;

/// Which pipes a process gets; the others are `/dev/null`.
pub(super) type Wanted = protocol::Streams;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Streams {
    id: u32,
    /// The terminal's master end.
    terminal: Option<OwnedFd>,
    outputs: [Option<Output>; 2],
    input: Option<Input>,
    /// End the input with the first peer's.
    stdin_once: bool,
    peers: Vec<Peer>,
    next_peer: u32,
}

#[derive(Debug)]
struct Output {
    fd: OwnedFd,
    /// Nothing more will come: to be forgotten as soon as nobody waits for it. While other descriptors of a terminal are
    /// open, closing this one would leave it registered, and always ready.
    ended: bool,
    registration: Registration,
}

#[derive(Debug)]
struct Input {
    fd: OwnedFd,
    buffer: Vec<u8>,
    written: usize,
    ending: bool,
    registration: Registration,
}

enum Pumped {
    Bytes(usize),
    Nothing,
    End,
}

impl Log for NoLog {
    fn append(&mut self, _: Stream, _: &[u8]) {}
}

// === impl Streams ===

impl Streams {
    /// Streams that lead nowhere.
    pub(super) fn none() -> Self {
        Self::new(0, false)
    }

    fn new(id: u32, stdin_once: bool) -> Self {
        let (outputs, peers) = ([None, None], Vec::new());
        Self { id, terminal: None, outputs, input: None, stdin_once, peers, next_peer: 0 }
    }

    /// Pipes for a process, and their other ends.
    pub(super) fn pipes(id: u32, wanted: Wanted, stdin_once: bool) -> io::Result<(Self, Stdio)> {
        let mut streams = Self::new(id, stdin_once);
        let null = || rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        let mut output = |which: Stream, wanted: bool| -> io::Result<OwnedFd> {
            if !wanted {
                return Ok(null()?);
            }
            let (ours, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
            rustix::io::ioctl_fionbio(&ours, true)?;
            streams.outputs[which as usize] = Some(Output::new(ours));
            Ok(theirs)
        };
        let (stdout, stderr) =
            (output(Stream::Stdout, wanted.stdout)?, output(Stream::Stderr, wanted.stderr)?);
        let stdin = if wanted.stdin {
            let (theirs, ours) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
            rustix::io::ioctl_fionbio(&ours, true)?;
            streams.input = Some(Input::new(ours));
            theirs
        } else {
            null()?
        };
        Ok((streams, Stdio::Pipes { stdin, stdout, stderr }))
    }

    /// Streams of a process that will get a terminal, whose master end [`Streams::set_terminal`] takes.
    pub(super) fn terminal(id: u32, size: WindowSize) -> (Self, Stdio) {
        (Self::new(id, false), Stdio::Terminal { size })
    }

    pub(super) fn set_terminal(&mut self, master: OwnedFd) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&master, true)?;
        // Each waits for its own events, so each has its own descriptor.
        self.outputs[0] = Some(Output::new(master.try_clone()?));
        self.input = Some(Input::new(master.try_clone()?));
        self.terminal = Some(master);
        Ok(())
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Attaches a peer; `framed` unless the process has a terminal.
    pub(super) fn attach(&mut self, socket: OwnedFd, wants: protocol::Streams, framed: bool) {
        self.peers.push(Peer::new(self.next_peer, socket, wants, framed));
        self.next_peer += 1;
    }

    /// Sets the terminal's size; `None` without a terminal.
    pub(super) fn resize(&self, size: WindowSize) -> Option<io::Result<()>> {
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        Some(rustix::termios::tcsetwinsize(self.terminal.as_ref()?, size).map_err(Into::into))
    }

    /// Something may be read from an output.
    pub(super) fn on_output(&mut self, which: u32, buffer: &mut Vec<u8>, log: &mut dyn Log) {
        let stream = if which == 0 { Stream::Stdout } else { Stream::Stderr };
        if !self.is_behind() {
            self.pump(stream, buffer, log);
        }
    }

    /// There may be room in the input.
    pub(super) fn on_input(&mut self) {
        self.write_input();
    }

    /// A peer may be heard, may have room, or is gone.
    pub(super) fn on_peer(&mut self, number: u32, flags: EventFlags, buffer: &mut Vec<u8>) {
        let Some(at) = self.peers.iter().position(|peer| peer.number == number) else { return };
        let may_speak = self.may_speak(self.peers[at].wants.stdin);
        let peer = &mut self.peers[at];
        if flags.contains(EventFlags::OUT) {
            peer.flush();
        }
        if may_speak && !peer.input_ended {
            match peer.hear(buffer) {
                Heard::Bytes if peer.wants.stdin => self.type_in(buffer),
                Heard::Bytes | Heard::Nothing => {}
                Heard::End => self.input_ends(at),
            }
        }
        if flags.intersects(EventFlags::HUP | EventFlags::ERR) {
            self.peers[at].hang_up();
        }
        self.peers.retain(|peer| !peer.is_gone());
    }

    /// Reads what there still is after the process has ended; nothing is read from it afterwards. What a peer cannot take
    /// at once is kept for it.
    pub(super) fn drain(&mut self, buffer: &mut Vec<u8>, log: &mut dyn Log) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            // Somebody else may hold the other end and write for ever: no more than fits is from before the end.
            let mut most = self.capacity(stream);
            while let Pumped::Bytes(n) = self.pump(stream, buffer, log) {
                most = most.saturating_sub(n);
                if most == 0 {
                    break;
                }
            }
            self.outputs[stream as usize] = None;
        }
        (self.input, self.terminal) = (None, None);
        self.release();
    }

    /// Closes every peer for which nothing is kept; whether none is left. Only after [`Streams::drain`].
    pub(super) fn release(&mut self) -> bool {
        for peer in std::mem::take(&mut self.peers) {
            if peer.is_behind() {
                self.peers.push(peer);
            } else {
                peer.close();
            }
        }
        self.peers.is_empty()
    }

    /// Brings what is waited for in line with what can be done.
    pub(super) fn register(&mut self, poller: &Poller) -> io::Result<()> {
        let read = (!self.is_behind()).then_some(EventFlags::IN);
        for (which, slot) in (0..).zip(&mut self.outputs) {
            let Some(output) = slot else { continue };
            let wanted = read.filter(|_| !output.ended);
            poller.set(&output.fd, Token::Output(self.id, which), &mut output.registration, wanted)?;
            if output.ended {
                *slot = None;
            }
        }
        if let Some(input) = &mut self.input {
            let write = (!input.buffer.is_empty()).then_some(EventFlags::OUT);
            poller.set(&input.fd, Token::Input(self.id), &mut input.registration, write)?;
        }
        let room = self.may_speak(true);
        let id = self.id;
        // Whom the kernel cannot wait for is hung up on; the process must not pay for it.
        self.peers.retain_mut(|peer| peer.register(poller, id, room || !peer.wants.stdin).is_ok());
        Ok(())
    }

    fn is_behind(&self) -> bool {
        self.peers.iter().any(Peer::is_behind)
    }

    /// Whether a peer's input can be taken: what is not for the process is thrown away.
    fn may_speak(&self, stdin: bool) -> bool {
        !stdin || self.input.as_ref().is_none_or(|input| input.buffer.is_empty())
    }

    /// Reads one chunk of an output and passes it on.
    fn pump(&mut self, stream: Stream, buffer: &mut Vec<u8>, log: &mut dyn Log) -> Pumped {
        let Some(output) = &mut self.outputs[stream as usize] else { return Pumped::End };
        buffer.clear();
        match rustix::io::read(&output.fd, spare_capacity(buffer)) {
            Err(Errno::AGAIN | Errno::INTR) => Pumped::Nothing,
            // A terminal that nobody holds open any more says EIO.
            Ok(0) | Err(_) => {
                output.ended = true;
                Pumped::End
            }
            Ok(n) => {
                log.append(stream, buffer);
                self.peers.iter_mut().for_each(|peer| peer.give(stream, buffer));
                self.peers.retain(|peer| !peer.is_gone());
                Pumped::Bytes(n)
            }
        }
    }

    fn capacity(&self, stream: Stream) -> usize {
        let Some(output) = &self.outputs[stream as usize] else { return 0 };
        rustix::pipe::fcntl_getpipe_size(&output.fd).unwrap_or(TERMINAL_REST)
    }

    fn type_in(&mut self, bytes: &[u8]) {
        if let Some(input) = &mut self.input {
            input.buffer.extend_from_slice(bytes);
            self.write_input();
        }
    }

    fn write_input(&mut self) {
        let terminal = self.terminal.is_some();
        if self.input.as_mut().is_some_and(|input| input.flush(terminal)) {
            self.input = None;
        }
    }

    /// A peer has ended its input.
    fn input_ends(&mut self, at: usize) {
        if self.peers[at].wants.stdin && self.stdin_once {
            if let Some(input) = &mut self.input {
                input.ending = true;
            }
            self.write_input();
        }
    }
}

// === impl Output ===

impl Output {
    fn new(fd: OwnedFd) -> Self {
        Self { fd, ended: false, registration: Registration::default() }
    }
}

// === impl Input ===

impl Input {
    fn new(fd: OwnedFd) -> Self {
        let (buffer, registration) = (Vec::new(), Registration::default());
        Self { fd, buffer, written: 0, ending: false, registration }
    }

    /// Writes what there is; whether it is to be closed, because that was the end or nobody reads.
    fn flush(&mut self, terminal: bool) -> bool {
        while self.written < self.buffer.len() {
            match rustix::io::write(&self.fd, &self.buffer[self.written..]) {
                Ok(n) if n > 0 => self.written += n,
                Err(Errno::INTR) => {}
                Ok(_) | Err(Errno::AGAIN) => return false,
                // A terminal may be opened again.
                Err(_) if terminal => break,
                Err(_) => return true,
            }
        }
        (self.buffer, self.written) = (Vec::new(), 0);
        self.ending
    }
}
