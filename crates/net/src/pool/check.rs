//! What may be asked of a network. Texts are those of Docker's API where it has one.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tare_model::error::{Error, ErrorKind, Result};
use tare_model::network::{Driver, GatewayMode, NetworkConfig, ParentMode, PoolConfig};

use crate::span;

pub(super) const ANY_IPV4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
pub(super) const ANY_IPV6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
/// Bytes of a link's name, without its end.
const LINK_NAME: usize = 15;
/// No IPv4 link may have less (RFC 791), no IPv6 one less than 1280 (RFC 8200).
const MTU: [u32; 2] = [68, 1280];

/// Checks the name of a network.
///
/// # Errors
/// `InvalidInput` unless it begins with a letter, a digit or `_`, ends so, and has `-`, `.` and spaces only between.
pub fn name(name: &str) -> Result<()> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let inner = |c: char| word(c) || matches!(c, '-' | '.' | ' ');
    if name.trim().is_empty() {
        return Err(Error::invalid("invalid network name: name is empty"));
    }
    if name.starts_with(word) && name.ends_with(word) && name.chars().all(inner) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "invalid network name {name:?}: it includes invalid characters: want letters, digits and '_', and \
         '-', '.' or ' ' only between them"
    )))
}

/// Checks everything that can be seen without knowing other networks.
pub(super) fn config(config: &NetworkConfig) -> Result<()> {
    name(&config.name)?;
    let mut wrong = Vec::new();
    families(config, &mut wrong);
    match config.driver {
        Driver::Bridge => bridge(config, &mut wrong),
        Driver::Macvlan | Driver::Ipvlan => parent(config, &mut wrong),
        Driver::Host | Driver::None => {}
    }
    config.pools.iter().for_each(|pool| self::pool(pool, &mut wrong));
    if !wrong.is_empty() {
        return Err(Error::invalid(format!("invalid network config:\n{}", wrong.join("\n"))));
    }
    one_of_each(config)
}

/// The family that a pool is of.
pub(super) fn family_of(pool: &PoolConfig) -> IpAddr {
    match pool.subnet {
        Some(IpNet::V6(_)) => ANY_IPV6,
        _ => ANY_IPV4,
    }
}

/// Any subnet of a family.
pub(super) fn any(family: IpAddr) -> IpNet {
    match family {
        IpAddr::V4(_) => IpNet::V4(Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(Ipv6Net::default()),
    }
}

fn families(config: &NetworkConfig, wrong: &mut Vec<String>) {
    if let (Driver::Host | Driver::None, [_, ..]) = (config.driver, &config.pools[..]) {
        wrong.push(format!("the {} driver takes no subnet", config.driver.name()));
        return;
    }
    if !matches!(config.driver, Driver::Host | Driver::None) && !config.ipv4 && !config.ipv6 {
        wrong.push("IPv4 or IPv6 must be enabled".to_owned());
        return;
    }
    for pool in &config.pools {
        let family = family_of(pool);
        if !(if family.is_ipv4() { config.ipv4 } else { config.ipv6 }) {
            let subnet = pool.subnet.unwrap_or(any(family));
            let family = span::family(family);
            wrong.push(format!("invalid subnet {subnet}: {family} is not enabled for this network"));
        }
    }
}

fn bridge(config: &NetworkConfig, wrong: &mut Vec<String>) {
    let options = &config.bridge;
    let modes = [(options.gateway_ipv4, config.ipv4, "ipv4"), (options.gateway_ipv6, config.ipv6, "ipv6")];
    let isolated = modes.iter().any(|(mode, ..)| *mode == GatewayMode::Isolated);
    if isolated && !config.internal {
        wrong.push("gateway mode 'isolated' can only be used for an internal network".to_owned());
    }
    for (mode, enabled, family) in modes {
        // Nothing leaves an internal network nor comes in, so that these would say what they do not do.
        if config.internal && matches!(mode, GatewayMode::Routed | GatewayMode::NatUnprotected) {
            wrong.push(format!(
                "gateway_mode_{family}: an internal network can only have 'nat' or 'isolated'"
            ));
        }
        if mode != GatewayMode::Nat && !enabled {
            wrong.push(format!("gateway_mode_{family} is given, but the family is not enabled"));
        }
    }
    if let Some(name) = &options.name {
        link_name("bridge name", name, wrong);
    }
    let least = MTU[usize::from(config.ipv6)];
    if let Some(mtu) = options.mtu.filter(|mtu| !(least..=65_535).contains(mtu)) {
        wrong.push(format!("invalid MTU {mtu}: want {least} to 65535"));
    }
}

fn parent(config: &NetworkConfig, wrong: &mut Vec<String>) {
    let driver = config.driver.name();
    let fits = match (config.driver, config.parent.mode) {
        (_, ParentMode::Default | ParentMode::Private) => true,
        (Driver::Macvlan, mode) => matches!(mode, ParentMode::Vepa | ParentMode::Passthru),
        (_, mode) => matches!(mode, ParentMode::L3 | ParentMode::L3s | ParentMode::Vepa),
    };
    if !fits {
        wrong.push(format!(
            "the {driver} driver has no mode {}",
            format!("{:?}", config.parent.mode).to_lowercase()
        ));
    }
    match &config.parent.link {
        Some(link) => link_name("parent", link, wrong),
        None if config.internal => {}
        None => wrong.push(format!("the {driver} driver needs a link of the host's: -o parent=LINK")),
    }
    if config.parent.link.is_none() && config.parent.mode == ParentMode::Passthru {
        wrong.push("mode passthru needs a link of the host's: -o parent=LINK".to_owned());
    }
}

fn link_name(what: &str, name: &str, wrong: &mut Vec<String>) {
    let printable = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
    if name.is_empty() || name.len() > LINK_NAME || !name.chars().all(printable) || name.starts_with('.') {
        wrong.push(format!(
            "invalid {what} {name:?}: a link's name has 1 to {LINK_NAME} printable characters, no '/' nor ':'"
        ));
    }
}

fn pool(pool: &PoolConfig, wrong: &mut Vec<String>) {
    let subnet = pool.subnet.unwrap_or(any(family_of(pool)));
    if subnet.addr().is_unspecified() {
        if pool.range.is_some() || pool.gateway.is_some() || !pool.auxiliary.is_empty() {
            wrong.push(
                "an ip-range, gateway or auxiliary address needs the subnet that it lies in".to_owned(),
            );
        }
        return;
    }
    if subnet != subnet.trunc() {
        wrong.push(format!("invalid subnet {subnet}: it should be {}", subnet.trunc()));
    }
    unusable(subnet, wrong);
    if let Some(range) = pool.range {
        self::range(subnet, range, wrong);
    }
    let mut inside = |what: String, ip: IpAddr| {
        if let Err(why) = lies_in(subnet, ip) {
            wrong.push(format!("invalid {what}: {why}"));
        }
    };
    if let Some(ip) = pool.gateway {
        inside(format!("gateway {ip}"), ip);
    }
    pool.auxiliary.iter().for_each(|(name, ip)| inside(format!("auxiliary address {name}"), *ip));
}

/// No host has an address of these.
fn unusable(subnet: IpNet, wrong: &mut Vec<String>) {
    let ip = subnet.addr();
    if ip.is_loopback() || ip.is_multicast() || subnet.prefix_len() == 0 {
        wrong.push(format!("invalid subnet {subnet}: a network cannot have loopback or multicast addresses"));
    }
}

fn range(subnet: IpNet, range: IpNet, wrong: &mut Vec<String>) {
    if !span::same_family(subnet, range) {
        let family = span::family(subnet.addr());
        wrong.push(format!("invalid ip-range {range}: parent subnet is an {family} block"));
        return;
    }
    if range.prefix_len() < subnet.prefix_len() {
        wrong.push(format!("invalid ip-range {range}: CIDR block is bigger than its parent subnet {subnet}"));
    }
    if range != range.trunc() {
        wrong.push(format!("invalid ip-range {range}: it should be {}", range.trunc()));
    }
    if !span::overlap(subnet, range) {
        wrong.push(format!("invalid ip-range {range}: parent subnet {subnet} doesn't contain ip-range"));
    }
}

fn lies_in(subnet: IpNet, ip: IpAddr) -> Result<(), String> {
    if subnet.addr().is_ipv4() != ip.is_ipv4() {
        return Err(format!("parent subnet is an {} block", span::family(subnet.addr())));
    }
    if !subnet.contains(&ip) {
        return Err(format!("parent subnet {subnet} doesn't contain this address"));
    }
    Ok(())
}

/// A bridge has one way out of a family, so one subnet; behind a link of the host's there may be several.
fn one_of_each(config: &NetworkConfig) -> Result<()> {
    let v4 = config.pools.iter().filter(|pool| family_of(pool).is_ipv4()).count();
    if config.driver == Driver::Bridge && (v4 > 1 || config.pools.len() - v4 > 1) {
        return Err(Error::new(ErrorKind::Forbidden, "bridge driver doesn't support multiple subnets"));
    }
    Ok(())
}

/// The gateway and auxiliary addresses are such as an interface can have, and all different.
pub(super) fn reserved(
    subnet: IpNet,
    gateway: Option<IpAddr>,
    auxiliary: &BTreeMap<String, IpAddr>,
) -> Result<()> {
    let (first, last) = span::usable(subnet);
    let mut held: BTreeMap<IpAddr, String> = BTreeMap::new();
    let gateway = gateway.map(|ip| (format!("gateway ({ip})"), ip));
    let auxiliary = auxiliary.iter().map(|(name, ip)| (format!("secondary ip address ({name}:{ip})"), *ip));
    for (what, ip) in gateway.into_iter().chain(auxiliary) {
        let refused = |why: String| {
            let message = format!("failed to allocate {what}: Address already in use: {why}");
            Err(Error::new(ErrorKind::Forbidden, message))
        };
        if !(first..=last).contains(&span::number(ip)) {
            return refused(format!("it is the network or broadcast address of {subnet}"));
        }
        if let Some(other) = held.insert(ip, what.clone()) {
            return refused(format!("it is the {other}"));
        }
    }
    Ok(())
}
