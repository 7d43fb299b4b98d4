//! What a daemon or a client may send that is taken apart by hand: chunked bodies, stream frames, filters, times, versions.
#![no_main]

use tare_docker_api::client::{ChunkDecoder, Frames};
use tare_docker_api::{Filters, Version, stamp};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (whole, split) = (decoded(&[bytes]), decoded(&halves(bytes)));
    assert_eq!(whole, split, "where a read ends is nobody's business");
    assert_eq!(framed(&[bytes]), framed(&halves(bytes)), "where a read ends is nobody's business");
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Filters::parse(text);
        let _ = stamp::parse_query("since", text);
        let _ = stamp::parse_rfc3339(text);
        let _ = Version::of_path(text);
    }
});

fn halves(bytes: &[u8]) -> [&[u8]; 2] {
    let (a, b) = bytes.split_at(bytes.len() / 2);
    [a, b]
}

/// The data of a chunked body and whether it is whole; nothing if it is broken.
fn decoded(pieces: &[&[u8]]) -> Option<(Vec<u8>, bool)> {
    let (mut decoder, mut out) = (ChunkDecoder::default(), Vec::new());
    for piece in pieces {
        decoder.decode(piece, &mut out).ok()?;
    }
    Some((out, decoder.is_done()))
}

/// The data of each stream; nothing if the frames are broken.
fn framed(pieces: &[&[u8]]) -> Option<Vec<u8>> {
    let (mut frames, mut out) = (Frames::default(), Vec::new());
    for piece in pieces {
        frames.feed(piece, &mut |_, data| out.extend_from_slice(data)).ok()?;
    }
    Some(out)
}
