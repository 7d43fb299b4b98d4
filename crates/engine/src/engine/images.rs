//! Images: the store does it, on threads that may block; the engine says so to listeners.

use std::io::Read;
use std::sync::Arc;

use tare_model::{Error, ErrorKind, Image, ImageConfig, Reference, Result};

use super::Engine;
use crate::api::image::{LoadedImage, RemovedImage};

// === impl Engine ===

impl Engine {
    /// Takes images from a `docker save` archive or an OCI layout in a tar file.
    ///
    /// # Errors
    /// `Corrupt` for what is damaged or hostile; nothing of it stays.
    pub async fn load(&self, _archive: Box<dyn Read + Send>) -> Result<Vec<LoadedImage>> {
        unwritten("load images")
    }

    /// Makes an image of a plain root file system.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub async fn import(
        &self,
        _archive: Box<dyn Read + Send>,
        _reference: Option<Reference>,
        _config: ImageConfig,
    ) -> Result<LoadedImage> {
        unwritten("import images")
    }

    /// All images, by id.
    pub fn images(&self) -> Vec<Arc<Image>> {
        Vec::new()
    }

    /// One image by reference, id or prefix of an id.
    ///
    /// # Errors
    /// `NotFound` ("No such image: x").
    pub fn image(&self, name: &str) -> Result<Arc<Image>> {
        Err(Error::not_found(format!("No such image: {name}")))
    }

    /// Gives an image a further name.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn tag(&self, _name: &str, _reference: Reference) -> Result<()> {
        unwritten("tag images")
    }

    /// Takes a name away, and the image with its last one.
    ///
    /// # Errors
    /// `Conflict` when a container uses it, or it has several names and is named by id, without `force`.
    pub async fn remove_image(&self, _name: &str, _force: bool) -> Result<Vec<RemovedImage>> {
        unwritten("remove images")
    }
}

/// Until the verb is written.
fn unwritten<T>(verb: &str) -> Result<T> {
    Err(Error::new(ErrorKind::Unavailable, format!("this build's engine cannot {verb} yet")))
}
