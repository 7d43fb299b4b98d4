//! The store: everything open, in the order that makes a crash harmless.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use tare_model::{Digest, Image, Reference, Result};

use crate::claims::Claims;
use crate::containers::Containers;
use crate::images::{Images, InUse, Removed};
use crate::layout::{Layout, names, open_private};
use crate::meta::{Meta, Op, Table};
use crate::pool::{self, Pool};
use crate::rows::Rows;
use crate::trash::Trash;

/// Where a store keeps its things.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// On a disk: images, layers, volumes, the database.
    pub root: PathBuf,
    /// In memory, gone with a reboot: records of containers that remove themselves.
    pub run_dir: PathBuf,
    /// On a disk, the same for all engines of the machine ([`crate::IDS`]): who lends which ids of the host.
    pub ids: PathBuf,
}

/// An engine's durable state. Share it with an `Arc`; every method may be called from any thread.
pub struct Store {
    pub(crate) meta: Arc<Meta>,
    pub(crate) layout: Arc<Layout>,
    pub(crate) images: Images,
    pub(crate) trash: Trash,
    pub(crate) volume_rows: Rows,
    /// Canonical.
    pub(crate) run_dir: PathBuf,
    containers: Containers,
    damage: Vec<String>,
    instance: String,
}

// === impl Store ===

impl Store {
    /// Opens the store at `config`, making what is missing, and clears away what a crash has left.
    /// **Blocks on the disk.**
    ///
    /// # Errors
    /// `Conflict` if another engine uses the root; `Corrupt` for a damaged or missing database; `System` otherwise.
    pub fn open(config: &StoreConfig) -> Result<Self> {
        let layout = Arc::new(Layout::open(&config.root)?);
        let meta = Arc::new(Meta::open(&layout.root, layout.has_content()?)?);
        let (records, run) = open_private(&config.run_dir.join("records"))?;
        let run_dir = records.parent().map_or_else(|| config.run_dir.clone(), PathBuf::from);
        let mut damage = Vec::new();
        let instance = instance_id(&meta)?;
        let claims = Claims::new(config.ids.clone(), &instance, layout.path.clone());
        let rows = Rows::open(Table::Containers, &run)?;
        let containers = Containers::open(Arc::clone(&meta), rows, pool(), claims, &mut damage)?;
        let volume_rows = Rows::open(Table::Volumes, &run)?;
        let images = Images::open(Arc::clone(&meta), &layout, &mut damage)?;
        clear_leftovers(&layout, &meta, &containers, &volume_rows)?;
        let trash = Trash::start(&layout)?;
        Ok(Self { meta, layout, images, trash, volume_rows, run_dir, containers, damage, instance })
    }

    /// Records of containers.
    pub fn containers(&self) -> &Containers {
        &self.containers
    }

    /// Every image, oldest first. From memory.
    pub fn images(&self) -> Vec<Image> {
        self.images.list()
    }

    /// The image that `name` means: a reference, an id, or the beginning of one. From memory.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if several ids begin so.
    pub fn image(&self, name: &str) -> Result<Image> {
        self.images.resolve(name)
    }

    /// The image with this id. From memory.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn image_by_id(&self, id: &Digest) -> Result<Image> {
        self.images.get(id)
    }

    /// The configuration document of an image, byte for byte.
    ///
    /// # Errors
    /// `NotFound`; `System` if it cannot be read.
    pub fn image_document(&self, id: &Digest) -> Result<Vec<u8>> {
        self.images.document(id)
    }

    /// Gives an image another name; if another image has the name, it loses it. **Blocks on the disk.**
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for a reference with a digest or a reserved name.
    pub fn tag_image(&self, name: &str, reference: &Reference) -> Result<()> {
        let id = self.images.resolve(name)?.record.id;
        self.images.tag(&id, reference)
    }

    /// Takes away a name, or the image if `name` is its id or its last name, with all layers that no other image needs.
    /// `in_use` are the images that containers were made from; they are never deleted. **Blocks on the disk.**
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if a container uses the image or it has several names, and `force` is not set.
    pub fn remove_image(&self, name: &str, force: bool, in_use: &InUse) -> Result<Removed> {
        let removed = self.images.remove(&self.layout, name, force, in_use)?;
        self.trash.wake();
        Ok(removed)
    }

    /// The id of this root, drawn when it was made. From memory.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// What was found damaged at open, one sentence each; it was left alone, and everything else works.
    pub fn damage(&self) -> &[String] {
        &self.damage
    }

    /// A setting.
    ///
    /// # Errors
    /// `Corrupt` or `System` if the database cannot be read.
    pub fn setting(&self, key: &str) -> Result<Option<String>> {
        let value = self.meta.get(Table::Settings, &format!("user.{key}"))?;
        Ok(value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Keeps a setting. **Blocks on the disk.**
    ///
    /// # Errors
    /// `System` if it could not be written.
    pub fn set_setting(&self, key: &str, value: &str) -> Result<()> {
        self.meta.commit(vec![Op::Put(Table::Settings, format!("user.{key}"), value.into())])
    }
}

/// Moves to the trash what no record explains: it was being made, or being removed, when an engine died.
fn clear_leftovers(layout: &Layout, meta: &Meta, containers: &Containers, volumes: &Rows) -> Result<()> {
    let volumes: BTreeSet<_> = volumes.all(meta, &mut Vec::new())?.into_iter().map(|(key, ..)| key).collect();
    let layers: BTreeSet<_> = meta.scan(Table::Layers)?.into_iter().map(|(key, _)| key).collect();
    for name in names(&layout.tmp)? {
        layout.discard(&layout.tmp, &name?)?;
    }
    for name in names(&layout.layers)? {
        let name = name?;
        if !layers.contains(&format!("sha256:{name}")) {
            layout.discard(&layout.layers, &name)?;
        }
    }
    for name in names(&layout.volumes)? {
        let name = name?;
        if !volumes.contains(&name) {
            layout.discard(&layout.volumes, &name)?;
        }
    }
    for name in names(&layout.containers)? {
        let name = name?;
        if !name.parse().is_ok_and(|id| containers.contains(&id)) {
            layout.discard(&layout.containers, &name)?;
        }
    }
    Ok(())
}

/// The ids of the host that are there to be lent.
fn pool() -> Pool {
    let given = |path: &str| pool::foreign(&std::fs::read_to_string(path).unwrap_or_default());
    Pool::new(["/etc/subuid", "/etc/subgid"].into_iter().flat_map(given).collect())
}

fn instance_id(meta: &Meta) -> Result<String> {
    const KEY: &str = "instance";
    if let Some(id) = meta.get(Table::Settings, KEY)? {
        return Ok(String::from_utf8_lossy(&id).into_owned());
    }
    let mut bytes = [0u8; 16];
    crate::random(&mut bytes)?;
    let id: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    meta.commit(vec![Op::Put(Table::Settings, KEY.to_owned(), id.clone().into_bytes())])?;
    Ok(id)
}
