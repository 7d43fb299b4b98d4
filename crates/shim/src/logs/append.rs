//! Appending to the last of the numbered files, rotating by size, whole records only.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::path::Path;

use tare_model::container::LogConfig;

use super::files::Files;

const DEFAULT_SIZE: u64 = 20 * 1024 * 1024;
const DEFAULT_FILES: u32 = 5;

/// Whether a file of this many bytes ends with a whole record.
pub(super) type IsWhole = fn(&File, u64) -> io::Result<bool>;

/// The end of a log.
#[derive(Debug)]
pub(super) struct Appender {
    files: Files,
    /// None until something is written.
    file: Option<File>,
    number: u64,
    size: u64,
    max_size: u64,
    max_files: u64,
}

// === impl Appender ===

impl Appender {
    /// Opens the log in `directory` where the last run of the container left it; if that was in the middle of a record,
    /// in a new file, so that what is torn stays at the end of one.
    pub(super) fn open(
        directory: &Path,
        prefix: &'static str,
        config: &LogConfig,
        is_whole: IsWhole,
        makes_first_late: bool,
    ) -> io::Result<Self> {
        let files = Files::open(directory, prefix)?;
        let last = files.numbers()?.last().copied();
        let number = last.unwrap_or(1);
        // Whoever says nothing needs no file; others may look for one that is read by more than us.
        let file = (last.is_some() || !makes_first_late).then(|| files.writer(number)).transpose()?;
        let size = file.as_ref().map_or(Ok(0), |file| file.metadata().map(|data| data.len()))?;
        let max_size = match config.max_size.unwrap_or(DEFAULT_SIZE) {
            0 => u64::MAX,
            size => size,
        };
        let max_files = u64::from(config.max_files.unwrap_or(DEFAULT_FILES).max(1));
        let whole = match &file {
            Some(file) if size > 0 => is_whole(file, size)?,
            _ => true,
        };
        let mut appender = Self { files, file, number, size, max_size, max_files };
        if !whole {
            appender.rotate()?;
        }
        Ok(appender)
    }

    /// Whether earlier runs have left nothing.
    pub(super) fn is_new(&self) -> bool {
        self.size == 0 && self.number == 1
    }

    /// Records longer than this make a file larger than was asked for.
    pub(super) fn longest_write(&self) -> usize {
        usize::try_from(self.max_size).unwrap_or(usize::MAX)
    }

    /// Appends one record as a whole, or nothing of it.
    pub(super) fn append(&mut self, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let length = parts.iter().map(|part| part.len() as u64).sum::<u64>();
        if self.size > 0 && self.size.saturating_add(length) > self.max_size {
            self.rotate()?;
        }
        let whole = self.size;
        let file = self.file()?;
        match write_all(file, parts) {
            Ok(()) => self.size += length,
            Err((_, e)) => {
                // A full disk takes a part of the record: without it a reader need not search for the next one.
                file.set_len(whole)?;
                return Err(e);
            }
        }
        Ok(())
    }

    fn file(&mut self) -> io::Result<&File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => self.files.writer(self.number)?,
        };
        Ok(self.file.insert(file))
    }

    /// Appends lines, each as a whole or not at all, and gives how many bytes of them there was room for: a line that is
    /// whole may have been read already.
    pub(super) fn append_lines(&mut self, lines: &[u8]) -> usize {
        let length = lines.len() as u64;
        if self.size > 0 && self.size.saturating_add(length) > self.max_size && self.rotate().is_err() {
            return 0;
        }
        let Ok(file) = self.file() else { return 0 };
        let written = match write_all(file, &mut [IoSlice::new(lines)]) {
            Ok(()) => lines.len(),
            Err((written, _)) => written,
        };
        let whole = lines[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |i| i + 1);
        self.size += whole as u64;
        if whole < written {
            // If that fails, too, a reader skips what is torn.
            let _ = self.file.as_ref().map(|file| file.set_len(self.size));
        }
        whole
    }

    fn rotate(&mut self) -> io::Result<()> {
        let next = self.number + 1;
        let old = next.saturating_sub(self.max_files);
        // First make, then delete: at no moment is there no file. Only on a full disk deleting is what makes room.
        let made = match self.files.writer(next) {
            Err(e) if matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                self.files.delete_up_to(old);
                self.files.writer(next)?
            }
            made => made?,
        };
        self.file = Some(made);
        self.files.delete_up_to(old);
        self.number = next;
        self.size = 0;
        Ok(())
    }
}

/// Writes everything, or fails with the number of bytes that were written before.
fn write_all(mut file: &File, mut parts: &mut [IoSlice<'_>]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while !parts.is_empty() {
        match file.write_vectored(parts) {
            Ok(0) => return Err((written, ErrorKind::WriteZero.into())),
            Ok(n) => {
                written += n;
                IoSlice::advance_slices(&mut parts, n);
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err((written, e)),
        }
    }
    Ok(())
}
