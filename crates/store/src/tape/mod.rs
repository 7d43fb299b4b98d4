//! Reading tar archives, one entry after the other, in bounded memory.
//!
//! Archives of images are written by anyone and read by many programs, and where two of them read a different list of
//! entries from the same bytes, one of them can be fooled. So the rule of this reader: **what GNU tar and Go read
//! alike is read so, and what they read differently is refused.** In particular
//!
//! - a PAX `size` replaces the header's, for files; links, directories and devices must have size 0;
//! - long names come from PAX `path` or GNU `L` and `K` entries, of at most 1 MiB, one of each before an entry;
//! - global PAX headers may hold a comment, and nothing that changes entries;
//! - a file whose name ends in a slash, an unknown type, a sparse file and a lone zero block are refused.
//!
//! The `tar` crate lends its header layout; iteration, numbers and PAX records are ours, because the crate's collect
//! extension headers of any length, take the first of two `size` records and split records at line feeds in values.

mod entry;
mod field;
mod pax;

use std::io::{self, Read};

use tar::Header;
use tare_model::{Error, Result};

use crate::error::{corrupt, from_read, into_io};

pub(crate) use entry::{Entry, Kind};
use entry::{Extensions, Raw};

const BLOCK: usize = 512;
/// Extension headers longer than this are refused, as Go does.
const EXTENSION_MAX: u64 = 1 << 20;

/// An archive being read. After [`Tape::next_entry`] it yields that entry's bytes.
pub(crate) struct Tape<R> {
    input: R,
    /// Bytes of the current entry not yet read.
    remaining: u64,
    /// Bytes between them and the next header.
    padding: u64,
}

// === impl Tape ===

impl<R: Read> Tape<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, remaining: 0, padding: 0 }
    }

    /// The next entry; `None` at the end of the archive. What was not read of the entry before is skipped.
    ///
    /// # Errors
    /// `Corrupt` for what is damaged or ambiguous; whatever the input fails with.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_rest()?;
            let Some(raw) = self.next_header()? else {
                return if extensions.is_empty() {
                    Ok(None)
                } else {
                    Err(corrupt("the archive ends where an entry was announced"))
                };
            };
            match raw.kind {
                b'x' => extensions.add_pax(&self.read_extension(&raw)?)?,
                b'g' => pax::check_global(&self.read_extension(&raw)?)?,
                b'L' => extensions.add_long_name(self.read_extension(&raw)?)?,
                b'K' => extensions.add_long_link(self.read_extension(&raw)?)?,
                _ => {
                    let entry = extensions.apply(raw)?;
                    self.begin(entry.size);
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// Reads whatever follows the end of the archive, so that a digest covers all of the input.
    ///
    /// # Errors
    /// Whatever the input fails with.
    pub(crate) fn drain(&mut self) -> Result<()> {
        io::copy(&mut self.input, &mut io::sink())
            .map_err(|e| from_read(e, "read after the end of the archive"))?;
        Ok(())
    }

    fn begin(&mut self, size: u64) {
        self.remaining = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    fn skip_rest(&mut self) -> Result<()> {
        let all = self.remaining + self.padding;
        let skipped = io::copy(&mut self.input.by_ref().take(all), &mut io::sink());
        match skipped.map_err(|e| from_read(e, "read archive"))? {
            n if n == all => {
                (self.remaining, self.padding) = (0, 0);
                Ok(())
            }
            _ => Err(truncated()),
        }
    }

    /// The next header that is not zero, checked and with its numbers read.
    fn next_header(&mut self) -> Result<Option<Raw>> {
        let mut header = Header::new_old();
        if !self.read_block(header.as_mut_bytes())? {
            return Ok(None);
        }
        if is_zero(&header) {
            // The end is two zero blocks, or one and the end of the input.
            if self.read_block(header.as_mut_bytes())? && !is_zero(&header) {
                return Err(corrupt("a zero block between entries: readers disagree about what follows it"));
            }
            return Ok(None);
        }
        Raw::read(&header).map(Some)
    }

    /// Fills `block`; false at a clean end of the input.
    fn read_block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(truncated()),
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(from_read(e, "read archive")),
            }
        }
        Ok(true)
    }

    fn read_extension(&mut self, raw: &Raw) -> Result<Vec<u8>> {
        if raw.size > EXTENSION_MAX {
            let size = raw.size;
            return Err(corrupt(format!(
                "an extension header of {size} bytes; at most {EXTENSION_MAX} are read"
            )));
        }
        self.begin(raw.size);
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).map_err(|e| from_read(e, "read extension header"))?;
        Ok(bytes)
    }
}

impl<R: Read> Read for Tape<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        let n = self.input.read(&mut buffer[..want])?;
        if n == 0 {
            return Err(into_io(truncated()));
        }
        self.remaining -= n as u64;
        Ok(n)
    }
}

fn is_zero(header: &Header) -> bool {
    header.as_bytes().iter().all(|b| *b == 0)
}

fn truncated() -> Error {
    corrupt("the archive ends in the middle of an entry")
}

#[cfg(test)]
pub(crate) mod tests;
