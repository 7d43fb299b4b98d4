//! Rates and shares of networks as a user has them: given at the start, changed while it runs, kept over the daemon's end.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tare_kit::engine::BUSYBOX;
use tare_kit::{Engine, wait};

/// Bytes of the file that is fetched.
const SIZE: u32 = 16 << 20;

/// Starts a web server with a large file.
#[track_caller]
fn server(engine: &Engine, name: &str, flags: &[&str]) {
    let script =
        format!("mkdir /www; head -c {SIZE} /dev/zero >/www/big; echo up; exec httpd -f -p 80 -h /www");
    let start = ["run", "-d", "--name", name];
    engine.tare([&start, flags, &[BUSYBOX, "sh", "-c", &script]].concat()).ok();
    engine.wait_for_log(name, "up");
}

/// Bytes per second, of frames, at which one gets the large file of the other.
#[track_caller]
fn speed(engine: &Engine, to: &str, from: &str) -> f64 {
    let started = Instant::now();
    engine.tare(["exec", to, "wget", "-q", "-O", "/dev/null", &format!("http://{from}/big")]).ok();
    f64::from(SIZE) / started.elapsed().as_secs_f64() * (1514.0 / 1448.0)
}

/// Within what starting a program and a connection cost; how exact rates are is for the tests of the network room to say.
#[track_caller]
fn is_near(measured: f64, wanted: f64) {
    assert!((measured / wanted - 1.0).abs() < 0.12, "{measured:.0} bytes/s, not {wanted:.0}");
}

#[test]
fn a_rate_holds_both_ways_changes_live_and_outlives_the_daemon() {
    let mut engine = Engine::apart();
    engine.tare(["network", "create", "front"]).ok();
    server(&engine, "free", &["--network", "front"]);
    server(&engine, "slow", &["--network", "front", "--network-rate", "in=32mbit,out=8MB"]);
    is_near(speed(&engine, "slow", "free"), 4e6);
    is_near(speed(&engine, "free", "slow"), 8e6);
    engine.tare(["update", "--network-rate", "in=8MB", "slow"]).ok();
    is_near(speed(&engine, "slow", "free"), 8e6);
    let limits = json!({"InRate": 8_000_000, "OutRate": 8_000_000});
    assert_eq!(engine.inspect("slow")["Tare"]["Network"], limits);
    engine.kill_daemon();
    engine.start_daemon();
    is_near(speed(&engine, "slow", "free"), 8e6);
    engine.tare(["update", "--network-rate", "in=4MB", "slow"]).ok();
    is_near(speed(&engine, "slow", "free"), 4e6);
    engine.tare(["update", "--network-rate", "in=none,out=none", "slow"]).ok();
    assert!(speed(&engine, "slow", "free") > 2e7, "there is no limit any more");
    engine.tare(["rm", "-f", "slow", "free"]).ok();
    // Its addresses are free a moment after the container is gone.
    let removed = || (engine.tare(["network", "rm", "front"]).run().code == 0).then_some(());
    wait::until(wait::PATIENCE, removed).expect("the network is removed");
    let links = engine.outside(["cat", "/proc/net/dev"]).ok();
    let has = |name: &str| links.lines().any(|line| line.trim_start().starts_with(name));
    assert!(has("lo") && !has("ts"), "its device is gone: {links}");
}

/// Bytes that a container has received, as `stats` tells.
fn received(engine: &Engine, container: &str) -> f64 {
    let stats = engine.get(&format!("/containers/{container}/stats?stream=false&one-shot=true")).json();
    stats["networks"]["eth0"]["rx_bytes"].as_f64().unwrap_or_else(|| panic!("{stats}"))
}

#[test]
#[expect(clippy::disallowed_methods, reason = "speed is measured over time")]
fn shares_divide_a_networks_rate_and_idle_ones_lend_theirs() {
    let engine = Engine::apart();
    engine.tare(["network", "create", "--opt", "tare.network.rate=in=8MB", "front"]).ok();
    server(&engine, "source", &["--network", "front"]);
    let get =
        "until [ -e /go ]; do sleep 0.1; done; while :; do wget -q -O /dev/null http://source/big; done";
    for (name, share) in [("large", "80"), ("small", "20")] {
        let flags = ["--name", name, "--network", "front", "--network-share", share];
        engine.tare([&["run", "-d"][..], &flags, &[BUSYBOX, "sh", "-c", get]].concat()).ok();
    }
    let measure = || {
        thread::sleep(Duration::from_secs(2));
        let (before, started) = (["large", "small"].map(|name| received(&engine, name)), Instant::now());
        thread::sleep(Duration::from_secs(5));
        let after = ["large", "small"].map(|name| received(&engine, name));
        [0, 1].map(|at| (after[at] - before[at]) / started.elapsed().as_secs_f64())
    };
    engine.tare(["exec", "small", "touch", "/go"]).ok();
    let [_, small] = measure();
    is_near(small, 8e6);
    engine.tare(["exec", "large", "touch", "/go"]).ok();
    let [large, small] = measure();
    // Connections begin and end, in whose pauses the other one has it all.
    assert!((large / (large + small) - 0.8).abs() < 0.05, "{large:.0} and {small:.0} bytes/s");
    engine.tare(["update", "--network-share", "20", "large"]).ok();
    let [large, small] = measure();
    assert!((large / (large + small) - 0.5).abs() < 0.05, "{large:.0} and {small:.0} bytes/s");
}

#[test]
fn a_networks_own_rate_changes_while_it_is_divided_and_outlives_the_daemon() {
    let mut engine = Engine::apart();
    engine.tare(["network", "create", "front"]).ok();
    for name in ["one", "two"] {
        server(&engine, name, &["--network", "front"]);
    }
    let update = |engine: &Engine, rate: &str| {
        assert_eq!(engine.tare(["network", "update", "--rate", rate, "front"]).ok(), "front");
    };
    update(&engine, "in=8MB");
    is_near(speed(&engine, "one", "two"), 8e6);
    update(&engine, "in=4MB");
    is_near(speed(&engine, "one", "two"), 4e6);
    let option = ["network", "inspect", "-f", "{{index .Options \"tare.network.rate\"}}", "front"];
    assert_eq!(engine.tare(option).ok(), "in=4000000B");
    engine.kill_daemon();
    engine.start_daemon();
    is_near(speed(&engine, "two", "one"), 4e6);
    update(&engine, "in=none");
    assert!(speed(&engine, "one", "two") > 2e7, "there is no limit any more");
    let refused = engine.tare(["network", "update", "--rate", "in=1MB", "host"]).fails(1);
    assert!(refused.contains("need the bridge driver"), "{refused}");
}

#[test]
fn what_cannot_be_limited_is_refused_by_name() {
    let engine = Engine::apart();
    let refused = |flags: &[&str]| {
        engine.tare([&["create"][..], flags, &[BUSYBOX, "true"]].concat()).run().err().to_lowercase()
    };
    let host = refused(&["--network", "host", "--network-rate", "in=1MB"]);
    assert!(host.contains("need a network of the container's own"), "{host}");
    let share = refused(&["--network-share", "80"]);
    assert!(share.contains("has no rate to be shared"), "{share}");
    for rate in ["10", "10mb", "in=10mb", "in=1bit", "up=1MB", ""] {
        let words = refused(&["--network-rate", rate]);
        assert!(words.contains("network rate") || words.contains("network-rate"), "{rate}: {words}");
    }
    let option = engine.tare(["network", "create", "--opt", "tare.network.rate=10mb", "x"]).fails(1);
    assert!(option.contains("tare.network.rate"), "{option}");
}
