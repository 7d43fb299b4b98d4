//! Walks forward over the records of a log: from file to file, over damage, up to where writing goes on.
//!
//! ```text
//!            record             bytes that are none
//!   at(n, offset) ──▶ at(n, after it)   ──▶ at(n, next place that looks like one)
//!        │ nothing whole there yet
//!        ├── a later file exists: look once more (nothing is added any more), then at(next file, 0)
//!        └── none exists: caught up; asking again later goes on from here
//! ```

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

use super::files::{Files, Position};
use super::frame::{self, Header, Kind};
use super::window::Window;
use super::{Stream, json, stamp};

/// The longest line of a JSON file that is looked at.
const JSON_MAX: usize = 1024 * 1024;

/// Which records the files hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Local,
    Json,
}

/// One record; its bytes are [`Cursor::payload`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) stream: Stream,
    pub(super) kind: Kind,
    pub(super) time: u64,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Cursor {
    files: Files,
    format: Format,
    position: Position,
    file: Option<File>,
    /// A later file exists: nothing is added to this one any more.
    complete: bool,
    /// Files were deleted before they were read to their end.
    jumped: bool,
    window: Window,
    /// Where the payload of the last record is: in the file, or decoded.
    payload: Range<u64>,
    decoded: Vec<u8>,
}

enum Look {
    Found(Record, u64),
    Damage(u64),
    Nothing,
}

// === impl Cursor ===

impl Cursor {
    pub(super) fn new(files: Files, format: Format, position: Position) -> Self {
        let (window, decoded) = (Window::default(), Vec::new());
        Self {
            files,
            format,
            position,
            file: None,
            complete: false,
            jumped: false,
            window,
            payload: 0..0,
            decoded,
        }
    }

    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Whether files were deleted before they were read to their end, since this was asked last.
    pub(super) fn take_jumped(&mut self) -> bool {
        std::mem::take(&mut self.jumped)
    }

    /// The next record; `None` when everything that was written has been seen.
    pub(super) fn next(&mut self) -> io::Result<Option<Record>> {
        loop {
            if self.file.is_none() && !self.open()? {
                return Ok(None);
            }
            let look = match self.format {
                Format::Local => self.look_local()?,
                Format::Json => self.look_json()?,
            };
            match look {
                Look::Found(record, next) => {
                    self.position.offset = next;
                    return Ok(Some(record));
                }
                Look::Damage(next) => self.position.offset = next,
                Look::Nothing => {
                    if !self.more()? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// The bytes of the record that [`Cursor::next`] gave last.
    pub(super) fn payload(&self) -> &[u8] {
        match self.format {
            Format::Json => &self.decoded,
            Format::Local => {
                let length = (self.payload.end - self.payload.start) as usize;
                self.window.held(self.payload.start).and_then(|held| held.get(..length)).unwrap_or_default()
            }
        }
    }

    /// Opens the file of the position, or the first one behind it.
    fn open(&mut self) -> io::Result<bool> {
        self.window.clear();
        self.complete = false;
        loop {
            let wanted = self.position.number;
            self.file = self.files.reader(wanted)?;
            if self.file.is_some() {
                return Ok(true);
            }
            // What is found here may be deleted before it is opened: then there is a later one.
            let later = self.files.numbers()?.into_iter().find(|n| *n > wanted);
            let Some(number) = later else { return Ok(false) };
            (self.position, self.jumped) = (Position { number, offset: 0 }, true);
        }
    }

    /// Whether there may be more than was seen: here after all, or in a later file.
    fn more(&mut self) -> io::Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        if self.complete {
            self.position = Position { number: self.position.number + 1, offset: 0 };
            return self.open();
        }
        let metadata = file.metadata()?;
        if metadata.len() < self.position.offset {
            // Somebody truncated it.
            self.position.offset = 0;
            self.window.clear();
            return Ok(metadata.len() > 0);
        }
        let next = self.position.number + 1;
        self.complete = self.files.exists(next)
            || (metadata.nlink() == 0 && self.files.numbers()?.last().is_some_and(|last| *last > next));
        if self.complete {
            self.window.clear();
        }
        Ok(self.complete)
    }

    fn look_local(&mut self) -> io::Result<Look> {
        let Some(file) = &self.file else { return Ok(Look::Nothing) };
        let at = self.position.offset;
        let bytes = self.window.at(file, at, frame::HEADER)?;
        if bytes.len() < frame::HEADER {
            return Ok(Look::Nothing);
        }
        let Some(header) = Header::decode(bytes) else {
            return Ok(Look::Damage(at + frame::next_candidate(bytes) as u64));
        };
        let bytes = self.window.at(file, at, header.total())?;
        let Some(trailer) = bytes.get(frame::HEADER + header.length..header.total()) else {
            // Still being written; or torn, if nothing is written here any more.
            let behind = at + frame::next_candidate(bytes) as u64;
            return Ok(if self.complete { Look::Damage(behind) } else { Look::Nothing });
        };
        if trailer != header.trailer() {
            return Ok(Look::Damage(at + frame::next_candidate(bytes) as u64));
        }
        let start = at + frame::HEADER as u64;
        self.payload = start..start + header.length as u64;
        let record = Record { stream: header.stream, kind: header.kind, time: header.time };
        Ok(Look::Found(record, at + header.total() as u64))
    }

    fn look_json(&mut self) -> io::Result<Look> {
        let Some(file) = &self.file else { return Ok(Look::Nothing) };
        let at = self.position.offset;
        let mut want = 1;
        let line = loop {
            let bytes = self.window.at(file, at, want)?;
            if let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
                break &bytes[..end];
            }
            if bytes.len() >= JSON_MAX {
                return Ok(Look::Damage(at + bytes.len() as u64));
            }
            if bytes.len() < want {
                return Ok(Look::Nothing);
            }
            want = (bytes.len() * 2).clamp(want + 1, JSON_MAX);
        };
        let next = at + line.len() as u64 + 1;
        let parsed = serde_json::from_slice::<json::Line>(line).ok();
        let Some((line, time)) = parsed.and_then(|line| stamp::parse(&line.time).map(|time| (line, time)))
        else {
            return Ok(Look::Damage(next));
        };
        let stream = if line.stream == Stream::Stderr.name() { Stream::Stderr } else { Stream::Stdout };
        self.decoded = line.log.into_bytes();
        Ok(Look::Found(Record { stream, kind: Kind::Output, time }, next))
    }
}
