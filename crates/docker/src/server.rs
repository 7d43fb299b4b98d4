//! Listener and connections.
//!
//! ```text
//! accept ──▶ HTTP/1 requests one after another ──hijack──▶ raw bytes ──▶ closed
//!                 │ idle for a minute, head too large, client gone
//!                 └──▶ closed
//! ```
//!
//! Each connection is one task. It holds its client's socket and the one request under way; when it ends, for
//! whatever reason, both are gone.

mod connection;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::backend::Backend;
use crate::routes;

/// What the server allows its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; further clients wait in the listener's queue.
    pub connections: usize,
    /// How long a client may take to send a request's head, and a connection may idle.
    pub head_timeout: Duration,
    /// How long requests under way may take to finish once the server is told to stop.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 8192, head_timeout: Duration::from_secs(60), grace: Duration::from_secs(2) }
    }
}

/// Serves the API on `listener` until `stop` resolves.
///
/// # Errors
/// The listener itself failed. What goes wrong on one connection ends that connection only.
pub async fn serve<B: Backend>(
    listener: UnixListener,
    backend: Arc<B>,
    limits: Limits,
    stop: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let router = Arc::new(routes::table::<B>());
    let places = Arc::new(Semaphore::new(limits.connections));
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    let result = loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = &mut stop => break Ok(()),
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((client, place)) => {
                let served = connection::Served { router: router.clone(), backend: backend.clone(), limits };
                let stopped = stopped.clone();
                connections.spawn(async move {
                    connection::run(client, served, stopped).await;
                    drop(place);
                });
            }
            Err(e) if is_shortage(&e) => {
                tracing::warn!("accept: {e}; waiting for a connection to end");
                if connections.join_next().await.is_none() {
                    break Err(e);
                }
            }
            // The client gave up between connecting and being accepted.
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(e) => break Err(e),
        }
    };
    drop(listener);
    let _ = stopping.send(true);
    let _ =
        tokio::time::timeout(limits.grace, async { while connections.join_next().await.is_some() {} }).await;
    result
}

async fn accept(
    listener: &UnixListener,
    places: &Arc<Semaphore>,
) -> io::Result<(tokio::net::UnixStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (client, _) = listener.accept().await?;
    Ok((client, place))
}

/// Out of descriptors or memory (ENFILE, EMFILE, ENOMEM, ENOBUFS): passes when something is closed.
fn is_shortage(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(23 | 24 | 12 | 105))
}
