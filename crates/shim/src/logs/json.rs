//! The `json-file` driver: Docker's JSON lines, one per line of output, longer lines in parts of 16 KiB.
//!
//! `{"log":"text\n","stream":"stdout","time":"2026-11-21T10:47:24.123456789Z"}`; a part that is not the last of its line
//! has no `\n` at the end of `log`. Bytes that are not UTF-8 become U+FFFD, as Docker's do.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::Deserialize;

use super::append::Appender;
use super::{LINE_MAX, Stream, stamp};

/// Name of the files, before the number.
pub(super) const PREFIX: &str = "json.log";

/// So much, and the rest of a line, is written at once.
const BATCH: usize = 64 * 1024;

/// Appends lines.
#[derive(Debug)]
pub(super) struct JsonFile {
    appender: Appender,
    /// Beginnings of lines, by stream; shorter than [`LINE_MAX`].
    begun: [Vec<u8>; 2],
    /// When something was read last.
    last: u64,
}

/// One line of a file.
#[derive(Debug, Deserialize)]
pub(super) struct Line {
    pub(super) log: String,
    pub(super) stream: String,
    pub(super) time: String,
}

/// Whether the last line of a file has its end.
pub(super) fn is_whole(file: &File, size: u64) -> io::Result<bool> {
    let mut last = [0];
    file.read_exact_at(&mut last, size.saturating_sub(1))?;
    Ok(last == *b"\n")
}

// === impl JsonFile ===

impl JsonFile {
    pub(super) fn new(appender: Appender) -> Self {
        Self { appender, begun: [Vec::new(), Vec::new()], last: 0 }
    }

    /// Appends the lines of `bytes`; returns how many bytes could not be written.
    pub(super) fn append(&mut self, stream: Stream, time: u64, bytes: &[u8]) -> u64 {
        self.last = time;
        let (mut out, mut rest, mut lost) = (Vec::new(), bytes, 0);
        while !rest.is_empty() {
            let before = rest.len();
            rest = self.batch(stream, time, rest, &mut out);
            lost += self.write(&out, before - rest.len());
            out.clear();
        }
        lost
    }

    /// Encodes lines of `bytes` until they are enough for one write, and gives what is left. A chunk of nothing but line
    /// ends would grow to a hundred times its size.
    fn batch<'a>(&mut self, stream: Stream, time: u64, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let mut rest = bytes;
        while !rest.is_empty() && out.len() < BATCH {
            let begun = &mut self.begun[stream as usize];
            let room = LINE_MAX - begun.len();
            let window = &rest[..rest.len().min(room)];
            let end = window.iter().position(|byte| *byte == b'\n').map(|i| i + 1);
            let piece = &rest[..end.unwrap_or(window.len())];
            rest = &rest[piece.len()..];
            if end.is_none() && piece.len() < room {
                begun.extend_from_slice(piece);
            } else if begun.is_empty() {
                encode(piece, stream, time, out);
            } else {
                begun.extend_from_slice(piece);
                encode(begun, stream, time, out);
                // Given back, not kept: an idle shim should be small.
                *begun = Vec::new();
            }
        }
        rest
    }

    /// Writes what was begun and will not be continued.
    pub(super) fn finish(&mut self) -> u64 {
        let mut out = Vec::new();
        let mut length = 0;
        for stream in [Stream::Stdout, Stream::Stderr] {
            let begun = std::mem::take(&mut self.begun[stream as usize]);
            if !begun.is_empty() {
                length += begun.len();
                encode(&begun, stream, self.last, &mut out);
            }
        }
        self.write(&out, length)
    }

    fn write(&mut self, lines: &[u8], of: usize) -> u64 {
        // Cut at line ends so that one write is no longer than a file should be.
        let longest = self.appender.longest_write();
        let mut rest = lines;
        while !rest.is_empty() {
            let window = &rest[..rest.len().min(longest)];
            let last = window.iter().rposition(|byte| *byte == b'\n');
            let end =
                last.or_else(|| rest.iter().position(|byte| *byte == b'\n')).map_or(rest.len(), |i| i + 1);
            let kept = self.appender.append_lines(&rest[..end]);
            rest = &rest[kept..];
            if kept < end {
                // In proportion: which bytes of the process these were is not known any more.
                return (of * rest.len()).div_ceil(lines.len()) as u64;
            }
        }
        0
    }
}

// === impl the format ===

fn encode(line: &[u8], stream: Stream, time: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"log\":\"");
    for chunk in line.utf8_chunks() {
        escape(chunk.valid(), out);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(stream.name().as_bytes());
    out.extend_from_slice(b"\",\"time\":\"");
    stamp::format(time, out);
    out.extend_from_slice(b"\"}\n");
}

/// Escapes as Docker does: also what is special in HTML and in JavaScript.
fn escape(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (i, byte) in bytes.iter().enumerate() {
        let special = matches!(byte, 0..0x20 | b'"' | b'\\' | b'<' | b'>' | b'&');
        // U+2028 and U+2029, which end a line in JavaScript.
        let separator = *byte == 0xe2 && matches!(bytes.get(i + 1..i + 3), Some([0x80, 0xa8 | 0xa9]));
        if !special && !separator {
            continue;
        }
        out.extend_from_slice(&bytes[plain..i]);
        plain = i + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0xe2 => {
                out.extend_from_slice(if bytes[i + 2] == 0xa8 { b"\\u2028" } else { b"\\u2029" });
                plain = i + 3;
            }
            _ => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
            }
        }
    }
    out.extend_from_slice(&bytes[plain..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(line: &[u8]) -> String {
        let mut out = Vec::new();
        encode(line, Stream::Stderr, 1_500_000_000, &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn a_line_looks_as_dockers() {
        assert_eq!(
            encoded(b"a \"b\" \\ <c> & \x1b[0m\t\xe2\x80\xa8\xff\n"),
            "{\"log\":\"a \\\"b\\\" \\\\ \\u003cc\\u003e \\u0026 \\u001b[0m\\t\\u2028\\ufffd\\n\",\
             \"stream\":\"stderr\",\"time\":\"1970-01-01T00:00:01.5Z\"}\n"
        );
    }

    #[test]
    fn a_chunk_of_line_ends_is_written_in_small_parts() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let appender =
            Appender::open(dir.path(), PREFIX, &Default::default(), is_whole, false).expect("opens");
        let (mut json, mut out) = (JsonFile::new(appender), Vec::new());
        let rest = json.batch(Stream::Stdout, 1, &[b'\n'; 60_000], &mut out);
        assert!(!rest.is_empty() && out.len() < BATCH + 200, "{} bytes at once", out.len());
        assert_eq!(json.append(Stream::Stdout, 1, &[b'\n'; 60_000]), 0);
        let text = std::fs::read(dir.path().join("json.log.1")).expect("reads");
        assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 60_000);
    }

    proptest! {
        #[test]
        fn every_text_reads_back(text in "\\PC{0,60}") {
            let line: Line = serde_json::from_str(&encoded(text.as_bytes())).unwrap();
            prop_assert_eq!(line.log, text);
        }

        #[test]
        fn every_byte_string_is_valid_json(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let line: Line = serde_json::from_str(&encoded(&bytes)).unwrap();
            prop_assert_eq!(line.log, String::from_utf8_lossy(&bytes));
        }
    }
}
