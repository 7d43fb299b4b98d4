//! One connection to one shim: calls with replies, and a stream of events.
//!
//! A task reads the socket, completes the calls that wait and queues the events. Nothing piles up: the shim sends
//! one reply per call and one event per thing that a call asked for (an exec, a watch), or that happens once.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oci_spec::runtime::LinuxResources;
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tare_model::sandbox::{NetworkSockets, Stats, WindowSize};
use tare_model::{Error, ErrorKind, ExecId, Result, Signal};
use tokio::sync::{mpsc, oneshot};

use super::socket::Socket;
use crate::protocol::{
    Answer, Call, Event, ExecRequest, FdRole, Message, Request, Snapshot, Streams, VERSION,
};
use crate::wire::{Incoming, Outgoing};

/// A handle to one shim. Clones share the connection, which is closed when the last one is dropped (the container runs on).
#[derive(Clone, Debug)]
pub struct Control {
    handle: Arc<Handle>,
}

/// What a shim tells unasked.
#[derive(Debug)]
pub struct Events {
    queue: mpsc::UnboundedReceiver<Event>,
}

#[derive(Debug)]
struct Handle {
    link: Arc<Link>,
    reader: tokio::task::AbortHandle,
}

#[derive(Debug)]
struct Link {
    socket: Socket,
    next: AtomicU64,
    state: Mutex<State>,
}

/// An answer, and the descriptors that came with it.
pub(super) type Reply = (Answer, Vec<OwnedFd>);

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<u64, oneshot::Sender<Result<Reply>>>,
    shim_pid: Option<i32>,
    /// Why no further reply will come.
    closed: Option<Error>,
}

// === impl Control ===

impl Control {
    /// Connects to the shim that listens at `socket` (`RUN/containers/ID/shim.sock`).
    ///
    /// # Errors
    /// `Unavailable` when no shim is there (it has exited: read its record), `Unsupported` when it speaks another version.
    pub async fn connect(socket: &Path) -> Result<(Self, Events)> {
        let (control, events, hello) = Self::open(reach(socket)?, None)?;
        match hello.await {
            Ok(()) => Ok((control, events)),
            Err(_) => Err(control.link().closed().context(format!("connect({})", socket.display()))),
        }
    }

    /// Connects, and asks for what the shim knows before it has said hello: one that sleeps is woken once for both.
    ///
    /// # Errors
    /// As [`Control::connect`].
    pub async fn find(socket: &Path) -> Result<(Self, Events, Snapshot)> {
        let (control, events, _) = Self::open(reach(socket)?, None)?;
        let said = control.snapshot().await;
        let snapshot = said.map_err(|e| e.context(format!("connect({})", socket.display())))?;
        Ok((control, events, snapshot))
    }

    /// Takes over a connected socket. The receiver completes when the shim has said hello and fails when it never will.
    pub(super) fn open(
        socket: OwnedFd,
        first: Option<oneshot::Sender<Result<Reply>>>,
    ) -> Result<(Self, Events, oneshot::Receiver<()>)> {
        let socket = Socket::new(socket)?;
        let mut state = State::default();
        state.waiting.extend(first.map(|sender| (0, sender)));
        let link = Arc::new(Link { socket, next: AtomicU64::new(1), state: Mutex::new(state) });
        let (events, queue) = mpsc::unbounded_channel();
        let (hello, said) = oneshot::channel();
        let reader = tokio::spawn(read(Arc::clone(&link), events, hello)).abort_handle();
        Ok((Self { handle: Arc::new(Handle { link, reader }) }, Events { queue }, said))
    }

    /// Process id of the shim, once it has said hello.
    pub fn shim_pid(&self) -> Option<i32> {
        self.link().state().shim_pid
    }

    /// Asks for what the shim knows.
    ///
    /// # Errors
    /// `Unavailable` when the shim is gone (all calls), else what the shim answered.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        match self.call(Call::Snapshot, vec![]).await? {
            Answer::Snapshot(snapshot) => Ok(*snapshot),
            other => Err(unexpected("Snapshot", &other)),
        }
    }

    /// Sends a signal to the first process, or to that of `exec`. SIGKILL also thaws a frozen container.
    ///
    /// # Errors
    /// `Conflict` when it has ended, `NotFound` when there is no such exec.
    pub async fn signal(&self, signal: Signal, exec: Option<ExecId>) -> Result<()> {
        self.done(Call::Signal { signal, exec }, vec![]).await
    }

    /// Freezes every process.
    ///
    /// # Errors
    /// What the kernel refused.
    pub async fn pause(&self) -> Result<()> {
        self.done(Call::Pause, vec![]).await
    }

    /// Thaws.
    ///
    /// # Errors
    /// What the kernel refused.
    pub async fn resume(&self) -> Result<()> {
        self.done(Call::Resume, vec![]).await
    }

    /// Sets the size of the terminal of the container, or of `exec`.
    ///
    /// # Errors
    /// `Conflict` when it has no terminal, `NotFound` when there is no such exec.
    pub async fn resize(&self, size: WindowSize, exec: Option<ExecId>) -> Result<()> {
        self.done(Call::Resize { size, exec }, vec![]).await
    }

    /// Attaches `peer`, one end of a `SOCK_STREAM` pair, to the first process.
    ///
    /// # Errors
    /// `Conflict` when the process has ended.
    pub async fn attach(&self, streams: Streams, peer: OwnedFd) -> Result<()> {
        self.done(Call::Attach { streams }, vec![peer]).await
    }

    /// Starts a further process and returns its process id; its end comes as [`Event::ExecExited`].
    ///
    /// # Errors
    /// `CommandNotFound`, `CommandNotExecutable`, `Conflict` (not running, paused, id in use), `System`.
    pub async fn exec(&self, request: ExecRequest, peer: Option<OwnedFd>) -> Result<i32> {
        match self.call(Call::Exec(Box::new(request)), peer.into_iter().collect()).await? {
            Answer::ExecStarted { pid } => Ok(pid),
            other => Err(unexpected("Exec", &other)),
        }
    }

    /// What the container uses now.
    ///
    /// # Errors
    /// `Conflict` when it has ended, `System` when no figure could be read.
    pub async fn stats(&self) -> Result<Stats> {
        match self.call(Call::Stats, vec![]).await? {
            Answer::Stats(stats) => Ok(*stats),
            other => Err(unexpected("Stats", &other)),
        }
    }

    /// Changes limits; what `resources` does not name stays as it is. Gives what was asked for without effect.
    ///
    /// # Errors
    /// `Unsupported` and `InvalidInput` name the limit, and nothing was changed; `Conflict` when it has ended; `System`
    /// when the kernel refused.
    pub async fn update(&self, resources: LinuxResources) -> Result<Vec<String>> {
        match self.call(Call::Update(Box::new(resources)), vec![]).await? {
            Answer::Updated(notes) => Ok(notes),
            other => Err(unexpected("Update", &other)),
        }
    }

    /// Ids of its processes in the host's namespace.
    ///
    /// # Errors
    /// As [`Control::stats`].
    pub async fn processes(&self) -> Result<Vec<i32>> {
        match self.call(Call::Processes, vec![]).await? {
            Answer::Processes(pids) => Ok(pids),
            other => Err(unexpected("Processes", &other)),
        }
    }

    /// Asks for one [`Event::LogGrew`] when the log grows after this. Then read to the end, then wait for the event.
    ///
    /// # Errors
    /// Only `Unavailable`.
    pub async fn watch_log(&self) -> Result<()> {
        self.done(Call::WatchLog, vec![]).await
    }

    /// Sockets of its network namespace, if that was set up from outside.
    ///
    /// # Errors
    /// `NotFound` if it was not.
    pub async fn network(&self) -> Result<NetworkSockets> {
        let (_, fds) = self.call_for_descriptors(Call::Network, vec![]).await?;
        NetworkSockets::from_descriptors(fds)
            .ok_or_else(|| Error::unsupported("the shim sent other network sockets than are known here"))
    }

    /// Gives `what` to be kept as long as the container runs, in place of what was given before.
    ///
    /// # Errors
    /// `Conflict` when it has ended, `Unsupported` by a shim of a release that knows no such call.
    pub async fn keep(&self, what: OwnedFd) -> Result<()> {
        let request = Request { fds: vec![FdRole::Keep], ..Request::new(self.fresh_id(), Call::Keep) };
        let packet = Outgoing::new(&request, vec![what])?;
        self.send(request.id, &packet).await.map(drop)
    }

    /// What was given to be kept last, at the start ([`Network::keep`](super::Network)) or by [`Control::keep`].
    ///
    /// # Errors
    /// `NotFound` if nothing was, `Unsupported` by a shim that keeps nothing.
    pub async fn kept(&self) -> Result<OwnedFd> {
        let (_, mut fds) = self.call_for_descriptors(Call::Kept, vec![]).await?;
        fds.pop().ok_or_else(|| Error::unsupported("the shim answered Kept without a descriptor"))
    }

    async fn done(&self, call: Call, fds: Vec<OwnedFd>) -> Result<()> {
        match self.call(call, fds).await? {
            Answer::Done => Ok(()),
            other => Err(unexpected("a call", &other)),
        }
    }

    async fn call(&self, call: Call, fds: Vec<OwnedFd>) -> Result<Answer> {
        self.call_for_descriptors(call, fds).await.map(|(answer, _)| answer)
    }

    async fn call_for_descriptors(&self, call: Call, fds: Vec<OwnedFd>) -> Result<Reply> {
        let request = Request { fds: vec![FdRole::Stream; fds.len()], ..Request::new(self.fresh_id(), call) };
        let packet = Outgoing::new(&request, fds)?;
        self.send(request.id, &packet).await
    }

    /// An id that no call of this connection has had.
    pub(super) fn fresh_id(&self) -> u64 {
        self.link().next.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends `packet`, a request with `id`, and waits for its reply.
    async fn send(&self, id: u64, packet: &Outgoing) -> Result<Reply> {
        let reply = self.submit(id, packet).await?;
        self.reply(reply).await
    }

    /// Sends `packet`, a request with `id`, and gives what its reply comes by. The shim has not seen one that fails here.
    pub(super) async fn submit(
        &self,
        id: u64,
        packet: &Outgoing,
    ) -> Result<oneshot::Receiver<Result<Reply>>> {
        let (sender, reply) = oneshot::channel();
        {
            let mut state = self.link().state();
            if let Some(closed) = &state.closed {
                return Err(closed.clone());
            }
            state.waiting.insert(id, sender);
        }
        if let Err(e) = self.link().socket.send(packet).await {
            self.link().state().waiting.remove(&id);
            return Err(gone(&e));
        }
        Ok(reply)
    }

    /// Waits for what [`Control::submit`] gave.
    pub(super) async fn reply(&self, reply: oneshot::Receiver<Result<Reply>>) -> Result<Reply> {
        reply.await.unwrap_or_else(|_| Err(self.link().closed()))
    }

    fn link(&self) -> &Link {
        &self.handle.link
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

// === impl Events ===

impl Events {
    /// The next event; `None` when the connection is closed. A connection that closes without [`Event::Exited`] means that
    /// the shim was killed (or that every [`Control`] was dropped).
    pub async fn next(&mut self) -> Option<Event> {
        self.queue.recv().await
    }
}

// === impl Link ===

impl Link {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the connection is closed.
    fn closed(&self) -> Error {
        self.state()
            .closed
            .clone()
            .unwrap_or_else(|| gone(&io::Error::from(io::ErrorKind::ConnectionAborted)))
    }

    fn close(&self, why: Error) {
        let mut state = self.state();
        for (_, waiting) in state.waiting.drain() {
            // A caller that has gone away does not need its answer.
            let _ = waiting.send(Err(why.clone()));
        }
        state.closed = Some(why);
    }
}

/// Reads until the connection ends.
async fn read(link: Arc<Link>, events: mpsc::UnboundedSender<Event>, hello: oneshot::Sender<()>) {
    let mut hello = Some(hello);
    let why = loop {
        match link.socket.receive().await {
            Ok(Some(packet)) => {
                if let Err(why) = dispatch(&link, packet, &events, &mut hello) {
                    break why;
                }
            }
            Ok(None) => break gone(&io::Error::from(io::ErrorKind::UnexpectedEof)),
            Err(e) => break gone(&e),
        }
    };
    link.close(why);
}

fn dispatch(
    link: &Link,
    packet: Incoming,
    events: &mpsc::UnboundedSender<Event>,
    hello: &mut Option<oneshot::Sender<()>>,
) -> Result<()> {
    match packet.parse() {
        Ok(Message::Hello { version: VERSION, shim_pid }) => {
            link.state().shim_pid = Some(shim_pid);
            if let Some(hello) = hello.take() {
                let _ = hello.send(());
            }
        }
        Ok(Message::Hello { version, .. }) => return crate::protocol::check_version(version),
        Ok(Message::Reply { id, result }) => {
            if let Some(waiting) = link.state().waiting.remove(&id) {
                let _ = waiting.send(result.map(|answer| (answer, packet.fds)));
            }
        }
        // Nobody listens: events are only news.
        Ok(Message::Event(event)) => drop(events.send(event)),
        // A later shim may say things that this version has no word for; only a reply has somebody waiting for it.
        Err(e) => match packet.parse::<UnreadableReply>() {
            Ok(UnreadableReply { reply: ReplyId { id } }) => {
                if let Some(waiting) = link.state().waiting.remove(&id) {
                    let _ = waiting.send(Err(e));
                }
            }
            Err(_) => return Ok(()),
        },
    }
    Ok(())
}

#[derive(serde::Deserialize)]
struct UnreadableReply {
    reply: ReplyId,
}

#[derive(serde::Deserialize)]
struct ReplyId {
    id: u64,
}

fn reach(socket: &Path) -> Result<OwnedFd> {
    let gone = |e| {
        let text = format!("connect({}): {e}: no tare-shim is there", socket.display());
        Error::new(ErrorKind::Unavailable, text)
    };
    dial(socket).map_err(gone)
}

fn dial(path: &Path) -> io::Result<OwnedFd> {
    // By descriptor of the directory: a socket's address holds 108 bytes, a path may have 4096.
    let (dir, name) = (path.parent().unwrap_or(Path::new("/")), path.file_name().unwrap_or_default());
    let dir = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let address = SocketAddrUnix::new(crate::wire::path_below(&dir, name))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

fn gone(cause: &io::Error) -> Error {
    let what = match cause.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => {
            "it has closed its control socket".to_owned()
        }
        _ => format!("control socket: {cause}"),
    };
    Error::new(ErrorKind::Unavailable, format!("the container's monitor (tare-shim) is gone: {what}"))
}

fn unexpected(call: &str, answer: &Answer) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("the shim answered {call} with {answer:?}, which this version does not expect"),
    )
}
