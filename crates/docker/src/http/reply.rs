//! What a handler answers.

use std::fmt;
use std::io;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::BoxFuture;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use tare_docker_api::media;
use tokio::net::UnixStream;

use super::body::{self, Body};
use crate::error::Fault;

/// An answer: an HTTP response, or the connection itself.
#[derive(Debug)]
pub(crate) enum Reply {
    Http(Response<Body>),
    Hijack(Hijack),
}

/// The connection leaves HTTP: after a head that announces `content_type`, `serve` owns it. The bytes are what the
/// client sent beyond its request.
pub(crate) struct Hijack {
    pub(crate) content_type: &'static str,
    /// Answer 101 to a client that asked for an upgrade, else 200 as before API 1.22.
    pub(crate) upgrade: bool,
    pub(crate) serve: Box<dyn FnOnce(UnixStream, Bytes) -> BoxFuture<'static, ()> + Send>,
}

// === impl Reply ===

impl Reply {
    /// A JSON document. What cannot be serialized is a bug of ours, told as one.
    pub(crate) fn json(status: StatusCode, document: &impl Serialize) -> Self {
        match serde_json::to_vec(document) {
            Ok(mut text) => {
                text.push(b'\n');
                Self::typed(status, media::JSON, body::full(text))
            }
            Err(e) => {
                Fault::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the answer has no JSON form: {e}"))
                    .into()
            }
        }
    }

    /// 200 and a JSON document.
    pub(crate) fn ok(document: &impl Serialize) -> Self {
        Self::json(StatusCode::OK, document)
    }

    /// A status without a body.
    pub(crate) fn empty(status: StatusCode) -> Self {
        let mut response = Response::new(body::full(Bytes::new()));
        *response.status_mut() = status;
        Self::Http(response)
    }

    /// 204.
    pub(crate) fn done() -> Self {
        Self::empty(StatusCode::NO_CONTENT)
    }

    /// Plain text.
    pub(crate) fn text(text: &'static str) -> Self {
        Self::typed(StatusCode::OK, "text/plain; charset=utf-8", body::full(text))
    }

    /// 200 at once, then the body as it comes.
    pub(crate) fn stream(
        content_type: &'static str,
        pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Self {
        Self::typed(StatusCode::OK, content_type, body::stream(pieces))
    }

    /// Sets a header; the value must be one that a header can hold.
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: &'static str) -> Self {
        if let Self::Http(response) = &mut self {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        self
    }

    fn typed(status: StatusCode, content_type: &'static str, body: Body) -> Self {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self::Http(response)
    }
}

impl From<Fault> for Reply {
    fn from(fault: Fault) -> Self {
        if fault.status == StatusCode::NOT_MODIFIED {
            // HTTP allows no body here, and clients know the reason from what they asked.
            return Self::empty(fault.status);
        }
        Self::json(fault.status, &serde_json::json!({ "message": fault.message }))
    }
}

impl fmt::Debug for Hijack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hijack({}, upgrade: {})", self.content_type, self.upgrade)
    }
}
