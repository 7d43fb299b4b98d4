//! Requests for networks and what they mean.

use proptest::prelude::*;
use serde_json::json;
use tare_model::network::{GatewayMode, ParentMode};

use super::*;

fn read(mut body: Value) -> Result<NetworkConfig> {
    body.as_object_mut().expect("an object").entry("Name").or_insert(json!("front"));
    config(body.as_object().cloned().expect("an object"), Version::MAX).map(|asked| asked.config)
}

fn options(driver: &str, options: Value) -> Result<NetworkConfig> {
    read(json!({"Driver": driver, "Options": options}))
}

fn refused(cases: &[(Value, &str)]) {
    for (body, words) in cases {
        let e = read(body.clone()).expect_err(words);
        assert!(e.message().contains(words), "{body}: {e}");
    }
}

#[test]
fn a_network_without_wishes_is_a_bridge_of_both_families() {
    let config = read(json!({})).expect("valid");
    let plain = NetworkConfig { name: "front".into(), ipv4: true, ipv6: true, ..Default::default() };
    assert_eq!(config, plain);
    let old = json!({"Name": "front", "CheckDuplicate": true, "Driver": "", "Scope": "", "EnableIPv6": false,
        "IPAM": {"Driver": "default", "Options": {}, "Config": []}, "Internal": false, "Attachable": false, "Ingress": false,
        "ConfigOnly": false, "ConfigFrom": null, "Options": {}, "Labels": {}});
    assert_eq!(read(old), Ok(NetworkConfig { ipv6: false, ..plain }));
}

#[test]
fn every_field_has_its_effect() {
    let config = read(json!({"name": "back", "DRIVER": "bridge", "Internal": true, "Attachable": true, "EnableIPv4": true,
        "EnableIPv6": true, "Labels": {"a": "1"}, "ipam": {"options": {"x": "y"}, "config": [
            {"subnet": "10.9.0.0/16", "iprange": "10.9.8.0/24", "gateway": "10.9.0.1", "auxiliaryaddresses": {"nas": "10.9.0.9"}},
            {"Subnet": "fd00:9::/64", "Gateway": "fd00:9::1"}]}}))
    .expect("valid");
    assert_eq!((config.name.as_str(), config.internal, config.attachable), ("back", true, true));
    assert_eq!(config.labels["a"], "1");
    assert_eq!(config.raw_ipam_options["x"], "y");
    let [four, six] = config.pools.as_slice() else { panic!("two pools") };
    assert_eq!(four.subnet.map(|s| s.to_string()).as_deref(), Some("10.9.0.0/16"));
    assert_eq!(four.range.map(|s| s.to_string()).as_deref(), Some("10.9.8.0/24"));
    assert_eq!(four.gateway.map(|s| s.to_string()).as_deref(), Some("10.9.0.1"));
    assert_eq!(four.auxiliary["nas"].to_string(), "10.9.0.9");
    assert!(ipam::is_ipv6(six) && !ipam::is_ipv6(four));
}

#[test]
fn subnets_are_refused_in_dockers_words() {
    let ipam = |config: Value| json!({"IPAM": {"Config": [config]}});
    refused(&[
        (
            ipam(json!({"Subnet": "10.0.0.0"})),
            "invalid network config:\ninvalid subnet 10.0.0.0: invalid CIDR block notation",
        ),
        (ipam(json!({"Subnet": "10.0.0.1/8"})), "invalid subnet 10.0.0.1/8: it should be 10.0.0.0/8"),
        (
            ipam(json!({"Subnet": "10.0.0.0/16", "IPRange": "10.0.0.0/8"})),
            "invalid ip-range 10.0.0.0/8: CIDR block is bigger than its parent subnet 10.0.0.0/16",
        ),
        (
            ipam(json!({"Subnet": "10.0.0.0/16", "IPRange": "10.1.0.0/24"})),
            "parent subnet 10.0.0.0/16 doesn't contain ip-range",
        ),
        (
            ipam(json!({"Subnet": "10.0.0.0/16", "IPRange": "fd00::/96"})),
            "invalid ip-range fd00::/96: parent subnet is an IPv4 block",
        ),
        (
            ipam(json!({"Subnet": "10.0.0.0/16", "Gateway": "10.1.0.1"})),
            "invalid gateway 10.1.0.1: parent subnet 10.0.0.0/16 doesn't contain this address",
        ),
        (ipam(json!({"Subnet": "10.0.0.0/16", "Gateway": "x"})), "invalid gateway x: invalid address"),
        (
            ipam(json!({"Subnet": "10.0.0.0/16", "Gateway": "x", "AuxiliaryAddresses": {"nas": "fd00::1"}})),
            "* invalid gateway x: invalid address\n* invalid auxiliary address nas: parent subnet is an IPv4 block",
        ),
        (json!({"IPAM": {"Driver": "dhcp"}}), "IPAM.Driver"),
        (json!({"EnableIPv6": false, "IPAM": {"Config": [{"Subnet": "fd00::/64"}]}}), "IPv6 is not enabled"),
        (
            json!({"EnableIPv4": false, "IPAM": {"Config": [{"Subnet": "10.0.0.0/16"}]}}),
            "IPv4 is not enabled",
        ),
        (json!({"EnableIPv4": false, "EnableIPv6": false}), "IPv4 or IPv6 must be enabled"),
    ]);
}

#[test]
fn what_is_not_offered_is_refused_by_name() {
    refused(&[
        (json!({"Scope": "swarm"}), "Scope"),
        (json!({"Ingress": true}), "Ingress"),
        (json!({"ConfigOnly": true}), "ConfigOnly"),
        (json!({"ConfigFrom": {"Network": "x"}}), "ConfigFrom"),
        (json!({"Driver": "overlay"}), "overlay"),
        (json!({"Driver": "weave"}), "could not find plugin weave"),
        (json!({"Name": ""}), "name is empty"),
        (json!({"Name": "a b"}), "no blanks"),
        (json!({"Name": "container:x"}), "network of a container"),
    ]);
    for (body, words) in [
        (json!({"Name": "host"}), "operation is not permitted on predefined host network"),
        (json!({"Driver": "host"}), "only one instance of \"host\" network is allowed"),
    ] {
        let e = read(body).expect_err(words);
        assert_eq!((e.kind(), e.message()), (ErrorKind::Forbidden, words));
    }
}

#[test]
fn options_of_bridges_are_read_and_kept() {
    let asked = json!({"com.docker.network.bridge.name": "br9", "com.docker.network.bridge.enable_icc": "false",
        "com.docker.network.bridge.gateway_mode_ipv6": "routed", "com.docker.network.bridge.host_binding_ipv4": "127.0.0.1",
        "com.docker.network.host_ipv4": "192.0.2.1", "com.docker.network.host_ipv6": "2001:db8::1",
        "com.docker.network.driver.mtu": "1400", "com.docker.network.container_iface_prefix": "net",
        "tare.network.spoofing": "1", "com.example.unknown": "kept"});
    let config = options("", asked.clone()).expect("valid");
    let bridge = &config.bridge;
    assert_eq!((bridge.name.as_deref(), bridge.icc, bridge.mtu), (Some("br9"), false, Some(1400)));
    assert_eq!((bridge.gateway_ipv4, bridge.gateway_ipv6), (GatewayMode::Nat, GatewayMode::Routed));
    assert_eq!(bridge.host_binding.map(|a| a.to_string()).as_deref(), Some("127.0.0.1"));
    assert!(bridge.host_ipv4.is_some() && bridge.host_ipv6.is_some() && bridge.spoofing);
    assert_eq!(bridge.interface_prefix.as_deref(), Some("net"));
    assert_eq!(json!(config.raw_options), asked);
    let open =
        options("", json!({"com.docker.network.bridge.enable_ip_masquerade": "false"})).expect("valid");
    assert_eq!(open.bridge.gateway_ipv4, GatewayMode::NatUnprotected);
    let old = options("", json!({"com.docker.network.enable_ipv6": "false"})).expect("valid");
    assert!(!old.ipv6);
}

#[test]
fn options_that_nothing_is_done_about_are_told() {
    let warnings = |driver: &str, options: Value| {
        let body = json!({"Name": "n", "Driver": driver, "Options": options});
        config(body.as_object().cloned().expect("an object"), Version::MAX).expect("valid").warnings
    };
    let bridge = json!({"com.docker.network.bridge.enable_ip_masquerade": "true", "mtu": "1400",
        "com.docker.network.bridge.inhibit_ipv4": "false", "com.docker.network.bridge.trusted_host_interfaces": ""});
    assert_eq!(warnings("", bridge), [r#"the bridge driver knows no option "mtu": it is shown, no more"#]);
    let link = json!({"parent": "", "macvlan_mode": "", "com.docker.network.bridge.name": "br9"});
    let told = r#"the macvlan driver knows no option "com.docker.network.bridge.name": it is shown, no more"#;
    assert_eq!(warnings("macvlan", link), [told]);
}

#[test]
fn options_that_mean_nothing_are_refused() {
    for (driver, asked, words) in [
        ("", json!({"com.docker.network.bridge.enable_icc": "yes"}), "enable_icc"),
        (
            "",
            json!({"com.docker.network.driver.mtu": "big"}),
            "failed to parse com.docker.network.driver.mtu",
        ),
        ("", json!({"com.docker.network.driver.mtu": "9"}), "68 to 65535"),
        ("", json!({"com.docker.network.bridge.name": "a-name-that-is-too-long"}), "15 characters"),
        ("", json!({"com.docker.network.bridge.name": "../x"}), "bridge.name"),
        ("", json!({"com.docker.network.bridge.gateway_mode_ipv4": "open"}), "unknown gateway mode open"),
        ("", json!({"com.docker.network.bridge.gateway_mode_ipv4": "isolated"}), "internal network"),
        ("", json!({"com.docker.network.bridge.inhibit_ipv4": "true"}), "inhibit_ipv4"),
        ("", json!({"tare.network.spofing": "1"}), "no such option"),
        ("macvlan", json!({"macvlan_mode": "l2"}), "requested macvlan mode 'l2' is not valid"),
        ("ipvlan", json!({"ipvlan_mode": "bridge"}), "requested ipvlan mode 'bridge' is not valid"),
        ("ipvlan", json!({"ipvlan_flag": "vepa"}), "ipvlan_flag"),
        ("ipvlan", json!({"ipvlan_flag": "private", "ipvlan_mode": "l3"}), "l2"),
        ("macvlan", json!({"parent": "eth0:1"}), "parent"),
        ("macvlan", json!({"tare.network.rate": "in=1MB"}), "needs the bridge driver"),
        ("ipvlan", json!({"tare.network.spoofing": "1"}), "needs the bridge driver"),
    ] {
        let e = options(driver, asked.clone()).expect_err(words);
        assert!(e.message().contains(words), "{asked}: {e}");
    }
}

#[test]
fn networks_on_a_link_of_the_hosts_have_ipv4_alone_unless_asked() {
    let config = options("macvlan", json!({"parent": "eth0.20", "macvlan_mode": "private"})).expect("valid");
    assert_eq!((config.ipv4, config.ipv6), (true, false));
    assert_eq!((config.parent.link.as_deref(), config.parent.mode), (Some("eth0.20"), ParentMode::Private));
    for (asked, mode) in [
        (json!({}), ParentMode::Default),
        (json!({"ipvlan_mode": "l3s"}), ParentMode::L3s),
        (json!({"ipvlan_mode": "l2", "ipvlan_flag": "private"}), ParentMode::Private),
    ] {
        assert_eq!(options("ipvlan", asked.clone()).map(|c| c.parent.mode), Ok(mode), "{asked}");
    }
    let six = json!({"Driver": "ipvlan", "IPAM": {"Config": [{"Subnet": "fd00::/64"}]}});
    assert!(read(six).is_ok_and(|c| c.ipv6), "a subnet of IPv6 asks for IPv6");
}

#[test]
fn an_old_client_cannot_decline_ipv4() {
    let body = json!({"Name": "front", "EnableIPv4": false}).as_object().cloned().expect("an object");
    assert!(config(body.clone(), Version::new(47)).is_ok_and(|asked| asked.config.ipv4));
    assert!(config(body, Version::new(48)).is_ok_and(|asked| !asked.config.ipv4 && asked.config.ipv6));
}

proptest! {
    #[test]
    fn no_subnet_panics(subnet in "[0-9a-f:./]{0,24}", range in "[0-9a-f:./]{0,24}", gateway in "[0-9a-f:.]{0,20}") {
        let _ = read(json!({"IPAM": {"Config": [{"Subnet": subnet, "IPRange": range, "Gateway": gateway}]}}));
    }
}
