//! Removing what nobody uses: containers that do not run, images without a name or without a container, networks without
//! one that runs.

use std::sync::Arc;

use tare_docker_api::models::{ContainerPruneResponse, ImagePruneResponse, NetworkPruneResponse};
use tare_docker_api::{Filters, stamp};
use tare_engine::{ListFilter, RemoveOptions};
use tare_model::Status;

use super::images::{removal, uses};
use super::listing::sizes;
use crate::backend::{Containers, Images, Networks};
use crate::error::Result;
use crate::http::{Call, Reply};
use crate::show::network::is_predefined;

/// The filters, and the moment before which something must have been made.
fn read(call: &Call, known: &[&str]) -> Result<(Filters, Option<u64>)> {
    let filters = Filters::parse(call.query.text("filters"))?;
    filters.only(known)?;
    let until = filters.values("until").next().map(|t| stamp::parse_query("until", t)).transpose()?.flatten();
    Ok((filters, until))
}

pub(crate) async fn containers<B: Containers + Images>(backend: Arc<B>, call: Call) -> Result<Reply> {
    let (filters, until) = read(&call, &["label", "label!", "until"])?;
    let idle = ListFilter {
        all: true,
        status: vec![Status::Created, Status::Exited, Status::Dead],
        ..Default::default()
    };
    let mut response =
        ContainerPruneResponse { containers_deleted: Some(Vec::new()), space_reclaimed: Some(0) };
    for view in backend.list(&idle)? {
        let labels = &view.fixed.process.labels;
        let kept = filters.match_any_label("label!", labels);
        if kept || !filters.match_labels("label", labels) || until.is_some_and(|t| view.created >= t) {
            continue;
        }
        let bytes = sizes(&*backend, &view).await?.writable;
        // One that someone started or removed meanwhile is not idle any more, which is no error.
        if backend.remove(view.id.as_str(), RemoveOptions::default()).await.is_ok() {
            response.containers_deleted.get_or_insert_default().push(view.id.to_string());
            *response.space_reclaimed.get_or_insert_default() += i64::try_from(bytes).unwrap_or(0);
        }
    }
    Ok(Reply::ok(&response))
}

pub(crate) async fn images<B: Containers + Images>(backend: Arc<B>, call: Call) -> Result<Reply> {
    let (filters, until) = read(&call, &["dangling", "label", "label!", "until"])?;
    let only_nameless = filters.flag("dangling")?.unwrap_or(true);
    let uses = uses(&*backend)?;
    let mut response = ImagePruneResponse { images_deleted: Some(Vec::new()), space_reclaimed: Some(0) };
    for image in backend.images() {
        let labels = &image.document.config.labels;
        let kept = filters.match_any_label("label!", labels);
        let too_new =
            until.is_some_and(|t| u64::try_from(image.record.created).unwrap_or(0) >= t / 1_000_000_000);
        let used = uses.contains_key(&image.id().to_string());
        if used || kept || too_new || (only_nameless && !image.tags.is_empty()) {
            continue;
        }
        if !filters.match_labels("label", labels) {
            continue;
        }
        let mut names: Vec<String> = image.tags.iter().map(ToString::to_string).collect();
        if names.is_empty() {
            names.push(image.id().to_string());
        }
        for name in names {
            let Ok(removed) = backend.remove_image(&name, false).await else { continue };
            let deleted = removed.iter().any(|r| matches!(r, tare_engine::RemovedImage::Deleted(_)));
            response.images_deleted.get_or_insert_default().extend(removed.iter().map(removal));
            if deleted {
                *response.space_reclaimed.get_or_insert_default() +=
                    i64::try_from(image.record.size).unwrap_or(0);
            }
        }
    }
    Ok(Reply::ok(&response))
}

pub(crate) async fn networks<B: Networks>(backend: Arc<B>, call: Call) -> Result<Reply> {
    let (filters, until) = read(&call, &["label", "label!", "until"])?;
    let mut response = NetworkPruneResponse { networks_deleted: Some(Vec::new()) };
    for view in backend.networks() {
        let labels = &view.network.config.labels;
        let kept = filters.match_any_label("label!", labels) || !filters.match_labels("label", labels);
        let too_new = until.is_some_and(|t| view.network.created >= t);
        if is_predefined(&view) || !view.containers.is_empty() || kept || too_new {
            continue;
        }
        // One that a container has joined meanwhile is in use, which is no error.
        if backend.network_remove(view.network.id.as_str()).await.is_ok() {
            response.networks_deleted.get_or_insert_default().push(view.network.config.name);
        }
    }
    Ok(Reply::ok(&response))
}
