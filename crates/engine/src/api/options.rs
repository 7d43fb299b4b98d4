//! Options of the verbs: what a caller may choose, and nothing that the engine decides.

use std::time::Duration;

use tare_model::container::AttachedStreams;
use tare_model::{ContainerId, Signal, Status};

/// What `create` made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The container.
    pub id: ContainerId,
    /// What was asked for and is not quite what happens, one sentence each.
    pub warnings: Vec<String>,
}

/// Options of `start`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartOptions {
    /// Initial size of the terminal, rows and columns; absent: the one given to `create`, or the kernel's.
    pub console_size: Option<(u16, u16)>,
}

/// Options of `stop` and `restart`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StopOptions {
    /// Sent first; absent: the container's, the image's, SIGTERM.
    pub signal: Option<Signal>,
    /// How long to wait before SIGKILL; absent: the container's, 10 seconds.
    pub timeout: Option<StopTimeout>,
}

/// How long a stop waits before SIGKILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopTimeout {
    /// This long; zero kills at once.
    After(Duration),
    /// For ever (Docker's -1).
    Never,
}

/// Options of `remove`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Kill it first if it runs.
    pub force: bool,
    /// Remove its anonymous volumes too.
    pub volumes: bool,
}

/// What `wait` waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// It does not run; true at once for one that is not running.
    #[default]
    NotRunning,
    /// Its next exit, whatever it does now.
    NextExit,
    /// It has been removed.
    Removed,
}

/// What `wait` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitResult {
    /// The exit code, 128 + n for signal n.
    pub code: i32,
    /// Why there is no better answer: it could not be started, or its monitor was killed.
    pub error: Option<String>,
}

/// Options of `attach`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttachOptions {
    /// Which streams.
    pub streams: AttachedStreams,
    /// Send what is written from now on (else only the logs, then the end).
    pub stream: bool,
    /// First send what was written before.
    pub logs: bool,
}

/// Options of `logs`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Keep sending as more is written, until the container ends.
    pub follow: bool,
    /// Only this many of the last lines.
    pub tail: Option<u64>,
    /// Only lines at or after this, nanoseconds since the epoch.
    pub since: Option<u64>,
    /// Only lines at or before this.
    pub until: Option<u64>,
}

/// Which containers `list` shows. Absent and empty fields match everything; entries of one field are alternatives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Also those that do not run.
    pub all: bool,
    /// Only this many, the newest first (implies `all`, as in Docker).
    pub limit: Option<usize>,
    /// States.
    pub status: Vec<Status>,
    /// Ids, prefixes of ids.
    pub id: Vec<String>,
    /// Parts of names.
    pub name: Vec<String>,
    /// Labels, `key` or `key=value`; all of them must match.
    pub label: Vec<String>,
    /// Image as given to `create`, or id (prefix) of the image.
    pub ancestor: Vec<String>,
    /// Exit codes of those that have exited.
    pub exited: Vec<i32>,
    /// Created before this container (name or id).
    pub before: Option<String>,
    /// Created after this container.
    pub since: Option<String>,
    /// Volumes by id or destination.
    pub volume: Vec<String>,
}
