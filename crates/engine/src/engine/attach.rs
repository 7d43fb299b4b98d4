//! Attaching: a socket pair, one end for the monitor, one for the face.

use std::os::fd::OwnedFd;

use tare_model::{Error, Result};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::Engine;
use crate::api::options::{AttachOptions, LogOptions};
use crate::api::stream::{AttachStream, LogStream};
use crate::lifecycle::handle::Verb;
use crate::logs;

/// Connects to a container's streams; see [`Engine::attach`].
pub(super) async fn attach(engine: &Engine, key: &str, options: AttachOptions) -> Result<AttachStream> {
    let handle = engine.core.table.get(key)?;
    let tty = handle.view().fixed.config.process.tty;
    let (ours, theirs) = pair()?;
    if !options.logs {
        if options.stream {
            handle.tell(key, Verb::Attach(options.streams, into_fd(theirs)?)).await?;
        }
        return Ok(AttachStream::new(ours, tty));
    }
    let wanted = LogOptions {
        stdout: options.streams.stdout,
        stderr: options.streams.stderr,
        ..LogOptions::default()
    };
    // Attached first: what is written while the log is read waits in the socket, and may then come twice, as with
    // Docker; nothing is lost.
    let live = if options.stream {
        let (near, far) = pair()?;
        handle.tell(key, Verb::Attach(options.streams, into_fd(far)?)).await?;
        Some(near)
    } else {
        None
    };
    let lines = logs::open(handle, wanted)?;
    tokio::spawn(replay(lines, live, theirs, tty));
    Ok(AttachStream::new(ours, tty))
}

/// First the log, then the live streams, until either side ends.
async fn replay(mut lines: LogStream, live: Option<UnixStream>, mut peer: UnixStream, tty: bool) {
    while let Some(Ok(line)) = lines.next().await {
        let sent = async {
            if !tty {
                peer.write_all(&frame(line.stderr, line.bytes.len())).await?;
            }
            peer.write_all(&line.bytes).await
        };
        if sent.await.is_err() {
            return;
        }
    }
    if let Some(mut live) = live {
        // Either side's end or error is the end of the attachment.
        let _ = tokio::io::copy_bidirectional(&mut live, &mut peer).await;
    }
}

/// The head of a frame of Docker's multiplexed streams.
fn frame(stderr: bool, length: usize) -> [u8; 8] {
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [if stderr { 2 } else { 1 }, 0, 0, 0, length[0], length[1], length[2], length[3]]
}

/// A connected pair.
pub(super) fn pair() -> Result<(UnixStream, UnixStream)> {
    UnixStream::pair().map_err(|e| Error::system(format!("socketpair(AF_UNIX, SOCK_STREAM): {e}")))
}

/// The descriptor, for the monitor.
pub(super) fn into_fd(socket: UnixStream) -> Result<OwnedFd> {
    let socket =
        socket.into_std().map_err(|e| Error::system(format!("epoll_ctl(DEL, attach socket): {e}")))?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_dockers_head() {
        assert_eq!(frame(false, 3), [1, 0, 0, 0, 0, 0, 0, 3]);
        assert_eq!(frame(true, 0x0102_0304), [2, 0, 0, 0, 1, 2, 3, 4]);
    }
}
