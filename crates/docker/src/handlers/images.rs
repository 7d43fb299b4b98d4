//! Images: bring them, name them, show them, remove them.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::stream;
use hyper::StatusCode;
use serde_json::{Value, json};
use tare_docker_api::models::ImageDeleteResponseItem;
use tare_docker_api::{Filters, media, stamp};
use tare_engine::{ListFilter, LoadedImage, RemovedImage};
use tare_model::{Error, Image, Reference};

use super::line;
use crate::backend::{Containers, Images};
use crate::changes;
use crate::error::Result;
use crate::http::{Call, Reply, upload};
use crate::show::image;

pub(crate) async fn list<B: Images + Containers>(backend: Arc<B>, call: Call) -> Result<Reply> {
    let filters = Filters::parse(call.query.text("filters"))?;
    filters.only(&["before", "dangling", "label", "reference", "since", "until"])?;
    let mut images = backend.images();
    let mut bound = |name: &str, keep: fn(i64, i64) -> bool| -> Result<()> {
        if let Some(other) = filters.values(name).next() {
            let at = backend.image(other)?.record.created;
            images.retain(|i| keep(i.record.created, at));
        }
        Ok(())
    };
    bound("before", |mine, other| mine < other)?;
    bound("since", |mine, other| mine > other)?;
    let dangling = filters.flag("dangling")?;
    let until = filters.values("until").next().map(|t| stamp::parse_query("until", t)).transpose()?.flatten();
    images.retain(|i| {
        dangling.is_none_or(|d| i.tags.is_empty() == d)
            && (!filters.contains("reference")
                || filters.values("reference").any(|p| image::matches_reference(i, p)))
            && until.is_none_or(|t| u64::try_from(i.record.created).unwrap_or(0) < t / 1_000_000_000)
            && filters.match_labels("label", &i.document.config.labels)
    });
    images.sort_by_key(|i| std::cmp::Reverse(i.record.created));
    let uses = uses(&*backend)?;
    let count = |i: &Image| uses.get(&i.id().to_string()).copied().unwrap_or(0);
    let rows: Vec<Value> = images.iter().map(|i| image::summary(i, count(i), call.version)).collect();
    Ok(Reply::ok(&rows))
}

/// How many containers each image has.
pub(super) fn uses<B: Containers>(backend: &B) -> Result<HashMap<String, i64>> {
    let mut uses = HashMap::new();
    for view in backend.list(&ListFilter { all: true, ..Default::default() })? {
        if let Some(id) = &view.fixed.image_id {
            *uses.entry(id.to_string()).or_insert(0) += 1;
        }
    }
    Ok(uses)
}

pub(crate) async fn inspect<B: Images>(backend: Arc<B>, call: Call) -> Result<Reply> {
    refuse_platform(&call)?;
    let found = backend.image(call.param("name"))?;
    Ok(Reply::ok(&image::inspect(&found, call.version)))
}

pub(crate) async fn history<B: Images>(backend: Arc<B>, call: Call) -> Result<Reply> {
    refuse_platform(&call)?;
    let found = backend.image(call.param("name"))?;
    Ok(Reply::ok(&image::history(&found)))
}

pub(crate) async fn load<B: Images>(backend: Arc<B>, mut call: Call) -> Result<Reply> {
    refuse_platform(&call)?;
    let loaded = backend.load(upload(call.take_body())).await?;
    let lines: Vec<_> = loaded.iter().flat_map(load_messages).map(|m| line(&m)).collect();
    Ok(Reply::stream(media::JSON, stream::iter(lines)))
}

/// What clients print: a line for each name, or one with the id.
fn load_messages(image: &LoadedImage) -> Vec<Value> {
    if image.tags.is_empty() {
        return vec![json!({ "stream": format!("Loaded image ID: {}\n", image.id) })];
    }
    image.tags.iter().map(|t| json!({ "stream": format!("Loaded image: {}\n", t.familiar()) })).collect()
}

fn refuse_platform(call: &Call) -> Result<()> {
    // One platform of several to inspect or load, several to remove.
    let asked = |name: &&&str| !matches!(call.query.text(name), "" | "[]" | "null");
    match ["platform", "platforms"].iter().find(asked) {
        None => Ok(()),
        Some(name) => {
            let text = call.query.text(name);
            Err(Error::unsupported(format!("{name} = {text:?}: images have one platform, leave it out"))
                .into())
        }
    }
}

/// `POST /images/create`: an import if there is a source, else a pull.
pub(crate) async fn create<B: Images>(backend: Arc<B>, mut call: Call) -> Result<Reply> {
    let name = call.query.text("fromImage");
    if !name.is_empty() {
        let name = with_tag(name, call.query.text("tag"));
        return Err(Error::not_found(format!(
            "cannot pull {name}: registries are not supported yet; load the image from an archive (docker save) or \
             import a root file system"
        ))
        .into());
    }
    match call.query.text("fromSrc") {
        "-" => {}
        "" => return Err(Error::invalid("one of the parameters fromImage and fromSrc is needed").into()),
        url => {
            return Err(
                Error::unsupported(format!("fromSrc = {url:?}: only \"-\" (the body) is supported")).into()
            );
        }
    }
    for unsupported in ["message", "platform"] {
        let text = call.query.text(unsupported);
        if !text.is_empty() {
            return Err(Error::unsupported(format!(
                "{unsupported} = {text:?} is not supported by import yet"
            ))
            .into());
        }
    }
    let config = changes::apply(call.query.all("changes"))?;
    let reference = match call.query.text("repo") {
        "" => None,
        repo => Some(with_tag(repo, call.query.text("tag")).parse::<Reference>()?.or_latest()),
    };
    let loaded = backend.import(upload(call.take_body()), reference, config).await?;
    let done = line(&json!({ "status": loaded.id.to_string() }));
    Ok(Reply::stream(media::JSON, stream::iter([done])))
}

fn with_tag(repo: &str, tag: &str) -> String {
    match tag {
        "" => repo.to_owned(),
        digest if digest.contains(':') => format!("{repo}@{digest}"),
        tag => format!("{repo}:{tag}"),
    }
}

pub(crate) async fn tag<B: Images>(backend: Arc<B>, call: Call) -> Result<Reply> {
    let reference =
        with_tag(call.query.text("repo"), call.query.text("tag")).parse::<Reference>()?.or_latest();
    if reference.digest().is_some() {
        return Err(Error::invalid("refusing to create a tag with a digest reference").into());
    }
    backend.tag(call.param("name"), reference).await?;
    Ok(Reply::empty(StatusCode::CREATED))
}

pub(crate) async fn remove<B: Images>(backend: Arc<B>, call: Call) -> Result<Reply> {
    refuse_platform(&call)?;
    let removed = backend.remove_image(call.param("name"), call.query.flag("force")).await?;
    let items: Vec<ImageDeleteResponseItem> = removed.iter().map(removal).collect();
    Ok(Reply::ok(&items))
}

pub(super) fn removal(item: &RemovedImage) -> ImageDeleteResponseItem {
    match item {
        RemovedImage::Untagged(name) => {
            ImageDeleteResponseItem { untagged: Some(name.familiar()), ..Default::default() }
        }
        RemovedImage::Deleted(id) => {
            ImageDeleteResponseItem { deleted: Some(id.to_string()), ..Default::default() }
        }
    }
}
