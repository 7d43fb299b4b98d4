//! One request, as handlers see it.

use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, UPGRADE};
use serde::de::DeserializeOwned;
use tare_docker_api::Version;
use tare_model::Error;

use super::Query;
use super::body::JSON_MAX;
use crate::error::{Fault, Result};

/// So much of a body that is too large is still taken off the socket: a client in the middle of writing it would otherwise
/// see a broken pipe instead of the answer.
const DRAIN_MAX: usize = 64 << 20;

/// One request: what was asked, of which version, with which parameters.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) version: Version,
    pub(crate) query: Query,
    pub(super) headers: HeaderMap,
    pub(super) params: Vec<(&'static str, String)>,
    pub(super) body: Option<Incoming>,
}

// === impl Call ===

impl Call {
    /// The part of the path that the route calls `name`.
    pub(crate) fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(n, _)| *n == name).map_or("", |(_, value)| value)
    }

    /// The client asks for the connection itself (`Upgrade: tcp`).
    pub(crate) fn wants_upgrade(&self) -> bool {
        self.headers.contains_key(UPGRADE)
    }

    /// The body, to be read piece by piece.
    pub(crate) fn take_body(&mut self) -> Option<Incoming> {
        self.body.take()
    }

    /// The whole body, at most [`JSON_MAX`] bytes of it.
    pub(crate) async fn bytes(&mut self) -> Result<bytes::Bytes> {
        let Some(mut body) = self.take_body() else { return Ok(bytes::Bytes::new()) };
        let (mut whole, mut length) = (BytesMut::new(), 0);
        while let Some(frame) = body.frame().await {
            let bad =
                |e| Fault::new(StatusCode::BAD_REQUEST, format!("the request body cannot be read: {e}"));
            let Ok(piece) = frame.map_err(bad)?.into_data() else { continue };
            length += piece.len();
            if length <= JSON_MAX {
                whole.extend_from_slice(&piece);
            } else if length > DRAIN_MAX {
                break;
            }
        }
        if length > JSON_MAX { Err(Fault::too_large(JSON_MAX)) } else { Ok(whole.freeze()) }
    }

    /// Takes a body that says how long it is off a connection that is about to leave HTTP: some clients send one where none
    /// is due, and it is not input. Without a length the bytes that follow are the stream already.
    pub(crate) async fn skip_sized_body(&mut self) -> Result<()> {
        if self.headers.contains_key(CONTENT_LENGTH) {
            self.bytes().await?;
        }
        Ok(())
    }

    /// The body as JSON. Absent where the client sent none, which some requests allow.
    ///
    /// The media type is required: a page in a browser can post plain text anywhere, but not JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        let bytes = self.bytes().await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let media = self.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
        let essence = media.split(';').next().unwrap_or("").trim();
        if !essence.eq_ignore_ascii_case(tare_docker_api::media::JSON) {
            return Err(Error::invalid(format!(
                "unsupported Content-Type header ({media}): must be 'application/json'"
            ))
            .into());
        }
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Some).map_err(|e| Error::invalid(format!("invalid JSON: {e}")).into())
    }

    /// As [`Call::json`], for requests that must have a body.
    pub(crate) async fn required_json<T: DeserializeOwned>(&mut self) -> Result<T> {
        let missing = || Error::invalid("invalid JSON: got EOF while reading request body");
        Ok(self.json().await?.ok_or_else(missing)?)
    }
}
