//! `POST /containers/{id}/ports`: publishing ports of a container that is there already. Docker has no such path.

use std::sync::Arc;

use serde_json::json;
use tare_docker_api::extension::PortsRequest;
use tare_engine::PortChange;
use tare_model::Error;

use crate::backend::Networks;
use crate::create::ports;
use crate::error::Result;
use crate::http::{Call, Reply};
use crate::show::networking;

pub(crate) async fn change<B: Networks>(backend: Arc<B>, mut call: Call) -> Result<Reply> {
    let asked: PortsRequest = call.required_json().await?;
    let change = PortChange { add: ports::bindings(asked.add)?, remove: ports::bindings(asked.remove)? };
    if change == PortChange::default() {
        return Err(Error::invalid("nothing to do: name ports in Add or Remove").into());
    }
    let published = backend.change_ports(call.param("id"), change).await?;
    Ok(Reply::ok(&json!({ "Ports": networking::published_map(&published) })))
}
