//! Container records: opaque to this room but for id and name, and the name is unique.
//!
//! A name is reserved in memory before anything is written, so of two creations with one name exactly one succeeds,
//! whatever their durability.
//!
//! The ids of the host that a container has are part of its record: they come and go with it, in the same commit. Which
//! are free is counted from the records at open and kept in memory ([`crate::pool`]).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tare_model::{ContainerId, ContainerName, Error, IdRange, Result};

use crate::claims::Claims;
use crate::error::corrupt;
use crate::meta::Meta;
use crate::pool::Pool;
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
    /// The ids of the host that it has to itself, or shares.
    pub ids: Option<IdRange>,
}

/// Ids that are held until a record with them is kept. Dropping it gives them up, as far as nobody else holds them.
#[derive(Debug)]
pub struct HeldIds {
    range: IdRange,
    pool: Arc<Mutex<Pool>>,
}

/// The records of all containers. Cheap to share; every method may be called from any thread.
pub struct Containers {
    meta: Arc<Meta>,
    rows: Rows,
    index: Mutex<Index>,
    pool: Arc<Mutex<Pool>>,
    claims: Claims,
}

#[derive(Default)]
struct Index {
    by_id: HashMap<ContainerId, Known>,
    by_name: HashMap<ContainerName, ContainerId>,
}

/// What is in memory of a record.
#[derive(Clone)]
struct Known {
    name: ContainerName,
    durability: Durability,
    ids: Option<IdRange>,
}

// === impl Containers ===

impl Containers {
    /// Reads what is there; damaged records are described in `damage` and left alone.
    pub(crate) fn open(
        meta: Arc<Meta>,
        rows: Rows,
        mut pool: Pool,
        claims: Claims,
        damage: &mut Vec<String>,
    ) -> Result<Self> {
        let mut index = Index::default();
        for ContainerRecord { id, name, durability, ids, .. } in read_all(&meta, &rows, damage)? {
            ids.into_iter().for_each(|range| pool.hold(range));
            index.insert(id, Known { name, durability, ids });
        }
        let used = pool.used();
        if !used.is_empty() {
            damage.extend(claims.keep(&used).err().map(|e| e.to_string()));
        }
        Ok(Self { meta, rows, index: Mutex::new(index), pool: Arc::new(Mutex::new(pool)), claims })
    }

    /// Ids of the host that no container has, of whatever engine: `blocks` times 65,536 neighbouring ones. Once in about 64
    /// times it **blocks on the disk**, to claim more of them for this engine.
    ///
    /// # Errors
    /// `Conflict` when there are none left; `System` or `Corrupt` when they could not be claimed.
    pub fn hold_ids(&self, blocks: u32) -> Result<HeldIds> {
        let mut pool = lock(&self.pool);
        loop {
            if let Some(range) = pool.take(blocks) {
                return Ok(HeldIds { range, pool: Arc::clone(&self.pool) });
            }
            let more = self.claims.more(pool.parts())?;
            if more.is_empty() {
                return Err(Error::conflict(
                    "no ids of the host are left for another container: remove some",
                ));
            }
            pool.add(more);
        }
    }

    /// Leaves all ids to other engines, if no container has any. **Blocks on the disk.**
    ///
    /// # Errors
    /// `System` or `Corrupt` for what became of the claims.
    pub fn give_ids_back(&self) -> Result<()> {
        let mut pool = lock(&self.pool);
        if !pool.used().is_empty() || pool.parts().is_empty() {
            return Ok(());
        }
        self.claims.give_back()?;
        pool.forget_parts();
        Ok(())
    }

    /// The ids that another container has, to be shared.
    ///
    /// # Errors
    /// `Conflict` when no container has them any more.
    pub fn share_ids(&self, range: IdRange) -> Result<HeldIds> {
        let mut pool = lock(&self.pool);
        if !pool.holds(range) {
            return Err(Error::conflict(format!("no container has the ids {range} any more")));
        }
        pool.hold(range);
        Ok(HeldIds { range, pool: Arc::clone(&self.pool) })
    }

    /// Keeps a record, new or changed (its name may have changed too). When this returns it survives what its
    /// durability says; **with [`Durability::Disk`] it blocks on the disk**.
    ///
    /// # Errors
    /// `Conflict` if another container has the name; `System` if it could not be written, and nothing has changed.
    pub fn put(&self, record: &ContainerRecord) -> Result<()> {
        let ContainerRecord { id, name, body, durability, ids } = record;
        let before = self.reserve(id, name)?;
        let key = id.as_str();
        let mut written = self.rows.put(&self.meta, key, &encode(name, *ids, body), *durability);
        if let (Ok(()), Some(before)) = (&written, &before)
            && before.durability != *durability
        {
            written = self.rows.remove(&self.meta, key, before.durability);
        }
        let mut index = self.lock();
        let stale = match &written {
            Ok(()) => before.as_ref().map(|before| before.name.clone()).filter(|old| old != name),
            Err(_) => before.as_ref().is_none_or(|before| before.name != *name).then(|| name.clone()),
        };
        if let Some(stale) = stale {
            index.by_name.remove(&stale);
        }
        if written.is_ok() {
            let mut pool = lock(&self.pool);
            ids.iter().for_each(|range| pool.hold(*range));
            before.and_then(|before| before.ids).into_iter().for_each(|range| pool.release(range));
            let known = Known { name: name.clone(), durability: *durability, ids: *ids };
            index.by_id.insert(id.clone(), known);
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
        let Some(Known { name, durability, .. }) = self.lock().by_id.get(id).cloned() else {
            return Ok(());
        };
        self.rows.remove(&self.meta, id.as_str(), durability)?;
        let mut index = self.lock();
        let gone = index.by_id.remove(id);
        index.by_name.remove(&name);
        // Only now that no record has them.
        gone.and_then(|gone| gone.ids).into_iter().for_each(|range| lock(&self.pool).release(range));
        Ok(())
    }

    /// One record.
    ///
    /// # Errors
    /// `Corrupt` or `System` if it cannot be read.
    pub fn get(&self, id: &ContainerId) -> Result<Option<ContainerRecord>> {
        let Some(Known { durability, .. }) = self.lock().by_id.get(id).cloned() else {
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
    fn reserve(&self, id: &ContainerId, name: &ContainerName) -> Result<Option<Known>> {
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
    fn insert(&mut self, id: ContainerId, known: Known) {
        self.by_name.insert(known.name.clone(), id.clone());
        self.by_id.insert(id, known);
    }
}

// === impl HeldIds ===

impl HeldIds {
    /// Which.
    pub fn range(&self) -> IdRange {
        self.range
    }
}

impl Drop for HeldIds {
    fn drop(&mut self) {
        lock(&self.pool).release(self.range);
    }
}

/// A caller that panicked while it had the pool has changed nothing halfway.
fn lock(pool: &Mutex<Pool>) -> MutexGuard<'_, Pool> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
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

/// The name, a blank and the ids if there are any, a line feed, the body. No name has a blank or a line feed.
fn encode(name: &ContainerName, ids: Option<IdRange>, body: &[u8]) -> Vec<u8> {
    let ids = ids.map(|range| format!(" {range}")).unwrap_or_default();
    [name.as_str().as_bytes(), ids.as_bytes(), b"\n", body].concat()
}

fn decode(key: &str, value: &[u8], durability: Durability) -> Result<ContainerRecord> {
    let damaged = || corrupt(format!("the record of container {key} is damaged"));
    let at = value.iter().position(|b| *b == b'\n').ok_or_else(damaged)?;
    let head = std::str::from_utf8(&value[..at]).map_err(|_| damaged())?;
    let (name, ids) = head.split_once(' ').map_or((head, None), |(name, ids)| (name, Some(ids)));
    Ok(ContainerRecord {
        id: key.parse().map_err(|_| damaged())?,
        name: name.parse().map_err(|_| damaged())?,
        body: value[at + 1..].to_vec(),
        durability,
        ids: ids.map(str::parse).transpose().map_err(|_| damaged())?,
    })
}

#[cfg(test)]
mod tests;
