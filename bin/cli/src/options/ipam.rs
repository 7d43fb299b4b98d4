//! Subnets of `network create`: which range, gateway and auxiliary address belongs to which.

use super::{Parsed, env};
use ipnet::IpNet;
use std::net::IpAddr;
use tare_docker_api::models::IpamConfig;

/// Puts what the four flags name together, one entry for each subnet.
pub(crate) fn pools(
    subnets: &[&str],
    ranges: &[&str],
    gateways: &[&str],
    auxiliary: &[&str],
) -> Parsed<Vec<IpamConfig>> {
    if subnets.len() < ranges.len() || subnets.len() < gateways.len() {
        return Err("every ip-range or gateway must have a corresponding subnet".to_owned());
    }
    let mut pools: Vec<(IpNet, IpamConfig)> = Vec::new();
    for text in subnets {
        let net = network(text)?;
        if pools.iter().any(|(other, _)| other.contains(&net) || net.contains(other)) {
            return Err("multiple overlapping subnet configuration is not supported".to_owned());
        }
        pools.push((net, IpamConfig { subnet: Some((*text).to_owned()), ..IpamConfig::default() }));
    }
    for text in ranges {
        let net = network(text)?;
        let (subnet, pool) = of(&mut pools, net.addr(), &format!("range {text}"))?;
        if let Some(other) = pool.ip_range.replace((*text).to_owned()) {
            return Err(format!(
                "cannot configure multiple ranges ({text}, {other}) on the same subnet ({subnet})"
            ));
        }
    }
    for text in gateways {
        let (subnet, pool) = of(&mut pools, address(text)?, &format!("gateway {text}"))?;
        if let Some(other) = pool.gateway.replace((*text).to_owned()) {
            return Err(format!(
                "cannot configure multiple gateways ({text}, {other}) for the subnet ({subnet})"
            ));
        }
    }
    for text in auxiliary {
        let (name, ip) = env::pair(text);
        let (_, pool) = of(&mut pools, address(&ip)?, &format!("aux-address {ip}"))?;
        pool.auxiliary_addresses.get_or_insert_default().insert(name, ip);
    }
    Ok(pools.into_iter().map(|(_, pool)| pool).collect())
}

fn of<'a>(
    pools: &'a mut [(IpNet, IpamConfig)],
    address: IpAddr,
    what: &str,
) -> Parsed<(IpNet, &'a mut IpamConfig)> {
    let found = pools.iter_mut().find(|(net, _)| net.contains(&address));
    found.map(|(net, pool)| (*net, pool)).ok_or_else(|| format!("no matching subnet for {what}"))
}

fn network(text: &str) -> Parsed<IpNet> {
    text.parse().map_err(|_| format!("invalid CIDR address: {text}"))
}

fn address(text: &str) -> Parsed<IpAddr> {
    text.parse().map_err(|_| format!("invalid IP address: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn everything_goes_to_its_subnet() {
        let all = pools(
            &["10.9.0.0/16", "fd00:9::/64"],
            &["10.9.8.0/24"],
            &["fd00:9::1", "10.9.0.1"],
            &["nas=10.9.0.9"],
        );
        assert_eq!(
            json!(all.expect("valid")),
            json!([{"Subnet": "10.9.0.0/16", "IPRange": "10.9.8.0/24", "Gateway": "10.9.0.1",
                    "AuxiliaryAddresses": {"nas": "10.9.0.9"}},
                   {"Subnet": "fd00:9::/64", "Gateway": "fd00:9::1"}])
        );
    }

    #[test]
    fn what_has_no_subnet_is_refused_in_dockers_words() {
        for (pools, words) in [
            (
                pools(&[], &[], &["10.0.0.1"], &[]),
                "every ip-range or gateway must have a corresponding subnet",
            ),
            (
                pools(&["10.0.0.0/8", "10.9.0.0/16"], &[], &[], &[]),
                "multiple overlapping subnet configuration",
            ),
            (pools(&["10.0.0.0/8"], &["11.0.0.0/16"], &[], &[]), "no matching subnet for range 11.0.0.0/16"),
            (pools(&["10.0.0.0/8"], &[], &["11.0.0.1"], &[]), "no matching subnet for gateway 11.0.0.1"),
            (
                pools(&["10.0.0.0/8"], &[], &[], &["a=11.0.0.1"]),
                "no matching subnet for aux-address 11.0.0.1",
            ),
            (pools(&["10.0.0.0"], &[], &[], &[]), "invalid CIDR address: 10.0.0.0"),
            (
                pools(&["10.0.0.0/8", "fd00::/64"], &["10.1.0.0/16", "10.2.0.0/16"], &[], &[]),
                "multiple ranges",
            ),
        ] {
            let e = pools.expect_err(words);
            assert!(e.contains(words), "{e}");
        }
    }
}
