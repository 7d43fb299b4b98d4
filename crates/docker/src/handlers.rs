//! What each route does: read the request, call one verb of the backend, show the answer. No rules of the engine's live
//! here, and each group needs only the backend trait of its name.

pub(crate) mod attach;
pub(crate) mod containers;
pub(crate) mod events;
pub(crate) mod execs;
pub(crate) mod faults;
pub(crate) mod images;
pub(crate) mod listing;
pub(crate) mod logs;
pub(crate) mod networks;
pub(crate) mod ports;
pub(crate) mod prune;
pub(crate) mod stats;
pub(crate) mod system;
pub(crate) mod wait;

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::Serialize;
use tare_model::Error;

use crate::error::Result;
use crate::http::Reply;

/// Refuses what Docker has and this version does not.
pub(crate) async fn refused(what: &'static str) -> Result<Reply> {
    Err(Error::unsupported(what).into())
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// One document of a stream of them, on a line of its own.
fn line(document: &impl Serialize) -> std::io::Result<Bytes> {
    let mut text = serde_json::to_vec(document)?;
    text.push(b'\n');
    Ok(text.into())
}
