//! Lifecycle of containers and images: the single front door behind every face.
//!
//! A face (the Docker API, later others) holds an [`Engine`] and calls its verbs; it sees only the nouns of [`api`] and
//! of `tare_model`. The engine decides and records, the monitors (`tare-shim`) do: this process never forks, mounts, or
//! touches a cgroup.

pub mod api;
mod assets;
mod clock;
mod engine;
mod events;
mod execs;
mod host;
mod lifecycle;
mod logs;
mod monitors;
mod names;
mod networks;
mod ps;
mod selinux;
mod spec;
mod work;

pub use api::event::{Action, Event};
pub use api::exec::{ExecConfig, ExecStartOptions, ExecView};
pub use api::image::{LoadedImage, RemovedImage};
pub use api::network::{
    CreatedNetwork, EndpointView, FaultRequest, FaultView, Member, NetworkView, NetworkingView, PREDEFINED,
    PoolUsage, PortChange,
};
pub use api::options::{
    AttachOptions, Created, ListFilter, LogOptions, RemoveOptions, StartOptions, StopOptions, StopTimeout,
    WaitCondition, WaitResult,
};
pub use api::stream::{AttachStream, DetachKeys, EventStream, LogLine, LogStream};
pub use api::system::{Info, StatsSample, Top, Version};
pub use api::view::{
    ContainerView, Fixed, Labels, MergedProcess, MountKind, MountView, Paths, StateView, UserIds,
    UserNamespace,
};
pub use engine::{Engine, EngineConfig};
pub use lifecycle::handle::Change;
pub use networks::user::keeper::{WORD as NETWORK_KEEPER, main as network_keeper};
pub use spec::defaults::{MASKED_PATHS, READONLY_PATHS};
pub use tare_shim::rootless::is_inside as is_rootless;
