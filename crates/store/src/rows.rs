//! Rows with a choice of durability: in the database, or in a file of the run directory.
//!
//! A container that removes itself (`--rm`) need not outlive a power cut, which its processes do not outlive either;
//! it must outlive the daemon. A file in the run directory (memory, usually) does that and costs no disk write.
//!
//! A file is written beside its place and renamed, so a daemon killed meanwhile leaves the old or the new one.

use std::io::Write;

use rustix::io::Errno;
use tare_model::Result;
use tare_sys::dir::Dir;

use crate::error::{SystemContext, corrupt};
use crate::layout::names;
use crate::meta::{Meta, Op, Table};

/// What a record survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A power cut: in the database, on disk when the call returns. **Blocks on the disk.**
    Disk,
    /// The daemon's death, at any instruction, but not the machine's. Does not wait for the disk.
    Process,
}

/// One table and its directory of files.
pub(crate) struct Rows {
    table: Table,
    files: Dir,
}

/// Marks a file that is being written; ids begin with a hexadecimal digit.
const UNFINISHED: char = '.';
/// A record is engine state, not user data; one of this size is damage.
const FILE_MAX: u64 = 16 << 20;

// === impl Rows ===

impl Rows {
    /// The rows of `table`, with files in the directory of the same name below `run`.
    pub(crate) fn open(table: Table, run: &Dir) -> Result<Self> {
        let files = run.ensure_dir(table.name(), 0o700).while_(|| "open the run directory's records")?;
        Ok(Self { table, files })
    }

    /// Writes a row.
    pub(crate) fn put(&self, meta: &Meta, key: &str, value: &[u8], durability: Durability) -> Result<()> {
        match durability {
            Durability::Disk => meta.commit(vec![Op::Put(self.table, key.to_owned(), value.to_vec())]),
            Durability::Process => self.write_file(key, value).while_(|| format!("keep record {key}")),
        }
    }

    /// Removes a row; one that is not there is fine.
    pub(crate) fn remove(&self, meta: &Meta, key: &str, durability: Durability) -> Result<()> {
        match durability {
            Durability::Disk => meta.commit(vec![Op::Delete(self.table, key.to_owned())]),
            Durability::Process => match self.files.unlink(key) {
                Err(e) if e.errno() == Errno::NOENT => Ok(()),
                done => done.while_(|| format!("remove record {key}")),
            },
        }
    }

    /// One row.
    pub(crate) fn get(&self, meta: &Meta, key: &str, durability: Durability) -> Result<Option<Vec<u8>>> {
        match durability {
            Durability::Disk => meta.get(self.table, key),
            Durability::Process => self.read_file(key).map(Some),
        }
    }

    /// All rows, damaged ones left out and described in `damage`.
    pub(crate) fn all(
        &self,
        meta: &Meta,
        damage: &mut Vec<String>,
    ) -> Result<Vec<(String, Vec<u8>, Durability)>> {
        let durable = meta.scan(self.table)?.into_iter().map(|(key, value)| (key, value, Durability::Disk));
        let mut all: Vec<_> = durable.collect();
        for name in names(&self.files)? {
            let name = name?;
            if name.starts_with(UNFINISHED) {
                self.files.unlink(&name).while_(|| "remove an unfinished record")?;
                continue;
            }
            match self.read_file(&name) {
                Ok(value) => all.push((name, value, Durability::Process)),
                Err(e) => damage.push(e.to_string()),
            }
        }
        Ok(all)
    }

    fn read_file(&self, name: &str) -> Result<Vec<u8>> {
        let what = || format!("read record {name}");
        let file = self.files.open_file(name).while_(what)?;
        if file.metadata().while_(what)?.len() > FILE_MAX {
            return Err(corrupt(format!("record {name} is larger than {FILE_MAX} bytes")));
        }
        let mut value = Vec::new();
        std::io::Read::read_to_end(&mut &file, &mut value).while_(what)?;
        Ok(value)
    }

    fn write_file(&self, key: &str, value: &[u8]) -> std::io::Result<()> {
        let unfinished = format!("{UNFINISHED}{key}");
        let io = |e: tare_sys::dir::CallError| std::io::Error::new(std::io::Error::from(e.errno()).kind(), e);
        let mut file = match self.files.create_file(&unfinished, 0o600) {
            // Left by a write that failed.
            Err(e) if e.errno() == Errno::EXIST => {
                self.files.unlink(&unfinished).map_err(io)?;
                self.files.create_file(&unfinished, 0o600).map_err(io)?
            }
            other => other.map_err(io)?,
        };
        file.write_all(value)?;
        self.files.rename(&unfinished, &self.files, key, true).map_err(io)
    }
}
