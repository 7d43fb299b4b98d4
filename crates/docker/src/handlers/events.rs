//! `GET /events`: what happened since a moment, what happens now, until a moment.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use tare_docker_api::{Filters, Version, media, stamp};
use tare_engine::EventStream;
use tokio::time::{Instant, timeout_at};

use super::{line, now};
use crate::backend::System;
use crate::error::Result;
use crate::http::{Call, Reply};
use crate::show::event;

struct Watch {
    events: EventStream,
    filters: Filters,
    version: Version,
    /// The last moment wanted, and when to stop waiting for it.
    until: Option<(u64, Instant)>,
}

pub(crate) async fn events<B: System>(backend: Arc<B>, call: Call) -> Result<Reply> {
    let filters = Filters::parse(call.query.text("filters"))?;
    event::check(&filters)?;
    let since = match call.query.text("since") {
        // Here 0 is a moment, the beginning of all: nothing given means no history at all.
        "0" => Some(0),
        text => stamp::parse_query("since", text)?,
    };
    let until = stamp::parse_query("until", call.query.text("until"))?.map(|at| {
        let left = Duration::from_nanos(at.saturating_sub(now()));
        (at, Instant::now() + left)
    });
    let watch = Watch { events: backend.events(since), filters, version: call.version, until };
    Ok(Reply::stream(media::JSON, lines(watch)))
}

fn lines(watch: Watch) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold(watch, |mut watch| async move {
        loop {
            let next = match watch.until {
                // What has happened already is at hand, so a deadline in the past only ends the waiting.
                Some((_, deadline)) => timeout_at(deadline, watch.events.next()).await.ok()??,
                None => watch.events.next().await?,
            };
            if watch.until.is_some_and(|(last, _)| next.time > last) {
                return None;
            }
            if event::wanted(&next, &watch.filters) {
                return Some((line(&event::document(&next, watch.version)), watch));
            }
        }
    })
}
