//! What is asked of the daemon: method, path, query and body.

use serde::Serialize;
use std::fmt::Write as _;
use std::io::Read;

/// HTTP method; the Engine API has these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Changes or creates.
    Post,
    /// Removes.
    Delete,
    /// Asks for the headers alone.
    Head,
}

/// Body of a request.
pub(super) enum Payload<'a> {
    Empty,
    Json(Vec<u8>),
    /// Bytes of unknown length, sent chunked.
    Stream(&'a mut dyn Read),
}

/// One request, built up and then sent once.
pub struct Request<'a> {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) upgrade: bool,
    pub(super) payload: Payload<'a>,
}

// === impl Request ===

impl<'a> Request<'a> {
    /// A request for `path`, which starts with a slash and names no version: the client adds its own.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), query: String::new(), upgrade: false, payload: Payload::Empty }
    }

    /// `GET path`.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::Get, path)
    }

    /// `POST path`.
    pub fn post(path: impl Into<String>) -> Self {
        Self::new(Method::Post, path)
    }

    /// `DELETE path`.
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::Delete, path)
    }

    /// Adds a query parameter; name and value are encoded here.
    #[must_use]
    pub fn query(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.query.push(if self.query.is_empty() { '?' } else { '&' });
        self.query.push_str(&percent_encode(name));
        self.query.push('=');
        self.query.push_str(&percent_encode(value.as_ref()));
        self
    }

    /// Adds a query parameter `name=1` if `on`.
    #[must_use]
    pub fn flag(self, name: &str, on: bool) -> Self {
        if on { self.query(name, "1") } else { self }
    }

    /// Sends `value` as the JSON body.
    ///
    /// # Errors
    /// When `value` cannot be written as JSON (a map with keys that are not strings).
    pub fn json(mut self, value: &impl Serialize) -> super::Result<Self> {
        let bytes = serde_json::to_vec(value).map_err(|e| {
            super::ClientError::protocol(self.describe(), format!("the request is not JSON: {e}"))
        })?;
        self.payload = Payload::Json(bytes);
        Ok(self)
    }

    /// Sends what `source` yields as the body, chunked.
    #[must_use]
    pub fn stream(mut self, source: &'a mut dyn Read) -> Self {
        self.payload = Payload::Stream(source);
        self
    }

    /// Asks for the connection to become a raw stream after the answer.
    #[must_use]
    pub fn upgrade(mut self) -> Self {
        self.upgrade = true;
        self
    }

    /// The same once more, if its body can be had twice.
    pub(super) fn again(&self) -> Option<Request<'static>> {
        let payload = match &self.payload {
            Payload::Empty => Payload::Empty,
            Payload::Json(bytes) => Payload::Json(bytes.clone()),
            Payload::Stream(_) => return None,
        };
        let (path, query) = (self.path.clone(), self.query.clone());
        Some(Request { method: self.method, path, query, upgrade: self.upgrade, payload })
    }

    /// `METHOD /path`, for error texts.
    pub fn describe(&self) -> String {
        format!("{} {}", self.method.as_str(), self.path)
    }

    /// The request head; the body's framing is part of it.
    pub(super) fn head(&self, prefix: &str) -> String {
        let mut head = String::with_capacity(256);
        let _ = write!(
            head,
            "{} {prefix}{}{} HTTP/1.1\r\nHost: docker\r\nUser-Agent: tare/{}\r\n",
            self.method.as_str(),
            self.path,
            self.query,
            env!("CARGO_PKG_VERSION")
        );
        if self.upgrade {
            head.push_str("Connection: Upgrade\r\nUpgrade: tcp\r\n");
        }
        match &self.payload {
            Payload::Empty if self.method == Method::Post => head.push_str("Content-Length: 0\r\n"),
            Payload::Empty => {}
            Payload::Json(bytes) => {
                let _ = write!(head, "Content-Type: application/json\r\nContent-Length: {}\r\n", bytes.len());
            }
            Payload::Stream(_) => {
                head.push_str("Content-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n");
            }
        }
        head.push_str("\r\n");
        head
    }
}

impl Method {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Delete => "DELETE",
            Method::Head => "HEAD",
        }
    }
}

/// Encodes `text` for a query or one path segment: everything but unreserved characters.
pub fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}
