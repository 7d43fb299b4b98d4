//! What a container is made of on disk: the image's layers, its own layer, its volumes; all by way of the store.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tare_model::container::ImageSource;
use tare_model::sandbox::Rootfs;
use tare_model::{ContainerId, Digest, Error, ImageConfig, Result, VolumeId};
use tare_store::Store;

use crate::api::view::Paths;

/// What a container starts from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Base {
    /// The image's id, if it is one.
    pub(crate) image_id: Option<Digest>,
    /// Its proposals.
    pub(crate) config: ImageConfig,
    /// Read-only directories, topmost first.
    pub(crate) lowers: Vec<PathBuf>,
    /// A directory to write to directly, instead.
    pub(crate) direct: Option<PathBuf>,
    /// Paths to hide inside, whatever the user asks for.
    pub(crate) masked: Vec<String>,
}

/// Looks up what `source` names. From memory, but for a directory of the host.
///
/// # Errors
/// `NotFound` ("No such image: x"), `InvalidInput` for what is no directory.
pub(crate) fn base(store: &Store, root: &Path, source: &ImageSource) -> Result<Base> {
    match source {
        ImageSource::Image { name } => {
            let _ = (store, root);
            Err(Error::not_found(format!("No such image: {name}")))
        }
        ImageSource::Directory { path, writable } => directory(Path::new(path), *writable),
    }
}

fn directory(path: &Path, writable: bool) -> Result<Base> {
    let bad = |why: String| Error::invalid(format!("--rootfs {}: {why}", path.display()));
    if !path.is_absolute() {
        return Err(bad("want an absolute path".into()));
    }
    let real = path.canonicalize().map_err(|e| bad(e.to_string()))?;
    if !real.is_dir() {
        return Err(bad("not a directory".into()));
    }
    Ok(match writable {
        true => Base { direct: Some(real), ..Base::default() },
        false => Base { lowers: vec![real], ..Base::default() },
    })
}

/// The root file system of a container on `base`.
pub(crate) fn rootfs(root: &Path, id: &ContainerId, base: &Base) -> Rootfs {
    let own = root.join("containers").join(id.as_str());
    match &base.direct {
        Some(path) => Rootfs::Directory { path: path.clone() },
        None => {
            Rootfs::Overlay { lowers: base.lowers.clone(), upper: own.join("upper"), work: own.join("work") }
        }
    }
}

/// Makes the directories of a container's own layer.
pub(crate) fn prepare(paths: &Paths) -> Result<()> {
    fs::create_dir_all(&paths.state_dir).map_err(|e| call("mkdir", &paths.state_dir, &e))?;
    for dir in paths.upper.iter().chain(&paths.work) {
        fs::create_dir_all(dir).map_err(|e| call("mkdir", dir, &e))?;
    }
    Ok(())
}

/// The directory that a volume's mount shows.
pub(crate) fn volume_path(root: &Path, id: &VolumeId) -> PathBuf {
    root.join("volumes").join(id.as_str()).join("_data")
}

/// Takes away everything of a container that is on disk: its own layer, logs, `volumes`, its run directory. Everything
/// is tried; all that failed is told.
///
/// # Errors
/// What could not be removed.
pub(crate) fn discard(root: &Path, volumes: &[VolumeId], paths: &Paths) -> Result<()> {
    let volumes = volumes.iter().map(|id| root.join("volumes").join(id.as_str()));
    let all = [paths.state_dir.clone(), paths.run_dir.clone()].into_iter().chain(volumes);
    let failed: Vec<String> = all.filter_map(|dir| remove(&dir).err()).map(|e| e.to_string()).collect();
    if failed.is_empty() { Ok(()) } else { Err(Error::system(failed.join("; "))) }
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(call("remove", dir, &e)),
        _ => Ok(()),
    }
}

fn call(name: &str, path: &Path, e: &io::Error) -> Error {
    Error::system(format!("{name}({}): {e}", path.display()))
}

/// Makes a volume.
///
/// # Errors
/// The failing call.
pub(crate) fn make_volume(
    root: &Path,
    id: &VolumeId,
    _rootfs: &Rootfs,
    _copy_from: Option<&str>,
) -> Result<()> {
    let path = volume_path(root, id);
    fs::create_dir_all(&path).map_err(|e| call("mkdir", &path, &e))
}
