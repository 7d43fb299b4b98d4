//! States of a container and of the processes in it.

use serde::{Deserialize, Serialize};

/// The status word that listings show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Made, never started.
    Created,
    /// Its first process runs.
    Running,
    /// Frozen.
    Paused,
    /// Waiting to be started again by its restart policy.
    Restarting,
    /// Being removed.
    Removing,
    /// Its first process has ended.
    Exited,
    /// Could not be removed or cleaned up; only `rm` is left.
    Dead,
}

// === impl Status ===

impl Status {
    /// The word of the Docker API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }

    /// Whether processes of it exist.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// How a process ended (wait(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "kebab-case")]
pub enum Exit {
    /// It called `_exit` with this code.
    Code(u8),
    /// This signal killed it.
    Signal(u8),
}

// === impl Exit ===

impl Exit {
    /// The code a shell would report: the code, or 128 + signal.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(c) => i32::from(c),
            Self::Signal(s) => 128 + i32::from(s),
        }
    }
}

/// The end of a container's or exec's process, as its monitor recorded it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// How it ended.
    pub exit: Exit,
    /// When, in nanoseconds since the epoch.
    pub at: u64,
    /// The kernel killed a process of the container for lack of memory.
    pub oom_killed: bool,
    /// Why the engine had to assume this, if nobody saw it end.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_128_and_its_number() {
        assert_eq!(Exit::Signal(9).code(), 137);
        assert_eq!(Exit::Code(3).code(), 3);
    }
}
