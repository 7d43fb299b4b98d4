//! Container records: opaque to this room but for id and name, and the name is unique.
//!
//! A name is reserved in memory before anything is written, so of two creations with one name exactly one succeeds,
//! whatever their durability.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tare_model::{ContainerId, ContainerName, Error, Result};

use crate::error::corrupt;
use crate::meta::Meta;
use crate::rows::{Durability, Rows};

/// A container as the engine wants it kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerRecord {
    /// Its id.
    pub id: ContainerId,
    /// Its name, unique among all containers.
    pub name: ContainerName,
    /// Whatever the engine keeps, JSON by custom; not interpreted.
    pub body: Vec<u8>,
    /// What the record survives.
    pub durability: Durability,
}

/// The records of all containers. Cheap to share; every method may be called from any thread.
pub struct Containers {
    meta: Arc<Meta>,
    rows: Rows,
    index: Mutex<Index>,
}

#[derive(Default)]
struct Index {
    by_id: HashMap<ContainerId, (ContainerName, Durability)>,
    by_name: HashMap<ContainerName, ContainerId>,
}

// === impl Containers ===

impl Containers {
    /// Reads what is there; damaged records are described in `damage` and left alone.
    pub(crate) fn open(meta: Arc<Meta>, rows: Rows, damage: &mut Vec<String>) -> Result<Self> {
        let mut index = Index::default();
        for record in read_all(&meta, &rows, damage)? {
            index.insert(record.id, record.name, record.durability);
        }
        Ok(Self { meta, rows, index: Mutex::new(index) })
    }

    /// Keeps a record, new or changed (its name may have changed too). When this returns it survives what its
    /// durability says; **with [`Durability::Disk`] it blocks on the disk**.
    ///
    /// # Errors
    /// `Conflict` if another container has the name; `System` if it could not be written, and nothing has changed.
    pub fn put(&self, record: &ContainerRecord) -> Result<()> {
        let ContainerRecord { id, name, body, durability } = record;
        let before = self.reserve(id, name)?;
        let key = id.as_str();
        let mut written = self.rows.put(&self.meta, key, &encode(name, body), *durability);
        if let (Ok(()), Some((_, old))) = (&written, &before)
            && old != durability
        {
            written = self.rows.remove(&self.meta, key, *old);
        }
        let mut index = self.lock();
        let stale = match &written {
            Ok(()) => before.map(|(name, _)| name).filter(|old| old != name),
            Err(_) => before.is_none_or(|(old, _)| old != *name).then(|| name.clone()),
        };
        if let Some(stale) = stale {
            index.by_name.remove(&stale);
        }
        if written.is_ok() {
            index.by_id.insert(id.clone(), (name.clone(), *durability));
        }
        written
    }

    /// Gives a container another name and keeps its body. **Blocks on the disk** if the record is durable.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if another container has the name.
    pub fn rename(&self, id: &ContainerId, name: &ContainerName) -> Result<()> {
        let record = self.get(id)?.ok_or_else(|| Error::not_found(format!("No such container: {id}")))?;
        self.put(&ContainerRecord { name: name.clone(), ..record })
    }

    /// Forgets a container; one that is not there is fine. **Blocks on the disk** if the record is durable.
    ///
    /// # Errors
    /// `System` if it could not be written; then the record is still there.
    pub fn remove(&self, id: &ContainerId) -> Result<()> {
        let Some((name, durability)) = self.lock().by_id.get(id).cloned() else {
            return Ok(());
        };
        self.rows.remove(&self.meta, id.as_str(), durability)?;
        let mut index = self.lock();
        index.by_id.remove(id);
        index.by_name.remove(&name);
        Ok(())
    }

    /// One record.
    ///
    /// # Errors
    /// `Corrupt` or `System` if it cannot be read.
    pub fn get(&self, id: &ContainerId) -> Result<Option<ContainerRecord>> {
        let Some((_, durability)) = self.lock().by_id.get(id).cloned() else {
            return Ok(None);
        };
        let value = self.rows.get(&self.meta, id.as_str(), durability)?;
        value.map(|value| decode(id.as_str(), &value, durability)).transpose()
    }

    /// Every record, in no order: for start-up. Damaged ones are left out (see [`crate::Store::damage`]).
    ///
    /// # Errors
    /// `Corrupt` or `System` if the database cannot be read.
    pub fn all(&self) -> Result<Vec<ContainerRecord>> {
        read_all(&self.meta, &self.rows, &mut Vec::new())
    }

    /// Whether there is a record of this container. From memory.
    pub fn contains(&self, id: &ContainerId) -> bool {
        self.lock().by_id.contains_key(id)
    }

    /// Who has the name. From memory.
    pub fn named(&self, name: &ContainerName) -> Option<ContainerId> {
        self.lock().by_name.get(name).cloned()
    }

    /// What is in the index for `id` so far; `name` is its from now on, too.
    fn reserve(&self, id: &ContainerId, name: &ContainerName) -> Result<Option<(ContainerName, Durability)>> {
        let mut index = self.lock();
        match index.by_name.get(name) {
            Some(owner) if owner != id => Err(Error::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to \
                 remove (or rename) that container to be able to reuse that name."
            ))),
            _ => {
                index.by_name.insert(name.clone(), id.clone());
                Ok(index.by_id.get(id).cloned())
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Index ===

impl Index {
    fn insert(&mut self, id: ContainerId, name: ContainerName, durability: Durability) {
        self.by_name.insert(name.clone(), id.clone());
        self.by_id.insert(id, (name, durability));
    }
}

fn read_all(meta: &Meta, rows: &Rows, damage: &mut Vec<String>) -> Result<Vec<ContainerRecord>> {
    let mut records: HashMap<ContainerId, ContainerRecord> = HashMap::new();
    for (key, value, durability) in rows.all(meta, damage)? {
        match decode(&key, &value, durability) {
            // In both places: the daemon was killed while the durability changed; the database's word counts.
            Ok(record) if durability == Durability::Disk || !records.contains_key(&record.id) => {
                records.insert(record.id.clone(), record);
            }
            Ok(_) => {}
            Err(e) => damage.push(e.to_string()),
        }
    }
    Ok(records.into_values().collect())
}

/// The name, a line feed (which no name has), the body.
fn encode(name: &ContainerName, body: &[u8]) -> Vec<u8> {
    [name.as_str().as_bytes(), b"\n", body].concat()
}

fn decode(key: &str, value: &[u8], durability: Durability) -> Result<ContainerRecord> {
    let damaged = || corrupt(format!("the record of container {key} is damaged"));
    let at = value.iter().position(|b| *b == b'\n').ok_or_else(damaged)?;
    let name = std::str::from_utf8(&value[..at]).map_err(|_| damaged())?;
    let id = key.parse().map_err(|_| damaged())?;
    Ok(ContainerRecord {
        id,
        name: name.parse().map_err(|_| damaged())?,
        body: value[at + 1..].to_vec(),
        durability,
    })
}

#[cfg(test)]
mod tests;
