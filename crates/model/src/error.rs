//! The error that crosses rooms and processes: a stable kind for machines, one sentence for people.
//!
//! Rooms below keep their own errors (a system call with its arguments, for example) and convert at their boundary.
//! A kind becomes an HTTP status, an exit code or a hint in exactly one place per face.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a caller can do about an error; stable across versions, and part of the shim protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The named object does not exist.
    NotFound,
    /// The object exists, but its state or another object forbids the operation.
    Conflict,
    /// The object is already in the state that was asked for.
    NotModified,
    /// The request itself is wrong; asking again unchanged is useless.
    InvalidInput,
    /// Understood, but not offered by this version or this kernel.
    Unsupported,
    /// Refused by a security rule.
    Forbidden,
    /// A needed part (daemon, nursery, shim) is not there now; trying again may help.
    Unavailable,
    /// The program to execute does not exist in the container (exit code 127).
    CommandNotFound,
    /// The program exists but cannot be executed (exit code 126).
    CommandNotExecutable,
    /// Bytes on disk or from outside are damaged or hostile.
    Corrupt,
    /// The kernel or the machine refused; the message names the call.
    System,
}

/// An error with its kind and a message that names object, failing call, cause and remedy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

// === impl Error ===

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The sentence, without any prefix.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same error with `what` was being attempted put before it: `what: message`.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// [`ErrorKind::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// [`ErrorKind::Conflict`].
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// [`ErrorKind::InvalidInput`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// [`ErrorKind::Unsupported`].
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// [`ErrorKind::System`].
    pub fn system(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::System, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Adds what was being attempted to an error on its way up.
pub trait ResultExt<T> {
    /// Puts `what` before the message; `what` is only made when there is an error.
    fn context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: Into<Error>> ResultExt<T> for std::result::Result<T, E> {
    fn context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| e.into().context(what()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_goes_before_the_message_and_keeps_the_kind() {
        let e = Error::conflict("it is running").context("remove container web");
        assert_eq!(e.to_string(), "remove container web: it is running");
        assert_eq!(e.kind(), ErrorKind::Conflict);
    }

    #[test]
    fn an_error_survives_the_wire() {
        let e = Error::system("openat2(3, \"etc\"): EACCES");
        let text = serde_json::to_string(&e).expect("serializes");
        assert_eq!(serde_json::from_str::<Error>(&text).expect("parses"), e);
        assert!(text.contains("\"system\""));
    }
}
