//! Events: what happened, typed, in the order it happened.

use std::collections::BTreeMap;
use std::fmt;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds since the epoch.
    pub time: u64,
    /// What happened.
    pub action: Action,
    /// The container's, image's or network's id (or name, for an image that has one).
    pub actor: String,
    /// Names, labels, codes, as Docker's events carry them.
    pub attributes: BTreeMap<String, String>,
}

/// What happens to containers, images and networks. The text of an action is Docker's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// A container was created.
    Create,
    /// Someone attached to it.
    Attach,
    /// Its process was started.
    Start,
    /// Its process ended.
    Die,
    /// It was stopped on request.
    Stop,
    /// It was restarted on request.
    Restart,
    /// A signal was sent to it.
    Kill,
    /// It was frozen.
    Pause,
    /// It was thawed.
    Unpause,
    /// It has a new name.
    Rename,
    /// It has other limits.
    Update,
    /// Its terminal has a new size.
    Resize,
    /// It was removed.
    Destroy,
    /// A process of it was killed for lack of memory.
    Oom,
    /// An exec was prepared: its command line.
    ExecCreate(String),
    /// An exec was started: its command line.
    ExecStart(String),
    /// An exec ended.
    ExecDie,
    /// An image came from an archive.
    ImageLoad,
    /// An image was made of a plain archive.
    ImageImport,
    /// An image got a name.
    ImageTag,
    /// An image lost a name.
    ImageUntag,
    /// An image was removed.
    ImageDelete,
    /// A network was created. Attributes of these five: `name` and `type` (the driver's name).
    NetworkCreate,
    /// A container is on it, with the attribute `container`: its id.
    NetworkConnect,
    /// A container is not on it any more; attributes as before.
    NetworkDisconnect,
    /// It has another rate of its own.
    NetworkUpdate,
    /// It was removed.
    NetworkDestroy,
    /// A container's network goes wrong on purpose. Attributes: `fault`, its id, and `what` it does.
    FaultAdd,
    /// It does no longer, on request or because its time was over.
    FaultRemove,
}

// === impl Action ===

impl Action {
    /// The type of the actor, Docker's word: `container`, `image` or `network`.
    pub fn actor_type(&self) -> &'static str {
        match self {
            Self::ImageLoad | Self::ImageImport | Self::ImageTag | Self::ImageUntag | Self::ImageDelete => {
                "image"
            }
            Self::NetworkCreate
            | Self::NetworkConnect
            | Self::NetworkDisconnect
            | Self::NetworkUpdate
            | Self::NetworkDestroy => "network",
            _ => "container",
        }
    }

    /// The action without details: `exec_create`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Create | Self::NetworkCreate => "create",
            Self::Attach => "attach",
            Self::Start => "start",
            Self::Die => "die",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Unpause => "unpause",
            Self::Rename => "rename",
            Self::Update | Self::NetworkUpdate => "update",
            Self::Resize => "resize",
            Self::Destroy | Self::NetworkDestroy => "destroy",
            Self::NetworkConnect => "connect",
            Self::NetworkDisconnect => "disconnect",
            Self::Oom => "oom",
            Self::ExecCreate(_) => "exec_create",
            Self::ExecStart(_) => "exec_start",
            Self::ExecDie => "exec_die",
            Self::ImageLoad => "load",
            Self::ImageImport => "import",
            Self::ImageTag => "tag",
            Self::ImageUntag => "untag",
            Self::ImageDelete => "delete",
            Self::FaultAdd => "fault_add",
            Self::FaultRemove => "fault_remove",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExecCreate(command) | Self::ExecStart(command) => write!(f, "{}: {command}", self.word()),
            _ => f.write_str(self.word()),
        }
    }
}
