//! Messages between daemon, nursery and shim: what may be asked, what is answered, what is told unasked.
//!
//! ```text
//!   daemon ── NurseryRequest (+ one end of a control socket) ──▶ nursery      nothing comes back on this socket
//!   daemon ── Request { version, id, fds, call } ─────────────▶ shim
//!   daemon ◀─ Message::Hello { version, shim_pid } ───────────  shim          first on every connection
//!   daemon ◀─ Message::Reply { id, result } ──────────────────  shim          one per request, in the order of requests
//!   daemon ◀─ Message::Event(event) ──────────────────────────  shim          whenever it happens
//! ```
//!
//! Every socket is `AF_UNIX`, `SOCK_SEQPACKET`: one packet is one message in JSON (how large ones travel: [`crate::wire`]).
//! Descriptors ride along by `SCM_RIGHTS`; [`Request::fds`] names the role of each, in order.
//!
//! # Versions
//! [`VERSION`] changes only when an old peer could misunderstand; then the message is refused as a whole, by an error that
//! names both versions. Everything else is additive: unknown fields are ignored, an unknown call is answered with
//! [`tare_model::ErrorKind::Unsupported`], a message from a shim that cannot be read is skipped unless it is a reply.
//!
//! # Attach streams
//! The descriptor of an attachment is a `SOCK_STREAM` Unix socket. Shim → peer: raw bytes of a terminal, otherwise Docker's
//! frames (`stream, 0, 0, 0, length (u32, big endian)`, then the bytes). Peer → shim: raw standard input; shutting down
//! the writing side is end of file. The shim closes it when the process has ended and everything was written. A peer that
//! does not read stops the reading of that process's output, and nothing else.

use std::path::PathBuf;

use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};
use tare_model::container::LogConfig;
use tare_model::sandbox::{ExecSpec, SandboxSpec, Stats, WindowSize};
use tare_model::{ContainerId, Error, ExecId, Exit, ExitRecord, Result, Signal};

pub use tare_model::container::AttachedStreams as Streams;

/// The protocol that this build speaks.
pub const VERSION: u32 = 1;

/// Daemon → shim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`] of the sender.
    pub version: u32,
    /// Comes back in the reply; chosen by the sender.
    pub id: u64,
    /// Roles of the descriptors that came along, in order.
    #[serde(default)]
    pub fds: Vec<FdRole>,
    /// What is asked.
    pub call: Call,
}

/// What a descriptor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FdRole {
    /// An attachment's socket. With `Start` the n-th one belongs to `attach[n]`.
    Stream,
    /// A control socket.
    Control,
    /// With `Start`: the container's end of the door behind which its network is set up
    /// ([`tare_model::sandbox::NetworkReady`]).
    Network,
    /// With `Start` or [`Call::Keep`]: something of the daemon's that must not end with it. Kept unseen as long as the container
    /// runs, and given to every daemon that asks ([`Call::Kept`]).
    Keep,
    /// A role of a later version.
    #[serde(other)]
    Unknown,
}

/// Everything a shim can be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Call {
    /// Launch the container; the first call of a new shim, and only then. → [`Answer::Started`]
    Start(Box<StartRequest>),
    /// Sockets of the container's network namespace, which are kept as long as it runs; they ride along with the answer, in
    /// the order of [`tare_model::sandbox::NetworkSockets`]. → [`Answer::Done`]
    Network,
    /// Keep the one [`FdRole::Keep`] that comes along, in place of what was kept before. → [`Answer::Done`]
    Keep,
    /// What came as [`FdRole::Keep`] last; a copy rides along with the answer. → [`Answer::Done`]
    Kept,
    /// What is known; the first call of a daemon that came back. → [`Answer::Snapshot`]
    Snapshot,
    /// Send a signal to the first process, or to an exec's. SIGKILL also thaws. → [`Answer::Done`]
    Signal {
        /// Which signal.
        signal: Signal,
        /// Absent: the container's first process.
        exec: Option<ExecId>,
    },
    /// Freeze every process. → [`Answer::Done`]
    Pause,
    /// Thaw. → [`Answer::Done`]
    Resume,
    /// Set the size of a terminal. → [`Answer::Done`]
    Resize {
        /// New size.
        size: WindowSize,
        /// Absent: the container's terminal.
        exec: Option<ExecId>,
    },
    /// Attach the one [`FdRole::Stream`] that comes along. → [`Answer::Done`]
    Attach {
        /// Streams the peer wants.
        streams: Streams,
    },
    /// Start a further process; at most one [`FdRole::Stream`] comes along. → [`Answer::ExecStarted`]
    Exec(Box<ExecRequest>),
    /// Read the cgroups' figures. → [`Answer::Stats`]
    Stats,
    /// Change limits; what is not named stays. → [`Answer::Updated`]
    Update(Box<LinuxResources>),
    /// Ids of the container's processes, in the host's namespace. → [`Answer::Processes`]
    Processes,
    /// Send one [`Event::LogGrew`] when the log has grown after this. → [`Answer::Done`]
    ///
    /// A follower asks, *then* reads to the end, then waits for the event: nothing is missed.
    WatchLog,
}

/// What to launch, and where its bytes go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartRequest {
    /// The container.
    pub spec: SandboxSpec,
    /// `RUN/containers/ID`, an existing directory of this container alone: `record` and `shim.sock` are put there.
    pub run_dir: PathBuf,
    /// Standard streams.
    pub stdio: StdioSettings,
    /// Where output is kept.
    pub log: LogSettings,
    /// Attachments made before the start; one [`FdRole::Stream`] each. They miss nothing.
    #[serde(default)]
    pub attach: Vec<Streams>,
}

/// Standard streams of the first process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StdioSettings {
    /// A terminal of this size; absent: pipes. A size of 0 x 0 leaves the kernel's.
    pub terminal: Option<WindowSize>,
    /// Give it a standard input; otherwise `/dev/null` (a terminal always has one).
    pub open_stdin: bool,
    /// Close standard input once the first attachment that has it is at its end (not with a terminal).
    pub stdin_once: bool,
}

/// Where output is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSettings {
    /// Driver, size and number of files.
    pub config: LogConfig,
    /// An existing directory for this container's log files alone (unused by the driver `none`).
    pub directory: PathBuf,
}

/// A further process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Name in later calls and in [`Event::ExecExited`].
    pub exec: ExecId,
    /// What to execute.
    pub spec: ExecSpec,
    /// A terminal of this size; absent: pipes.
    pub terminal: Option<WindowSize>,
    /// Streams that the attachment wants; the others are `/dev/null`. Without a descriptor nothing is attached.
    #[serde(default)]
    pub streams: Streams,
}

/// Shim → daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// The first message of every connection: whoever has seen it knows that there is a shim.
    Hello {
        /// [`VERSION`] of the shim.
        version: u32,
        /// Its process id in the host's namespace.
        shim_pid: i32,
    },
    /// The answer to a request.
    Reply {
        /// That of the request.
        id: u64,
        /// What came of it.
        result: Result<Answer>,
    },
    /// Something happened.
    Event(Event),
}

/// Answers; which one belongs to which call is said at [`Call`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It was done.
    Done,
    /// The program executes.
    Started(Started),
    /// The exec's program executes.
    ExecStarted {
        /// In the host's namespace.
        pid: i32,
    },
    /// Figures.
    Stats(Box<Stats>),
    /// The limits are in force; what was asked for without effect, for people.
    Updated(Vec<String>),
    /// Process ids in the host's namespace.
    Processes(Vec<i32>),
    /// What is known.
    Snapshot(Box<Snapshot>),
}

/// A container that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Its first process, in the host's namespace.
    pub pid: i32,
    /// Its monitor.
    pub shim_pid: i32,
    /// When, in nanoseconds since the epoch.
    pub started_at: u64,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The first process has ended, its record is written, its cgroups are gone, its log is complete, and the name
    /// `shim.sock` is free again. The last event.
    Exited(ExitRecord),
    /// An exec's process has ended.
    ExecExited(ExecExit),
    /// The log has grown since it was last asked for.
    LogGrew,
    /// The kernel killed a process of the container for lack of memory; told once of several that a peer was slow to take.
    Oom,
    /// Told before [`Event::Exited`], if need be: something of the container could not be removed or recorded. A cleanup
    /// by the nursery is due.
    Leftovers(Error),
}

/// The end of an exec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecExit {
    /// Which.
    pub exec: ExecId,
    /// How.
    pub exit: Exit,
    /// When, in nanoseconds since the epoch.
    pub at: u64,
}

/// What a shim knows, for a daemon that came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Whose monitor this is.
    pub container: ContainerId,
    /// First process, monitor, time of start.
    pub started: Started,
    /// Frozen now.
    pub paused: bool,
    /// The kernel has killed a process of it for lack of memory.
    pub oom_killed: bool,
    /// Present once the first process has ended.
    pub exited: Option<ExitRecord>,
    /// Execs that run, oldest first.
    pub execs: Vec<RunningExec>,
    /// Execs that have ended, oldest first; the shim remembers the last [`ENDED_EXECS`].
    pub ended_execs: Vec<ExecExit>,
    /// Bytes of output that could not be written to the log (no space, I/O error).
    #[serde(default)]
    pub log_dropped: u64,
}

/// How many ended execs a shim remembers.
pub const ENDED_EXECS: usize = 256;

/// An exec that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningExec {
    /// Which.
    pub exec: ExecId,
    /// Its process in the host's namespace.
    pub pid: i32,
}

/// Daemon → nursery. One [`FdRole::Control`] comes along; answers, errors included, go to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NurseryRequest {
    /// [`VERSION`] of the sender.
    pub version: u32,
    /// What is asked.
    pub call: NurseryCall,
}

/// Everything a nursery can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NurseryCall {
    /// Fork a shim whose control socket is the descriptor. Its first request is [`Call::Start`].
    Shim,
    /// End what a dead shim left and answer once, with [`Answer::Done`] or an error, as a reply to id 0.
    Cleanup {
        /// The container.
        container: ContainerId,
        /// `linux.cgroupsPath` of its specification.
        cgroups_path: String,
        /// Directories to remove with everything below them.
        remove: Vec<PathBuf>,
    },
}

// === impl Request ===

impl Request {
    /// A request of this version without descriptors.
    pub fn new(id: u64, call: Call) -> Self {
        Self { version: VERSION, id, fds: Vec::new(), call }
    }
}

/// Refuses a message of another protocol version.
///
/// # Errors
/// [`tare_model::ErrorKind::Unsupported`], naming both versions.
pub fn check_version(theirs: u32) -> Result<()> {
    if theirs == VERSION {
        return Ok(());
    }
    Err(Error::unsupported(format!(
        "shim protocol: the peer speaks version {theirs}, this tare-shim speaks version {VERSION}; \
         use the tared and tare-shim of one release (running containers go on)"
    )))
}
