//! What the kernel said when it refused.

use std::fmt;

use rustix::io::Errno;

/// The outcome of a request.
pub type Result<T> = std::result::Result<T, Error>;

/// A refusal: the number every call has, and the sentence that newer kernels add to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    errno: Errno,
    explanation: Option<String>,
}

// === impl Error ===

impl Error {
    pub(super) fn new(errno: Errno, explanation: Option<String>) -> Self {
        Self { errno, explanation }
    }

    /// Which error.
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// The kernel's explanation, where it gave one.
    pub fn explanation(&self) -> Option<&str> {
        self.explanation.as_deref()
    }
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Self { errno, explanation: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.explanation {
            Some(words) => write!(f, "{} ({words})", self.errno),
            None => self.errno.fmt(f),
        }
    }
}

impl std::error::Error for Error {}
