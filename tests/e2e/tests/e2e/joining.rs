//! How containers are on networks: addresses asked for, several at once, changed live, shared, and none of the engine's.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tare_kit::engine::BUSYBOX;
use tare_kit::space::{HERE, HERE6};
use tare_kit::{Engine, debs, wait};

use crate::networks::{WGET, from_outside, reached, web, wget};
use crate::ours;

/// What a shell in a running container says.
#[track_caller]
fn sh(engine: &Engine, container: &str, script: &str) -> String {
    engine.tare(["exec", container, "sh", "-c", script]).ok()
}

#[track_caller]
fn address(engine: &Engine, container: &str, network: &str) -> String {
    let shown = &engine.inspect(container)["NetworkSettings"]["Networks"][network]["IPAddress"];
    shown.as_str().expect("an address").to_owned()
}

#[test]
fn who_runs_without_networks_where_there_is_no_default_one_is_not_said_to_come_to_one() {
    if !ours() {
        return;
    }
    // Of the machine's own network an engine of tests has no default one.
    let engine = Engine::start();
    engine.tare(["run", "-d", "--name", "web", BUSYBOX, "sleep", "1000"]).ok();
    engine.tare(["network", "create", "front"]).ok();
    let refused = engine.tare(["network", "connect", "front", "web"]).fails(1);
    assert!(refused.contains("started without any; stop it, connect it"), "{refused}");
    assert_eq!(engine.inspect("web")["NetworkSettings"]["Networks"].get("front"), None);
}

#[test]
fn the_host_is_reached_by_the_name_that_was_given_to_its_gateway() {
    let engine = Engine::apart();
    engine.tare(["network", "create", "--subnet", "10.66.0.0/24", "--ipv6=false", "front"]).ok();
    let host = |network: &str, script: &str| {
        let add = ["run", "--rm", "--network", network, "--add-host", "host.lan:host-gateway"];
        engine.tare([&add[..], &[BUSYBOX, "sh", "-c", script]].concat())
    };
    assert_eq!(host("front", "grep host.lan /etc/hosts").ok(), "10.66.0.1\thost.lan");
    host("front", "ping -c 1 -W 3 host.lan").ok();
    if ours() {
        assert_eq!(host("host", "grep host.lan /etc/hosts").ok(), "127.0.0.1\thost.lan");
        let refused = host("none", "true").fails(125);
        assert!(refused.contains("host.lan:host-gateway"), "{refused}");
    }
}

#[test]
fn a_container_that_shares_a_network_has_all_of_it() {
    let engine = Engine::apart();
    engine.tare(["network", "create", "front"]).ok();
    web(&engine, "web", &["--network", "front"]);
    let share = |script: &str| {
        engine.tare(["run", "--rm", "--network", "container:web", BUSYBOX, "sh", "-c", script]).ok()
    };
    for file in ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname"] {
        assert_eq!(share(&format!("cat {file}")), sh(&engine, "web", &format!("cat {file}")), "{file}");
    }
    for link in ["net", "user"] {
        let look = format!("readlink /proc/self/ns/{link}");
        assert_eq!(share(&look), sh(&engine, "web", &look), "{link}");
    }
    assert_eq!(share("hostname"), "web");
    assert_eq!(share("timeout 3 wget -q -O - http://web/"), "web");
    for flags in [
        &["--hostname", "x"][..],
        &["--dns", "10.0.0.1"],
        &["--add-host", "a:10.0.0.1"],
        &["--expose", "80"],
        &["--mac-address", "02:42:0a:7b:00:4d"],
        &["--network", "front"],
    ] {
        let all = [&["run", "--rm", "--network", "container:web"], flags, &[BUSYBOX, "true"]].concat();
        engine.tare(&all).fails(125);
    }
    engine.tare(["run", "-d", "--name", "side", "--network", "container:web", BUSYBOX, "sleep", "1000"]).ok();
    engine.tare(["network", "connect", "front", "side"]).fails(1);
    engine.tare(["restart", "-t", "0", "web"]).ok();
    engine.tare(["restart", "-t", "0", "side"]).ok();
    let look = "readlink /proc/self/ns/net";
    assert_eq!(sh(&engine, "side", look), sh(&engine, "web", look), "it has the new one after its restart");
    engine.tare(["stop", "-t", "0", "web"]).ok();
    let refused = engine.tare(["restart", "-t", "0", "side"]).fails(1);
    assert!(refused.contains("non running container"), "{refused}");
}

#[test]
fn who_shares_with_one_on_the_hosts_network_is_on_it_too() {
    let engine = Engine::apart();
    let bridges = "ip -o link | grep -c lo:";
    engine.outside(["ip", "link", "add", "mark0", "type", "veth", "peer", "name", "mark1"]).ok();
    engine.tare(["run", "-d", "--name", "host", "--network", "host", BUSYBOX, "sleep", "1000"]).ok();
    let links = |network: &str| {
        engine.tare(["run", "--rm", "--network", network, BUSYBOX, "sh", "-c", "ip -o link"]).ok()
    };
    assert!(sh(&engine, "host", bridges) == "1" && links("host").contains("mark0"));
    assert!(links("container:host").contains("mark0"));
    assert!(!links("bridge").contains("mark0"));
    engine.outside(["ip", "link", "delete", "mark0"]).ok();
    engine.tare(["network", "connect", "bridge", "host"]).fails(1);
    let shown = engine.get("/networks/host").expect(200)["Containers"].clone();
    let names: Vec<&str> =
        shown.as_object().unwrap().values().filter_map(|one| one["Name"].as_str()).collect();
    assert_eq!(names, ["host"], "who is on the machine's own network is seen there");
}

#[test]
fn what_no_network_gives_is_refused_by_name() {
    let engine = Engine::apart();
    engine.tare(["network", "create", "front"]).ok();
    let flags = ["create", "--network", "front", "--link-local-ip", "169.254.1.1", BUSYBOX, "true"];
    if ours() {
        let refused = engine.tare(flags).fails(125);
        assert!(refused.contains("--link-local-ip"), "{refused}");
    }
}

#[test]
fn addresses_asked_for_are_had_and_had_again_at_once() {
    let engine = Engine::apart();
    let create =
        ["network", "create", "--subnet", "10.66.0.0/24", "--subnet", "fd66::/64", "--ipv6", "front"];
    engine.tare(create).ok();
    let flags =
        ["--network", "front", "--ip", "10.66.0.9", "--ip6", "fd66::9", "--mac-address", "02:42:00:00:00:09"];
    web(&engine, "web", &flags);
    let there = || {
        let shown = sh(&engine, "web", "ip addr show eth0");
        assert!(
            ["10.66.0.9/24", "fd66::9/64", "02:42:00:00:00:09"].iter().all(|one| shown.contains(one)),
            "{shown}"
        );
    };
    there();
    let taken = engine.tare([&["run", "--rm"], &flags[..4], &[BUSYBOX, "true"]].concat()).fails(125);
    assert!(taken.contains("Address already in use"), "{taken}");
    for _ in 0..3 {
        engine.tare(["restart", "-t", "0", "web"]).ok();
        there();
    }
    engine.tare(["rm", "-f", "web"]).ok();
    web(&engine, "web", &flags);
    there();
    let outside = ["run", "--rm", "--network", "front", "--ip", "10.67.0.9", BUSYBOX, "true"];
    let refused = engine.tare(outside).fails(125);
    assert!(refused.contains("10.67.0.9"), "{refused}");
}

#[test]
fn the_way_out_is_where_the_priority_is_highest_and_moves_live() {
    let engine = Engine::apart();
    for (name, subnet) in [("a", "10.66.1.0/24"), ("b", "10.66.2.0/24"), ("c", "10.66.3.0/24")] {
        engine.tare(["network", "create", "--subnet", subnet, "--ipv6=false", name]).ok();
    }
    web(&engine, "peer", &["--network", "a"]);
    web(&engine, "app", &["--network", "a", "--network", "name=b,gw-priority=1"]);
    let way = || sh(&engine, "app", "ip route | grep default");
    assert!(way().contains("10.66.2.1"), "{}", way());
    // A connection that is open stays open through all of it.
    sh(&engine, "peer", "sleep 100 | nc -l -p 7000 >/got & sleep 0.2");
    let talk = "(for n in 1 2 3 4 5 6; do echo $n; sleep 0.5; done) | nc peer 7000";
    engine.tare(["exec", "-d", "app", "sh", "-c", talk]).ok();
    engine.tare(["network", "connect", "--gw-priority", "5", "c", "app"]).ok();
    assert!(way().contains("10.66.3.1"), "{}", way());
    let own = address(&engine, "app", "c");
    assert!(sh(&engine, "app", "cat /etc/hosts").contains(&own), "its name is there at the new address");
    engine.tare(["network", "disconnect", "c", "app"]).ok();
    assert!(way().contains("10.66.2.1"), "{}", way());
    assert!(!sh(&engine, "app", "cat /etc/hosts").contains(&own));
    engine.tare(["network", "disconnect", "b", "app"]).ok();
    assert!(way().contains("10.66.1.1"), "{}", way());
    let got = wait::until(wait::PATIENCE, || {
        let got = sh(&engine, "peer", "cat /got");
        (got.lines().count() == 6).then_some(got)
    });
    assert!(got.is_some(), "all of it arrives: {}", sh(&engine, "peer", "cat /got"));
}

/// A second network takes the default route over; answers to who is beyond the first one left by it, from a stranger's address.
#[test]
fn who_connects_from_outside_does_not_notice_that_other_networks_come_and_go() {
    let engine = Engine::apart();
    let lan = engine.neighbour();
    for name in ["shop", "admin"] {
        engine.tare(["network", "create", name]).ok();
    }
    let serve =
        "nc -ll -p 81 -e cat & mkdir /www; hostname >/www/index.html; echo up; exec httpd -f -p 80 -h /www";
    let run = ["run", "-d", "--name", "web", "--hostname", "web", "--network", "shop"];
    let ports = ["-p", "8080:80", "-p", "8081:81"];
    engine.tare([&run[..], &ports, &[BUSYBOX, "sh", "-c", serve]].concat()).ok();
    engine.wait_for_log("web", "up");
    let busybox = debs::busybox();
    let get = |host: &str| {
        let url = format!("http://{host}:8080/");
        let words = WGET.iter().copied().chain([url.as_str()]).map(std::ffi::OsStr::new);
        let got = lan.run([busybox.as_os_str()].into_iter().chain(words)).run();
        (got.code == 0).then(|| got.out())
    };
    let both = || [HERE.to_owned(), format!("[{HERE6}]")].map(|host| reached(|| get(&host)));
    let connect = || wait::until(wait::PATIENCE, || TcpStream::connect((HERE, 8081)).ok());
    let mut stream = lan.inside(connect).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut echo = |word: &[u8; 4]| {
        stream.write_all(word).unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).expect("an answer on the connection that was there before");
        assert_eq!(&answer, word);
    };
    echo(b"one\n");
    engine.tare(["network", "connect", "admin", "web"]).ok();
    assert!(engine.tare(["exec", "web", "ip", "route"]).ok().contains("dev eth1"), "the way out has moved");
    echo(b"two\n");
    assert_eq!(both(), ["web", "web"]);
    // Its ports go on where else it is reached.
    engine.tare(["network", "disconnect", "shop", "web"]).ok();
    assert_eq!(both(), ["web", "web"]);
    assert_eq!(engine.tare(["port", "web", "80"]).ok(), "0.0.0.0:8080\n[::]:8080");
    engine.tare(["network", "disconnect", "admin", "web"]).ok();
    assert_eq!(engine.tare(["port", "web"]).ok(), "");
    engine.tare(["run", "--rm", "-p", "8080:80", BUSYBOX, "true"]).ok();
}

#[test]
fn names_follow_a_rename() {
    let engine = Engine::apart();
    engine.tare(["network", "create", "front"]).ok();
    web(&engine, "old", &["--network", "front", "--network-alias", "www"]);
    web(&engine, "peer", &["--network", "front"]);
    assert_eq!(reached(|| wget(&engine, "peer", "http://old/")), "old");
    engine.tare(["rename", "old", "fresh"]).ok();
    assert_eq!(wget(&engine, "peer", "http://fresh/").as_deref(), Some("old"), "the host name stays");
    assert_eq!(wget(&engine, "peer", "http://www/").as_deref(), Some("old"));
    assert_eq!(wget(&engine, "peer", "http://old/"), None);
    let shown = engine.get("/networks/front").expect(200)["Containers"].to_string();
    assert!(shown.contains("\"fresh\""), "{shown}");
    assert!(sh(&engine, "peer", "cat /etc/resolv.conf").starts_with("nameserver 127.0.0.11\n"));
}

#[test]
fn who_has_left_the_last_network_comes_to_another_with_its_ports() {
    let mut engine = Engine::apart();
    engine.tare(["network", "create", "front"]).ok();
    web(&engine, "peer", &["--network", "front"]);
    web(&engine, "one", &["-p", "8080:80"]);
    engine.tare(["network", "disconnect", "bridge", "one"]).ok();
    assert_eq!(from_outside(&engine, "http://127.0.0.1:8080/"), None);
    engine.kill_daemon();
    engine.start_daemon();
    engine.tare(["network", "connect", "front", "one"]).ok();
    assert_eq!(reached(|| wget(&engine, "peer", "http://one/")), "one");
    assert_eq!(reached(|| from_outside(&engine, "http://127.0.0.1:8080/")), "one");
    // Not if somebody has its port meanwhile.
    engine.tare(["network", "disconnect", "front", "one"]).ok();
    web(&engine, "other", &["-p", "8080:80"]);
    let taken = engine.tare(["network", "connect", "front", "one"]).fails(1);
    assert!(taken.contains("8080") && taken.contains("other"), "{taken}");
    assert_eq!(sh(&engine, "one", "ls /sys/class/net"), "lo");
    engine.tare(["rm", "-f", "other"]).ok();
    engine.tare(["network", "connect", "front", "one"]).ok();
    engine.tare(["restart", "-t", "0", "one"]).ok();
    assert_eq!(reached(|| from_outside(&engine, "http://127.0.0.1:8080/")), "one");
    // One that has been started without any has no way there while it runs.
    web(&engine, "none", &["--network", "none"]);
    let refused = engine.tare(["network", "connect", "front", "none"]).fails(1);
    assert!(refused.contains("started without any"), "{refused}");
    engine.tare(["stop", "-t", "0", "none"]).ok();
    engine.tare(["network", "connect", "front", "none"]).ok();
    engine.tare(["start", "none"]).ok();
    assert_eq!(reached(|| wget(&engine, "peer", "http://none/")), "none");
}

/// Its monitor got nothing to keep at its start, as there was nothing of a firewall then.
#[test]
fn nobody_flushes_the_rules_of_one_that_came_to_its_first_bridge_while_it_ran() {
    let mut engine = Engine::apart();
    engine.outside(["ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan1"]).ok();
    let create =
        ["network", "create", "-d", "macvlan", "-o", "parent=lan0", "--subnet", "10.66.4.0/24", "lan"];
    engine.tare(create).ok();
    web(&engine, "one", &["--network", "lan"]);
    engine.tare(["network", "create", "front"]).ok();
    engine.tare(["network", "connect", "front", "one"]).ok();
    let nft = |engine: &Engine, words: &[&str]| debs::nft(|nft| engine.outside([nft])).args(words).ok();
    for round in ["by its connection", "by the engine after"] {
        engine.kill_daemon();
        nft(&engine, &["flush", "ruleset"]);
        let left = nft(&engine, &["list", "tables"]);
        assert!(left.contains("inet tare") && left.contains("bridge tare"), "{round}: {left:?}");
        engine.start_daemon();
    }
    engine.tare(["rm", "-f", "one"]).ok();
    engine.tare(["network", "rm", "front", "lan"]).ok();
    engine.outside(["ip", "link", "delete", "lan0"]).ok();
}

#[test]
fn containers_of_a_macvlan_network_are_on_its_link() {
    let engine = Engine::apart();
    engine.outside(["ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan1"]).ok();
    for end in ["lan0", "lan1"] {
        engine.outside(["ip", "link", "set", end, "up"]).ok();
    }
    let create =
        ["network", "create", "-d", "macvlan", "-o", "parent=lan0", "--subnet", "10.66.4.0/24", "lan"];
    engine.tare(create).ok();
    web(&engine, "one", &["--network", "lan"]);
    web(&engine, "two", &["--network", "lan"]);
    assert_eq!(reached(|| wget(&engine, "two", "http://one/")), "one");
    let at = address(&engine, "one", "lan");
    engine.tare(["exec", "two", "ping", "-c", "1", "-W", "3", &at]).ok();
    for name in ["one", "two"] {
        engine.tare(["rm", "-f", name]).ok();
    }
    engine.tare(["network", "rm", "lan"]).ok();
    assert!(engine.outside(["ip", "link", "show", "lan0"]).run().code == 0, "the link was there before");
    engine.outside(["ip", "link", "delete", "lan0"]).ok();
}
