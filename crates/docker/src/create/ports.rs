//! Ports in requests: `PortBindings`, `ExposedPorts` and the numbers in them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tare_docker_api::models::{PortBinding as Wire, PortMap};
use tare_model::network::{PortBinding, Protocol};
use tare_model::{Error, Result};

/// The bindings of a map, in the order of their ports. An empty list of them means any free port of the host's.
pub(crate) fn bindings(map: PortMap) -> Result<Vec<PortBinding>> {
    let mut all = Vec::new();
    for (key, list) in map {
        let (port, protocol) = container_port(&key)?;
        let list = list.filter(|list| !list.is_empty()).unwrap_or_else(|| vec![Wire::default()]);
        for wire in list {
            all.push(PortBinding {
                port,
                protocol,
                host: host_address(wire.host_ip.as_deref().unwrap_or(""))?,
                host_ports: host_ports(wire.host_port.as_deref().unwrap_or(""))?,
            });
        }
    }
    all.sort_by_key(|b| (b.port, b.protocol, b.host, b.host_ports));
    Ok(all)
}

/// `80/tcp`, or `80` for TCP.
fn container_port(key: &str) -> Result<(u16, Protocol)> {
    let (number, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
    let port = number.parse::<u16>().ok().filter(|port| *port != 0);
    let port = port.ok_or_else(|| Error::invalid(format!("invalid port specification: {number:?}")))?;
    Ok((port, protocol.to_ascii_lowercase().parse()?))
}

/// Nothing: every address of the host's.
fn host_address(text: &str) -> Result<Option<IpAddr>> {
    let plain = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    match plain {
        "" => Ok(None),
        plain => plain
            .parse()
            .map(Some)
            .map_err(|_| Error::invalid(format!("invalid IP address: {text} (HostIp)"))),
    }
}

/// `8080`, `8080-8090`; nothing and `0`: any free one.
fn host_ports(text: &str) -> Result<(u16, u16)> {
    let wrong = || Error::invalid(format!("invalid port specification: {text:?}"));
    match text {
        "" => Ok((0, 0)),
        text => {
            let (first, last) = range(text).ok_or_else(wrong)?;
            if first == 0 && last != 0 { Err(wrong()) } else { Ok((first, last)) }
        }
    }
}

/// `80` or `80-90`, ascending.
fn range(text: &str) -> Option<(u16, u16)> {
    let number = |t: &str| t.bytes().all(|b| b.is_ascii_digit()).then(|| t.parse::<u16>().ok())?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

/// The ports that a request exposes, each with its protocol; a range stays one entry.
pub(crate) fn exposed(ports: Vec<String>) -> Result<BTreeSet<String>> {
    let checked = |port: String| match expand(&port) {
        Some(_) => Ok(if port.contains('/') { port } else { format!("{port}/tcp") }),
        None => Err(Error::invalid(format!(
            "invalid ExposedPorts entry {port:?}: want a number and tcp, udp or sctp, like 80/tcp"
        ))),
    };
    ports.into_iter().map(checked).collect()
}

/// The ports that an entry of `ExposedPorts` stands for: `80/tcp`, `8000-8010/udp`, `80`.
pub(crate) fn expand(entry: &str) -> Option<(std::ops::RangeInclusive<u16>, Protocol)> {
    let (numbers, protocol) = entry.split_once('/').unwrap_or((entry, "tcp"));
    let (first, last) = range(numbers).filter(|(first, _)| *first != 0)?;
    Some((first..=last, protocol.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn read(map: Value) -> Result<Vec<PortBinding>> {
        bindings(serde_json::from_value(map).expect("a port map"))
    }

    #[test]
    fn bindings_say_which_ports_of_the_host_reach_the_container() {
        let read = read(json!({
            "80/tcp": [{"HostIp": "", "HostPort": "8080"}, {"HostIp": "::1", "HostPort": "8000-8010"}],
            "53/udp": [{"HostIp": "127.0.0.1", "HostPort": ""}], "443": null, "22/tcp": [], "9/sctp": [{"HostPort": "0"}],
        }))
        .expect("valid");
        let shown: Vec<_> =
            read.iter().map(|b| (b.port, b.protocol.to_string(), b.host, b.host_ports)).collect();
        let local = Some("127.0.0.1".parse().unwrap());
        let six = Some("::1".parse().unwrap());
        let tcp = "tcp".to_owned();
        assert_eq!(
            shown,
            [
                (9, "sctp".to_owned(), None, (0, 0)),
                (22, tcp.clone(), None, (0, 0)),
                (53, "udp".to_owned(), local, (0, 0)),
                (80, tcp.clone(), None, (8080, 8080)),
                (80, tcp.clone(), six, (8000, 8010)),
                (443, tcp, None, (0, 0)),
            ]
        );
    }

    #[test]
    fn what_is_no_port_is_refused_in_dockers_words() {
        for (map, words) in [
            (json!({"http/tcp": []}), "invalid port specification: \"http\""),
            (json!({"0/tcp": []}), "invalid port specification: \"0\""),
            (json!({"70000/tcp": []}), "invalid port specification: \"70000\""),
            (json!({"80/icmp": []}), "icmp"),
            (json!({"80/tcp": [{"HostPort": "90-80"}]}), "invalid port specification: \"90-80\""),
            (json!({"80/tcp": [{"HostPort": "+1"}]}), "invalid port specification: \"+1\""),
            (json!({"80/tcp": [{"HostPort": "0-9"}]}), "invalid port specification: \"0-9\""),
            (json!({"80/tcp": [{"HostIp": "localhost"}]}), "invalid IP address: localhost"),
        ] {
            let e = read(map.clone()).expect_err("refused");
            assert!(e.message().contains(words), "{map}: {e}");
        }
    }

    #[test]
    fn exposed_ports_are_ports_or_ranges() {
        let list = |ports: &[&str]| exposed(ports.iter().map(|p| (*p).to_owned()).collect());
        let all: Vec<String> = list(&["80", "8000-8010/udp", "9/sctp"]).unwrap().into_iter().collect();
        assert_eq!(all, ["80/tcp", "8000-8010/udp", "9/sctp"]);
        assert_eq!(expand("8000-8010/udp").map(|(r, _)| r), Some(8000..=8010));
        for bad in ["", "http", "80/icmp", "90-80", "0", "70000", "80-", "1-2-3"] {
            assert!(list(&[bad]).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(key in ".{0,16}", ip in ".{0,16}", port in "[-+0-9a-z]{0,12}") {
            let _ = read(json!({ key.as_str(): [{ "HostIp": ip, "HostPort": port }] }));
            let _ = expand(&key);
        }
    }
}
