//! `GET /containers/{id}/stats`: once, or every second.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use tare_docker_api::media;
use tare_engine::{ContainerView, StatsSample};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::line;
use crate::backend::Containers;
use crate::error::Result;
use crate::http::{Call, Reply};
use crate::show::stats::document;

/// Docker's pace; clients compute rates from it.
const PACE: Duration = Duration::from_secs(1);

struct Watch<B> {
    backend: Arc<B>,
    view: ContainerView,
    ticks: Interval,
    before: Option<StatsSample>,
}

pub(crate) async fn stats<B: Containers>(backend: Arc<B>, call: Call) -> Result<Reply> {
    let view = backend.inspect(call.param("id"))?;
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = Watch { backend, view, ticks, before: None };
    if call.query.flag_or("stream", true) {
        return Ok(Reply::stream(media::JSON, samples(watch)));
    }
    let mut sample = watch.next().await?;
    // One sample says how much, but not how fast; a client that wants rates waits for the second.
    if sample.running && !call.query.flag("one-shot") {
        watch.before = Some(sample);
        sample = watch.next().await?;
    }
    Ok(Reply::ok(&document(&watch.view, &sample, watch.before.as_ref())))
}

// === impl Watch ===

impl<B: Containers> Watch<B> {
    async fn next(&mut self) -> tare_model::Result<StatsSample> {
        self.ticks.tick().await;
        self.backend.stats(self.view.id.as_str()).await
    }
}

/// Until the client goes or the container is removed.
fn samples<B: Containers>(watch: Watch<B>) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold(watch, |mut watch| async move {
        let sample = watch.next().await.ok()?;
        let shown = document(&watch.view, &sample, watch.before.as_ref());
        watch.before = Some(sample).filter(|s| s.running);
        Some((line(&shown), watch))
    })
}
