//! Which networks a container is on, in which order, and by which of them it leaves. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tare_model::container::{ContainerConfig, NetworkMode};
use tare_model::network::{Driver, EndpointConfig, GatewayMode, Network};
use tare_model::shaping::Shaping;
use tare_model::{Error, Result};

/// Docker's name of the engine's default network.
pub(crate) const DEFAULT: &str = "bridge";

/// What inspection shows as the options of the default network, by which programs find its bridge.
pub(crate) fn default_options(bridge: &str) -> BTreeMap<String, String> {
    let own = [
        ("bridge.default_bridge", "true"),
        ("bridge.enable_icc", "true"),
        ("bridge.enable_ip_masquerade", "true"),
        ("bridge.host_binding_ipv4", "0.0.0.0"),
        ("bridge.name", bridge),
        ("driver.mtu", "1500"),
    ];
    own.into_iter().map(|(key, value)| (format!("com.docker.network.{key}"), value.to_owned())).collect()
}

/// The networks that a container is to be on, by name or id as its user wrote them: that of its mode first.
///
/// # Errors
/// `InvalidInput` for networks beside a mode that has none of the engine's.
pub(crate) fn memberships(config: &ContainerConfig) -> Result<Vec<(String, EndpointConfig)>> {
    let mut endpoints: BTreeMap<&str, &EndpointConfig> =
        config.networking.endpoints.iter().map(|(name, config)| (usual(name), config)).collect();
    let first = match &config.namespaces.network {
        NetworkMode::Default | NetworkMode::Bridge => DEFAULT,
        NetworkMode::Network { network } => network,
        mode => {
            let word = match mode {
                NetworkMode::Host => "host",
                NetworkMode::None => "none",
                _ => "container:<name|id>",
            };
            endpoints.remove(word);
            let Some((other, _)) = endpoints.first_key_value() else { return Ok(Vec::new()) };
            return Err(Error::invalid(format!(
                "conflicting options: a container with network mode {word} cannot be on network {other} as well"
            )));
        }
    };
    let mut all = vec![(first.to_owned(), endpoints.remove(first).cloned().unwrap_or_default())];
    all.extend(endpoints.into_iter().map(|(name, config)| (name.to_owned(), config.clone())));
    Ok(all)
}

/// The container is not to be on the network of its mode any more: its next network takes that place, or none.
pub(crate) fn forget_first(config: &mut ContainerConfig) {
    let next = config.networking.endpoints.keys().next().cloned();
    config.namespaces.network = next.map_or(NetworkMode::None, |network| mode(&network));
}

/// Of a container whose first network this is.
pub(crate) fn mode(network: &str) -> NetworkMode {
    match usual(network) {
        DEFAULT => NetworkMode::Default,
        network => NetworkMode::Network { network: network.to_owned() },
    }
}

/// The default network has several names.
fn usual(name: &str) -> &str {
    if name == "default" { DEFAULT } else { name }
}

/// By which of these networks a container leaves, in IPv4 and in IPv6: where the priority is highest, among equals by name.
pub(crate) fn default_routes(on: &[(&Network, i64)]) -> (Option<usize>, Option<usize>) {
    let best = |ipv4: bool| {
        let leads_out = |network: &Network| {
            let mode =
                if ipv4 { network.config.bridge.gateway_ipv4 } else { network.config.bridge.gateway_ipv6 };
            !network.config.internal
                && mode != GatewayMode::Isolated
                && network
                    .pools
                    .iter()
                    .any(|pool| pool.gateway.is_some_and(|gateway| gateway.is_ipv4() == ipv4))
        };
        let candidates = on.iter().enumerate().filter(|(_, (network, _))| leads_out(network));
        candidates
            .min_by(|(_, (a, first)), (_, (b, second))| {
                second.cmp(first).then_with(|| a.config.name.cmp(&b.config.name))
            })
            .map(|(at, _)| at)
    };
    (best(true), best(false))
}

/// A container can be so on a network.
///
/// # Errors
/// `Unsupported` and `InvalidInput`, naming the setting.
pub(crate) fn endpoint(network: &Network, config: &EndpointConfig) -> Result<()> {
    let (name, driver) = (&network.config.name, network.config.driver);
    if !config.link_local.is_empty() {
        return Err(Error::unsupported(format!(
            "network {name}: LinkLocalIPs (--link-local-ip): containers send from the addresses that their networks give them; \
             ask for one of those with --ip or --ip6"
        )));
    }
    for ip in config.ipv4.map(IpAddr::V4).into_iter().chain(config.ipv6.map(IpAddr::V6)) {
        if !network.pools.iter().any(|pool| pool.subnet.contains(&ip)) {
            return Err(Error::invalid(format!(
                "invalid endpoint settings: no configured subnet of network {name} contains IP address {ip}"
            )));
        }
    }
    if config.mac.is_some() && driver == Driver::Ipvlan {
        return Err(Error::invalid(format!(
            "network {name}: MacAddress (--mac-address): interfaces of an ipvlan network have the MAC of the host's link"
        )));
    }
    Ok(())
}

/// Limits can be had on these networks.
///
/// # Errors
/// `Unsupported` for a network where nothing can be limited, `InvalidInput` for limits without a network, and for a share of
/// nothing.
pub(crate) fn shaping(shaping: &Shaping, on: &[&Network]) -> Result<()> {
    if shaping.is_default() {
        return Ok(());
    }
    if on.is_empty() {
        return Err(Error::invalid(
            "network rates and shares need a network of the container's own: not those of the host, of another container, or none",
        ));
    }
    on.iter().try_for_each(|network| tare_net::shape::check(network, shaping))?;
    if shaping.share.is_some() && on.iter().all(|network| network.config.bridge.rates.is_unlimited()) {
        let names: Vec<&str> = on.iter().map(|network| network.config.name.as_str()).collect();
        return Err(Error::invalid(format!(
            "network share: network {} has no rate to be shared: create one with --opt tare.network.rate=in=RATE,out=RATE",
            names.join(", ")
        )));
    }
    Ok(())
}

/// Names of the interfaces, in order: as asked for, else the prefix of the network and the lowest number that is free.
///
/// # Errors
/// `InvalidInput` for a name that is no name or given twice.
pub(crate) fn interfaces(on: &[(&Network, &EndpointConfig)], taken: &[String]) -> Result<Vec<String>> {
    let mut used: BTreeSet<String> = taken.iter().cloned().collect();
    for name in on.iter().filter_map(|(_, config)| config.interface.as_ref()) {
        let fits = (1..16).contains(&name.len()) && name != "lo" && !name.starts_with('.');
        let plain = name.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%'));
        if !fits || !plain {
            return Err(Error::invalid(format!(
                "invalid interface name {name:?}: want 1 to 15 letters or digits"
            )));
        }
        if !used.insert(name.clone()) {
            return Err(Error::invalid(format!("interface name {name:?} is given twice")));
        }
    }
    let mut names = Vec::new();
    for (network, config) in on {
        names.push(match &config.interface {
            Some(name) => name.clone(),
            None => {
                let prefix = network.config.bridge.interface_prefix.as_deref().unwrap_or("eth");
                let name = (0..).map(|n| format!("{prefix}{n}")).find(|name| !used.contains(name));
                let name = name.unwrap_or_default();
                used.insert(name.clone());
                name
            }
        });
    }
    Ok(names)
}

/// Parameters of an interface, `net.ipv4.conf.IFNAME.log_martians=1`, as paths below /proc/sys with values.
///
/// # Errors
/// `InvalidInput` for one that is not of an interface.
pub(crate) fn sysctls(asked: &[String], interface: &str) -> Result<BTreeMap<String, String>> {
    let parse = |text: &String| {
        let wrong = || {
            let want = "want net.FAMILY.KIND.IFNAME.NAME=VALUE, with IFNAME in place of the interface's name";
            Error::invalid(format!("invalid endpoint sysctl {text:?}: {want}"))
        };
        let (key, value) = text.split_once('=').ok_or_else(wrong)?;
        let parts: Vec<&str> = key.split('.').collect();
        let [net @ "net", family, kind, "IFNAME", name] = parts.as_slice() else { return Err(wrong()) };
        let plain =
            |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if ![family, kind, name].into_iter().all(|part| plain(part)) || value.chars().any(char::is_control) {
            return Err(wrong());
        }
        Ok((format!("{net}/{family}/{kind}/{interface}/{name}"), value.to_owned()))
    };
    asked.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;
    use tare_model::NetworkId;
    use tare_model::network::{NetworkConfig, Pool};

    use super::*;

    fn network(name: &str, subnets: &[&str]) -> Network {
        let pool = |text: &&str| {
            let subnet: IpNet = text.parse().unwrap();
            Pool {
                subnet,
                range: subnet,
                gateway: subnet.hosts().next(),
                auxiliary: BTreeMap::new(),
                chosen: false,
            }
        };
        let config = NetworkConfig { name: name.into(), ..NetworkConfig::default() };
        let pools = subnets.iter().map(pool).collect();
        Network { id: NetworkId::from_bytes([1; 32]), config, pools, created: 0 }
    }

    fn config(mode: NetworkMode, endpoints: &[&str]) -> ContainerConfig {
        let mut config = ContainerConfig::default();
        config.namespaces.network = mode;
        config.networking.endpoints =
            endpoints.iter().map(|name| ((*name).to_owned(), EndpointConfig::default())).collect();
        config
    }

    #[test]
    fn limits_need_a_network_that_has_them() {
        let (plain, mut rated) = (network("plain", &[]), network("rated", &[]));
        rated.config.bridge.rates.inward = Some(1_000_000);
        let mut parent = network("parent", &[]);
        parent.config.driver = tare_model::network::Driver::Macvlan;
        let rate = Shaping { rates: "in=1MB".parse().unwrap(), share: None };
        let share = Shaping { share: Some(80), ..Shaping::default() };
        assert!(
            shaping(&Shaping::default(), &[]).is_ok() && shaping(&Shaping::default(), &[&parent]).is_ok()
        );
        assert!(shaping(&rate, &[&plain]).is_ok() && shaping(&share, &[&plain, &rated]).is_ok());
        for (limits, on) in [(&rate, vec![]), (&rate, vec![&plain, &parent]), (&share, vec![&plain])] {
            assert!(shaping(limits, &on).is_err(), "{limits:?}");
        }
    }

    #[test]
    fn what_an_endpoint_cannot_have_is_refused_by_name() {
        let mut net = network("lan", &[]);
        let local = EndpointConfig { link_local: vec!["169.254.1.1".parse().unwrap()], ..Default::default() };
        let mac = EndpointConfig { mac: Some("02:42:00:00:00:09".parse().unwrap()), ..Default::default() };
        for driver in [Driver::Bridge, Driver::Macvlan, Driver::Ipvlan] {
            net.config.driver = driver;
            let why = endpoint(&net, &local).unwrap_err();
            assert!(why.message().contains("--link-local-ip"), "{why}");
            assert_eq!(endpoint(&net, &mac).is_ok(), driver != Driver::Ipvlan, "{driver:?}");
            assert!(endpoint(&net, &EndpointConfig::default()).is_ok());
        }
    }

    #[test]
    fn the_network_of_the_mode_comes_first() {
        let names = |mode, endpoints: &[&str]| {
            let all = memberships(&config(mode, endpoints)).unwrap();
            all.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(names(NetworkMode::Default, &[]), ["bridge"]);
        assert_eq!(names(NetworkMode::Bridge, &["default"]), ["bridge"]);
        let web = || NetworkMode::Network { network: "web".into() };
        assert_eq!(names(web(), &["a", "web", "z"]), ["web", "a", "z"]);
        assert_eq!(names(NetworkMode::None, &["none"]), [] as [&str; 0]);
    }

    #[test]
    fn a_mode_without_networks_has_none_beside_it() {
        for mode in [NetworkMode::Host, NetworkMode::None] {
            let why = memberships(&config(mode, &["web"])).unwrap_err();
            assert!(why.message().contains("web"), "{why}");
        }
    }

    #[test]
    fn the_way_out_is_the_highest_priority_then_the_first_name() {
        let (a, b) = (network("a", &["10.0.0.0/24"]), network("b", &["10.0.1.0/24", "fd00::/64"]));
        assert_eq!(default_routes(&[(&b, 0), (&a, 0)]), (Some(1), Some(0)));
        assert_eq!(default_routes(&[(&b, 5), (&a, 0)]), (Some(0), Some(0)));
        let mut internal = network("0", &["10.0.2.0/24"]);
        internal.config.internal = true;
        assert_eq!(default_routes(&[(&internal, 9), (&a, 0)]), (Some(1), None));
        assert_eq!(default_routes(&[(&internal, 9)]), (None, None));
    }

    #[test]
    fn parameters_are_of_the_interface_and_of_nothing_else() {
        let all = sysctls(&["net.ipv4.conf.IFNAME.log_martians=1".into()], "eth1.5").unwrap();
        let wanted = ("net/ipv4/conf/eth1.5/log_martians".to_owned(), "1".to_owned());
        assert_eq!(all.into_iter().collect::<Vec<_>>(), [wanted]);
        for wrong in [
            "net.ipv4.conf.all.forwarding=1",
            "kernel.a.b.IFNAME.c=1",
            "net.ipv4.conf.IFNAME.a/b=1",
            "net.ipv4.conf.IFNAME.=1",
            "net.ipv4.conf.IFNAME.x",
            "net.ipv4.conf.IFNAME.x=1\n2",
        ] {
            assert!(sysctls(&[wrong.into()], "eth0").is_err(), "{wrong}");
        }
    }

    #[test]
    fn interfaces_are_numbered_around_names_that_are_asked_for() {
        let net = network("a", &[]);
        let named = |name: &str| EndpointConfig { interface: Some(name.into()), ..EndpointConfig::default() };
        let (first, plain) = (named("eth0"), EndpointConfig::default());
        let all = interfaces(&[(&net, &plain), (&net, &first), (&net, &plain)], &[]).unwrap();
        assert_eq!(all, ["eth1", "eth0", "eth2"]);
        assert_eq!(interfaces(&[(&net, &plain)], &["eth0".into()]).unwrap(), ["eth1"]);
        for wrong in ["", "lo", "a/b", "a b", "sixteen-letters-x", ".."] {
            assert!(interfaces(&[(&net, &named(wrong))], &[]).is_err(), "{wrong}");
        }
        assert!(interfaces(&[(&net, &first), (&net, &first)], &[]).is_err());
    }
}
