//! Media types of bodies and streams.

use crate::version::Version;

/// JSON documents, and streams of them that a client reads as one body.
pub const JSON: &str = "application/json";
/// A file-system archive.
pub const TAR: &str = "application/x-tar";
/// Raw bytes both ways: what a terminal prints.
pub const RAW_STREAM: &str = "application/vnd.docker.raw-stream";
/// Frames that tell standard output from standard error.
pub const MULTIPLEXED_STREAM: &str = "application/vnd.docker.multiplexed-stream";

/// The type of an output stream. Before 1.42 both forms went by the raw stream's name.
pub fn of_stream(version: Version, tty: bool) -> &'static str {
    if tty || version < Version::new(42) { RAW_STREAM } else { MULTIPLEXED_STREAM }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_their_own_name_since_1_42() {
        assert_eq!(of_stream(Version::new(41), false), RAW_STREAM);
        assert_eq!(of_stream(Version::new(42), false), MULTIPLEXED_STREAM);
        assert_eq!(of_stream(Version::new(42), true), RAW_STREAM);
    }
}
