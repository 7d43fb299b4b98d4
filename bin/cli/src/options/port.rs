//! `--publish` and `--expose`: ports of the host's and the container's.

use super::Parsed;
use std::net::IpAddr;
use tare_docker_api::models::{PortBinding, PortMap};

/// One port of the container and what of the host's is to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Publish {
    /// `80/tcp`.
    pub(crate) port: String,
    /// Empty: every address.
    pub(crate) host_ip: String,
    /// A number, a range of which one is taken, or empty for any that is free.
    pub(crate) host_port: String,
}

/// The check of `--publish`.
pub(crate) fn check_publish(text: &str) -> Parsed<()> {
    publish(text).map(drop)
}

/// The check of `--expose`.
pub(crate) fn check_expose(text: &str) -> Parsed<()> {
    expose(text).map(drop)
}

/// `[[IP:]HOST:]CONTAINER[/PROTOCOL]`, where both ports may be ranges of one length, or the host's one of which a port is
/// taken; or `published=8080,target=80,protocol=tcp`.
pub(crate) fn publish(text: &str) -> Parsed<Vec<Publish>> {
    if text.contains('=') {
        return publish(&standard(text)?);
    }
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol_word(protocol)?;
    let (host_ip, host, container) = split(ports);
    if container.is_empty() {
        return Err(format!("no port specified: {text}<empty>"));
    }
    let inside = range(container).ok_or_else(|| format!("invalid containerPort: {container}"))?;
    let host_ip = address(host_ip)?;
    let entry = |port: u16, host_port: String| Publish {
        port: format!("{port}/{protocol}"),
        host_ip: host_ip.clone(),
        host_port,
    };
    if host.is_empty() {
        return Ok(numbers(inside).map(|port| entry(port, String::new())).collect());
    }
    let outside = match host {
        "0" => (0, 0),
        host => range(host).ok_or_else(|| format!("invalid hostPort: {host}"))?,
    };
    if inside.0 == inside.1 {
        return Ok(vec![entry(inside.0, host.to_owned())]);
    }
    if outside.1 - outside.0 != inside.1 - inside.0 {
        return Err(format!("invalid ranges specified for container and host Ports: {container} and {host}"));
    }
    Ok(numbers(inside).zip(numbers(outside)).map(|(port, host)| entry(port, host.to_string())).collect())
}

/// The long form in the short one.
fn standard(text: &str) -> Parsed<String> {
    let (mut published, mut target, mut protocol) = (String::new(), String::new(), "tcp".to_owned());
    for part in text.split(',') {
        let (name, value) = part
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| format!("invalid publish opts format (should be name=value but got '{part}')"))?;
        match name {
            "published" => published = value.to_owned(),
            "target" => target = value.to_owned(),
            "protocol" => protocol = value.to_owned(),
            _ => return Err(format!("invalid publish option '{name}' (want published, target, protocol)")),
        }
        if value.contains('=') {
            return Err(format!("invalid publish opts format (should be name=value but got '{part}')"));
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

/// Address, host port and container port; an IPv6 address stands in brackets or is what two colons leave.
fn split(ports: &str) -> (&str, &str, &str) {
    let (rest, container) = ports.rsplit_once(':').unwrap_or(("", ports));
    let (ip, host) = rest.rsplit_once(':').unwrap_or(("", rest));
    // `[::1]::80` has an address and no host port, `[::1]:80` an address alone.
    match host.ends_with(']') {
        true => (rest, "", container),
        false => (ip, host, container),
    }
}

fn address(text: &str) -> Parsed<String> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    match bare {
        "" if text.is_empty() => Ok(String::new()),
        bare => {
            bare.parse::<IpAddr>().map(|ip| ip.to_string()).map_err(|_| format!("invalid IP address: {text}"))
        }
    }
}

fn protocol_word(text: &str) -> Parsed<String> {
    let word = text.to_lowercase();
    match word.as_str() {
        "tcp" | "udp" | "sctp" => Ok(word),
        _ => Err(format!("invalid proto: {text}")),
    }
}

/// `80` or `80-90`: ports from 1 on, ascending.
fn range(text: &str) -> Option<(u16, u16)> {
    let number = |t: &str| t.bytes().all(|b| b.is_ascii_digit()).then(|| t.parse::<u16>().ok())?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first != 0 && first <= last).then_some((first, last))
}

fn numbers((first, last): (u16, u16)) -> impl Iterator<Item = u16> {
    first..=last
}

/// `80`, `80/udp`, `8000-8010/tcp`: each port with its protocol.
pub(crate) fn expose(text: &str) -> Parsed<Vec<String>> {
    if text.contains(':') {
        return Err(format!("invalid port format for --expose: {text}"));
    }
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol_word(protocol)?;
    let found = range(ports).ok_or_else(|| {
        format!(
            "invalid range format for --expose: {text}, error: want a port or an ascending range of ports"
        )
    })?;
    Ok(numbers(found).map(|port| format!("{port}/{protocol}")).collect())
}

/// The map of these flags; without any, none.
pub(crate) fn map(specs: &[&str]) -> Parsed<PortMap> {
    let mut map = PortMap::new();
    for spec in specs {
        for one in publish(spec)? {
            let binding = PortBinding { host_ip: Some(one.host_ip), host_port: Some(one.host_port) };
            let list = map.entry(one.port).or_default().get_or_insert_default();
            if !list.contains(&binding) {
                list.push(binding);
            }
        }
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> Parsed<Vec<String>> {
        let one = |p: Publish| format!("{}|{}|{}", p.host_ip, p.host_port, p.port);
        publish(text).map(|all| all.into_iter().map(one).collect())
    }

    #[test]
    fn every_form_of_publish_is_read() {
        for (text, want) in [
            ("80", &["||80/tcp"][..]),
            ("80/udp", &["||80/udp"]),
            ("8080:80", &["|8080|80/tcp"]),
            ("0:80", &["|0|80/tcp"]),
            ("8080:80/SCTP", &["|8080|80/sctp"]),
            ("127.0.0.1:8080:80/udp", &["127.0.0.1|8080|80/udp"]),
            ("127.0.0.1::80", &["127.0.0.1||80/tcp"]),
            ("[::1]:80:80", &["::1|80|80/tcp"]),
            ("::1:8080:80", &["::1|8080|80/tcp"]),
            ("[::1]::80", &["::1||80/tcp"]),
            ("[::1]:80", &["::1||80/tcp"]),
            ("8000-8010:80", &["|8000-8010|80/tcp"]),
            ("8000-8001:80-81", &["|8000|80/tcp", "|8001|81/tcp"]),
            ("80-81", &["||80/tcp", "||81/tcp"]),
            ("published=8080,target=80", &["|8080|80/tcp"]),
            ("target=53,protocol=udp", &["||53/udp"]),
        ] {
            assert_eq!(shown(text), Ok(want.iter().map(|w| (*w).to_owned()).collect()), "{text}");
        }
    }

    #[test]
    fn what_is_no_port_is_refused_in_dockers_words() {
        for (text, words) in [
            ("", "no port specified: <empty>"),
            ("8080:", "no port specified: 8080:<empty>"),
            ("8080:http", "invalid containerPort: http"),
            ("0", "invalid containerPort: 0"),
            ("70000", "invalid containerPort: 70000"),
            ("+80", "invalid containerPort: +80"),
            ("x:80", "invalid hostPort: x"),
            ("8010-8000:80", "invalid hostPort: 8010-8000"),
            ("8000-8010:80-81", "invalid ranges specified for container and host Ports: 80-81 and 8000-8010"),
            ("80/icmp", "invalid proto: icmp"),
            ("localhost:80:80", "invalid IP address: localhost"),
            ("[]:80:80", "invalid IP address: []"),
            ("published=8080,port=80", "invalid publish option 'port'"),
            ("published=8080,80", "should be name=value but got '80'"),
        ] {
            let e = shown(text).expect_err(text);
            assert!(e.contains(words), "{text}: {e}");
        }
    }

    #[test]
    fn exposed_ports_have_their_protocol() {
        assert_eq!(expose("80"), Ok(vec!["80/tcp".into()]));
        assert_eq!(expose("80-81/udp"), Ok(vec!["80/udp".into(), "81/udp".into()]));
        assert_eq!(expose("80:80"), Err("invalid port format for --expose: 80:80".into()));
        assert!(expose("x").is_err_and(|e| e.starts_with("invalid range format for --expose: x")));
    }

    #[test]
    fn bindings_of_one_port_stand_together() {
        let map = map(&["8080:80", "[::1]:8081:80", "8080:80"]).expect("valid");
        assert_eq!(map["80/tcp"].as_ref().map(Vec::len), Some(2));
    }

    proptest! {
        #[test]
        fn ports_that_are_written_are_read(
            ip in prop_oneof![
                Just(String::new()),
                any::<u32>().prop_map(|n| IpAddr::from(n.to_be_bytes()).to_string()),
                any::<u128>().prop_map(|n| IpAddr::from(n.to_be_bytes()).to_string()),
            ],
            first in 1u16..60_000, count in 0u16..9, host in 1u16..60_000, protocol in "tcp|udp|sctp",
        ) {
            let ports = if count == 0 { first.to_string() } else { format!("{first}-{}", first + count) };
            let hosts = if count == 0 { host.to_string() } else { format!("{host}-{}", host + count) };
            let head = match ip.as_str() {
                "" => String::new(),
                ip if ip.contains(':') => format!("[{ip}]:"),
                ip => format!("{ip}:"),
            };
            let all = publish(&format!("{head}{hosts}:{ports}/{protocol}")).expect("valid");
            prop_assert_eq!(all.len(), usize::from(count) + 1);
            for (n, one) in (0..=count).zip(all) {
                let want = Publish {
                    port: format!("{}/{protocol}", first + n), host_ip: ip.clone(), host_port: (host + n).to_string(),
                };
                prop_assert_eq!(one, want);
            }
        }

        #[test]
        fn no_text_panics(text in "[-0-9a-f:./=,\\[\\]]{0,24}") {
            let _ = publish(&text);
            let _ = expose(&text);
        }
    }
}
