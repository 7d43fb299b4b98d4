//! What goes wrong with control groups.

use rustix::io::Errno;

/// An error that names the group or limit, the failing call, and the cause.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a call.
    #[error("{call}: {source}")]
    Call {
        /// As strace would show it, in words: `write "100" to PATH`.
        call: String,
        /// The kernel's answer.
        source: Errno,
    },
    /// systemd refused, or could not be asked.
    #[error("systemd: {call}: {said}")]
    Systemd {
        /// What was asked.
        call: String,
        /// What it said.
        said: String,
    },
    /// A limit was asked for that this machine cannot enforce.
    #[error("{what}: {why}")]
    Unsupported {
        /// The limit, in people's words.
        what: String,
        /// What is missing.
        why: String,
    },
    /// A limit that contradicts itself or another.
    #[error("{what}: {why}")]
    Invalid {
        /// The limit, in people's words.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// The path cannot name a group.
    #[error("cgroup path {path:?}: {why}")]
    Path {
        /// As given.
        path: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A group of this name is there and somebody lives in it.
    #[error(
        "cgroup {path} exists and holds process {pid}; another container (or its remains) uses this name"
    )]
    InUse {
        /// The group.
        path: String,
        /// One of its processes.
        pid: i32,
    },
    /// A file of the kernel's said something we cannot read.
    #[error("{path} holds {content:?}, which is not {wanted}")]
    Unreadable {
        /// The file.
        path: String,
        /// What it holds.
        content: String,
        /// What was expected.
        wanted: &'static str,
    },
    /// Waited for long enough.
    #[error("cgroup {path}: {what} did not happen within {seconds} s")]
    TimedOut {
        /// The group.
        path: String,
        /// What was waited for.
        what: &'static str,
        /// How long.
        seconds: u64,
    },
    /// Several things went wrong while everything else was cleaned up.
    #[error("{}", join(.0))]
    Several(
        /// In the order of happening; two or more.
        Vec<Error>,
    ),
}

/// `Result` with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

fn join(errors: &[Error]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Error {
    /// The kernel's answer, if it was one call that failed.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Call { source, .. } => Some(*source),
            _ => None,
        }
    }

    /// A refused call, with the limit that it was made for.
    pub(crate) fn about(self, what: &str) -> Self {
        match self {
            Self::Call { call, source } => Self::Call { call: format!("{what}: {call}"), source },
            other => other,
        }
    }

    /// All of these as one; `Ok` if there are none.
    pub(crate) fn collect(mut errors: Vec<Self>) -> Result<()> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Several(errors)),
        }
    }
}

impl From<Error> for tare_model::Error {
    fn from(error: Error) -> Self {
        use tare_model::ErrorKind as Kind;
        let kind = match &error {
            Error::Unsupported { .. } => Kind::Unsupported,
            Error::Invalid { .. } | Error::Path { .. } => Kind::InvalidInput,
            Error::InUse { .. } => Kind::Conflict,
            Error::Call { .. }
            | Error::Systemd { .. }
            | Error::Unreadable { .. }
            | Error::TimedOut { .. }
            | Error::Several(_) => Kind::System,
        };
        Self::new(kind, error.to_string())
    }
}
