//! The tables as the kernel has them, in nft's words: what a reader of the host's rules meets.

use std::process::Command;

use super::world::{HOST, World, ip, ip4, ip6, published};
use tare_model::network::GatewayMode;

#[test]
fn the_tables_read_as_they_are_documented() {
    let root = tare_kit::debs::unpacked("nftables", &["nftables"]);
    let nft = tare_kit::debs::find(&root, "nft").expect("the package has its program");
    let libraries = root.join("usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    let world = World::new();
    world.network(1, |network| network.subnets[0].source = Some(ip(HOST)));
    world.network(2, |network| {
        network.icc = false;
        network.subnets[1].mode = GatewayMode::Routed;
    });
    world.network(3, |network| network.internal = true);
    let containers = [world.container(1, 2), world.container(2, 2), world.container(3, 2)];
    let all = [
        published("0.0.0.0", 8080, ip4(1, 2)),
        published("127.0.0.1", 8081, ip4(2, 2)),
        published("::", 8080, ip6(1, 2)),
        published("::", 8081, ip6(2, 2)),
    ];
    world.publish(&all);
    let listed = world.host.run(move || {
        let out =
            Command::new(nft).args(["list", "ruleset"]).env("LD_LIBRARY_PATH", libraries).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    });
    drop(containers);
    let stable = |line: &&str| !line.contains("progname") && !line.trim_start().starts_with("flags owner");
    let listed: String = listed.lines().filter(stable).flat_map(|line| [line, "\n"]).collect();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/src/firewall/tests/listing.nft");
    if std::env::var_os("TARE_TEST_BLESS").is_some() {
        std::fs::write(golden, &listed).unwrap();
    }
    assert_eq!(listed, std::fs::read_to_string(golden).unwrap(), "TARE_TEST_BLESS=1 takes it over");
}
