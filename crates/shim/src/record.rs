//! What outlives daemon and shim: when a container's process started, and how it ended.
//!
//! # Format of `RUN/containers/ID/record`
//! 4096 bytes, allocated when the file is made so that writing it cannot fail for lack of space; two slots of 2048 bytes:
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 8 | `tareREC1` |
//! | 8 | 8 | sequence number, little endian |
//! | 16 | 4 | length n of the payload, little endian |
//! | 20 | 4 | CRC-32 of bytes 8 to 20 and the payload, little endian |
//! | 24 | n | the [`Record`] in JSON |
//!
//! Record number s is written to slot s mod 2, whole, with one `pwrite`; the valid slot with the higher number counts. A
//! write that was torn leaves the record before it. A new run of the container makes a new file and renames it over the
//! old one. Nothing is synchronised: the run directory need not survive the machine.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, Mode, OFlags};
use serde::{Deserialize, Serialize};
use tare_model::{Error, ErrorKind, ExitRecord, Result};

use crate::checksum::crc32;

/// The file's name in the container's run directory.
pub const NAME: &str = "record";

const NEW_NAME: &str = "record.new";
const MAGIC: &[u8; 8] = b"tareREC1";
const SLOT: usize = 2048;
const HEADER: usize = 24;

/// What is known of one run of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its monitor's process id.
    pub shim_pid: i32,
    /// How far it got.
    pub state: State,
}

/// How far a run got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum State {
    /// The shim is setting it up, or died while it was.
    Starting,
    /// It could not be started.
    Failed {
        /// Why.
        error: Error,
    },
    /// Its first process executes, or its shim was killed before it could see the end.
    Running {
        /// In the host's namespace.
        pid: i32,
        /// Nanoseconds since the epoch.
        started_at: u64,
    },
    /// Its first process has ended.
    Exited {
        /// In the host's namespace.
        pid: i32,
        /// Nanoseconds since the epoch.
        started_at: u64,
        /// How and when.
        exit: ExitRecord,
    },
}

/// Writes the record of one run.
#[derive(Debug)]
pub struct Writer {
    file: File,
    sequence: u64,
    shim_pid: i32,
}

// === impl Record ===

impl Record {
    /// Reads the record at `path`; `None` if there is none.
    ///
    /// # Errors
    /// `Corrupt` when neither slot is valid, `System` when the file cannot be read.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(e) => return Err(Error::system(format!("open({}): {e}", path.display()))),
        };
        let mut bytes = [0; 2 * SLOT];
        let length = read_up_to(&file, &mut bytes)
            .map_err(|e| Error::system(format!("pread({}): {e}", path.display())))?;
        decode(&bytes[..length]).map(Some).ok_or_else(|| {
            let message = format!("{}: neither of the two records is valid", path.display());
            Error::new(ErrorKind::Corrupt, message)
        })
    }
}

// === impl Writer ===

impl Writer {
    /// Makes the record of a new run in the directory `dir`, in place of an older one.
    ///
    /// # Errors
    /// The failing call; an older record is untouched.
    pub fn create(dir: impl AsFd, shim_pid: i32) -> Result<Self> {
        let dir = dir.as_fd();
        let make = || -> io::Result<File> {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let file = rustix::fs::openat(dir, NEW_NAME, flags, Mode::from_raw_mode(0o600))?;
            rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 2 * SLOT as u64)?;
            Ok(File::from(file))
        };
        let file =
            make().map_err(|e| Error::system(format!("make {NEW_NAME:?} in the run directory: {e}")))?;
        let mut writer = Self { file, sequence: 0, shim_pid };
        writer.write(State::Starting)?;
        rustix::fs::renameat(dir, NEW_NAME, dir, NAME)
            .map_err(|e| Error::system(format!("renameat({NEW_NAME:?}, {NAME:?}): {e}")))?;
        Ok(writer)
    }

    /// Records `state`.
    ///
    /// # Errors
    /// The failing `pwrite`; the record before stays.
    pub fn write(&mut self, state: State) -> Result<()> {
        let record = Record { shim_pid: self.shim_pid, state };
        let slot = encode(self.sequence, &record)?;
        let at = (self.sequence % 2) * SLOT as u64;
        self.file
            .write_all_at(&slot, at)
            .map_err(|e| Error::system(format!("pwrite({NAME:?}, {} bytes at {at}): {e}", slot.len())))?;
        self.sequence += 1;
        Ok(())
    }
}

// === impl the format ===

pub(crate) fn encode(sequence: u64, record: &Record) -> Result<Vec<u8>> {
    let payload = payload(record)?;
    let length = (payload.len() as u32).to_le_bytes();
    let sequence = sequence.to_le_bytes();
    let check = crc32(&[&sequence, &length, &payload]).to_le_bytes();
    Ok([&MAGIC[..], &sequence, &length, &check, &payload].concat())
}

/// The JSON text; error messages are cut until it fits the slot.
fn payload(record: &Record) -> Result<Vec<u8>> {
    let mut record = record.clone();
    let mut longest = SLOT;
    loop {
        let text = serde_json::to_vec(&record).map_err(|e| Error::system(format!("record: {e}")))?;
        if text.len() <= SLOT - HEADER {
            return Ok(text);
        }
        if longest == 0 {
            return Err(Error::system(format!("record of {} bytes does not fit its slot", text.len())));
        }
        longest /= 2;
        match &mut record.state {
            State::Failed { error } => *error = Error::new(error.kind(), cut(error.message(), longest)),
            State::Exited { exit, .. } => exit.error = exit.error.as_deref().map(|text| cut(text, longest)),
            State::Starting | State::Running { .. } => {}
        }
    }
}

fn cut(text: &str, longest: usize) -> String {
    let mut end = longest.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

pub(crate) fn decode(file: &[u8]) -> Option<Record> {
    let slots = file.chunks(SLOT).take(2).filter_map(decode_slot);
    slots.max_by_key(|(sequence, _)| *sequence).map(|(_, record)| record)
}

fn decode_slot(slot: &[u8]) -> Option<(u64, Record)> {
    let (header, rest) = slot.split_at_checked(HEADER)?;
    let length = u32::from_le_bytes(header[16..20].try_into().ok()?);
    let check = u32::from_le_bytes(header[20..24].try_into().ok()?);
    let payload = rest.get(..usize::try_from(length).ok()?)?;
    if &header[..8] != MAGIC || crc32(&[&header[8..20], payload]) != check {
        return None;
    }
    let sequence = u64::from_le_bytes(header[8..16].try_into().ok()?);
    Some((sequence, serde_json::from_slice(payload).ok()?))
}

fn read_up_to(file: &File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < bytes.len() {
        match file.read_at(&mut bytes[length..], length as u64) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests;
