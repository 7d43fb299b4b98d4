//! Nouns and contracts of tare: ids, digests, references, configurations, states, errors; the traits between rooms. No I/O.
//!
//! Read [`error`] and [`id`] first (every room uses them), then [`container`] (what a container is asked to be),
//! [`state`] (what it is) and [`sandbox`] (the contract between the monitor and what isolates).
//!
//! Invariants: nothing here does I/O, draws randomness or reads a clock; every type that is stored or sent is
//! (de)serializable, and what an older version stored still reads.

pub mod capability;
pub mod container;
pub mod digest;
pub mod error;
pub mod fault;
pub mod id;
pub mod identity;
pub mod ids;
pub mod image;
pub mod network;
pub mod place;
pub mod reference;
pub mod sandbox;
pub mod shaping;
pub mod signal;
pub mod state;

pub use digest::Digest;
pub use error::{Error, ErrorKind, Result, ResultExt};
pub use id::{ContainerId, ContainerName, ExecId, FaultId, NetworkId, VolumeId};
pub use ids::IdRange;
pub use image::{Image, ImageConfig, ImageDocument, ImageRecord};
pub use place::{UserEnvironment, UserPlace};
pub use reference::Reference;
pub use signal::Signal;
pub use state::{Exit, ExitRecord, Status};
