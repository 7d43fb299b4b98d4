//! The process that has the shared namespace: `tared network-keeper SOCKET PASTA`.
//!
//! ```text
//!   one thread   stays in the host's namespace, keeps pasta running        ([`outside`])
//!   the others   are in a new one: answer calls, forward published ports   ([`forward`])
//! ```
//!
//! With one more argument its standard input is the namespace, which an earlier keeper had that was killed.
//!
//! It ends when it is told to ([`Call::End`], SIGTERM), and the namespace with it.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::{fs, thread};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use tare_model::{Error, Result};
use tare_sys::netlink::{self, Socket, link};
use tare_sys::process::{Namespaces, setns, unshare};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc as queue;

use super::call::{self, Answer, Call};
use super::forward::Forwards;
use super::outside::{self, News};

/// The word after the program's name.
pub const WORD: &str = "network-keeper";

/// The argument of a keeper that is given its namespace.
const GIVEN: &str = "given";

/// Seconds that a keeper may take to be ready or say why not; it waits ten for pasta.
const PATIENCE: i64 = 30;

/// A call, whose it is, and how to answer.
type Asked = (Call, Option<OwnedFd>, UnixStream);

/// Starts a keeper, in a namespace that there is already or one of its own, and waits until it is ready.
///
/// # Errors
/// What it says of why it is not.
pub(super) fn spawn(
    program: &Path,
    socket: &Path,
    pasta: &Path,
    namespace: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let failed = |e: std::io::Error| Error::system(format!("{} {WORD}: {e}", program.display()));
    let given = namespace.map(|namespace| namespace.try_clone_to_owned()).transpose().map_err(failed)?;
    let mut child = Command::new(program)
        .arg(WORD)
        .args([socket, pasta])
        .args(namespace.map(|_| GIVEN))
        .stdin(given.map_or_else(Stdio::null, Stdio::from))
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        if !speaks(&stdout) {
            // It has ended already, or has to.
            let _ = (child.kill(), child.wait());
            let silent =
                format!("{} {WORD} has not said for {PATIENCE} s whether it is ready", program.display());
            return Err(Error::system(silent));
        }
        BufReader::new(stdout).read_line(&mut said).map_err(failed)?;
    }
    let reap = move || drop(child.wait());
    thread::Builder::new().name("reaper".into()).spawn(reap).map_err(failed)?;
    serde_json::from_str(&said)
        .unwrap_or_else(|_| Err(Error::system(format!("{} {WORD} ended without a word", program.display()))))
}

/// Whether it says something in time. What it says is one line, written at once.
fn speaks(stdout: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(stdout, PollFlags::IN)];
    let patience = Timespec { tv_sec: PATIENCE, tv_nsec: 0 };
    rustix::io::retry_on_intr(|| poll(&mut fds, Some(&patience))) != Ok(0)
}

/// Is the keeper, with the arguments after [`WORD`]. Returns when it has been told to end.
///
/// # Errors
/// What the kernel or pasta refused; standard output has it too, for who waits there.
pub fn main(args: impl Iterator<Item = OsString>) -> Result<()> {
    let args: Vec<PathBuf> = args.map(PathBuf::from).collect();
    let (socket, pasta, is_given) = match args.as_slice() {
        [socket, pasta] => (socket, pasta, false),
        [socket, pasta, given] if given.as_os_str() == GIVEN => (socket, pasta, true),
        _ => return Err(Error::invalid(format!("usage: tared {WORD} SOCKET PASTA [{GIVEN}] (by tared)"))),
    };
    // It leads a session of its own already, if anything.
    let _ = rustix::process::setsid();
    let kept = Kept::make(socket, pasta, is_given);
    tell(&kept.as_ref().map(drop).map_err(Clone::clone));
    kept?.run(socket)
}

/// Standard output is somebody's who waits for one line.
fn tell(outcome: &Result<()>) {
    let Ok(mut text) = serde_json::to_vec(outcome) else { return };
    text.push(b'\n');
    let mut stdout = std::io::stdout();
    // If nobody listens there is nothing else to do.
    let _ = stdout.write_all(&text).and_then(|()| stdout.flush());
}

/// What it keeps.
struct Kept {
    listener: OwnedFd,
    /// Closed, it ends the thread outside, and pasta.
    stop: OwnedFd,
    outside: thread::JoinHandle<()>,
}

// === impl Kept ===

impl Kept {
    fn make(socket: &Path, pasta: &Path, is_given: bool) -> Result<Self> {
        let listener =
            call::listener(socket).map_err(|e| Error::system(format!("bind({}): {e}", socket.display())))?;
        let (stopped, stop) =
            pipe_with(PipeFlags::CLOEXEC).map_err(|e| Error::system(format!("pipe2(O_CLOEXEC): {e}")))?;
        let (give, namespace) = mpsc::channel::<OwnedFd>();
        let (news, hear) = mpsc::channel::<News>();
        let pasta = pasta.to_path_buf();
        let keep = move || {
            if let Ok(namespace) = namespace.recv() {
                outside::keep(&pasta, &namespace, &stopped, &news);
            }
        };
        // Before this thread leaves the host's namespace.
        let outside = thread::Builder::new().name("outside".into()).spawn(keep);
        let outside = outside.map_err(|e| Error::system(format!("start a thread: {e}")))?;
        let namespace = if is_given { given_namespace()? } else { new_namespace()? };
        // It waits for nothing else.
        let _ = give.send(namespace);
        let kept = Self { listener, stop, outside };
        match outside::first(&hear) {
            Ok(()) => Ok(kept),
            // The pasta of before may be there yet; who runs already is reached meanwhile, and it is tried again.
            Err(_) if is_given => Ok(kept),
            Err(e) => {
                kept.end(socket);
                Err(e)
            }
        }
    }

    fn run(self, socket: &Path) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Error::system(format!("start the runtime: {e}")))?;
        let listener = self.listener.try_clone();
        let last = runtime.block_on(async {
            let failed = |e: std::io::Error| Error::system(format!("listen({}): {e}", socket.display()));
            serve(UnixListener::from_std(StdListener::from(listener.map_err(failed)?)).map_err(failed)?).await
        });
        self.end(socket);
        // Who waits for this end sees nothing of ours afterwards.
        if let Some(last) = last? {
            answer(&last, &Ok(Vec::new()));
        }
        Ok(())
    }

    fn end(self, socket: &Path) {
        let _ = fs::remove_file(socket);
        drop(self.stop);
        // It cannot panic, and if it did, it would be gone.
        let _ = self.outside.join();
    }
}

/// Moves this thread to the network namespace that is its standard input.
fn given_namespace() -> Result<OwnedFd> {
    let given = std::io::stdin().as_fd().try_clone_to_owned();
    let given = given.map_err(|e| Error::system(format!("dup(standard input): {e}")))?;
    setns(given.as_fd(), Namespaces::NET)
        .map_err(|e| Error::system(format!("setns(standard input, CLONE_NEWNET): {e}")))?;
    Ok(given)
}

/// Moves this thread to a network namespace of its own, with a loopback.
fn new_namespace() -> Result<OwnedFd> {
    unshare(Namespaces::NET).map_err(|e| Error::system(format!("unshare(CLONE_NEWNET): {e}")))?;
    let mut socket = Socket::open(netlink::Protocol::Route)
        .map_err(|e| Error::system(format!("socket(AF_NETLINK, NETLINK_ROUTE): {e}")))?;
    let up = link::Change { up: Some(true), ..link::Change::default() };
    link::find(&mut socket, "lo")
        .and_then(|lo| link::change(&mut socket, lo.index, &up))
        .map_err(|e| Error::system(format!("RTM_SETLINK(lo, up): {e}")))?;
    let path = "/proc/thread-self/ns/net";
    fs::File::open(path).map(OwnedFd::from).map_err(|e| Error::system(format!("open({path}): {e}")))
}

/// Answers calls until one of them is the last, which is given back unanswered.
async fn serve(listener: UnixListener) -> Result<Option<UnixStream>> {
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|e| Error::system(format!("sigaction(SIGTERM): {e}")))?;
    let (sender, mut calls) = queue::channel::<Asked>(16);
    let mut forwards = Forwards::default();
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(None),
            // After an error that stays, others may still call.
            accepted = listener.accept() => if let Ok((connection, _)) = accepted {
                tokio::spawn(hear(connection, sender.clone()));
            },
            Some((call, socket, connection)) = calls.recv() => {
                if call == Call::End {
                    return Ok(Some(connection));
                }
                answer(&connection, &obey(&mut forwards, call, socket).await);
            }
        }
    }
}

/// Waits for the one call of a connection; a daemon has one without any, to see that this process lives.
async fn hear(connection: UnixStream, calls: queue::Sender<Asked>) {
    let asked = connection.async_io(Interest::READABLE, || call::receive(connection.as_fd())).await;
    if let Ok(Some((call, socket))) = asked {
        let _ = calls.send((call, socket, connection)).await;
    }
}

async fn obey(forwards: &mut Forwards, call: Call, socket: Option<OwnedFd>) -> Answer {
    match call {
        Call::Publish(published) => {
            let socket = socket.ok_or_else(|| Error::invalid("a port is published without its socket"))?;
            forwards.add(&published, socket)?;
        }
        Call::Unpublish(published) => forwards.remove(&published).await,
        Call::List => return Ok(forwards.list()),
        Call::End => {}
    }
    Ok(Vec::new())
}

fn answer(connection: &UnixStream, answer: &Answer) {
    let Ok(text) = serde_json::to_vec(answer) else { return };
    if let Err(e) = rustix::net::send(connection, &text, rustix::net::SendFlags::NOSIGNAL) {
        tracing::debug!("send(to the daemon): {e}");
    }
}
