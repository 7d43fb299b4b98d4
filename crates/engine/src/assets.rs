//! What a container is made of on disk: the image's layers, its own layer, its volumes; all by way of the store.

use std::fs;
use std::io;
use std::path::Path;

use tare_model::container::ImageSource;
use tare_model::{ContainerId, Digest, Error, ImageConfig, Result, VolumeId};
use tare_store::{RootSource, Store};

use crate::api::view::Fixed;

/// What a container starts from.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    /// The image's id, if it is one.
    pub(crate) image_id: Option<Digest>,
    /// Its proposals.
    pub(crate) config: ImageConfig,
    /// What it is made of: `amd64`; empty for what is no image.
    pub(crate) architecture: String,
    /// Where its files are.
    pub(crate) source: RootSource,
}

/// Looks up what `source` names. From memory, but for a directory of the host.
///
/// # Errors
/// `NotFound` ("No such image: x"), `InvalidInput` for what is no directory, `Forbidden` for the engine's own.
pub(crate) fn base(store: &Store, source: &ImageSource) -> Result<Base> {
    if let ImageSource::Directory { path, .. } = source
        && !path.starts_with('/')
    {
        return Err(Error::invalid(format!("root directory {path}: want an absolute path")));
    }
    let source = store.root_source(source)?;
    Ok(match source {
        RootSource::Image(id) => {
            let document = store.image_by_id(&id)?.document;
            Base { image_id: Some(id), config: document.config, architecture: document.architecture, source }
        }
        RootSource::Host { .. } | RootSource::Directory { .. } => {
            Base { image_id: None, config: ImageConfig::default(), architecture: String::new(), source }
        }
    })
}

/// What an existing container starts from, whatever its image's name means by now.
///
/// # Errors
/// As [`base`].
pub(crate) fn source(store: &Store, fixed: &Fixed) -> Result<RootSource> {
    match fixed.image_id {
        Some(id) => Ok(RootSource::Image(id)),
        None => store.root_source(&fixed.config.image),
    }
}

/// Takes away everything of a container that is on disk: its own layer, logs, `volumes`, its run directory. Everything
/// is tried; all that failed is told.
///
/// # Errors
/// What could not be removed.
pub(crate) fn discard(store: &Store, id: &ContainerId, volumes: &[VolumeId], run_dir: &Path) -> Result<()> {
    let own = [remove(run_dir), store.discard_container(id)].into_iter();
    let failed = own.chain(volumes.iter().map(|id| store.remove_volume(id))).filter_map(Result::err);
    let failed: Vec<String> = failed.map(|e| e.to_string()).collect();
    if failed.is_empty() { Ok(()) } else { Err(Error::system(failed.join("; "))) }
}

/// The run directory is small, in memory, and written by monitors only.
fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(Error::system(format!("remove {}: {e}", dir.display())))
        }
        _ => Ok(()),
    }
}
