//! What a running container has of networks.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use tare_model::ContainerId;
use tare_model::container::ContainerConfig;
use tare_model::fault::Fault;
use tare_model::network::{Endpoint, Published};
use tare_model::shaping::Shaping;

use crate::spec::files::ResolvConf;

/// What a running container has of networks; kept in its run directory, where it ends with the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attached {
    /// In the order of interfaces.
    pub(crate) joins: Vec<Attachment>,
    /// Ports that are led to it.
    pub(crate) published: Vec<Published>,
    /// Its questions about names are answered here, and so.
    #[serde(default)]
    pub(crate) resolver: Option<Resolver>,
    /// What goes wrong on purpose.
    #[serde(default)]
    pub(crate) faults: Vec<Fault>,
    /// What the host's resolv.conf said when its networks were chosen: who needs it once more need not read it again.
    #[serde(skip)]
    pub(crate) host: Option<ResolvConf>,
}

/// How questions about names that are not ours are answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Resolver {
    /// Who is asked, from the host's network.
    pub(crate) upstream: Vec<SocketAddr>,
    /// Search domains.
    pub(crate) search: Vec<String>,
    /// Options of resolv.conf(5).
    pub(crate) options: Vec<String>,
}

/// One network of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attachment {
    /// Names for it there, beside those that every container has.
    pub(crate) aliases: Vec<String>,
    /// `container:alias`: names for it alone.
    pub(crate) links: Vec<String>,
    /// Parameters of the interface: path below /proc/sys, and value.
    #[serde(default)]
    pub(crate) sysctls: BTreeMap<String, String>,
    /// What it has there.
    pub(crate) endpoint: Endpoint,
    /// How fast it may be there.
    #[serde(default)]
    pub(crate) shaping: Shaping,
    /// Where default routes are considered.
    pub(crate) priority: i64,
    /// The default routes, of IPv4 and of IPv6, go here.
    pub(crate) default_routes: (bool, bool),
}

/// A container, as far as networks are concerned.
#[derive(Clone, Copy)]
pub(crate) struct Party<'a> {
    /// It.
    pub(crate) id: &'a ContainerId,
    /// Its name.
    pub(crate) name: &'a str,
    /// What it asked for.
    pub(crate) config: &'a ContainerConfig,
    /// Ports that its image or it exposes, `80/tcp`.
    pub(crate) exposed: &'a [String],
}
