//! One client: requests one after another, and perhaps a hijack at the end.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tare_docker_api::Version;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};

use super::Limits;
use crate::backend::Backend;
use crate::http::{Body, Hijack, Reply, Router};

/// Head of a request at most; a path with filters has a few hundred bytes.
const HEAD_MAX: usize = 64 << 10;

/// What a connection serves.
pub(super) struct Served<B> {
    pub(super) router: Arc<Router<B>>,
    pub(super) backend: Arc<B>,
    pub(super) limits: Limits,
}

/// Serves `client` until it goes, errs, idles too long, or the server stops.
pub(super) async fn run<B: Backend>(
    client: UnixStream,
    served: Served<B>,
    mut stopped: watch::Receiver<bool>,
) {
    let (hijacks, mut hijacked) = mpsc::channel(1);
    let Served { router, backend, limits } = served;
    let service = service_fn(move |request: Request<Incoming>| {
        let (router, backend, hijacks) = (router.clone(), backend.clone(), hijacks.clone());
        async move { Ok::<_, Infallible>(respond(&router, backend, hijacks, request).await) }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(client), service);
    let hijack = loop {
        tokio::select! {
            biased;
            Some(hijack) = hijacked.recv() => break hijack,
            ended = &mut connection => return log_end(ended),
            Ok(()) = stopped.changed() => Pin::new(&mut connection).graceful_shutdown(),
        }
    };
    let parts = connection.into_parts();
    take_over(parts.io.into_inner(), parts.read_buf, hijack).await;
}

/// One request and its response. A hijack goes to the connection's task instead, which then drops this future.
async fn respond<B: Backend>(
    router: &Router<B>,
    backend: Arc<B>,
    hijacks: mpsc::Sender<Hijack>,
    request: Request<Incoming>,
) -> Response<Body> {
    let begun = Instant::now();
    let (method, uri) = (request.method().clone(), request.uri().clone());
    match router.answer(backend, request).await {
        Reply::Http(mut response) => {
            tracing::debug!(%method, %uri, status = response.status().as_u16(), took = ?begun.elapsed(), "answered");
            for (name, value) in standard_headers() {
                response.headers_mut().insert(name, HeaderValue::from_static(value));
            }
            response
        }
        Reply::Hijack(hijack) => {
            tracing::debug!(%method, %uri, took = ?begun.elapsed(), "hijacked");
            let _ = hijacks.send(hijack).await;
            pending().await
        }
    }
}

/// The headers of every answer.
fn standard_headers() -> [(&'static str, &'static str); 4] {
    const SERVER: &str = concat!("tare/", env!("CARGO_PKG_VERSION"), " (linux)");
    [
        ("api-version", api_version()),
        ("ostype", "linux"),
        ("docker-experimental", "false"),
        ("server", SERVER),
    ]
}

/// The newest version, as text that lives for ever.
fn api_version() -> &'static str {
    static TEXT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    TEXT.get_or_init(|| Version::MAX.to_string())
}

/// Writes the head by hand, for 200 without a length is no HTTP that a library would write, then lets the handler have
/// the connection.
async fn take_over(mut client: UnixStream, early: Bytes, hijack: Hijack) {
    let mut head = match hijack.upgrade {
        true => "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n".to_owned(),
        false => "HTTP/1.1 200 OK\r\n".to_owned(),
    };
    head += &format!("Content-Type: {}\r\n", hijack.content_type);
    for (name, value) in standard_headers() {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    match client.write_all(head.as_bytes()).await {
        Ok(()) => (hijack.serve)(client, early).await,
        Err(e) => tracing::debug!("hijacked client is gone: {e}"),
    }
}

fn log_end(ended: hyper::Result<()>) {
    if let Err(e) = ended {
        // Clients come and go as they like; the reason matters only to someone who is looking for one.
        let cause = std::error::Error::source(&e).and_then(|s| s.downcast_ref::<io::Error>());
        tracing::debug!("connection ended: {e}{}", cause.map(|c| format!(" ({c})")).unwrap_or_default());
    }
}
