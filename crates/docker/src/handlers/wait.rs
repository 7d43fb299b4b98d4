//! `POST /containers/{id}/wait`: the head at once, the answer when it is there.

use std::io;
use std::sync::Arc;

use futures_util::stream;
use tare_docker_api::media;
use tare_docker_api::models::{ContainerWaitExitError, ContainerWaitResponse};
use tare_engine::WaitCondition;
use tare_model::Error;

use super::line;
use crate::backend::Containers;
use crate::error::Result;
use crate::http::{Call, Reply};

pub(crate) async fn wait<B: Containers>(backend: Arc<B>, call: Call) -> Result<Reply> {
    let condition = match call.query.text("condition") {
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(Error::invalid(format!("invalid condition: {other:?}")).into()),
    };
    // The waiter is registered before the head goes out: a client that has read the head may start the container.
    let ended = backend.wait(call.param("id"), condition)?;
    let answer = async move {
        let result = ended.await.map_err(io::Error::other)?;
        // Docker's says nothing of why it never ran where its removal is waited for: clients log that as if waiting had failed.
        let error = result.error.filter(|_| condition != WaitCondition::Removed);
        let error = error.map(|message| ContainerWaitExitError { message: Some(message) });
        line(&ContainerWaitResponse { status_code: i64::from(result.code), error })
    };
    Ok(Reply::stream(media::JSON, stream::once(answer)))
}
