//! Whose questions about names are answered by the engine, and whom it asks for what is not its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tare_model::container::ContainerConfig;
use tare_model::sandbox::RESOLVER;

use super::table::Table;
use super::{Attached, Resolver, plan};
use crate::spec::files::ResolvConf;

/// Where name servers listen.
const PORT: u16 = 53;

/// Of a container: on networks with names always; on the default one alone, which has none, only where it has links, and where
/// it could not reach the own servers of the `host`, because they are on its loopback.
pub(super) fn of(
    config: &ContainerConfig,
    attached: &Attached,
    table: &Table,
    host: &ResolvConf,
) -> Option<Resolver> {
    let is_nameless = |join: &super::Attachment| {
        let entry = table.get(&join.endpoint.network);
        join.links.is_empty() && entry.is_some_and(|entry| entry.network.config.name == plan::DEFAULT)
    };
    let own = ResolvConf::of(&config.dns, host);
    let out_of_reach = config.dns.servers.is_empty()
        && !own.servers.is_empty()
        && own.servers.iter().all(|server| is_loopback(server));
    if attached.joins.iter().all(is_nameless) && !out_of_reach {
        return None;
    }
    Some(Resolver {
        upstream: own.servers.iter().filter_map(|server| address(server)).collect(),
        search: own.search,
        options: own.options,
    })
}

/// What the container is told to ask.
pub(crate) fn inside(resolver: &Resolver) -> ResolvConf {
    let mut options = resolver.options.clone();
    if !options.iter().any(|option| option.starts_with("ndots:")) {
        options.push("ndots:0".to_owned());
    }
    ResolvConf { servers: vec![RESOLVER.to_string()], search: resolver.search.clone(), options }
}

fn is_loopback(server: &str) -> bool {
    server.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

fn address(server: &str) -> Option<SocketAddr> {
    let address: IpAddr = server.parse().ok()?;
    // Our own would ask ourselves.
    (address != IpAddr::V4(Ipv4Addr::UNSPECIFIED) && address != IpAddr::V4(RESOLVER))
        .then(|| SocketAddr::new(address, PORT))
}
