//! Documents of networks and ports, and the property that bindings which are shown read back.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;
use tare_docker_api::models::PortMap;
use tare_engine::NetworkingView;
use tare_model::{NetworkId, Status};

use super::*;
use crate::show::{container, summary, tests::view};

fn published(host: &str, host_port: u16, port: u16) -> Published {
    Published {
        host: host.parse().expect("an address"),
        host_port,
        protocol: Protocol::Tcp,
        address: "172.20.0.2".parse().expect("an address"),
        port,
    }
}

/// A running container on `front` with a port published and one exposed.
fn running() -> ContainerView {
    let mut view = view(json!({"Image": "nginx", "ExposedPorts": {"80/tcp": {}, "443/tcp": {}},
        "HostConfig": {"NetworkMode": "front", "PortBindings": {"80/tcp": [{"HostPort": "8080"}]}},
        "NetworkingConfig": {"EndpointsConfig": {"front": {"Aliases": ["www"], "GwPriority": 3,
            "IPAMConfig": {"IPv4Address": "172.20.0.2"}}}}}));
    let config = view.fixed.config.networking.endpoints["front"].clone();
    let network = NetworkId::from_bytes([0xf0; 32]);
    let live = Endpoint {
        network: network.clone(),
        id: "e0".repeat(32),
        interface: "eth0".to_owned(),
        mac: Some("02:42:ac:14:00:02".parse().expect("a MAC")),
        addresses: vec!["172.20.0.2/16".parse().unwrap(), "fd00:20::2/64".parse().unwrap()],
        gateways: vec!["172.20.0.1".parse().unwrap(), "fd00:20::1".parse().unwrap()],
    };
    let endpoint = EndpointView { network: Some(network), config, live: Some(live) };
    view.networking = Arc::new(NetworkingView {
        endpoints: [("front".to_owned(), endpoint)].into(),
        published: vec![published("0.0.0.0", 8080, 80), published("::", 8080, 80)],
        sandbox: Some("/run/tare/netns/x".into()),
        faults: Vec::new(),
    });
    view.state.status = Status::Running;
    Arc::make_mut(&mut view.fixed).process.exposed_ports = vec!["443/tcp".into(), "80/tcp".into()];
    view
}

#[test]
fn inspection_has_networks_as_dockers() {
    let shown = settings(&running(), Version::MAX);
    assert_eq!(
        shown["Networks"],
        json!({"front": {"IPAMConfig": {"IPv4Address": "172.20.0.2"}, "Links": null, "Aliases": ["www"], "DriverOpts": null,
            "GwPriority": 3, "NetworkID": "f0".repeat(32), "EndpointID": "e0".repeat(32), "Gateway": "172.20.0.1",
            "IPAddress": "172.20.0.2", "IPPrefixLen": 16, "MacAddress": "02:42:ac:14:00:02", "IPv6Gateway": "fd00:20::1",
            "GlobalIPv6Address": "fd00:20::2", "GlobalIPv6PrefixLen": 64, "DNSNames": ["web", "www", "abababababab"]}})
    );
    assert_eq!(
        shown["Ports"],
        json!({"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}], "443/tcp": null})
    );
    assert_eq!(shown["SandboxKey"], json!("/run/tare/netns/x"));
    assert_eq!(shown["SandboxID"], json!("ab".repeat(32)));
}

#[test]
fn old_clients_see_the_fields_of_their_time() {
    let at = |minor| settings(&running(), Version::new(minor));
    assert!(at(51).get("IPAddress").is_some() && at(52).get("IPAddress").is_none());
    assert!(at(48)["Networks"]["front"].get("GwPriority").is_some());
    assert!(at(47)["Networks"]["front"].get("GwPriority").is_none());
    assert!(at(43)["Networks"]["front"].get("DNSNames").is_none());
    assert_eq!(at(44)["Networks"]["front"]["Aliases"], json!(["www", "abababababab"]));
    // The deprecated twins are those of the default network alone.
    assert_eq!(at(51)["IPAddress"], json!(""));
    let mut usual = running();
    let networking = Arc::make_mut(&mut usual.networking);
    let endpoint = networking.endpoints.remove("front").expect("it is there");
    networking.endpoints.insert("bridge".to_owned(), endpoint);
    let shown = settings(&usual, Version::new(51));
    assert_eq!((&shown["IPAddress"], &shown["Gateway"]), (&json!("172.20.0.2"), &json!("172.20.0.1")));
    assert_eq!(shown["Networks"]["bridge"]["DNSNames"], Value::Null);
}

#[test]
fn one_that_does_not_run_has_no_ports_and_no_addresses() {
    let view =
        view(json!({"Image": "nginx", "ExposedPorts": {"80/tcp": {}}, "MacAddress": "02:42:ac:11:00:09"}));
    let shown = settings(&view, Version::MAX);
    assert_eq!((&shown["Ports"], &shown["SandboxKey"]), (&json!({}), &json!("")));
    let bridge = &shown["Networks"]["bridge"];
    assert_eq!((&bridge["IPAddress"], &bridge["MacAddress"]), (&json!(""), &json!("02:42:ac:11:00:09")));
    assert_eq!(
        container::inspect(&view, Version::new(51))["Config"]["MacAddress"],
        json!("02:42:ac:11:00:09")
    );
    assert_eq!(container::inspect(&view, Version::MAX)["Config"].get("MacAddress"), None);
}

#[test]
fn the_list_has_every_port_and_network() {
    let row = summary::summary(&running(), 0, None, Version::MAX);
    assert_eq!(
        row["Ports"],
        json!([{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
            {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}, {"PrivatePort": 443, "Type": "tcp"}])
    );
    assert_eq!(row["NetworkSettings"]["Networks"]["front"]["IPAddress"], json!("172.20.0.2"));
    assert_eq!(row["HostConfig"]["NetworkMode"], json!("front"));
}

#[test]
fn filters_know_networks_and_ports() {
    let view = running();
    assert!(is_on(&view, "front") && is_on(&view, "f0f0") && !is_on(&view, "fro") && !is_on(&view, ""));
    assert!(publishes(&view, "8080") && publishes(&view, "8000-8100/tcp"));
    assert!(!publishes(&view, "80") && !publishes(&view, "8080/udp") && !publishes(&view, "x"));
}

#[test]
fn bindings_and_links_are_shown_as_asked_for() {
    let view = view(json!({"Image": "nginx", "HostConfig": {"Links": ["db:sql"],
        "PortBindings": {"80/tcp": [{"HostPort": "8080"}, {"HostIp": "127.0.0.1", "HostPort": "8000-8010"}], "53/udp": null}}}));
    let host = &container::inspect(&view, Version::MAX)["HostConfig"];
    assert_eq!(host["Links"], json!(["/db:/web/sql"]));
    assert_eq!(
        host["PortBindings"],
        json!({"80/tcp": [{"HostIp": "", "HostPort": "8080"}, {"HostIp": "127.0.0.1", "HostPort": "8000-8010"}],
            "53/udp": [{"HostIp": "", "HostPort": ""}]})
    );
}

fn binding() -> impl Strategy<Value = PortBinding> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)];
    let host = prop_oneof![
        Just(None),
        any::<u32>().prop_map(|n| Some(IpAddr::from(n.to_be_bytes()))),
        any::<u128>().prop_map(|n| Some(IpAddr::from(n.to_be_bytes()))),
    ];
    let host_ports = prop_oneof![
        Just((0, 0)),
        (1u16.., 1u16..).prop_map(|(a, b)| (a.min(b), a.max(b))),
        (1u16..).prop_map(|a| (a, a)),
    ];
    (1u16.., protocol, host, host_ports).prop_map(|(port, protocol, host, host_ports)| PortBinding {
        port,
        protocol,
        host,
        host_ports,
    })
}

proptest! {
    #[test]
    fn bindings_that_are_shown_read_back(mut all in proptest::collection::vec(binding(), 0..6)) {
        all.sort_by_key(|b| (b.port, b.protocol, b.host, b.host_ports));
        let map: PortMap = serde_json::from_value(port_map(&all)).expect("a port map");
        prop_assert_eq!(ports::bindings(map), Ok(all));
    }
}
