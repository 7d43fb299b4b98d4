//! The store: everything open, in the order that makes a crash harmless.

use std::path::PathBuf;
use std::sync::Arc;

use tare_model::Result;

use crate::containers::Containers;
use crate::layout::{Layout, open_private};
use crate::meta::{Meta, Op, Table};
use crate::rows::Rows;

/// Where a store keeps its things.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// On a disk: images, layers, volumes, the database.
    pub root: PathBuf,
    /// In memory, gone with a reboot: records of containers that remove themselves.
    pub run_dir: PathBuf,
}

/// An engine's durable state. Share it with an `Arc`; every method may be called from any thread.
pub struct Store {
    pub(crate) meta: Arc<Meta>,
    pub(crate) layout: Arc<Layout>,
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
        let (_, run) = open_private(&config.run_dir.join("records"))?;
        let mut damage = Vec::new();
        let containers =
            Containers::open(Arc::clone(&meta), Rows::open(Table::Containers, &run)?, &mut damage)?;
        let instance = instance_id(&meta)?;
        Ok(Self { meta, layout, containers, damage, instance })
    }

    /// Records of containers.
    pub fn containers(&self) -> &Containers {
        &self.containers
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
