//! `--network` and its company: on which networks a container is, and how; and the subnets of `network create`.

use super::{Parsed, env, mount};
use crate::flags::Given;
use std::collections::HashMap;
use tare_docker_api::models::{EndpointIpamConfig, EndpointSettings};

/// One `--network`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Attachment {
    /// Name, id, or one of the words.
    pub(crate) target: String,
    /// How the container is to be on it.
    pub(crate) endpoint: EndpointSettings,
}

/// The check of `--network`.
pub(crate) fn check(text: &str) -> Parsed<()> {
    attachment(text).map(drop)
}

/// `NAME`, or `name=NAME,alias=A,ip=…`.
pub(crate) fn attachment(text: &str) -> Parsed<Attachment> {
    if !text.contains('=') {
        if text.is_empty() {
            return Err("no name set for network".to_owned());
        }
        return Ok(Attachment { target: text.to_owned(), ..Attachment::default() });
    }
    let mut found = Attachment::default();
    let mut ipam = EndpointIpamConfig::default();
    for field in mount::csv(text)? {
        let (name, value) = field.split_once('=').ok_or_else(|| format!("invalid field {field}"))?;
        let (name, value) = (name.trim().to_lowercase(), value.trim().to_owned());
        let endpoint = &mut found.endpoint;
        match name.as_str() {
            "name" => found.target = value,
            "alias" => endpoint.aliases.get_or_insert_default().push(value),
            "ip" => ipam.ipv4_address = Some(value),
            "ip6" => ipam.ipv6_address = Some(value),
            "link-local-ip" => ipam.link_local_ips.get_or_insert_default().push(value),
            "mac-address" => endpoint.mac_address = Some(value),
            "gw-priority" => {
                let number = value.parse::<i64>();
                endpoint.gw_priority =
                    Some(number.map_err(|_| format!("invalid gw-priority ({value}): want a number"))?);
            }
            "driver-opt" => {
                let (key, value) = option(&value)?;
                endpoint.driver_opts.get_or_insert_default().insert(key, value);
            }
            _ => return Err(format!("invalid field key {name}")),
        }
    }
    if found.target.is_empty() {
        return Err("network name/id is not specified".to_owned());
    }
    found.endpoint.ipam_config = (ipam != EndpointIpamConfig::default()).then_some(ipam);
    Ok(found)
}

/// `KEY=VALUE` of `--driver-opt`.
pub(crate) fn option(text: &str) -> Parsed<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_lowercase(), value.trim().to_owned()))
        }
        _ => Err(format!("invalid key value pair format in driver options: {text:?}")),
    }
}

/// The mode and the endpoints of a container.
pub(crate) fn endpoints(given: &Given) -> Parsed<(String, HashMap<String, EndpointSettings>)> {
    let asked = given.many("network").into_iter().chain(given.many("net"));
    let mut all = asked.map(attachment).collect::<Parsed<Vec<_>>>()?;
    let first = match all.first_mut() {
        Some(first) => first,
        None => {
            all.push(Attachment { target: "default".to_owned(), ..Attachment::default() });
            &mut all[0]
        }
    };
    apply(given, &mut first.endpoint)?;
    let mode = first.target.clone();
    let own = |name: &str| {
        !matches!(name, "default" | "bridge" | "host" | "none") && !name.starts_with("container:")
    };
    if all.iter().any(|a| own(&a.target) != own(&mode)) {
        return Err(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
                .to_owned(),
        );
    }
    let mut endpoints = HashMap::new();
    let alone = all.len() == 1;
    for one in all {
        if alone && one.endpoint == EndpointSettings::default() {
            continue;
        }
        if endpoints.insert(one.target.clone(), one.endpoint).is_some() {
            return Err(format!("network {:?} is specified multiple times", one.target));
        }
    }
    Ok((mode, endpoints))
}

/// The flags that belong to the first network.
fn apply(given: &Given, endpoint: &mut EndpointSettings) -> Parsed<()> {
    let both = |flag: &str, what: &str| {
        Err(format!("conflicting options: cannot specify both {flag} and per-network {what}"))
    };
    let list = |flags: &[&str]| -> Vec<String> {
        flags.iter().flat_map(|flag| given.many(flag)).map(str::to_owned).collect()
    };
    let (aliases, links) = (list(&["network-alias", "net-alias"]), list(&["link"]));
    if !aliases.is_empty() && endpoint.aliases.replace(aliases).is_some() {
        return both("--network-alias", "alias");
    }
    if !links.is_empty() {
        endpoint.links = Some(links);
    }
    if let Some(mac) = given.some("mac-address")
        && endpoint.mac_address.replace(mac).is_some()
    {
        return both("--mac-address", "MAC address");
    }
    let mut ipam = endpoint.ipam_config.take().unwrap_or_default();
    if let Some(ip) = given.some("ip")
        && ipam.ipv4_address.replace(ip).is_some()
    {
        return both("--ip", "IPv4 address");
    }
    if let Some(ip) = given.some("ip6")
        && ipam.ipv6_address.replace(ip).is_some()
    {
        return both("--ip6", "IPv6 address");
    }
    let local = list(&["link-local-ip"]);
    if !local.is_empty() && ipam.link_local_ips.replace(local).is_some() {
        return both("--link-local-ip", "link-local IP addresses");
    }
    endpoint.ipam_config = (ipam != EndpointIpamConfig::default()).then_some(ipam);
    Ok(())
}

/// The settings of `network connect`.
pub(crate) fn connect(given: &Given) -> Parsed<EndpointSettings> {
    let ipam = EndpointIpamConfig {
        ipv4_address: given.some("ip"),
        ipv6_address: given.some("ip6"),
        link_local_ips: given.api_list("link-local-ip"),
    };
    let options = given.many("driver-opt").into_iter().map(option).collect::<Parsed<HashMap<_, _>>>()?;
    Ok(EndpointSettings {
        ipam_config: (ipam != EndpointIpamConfig::default()).then_some(ipam),
        aliases: given.api_list("alias"),
        links: given.api_list("link"),
        gw_priority: given.number("gw-priority"),
        driver_opts: (!options.is_empty()).then_some(options),
        ..EndpointSettings::default()
    })
}

/// `--opt`, `--label` and their kind as a map.
pub(crate) fn pairs(given: &Given, flag: &str) -> HashMap<String, String> {
    given.many(flag).into_iter().map(env::pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::COMMANDS;
    use crate::flags::{Usage, parse};
    use serde_json::{Value, json};

    fn read(line: &str) -> Parsed<(String, Value)> {
        let create = COMMANDS.iter().find(|c| c.names[0] == "create").expect("create");
        let words: Vec<String> = line.split_whitespace().chain(["img"]).map(str::to_owned).collect();
        match parse(&create.syntax, &words) {
            Ok(Usage::Run(given)) => endpoints(&given).map(|(mode, map)| (mode, json!(map))),
            Ok(Usage::Help) => panic!("{line}"),
            Err(failure) => Err(failure.message),
        }
    }

    #[test]
    fn networks_have_short_and_long_forms() {
        assert_eq!(read(""), Ok(("default".into(), json!({}))));
        assert_eq!(read("--network host"), Ok(("host".into(), json!({}))));
        assert_eq!(
            read("--net front --network-alias www --ip 10.0.0.5"),
            Ok((
                "front".into(),
                json!({"front": {"Aliases": ["www"], "IPAMConfig": {"IPv4Address": "10.0.0.5"}}}),
            ))
        );
        let long = "--network name=front,alias=a,alias=b,ip=10.0.0.5,ip6=fd00::5,mac-address=02:42:0a:00:00:05,gw-priority=3,driver-opt=k=v,link-local-ip=169.254.1.1 --network back";
        assert_eq!(
            read(long),
            Ok((
                "front".into(),
                json!({"front": {"Aliases": ["a", "b"], "MacAddress": "02:42:0a:00:00:05", "GwPriority": 3, "DriverOpts": {"k": "v"},
                "IPAMConfig": {"IPv4Address": "10.0.0.5", "IPv6Address": "fd00::5", "LinkLocalIPs": ["169.254.1.1"]}},
                "back": {}}),
            ))
        );
        assert_eq!(
            read("--link db:sql --mac-address 02:42:0a:00:00:05"),
            Ok((
                "default".into(),
                json!({"default": {"Links": ["db:sql"], "MacAddress": "02:42:0a:00:00:05"}}),
            ))
        );
    }

    #[test]
    fn what_contradicts_itself_is_refused_in_dockers_words() {
        for (line, words) in [
            (
                "--network name=a,ip=10.0.0.5 --ip 10.0.0.6",
                "cannot specify both --ip and per-network IPv4 address",
            ),
            (
                "--network name=a,alias=x --network-alias y",
                "cannot specify both --network-alias and per-network alias",
            ),
            (
                "--network name=a,mac-address=02:42:0a:00:00:05 --mac-address 02:42:0a:00:00:06",
                "per-network MAC address",
            ),
            ("--network a --network a", "network \"a\" is specified multiple times"),
            (
                "--network a --network host",
                "cannot attach both user-defined and non-user-defined network-modes",
            ),
            ("--network alias=x", "network name/id is not specified"),
            ("--network name=a,colour=red", "invalid field key colour"),
            ("--network name=a,gw-priority=high", "gw-priority"),
            ("--network name=a,driver-opt=x", "driver options"),
        ] {
            let e = read(line).expect_err(line);
            assert!(e.contains(words), "{line}: {e}");
        }
    }
}
