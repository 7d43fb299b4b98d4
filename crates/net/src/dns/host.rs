//! What programs of the host may ask: every network's names, below one domain.
//!
//! ```text
//!   web.shop.tare.internal ─ whoever is called `web` on the network `shop`, by name, alias or short id
//!   web.tare.internal      ─ the container `web`, on all its networks
//! ```

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use super::directory::Directory;
use super::local::{self, Decision, Names, say};
use super::wire::Asked;

/// The domain of containers' names on the host. Nobody else's: `internal` is kept free for private use.
pub const DOMAIN: &str = "tare.internal";

/// All networks, seen from the host.
#[derive(Debug)]
pub(super) struct HostView {
    directory: Arc<Directory>,
    upstream: Arc<[SocketAddr]>,
}

// === impl HostView ===

impl HostView {
    pub(super) fn of(directory: Arc<Directory>) -> Self {
        Self { directory, upstream: Arc::default() }
    }

    fn addresses(&self, name: &str, kind: RecordType) -> Decision {
        let Some(name) = name.strip_suffix(DOMAIN) else { return say(ResponseCode::Refused) };
        if name.is_empty() {
            return say(ResponseCode::NoError);
        }
        let Some(name) = name.strip_suffix('.') else { return say(ResponseCode::Refused) };
        let (zones, mut found) = (self.directory.zones(), Vec::new());
        let network = zones.iter().find(|zone| zone.find_below(name, &mut found));
        let called =
            zones.iter().filter(|zone| network.is_none() && zone.find_called(name, &mut found)).count();
        found.retain(|address| local::is_wanted(*address, kind));
        if let Some(zone) = network {
            let first = zone.turn(found.len());
            found.rotate_left(first);
        }
        if network.is_some() || called > 0 { local::tell(found) } else { say(ResponseCode::NXDomain) }
    }

    fn reverse(&self, address: IpAddr) -> Decision {
        let zones = self.directory.zones();
        if let Some(name) = zones.iter().find_map(|zone| zone.reverse(address)) {
            return local::tell_name(&format!("{name}.{DOMAIN}"));
        }
        let inside = zones.iter().any(|zone| zone.contains(address));
        say(if inside { ResponseCode::NXDomain } else { ResponseCode::Refused })
    }
}

impl Names for HostView {
    /// What is not ours is refused: the resolver then asks the next of its servers.
    fn decide(&self, asked: &Asked) -> Decision {
        if let Some(decision) = local::unanswerable(asked) {
            return decision;
        }
        if asked.query.query_type == RecordType::PTR
            && let Some(address) = local::address_of(asked.name())
        {
            return self.reverse(address);
        }
        let mut buffer = [0; 256];
        let name = local::spell(asked.name(), &mut buffer).unwrap_or_default();
        self.addresses(name, asked.query.query_type)
    }

    fn upstream(&self) -> &Arc<[SocketAddr]> {
        &self.upstream
    }
}
