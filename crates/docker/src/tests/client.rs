//! A client that writes requests by hand, and the server it talks to.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::fake::Fake;
use crate::server::{Limits, serve};

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server on a socket of its own, and the engine behind it.
pub(super) struct Served {
    pub(super) fake: Arc<Fake>,
    pub(super) socket: PathBuf,
    pub(super) stop: oneshot::Sender<()>,
    pub(super) task: JoinHandle<std::io::Result<()>>,
    _dir: tempfile::TempDir,
}

/// One connection.
pub(super) struct Client(pub(super) UnixStream);

/// An answer taken apart.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

pub(super) fn served() -> Served {
    served_with(Limits::default())
}

pub(super) fn served_with(limits: Limits) -> Served {
    let dir = tempfile::tempdir().expect("tempdir");
    let socket = dir.path().join("api.sock");
    let listener = UnixListener::bind(&socket).expect("bind");
    let fake = Arc::new(Fake::default());
    let (stop, stopped) = oneshot::channel();
    let backend = fake.clone();
    let task = tokio::spawn(async move {
        let stopped = async {
            let _ = stopped.await;
        };
        serve(listener, backend, limits, stopped).await
    });
    Served { fake, socket, stop, task, _dir: dir }
}

/// Waits for what must come.
pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it takes too long")
}

impl Served {
    pub(super) async fn connect(&self) -> Client {
        Client(UnixStream::connect(&self.socket).await.expect("connect"))
    }

    /// One request on a connection of its own.
    pub(super) async fn ask(&self, request: &str) -> Answer {
        let mut client = self.connect().await;
        client.send(request).await;
        client.answer().await
    }

    /// `GET` or whatever `what` begins with, without a body.
    pub(super) async fn call(&self, what: &str) -> Answer {
        self.ask(&format!("{what} HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\n\r\n")).await
    }

    pub(super) async fn post(&self, path: &str, json: &str) -> Answer {
        self.ask(&post(path, json)).await
    }
}

pub(super) fn post(path: &str, json: &str) -> String {
    let length = json.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{json}"
    )
}

impl Client {
    pub(super) async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.expect("write");
    }

    /// Everything up to the empty line.
    pub(super) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon(self.0.read_u8()).await.expect("a head"));
        }
        String::from_utf8(head).expect("ASCII")
    }

    /// Exactly so many bytes.
    pub(super) async fn take(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        soon(self.0.read_exact(&mut bytes)).await.expect("more bytes");
        bytes
    }

    /// Everything up to the end of the connection.
    pub(super) async fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        soon(self.0.read_to_end(&mut bytes)).await.expect("no reset");
        bytes
    }

    /// One piece of a chunked body.
    pub(super) async fn chunk(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(soon(self.0.read_u8()).await.expect("a chunk"));
        }
        let size = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).expect("a size");
        let mut data = self.take(size + 2).await;
        data.truncate(size);
        String::from_utf8(data).expect("text")
    }

    pub(super) async fn answer(&mut self) -> Answer {
        let head = self.head().await;
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        let lower = head.to_ascii_lowercase();
        let length = lower.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let body = match length {
            _ if status == 304 || status == 204 => String::new(),
            Some(n) => String::from_utf8(self.take(n).await).expect("text"),
            None if lower.contains("transfer-encoding: chunked") => {
                let mut body = String::new();
                loop {
                    match self.chunk().await {
                        piece if piece.is_empty() => break body,
                        piece => body += &piece,
                    }
                }
            }
            None => String::new(),
        };
        Answer { status, head, body }
    }
}

impl Answer {
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    pub(super) fn message(&self) -> String {
        self.json()["message"].as_str().expect("a message").to_owned()
    }
}
