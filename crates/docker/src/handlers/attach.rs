//! `POST /containers/{id}/attach`: the connection becomes the container's standard streams.

use std::sync::Arc;

use tare_docker_api::media;
use tare_engine::{AttachOptions, AttachStream, DetachKeys};
use tare_model::Error;
use tare_model::container::AttachedStreams;

use crate::backend::Streams;
use crate::error::Result;
use crate::http::{Call, Hijack, Reply};
use crate::relay::{Input, relay};

pub(crate) async fn attach<B: Streams>(backend: Arc<B>, mut call: Call) -> Result<Reply> {
    call.skip_sized_body().await?;
    let query = &call.query;
    let keys = DetachKeys::parse(query.text("detachKeys"))?;
    let streams = AttachedStreams {
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
    };
    let options = AttachOptions { streams, stream: query.flag("stream"), logs: query.flag("logs") };
    if !options.stream && !options.logs {
        return Err(
            Error::invalid("attach: one of the parameters \"stream\" and \"logs\" must be true").into()
        );
    }
    let typing = options.stream && streams.stdin;
    let attached = backend.attach(call.param("id"), options).await?;
    Ok(hijack(&call, attached, typing, keys))
}

/// The answer that hands the connection to the streams. Detach keys are only for terminals: in a pipe, every byte is
/// data.
pub(super) fn hijack(call: &Call, attached: AttachStream, typing: bool, keys: DetachKeys) -> Reply {
    let input = match (typing, attached.tty) {
        (false, _) => Input::Discard,
        (true, tty) => Input::Pass(tty.then_some(keys)),
    };
    Reply::Hijack(Hijack {
        content_type: media::of_stream(call.version, attached.tty),
        upgrade: call.wants_upgrade(),
        serve: Box::new(move |client, early| Box::pin(relay(client, early, attached, input))),
    })
}
