//! Where to begin so that the last lines are seen, without reading what is before them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::LINE_MAX;
use super::cursor::{Cursor, Format};
use super::files::{Files, Position};
use super::frame::{self, Header};

const BLOCK: u64 = 128 * 1024;

/// A place from which at least `lines` lines (and not many more) can be read to the end; the first of them may lack its
/// beginning, so some more are taken. A line of the other stream that was begun long before is not looked for.
pub(super) fn start(files: &Files, format: Format, lines: u64) -> io::Result<Position> {
    // One more for each stream, whose first line may have begun before the place.
    let mut wanted = lines.saturating_add(2);
    let numbers = files.numbers()?;
    for number in numbers.iter().rev() {
        let Some(file) = files.reader(*number)? else { continue };
        let found = match format {
            Format::Local => local(&file, &mut wanted)?,
            Format::Json => json(&file, &mut wanted)?,
        };
        match found {
            Found::Here(offset) => return Ok(Position { number: *number, offset }),
            Found::Before => {}
            Found::Damaged(so_far) => {
                // It cannot be walked backwards: count all of it, and begin at its beginning.
                wanted = so_far.saturating_sub(count(files, format, *number)?);
                if wanted == 0 {
                    return Ok(Position { number: *number, offset: 0 });
                }
            }
        }
    }
    Ok(Position { number: numbers.first().copied().unwrap_or(1), offset: 0 })
}

enum Found {
    /// At this offset.
    Here(u64),
    /// In an earlier file.
    Before,
    /// The file is not whole; so many lines were wanted from it.
    Damaged(u64),
}

/// Walks back frame by frame.
fn local(file: &File, wanted: &mut u64) -> io::Result<Found> {
    let so_far = *wanted;
    let mut back = Back { file, start: 0, bytes: Vec::new() };
    let mut end = file.metadata()?.len();
    while end > 0 {
        let Some((header, payload)) = back.frame(end)? else { return Ok(Found::Damaged(so_far)) };
        let lines = payload.iter().filter(|byte| **byte == b'\n').count();
        *wanted = wanted.saturating_sub(lines.max(payload.len() / LINE_MAX) as u64);
        end -= header.total() as u64;
        if *wanted == 0 {
            return Ok(Found::Here(end));
        }
    }
    Ok(Found::Before)
}

/// Walks back line end by line end.
fn json(file: &File, wanted: &mut u64) -> io::Result<Found> {
    let mut end = file.metadata()?.len();
    let mut bytes = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        bytes.resize((end - start) as usize, 0);
        file.read_exact_at(&mut bytes, start)?;
        for (i, _) in bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            if *wanted == 0 {
                return Ok(Found::Here(start + i as u64 + 1));
            }
            *wanted -= 1;
        }
        end = start;
    }
    Ok(Found::Before)
}

/// How many lines the records of one file have.
fn count(files: &Files, format: Format, number: u64) -> io::Result<u64> {
    let mut cursor = Cursor::new(files.try_clone()?, format, Position { number, offset: 0 });
    let mut lines = 0;
    while cursor.next()?.is_some() && cursor.position().number == number {
        let payload = cursor.payload();
        let ends = payload.iter().filter(|byte| **byte == b'\n').count();
        lines += ends.max(payload.len() / LINE_MAX) as u64;
    }
    Ok(lines)
}

/// Reads a file backwards, in blocks.
struct Back<'a> {
    file: &'a File,
    start: u64,
    bytes: Vec<u8>,
}

impl Back<'_> {
    /// The frame that ends at `end`, and its payload; `None` if none does.
    fn frame(&mut self, end: u64) -> io::Result<Option<(Header, &[u8])>> {
        let shortest = frame::HEADER + frame::TRAILER;
        let Some(trailer) = self.ending_at(end, frame::TRAILER)? else { return Ok(None) };
        let Ok(length) = trailer.try_into().map(u32::from_le_bytes) else { return Ok(None) };
        let length = length as usize;
        if length > frame::PAYLOAD_MAX {
            return Ok(None);
        }
        let Some(bytes) = self.ending_at(end, shortest + length)? else { return Ok(None) };
        let header = Header::decode(bytes).filter(|header| header.length == length);
        Ok(header.map(|header| (header, &bytes[frame::HEADER..frame::HEADER + length])))
    }

    /// The `length` bytes before `end`; `None` if the file does not have them.
    fn ending_at(&mut self, end: u64, length: usize) -> io::Result<Option<&[u8]>> {
        let Some(from) = end.checked_sub(length as u64) else { return Ok(None) };
        if from < self.start || end > self.start + self.bytes.len() as u64 {
            self.start = from.min(end.saturating_sub(BLOCK));
            self.bytes.resize((end - self.start) as usize, 0);
            match self.file.read_exact_at(&mut self.bytes, self.start) {
                Ok(()) => {}
                // Truncated meanwhile.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(e) => return Err(e),
            }
        }
        let skip = (from - self.start) as usize;
        Ok(self.bytes.get(skip..skip + length))
    }
}
