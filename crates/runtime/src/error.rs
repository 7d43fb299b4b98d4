//! Errors of this room: a failed system call as strace would print it, or a refusal with its kind.
//!
//! Every level adds at most one phrase of context; [`model::Error`](tare_model::Error) is made once, at the boundary.

use std::fmt;

use rustix::io::Errno;
use tare_model::ErrorKind;

/// Why something could not be set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    errno: Option<Errno>,
}

/// `Result` with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Names the call that failed.
pub(crate) trait Call<T> {
    /// `call` is written as strace would, without the result: `mkdirat(root, "dev", 0755)`.
    fn call<D: fmt::Display>(self, call: impl FnOnce() -> D) -> Result<T>;
}

/// Says what was being attempted.
pub(crate) trait Context<T> {
    /// Puts `what` before the message.
    fn context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T>;
}

// === impl Error ===

impl Error {
    /// A refusal of ours.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), errno: None }
    }

    /// The request is wrong.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// The request is understood and not offered.
    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// A security rule refuses it.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Forbidden, message)
    }

    /// The kernel's reason, if a call failed.
    pub(crate) fn errno(&self) -> Option<Errno> {
        self.errno
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<Error> for tare_model::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind, error.message)
    }
}

impl From<tare_model::Error> for Error {
    fn from(error: tare_model::Error) -> Self {
        Self::new(error.kind(), error.message())
    }
}

impl<T> Call<T> for rustix::io::Result<T> {
    fn call<D: fmt::Display>(self, call: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|errno| Error {
            kind: ErrorKind::System,
            message: format!("{}: {}", call(), reason(errno)),
            errno: Some(errno),
        })
    }
}

impl<T> Call<T> for tare_sys::netlink::Result<T> {
    fn call<D: fmt::Display>(self, call: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| {
            let words = error.explanation().map(|words| format!(" ({words})")).unwrap_or_default();
            Error {
                kind: ErrorKind::System,
                message: format!("{}: {}{words}", call(), reason(error.errno())),
                errno: Some(error.errno()),
            }
        })
    }
}

impl<T> Context<T> for Result<T> {
    fn context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| Error { message: format!("{}: {}", what(), error.message), ..error })
    }
}

/// The kernel's reason in words, as C programs print it.
pub(crate) fn reason(errno: Errno) -> String {
    let text = std::io::Error::from_raw_os_error(errno.raw_os_error()).to_string();
    let words = text.rsplit_once(" (os error").map_or(text.as_str(), |(words, _)| words);
    let mut letters = words.chars();
    letters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_call_reads_as_strace_prints_it() {
        let failed: rustix::io::Result<()> = Err(Errno::NOENT);
        let error = failed.call(|| "openat2(root, \"etc\")").context(|| "mount /etc").unwrap_err();
        assert_eq!(error.to_string(), "mount /etc: openat2(root, \"etc\"): no such file or directory");
        assert_eq!((error.kind(), error.errno()), (ErrorKind::System, Some(Errno::NOENT)));
    }

    #[test]
    fn the_kind_survives_the_boundary() {
        let outside = tare_model::Error::from(Error::forbidden("no"));
        assert_eq!(outside.kind(), ErrorKind::Forbidden);
        assert_eq!(outside.message(), "no");
    }
}
