//! Networks of a container, as requests ask for them.

use serde_json::{Value, json};
use tare_model::container::ContainerConfig;
use tare_model::network::Protocol;

use super::super::request;
use super::*;

fn asked(body: Value, minor: u32) -> Result<super::super::Asked> {
    let mut body = body.as_object().cloned().expect("an object");
    body.entry("Image").or_insert(json!("nginx"));
    request(body, Version::new(minor))
}

fn read(body: Value) -> Result<ContainerConfig> {
    asked(body, 55).map(|a| a.config)
}

fn on(mode: &str, endpoints: Value) -> Value {
    json!({"HostConfig": {"NetworkMode": mode}, "NetworkingConfig": {"EndpointsConfig": endpoints}})
}

fn refused(cases: &[(Value, &str)]) {
    for (body, words) in cases {
        let e = read(body.clone()).expect_err(words);
        assert!(e.message().contains(words), "{body}: {e}");
        assert_eq!(e.kind(), tare_model::ErrorKind::InvalidInput, "{body}");
    }
}

#[test]
fn the_mode_is_a_word_a_container_or_a_network() {
    let mode = |mode: &str| read(json!({"HostConfig": {"NetworkMode": mode}})).map(|c| c.namespaces.network);
    assert_eq!(mode(""), Ok(NetworkMode::Default));
    assert_eq!(mode("bridge"), Ok(NetworkMode::Bridge));
    assert_eq!(mode("container:db"), Ok(NetworkMode::Container { container: "db".into() }));
    assert_eq!(mode("front"), Ok(NetworkMode::Network { network: "front".into() }));
    assert!(mode("container:").is_err_and(|e| e.message().contains("invalid container format")));
    let disabled = read(json!({"NetworkDisabled": true})).map(|c| c.namespaces.network);
    assert_eq!(disabled, Ok(NetworkMode::None));
}

#[test]
fn endpoints_have_every_setting() {
    let settings = json!({"ipamconfig": {"ipv4address": "10.9.0.5", "IPv6Address": "fd00::5", "LinkLocalIPs": ["169.254.9.9"]},
        "links": ["db", "/cache:/web/memo"], "aliases": ["www"], "MACADDRESS": "02:42:0a:09:00:05", "GwPriority": 7,
        "DriverOpts": {"com.docker.network.endpoint.ifname": "lan0", "x": "y",
            "com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.IFNAME.accept_ra=0"}});
    let config = read(on("front", json!({"front": settings, "back": {}}))).expect("valid");
    let endpoints = config.networking.endpoints;
    assert_eq!(endpoints["back"], EndpointConfig::default());
    let front = &endpoints["front"];
    assert_eq!(front.ipv4.map(|a| a.to_string()).as_deref(), Some("10.9.0.5"));
    assert_eq!(front.ipv6.map(|a| a.to_string()).as_deref(), Some("fd00::5"));
    assert_eq!(front.link_local.len(), 1);
    assert_eq!(
        (front.links.as_slice(), front.aliases.as_slice()),
        (&["db:db".into(), "cache:memo".into()][..], &["www".into()][..])
    );
    assert_eq!(front.mac.map(|m| m.to_string()).as_deref(), Some("02:42:0a:09:00:05"));
    assert_eq!(
        (front.gateway_priority, front.interface.as_deref(), front.sysctls.len()),
        (7, Some("lan0"), 2)
    );
    assert_eq!(front.raw_options["x"], "y");
}

#[test]
fn endpoints_are_refused_in_dockers_words() {
    let front = |settings: Value| on("front", json!({ "front": settings }));
    let bridge = |settings: Value| on("bridge", json!({ "bridge": settings }));
    refused(&[
        (
            bridge(json!({"IPAMConfig": {"IPv4Address": "10.0.0.2"}})),
            "invalid endpoint settings:\nuser specified IP address is supported on user defined networks only",
        ),
        (
            bridge(json!({"Aliases": ["a"]})),
            "network-scoped alias is supported only for containers in user defined networks",
        ),
        (front(json!({"IPAMConfig": {"IPv4Address": "fd00::1"}})), "invalid IPv4 address: fd00::1"),
        (front(json!({"IPAMConfig": {"IPv6Address": "10.0.0.1"}})), "invalid IPv6 address: 10.0.0.1"),
        (front(json!({"IPAMConfig": {"LinkLocalIPs": ["x"]}})), "invalid link-local IP address: x"),
        (front(json!({"MacAddress": "x"})), "invalid MAC address"),
        (front(json!({"Aliases": ["a b"]})), "invalid alias"),
        (front(json!({"Links": [":a"]})), "bad format for links"),
        (
            front(json!({"DriverOpts": {"com.docker.network.endpoint.ifname": "a/b"}})),
            "invalid interface name",
        ),
        (
            front(json!({"DriverOpts": {"com.docker.network.endpoint.sysctls": "net.ipv4.ip_forward=1"}})),
            "IFNAME",
        ),
        (on("none", json!({"front": {}})), "networks in private (none) mode"),
        (on("front", json!({"none": {}})), "networks in private (none) mode"),
        (on("host", json!({"front": {}})), "host network"),
        (on("container:db", json!({"front": {}})), "cannot be connected to any other network"),
    ]);
    for own in
        [on("none", json!({"none": {}})), on("host", json!({"host": {}})), on("", json!({"default": {}}))]
    {
        assert!(read(own.clone()).is_ok(), "{own}");
    }
}

#[test]
fn a_shared_network_has_nothing_of_its_own() {
    let with =
        |field: &str, value: Value| json!({"HostConfig": {"NetworkMode": "container:db", field: value}});
    refused(&[
        (with("Links", json!(["a"])), "container type network can't be used with links"),
        (with("Dns", json!(["10.0.0.1"])), "dns and the network mode"),
        (with("ExtraHosts", json!(["a:10.0.0.1"])), "custom host-to-IP mapping and the network mode"),
        (with("PortBindings", json!({"80/tcp": []})), "port publishing and the container type network mode"),
        (with("PublishAllPorts", json!(true)), "port publishing and the container type network mode"),
        (
            json!({"Hostname": "x", "HostConfig": {"NetworkMode": "container:db"}}),
            "conflicting options: hostname and the network mode",
        ),
        (
            json!({"ExposedPorts": {"80/tcp": {}}, "HostConfig": {"NetworkMode": "container:db"}}),
            "port exposing and the container type network mode",
        ),
        (
            json!({"MacAddress": "02:42:ac:11:00:02", "HostConfig": {"NetworkMode": "container:db"}}),
            "conflicting options: mac-address and the network mode",
        ),
        (
            json!({"HostConfig": {"NetworkMode": "host", "Links": ["a"]}}),
            "host type networking can't be used with links",
        ),
    ]);
}

#[test]
fn ports_of_the_hosts_network_are_discarded_with_a_warning() {
    let body =
        json!({"HostConfig": {"NetworkMode": "host", "PortBindings": {"80/tcp": [{"HostPort": "8080"}]}}});
    let asked = asked(body, 55).expect("accepted");
    assert!(asked.config.networking.ports.is_empty());
    assert_eq!(asked.warnings, ["Published ports are discarded when using host network mode"]);
}

#[test]
fn ports_are_published_and_exposed() {
    let config = read(json!({"ExposedPorts": {"80/tcp": {}}, "HostConfig": {"PublishAllPorts": true,
        "portbindings": {"53/udp": [{"hostip": "127.0.0.1", "hostport": "5353"}]}}}))
    .expect("valid");
    assert!(config.networking.publish_all && config.exposed_ports.contains("80/tcp"));
    let [one] = config.networking.ports.as_slice() else { panic!("one binding") };
    assert_eq!((one.port, one.protocol, one.host_ports), (53, Protocol::Udp, (5353, 5353)));
    assert_eq!(one.host.map(|a| a.to_string()).as_deref(), Some("127.0.0.1"));
}

#[test]
fn the_mac_of_old_clients_is_that_of_the_main_network() {
    let body = json!({"MacAddress": "02:42:ac:11:00:02", "HostConfig": {"NetworkMode": "default"}});
    let mac = |config: &ContainerConfig| config.networking.endpoints["bridge"].mac.map(|m| m.to_string());
    let old = asked(body.clone(), 43).expect("accepted");
    assert_eq!((mac(&old.config).as_deref(), old.warnings.len()), (Some("02:42:ac:11:00:02"), 0));
    let new = asked(body, 51).expect("accepted");
    assert!(mac(&new.config).is_some() && new.warnings[0].contains("deprecated"));
    let mut other = on("front", json!({"front": {"MacAddress": "02:42:ac:11:00:03"}}));
    other["MacAddress"] = json!("02:42:ac:11:00:02");
    refused(&[(other.clone(), "the container-wide MAC address must match")]);
    other["MacAddress"] = json!("");
    let ignored = asked(other, 43).expect("accepted").config.networking.endpoints;
    assert!(ignored.values().all(|e| e.mac.is_none()), "that version has no such field: {ignored:?}");
}

#[test]
fn several_networks_are_for_new_clients() {
    let body = || on("front", json!({"front": {}, "back": {}}));
    assert!(asked(body(), 44).is_ok());
    let e = asked(body(), 43).expect_err("too old");
    assert_eq!(e.message(), "Container cannot be created with multiple network endpoints: back, front");
    let config = read(on("default", json!({"front": {"GwPriority": 1}}))).expect("valid");
    assert_eq!(config.namespaces.network, NetworkMode::Network { network: "front".into() });
}

#[test]
fn links_belong_to_the_network_of_the_mode() {
    let config = read(json!({"HostConfig": {"Links": ["db:sql"]}})).expect("valid");
    assert_eq!(config.networking.endpoints["bridge"].links, ["db:sql"]);
    let mut twice = on("front", json!({"front": {"Links": ["db:sql"]}}));
    twice["HostConfig"]["Links"] = json!(["db:sql", "cache"]);
    assert_eq!(read(twice).expect("valid").networking.endpoints["front"].links, ["db:sql", "cache:cache"]);
    refused(&[(json!({"HostConfig": {"NetworkMode": "none", "Links": ["db"]}}), "links")]);
}

#[test]
fn further_hosts_have_names_and_addresses() {
    let hosts = |list: &[&str]| extra_hosts(list.iter().map(|e| (*e).to_owned()).collect());
    assert_eq!(
        hosts(&["a:10.0.0.1", "b=[fd00::1]", "c:fd00::2", "me:host-gateway"]).unwrap(),
        ["a:10.0.0.1", "b:fd00::1", "c:fd00::2", "me:host-gateway"]
    );
    for bad in ["a", ":10.0.0.1", "a b:10.0.0.1", "a:b", "a:", "a\n:10.0.0.1"] {
        assert!(hosts(&[bad]).is_err(), "{bad:?}");
    }
}
