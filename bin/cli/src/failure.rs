//! How a command ends when it does not end well: an exit code and, usually, a message for stderr.

use std::fmt::Display;
use std::io;
use tare_docker_api::client::ClientError;

/// The exit code for errors of tare itself in `run` and of flags everywhere, as Docker has it.
pub(crate) const OWN_ERROR: i32 = 125;

/// An error that ends the program with `code`; an empty message prints nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: i32,
    pub(crate) message: String,
}

/// What a command ends with: its exit code.
pub(crate) type Outcome = Result<i32, Failure>;

// === impl Failure ===

impl Failure {
    /// An ordinary error: exit code 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    /// An error with an exit code of its own.
    pub(crate) fn with_code(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// An exit code without words; they were said before.
    pub(crate) fn silent(code: i32) -> Self {
        Self { code, message: String::new() }
    }

    /// An I/O error on the named thing. A reader of our output that went away ends us without words, as SIGPIPE would.
    pub(crate) fn io(what: impl Display, error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::silent(128 + 13)
        } else {
            Self::new(format!("{what}: {error}"))
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::io("standard output", &error)
    }
}

/// An I/O error as Go prints it: lower case and without the number, because scripts look for these words.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.chars().take(1).flat_map(char::to_lowercase).chain(text.chars().skip(1)).collect()
}
