//! Anonymous volumes: a directory of the host that begins as a copy of what the image has at a path.
//!
//! A volume is made below `tmp/`, moved into place, and then recorded; what has no record is cleared away at open.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tare_model::sandbox::{Part, Rootfs};
use tare_model::{ContainerId, Error, Result, VolumeId};
use time::OffsetDateTime;

use crate::error::{SystemContext, corrupt};
use crate::layout::unique_name;
use crate::merged::{Found, MergedDir};
use crate::snapshots::RootSource;
use crate::{Durability, Store};

/// A volume to be made.
#[derive(Clone, Debug)]
pub struct NewVolume<'a> {
    /// Its id.
    pub id: VolumeId,
    /// The container it is made for.
    pub container: &'a ContainerId,
    /// Where it will be mounted: this path of the image is copied.
    pub path: &'a str,
    /// What the container begins as; `None` leaves the volume empty.
    pub copy_from: Option<&'a RootSource>,
    /// As that of the container's record.
    pub durability: Durability,
}

/// A volume there is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// Its id.
    pub id: VolumeId,
    /// The container it was made for.
    pub container: ContainerId,
    /// Where that has it mounted.
    pub path: String,
    /// When, seconds since 1970.
    pub created: i64,
}

// === impl Store ===

impl Store {
    /// Makes a volume and says where its data is. **Blocks on the disk.**
    ///
    /// # Errors
    /// `System` for what the kernel refused; nothing is left then.
    pub fn create_volume(&self, new: &NewVolume<'_>) -> Result<PathBuf> {
        let staged = unique_name()?;
        let result =
            self.fill_volume(new, &staged).map_err(|e| e.context(format!("make volume for {}", new.path)));
        if result.is_err() {
            self.layout.discard(&self.layout.tmp, &staged)?;
            self.layout.discard(&self.layout.volumes, new.id.as_str())?;
            self.trash.wake();
        }
        result.map(|()| self.volume_path(&new.id))
    }

    /// Removes a volume with its data; one that is not there is fine. **Blocks on the disk** if it is durable.
    ///
    /// # Errors
    /// `System` for what could not be written.
    pub fn remove_volume(&self, id: &VolumeId) -> Result<()> {
        for durability in [Durability::Process, Durability::Disk] {
            if durability == Durability::Process || self.is_durable_volume(id)? {
                self.volume_rows.remove(&self.meta, id.as_str(), durability)?;
            }
        }
        self.layout.discard(&self.layout.volumes, id.as_str())?;
        self.trash.wake();
        Ok(())
    }

    /// Every volume, in no order. Reads the disk.
    ///
    /// # Errors
    /// `Corrupt` or `System` if the database cannot be read.
    pub fn volumes(&self) -> Result<Vec<VolumeRecord>> {
        let rows = self.volume_rows.all(&self.meta, &mut Vec::new())?;
        let read = |(key, value, _): (String, Vec<u8>, _)| {
            serde_json::from_slice(&value)
                .map_err(|e| corrupt(format!("the record of volume {key} is damaged: {e}")))
        };
        rows.into_iter().map(read).collect()
    }

    /// Where the data of a volume is.
    pub fn volume_path(&self, id: &VolumeId) -> PathBuf {
        self.layout.path.join("volumes").join(id.as_str()).join("_data")
    }

    fn fill_volume(&self, new: &NewVolume<'_>, staged: &str) -> Result<()> {
        let layout = &self.layout;
        let dir = layout.tmp.ensure_dir(staged, 0o700).while_(|| "volume")?;
        let data = dir.ensure_dir("_data", 0o755).while_(|| "volume")?;
        let mut copied = false;
        if let Some(source) = new.copy_from {
            let (directories, path) = self.seen(new, source)?;
            let root = MergedDir::root(&directories)?;
            if let Some(Found::Directory(found)) = root.resolve(path.as_os_str())? {
                copied = crate::copy::copy_tree(found, data)?;
            }
        }
        if copied && new.durability == Durability::Disk {
            dir.sync_file_system().while_(|| "write the volume to disk")?;
        }
        layout.tmp.rename(staged, &layout.volumes, new.id.as_str(), false).while_(|| "volume")?;
        if new.durability == Durability::Disk {
            layout.volumes.sync().while_(|| "write the volume to disk")?;
        }
        let record = VolumeRecord {
            id: new.id.clone(),
            container: new.container.clone(),
            path: new.path.to_owned(),
            created: OffsetDateTime::now_utc().unix_timestamp(),
        };
        let value = serde_json::to_vec(&record)
            .map_err(|e| Error::invalid(format!("write the volume's record: {e}")))?;
        self.volume_rows.put(&self.meta, new.id.as_str(), &value, new.durability)
    }

    /// The directories that make up what the new container sees, topmost first. A directory of the host shows through its
    /// upper layer, which hides what it must not see. And where the volume's path is in them.
    fn seen(&self, new: &NewVolume<'_>, source: &RootSource) -> Result<(Vec<PathBuf>, PathBuf)> {
        let path = PathBuf::from(new.path);
        if matches!(source, RootSource::Image(_)) {
            return Ok((self.lowers(source)?, path));
        }
        Ok(match self.prepare(new.container, source, new.durability)? {
            Rootfs::Overlay { lowers, upper, .. } => (std::iter::once(upper).chain(lowers).collect(), path),
            Rootfs::Directory { path: root } => (vec![root], path),
            Rootfs::Parts { base, parts, .. } => match parts.into_iter().find_map(|part| within(part, &path))
            {
                Some(found) => found,
                // Above all parts there are only places for them.
                None => (vec![base.upper], path),
            },
        })
    }

    fn is_durable_volume(&self, id: &VolumeId) -> Result<bool> {
        Ok(self.meta.get(crate::meta::Table::Volumes, id.as_str())?.is_some())
    }
}

/// The directories of `part`, and where `path` is in them, if it is.
fn within(part: Part, path: &Path) -> Option<(Vec<PathBuf>, PathBuf)> {
    let Part::Layer { place, union } = part else { return None };
    let below = path.strip_prefix("/").unwrap_or(path).strip_prefix(place).ok()?.to_owned();
    Some((vec![union.upper, union.lower], Path::new("/").join(below)))
}
