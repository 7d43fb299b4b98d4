//! Lines of a log, oldest first, while it is being written if need be.
//!
//! A line is given when its end is there: the parts that a process wrote it in, and what it wrote to the other stream
//! meanwhile, do not tear it. Only what is longer than [`LINE_MAX`] comes in parts, and what was never ended comes when
//! the log is read to its end without following, or when the next run of the container begins.

use std::io;
use std::ops::Range;
use std::path::Path;

use tare_model::container::LogDriver;
use tare_model::{Error, Result};

use super::cursor::{Cursor, Format};
use super::files::{Files, Position};
use super::frame::Kind;
use super::{LINE_MAX, Stream, json, local, tail};

/// What to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// At most so many of the last lines; absent: all.
    pub tail: Option<u64>,
    /// Only what was written then or later, in nanoseconds since the epoch.
    pub since: Option<u64>,
    /// Only what was written then or earlier.
    pub until: Option<u64>,
    /// More will be written: keep lines without an end back. Otherwise the log is what it is at the moment of opening,
    /// however fast it grows.
    pub follow: bool,
}

/// A line, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Where the process wrote it.
    pub stream: Stream,
    /// When its first byte was read, in nanoseconds since the epoch.
    pub time: u64,
    /// The bytes, with the `\n` that ends the line; a part that is not the last of its line has none.
    pub bytes: &'a [u8],
    /// It goes on where the entry before it of this stream stopped.
    pub continues: bool,
}

/// See the head of this file. To follow: ask the shim to watch, read until `None`, wait for the event, and again.
#[derive(Debug)]
pub struct Reader {
    /// Absent: the driver keeps nothing.
    lines: Option<Lines>,
    options: Options,
    skip: u64,
}

#[derive(Debug)]
struct Lines {
    cursor: Cursor,
    /// Where to stop; absent: where writing goes on.
    end: Option<Position>,
    /// JSON lines are entries already.
    split: bool,
    /// What is left of the current record.
    rest: Range<usize>,
    stream: Stream,
    time: u64,
    begun: [Begun; 2],
    /// Bytes of an entry that is not in the cursor's record.
    own: Vec<u8>,
    /// Give lines without an end when there is nothing else.
    flush: bool,
    /// Give lines without an end before anything else: the run of the container that wrote them has ended.
    run_ended: bool,
    /// Files were deleted before they were read.
    lost: bool,
}

/// The beginning of a line.
#[derive(Debug, Default)]
struct Begun {
    bytes: Vec<u8>,
    time: u64,
    continues: bool,
}

/// An entry whose bytes are in [`Lines::own`] or, as this range, in the cursor's record.
struct Found {
    stream: Stream,
    time: u64,
    continues: bool,
    place: Option<Range<usize>>,
}

// === impl Entry ===

impl Entry<'_> {
    /// Whether the line goes on, or ended without `\n`.
    pub fn is_partial(&self) -> bool {
        self.bytes.last() != Some(&b'\n')
    }
}

// === impl Reader ===

impl Reader {
    /// Opens the log in `directory`. A directory without files is an empty log.
    ///
    /// # Errors
    /// `NotFound` when the directory is missing, `System` when it cannot be read.
    pub fn open(directory: &Path, driver: LogDriver, options: Options) -> Result<Self> {
        Self::at(directory, driver, options).map_err(|e| fail(&format!("log in {}", directory.display()), &e))
    }

    fn at(directory: &Path, driver: LogDriver, options: Options) -> io::Result<Self> {
        let Some((files, format)) = files(directory, driver)? else {
            return Ok(Self { lines: None, options, skip: 0 });
        };
        let start = match options.tail {
            Some(tail) => tail::start(&files, format, tail)?,
            None => Position { number: files.numbers()?.first().copied().unwrap_or(1), offset: 0 },
        };
        let end = files.end()?;
        let mut skip = 0u64;
        if let Some(tail) = options.tail {
            let mut counter = Lines::new(files.try_clone()?, format, start, options.follow);
            counter.end = Some(end);
            while counter.next()?.is_some() {
                skip += 1;
            }
            skip = skip.saturating_sub(tail);
        }
        let mut lines = Lines::new(files, format, start, options.follow);
        lines.end = (!options.follow).then_some(end);
        Ok(Self { lines: Some(lines), options, skip })
    }

    /// The next line; `None` when there is none (yet).
    ///
    /// # Errors
    /// `System` when the file system cannot give what it has. Damaged content is no error: it is skipped.
    // It lends what it returns, which an iterator cannot.
    #[expect(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Entry<'_>>> {
        let Some(lines) = &mut self.lines else { return Ok(None) };
        loop {
            let Some(found) = lines.next().map_err(|e| fail("log", &e))? else { return Ok(None) };
            if lines.lost {
                // What was to be skipped may be what was deleted.
                self.skip = 0;
            }
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            let early = self.options.since.is_some_and(|since| found.time < since);
            let late = self.options.until.is_some_and(|until| found.time > until);
            if !early && !late {
                return Ok(Some(lines.entry(found)));
            }
        }
    }

    /// Nothing more will be written: [`Reader::next`] then also gives the lines that have no end.
    pub fn stop_following(&mut self) {
        self.options.follow = false;
        if let Some(lines) = &mut self.lines {
            lines.flush = true;
        }
    }
}

fn fail(what: &str, e: &io::Error) -> Error {
    let error = if e.kind() == io::ErrorKind::NotFound { Error::not_found } else { Error::system };
    error(format!("{what}: {e}"))
}

fn files(directory: &Path, driver: LogDriver) -> io::Result<Option<(Files, Format)>> {
    Ok(match driver {
        LogDriver::Local => Some((Files::open(directory, local::PREFIX)?, Format::Local)),
        LogDriver::JsonFile => Some((Files::open(directory, json::PREFIX)?, Format::Json)),
        LogDriver::None => None,
    })
}

// === impl Lines ===

impl Lines {
    fn new(files: Files, format: Format, start: Position, follow: bool) -> Self {
        Self {
            cursor: Cursor::new(files, format, start),
            end: None,
            split: format == Format::Local,
            rest: 0..0,
            stream: Stream::Stdout,
            time: 0,
            begun: Default::default(),
            own: Vec::new(),
            flush: !follow,
            run_ended: false,
            lost: false,
        }
    }

    fn entry(&self, found: Found) -> Entry<'_> {
        let Found { stream, time, continues, place } = found;
        let bytes = match place {
            Some(range) => self.cursor.payload().get(range).unwrap_or_default(),
            None => &self.own,
        };
        Entry { stream, time, bytes, continues }
    }

    fn next(&mut self) -> io::Result<Option<Found>> {
        loop {
            if self.run_ended {
                if let Some(found) = self.unfinished() {
                    return Ok(Some(found));
                }
                self.run_ended = false;
            }
            if !self.rest.is_empty() {
                match self.piece() {
                    Some(found) => return Ok(Some(found)),
                    None => continue,
                }
            }
            let at_end = self.end.is_some_and(|end| self.cursor.position() >= end);
            let Some(record) = (if at_end { None } else { self.cursor.next()? }) else {
                return Ok(if self.flush { self.unfinished() } else { None });
            };
            if self.cursor.take_jumped() {
                // A line that was begun in what is gone does not go on here.
                (self.lost, self.run_ended) = (true, true);
            }
            (self.stream, self.time) = (record.stream, record.time);
            match record.kind {
                Kind::Output => self.rest = 0..self.cursor.payload().len(),
                Kind::Gap => return Ok(Some(self.gap())),
                Kind::Start => self.run_ended = true,
            }
        }
    }

    /// Takes a line, or as much of one as there is, from the record.
    fn piece(&mut self) -> Option<Found> {
        let (stream, begun) = (self.stream, &mut self.begun[self.stream as usize]);
        let rest = &self.cursor.payload()[self.rest.clone()];
        let room = if self.split { LINE_MAX - begun.bytes.len() } else { usize::MAX };
        let window = &rest[..rest.len().min(room)];
        let line_end = window.iter().position(|byte| *byte == b'\n').filter(|_| self.split);
        let length = line_end.map_or(window.len(), |i| i + 1);
        let place = self.rest.start..self.rest.start + length;
        self.rest.start += length;
        let continues = begun.continues;
        if begun.bytes.is_empty() {
            begun.time = self.time;
        }
        if self.split && line_end.is_none() && length < room {
            begun.bytes.extend_from_slice(window);
            return None;
        }
        begun.continues = rest[length - 1] != b'\n';
        let time = begun.time;
        if begun.bytes.is_empty() {
            return Some(Found { stream, time, continues, place: Some(place) });
        }
        begun.bytes.extend_from_slice(&rest[..length]);
        self.own.clear();
        std::mem::swap(&mut self.own, &mut begun.bytes);
        Some(Found { stream, time, continues, place: None })
    }

    /// A line that has no end, of either stream.
    fn unfinished(&mut self) -> Option<Found> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let begun = &mut self.begun[stream as usize];
            let continues = std::mem::take(&mut begun.continues);
            if !begun.bytes.is_empty() {
                self.own = std::mem::take(&mut begun.bytes);
                return Some(Found { stream, time: begun.time, continues, place: None });
            }
        }
        None
    }

    fn gap(&mut self) -> Found {
        let count = self.cursor.payload().try_into().map_or(0, u64::from_le_bytes);
        self.own =
            format!("tare: {count} bytes of output are missing here: the log could not be written\n").into();
        Found { stream: Stream::Stderr, time: self.time, continues: false, place: None }
    }
}
