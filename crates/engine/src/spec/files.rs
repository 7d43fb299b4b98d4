//! Text of the files that the engine writes for each container: hosts, hostname, resolv.conf.

use std::net::IpAddr;

use tare_model::container::{ContainerConfig, DnsConfig};
use tare_model::{Error, Result};

use super::defaults;

/// Name servers when the host names none that a container can reach.
const FALLBACK_SERVERS: &[&str] = &["8.8.8.8", "8.8.4.4"];

/// In place of an address: that by which the container reaches its host.
const HOST_GATEWAY: &str = "host-gateway";

/// Checks the settings that end up in these files.
///
/// # Errors
/// `InvalidInput`, naming the entry.
pub(crate) fn check(config: &ContainerConfig) -> Result<()> {
    for entry in &config.extra_hosts {
        let ok = split_host(entry).is_some_and(|(name, address)| {
            let known = address == HOST_GATEWAY || is_address(address);
            !name.is_empty() && !name.contains(char::is_whitespace) && known
        });
        if !ok {
            return Err(Error::invalid(format!("bad format for add-host: {entry:?} (want name:address)")));
        }
    }
    let dns = &config.dns;
    if let Some(bad) = dns.servers.iter().find(|s| !is_address(s)) {
        return Err(Error::invalid(format!("{bad} is not an ip address")));
    }
    let word =
        |text: &&String| text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control());
    if let Some(bad) = dns.search.iter().chain(&dns.options).find(word) {
        return Err(Error::invalid(format!("invalid DNS search domain or option {bad:?}")));
    }
    Ok(())
}

/// `name:address` or `name=address`; the address may have colons.
fn split_host(entry: &str) -> Option<(&str, &str)> {
    entry.split_once(['=', ':'])
}

fn is_address(text: &str) -> bool {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    // A zone (`fe80::1%eth0`) is part of an address that a resolver takes.
    let bare = bare.split_once('%').map_or(bare, |(address, _)| address);
    bare.parse::<std::net::IpAddr>().is_ok() && !text.contains(char::is_whitespace)
}

/// `/etc/hosts`; the container's own name is there at each of its addresses, and `host-gateway` stands for `gateways`.
///
/// # Errors
/// `InvalidInput` for a `host-gateway` where there is none.
pub(crate) fn hosts(
    config: &ContainerConfig,
    hostname: &str,
    addresses: &[IpAddr],
    gateways: &[IpAddr],
) -> Result<String> {
    let mut text = String::new();
    for (address, names) in defaults::HOSTS {
        text += &format!("{address}\t{names}\n");
    }
    let full = match config.domainname.as_str() {
        "" => hostname.to_owned(),
        domain => format!("{hostname}.{domain} {hostname}"),
    };
    for address in addresses {
        text += &format!("{address}\t{full}\n");
    }
    if addresses.is_empty() {
        // Without any, its own name must resolve all the same.
        text += &format!("127.0.1.1\t{full}\n");
    }
    for (name, address) in config.extra_hosts.iter().filter_map(|e| split_host(e)) {
        if address != HOST_GATEWAY {
            text += &format!("{}\t{name}\n", address.trim_matches(['[', ']']));
            continue;
        }
        if gateways.is_empty() {
            return Err(Error::invalid(format!(
                "add-host {name}:{HOST_GATEWAY}: the container is on no network by which it reaches its host: give an \
                 address, or put it on a bridge network"
            )));
        }
        text.extend(gateways.iter().map(|gateway| format!("{gateway}\t{name}\n")));
    }
    Ok(text)
}

/// `/etc/hostname`.
pub(crate) fn hostname(name: &str) -> String {
    format!("{name}\n")
}

/// What resolv.conf(5) says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResolvConf {
    /// Name servers.
    pub(crate) servers: Vec<String>,
    /// Search domains.
    pub(crate) search: Vec<String>,
    /// Options.
    pub(crate) options: Vec<String>,
}

// === impl ResolvConf ===

impl ResolvConf {
    /// The host's.
    pub(crate) fn of_host() -> Self {
        Self::read(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
    }

    fn read(text: &str) -> Self {
        let all = |keyword: &str| -> Vec<String> {
            let words = |line: &str| {
                let mut words = line.split_whitespace();
                (words.next() == Some(keyword)).then(|| words.map(str::to_owned).collect::<Vec<_>>())
            };
            text.lines().filter_map(words).flatten().collect()
        };
        Self { servers: all("nameserver"), search: all("search"), options: all("options") }
    }

    /// A user's settings over the host's.
    pub(crate) fn of(dns: &DnsConfig, host: &Self) -> Self {
        let or_host =
            |own: &Vec<String>, host: &Vec<String>| if own.is_empty() { host.clone() } else { own.clone() };
        let mut search = or_host(&dns.search, &host.search);
        // A dot alone stands for none.
        search.retain(|domain| domain != ".");
        Self {
            servers: or_host(&dns.servers, &host.servers),
            search,
            options: or_host(&dns.options, &host.options),
        }
    }

    /// For a container that asks by itself: with a network namespace of its own, servers on the host's loopback cannot be
    /// reached and are left out.
    pub(crate) fn direct(dns: &DnsConfig, host: &Self, own_network: bool) -> Self {
        let mut all = Self::of(dns, host);
        if dns.servers.is_empty() && own_network {
            all.servers.retain(|s| !s.starts_with("127.") && s != "::1" && s != "0.0.0.0");
            if all.servers.is_empty() {
                all.servers = FALLBACK_SERVERS.iter().map(|s| (*s).to_owned()).collect();
            }
        }
        all
    }

    /// The file.
    pub(crate) fn text(&self) -> String {
        let mut text: String = self.servers.iter().map(|s| format!("nameserver {s}\n")).collect();
        for (keyword, words) in [("search", &self.search), ("options", &self.options)] {
            if !words.is_empty() {
                text += &format!("{keyword} {}\n", words.join(" "));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_has_localhost_the_container_and_what_was_added() {
        let config = ContainerConfig {
            extra_hosts: vec!["db:10.0.0.1".into(), "six=[fe80::1]".into()],
            domainname: "lan".into(),
            ..Default::default()
        };
        let text = hosts(&config, "web", &[], &[]).unwrap();
        assert!(text.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(text.contains("127.0.1.1\tweb.lan web\n"));
        assert!(text.ends_with("10.0.0.1\tdb\nfe80::1\tsix\n"));
        let addresses = ["172.17.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let text = hosts(&config, "web", &addresses, &[]).unwrap();
        assert!(
            text.contains("172.17.0.2\tweb.lan web\nfd00::2\tweb.lan web\n") && !text.contains("127.0.1.1")
        );
    }

    #[test]
    fn the_hosts_gateway_has_the_name_in_each_family_or_is_refused() {
        let config =
            ContainerConfig { extra_hosts: vec!["host:host-gateway".into()], ..ContainerConfig::default() };
        check(&config).unwrap();
        let gateways = ["172.17.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let text = hosts(&config, "web", &[], &gateways).unwrap();
        assert!(text.ends_with("172.17.0.1\thost\nfd00::1\thost\n"), "{text}");
        let why = hosts(&config, "web", &[], &[]).unwrap_err();
        assert!(why.message().contains("host:host-gateway"), "{why}");
    }

    #[test]
    fn entries_with_line_breaks_or_wrong_addresses_are_refused() {
        let with = |hosts: &str, server: &str, search: &str| ContainerConfig {
            extra_hosts: vec![hosts.into()],
            dns: DnsConfig { servers: vec![server.into()], search: vec![search.into()], options: vec![] },
            ..Default::default()
        };
        assert!(check(&with("a:1.2.3.4", "1.1.1.1", "lan")).is_ok());
        for (hosts, server, search) in [
            ("a\nb:1.2.3.4", "1.1.1.1", "lan"),
            ("a:1.2.3.4\n5.6.7.8 evil", "1.1.1.1", "lan"),
            ("a:nonsense", "1.1.1.1", "lan"),
            ("a:1.2.3.4", "1.1.1.1\nx", "lan"),
            ("a:1.2.3.4", "name.example", "lan"),
            ("a:1.2.3.4", "1.1.1.1", "lan\nnameserver 6.6.6.6"),
        ] {
            assert!(check(&with(hosts, server, search)).is_err(), "{hosts:?} {server:?} {search:?}");
        }
    }

    #[test]
    fn loopback_servers_of_the_host_do_not_reach_an_own_network() {
        let host = "# comment\nnameserver 127.0.0.53\nsearch lan\noptions edns0 trust-ad\n";
        let direct = |dns: &DnsConfig, own| ResolvConf::direct(dns, &ResolvConf::read(host), own).text();
        let text = direct(&DnsConfig::default(), true);
        assert_eq!(text, "nameserver 8.8.8.8\nnameserver 8.8.4.4\nsearch lan\noptions edns0 trust-ad\n");
        let text = direct(&DnsConfig::default(), false);
        assert!(text.starts_with("nameserver 127.0.0.53\n"));
    }

    #[test]
    fn own_settings_replace_the_hosts() {
        let dns = DnsConfig { servers: vec!["127.0.0.1".into()], search: vec![".".into()], options: vec![] };
        let host = ResolvConf::read("nameserver 9.9.9.9\nsearch lan\n");
        assert_eq!(ResolvConf::direct(&dns, &host, true).text(), "nameserver 127.0.0.1\n");
    }
}
