//! `manifest.json`: what `docker save` has written since 1.10, in whichever layout the rest is.

use serde::Deserialize;
use tare_model::{Digest, Reference, Result};

use super::staging::Staging;
use super::{Planned, json};
use crate::error::corrupt;
use crate::stream::digest_of;

const NAME: &str = "manifest.json";
const IMAGES_MAX: usize = 10_000;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// The images `manifest.json` describes.
pub(super) fn plan(staging: &Staging) -> Result<Vec<Planned>> {
    let items: Vec<Item> = json::parse(staging.document(NAME)?, NAME)?;
    if items.len() > IMAGES_MAX {
        return Err(corrupt(format!(
            "{NAME} describes {} images; at most {IMAGES_MAX} are read",
            items.len()
        )));
    }
    items.into_iter().map(|item| image(staging, item)).collect()
}

fn image(staging: &Staging, item: Item) -> Result<Planned> {
    let document = staging.document(&item.config)?;
    check_name(&item.config, document)?;
    let tags = item.repo_tags.unwrap_or_default();
    let tags =
        tags.iter().map(|tag| tag.parse::<Reference>().map(Reference::or_latest)).collect::<Result<_>>()?;
    Planned::new(document, item.layers.unwrap_or_default(), tags)
}

/// In the older layout the configuration's file is named by its digest.
fn check_name(name: &str, document: &[u8]) -> Result<()> {
    match name.strip_suffix(".json").map(Digest::from_hex) {
        Some(Ok(promised)) if promised != digest_of(document) => {
            Err(corrupt(format!("the content of {name:?} has digest {}", digest_of(document))))
        }
        _ => Ok(()),
    }
}
