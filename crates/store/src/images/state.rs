//! The images in memory.

use std::collections::{BTreeMap, BTreeSet};

use tare_model::{Digest, Error, Image, ImageDocument, ImageRecord, Reference, Result};

use super::{LayerRecord, NewImage};
use crate::error::corrupt;
use crate::layout::{Layout, names};
use crate::meta::{Meta, Table};

/// An image with its document read.
pub(super) struct Stored {
    pub(super) record: ImageRecord,
    pub(super) document: ImageDocument,
}

/// Images, names and layers.
#[derive(Default)]
pub(super) struct State {
    pub(super) images: BTreeMap<Digest, Stored>,
    pub(super) tags: BTreeMap<Reference, Digest>,
    pub(super) layers: BTreeMap<Digest, LayerRecord>,
}

// === impl State ===

impl State {
    /// Reads the database, and checks that the layers it speaks of are there.
    pub(super) fn read(meta: &Meta, layout: &Layout, damage: &mut Vec<String>) -> Result<Self> {
        let mut state = Self::default();
        let present: BTreeSet<_> = names(&layout.layers)?.collect::<Result<_>>()?;
        for (key, value) in meta.scan(Table::Layers)? {
            match key.parse::<Digest>().ok().zip(serde_json::from_slice(&value).ok()) {
                Some((digest, _)) if !present.contains(&digest.hex()) => {
                    damage.push(format!(
                        "the directory of layer {digest} is gone: remove and load its images again"
                    ));
                }
                Some((digest, layer)) => state.layers.extend([(digest, layer)]),
                None => damage.push(format!("the record of layer {key:?} is damaged")),
            }
        }
        for (key, value) in meta.scan(Table::Images)? {
            match read_image(meta, &key, &value) {
                Ok(stored) => state.images.extend([(stored.record.id, stored)]),
                Err(e) => damage.push(e.to_string()),
            }
        }
        for (key, value) in meta.scan(Table::Tags)? {
            let id = std::str::from_utf8(&value).ok().and_then(|text| text.parse::<Digest>().ok());
            match key.parse::<Reference>().ok().zip(id) {
                Some((tag, id)) if state.images.contains_key(&id) => state.tags.extend([(tag, id)]),
                _ => damage.push(format!("the name {key:?} belongs to no image")),
            }
        }
        Ok(state)
    }

    pub(super) fn insert(&mut self, image: NewImage, record: ImageRecord) {
        for layer in &image.layers {
            self.layers.insert(layer.diff_id, LayerRecord { size: layer.size });
        }
        self.tags.extend(image.tags.into_iter().map(|tag| (tag, image.id)));
        self.images.insert(image.id, Stored { record, document: image.parsed });
    }

    pub(super) fn show(&self, stored: &Stored) -> Image {
        let tags = self.tags_of(&stored.record.id);
        Image { record: stored.record.clone(), document: stored.document.clone(), tags }
    }

    pub(super) fn tags_of(&self, id: &Digest) -> Vec<Reference> {
        self.tags.iter().filter(|(_, of)| *of == id).map(|(tag, _)| tag.clone()).collect()
    }

    /// The id that `name` means: a name before an id, as in Docker.
    pub(super) fn find(&self, name: &str) -> Result<Digest> {
        let named = name.parse::<Reference>().ok().and_then(|reference| self.find_reference(&reference));
        if let Some(found) = named {
            return Ok(found);
        }
        let digits = name.strip_prefix("sha256:").unwrap_or(name);
        let hex = !digits.is_empty() && digits.len() <= 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let mut matching = self.images.keys().filter(|id| hex && id.hex().starts_with(digits));
        match (matching.next(), matching.next()) {
            (Some(id), None) => Ok(*id),
            (Some(_), Some(_)) => {
                Err(Error::conflict(format!("several images have an id that begins with {digits}")))
            }
            (None, _) => Err(Error::not_found(format!("No such image: {}", shown(name)))),
        }
    }

    /// Layers of the image `gone` that no other image needs.
    pub(super) fn unneeded_without(&self, gone: &Digest) -> Vec<Digest> {
        let others = self.images.values().filter(|stored| stored.record.id != *gone);
        let needed: BTreeSet<_> = others.flat_map(|stored| &stored.record.layers).collect();
        let own: BTreeSet<_> =
            self.images.get(gone).into_iter().flat_map(|stored| &stored.record.layers).collect();
        own.difference(&needed).map(|key| **key).collect()
    }

    fn find_reference(&self, reference: &Reference) -> Option<Digest> {
        match reference.digest() {
            // Only what was loaded is here, so the digest can only be that of a configuration.
            Some(digest) => self.images.contains_key(digest).then_some(*digest),
            None => self.tags.get(&reference.clone().or_latest()).copied(),
        }
    }
}

fn read_image(meta: &Meta, key: &str, value: &[u8]) -> Result<Stored> {
    let damaged = |what: &str| corrupt(format!("image {key} is damaged: {what}; remove and load it again"));
    let record: ImageRecord = serde_json::from_slice(value).map_err(|e| damaged(&e.to_string()))?;
    let bytes = meta.get(Table::Documents, key)?.ok_or_else(|| damaged("its configuration is gone"))?;
    let found = crate::stream::digest_of(&bytes);
    if found != record.id || found.to_string() != key {
        return Err(damaged("its configuration is not what its id says"));
    }
    Ok(Stored { record, document: ImageDocument::parse(&bytes)? })
}

/// A name as Docker repeats it, bounded.
fn shown(name: &str) -> String {
    match name.parse::<Reference>() {
        Ok(reference) => reference.or_latest().familiar(),
        Err(_) => name.chars().take(100).collect(),
    }
}
