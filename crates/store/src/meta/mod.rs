//! The metadata database: small JSON values by table and key, one writer, durable when a commit returns.
//!
//! ```text
//!   caller ──ops──▶ queue ──▶ leader: begin, apply every queued op, commit (one fdatasync) ──▶ callers wake
//!                     ▲                                                                  │
//!                     └──── callers that come meanwhile wait; the next leader takes all ◀┘
//! ```
//!
//! A commit is a list of [`Op`]s that happens whole or not at all. Callers that arrive while a commit is on its way to
//! the disk share the next one, so a slow disk limits latency and not throughput. What the values mean is decided by
//! the rooms above this one (`images`, `records`): the database does not interpret them.

mod group;
mod tables;

use std::fs::File;

use redb::{Database, ReadableDatabase, ReadableTable};
use rustix::fs::{Mode, OFlags};
use tare_model::{Error, ErrorKind, Result};
use tare_sys::dir::Dir;

use crate::error::{SystemContext, corrupt};

pub(crate) use group::Group;
pub(crate) use tables::Table;

/// The version of what is in the tables; a newer one is not touched. Since 2 a container's record may have ids.
const FORMAT: &str = "2";
/// A version that is a part of the present one.
const OLDER: &str = "1";
const FORMAT_KEY: &str = "format";
/// The database, in the root.
pub(crate) const FILE: &str = "meta.redb";
/// Everything that is asked often is in memory above us, so redb's own cache need not be large.
const CACHE_BYTES: usize = 4 << 20;

/// One change of one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Put(Table, String, Vec<u8>),
    Delete(Table, String),
}

/// The open database.
pub(crate) struct Meta {
    db: Database,
    group: Group,
}

// === impl Op ===

impl Op {
    fn table(&self) -> Table {
        match self {
            Self::Put(table, ..) | Self::Delete(table, _) => *table,
        }
    }

    /// A value as JSON.
    pub(crate) fn json(table: Table, key: impl Into<String>, value: &impl serde::Serialize) -> Result<Self> {
        let key = key.into();
        let bytes = serde_json::to_vec(value)
            .map_err(|e| Error::invalid(format!("{} {key} cannot be written as JSON: {e}", table.name())))?;
        Ok(Self::Put(table, key, bytes))
    }
}

// === impl Meta ===

impl Meta {
    /// Opens `meta.redb` in `root`, making it if it is missing. `root_in_use` says that the root has content which only
    /// the database explains: then a missing or empty database is refused, because starting afresh would discard all.
    ///
    /// # Errors
    /// `Corrupt` for a damaged database or one that is missing; `Unsupported` for one of a newer version.
    pub(crate) fn open(root: &Dir, root_in_use: bool) -> Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = root.open(FILE.as_ref(), flags, Mode::from_raw_mode(0o600));
        let file = File::from(opened.while_(|| "open the metadata database")?);
        let fresh = file.metadata().while_(|| "fstat(meta.redb)")?.len() == 0;
        let shown = root.shown();
        if fresh && root_in_use {
            return Err(corrupt(format!(
                "{0}/meta.redb is missing or empty, but {0} has layers, containers or volumes: put the database back, \
                 or move {0} away to start afresh",
                shown.display()
            )));
        }
        let db = Database::builder().set_cache_size(CACHE_BYTES).create_file(file).map_err(|e| {
            corrupt(format!(
                "{0}/meta.redb cannot be opened: {e}; put a good copy back, or move {0} away",
                shown.display()
            ))
        })?;
        let meta = Self { db, group: Group::default() };
        meta.check_format(fresh)?;
        if fresh {
            // The file's own name must outlive a power cut too.
            root.sync().while_(|| "write the engine root's directory to disk")?;
        }
        Ok(meta)
    }

    /// Applies all of `ops`, or none. **Blocks on the disk.**
    ///
    /// # Errors
    /// The database's refusal (a full disk, for example); then nothing of it has happened.
    pub(crate) fn commit(&self, ops: Vec<Op>) -> Result<()> {
        if ops.is_empty() {
            return Ok(());
        }
        self.group.run(ops, |all| self.write(all))
    }

    /// All of a table, by key. Reads from memory and disk; for start-up.
    ///
    /// # Errors
    /// Damage found while reading.
    pub(crate) fn scan(&self, table: Table) -> Result<Vec<(String, Vec<u8>)>> {
        let read = self.db.begin_read().map_err(database)?;
        let table = read.open_table(table.definition()).map_err(database)?;
        let mut all = Vec::new();
        for row in table.iter().map_err(database)? {
            let (key, value) = row.map_err(database)?;
            all.push((key.value().to_owned(), value.value().to_vec()));
        }
        Ok(all)
    }

    /// One value.
    ///
    /// # Errors
    /// Damage found while reading.
    pub(crate) fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>> {
        let read = self.db.begin_read().map_err(database)?;
        let table = read.open_table(table.definition()).map_err(database)?;
        Ok(table.get(key).map_err(database)?.map(|value| value.value().to_vec()))
    }

    fn check_format(&self, fresh: bool) -> Result<()> {
        // A crash before the very first commit leaves a database without tables.
        if fresh || self.is_blank()? {
            return self.create_tables();
        }
        match self.get(Table::Settings, FORMAT_KEY)?.as_deref() {
            Some(found) if found == FORMAT.as_bytes() => Ok(()),
            Some(found) if found == OLDER.as_bytes() => {
                self.write(&[Op::Put(Table::Settings, FORMAT_KEY.to_owned(), FORMAT.into())])
            }
            None => Err(corrupt("the metadata database has no format version: put a good copy back")),
            Some(found) => Err(Error::unsupported(format!(
                "the metadata database has format {:?}; this version writes {FORMAT}: use the version that wrote it",
                String::from_utf8_lossy(found)
            ))),
        }
    }

    fn is_blank(&self) -> Result<bool> {
        let read = self.db.begin_read().map_err(database)?;
        Ok(read.list_tables().map_err(database)?.next().is_none())
    }

    /// Every table and the format version, in one commit: readers always find every table.
    fn create_tables(&self) -> Result<()> {
        let write = self.db.begin_write().map_err(database)?;
        for table in Table::ALL {
            let mut open = write.open_table(table.definition()).map_err(database)?;
            if table == Table::Settings {
                open.insert(FORMAT_KEY, FORMAT.as_bytes()).map_err(database)?;
            }
        }
        write.commit().map_err(database)
    }

    fn write(&self, ops: &[Op]) -> Result<()> {
        let touched = |table: &Table| ops.iter().any(|op| op.table() == *table);
        let write = self.db.begin_write().map_err(database)?;
        for table in Table::ALL.into_iter().filter(touched) {
            let mut open = write.open_table(table.definition()).map_err(database)?;
            for op in ops {
                match op {
                    Op::Put(t, key, value) if *t == table => {
                        open.insert(key.as_str(), value.as_slice()).map_err(database)?;
                    }
                    Op::Delete(t, key) if *t == table => {
                        open.remove(key.as_str()).map_err(database)?;
                    }
                    Op::Put(..) | Op::Delete(..) => {}
                }
            }
        }
        write.commit().map_err(database)
    }
}

fn database(e: impl Into<redb::Error>) -> Error {
    let e = e.into();
    let kind = match &e {
        redb::Error::Corrupted(_) | redb::Error::TableTypeMismatch { .. } => ErrorKind::Corrupt,
        _ => ErrorKind::System,
    };
    Error::new(kind, format!("metadata database: {e}"))
}

#[cfg(test)]
mod tests;
