//! The file system of a container: read-only directories of its image, and its own writable one.
//!
//! Preparing makes directories and nothing else; the union is mounted by the container's monitor, in the container's
//! mount namespace. Removing moves the directories to the trash.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, Uid, fchmod, fchown};
use tare_model::container::ImageSource;
use tare_model::sandbox::{Part, Rootfs, Union};
use tare_model::{ContainerId, Digest, Error, ErrorKind, Result};
use tare_sys::dir::Dir;
use tare_sys::userns;

use crate::Store;
use crate::error::{SystemContext, corrupt};
use crate::mask::{self, Extent};
use crate::merged::MergedDir;
use crate::parts;
use crate::rows::Durability;

/// Most lower layers that an overlay has.
const LOWERS_MAX: usize = 500;
/// Longest file whose text is looked at.
const LONGEST_TEXT: u64 = 1 << 20;
/// The upper layer until it is whole.
const UNFINISHED: &str = "upper.unfinished";

/// What a container's file system begins as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootSource {
    /// The running system.
    Host {
        /// With secrets and home directories.
        full: bool,
    },
    /// An image, by id.
    Image(Digest),
    /// A directory of the host, by canonical path.
    Directory {
        /// Where.
        path: PathBuf,
        /// Written to directly, without a private layer.
        writable: bool,
    },
}

// === impl Store ===

impl Store {
    /// What `source` means now.
    ///
    /// # Errors
    /// `NotFound` for an image or directory that is not there; `Forbidden` for a directory that is part of the engine's
    /// own, or would let a container write to them.
    pub fn root_source(&self, source: &ImageSource) -> Result<RootSource> {
        match source {
            ImageSource::Image { name } => match name.as_str() {
                "host" | "host:latest" => Ok(RootSource::Host { full: false }),
                "host:full" => Ok(RootSource::Host { full: true }),
                name => Ok(RootSource::Image(self.image(name)?.record.id)),
            },
            ImageSource::Directory { path, writable } => self.directory_source(Path::new(path), *writable),
        }
    }

    /// Makes the directories of a container, or finds those that are there, and says how its root is assembled. To be
    /// called before every start, not only at creation: after a power cut a record may have outlived its directories.
    /// `durability` is that of the container's record: what need not survive the machine is mounted volatile.
    ///
    /// # Errors
    /// `NotFound` if the image is gone; `System` for what the kernel refused.
    pub fn prepare(&self, id: &ContainerId, source: &RootSource, durability: Durability) -> Result<Rootfs> {
        if let RootSource::Directory { path, writable: true } = source {
            return Ok(Rootfs::Directory { path: path.clone() });
        }
        let mut lowers = self.lowers(source)?;
        let what = || format!("prepare container {id}");
        let dir = self.layout.containers.ensure_dir(id.as_str(), 0o700).while_(what)?;
        if let (RootSource::Host { .. } | RootSource::Directory { .. }, [lower], false) =
            (source, lowers.as_slice(), userns::is_initial())
        {
            let mounts = parts::mounts_below(lower)?;
            if !mounts.is_empty() {
                let at = (&dir, self.container_dir(id));
                let made = self.prepare_parts((at.0, &at.1), source, lower, &mounts);
                let (base, parts) = made.map_err(|e| e.context(what()))?;
                return Ok(Rootfs::Parts { base, parts, volatile: durability == Durability::Process });
            }
        }
        if dir.stat("upper").while_(what)?.is_none() {
            self.make_upper(&dir, source, &lowers).map_err(|e| e.context(what()))?;
        }
        dir.ensure_dir("work", 0o700).while_(what)?;
        // The kernel takes no more.
        if matches!(source, RootSource::Image(_)) && lowers.len() < LOWERS_MAX {
            lowers.push(self.layout.path.join("places"));
        }
        let base = self.container_dir(id);
        Ok(Rootfs::Overlay {
            lowers,
            upper: base.join("upper"),
            work: base.join("work"),
            volatile: durability == Durability::Process,
        })
    }

    /// The text of the file at `path` as a container of this source will see it at first. `None` if it is not a plain one:
    /// none is there, it is no regular file, it is reached by way of a symlink, or longer than 1 MiB.
    ///
    /// # Errors
    /// `NotFound` if the image is gone; `System` for what the kernel refused.
    pub fn text_of(&self, source: &RootSource, path: &str) -> Result<Option<String>> {
        MergedDir::root(&self.lowers(source)?)?.text(path, LONGEST_TEXT)
    }

    /// Takes a container's directories away; they are emptied in the background. Nothing there is fine.
    ///
    /// # Errors
    /// `System` for what the kernel refused.
    pub fn discard_container(&self, id: &ContainerId) -> Result<()> {
        self.layout.discard(&self.layout.containers, id.as_str())?;
        self.trash.wake();
        Ok(())
    }

    /// Where the directories of a container are: `upper` and `work` below it.
    pub fn container_dir(&self, id: &ContainerId) -> PathBuf {
        self.layout.path.join("containers").join(id.as_str())
    }

    /// The read-only directories of a source, topmost first.
    pub(crate) fn lowers(&self, source: &RootSource) -> Result<Vec<PathBuf>> {
        match source {
            RootSource::Host { .. } => Ok(vec![PathBuf::from("/")]),
            RootSource::Directory { path, .. } => Ok(vec![path.clone()]),
            RootSource::Image(id) => {
                let mut lowers: Vec<PathBuf> = Vec::new();
                for key in self.images.get(id)?.record.layers.iter().rev() {
                    if self.images.layer_size(key).is_none() {
                        return Err(corrupt(format!(
                            "layer {key} of image {id} is gone: remove and load the image again"
                        )));
                    }
                    let path = self.layout.path.join("layers").join(key.hex()).join("diff");
                    // Overlayfs refuses a directory twice, and a second, lower one would show nothing new.
                    if !lowers.contains(&path) {
                        lowers.push(path);
                    }
                }
                if lowers.is_empty() {
                    lowers.push(self.layout.path.join("empty"));
                }
                Ok(lowers)
            }
        }
    }

    /// As [`Store::prepare`], of a directory that cannot be a layer as a whole.
    fn prepare_parts(
        &self,
        (dir, path): (&Dir, &Path),
        source: &RootSource,
        lower: &Path,
        mounts: &[PathBuf],
    ) -> Result<(Union, Vec<Part>)> {
        let (engine, extent) = self.hidden(source);
        let split = parts::Split::of(lower, mounts, &mask::directories(&engine, extent))?;
        let own =
            |path: &Path, lower: PathBuf| Union { lower, upper: path.join("upper"), work: path.join("work") };
        let base = own(path, self.layout.path.join("empty"));
        if dir.stat("upper").while_(|| "stat(upper)")?.is_none() {
            self.layout.discard(dir, UNFINISHED)?;
            dir.ensure_dir(UNFINISHED, 0o755).while_(|| "make upper layer")?;
            split.frame(lower, &path.join(UNFINISHED))?;
            dir.rename(UNFINISHED, dir, "upper", false).while_(|| "make upper layer")?;
        }
        dir.ensure_dir("work", 0o700).while_(|| "make work directory")?;
        let all = dir.ensure_dir("parts", 0o700).while_(|| "make parts")?;
        let mut parts = Vec::new();
        for place in &split.layers {
            let (name, from) = (parts::name(place)?, lower.join(place));
            match self.prepare_part(&all, &name, source, &from) {
                Ok(()) => parts.push(Part::Layer {
                    place: place.clone(),
                    union: own(&path.join("parts").join(&name), from),
                }),
                // The host goes on living: what has gone meanwhile is an empty directory.
                Err(_) if !from.exists() => {}
                Err(e) => return Err(e),
            }
        }
        parts.extend(
            split.files.iter().map(|place| Part::File { place: place.clone(), path: lower.join(place) }),
        );
        // A place that is not there in an upper layer of an earlier start has been removed by the container.
        parts.retain(|part| {
            let (Part::Layer { place, .. } | Part::File { place, .. }) = part;
            base.upper.join(place).symlink_metadata().is_ok_and(|data| !data.file_type().is_symlink())
        });
        Ok((base, parts))
    }

    /// The own directories of one part, with the host's `from` as the layer below.
    fn prepare_part(&self, all: &Dir, name: &OsStr, source: &RootSource, from: &Path) -> Result<()> {
        let (engine, extent) = self.hidden(source);
        let dir = all.ensure_dir(name, 0o700).while_(|| "make a part")?;
        if dir.stat("upper").while_(|| "stat(upper)")?.is_none() {
            self.layout.discard(&dir, UNFINISHED)?;
            let upper = dir.ensure_dir(UNFINISHED, 0o755).while_(|| "make upper layer")?;
            mask::take_over(upper.as_fd(), from)?;
            mask::write(&upper, from, &engine, extent)?;
            dir.rename(UNFINISHED, &dir, "upper", false).while_(|| "make upper layer")?;
        }
        dir.ensure_dir("work", 0o700).while_(|| "make work directory").map(drop)
    }

    /// What of the host a container does not see.
    fn hidden(&self, source: &RootSource) -> ([PathBuf; 2], Extent) {
        let engine = [self.layout.path.clone(), self.run_dir.clone()];
        match source {
            RootSource::Host { full: false } => (engine, Extent::Secrets),
            _ => (engine, Extent::Engine),
        }
    }

    /// Makes `upper` whole under another name first: a mask of which a crash left half must never be taken for the mask.
    fn make_upper(&self, dir: &Dir, source: &RootSource, lowers: &[PathBuf]) -> Result<()> {
        self.layout.discard(dir, UNFINISHED)?;
        let upper = dir.ensure_dir(UNFINISHED, 0o755).while_(|| "make upper layer")?;
        self.furnish(&upper, source, lowers)?;
        dir.rename(UNFINISHED, dir, "upper", false).while_(|| "make upper layer")
    }

    /// A union's root directory is that of its topmost layer, so the new one must look like the one below it.
    fn furnish(&self, upper: &Dir, source: &RootSource, lowers: &[PathBuf]) -> Result<()> {
        let top = &lowers[0];
        let stat = rustix::fs::stat(top).while_(|| format!("stat({})", top.display()))?;
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        fchown(upper.as_fd(), Some(uid), Some(gid)).while_(|| "fchown(upper)")?;
        fchmod(upper.as_fd(), Mode::from_raw_mode(stat.st_mode & 0o7777)).while_(|| "fchmod(upper)")?;
        let (engine, extent) = self.hidden(source);
        match source {
            RootSource::Host { .. } => mask::write(upper, Path::new("/"), &engine, extent),
            RootSource::Directory { path, .. } => mask::write(upper, path, &engine, extent),
            RootSource::Image(_) => Ok(()),
        }
    }

    fn directory_source(&self, path: &Path, writable: bool) -> Result<RootSource> {
        let shown = path.display();
        let real =
            path.canonicalize().map_err(|e| Error::not_found(format!("root directory {shown}: {e}")))?;
        if !real.is_dir() {
            return Err(Error::invalid(format!("root directory {shown} is no directory")));
        }
        let forbidden = |why: &str| Error::new(ErrorKind::Forbidden, format!("root directory {shown} {why}"));
        for own in [&self.layout.path, &self.run_dir] {
            if real.starts_with(own) {
                return Err(forbidden("lies inside the engine's own directories"));
            }
            if writable && own.starts_with(&real) {
                return Err(forbidden(
                    "contains the engine's own directories: it can only be used read-only",
                ));
            }
        }
        Ok(RootSource::Directory { path: real, writable })
    }
}

#[cfg(test)]
mod tests;
