//! Streams from outside: what they are compressed with, and the digest of what went through.
//!
//! Decompression is done here, by libraries in this process: no program is ever run for it, least of all one found in
//! an image.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use sha2::{Digest as _, Sha256};
use tare_model::{Digest, Error, Result};

use crate::error::from_read;

/// Read-ahead between the stages of a pipeline.
pub(crate) const BUFFER: usize = 128 << 10;
/// zstd lets the sender choose how much memory its receiver needs; this much is given (128 MiB is `zstd -19 --long`).
const ZSTD_WINDOW_MAX: u64 = 128 << 20;

/// Hashes what is read through it.
pub(crate) struct Hashing<R> {
    inner: R,
    hash: Sha256,
    bytes: u64,
}

/// Decompresses what it recognises by its first bytes, and passes on the rest.
pub(crate) enum Decoder<R: BufRead> {
    Plain(Prefixed<R>),
    Gzip(Box<MultiGzDecoder<Prefixed<R>>>),
    Zstd(Box<ZstdFrames<Prefixed<R>>>),
}

type Prefixed<R> = io::Chain<Cursor<Vec<u8>>, R>;

/// zstd streams are any number of frames, some of which are to be skipped.
pub(crate) struct ZstdFrames<R> {
    input: R,
    decoder: FrameDecoder,
    in_frame: bool,
}

/// The SHA-256 of some bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}

// === impl Hashing ===

impl<R> Hashing<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new(), bytes: 0 }
    }

    /// Digest and number of the bytes read so far.
    pub(crate) fn finish(self) -> (Digest, u64) {
        (Digest::from_bytes(self.hash.finalize().into()), self.bytes)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(&buffer[..n]);
        self.bytes += n as u64;
        Ok(n)
    }
}

// === impl Decoder ===

impl<R: BufRead> Decoder<R> {
    /// Looks at the first bytes of `input`.
    ///
    /// # Errors
    /// `Unsupported` for compression that is recognised and not offered; whatever the input fails with.
    pub(crate) fn new(mut input: R) -> Result<Self> {
        let mut head = Vec::new();
        input.by_ref().take(6).read_to_end(&mut head).map_err(|e| from_read(e, "read"))?;
        let refuse = |what: &str| {
            Err(Error::unsupported(format!(
                "{what}-compressed archives are not supported: use gzip, zstd or none"
            )))
        };
        let kind = head.clone();
        let input = Cursor::new(head).chain(input);
        Ok(match kind.as_slice() {
            [0x1f, 0x8b, ..] => Self::Gzip(Box::new(MultiGzDecoder::new(input))),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                Self::Zstd(Box::new(ZstdFrames::new(input)))
            }
            [0xfd, b'7', b'z', b'X', b'Z', 0] => return refuse("xz"),
            [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A'] => return refuse("bzip2"),
            _ => Self::Plain(input),
        })
    }

    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// A reader with read-ahead.
    pub(crate) fn buffered(self) -> BufReader<Self> {
        BufReader::with_capacity(BUFFER, self)
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(inner) => inner.read(buffer),
            Self::Gzip(inner) => inner.read(buffer),
            Self::Zstd(inner) => inner.read(buffer),
        }
    }
}

// === impl ZstdFrames ===

impl<R: BufRead> ZstdFrames<R> {
    fn new(input: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(ZSTD_WINDOW_MAX);
        Self { input, decoder, in_frame: false }
    }

    /// Begins the next frame; false at the end of the input.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.input.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.input) {
                Ok(()) => {
                    self.in_frame = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let skipped = io::copy(&mut self.input.by_ref().take(length.into()), &mut io::sink())?;
                    if skipped < length.into() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(e) => return Err(damaged(e)),
            }
        }
        Ok(false)
    }

    fn end_frame(&mut self) -> io::Result<()> {
        self.in_frame = false;
        match (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum()) {
            (Some(said), Some(found)) if said != found => Err(damaged("zstd checksum mismatch")),
            _ => Ok(()),
        }
    }
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.in_frame && !self.next_frame()? {
                return Ok(0);
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let step = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder.decode_blocks(&mut self.input, step).map_err(damaged)?;
            }
            match self.decoder.read(buffer)? {
                0 if buffer.is_empty() => return Ok(0),
                0 => self.end_frame()?,
                n => return Ok(n),
            }
        }
    }
}

fn damaged(e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, e)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn decode(bytes: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut decoder = Decoder::new(bytes)?;
        decoder.read_to_end(&mut out).map_err(|e| from_read(e, "decode"))?;
        Ok(out)
    }

    pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("to memory");
        encoder.finish().expect("to memory")
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn compression_is_recognised_by_its_first_bytes() {
        let text = b"some bytes, some bytes, some bytes".repeat(1000);
        for packed in [text.clone(), gzip(&text), zstd(&text)] {
            assert!(decode(&packed).expect("decodes") == text);
        }
        assert_eq!(decode(b"").expect("empty"), b"");
        assert_eq!(decode(b"\x1f").expect("short"), b"\x1f");
    }

    #[test]
    fn several_members_and_frames_are_one_stream() {
        let (a, b) = (b"first ".repeat(10), b"second".repeat(10));
        let both = [a.clone(), b.clone()].concat();
        assert!(decode(&[gzip(&a), gzip(&b)].concat()).expect("two members") == both);
        let skippable = [&0x184D_2A50u32.to_le_bytes()[..], &3u32.to_le_bytes(), b"xyz"].concat();
        let frames = [skippable.clone(), zstd(&a), skippable, zstd(&b)].concat();
        assert!(decode(&frames).expect("two frames") == both);
    }

    #[test]
    fn damage_is_noticed() {
        let text = b"some bytes".repeat(500);
        let mut bad_crc = gzip(&text);
        let at = bad_crc.len() - 6;
        bad_crc[at] ^= 1;
        let half = gzip(&text)[..30].to_vec();
        let garbage = [gzip(&text), b"garbage".to_vec()].concat();
        let zstd_half = zstd(&text)[..20].to_vec();
        let zstd_garbage = [zstd(&text), b"garbage".to_vec()].concat();
        let long_skip = [&0x184D_2A50u32.to_le_bytes()[..], &u32::MAX.to_le_bytes(), b"xyz"].concat();
        for bad in [bad_crc, half, garbage, zstd_half, zstd_garbage, long_skip] {
            let e = decode(&bad).expect_err("damaged");
            assert_eq!(e.kind(), tare_model::ErrorKind::Corrupt, "{e}");
        }
    }

    #[test]
    fn other_compression_is_refused_by_name() {
        assert!(decode(b"\xfd7zXZ\0rest").expect_err("xz").message().contains("xz"));
        assert!(decode(b"BZh91AY&SY").expect_err("bzip2").message().contains("bzip2"));
    }

    #[test]
    fn a_digest_is_of_all_that_was_read() {
        let mut hashing = Hashing::new(&b"abc"[..]);
        io::copy(&mut hashing, &mut io::sink()).expect("memory");
        let (digest, bytes) = hashing.finish();
        assert_eq!(digest.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!((bytes, digest), (3, digest_of(b"abc")));
    }
}
