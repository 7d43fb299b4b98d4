//! Which containers there are: by id, by prefix, by name.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tare_model::{ContainerId, ContainerName, Error, Result};

use super::handle::Handle;
use super::levels::Levels;

/// All containers. Locked for look-ups only.
#[derive(Default)]
pub(crate) struct Table {
    index: RwLock<Index>,
    /// Those of the containers' SELinux labels.
    pub(crate) levels: Levels,
}

#[derive(Default)]
struct Index {
    by_id: BTreeMap<ContainerId, Arc<Handle>>,
    by_name: HashMap<ContainerName, ContainerId>,
}

// === impl Table ===

impl Table {
    /// Finds a container as Docker does: a whole id, then a name, then a prefix of exactly one id.
    ///
    /// # Errors
    /// `NotFound`, or `InvalidInput` for a prefix of several.
    pub(crate) fn get(&self, key: &str) -> Result<Arc<Handle>> {
        let index = self.read();
        if let Some(handle) = key.parse().ok().and_then(|id: ContainerId| index.by_id.get(&id)) {
            return Ok(Arc::clone(handle));
        }
        let named = key.parse().ok().and_then(|name: ContainerName| index.by_name.get(&name));
        if let Some(handle) = named.and_then(|id| index.by_id.get(id)) {
            return Ok(Arc::clone(handle));
        }
        index.by_prefix(key)
    }

    /// All of them, by id.
    pub(crate) fn all(&self) -> Vec<Arc<Handle>> {
        self.read().by_id.values().cloned().collect()
    }

    /// Whether the name is taken, and by whom.
    pub(crate) fn named(&self, name: &ContainerName) -> Option<ContainerId> {
        self.read().by_name.get(name).cloned()
    }

    /// A new container.
    pub(crate) fn insert(&self, name: ContainerName, handle: Arc<Handle>) {
        if let Some(level) = level(&handle) {
            self.levels.add(level);
        }
        let mut index = self.write();
        index.by_name.insert(name, handle.id.clone());
        index.by_id.insert(handle.id.clone(), handle);
    }

    /// Another name for one.
    pub(crate) fn rename(&self, old: &ContainerName, new: ContainerName, id: &ContainerId) {
        let mut index = self.write();
        if index.by_name.get(old) == Some(id) {
            index.by_name.remove(old);
        }
        index.by_name.insert(new, id.clone());
    }

    /// One that is gone.
    pub(crate) fn remove(&self, id: &ContainerId, name: &ContainerName) {
        let mut index = self.write();
        if let Some(level) = index.by_id.remove(id).and_then(|handle| level(&handle)) {
            self.levels.take_away(&level);
        }
        if index.by_name.get(name) == Some(id) {
            index.by_name.remove(name);
        }
    }

    /// Forgets all, so that their drivers end. The containers live on.
    pub(crate) fn clear(&self) {
        *self.write() = Index::default();
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn level(handle: &Handle) -> Option<String> {
    handle.view().fixed.labels.as_ref()?.level()
}

// === impl Index ===

impl Index {
    fn by_prefix(&self, key: &str) -> Result<Arc<Handle>> {
        let not_found = || Error::not_found(format!("No such container: {key}"));
        let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if key.is_empty() || key.len() > 64 || !key.bytes().all(hex) {
            return Err(not_found());
        }
        // The smallest id with this prefix.
        let from = format!("{key:0<64}").parse::<ContainerId>().map_err(|_| not_found())?;
        let mut found = self.by_id.range(from..).take_while(|(id, _)| id.as_str().starts_with(key));
        let (_, handle) = found.next().ok_or_else(not_found)?;
        match found.next() {
            None => Ok(Arc::clone(handle)),
            Some(_) => Err(Error::invalid(format!("Multiple IDs found with provided prefix: {key}"))),
        }
    }
}
