//! Archives of images: `docker save` in both its layouts, and OCI layouts.
//!
//! ```text
//!   stream ─▶ staging: documents in memory, layers unpacked below tmp/, digests of all
//!                │
//!                ├─ manifest.json ─▶ docker ─┐
//!                └─ index.json ────▶ oci ────┴▶ planned images: configuration, layers, tags; all digests checked
//!                                                     │
//!                       syncfs ─▶ rename into layers/ ─▶ one commit of the database (`images`)
//! ```

mod docker;
mod import;
mod json;
mod oci;
mod staging;

use std::io::Read;

use tare_model::image::LAYERS_MAX;
use tare_model::{Digest, Image, ImageDocument, Reference, Result};

use crate::Store;
use crate::error::corrupt;
use crate::images::NewImage;
use crate::stream::digest_of;

pub use import::ImportOptions;
use staging::Staging;

/// What a load brought.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadReport {
    /// The images, in the order the archive lists them.
    pub images: Vec<LoadedImage>,
}

/// One image of an archive.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedImage {
    /// The image as it is in the store now.
    pub image: Image,
    /// The names the archive gave it; they belong to it now.
    pub tags: Vec<Reference>,
}

/// An image described by the archive, with the names of its layers there.
struct Planned {
    document: Vec<u8>,
    parsed: ImageDocument,
    layers: Vec<String>,
    tags: Vec<Reference>,
}

// === impl Store ===

impl Store {
    /// Reads an archive of images from `reader`, which need not be seekable. **Blocks on reader and disk.**
    ///
    /// When this returns, the images are durable. When it fails, nothing of the archive is visible.
    ///
    /// # Errors
    /// `Corrupt` for an archive that is damaged, ambiguous or hostile; `Unsupported` for what is not offered;
    /// `System` for what the kernel refused.
    pub fn load(&self, reader: &mut dyn Read) -> Result<LoadReport> {
        let mut staging = Staging::new(&self.layout)?;
        let result = self.load_into(&mut staging, reader);
        drop(staging);
        self.trash.wake();
        result
    }

    fn load_into(&self, staging: &mut Staging, reader: &mut dyn Read) -> Result<LoadReport> {
        staging.read_archive(reader, &|digest| self.images.layer_size(digest))?;
        let planned = plan(staging)?;
        let images = planned.into_iter().map(|p| p.check(staging)).collect::<Result<Vec<_>>>()?;
        let names: Vec<_> = images.iter().map(|image| (image.id, image.tags.clone())).collect();
        self.images.add(&self.layout, staging.dir(), images)?;
        let loaded =
            names.into_iter().map(|(id, tags)| Ok(LoadedImage { image: self.images.get(&id)?, tags }));
        Ok(LoadReport { images: loaded.collect::<Result<_>>()? })
    }
}

fn plan(staging: &Staging) -> Result<Vec<Planned>> {
    let planned = if staging.has("manifest.json") {
        let planned = docker::plan(staging)?;
        if staging.has("index.json") {
            oci::check_agreement(staging, &planned)?;
        }
        planned
    } else if staging.has("index.json") {
        oci::plan(staging)?
    } else if staging.has("repositories") {
        return Err(tare_model::Error::unsupported(
            "an archive without manifest.json (Docker before 1.10) is not supported: load and save it with a newer Docker",
        ));
    } else {
        return Err(corrupt(
            "neither manifest.json nor index.json in the archive: it holds no images (for a root file system use import)",
        ));
    };
    if planned.is_empty() {
        return Err(corrupt("the archive describes no image for this machine"));
    }
    Ok(planned)
}

// === impl Planned ===

impl Planned {
    fn new(document: &[u8], layers: Vec<String>, tags: Vec<Reference>) -> Result<Self> {
        let parsed = ImageDocument::parse(document)?;
        let (described, given) = (parsed.rootfs.diff_ids.len(), layers.len());
        if described != given || given > LAYERS_MAX {
            return Err(corrupt(format!(
                "an image configuration lists {described} layers, its manifest {given}"
            )));
        }
        Ok(Self { document: document.to_vec(), parsed, layers, tags })
    }

    fn id(&self) -> Digest {
        digest_of(&self.document)
    }

    /// Every layer is there and is what the configuration says.
    fn check(self, staging: &Staging) -> Result<NewImage> {
        let mut layers = Vec::new();
        for (name, expected) in self.layers.iter().zip(&self.parsed.rootfs.diff_ids) {
            let layer = staging.layer(name)?;
            if layer.diff_id != *expected {
                return Err(corrupt(format!(
                    "layer {name:?} has digest {}, but the image's configuration says {expected}",
                    layer.diff_id
                )));
            }
            layers.push(layer.clone());
        }
        Ok(NewImage { id: self.id(), document: self.document, parsed: self.parsed, layers, tags: self.tags })
    }
}

#[cfg(test)]
mod tests;
