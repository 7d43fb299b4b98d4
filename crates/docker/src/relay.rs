//! A hijacked connection and the standard streams of a process, bytes copied 1:1 both ways.
//!
//! ```text
//! client ──input──▶ [detach keys] ──▶ process      end of input: the process's stdin is closed, output goes on
//! client ◀─output───────────────────── process     end of output: the client's connection is closed
//! ```
//!
//! It also ends when the client types its detach sequence, or is gone altogether (both directions closed), which a
//! quiet process would otherwise hide for ever.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use bytes::Bytes;
use tare_engine::{AttachStream, DetachKeys};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{ReadHalf, WriteHalf};

const INPUT_CHUNK: usize = 32 << 10;
const OUTPUT_CHUNK: usize = 256 << 10;

/// How long a client may take to close its side after it was told that there is no more output.
const GOODBYE: Duration = Duration::from_secs(5);

/// What to do with what the client types.
pub(crate) enum Input {
    /// It did not ask to attach standard input.
    Discard,
    /// Pass it on; with keys, watch for them.
    Pass(Option<DetachKeys>),
}

enum End {
    Output,
    Detached,
    Gone,
}

/// Copies until one of the ends described above.
pub(crate) async fn relay(mut client: UnixStream, early: Bytes, mut process: AttachStream, input: Input) {
    let gone = match Hangup::of(&client) {
        Ok(hangup) => hangup,
        Err(e) => return tracing::warn!("cannot watch an attached client: {e}"),
    };
    let end = {
        let (from_client, to_client) = client.split();
        let (from_process, to_process) = process.socket.split();
        tokio::select! {
            biased;
            () = output(from_process, to_client) => End::Output,
            () = feed(early, from_client, to_process, input) => End::Detached,
            () = gone.wait() => End::Gone,
        }
    };
    match end {
        End::Output => {
            process.settled().await;
            drop(process);
            say_goodbye(client).await;
        }
        End::Detached => {
            drop(process);
            say_goodbye(client).await;
        }
        End::Gone => {}
    }
}

/// Process to client, until either ends.
async fn output(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) {
    let mut buffer = vec![0; OUTPUT_CHUNK];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if to.write_all(buffer.get(..n).unwrap_or_default()).await.is_err() {
            return;
        }
    }
}

/// Client to process. Returns only when the client detaches: the end of input is not the end of the relay.
async fn feed(early: Bytes, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, input: Input) {
    let (mut open, mut keys) = match input {
        Input::Pass(keys) => (true, keys),
        Input::Discard => (false, None),
    };
    if pass(&early, &mut open, &mut keys, &mut to).await {
        return;
    }
    let mut buffer = vec![0; INPUT_CHUNK];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if pass(buffer.get(..n).unwrap_or_default(), &mut open, &mut keys, &mut to).await {
            return;
        }
    }
    if open {
        let _ = to.shutdown().await;
    }
    std::future::pending().await
}

/// Passes one read on; true if the detach sequence was in it. A process that has closed its input is no reason to stop
/// reading: the client would block.
async fn pass(bytes: &[u8], open: &mut bool, keys: &mut Option<DetachKeys>, to: &mut WriteHalf<'_>) -> bool {
    if bytes.is_empty() {
        return false;
    }
    let Some(keys) = keys else {
        *open = *open && to.write_all(bytes).await.is_ok();
        return false;
    };
    let fed = keys.feed(bytes);
    *open = *open && to.write_all(&fed.pass).await.is_ok();
    fed.detached
}

/// Ends output and takes what the client still sends: closing a socket with unread bytes would reset the connection
/// before the client has read its end.
async fn say_goodbye(mut client: UnixStream) {
    let _ = client.shutdown().await;
    let rest = async {
        let mut buffer = vec![0; INPUT_CHUNK];
        while let Ok(1..) = client.read(&mut buffer).await {}
    };
    let _ = tokio::time::timeout(GOODBYE, rest).await;
}

/// Tells that a client has closed both directions, which reading cannot: it sees only the end of input.
struct Hangup(AsyncFd<OwnedFd>);

impl Hangup {
    #[expect(
        deprecated,
        reason = "its successor is unsafe for types that may swap their descriptor; OwnedFd cannot"
    )]
    fn of(client: &UnixStream) -> io::Result<Self> {
        // Priority data does not exist on these sockets, so the only thing this registration ever reports is the
        // hang-up, which epoll reports to everyone.
        let fd = client.as_fd().try_clone_to_owned()?;
        AsyncFd::with_interest(fd, Interest::PRIORITY).map(Self)
    }

    async fn wait(self) {
        let _ = self.0.ready(Interest::PRIORITY).await;
    }
}

#[cfg(test)]
mod tests;
