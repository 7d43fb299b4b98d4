//! Images: the store does it, on threads that may block; the engine says so to listeners.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use tare_model::{Digest, Image, ImageConfig, Reference, Result};
use tare_store::ImportOptions;

use super::Engine;
use crate::api::event::Action;
use crate::api::image::{LoadedImage, RemovedImage};
use crate::work;

// === impl Engine ===

impl Engine {
    /// Takes images from a `docker save` archive or an OCI layout in a tar file.
    ///
    /// # Errors
    /// `Corrupt` for what is damaged or hostile; nothing of it stays.
    pub async fn load(&self, archive: Box<dyn Read + Send>) -> Result<Vec<LoadedImage>> {
        let store = Arc::clone(&self.core.store);
        let report = work::blocking(move || {
            let mut archive = archive;
            store.load(&mut *archive)
        })
        .await?;
        let loaded: Vec<LoadedImage> = report
            .images
            .into_iter()
            .map(|image| LoadedImage { id: image.image.record.id, tags: image.tags })
            .collect();
        for image in &loaded {
            self.told(Action::ImageLoad, &image.id, image.tags.first());
        }
        Ok(loaded)
    }

    /// Makes an image of a plain root file system.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub async fn import(
        &self,
        archive: Box<dyn Read + Send>,
        reference: Option<Reference>,
        config: ImageConfig,
    ) -> Result<LoadedImage> {
        let store = Arc::clone(&self.core.store);
        let options = ImportOptions { reference, config, ..ImportOptions::default() };
        let image = work::blocking(move || {
            let mut archive = archive;
            store.import(&mut *archive, &options)
        })
        .await?;
        let loaded = LoadedImage { id: image.record.id, tags: image.tags };
        self.told(Action::ImageImport, &loaded.id, loaded.tags.first());
        Ok(loaded)
    }

    /// All images, by id.
    pub fn images(&self) -> Vec<Arc<Image>> {
        self.core.store.images().into_iter().map(Arc::new).collect()
    }

    /// One image by reference, id or prefix of an id.
    ///
    /// # Errors
    /// `NotFound` ("No such image: x").
    pub fn image(&self, name: &str) -> Result<Arc<Image>> {
        self.core.store.image(name).map(Arc::new)
    }

    /// Gives an image a further name.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn tag(&self, name: &str, reference: Reference) -> Result<()> {
        let (store, name, tag) = (Arc::clone(&self.core.store), name.to_owned(), reference.clone());
        let id = self.image(&name)?.record.id;
        work::blocking(move || store.tag_image(&name, &tag)).await?;
        self.told(Action::ImageTag, &id, Some(&reference));
        Ok(())
    }

    /// Takes a name away, and the image with its last one.
    ///
    /// # Errors
    /// `Conflict` when a container uses it, or it has several names and is named by id, without `force`.
    pub async fn remove_image(&self, name: &str, force: bool) -> Result<Vec<RemovedImage>> {
        let id = self.image(name)?.record.id;
        let (core, name) = (Arc::clone(&self.core), name.to_owned());
        let removed = work::whole(async move {
            let (claimed, _closed) = core.making.closed().await;
            let used = core.table.all().into_iter().filter_map(|handle| handle.view().fixed.image_id);
            let in_use = used.chain(claimed).collect();
            let store = Arc::clone(&core.store);
            work::blocking(move || store.remove_image(&name, force, &in_use)).await
        })
        .await?;
        let mut done = Vec::new();
        for tag in removed.untagged {
            self.told(Action::ImageUntag, &id, Some(&tag));
            done.push(RemovedImage::Untagged(tag));
        }
        for deleted in removed.deleted {
            self.told(Action::ImageDelete, &deleted, None);
            done.push(RemovedImage::Deleted(deleted));
        }
        Ok(done)
    }

    fn told(&self, action: Action, id: &Digest, tag: Option<&Reference>) {
        let name = tag.map_or_else(|| id.to_string(), Reference::familiar);
        self.core.events.emit(action, &id.to_string(), BTreeMap::from([("name".to_owned(), name)]));
    }
}
