//! The engine as a whole: ping, version, info, disk usage; and the volumes there are.

use std::sync::Arc;

use serde_json::json;
use tare_docker_api::Filters;
use tare_engine::ListFilter;

use super::now;
use crate::backend::{Containers, Images, System};
use crate::error::Result;
use crate::http::{Call, Reply};
use crate::show;

pub(crate) async fn ping<B: System>(_: Arc<B>, _: Call) -> Result<Reply> {
    Ok(Reply::text("OK")
        .with("cache-control", "no-cache, no-store, must-revalidate")
        .with("pragma", "no-cache"))
}

pub(crate) async fn version<B: System>(backend: Arc<B>, _: Call) -> Result<Reply> {
    Ok(Reply::ok(&show::system::version(&backend.version())))
}

pub(crate) async fn info<B: System>(backend: Arc<B>, call: Call) -> Result<Reply> {
    Ok(Reply::ok(&show::system::info(&backend.info(), &backend.version(), now(), call.version)))
}

pub(crate) async fn disk_usage<B: Containers + Images>(backend: Arc<B>, call: Call) -> Result<Reply> {
    let everything = ListFilter { all: true, ..Default::default() };
    let containers = backend.list(&everything)?;
    Ok(Reply::ok(&show::system::disk_usage(&backend.images(), &containers, now(), call.version)))
}

/// There is no build cache.
pub(crate) async fn prune_builds<B: System>(_: Arc<B>, _: Call) -> Result<Reply> {
    Ok(Reply::ok(&json!({ "CachesDeleted": [], "SpaceReclaimed": 0 })))
}

pub(crate) async fn volumes<B: Containers>(backend: Arc<B>, call: Call) -> Result<Reply> {
    let filters = Filters::parse(call.query.text("filters"))?;
    filters.only(&["name"])?;
    let everything = ListFilter { all: true, ..Default::default() };
    let mut found = show::volume::list(&backend.list(&everything)?);
    if filters.contains("name") {
        let named = |name: &str| filters.values("name").any(|v| name.contains(v));
        found.volumes.iter_mut().for_each(|list| list.retain(|v| named(&v.name)));
    }
    Ok(Reply::ok(&found))
}

pub(crate) async fn volume<B: Containers>(backend: Arc<B>, call: Call) -> Result<Reply> {
    let everything = ListFilter { all: true, ..Default::default() };
    let name = call.param("name");
    let found = show::volume::volumes(&backend.list(&everything)?).into_iter().find(|v| v.name == name);
    let missing = || tare_model::Error::not_found(format!("get {name}: no such volume"));
    Ok(Reply::ok(&found.ok_or_else(missing)?))
}
