//! What we know ourselves: decided in memory, at once.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use tare_model::error::{Error, Result};

use super::Settings;
use super::directory::{Directory, Zone};
use super::wire::Asked;

/// What one container sees; replaced as a whole.
#[derive(Debug, Default)]
pub(super) struct View {
    networks: Vec<Seen>,
    upstream: Arc<[SocketAddr]>,
    /// In lower case, without dots around.
    search: Vec<String>,
    ndots_set: bool,
}

#[derive(Debug)]
struct Seen {
    zone: Arc<Zone>,
    /// Alias and name, in lower case.
    links: Vec<(String, String)>,
}

/// Who decides about questions.
pub(super) trait Names: std::fmt::Debug + Send + Sync {
    /// What becomes of one. Never waits.
    fn decide(&self, asked: &Asked) -> Decision;

    /// Who is asked what is forwarded.
    fn upstream(&self) -> &Arc<[SocketAddr]>;
}

/// What becomes of a question.
#[derive(Debug)]
pub(super) enum Decision {
    Say(ResponseCode, Vec<RData>),
    Forward,
}

// === impl View ===

impl View {
    pub(super) fn of(directory: &Directory, settings: &Settings) -> Result<Self> {
        let mut networks = Vec::with_capacity(settings.networks.len());
        for attachment in &settings.networks {
            let short = attachment.network.short();
            let zone = directory.zone(&attachment.network);
            let zone = zone.ok_or_else(|| Error::not_found(format!("network {short} has no names yet")))?;
            let lower =
                |(alias, name): (&String, &String)| (alias.to_ascii_lowercase(), name.to_ascii_lowercase());
            networks.push(Seen { zone, links: attachment.links.iter().map(lower).collect() });
        }
        let bare = |domain: &String| domain.trim_matches('.').to_ascii_lowercase();
        Ok(Self {
            networks,
            upstream: settings.upstream.clone().into(),
            search: settings.search.iter().map(bare).filter(|domain| !domain.is_empty()).collect(),
            ndots_set: ndots(&settings.options)?.is_some_and(|dots| dots > 0),
        })
    }

    /// An answer if the name is ours: addresses of the first network that has some of the family.
    fn addresses(&self, name: &str, kind: RecordType) -> Option<Decision> {
        let (mut ours, mut found) = (false, Vec::new());
        for Seen { zone, links } in &self.networks {
            let link = links.iter().find(|(alias, _)| alias == name);
            ours |= zone.find(link.map_or(name, |(_, name)| name), &mut found);
            found.retain(|address| is_wanted(*address, kind));
            if !found.is_empty() {
                let first = zone.turn(found.len());
                found.rotate_left(first);
                break;
            }
        }
        ours.then(|| tell(found))
    }

    /// An answer to the name of an address in one of our subnets.
    fn reverse(&self, name: &Name) -> Option<Decision> {
        let asked = address_of(name)?;
        if let Some(name) = self.networks.iter().find_map(|seen| seen.zone.reverse(asked)) {
            return Some(tell_name(&name));
        }
        let inside = self.networks.iter().any(|seen| seen.zone.contains(asked));
        inside.then(|| say(ResponseCode::NXDomain))
    }

    /// What is not ours.
    fn beyond(&self, name: &str, kind: RecordType) -> Decision {
        let way_out = self.networks.iter().any(|seen| !seen.zone.internal());
        if !way_out {
            return say(if self.searched(name) { ResponseCode::NXDomain } else { ResponseCode::ServFail });
        }
        let single = !name.is_empty() && !name.contains('.');
        if single && self.ndots_set && matches!(kind, RecordType::A | RecordType::AAAA) {
            return say(ResponseCode::NXDomain);
        }
        Decision::Forward
    }

    /// Whether a resolver made the name by adding a search domain.
    fn searched(&self, name: &str) -> bool {
        let below =
            |domain: &String| name.strip_suffix(domain.as_str()).is_some_and(|name| name.ends_with('.'));
        self.search.iter().any(below)
    }
}

impl Names for View {
    fn decide(&self, asked: &Asked) -> Decision {
        if let Some(decision) = unanswerable(asked) {
            return decision;
        }
        let kind = asked.query.query_type;
        if kind == RecordType::PTR
            && let Some(decision) = self.reverse(asked.name())
        {
            return decision;
        }
        let mut buffer = [0; 256];
        // What is longer, or no text, is nobody's name.
        let name = spell(asked.name(), &mut buffer).unwrap_or_default();
        self.addresses(name, kind).unwrap_or_else(|| self.beyond(name, kind))
    }

    fn upstream(&self) -> &Arc<[SocketAddr]> {
        &self.upstream
    }
}

/// What nobody is told, and no upstream is asked.
pub(super) fn unanswerable(asked: &Asked) -> Option<Decision> {
    match asked.query.query_type {
        RecordType::AXFR | RecordType::IXFR | RecordType::OPT => Some(say(ResponseCode::Refused)),
        _ if asked.query.query_class != DNSClass::IN => Some(say(ResponseCode::NotImp)),
        _ => None,
    }
}

pub(super) fn say(code: ResponseCode) -> Decision {
    Decision::Say(code, Vec::new())
}

/// These addresses, in this order.
pub(super) fn tell(found: Vec<IpAddr>) -> Decision {
    Decision::Say(ResponseCode::NoError, found.into_iter().map(address).collect())
}

/// The name of an address, without a dot behind it.
pub(super) fn tell_name(name: &str) -> Decision {
    match Name::from_ascii(format!("{name}.")) {
        Ok(name) => Decision::Say(ResponseCode::NoError, vec![RData::PTR(PTR(name))]),
        Err(_) => say(ResponseCode::NXDomain),
    }
}

/// Of the family that is asked for.
pub(super) fn is_wanted(address: IpAddr, kind: RecordType) -> bool {
    matches!((address, kind), (IpAddr::V4(_), RecordType::A) | (IpAddr::V6(_), RecordType::AAAA))
}

/// The address whose name is asked for.
pub(super) fn address_of(name: &Name) -> Option<IpAddr> {
    let net = name.parse_arpa_name().ok().filter(|net| net.prefix_len() == net.max_prefix_len())?;
    Some(net.addr())
}

fn address(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

/// The name in lower case with dots between its labels and none at its end.
pub(super) fn spell<'a>(name: &Name, buffer: &'a mut [u8; 256]) -> Option<&'a str> {
    let mut length = 0;
    for label in name.iter() {
        let place = buffer.get_mut(length..length + label.len() + 1)?;
        let (letters, dot) = place.split_at_mut(label.len());
        letters.copy_from_slice(label);
        dot.copy_from_slice(b".");
        length += label.len() + 1;
    }
    let spelled = buffer.get_mut(..length.saturating_sub(1))?;
    spelled.make_ascii_lowercase();
    std::str::from_utf8(spelled).ok()
}

/// The number of dots below which names are completed, if an option says.
fn ndots(options: &[String]) -> Result<Option<u32>> {
    let mut found = None;
    for dots in options.iter().filter_map(|option| option.strip_prefix("ndots:")) {
        let wrong =
            |_| Error::invalid(format!("invalid option \"ndots:{dots}\" of resolv.conf: want a number"));
        found = Some(dots.parse().map_err(wrong)?);
    }
    Ok(found)
}
