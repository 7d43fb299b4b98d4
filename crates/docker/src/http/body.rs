//! Bodies of answers.

use std::convert::Infallible;
use std::io;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;

/// The most bytes of a request body that are read into memory. A create request with an inlined seccomp profile has
/// about 20 KiB.
pub(crate) const JSON_MAX: usize = 2 << 20;

/// Body of any answer: bytes at hand, or a stream of them.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A body that is there already.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// A body that comes piece by piece. An error cuts the connection, which is how HTTP tells a client that what it has
/// is not whole.
pub(crate) fn stream(pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    StreamBody::new(pieces.map_ok(Frame::data)).boxed_unsync()
}
