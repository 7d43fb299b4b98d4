//! Images: what is stored, under which names, and which layers are still needed.
//!
//! Everything is in memory, so looking up never reads the disk. A change is planned from that memory, committed, and
//! only then shown; one change at a time. How often a layer is used is counted from the images, never stored, so the
//! count cannot be wrong.

mod remove;
mod state;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use serde::{Deserialize, Serialize};
use tare_model::{Digest, Error, Image, ImageDocument, ImageRecord, Reference, Result};
use tare_sys::dir::Dir;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::error::SystemContext;
use crate::layout::Layout;
use crate::meta::{Meta, Op, Table};

pub use remove::Removed;
use state::State;

/// Names that mean the running system and cannot be given to an image.
const RESERVED: &str = "docker.io/library/host";

/// A layer that was unpacked, or is in the store already.
#[derive(Clone, Debug)]
pub(crate) struct StagedLayer {
    /// Digest of the bytes as they came.
    pub(crate) blob: Digest,
    /// How many they were.
    pub(crate) blob_size: u64,
    /// Digest of the uncompressed archive.
    pub(crate) diff_id: Digest,
    /// Bytes of its files.
    pub(crate) size: u64,
    /// Its directory in the staging directory; absent if the store has the layer.
    pub(crate) directory: Option<String>,
}

/// An image whose layers have been unpacked and checked.
pub(crate) struct NewImage {
    pub(crate) id: Digest,
    pub(crate) document: Vec<u8>,
    pub(crate) parsed: ImageDocument,
    pub(crate) layers: Vec<StagedLayer>,
    pub(crate) tags: Vec<Reference>,
}

/// What is kept of a layer besides its directory.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    /// Bytes of its files.
    size: u64,
}

/// All images.
pub(crate) struct Images {
    meta: Arc<Meta>,
    state: RwLock<State>,
    /// Held from planning a change until it shows.
    writer: Mutex<()>,
}

// === impl Images ===

impl Images {
    /// Reads what is there; damaged images are described in `damage` and left out.
    pub(crate) fn open(meta: Arc<Meta>, layout: &Layout, damage: &mut Vec<String>) -> Result<Self> {
        let state = State::read(&meta, layout, damage)?;
        Ok(Self { meta, state: RwLock::new(state), writer: Mutex::new(()) })
    }

    /// Every image, oldest first.
    pub(crate) fn list(&self) -> Vec<Image> {
        let state = self.read();
        let mut all: Vec<_> = state.images.values().map(|stored| state.show(stored)).collect();
        all.sort_by_key(|image| (image.record.created, image.record.id));
        all
    }

    /// The image with this id.
    pub(crate) fn get(&self, id: &Digest) -> Result<Image> {
        let state = self.read();
        let stored = state.images.get(id).ok_or_else(|| Error::not_found(format!("No such image: {id}")))?;
        Ok(state.show(stored))
    }

    /// The image that `name` means: a reference, an id, or the beginning of one.
    pub(crate) fn resolve(&self, name: &str) -> Result<Image> {
        let state = self.read();
        let id = state.find(name)?;
        Ok(state.show(&state.images[&id]))
    }

    /// The configuration document of an image, byte for byte.
    pub(crate) fn document(&self, id: &Digest) -> Result<Vec<u8>> {
        let document = self.meta.get(Table::Documents, &id.to_string())?;
        document.ok_or_else(|| Error::not_found(format!("No such image: {id}")))
    }

    /// Bytes of the files of a layer, if there is one with this key.
    pub(crate) fn layer_size(&self, key: &Digest) -> Option<u64> {
        self.read().layers.get(key).map(|layer| layer.size)
    }

    /// Gives an image another name; a name that another image has moves here.
    pub(crate) fn tag(&self, id: &Digest, reference: &Reference) -> Result<()> {
        let _one = self.lock();
        let reference = taggable(reference)?;
        self.get(id)?;
        self.meta.commit(vec![put_tag(&reference, id)])?;
        self.write(|state| state.tags.extend([(reference, *id)]));
        Ok(())
    }

    /// Makes new images visible, all at once. Their layers are in directories of `staged` until then.
    ///
    /// The files are written to disk before the lock is taken: it may take seconds.
    pub(crate) fn add(&self, layout: &Layout, staged: &Dir, images: Vec<NewImage>) -> Result<()> {
        for reference in images.iter().flat_map(|image| &image.tags) {
            taggable(reference)?;
        }
        staged.sync_file_system().while_(|| "write the layers to disk")?;
        let records: Vec<_> = images.iter().map(record).collect();
        let _one = self.lock();
        let mut ops = Vec::new();
        let mut moved = Vec::new();
        let mut change = || -> Result<()> {
            for layer in images.iter().flat_map(|image| &image.layers) {
                self.adopt_layer(layout, staged, layer, &mut moved, &mut ops)?;
            }
            layout.layers.sync().while_(|| "write the layers' directory to disk")?;
            for (image, record) in images.iter().zip(&records) {
                ops.extend(put_image(image, record)?);
            }
            self.meta.commit(std::mem::take(&mut ops))
        };
        if let Err(e) = change() {
            for key in moved {
                // What cannot be moved now is cleared away at the next open.
                let _ = layout.discard(&layout.layers, &Digest::hex(&key));
            }
            return Err(e);
        }
        self.write(|state| {
            images.into_iter().zip(records).for_each(|(image, record)| state.insert(image, record))
        });
        Ok(())
    }

    /// Moves a layer into place, unless it is there.
    fn adopt_layer(
        &self,
        layout: &Layout,
        staged: &Dir,
        layer: &StagedLayer,
        moved: &mut Vec<Digest>,
        ops: &mut Vec<Op>,
    ) -> Result<()> {
        let key = layer.diff_id;
        if self.read().layers.contains_key(&key) || moved.contains(&key) {
            return Ok(());
        }
        let Some(directory) = &layer.directory else {
            // It was there when the archive was read, and its image was removed meanwhile.
            return Err(Error::conflict(format!(
                "layer {key} was removed while the archive was read: load it again"
            )));
        };
        staged
            .rename(directory, &layout.layers, key.hex(), false)
            .while_(|| format!("move layer {key} into place"))?;
        moved.push(key);
        ops.push(Op::json(Table::Layers, key.to_string(), &LayerRecord { size: layer.size })?);
        Ok(())
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reference that can be a tag: without digest, and not the name of a built-in image.
fn taggable(reference: &Reference) -> Result<Reference> {
    if reference.digest().is_some() {
        return Err(Error::invalid(format!("refusing to create a tag with a digest reference: {reference}")));
    }
    if reference.name() == RESERVED {
        return Err(Error::invalid(
            "\"host\" is the running system's own image, and no other can have the name",
        ));
    }
    Ok(reference.clone().or_latest())
}

fn put_tag(reference: &Reference, id: &Digest) -> Op {
    Op::Put(Table::Tags, reference.to_string(), id.to_string().into_bytes())
}

fn put_image(image: &NewImage, record: &ImageRecord) -> Result<Vec<Op>> {
    let key = image.id.to_string();
    let mut ops = vec![
        Op::json(Table::Images, key.clone(), record)?,
        Op::Put(Table::Documents, key, image.document.clone()),
    ];
    ops.extend(image.tags.iter().map(|tag| put_tag(tag, &image.id)));
    Ok(ops)
}

fn record(image: &NewImage) -> ImageRecord {
    let created = image.parsed.created.as_deref().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    ImageRecord {
        id: image.id,
        layers: image.layers.iter().map(|layer| layer.diff_id).collect(),
        layer_sizes: image.layers.iter().map(|layer| layer.size).collect(),
        size: image.layers.iter().map(|layer| layer.size).sum(),
        created: created.map_or(0, OffsetDateTime::unix_timestamp),
        loaded: OffsetDateTime::now_utc().unix_timestamp(),
    }
}

/// Ids of images that containers were made from.
pub type InUse = BTreeSet<Digest>;

#[cfg(test)]
mod tests;
