//! `IPAM`: the subnets that are asked for, checked as Docker checks them and refused in its words.

use std::net::IpAddr;

use ipnet::IpNet;
use tare_docker_api::models::{Ipam, IpamConfig};
use tare_model::network::PoolConfig;
use tare_model::{Error, Result};

/// The pools of a request; `ipv6` is absent where the request does not say.
pub(super) fn pools(ipam: &Ipam, ipv4: bool, ipv6: Option<bool>) -> Result<Vec<PoolConfig>> {
    match ipam.driver.as_deref().unwrap_or("") {
        "" | "default" => {}
        driver => {
            return Err(Error::unsupported(format!(
                "IPAM.Driver = {driver:?}: there is one, \"default\"; leave it empty"
            )));
        }
    }
    let (mut pools, mut wrong) = (Vec::new(), Vec::new());
    for config in ipam.config.iter().flatten() {
        match pool(config, &mut wrong) {
            Some(pool) if is_ipv6(&pool) && ipv6 == Some(false) => {
                wrong.push(format!("{}: IPv6 is not enabled (EnableIPv6, --ipv6)", what(config)));
            }
            Some(pool) if !is_ipv6(&pool) && !ipv4 => {
                wrong.push(format!("{}: IPv4 is not enabled (EnableIPv4, --ipv4)", what(config)));
            }
            Some(pool) => pools.push(pool),
            None => {}
        }
    }
    match wrong.as_slice() {
        [] => Ok(pools),
        [one] => Err(Error::invalid(format!("invalid network config:\n{one}"))),
        more => Err(Error::invalid(format!("invalid network config:\n* {}", more.join("\n* ")))),
    }
}

/// Whether a pool is one of IPv6: by its subnet, or else by what is to lie in it.
pub(super) fn is_ipv6(pool: &PoolConfig) -> bool {
    let by_range = || pool.range.map(|range| range.addr());
    let by_any = || pool.auxiliary.values().next().copied();
    let inside = pool.subnet.map(|net| net.addr()).or_else(by_range).or(pool.gateway).or_else(by_any);
    inside.is_some_and(|address| address.is_ipv6())
}

fn set(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|t| !t.is_empty())
}

/// How an error calls a pool.
fn what(config: &IpamConfig) -> String {
    let parts = [("subnet", &config.subnet), ("ip-range", &config.ip_range), ("gateway", &config.gateway)];
    let named = parts.iter().find_map(|(word, text)| Some(format!("invalid {word} {}", set(text)?)));
    named.unwrap_or_else(|| "invalid IPAM.Config".to_owned())
}

/// One entry; what is wrong with it is told, all of it.
fn pool(config: &IpamConfig, wrong: &mut Vec<String>) -> Option<PoolConfig> {
    let before = wrong.len();
    let subnet = set(&config.subnet).and_then(|text| network("subnet", text, wrong));
    if set(&config.subnet).is_some() && subnet.is_none() {
        return None;
    }
    let range = set(&config.ip_range).and_then(|text| range(text, subnet, wrong));
    let mut address = |word: &str, text: &str| {
        let found = text.parse::<IpAddr>().map_err(|_| "invalid address".to_owned());
        let found = found.and_then(|a| inside(a, subnet).map(|()| a));
        found.map_err(|why| wrong.push(format!("invalid {word}: {why}"))).ok()
    };
    let gateway = set(&config.gateway).and_then(|text| address(&format!("gateway {text}"), text));
    let mut auxiliary: Vec<_> = config.auxiliary_addresses.iter().flatten().collect();
    auxiliary.sort();
    let auxiliary = auxiliary
        .into_iter()
        .filter_map(|(name, text)| Some((name.clone(), address(&format!("auxiliary address {name}"), text)?)))
        .collect();
    (wrong.len() == before).then_some(PoolConfig { subnet, range, gateway, auxiliary })
}

/// `10.0.0.0/16`, without bits behind its length.
fn network(word: &str, text: &str, wrong: &mut Vec<String>) -> Option<IpNet> {
    let Ok(net) = text.parse::<IpNet>() else {
        wrong.push(format!("invalid {word} {text}: invalid CIDR block notation"));
        return None;
    };
    if net != net.trunc() {
        wrong.push(format!("invalid {word} {net}: it should be {}", net.trunc()));
        return None;
    }
    Some(net)
}

fn range(text: &str, subnet: Option<IpNet>, wrong: &mut Vec<String>) -> Option<IpNet> {
    let range = network("ip-range", text, wrong)?;
    let Some(subnet) = subnet else { return Some(range) };
    let why = if range.addr().is_ipv4() != subnet.addr().is_ipv4() {
        format!("parent subnet is an {} block", family(subnet))
    } else if range.prefix_len() < subnet.prefix_len() {
        format!("CIDR block is bigger than its parent subnet {subnet}")
    } else if !subnet.contains(&range) {
        format!("parent subnet {subnet} doesn't contain ip-range")
    } else {
        return Some(range);
    };
    wrong.push(format!("invalid ip-range {range}: {why}"));
    None
}

fn inside(address: IpAddr, subnet: Option<IpNet>) -> Result<(), String> {
    match subnet {
        Some(net) if net.addr().is_ipv4() != address.is_ipv4() => {
            Err(format!("parent subnet is an {} block", family(net)))
        }
        Some(net) if !net.contains(&address) => {
            Err(format!("parent subnet {net} doesn't contain this address"))
        }
        _ => Ok(()),
    }
}

fn family(net: IpNet) -> &'static str {
    if net.addr().is_ipv4() { "IPv4" } else { "IPv6" }
}
