//! Frames of the `local` driver: one per chunk that was read from the process, many lines or a part of one.
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 4 | `F1 'T' 'L' '1'` |
//! | 4 | 1 | stream: 1 standard output (or a terminal), 2 standard error |
//! | 5 | 1 | kind: 0 output, 1 start of a run of the container, 2 gap |
//! | 6 | 2 | zero |
//! | 8 | 4 | length n of the payload, at most [`PAYLOAD_MAX`] |
//! | 12 | 8 | when it was read, nanoseconds since the epoch |
//! | 20 | 4 | CRC-32 of bytes 0 to 20 |
//! | 24 | n | payload: the bytes as they came; of a gap, how many bytes are missing (8 bytes); of a start, nothing |
//! | 24 + n | 4 | n again, so that the file can be read backwards |
//!
//! Numbers are little endian. Only the header has a checksum: a frame that was torn is known by its missing or wrong last
//! four bytes, and a reader that lost its way finds the next frame by magic and checksum.

use super::Stream;
use crate::checksum::crc32;

/// Bytes before the payload.
pub(super) const HEADER: usize = 24;
/// Bytes after the payload.
pub(super) const TRAILER: usize = 4;
/// The longest payload; what claims to be longer is damaged.
pub(super) const PAYLOAD_MAX: usize = 1024 * 1024;

const MAGIC: [u8; 4] = [0xf1, b'T', b'L', b'1'];

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Bytes of the process.
    Output,
    /// Nothing: a new run of the container began, lines do not continue across it.
    Start,
    /// The number of bytes that could not be written here.
    Gap,
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) stream: Stream,
    pub(super) kind: Kind,
    pub(super) length: usize,
    pub(super) time: u64,
}

// === impl Header ===

impl Header {
    /// The length of the whole frame.
    pub(super) fn total(&self) -> usize {
        HEADER + self.length + TRAILER
    }

    pub(super) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = match self.stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        };
        bytes[5] = match self.kind {
            Kind::Output => 0,
            Kind::Start => 1,
            Kind::Gap => 2,
        };
        bytes[8..12].copy_from_slice(&(self.length as u32).to_le_bytes());
        bytes[12..20].copy_from_slice(&self.time.to_le_bytes());
        let check = crc32(&[&bytes[..20]]);
        bytes[20..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// The header that `bytes` begin with, if it is one.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEADER)?;
        if bytes[..4] != MAGIC || crc32(&[&bytes[..20]]).to_le_bytes() != bytes[20..24] {
            return None;
        }
        let stream = match bytes[4] {
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            _ => return None,
        };
        let kind = match bytes[5] {
            0 => Kind::Output,
            1 => Kind::Start,
            2 => Kind::Gap,
            _ => return None,
        };
        let length = u32::from_le_bytes(bytes[8..12].try_into().ok()?) as usize;
        let time = u64::from_le_bytes(bytes[12..20].try_into().ok()?);
        (length <= PAYLOAD_MAX).then_some(Self { stream, kind, length, time })
    }

    /// The last bytes of the frame.
    pub(super) fn trailer(&self) -> [u8; TRAILER] {
        (self.length as u32).to_le_bytes()
    }
}

/// Where the next header could begin in `bytes`: at the first magic after the first byte, or where one may be cut off.
pub(super) fn next_candidate(bytes: &[u8]) -> usize {
    let rest = bytes.get(1..).unwrap_or_default();
    let found = rest.iter().enumerate().find(|(i, byte)| {
        let tail = &rest[*i..];
        **byte == MAGIC[0] && tail.iter().zip(MAGIC).all(|(have, want)| *have == want)
    });
    found.map_or(bytes.len(), |(i, _)| i + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_header_reads_back_and_no_damaged_one_does(length in 0..=PAYLOAD_MAX, time: u64, at in 0..HEADER, flip in 1u8..) {
            let header = Header { stream: Stream::Stderr, kind: Kind::Gap, length, time };
            let mut bytes = header.encode();
            prop_assert_eq!(Header::decode(&bytes), Some(header));
            bytes[at] ^= flip;
            prop_assert_eq!(Header::decode(&bytes), None);
        }
    }

    #[test]
    fn a_huge_length_is_no_header_even_with_a_right_checksum() {
        let header = Header { stream: Stream::Stdout, kind: Kind::Output, length: PAYLOAD_MAX + 1, time: 0 };
        assert_eq!(Header::decode(&header.encode()), None);
    }

    #[test]
    fn a_candidate_is_found_behind_garbage_and_at_a_cut() {
        assert_eq!(next_candidate(&[0, 0, 0xf1, b'T', b'L', b'1', 0]), 2);
        assert_eq!(next_candidate(&[0xf1, b'T', b'L', b'1', 0xf1, b'T']), 4);
        assert_eq!(next_candidate(&[0; 9]), 9);
        assert_eq!(next_candidate(&[]), 0);
    }
}
