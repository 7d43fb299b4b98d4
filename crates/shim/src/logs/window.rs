//! A part of a file in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const AHEAD: usize = 128 * 1024;

/// The bytes of one file from some offset on.
#[derive(Debug, Default)]
pub(super) struct Window {
    start: u64,
    bytes: Vec<u8>,
}

// === impl Window ===

impl Window {
    /// The bytes from `offset` on: at least `want` of them unless the file ends before.
    pub(super) fn at(&mut self, file: &File, offset: u64, want: usize) -> io::Result<&[u8]> {
        if self.held(offset).is_none_or(|held| held.len() < want) {
            self.load(file, offset, want.max(AHEAD))?;
        }
        Ok(self.held(offset).unwrap_or_default())
    }

    /// The bytes from `offset` on that are in memory.
    pub(super) fn held(&self, offset: u64) -> Option<&[u8]> {
        let skip = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.bytes.get(skip..)
    }

    /// Forgets everything: the file is another one, or was changed.
    pub(super) fn clear(&mut self) {
        self.start = 0;
        self.bytes.clear();
    }

    fn load(&mut self, file: &File, offset: u64, length: usize) -> io::Result<()> {
        self.start = offset;
        self.bytes.resize(length, 0);
        let mut filled = 0;
        while filled < length {
            match file.read_at(&mut self.bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.clear();
                    return Err(e);
                }
            }
        }
        self.bytes.truncate(filled);
        Ok(())
    }
}
