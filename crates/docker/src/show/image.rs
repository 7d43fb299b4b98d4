//! Images: list, inspection, history, and the filter by reference.

use std::collections::HashMap;

use serde_json::{Value, json};
use tare_docker_api::models::{
    DriverData, HealthConfig, ImageConfig as WireConfig, ImageHistoryResponseItem, ImageInspect,
    ImageInspectMetadata, ImageInspectRootFs, ImageSummary,
};
use tare_docker_api::{Version, stamp};
use tare_model::{Image, ImageConfig, Reference};

use super::object;

fn size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Names with a tag, as people write them.
pub(crate) fn repo_tags(image: &Image) -> Vec<String> {
    image.tags.iter().filter(|t| t.tag().is_some()).map(Reference::familiar).collect()
}

/// Names with a digest.
fn repo_digests(image: &Image) -> Vec<String> {
    image.tags.iter().filter(|t| t.digest().is_some()).map(Reference::familiar).collect()
}

/// One row of `GET /images/json`.
pub(crate) fn summary(image: &Image, containers: i64, version: Version) -> Value {
    let document = ImageSummary {
        id: image.id().to_string(),
        parent_id: String::new(),
        repo_tags: repo_tags(image),
        repo_digests: repo_digests(image),
        created: image.record.created,
        size: size(image.record.size),
        shared_size: -1,
        labels: image.document.config.labels.clone().into_iter().collect(),
        containers,
        manifests: None,
        descriptor: None,
    };
    let mut shown = object(&document);
    if version < Version::new(44) {
        shown.insert("VirtualSize".to_owned(), json!(size(image.record.size)));
    }
    if version < Version::new(43) && image.tags.is_empty() {
        shown.insert("RepoTags".to_owned(), json!(["<none>:<none>"]));
        shown.insert("RepoDigests".to_owned(), json!(["<none>@<none>"]));
    }
    Value::Object(shown)
}

/// `GET /images/{name}/json`.
pub(crate) fn inspect(image: &Image, version: Version) -> Value {
    let document = &image.document;
    let nanos = u64::try_from(image.record.loaded).unwrap_or(0).saturating_mul(1_000_000_000);
    let shown = ImageInspect {
        id: Some(image.id().to_string()),
        repo_tags: Some(repo_tags(image)),
        repo_digests: Some(repo_digests(image)),
        comment: Some(document.history.last().and_then(|h| h.comment.clone()).unwrap_or_default()),
        created: document.created.clone(),
        author: Some(document.author.clone().unwrap_or_default()),
        config: Some(config(&document.config)),
        architecture: Some(document.architecture.clone()),
        variant: document.variant.clone(),
        os: Some(document.os.clone()),
        size: Some(size(image.record.size)),
        graph_driver: Some(DriverData { name: "overlay2".to_owned(), data: HashMap::new() }),
        root_fs: Some(ImageInspectRootFs {
            typ: "layers".to_owned(),
            layers: Some(document.rootfs.diff_ids.iter().map(ToString::to_string).collect()),
        }),
        metadata: Some(ImageInspectMetadata { last_tag_time: Some(stamp::rfc3339(nanos)) }),
        ..Default::default()
    };
    let mut shown = object(&shown);
    if version < Version::new(44) {
        shown.insert("VirtualSize".to_owned(), json!(size(image.record.size)));
    }
    if version < Version::new(45) {
        shown.insert("Container".to_owned(), json!(""));
        shown.insert("ContainerConfig".to_owned(), Value::Null);
    }
    if version < Version::new(52) {
        shown.insert("Parent".to_owned(), json!(""));
        shown.insert("DockerVersion".to_owned(), json!(""));
    }
    Value::Object(shown)
}

fn config(config: &ImageConfig) -> WireConfig {
    let list = |list: Vec<String>| Some(list).filter(|l| !l.is_empty());
    WireConfig {
        user: Some(config.user.clone()),
        exposed_ports: list(config.exposed_ports.iter().cloned().collect()),
        env: list(config.env.clone()),
        cmd: config.cmd.clone(),
        healthcheck: config.healthcheck.clone().and_then(|h| serde_json::from_value::<HealthConfig>(h).ok()),
        volumes: list(config.volumes.iter().cloned().collect()),
        working_dir: Some(config.working_dir.clone()),
        entrypoint: config.entrypoint.clone(),
        on_build: list(config.on_build.clone()),
        labels: Some(config.labels.clone().into_iter().collect()),
        stop_signal: config.stop_signal.clone(),
        shell: list(config.shell.clone()),
        ..Default::default()
    }
}

/// `GET /images/{name}/history`, the newest step first.
pub(crate) fn history(image: &Image) -> Vec<ImageHistoryResponseItem> {
    let mut sizes = image.record.layer_sizes.iter();
    let mut items: Vec<ImageHistoryResponseItem> = Vec::new();
    for step in &image.document.history {
        let layer = if step.empty_layer { 0 } else { sizes.next().copied().unwrap_or(0) };
        items.push(item(step.created.as_deref(), step.created_by.clone(), layer, step.comment.clone()));
    }
    // Layers that no step tells of; an imported root file system is one.
    items.extend(sizes.map(|layer| item(image.document.created.as_deref(), None, *layer, None)));
    items.reverse();
    if let Some(newest) = items.first_mut() {
        newest.id = image.id().to_string();
        newest.tags = repo_tags(image);
    }
    items
}

fn item(
    created: Option<&str>,
    by: Option<String>,
    layer: u64,
    comment: Option<String>,
) -> ImageHistoryResponseItem {
    let seconds = created.and_then(stamp::parse_rfc3339).map_or(0, |nanos| nanos / 1_000_000_000);
    ImageHistoryResponseItem {
        id: "<missing>".to_owned(),
        created: i64::try_from(seconds).unwrap_or(0),
        created_by: by.unwrap_or_default(),
        tags: Vec::new(),
        size: size(layer),
        comment: comment.unwrap_or_default(),
    }
}

/// Whether a name of the image matches the pattern, with its tag or without. `*` and `?` stand for anything but `/`.
pub(crate) fn matches_reference(image: &Image, pattern: &str) -> bool {
    image.tags.iter().any(|tag| {
        let name = tag.familiar_name();
        let last = name.rsplit('/').next().unwrap_or("");
        [name.as_str(), tag.familiar().as_str(), tag.to_string().as_str(), last]
            .iter()
            .any(|t| glob(pattern, t))
    })
}

/// Shell patterns of `*` and `?`.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // Row by row: which beginnings of the text does this beginning of the pattern match?
    let mut reach = vec![false; text.len() + 1];
    reach[0] = true;
    for p in pattern {
        let mut next = vec![false; text.len() + 1];
        next[0] = p == '*' && reach[0];
        for (i, c) in text.iter().enumerate() {
            next[i + 1] = match p {
                '*' => reach[i + 1] || (next[i] && *c != '/'),
                '?' => reach[i] && *c != '/',
                p => reach[i] && p == *c,
            };
        }
        reach = next;
    }
    reach.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_do_not_cross_slashes() {
        for (pattern, text, matches) in [
            ("nginx", "nginx", true),
            ("ngin?", "nginx", true),
            ("n*x", "nginx", true),
            ("*", "nginx", true),
            ("*", "a/b", false),
            ("*/*", "a/b", true),
            ("nginx:*", "nginx:1.27", true),
            ("", "", true),
            ("**", "abc", true),
            ("a*c", "ab", false),
        ] {
            assert_eq!(glob(pattern, text), matches, "{pattern} {text}");
        }
    }
}
