//! What the kernel refused, as people read it.

use std::fmt::Display;

use rustix::io::Errno;
use tare_model::error::{Error, ErrorKind, Result};
use tare_sys::netlink;

/// Says what was being done to a refusal.
pub(crate) trait Refused<T> {
    /// Puts `what`, which names the request and its object, before the kernel's words.
    fn refused<D: Display>(self, what: impl FnOnce() -> D) -> Result<T>;
}

impl<T> Refused<T> for netlink::Result<T> {
    fn refused<D: Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| Error::new(kind(&error), format!("{}: {error}", what())))
    }
}

impl<T> Refused<T> for Result<T, (usize, netlink::Error)> {
    fn refused<D: Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|(place, error)| {
            Error::new(kind(&error), format!("{}, request {}: {error}", what(), place + 1))
        })
    }
}

fn kind(error: &netlink::Error) -> ErrorKind {
    match error.errno() {
        Errno::NODEV => ErrorKind::NotFound,
        Errno::EXIST | Errno::BUSY => ErrorKind::Conflict,
        Errno::OPNOTSUPP => ErrorKind::Unsupported,
        _ => ErrorKind::System,
    }
}

/// No error if it is one of those.
pub(crate) fn but(outcome: netlink::Result<()>, fine: &[Errno]) -> netlink::Result<()> {
    match outcome {
        Err(error) if fine.contains(&error.errno()) => Ok(()),
        outcome => outcome,
    }
}

/// One error of all.
pub(crate) fn gather(outcomes: impl IntoIterator<Item = Result<()>>) -> Result<()> {
    let mut errors = outcomes.into_iter().filter_map(Result::err);
    let Some(first) = errors.next() else { return Ok(()) };
    let words = errors.fold(first.message().to_owned(), |words, error| format!("{words}; {error}"));
    Err(Error::new(first.kind(), words))
}
