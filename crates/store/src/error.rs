//! How errors of this room's libraries become the error that leaves it.
//!
//! The kind is decided here and nowhere else: damaged or hostile bytes are `Corrupt`, a request that cannot be meant is
//! `InvalidInput`, and whatever the kernel or the disk refused is `System` with the failing call in the message.

use std::fmt::Display;
use std::io;

use tare_model::{Error, ErrorKind, Result};
use tare_sys::dir::CallError;

/// Bytes from disk or from outside that cannot be what they claim.
pub(crate) fn corrupt(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, message)
}

/// A system call that failed, as this room's error.
pub(crate) trait SystemContext<T> {
    /// Puts what was attempted before the failing call; `what` is only made when there is an error.
    fn while_<D: Display>(self, what: impl FnOnce() -> D) -> Result<T>;
}

impl<T> SystemContext<T> for Result<T, CallError> {
    fn while_<D: Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| Error::system(format!("{}: {e}", what())))
    }
}

impl<T> SystemContext<T> for io::Result<T> {
    fn while_<D: Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| Error::system(format!("{}: {e}", what())))
    }
}

impl<T> SystemContext<T> for rustix::io::Result<T> {
    fn while_<D: Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| Error::system(format!("{}: {e}", what())))
    }
}

/// The error of a read from outside: one of ours that travelled through `Read` comes out as it went in; a decoder's
/// complaint is `Corrupt`; the rest is the transport's.
pub(crate) fn from_read(e: io::Error, what: impl Display) -> Error {
    let kind = e.kind();
    let text = e.to_string();
    match e.into_inner().map(|inner| inner.downcast::<Error>()) {
        Some(Ok(ours)) => ours.context(what),
        _ => match kind {
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
                corrupt(format!("{what}: {text}"))
            }
            // Decoders report most damage as `Other`.
            io::ErrorKind::Other => corrupt(format!("{what}: {text}")),
            _ => Error::system(format!("{what}: read: {text}")),
        },
    }
}

/// Carries one of our errors through an interface that speaks `io::Error`.
pub(crate) fn into_io(e: Error) -> io::Error {
    io::Error::other(e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_error_survives_the_trip_through_read() {
        let e = from_read(into_io(Error::conflict("full")), "layer 1");
        assert_eq!((e.kind(), e.message()), (ErrorKind::Conflict, "layer 1: full"));
    }

    #[test]
    fn a_broken_stream_is_corrupt_and_a_broken_pipe_is_not() {
        let data = from_read(io::Error::new(io::ErrorKind::InvalidData, "bad crc"), "layer");
        let pipe = from_read(io::Error::from(io::ErrorKind::BrokenPipe), "layer");
        assert_eq!((data.kind(), pipe.kind()), (ErrorKind::Corrupt, ErrorKind::System));
    }
}
