//! Execs: further processes in a running container.

use tare_model::container::AttachedStreams;
use tare_model::{ContainerId, ExecId};

/// What `exec_create` was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecConfig {
    /// Program and arguments.
    pub cmd: Vec<String>,
    /// `NAME=value`, over the container's.
    pub env: Vec<String>,
    /// Empty: the container's.
    pub working_dir: String,
    /// Empty: the container's.
    pub user: String,
    /// Give it a terminal.
    pub tty: bool,
    /// Initial size: rows and columns.
    pub console_size: Option<(u16, u16)>,
    /// Streams the caller will attach.
    pub attach: AttachedStreams,
    /// All capabilities, no system call filter.
    pub privileged: bool,
    /// As the caller gave it, for inspection only.
    pub detach_keys: String,
}

/// Options of `exec_start`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecStartOptions {
    /// Do not attach; the process runs on without anyone reading its output.
    pub detach: bool,
    /// Overrides the size given to `exec_create`.
    pub console_size: Option<(u16, u16)>,
}

/// Everything about one exec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecView {
    /// Its id.
    pub id: ExecId,
    /// Its container.
    pub container: ContainerId,
    /// As asked for.
    pub config: ExecConfig,
    /// It runs.
    pub running: bool,
    /// Its process in the host's namespace, once started.
    pub pid: Option<i32>,
    /// Exit code once it has ended, or 126/127 if it could not be executed.
    pub exit_code: Option<i32>,
}
