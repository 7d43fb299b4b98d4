//! The writer of the `local` driver: one frame per chunk, no work per line.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;

use super::Stream;
use super::append::Appender;
use super::frame::{HEADER, Header, Kind, TRAILER};

/// Name of the files, before the number.
pub(super) const PREFIX: &str = "log";

const CHUNK_MAX: usize = 64 * 1024;
/// What a chunk comes with: its own frame, and that of a gap before it.
const AROUND: usize = 2 * (HEADER + TRAILER) + 8;

/// Appends frames.
#[derive(Debug)]
pub(super) struct Local {
    appender: Appender,
    /// Bytes of the process that are missing since the last frame.
    missing: u64,
}

/// Whether the last frame of a file is a whole one.
pub(super) fn is_whole(file: &File, size: u64) -> io::Result<bool> {
    let mut trailer = [0; TRAILER];
    let Some(at) = size.checked_sub(TRAILER as u64) else { return Ok(false) };
    file.read_exact_at(&mut trailer, at)?;
    let length = u32::from_le_bytes(trailer);
    let Some(at) = at.checked_sub(u64::from(length) + HEADER as u64) else { return Ok(false) };
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, at)?;
    Ok(Header::decode(&header).is_some_and(|header| header.trailer() == trailer))
}

// === impl Local ===

impl Local {
    /// Begins a run of the container at `time`.
    pub(super) fn new(mut appender: Appender, time: u64) -> Self {
        if !appender.is_new() {
            let start = Header { stream: Stream::Stdout, kind: Kind::Start, length: 0, time };
            // If there is no room, the first line of this run joins the last of the run before: nothing is lost by it.
            let _ = appender.append(&mut [IoSlice::new(&start.encode()), IoSlice::new(&start.trailer())]);
        }
        Self { appender, missing: 0 }
    }

    /// Appends `bytes`; what cannot be written is counted.
    pub(super) fn append(&mut self, stream: Stream, time: u64, bytes: &[u8]) -> u64 {
        let longest = self.appender.longest_write().saturating_sub(AROUND).clamp(1024, CHUNK_MAX);
        let mut lost = 0;
        for chunk in bytes.chunks(longest) {
            if self.frame(stream, time, chunk).is_err() {
                lost += chunk.len() as u64;
                self.missing += chunk.len() as u64;
            }
        }
        lost
    }

    fn frame(&mut self, stream: Stream, time: u64, payload: &[u8]) -> io::Result<()> {
        let output = Header { stream, kind: Kind::Output, length: payload.len(), time };
        let (head, end) = (output.encode(), output.trailer());
        if self.missing == 0 {
            return self.appender.append(&mut [&head[..], payload, &end].map(IoSlice::new));
        }
        // Together or not at all: what is left of a full disk is not for telling that it is full.
        let gap = Header { stream, kind: Kind::Gap, length: 8, time };
        let (gap_head, gap_end, count) = (gap.encode(), gap.trailer(), self.missing.to_le_bytes());
        let parts = [&gap_head[..], &count, &gap_end, &head, payload, &end];
        self.appender.append(&mut parts.map(IoSlice::new))?;
        self.missing = 0;
        Ok(())
    }
}
