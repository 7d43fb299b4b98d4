//! What a call to the daemon can fail with, in the words that users of the Docker command line know.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A failed call to the daemon.
#[derive(Debug)]
pub struct ClientError {
    what: String,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Connect { socket: PathBuf, source: io::Error },
    Io(io::Error),
    Protocol(String),
    Api { status: u16, message: String },
}

/// What kind of failure it was, for callers that decide by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Nobody listens on the socket, or it is not there.
    NotListening,
    /// The socket is there and this user may not use it.
    Forbidden,
    /// Reading or writing failed halfway.
    Io,
    /// The daemon's answer was not what HTTP or the API says.
    Protocol,
    /// The daemon answered with this error status.
    Api(u16),
}

// === impl ClientError ===

impl ClientError {
    pub(super) fn connect(socket: &Path, source: io::Error) -> Self {
        Self { what: String::new(), inner: Inner::Connect { socket: socket.to_owned(), source } }
    }

    pub(super) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self { what: what.into(), inner: Inner::Io(source) }
    }

    pub(super) fn protocol(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { what: what.into(), inner: Inner::Protocol(detail.into()) }
    }

    pub(super) fn decode(what: impl Into<String>, error: &serde_json::Error) -> Self {
        Self::protocol(what, format!("the answer is not the JSON that was due: {error}"))
    }

    /// An error status with the body that came along: `{"message": ...}` or, from a stranger, anything.
    pub(super) fn api(what: impl Into<String>, status: u16, body: &[u8]) -> Self {
        let message = serde_json::from_slice::<serde_json::Value>(body)
            .ok()
            .and_then(|v| v.get("message").and_then(|m| m.as_str()).map(str::to_owned))
            .unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned());
        let message = if message.is_empty() { format!("status {status} without a message") } else { message };
        Self { what: what.into(), inner: Inner::Api { status, message } }
    }

    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        match &self.inner {
            Inner::Connect { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                ErrorKind::Forbidden
            }
            Inner::Connect { source, .. } => match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ErrorKind::NotListening,
                _ => ErrorKind::Io,
            },
            Inner::Io(_) => ErrorKind::Io,
            Inner::Protocol(_) => ErrorKind::Protocol,
            Inner::Api { status, .. } => ErrorKind::Api(*status),
        }
    }

    /// The daemon does not have the API version that the request was for.
    pub(super) fn is_for_version(&self) -> bool {
        let too_new = |message: &str| message.contains("client version") && message.contains("is too new");
        self.kind() == ErrorKind::Api(400) && self.api_message().is_some_and(too_new)
    }

    /// The daemon's own message, if it was the daemon that refused.
    pub fn api_message(&self) -> Option<&str> {
        match &self.inner {
            Inner::Api { message, .. } => Some(message),
            _ => None,
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.inner {
            Inner::Connect { socket, source } if self.kind() == ErrorKind::Forbidden => write!(
                f,
                "permission denied while trying to connect to the daemon socket at unix://{} ({source}); \
                 run as root or join the group that owns the socket",
                socket.display()
            ),
            Inner::Connect { socket, source } => write!(
                f,
                "Cannot connect to the daemon at unix://{}. Is the daemon running? (connect: {source})",
                socket.display()
            ),
            Inner::Io(source) => {
                write!(f, "the connection to the daemon broke during {}: {source}", self.what)
            }
            Inner::Protocol(detail) => write!(f, "unexpected answer to {}: {detail}", self.what),
            Inner::Api { message, .. } => write!(f, "Error response from daemon: {message}"),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.inner {
            Inner::Connect { source, .. } | Inner::Io(source) => Some(source),
            _ => None,
        }
    }
}
