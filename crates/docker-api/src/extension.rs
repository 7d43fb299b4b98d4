//! What tare has and the Docker API lacks: additive fields and paths under the same versions.
//!
//! Extensions live in one object named [`FIELD`], at the top level of the documents that carry them, so that no future
//! field of Docker's can collide with one of ours. `docs/api.md` is the reference for client authors.
//!
//! | document | meaning |
//! |---|---|
//! | `POST /containers/create` body | [`CreateExtension`]: what else the container is made of |
//! | `GET /containers/{id}/json` answer | [`InspectExtension`]: the same, if it was given, and what became of it |
//! | `POST /containers/{id}/update` body | [`UpdateExtension`]: other limits of its networks |
//! | `POST /networks/{id}/update` body | [`NetworkUpdate`]: another rate of its own |
//! | `POST /containers/{id}/faults` body | [`FaultRequest`]: what is to go wrong on purpose on the networks of one that runs |
//! | `GET /faults` answer | [`Fault`]s: what does |
//! | `POST /containers/{id}/ports` body | [`PortsRequest`]: ports to publish and to take back, of one that is there already |

use bollard_stubs::models::{ContainerCreateBody, PortMap};
use serde::{Deserialize, Serialize};

/// Name of the object that carries extensions.
pub const FIELD: &str = "Tare";

/// Extensions of a container's creation. Strict: a field that is not known is an error, for there is no older client
/// to be lenient with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct CreateExtension {
    /// Use this directory of the host as the root file system. `Image` must then be empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<RootfsDirectory>,
    /// How fast it may be on each of its networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkLimits>,
}

/// Body of `POST /containers/{id}/update`: what is changed beside Docker's fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct UpdateExtension {
    /// How fast it may be on each of its networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkLimits>,
}

/// Limits of a container on each of its networks; what is absent stays as it is, 0 takes a limit away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct NetworkLimits {
    /// Bytes per second to the container, as frames are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_rate: Option<u64>,
    /// The same from the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_rate: Option<u64>,
    /// Bytes that pass at once after a pause, each way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// Its part of a network's own rate (the option `tare.network.rate`), in proportion to those of others: 1 to 10000, 100 if
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<u32>,
}

/// A directory of the host as root file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct RootfsDirectory {
    /// Absolute path.
    pub path: String,
    /// Write to the directory itself instead of to a private layer above it.
    #[serde(default)]
    pub writable: bool,
}

/// Extensions of a container's inspection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InspectExtension {
    /// As it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<RootfsDirectory>,
    /// How fast it may be on its networks, if that is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkLimits>,
    /// Whose user and group ids the container has.
    pub user_namespace: UserNamespace,
    /// What goes wrong on purpose on its networks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
}

/// Body of `POST /containers/{id}/faults`. Of `Latency` to `Partition` one at least is there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct FaultRequest {
    /// On which network, by name or id; absent or empty: on all of the container's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Which way packets suffer: `in`, `out` or `both`, which is what it is without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<String>,
    /// What packets suffer.
    #[serde(flatten)]
    pub suffered: Suffered,
    /// With whom nothing is exchanged: names or ids of containers and networks, where both are meant as `container:NAME`,
    /// `network:NAME`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partition: Vec<String>,
    /// Nanoseconds after which it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<u64>,
}

/// What packets suffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Suffered {
    /// Nanoseconds that each is held back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<u64>,
    /// Nanoseconds by which that varies, up and down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<u64>,
    /// Per cent that are lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Per cent in which a bit is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrupt: Option<f64>,
    /// Per cent that come twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicate: Option<f64>,
    /// Per cent that are not held back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reorder: Option<f64>,
    /// Bytes per second at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
}

/// A fault of a running container's networks. `GET /faults` answers with all there are, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Fault {
    /// Its id.
    pub id: String,
    /// The container's id.
    pub container: String,
    /// The container's name.
    pub name: String,
    /// Name of the network, if it is on one alone.
    pub network: String,
    /// `in`, `out` or `both`.
    pub direction: String,
    /// What packets suffer.
    #[serde(flatten)]
    pub suffered: Suffered,
    /// With whom nothing is exchanged, as `container:NAME` and `network:NAME`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partition: Vec<String>,
    /// All of it in a few words.
    pub summary: String,
    /// When it began, RFC 3339.
    pub since: String,
    /// When it ends by itself, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// Body of `POST /networks/{id}/update`: the rate that all containers of a network divide, of which what is absent stays as it
/// is and 0 takes a limit away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct NetworkUpdate {
    /// Bytes per second to all containers together, as frames are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_rate: Option<u64>,
    /// The same from them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_rate: Option<u64>,
    /// Bytes that pass at once after a pause, each way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
}

/// Whose user and group ids a container has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UserNamespace {
    /// `private`, `container` (shared with another one) or `host`.
    pub mode: String,
    /// Why it is not private, in the words of the command line; empty if it is.
    pub reason: String,
    /// The host's id of id 0 inside; 0 with the host's.
    pub first_id: u32,
    /// How many ids of the host are the container's; 0 with the host's.
    pub count: u32,
    /// Ids of users above 65535 inside, which are mapped one by one after the first 65536.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub large_user_ids: Vec<u32>,
    /// The same of groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub large_group_ids: Vec<u32>,
}

/// Body of `POST /containers/{id}/ports`, a path that Docker does not have: all of it happens or nothing. The answer has what
/// is published then, `{"Ports": PortMap}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct PortsRequest {
    /// To be published.
    #[serde(default, skip_serializing_if = "PortMap::is_empty")]
    pub add: PortMap,
    /// To be taken back. A binding without `HostPort` is every binding of that port; without `HostIp`, of every address.
    #[serde(default, skip_serializing_if = "PortMap::is_empty")]
    pub remove: PortMap,
}

/// Body of `POST /containers/create` with its extensions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CreateRequest {
    /// What Docker defines.
    #[serde(flatten)]
    pub docker: ContainerCreateBody,
    /// What we add.
    #[serde(rename = "Tare", default, skip_serializing_if = "Option::is_none")]
    pub tare: Option<CreateExtension>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_create_body_carries_its_extension_beside_dockers_fields() {
        let rootfs = RootfsDirectory { path: "/srv/root".into(), writable: true };
        let request = CreateRequest {
            docker: ContainerCreateBody { cmd: Some(vec!["true".into()]), ..Default::default() },
            tare: Some(CreateExtension { rootfs: Some(rootfs), ..Default::default() }),
        };
        let text = serde_json::to_string(&request).expect("serializes");
        assert_eq!(text, r#"{"Cmd":["true"],"Tare":{"Rootfs":{"Path":"/srv/root","Writable":true}}}"#);
        assert_eq!(serde_json::from_str::<CreateRequest>(&text).expect("parses"), request);
    }

    #[test]
    fn a_body_without_extension_is_exactly_dockers() {
        let request = CreateRequest::default();
        assert_eq!(serde_json::to_string(&request).expect("serializes"), "{}");
    }

    #[test]
    fn an_unknown_extension_is_refused() {
        let text = r#"{"Rootfs":{"Path":"/x","ReadOnly":true}}"#;
        let e = serde_json::from_str::<CreateExtension>(text).expect_err("no such field");
        assert!(e.to_string().contains("ReadOnly"), "{e}");
    }
}
