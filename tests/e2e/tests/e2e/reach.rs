//! Who reaches what: from a neighbour of the machine, from the machine, from containers, through published ports and not.

use std::process::{Child, Command, Stdio};

use tare_kit::engine::BUSYBOX;
use tare_kit::{Engine, debs};

use crate::networks::{WGET, from_outside, reached, web, wget};

/// Ends with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(command: &mut Command) -> Ends {
    Ends(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it runs"))
}

/// A neighbour of the machine: 192.0.2.2 on a link whose other end is the machine's 192.0.2.1.
struct Neighbour(Ends);

impl Neighbour {
    fn of(engine: &Engine) -> Neighbour {
        let own = spawn(Command::new("unshare").args(["--net", "--", "sleep", "1000"]));
        let pid = own.0.id().to_string();
        let machine = std::fs::read_link(format!("/proc/{}/ns/net", std::process::id())).unwrap();
        let moved = || std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|link| link != machine);
        assert!(tare_kit::wait::until(tare_kit::wait::PATIENCE, || moved().then_some(())).is_some());
        let ip =
            |words: &str| engine.outside([&["ip"], &words.split(' ').collect::<Vec<_>>()[..]].concat()).ok();
        ip(&format!("link add lan0 type veth peer name lan0 netns {pid}"));
        ip("addr add 192.0.2.1/24 dev lan0");
        ip("link set lan0 up");
        let neighbour = Neighbour(own);
        for words in ["addr add 192.0.2.2/24 dev lan0", "link set lan0 up", "link set lo up"] {
            neighbour.run(&[&["ip"], &words.split(' ').collect::<Vec<_>>()[..]].concat());
        }
        neighbour
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.0.0.id().to_string(), "--net", "--"]).args(words);
        command
    }

    #[track_caller]
    fn run(&self, words: &[&str]) {
        assert!(self.command(words).status().expect("it runs").success(), "{words:?}");
    }

    fn wget(&self, url: &str) -> Option<String> {
        let busybox = debs::busybox().display().to_string();
        let got = self.command(&[&[busybox.as_str()], &WGET[..], &[url]].concat()).output().expect("it runs");
        got.status.success().then(|| String::from_utf8_lossy(&got.stdout).trim_end().to_owned())
    }
}

#[test]
fn a_neighbour_reaches_what_is_published_to_it_and_nothing_else() {
    let engine = Engine::apart();
    let neighbour = Neighbour::of(&engine);
    engine.tare(["network", "create", "--subnet", "10.66.0.0/24", "--ipv6=false", "front"]).ok();
    let flags = ["--network", "front", "--ip", "10.66.0.9", "-p", "8080:80", "-p", "127.0.0.1:8081:80"];
    web(&engine, "web", &flags);
    assert_eq!(reached(|| neighbour.wget("http://192.0.2.1:8080/")), "web");
    assert_eq!(reached(|| from_outside(&engine, "http://127.0.0.1:8081/")), "web");
    assert_eq!(neighbour.wget("http://192.0.2.1:8081/"), None, "the port is the loopback's");
    // It routes to the bridge, and to the machine's loopback.
    neighbour.run(&["ip", "route", "add", "10.66.0.0/24", "via", "192.0.2.1"]);
    assert_eq!(neighbour.wget("http://10.66.0.9/"), None, "not by the container's address");
    neighbour.run(&["sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1"]);
    neighbour.run(&["sysctl", "-qw", "net.ipv4.conf.lan0.route_localnet=1"]);
    neighbour.run(&["ip", "addr", "del", "127.0.0.1/8", "dev", "lo"]);
    neighbour.run(&["ip", "route", "add", "127.0.0.1", "via", "192.0.2.1", "src", "192.0.2.2"]);
    assert_eq!(neighbour.wget("http://127.0.0.1:8081/"), None, "nor by the loopback's");
    assert_eq!(neighbour.wget("http://127.0.0.1:8080/"), None);
    assert_eq!(neighbour.wget("http://192.0.2.1:8080/").as_deref(), Some("web"), "the rest is as before");
}

#[test]
fn the_machine_reaches_ports_on_its_loopback_of_ipv6_with_and_without_a_daemon() {
    let mut engine = Engine::apart();
    let neighbour = Neighbour::of(&engine);
    web(&engine, "first", &["-p", "8080:80"]);
    web(&engine, "web", &["-p", "[::1]:8081:80", "-p", "8082:80"]);
    let on = |engine: &Engine, port: u16| from_outside(engine, &format!("http://[::1]:{port}/"));
    for (port, name) in [(8080, "first"), (8081, "web"), (8082, "web")] {
        assert_eq!(reached(|| on(&engine, port)), name, "{port}");
    }
    assert!(engine.tare(["port", "web", "80"]).ok().lines().any(|line| line == "[::1]:8081"));
    assert_eq!(from_outside(&engine, "http://127.0.0.1:8081/"), None, "the port is of ::1 alone");
    assert_eq!(neighbour.wget("http://192.0.2.1:8081/"), None);
    let shared = engine.tare(["run", "--rm", "--network", "host", BUSYBOX]);
    assert_eq!(
        shared.args(WGET).args(["http://[::1]:8081/"]).ok(),
        "web",
        "a container on the machine's network"
    );
    assert_eq!(wget(&engine, "first", "http://[::1]:8082/"), None, "another's ::1 is its own");
    engine.kill_daemon();
    assert_eq!(on(&engine, 8081).as_deref(), Some("web"), "without a daemon");
    engine.start_daemon();
    assert_eq!(on(&engine, 8081).as_deref(), Some("web"), "with the next one");
    engine.tare(["port", "rm", "web", "80"]).ok();
    assert_eq!(on(&engine, 8081).or(on(&engine, 8082)), None, "no longer published");
    assert_eq!(on(&engine, 8080).as_deref(), Some("first"));
    engine.tare(["port", "add", "web", "[::1]:8083:80"]).ok();
    assert_eq!(on(&engine, 8083).as_deref(), Some("web"));
    engine.tare(["rm", "-f", "web"]).ok();
    assert_eq!(on(&engine, 8083), None);
}

#[test]
fn a_container_reaches_its_own_port_by_the_machines_address() {
    let engine = Engine::apart();
    let _neighbour = Neighbour::of(&engine);
    engine.tare(["network", "create", "front"]).ok();
    web(&engine, "web", &["--network", "front", "-p", "8080:80"]);
    web(&engine, "peer", &[]);
    assert_eq!(reached(|| wget(&engine, "web", "http://192.0.2.1:8080/")), "web");
    assert_eq!(
        reached(|| wget(&engine, "peer", "http://192.0.2.1:8080/")),
        "web",
        "from another network too"
    );
    assert_eq!(reached(|| from_outside(&engine, "http://192.0.2.1:8080/")), "web");
}

#[test]
fn who_has_a_port_is_named() {
    let engine = Engine::apart();
    web(&engine, "first", &["-p", "8080:80"]);
    let run = |port: &str| engine.tare(["run", "--rm", "-p", port, BUSYBOX, "true"]).fails(125);
    for port in ["8080:80", "127.0.0.1:8080:80"] {
        let refused = run(port);
        assert!(refused.contains("port is already allocated by container first"), "{refused}");
    }
    engine.tare(["rename", "first", "renamed"]).ok();
    assert!(run("8080:80").contains("by container renamed"));
    let pid = engine.daemon_pid().to_string();
    let mut listen = Command::new("nsenter");
    listen.args(["--target", &pid, "--net", "--"]).arg(debs::busybox()).args(["httpd", "-f", "-p", "9000"]);
    let program = spawn(&mut listen);
    let named = tare_kit::wait::until(tare_kit::wait::PATIENCE, || {
        let ran = engine.tare(["run", "--rm", "-p", "9000:80", BUSYBOX, "true"]).run();
        (ran.code == 125).then(|| ran.err())
    });
    let named = named.expect("the port is taken");
    assert!(named.contains(&format!("(PID {})", program.0.id())), "{named}");
    drop(program);
    engine.tare(["run", "--rm", "-p", "9000:80", BUSYBOX, "true"]).ok();
    engine.tare(["rm", "-f", "renamed"]).ok();
    engine.tare(["run", "--rm", "-p", "8080:80", BUSYBOX, "true"]).ok();
}

#[test]
fn an_internal_network_leads_nowhere_and_answers_for_its_own_names_alone() {
    let engine = Engine::apart();
    let _neighbour = Neighbour::of(&engine);
    engine.tare(["network", "create", "--internal", "inner"]).ok();
    web(&engine, "one", &["--network", "inner"]);
    web(&engine, "two", &["--network", "inner"]);
    assert_eq!(reached(|| wget(&engine, "two", "http://one/")), "one");
    let sh = |script: &str| engine.tare(["exec", "two", "sh", "-c", script]);
    assert_eq!(sh("ip route | grep -c default").run().out(), "0");
    sh("ping -c 1 -W 1 192.0.2.2").fails(1);
    let asked = std::time::Instant::now();
    assert_ne!(sh("nslookup example.com").run().code, 0);
    assert!(asked.elapsed().as_secs() < 4, "it is refused, not forwarded: {:?}", asked.elapsed());
}

#[test]
fn containers_of_a_network_without_icc_reach_the_machine_and_not_one_another() {
    let engine = Engine::apart();
    let icc = "com.docker.network.bridge.enable_icc=false";
    engine.tare(["network", "create", "-o", icc, "apart"]).ok();
    web(&engine, "one", &["--network", "apart", "-p", "8080:80"]);
    web(&engine, "two", &["--network", "apart"]);
    assert_eq!(reached(|| from_outside(&engine, "http://127.0.0.1:8080/")), "one");
    assert_eq!(wget(&engine, "two", "http://one/"), None);
    engine.tare(["exec", "two", "ping", "-c", "1", "-W", "1", "one"]).fails(1);
}

#[test]
fn a_container_sends_from_its_own_address_alone() {
    let engine = Engine::apart();
    let create = ["network", "create", "--subnet", "10.66.0.0/24", "--ipv6=false", "front"];
    engine.tare(create).ok();
    web(&engine, "web", &["--network", "front"]);
    web(&engine, "liar", &["--network", "front", "--cap-add", "NET_ADMIN"]);
    assert_eq!(reached(|| wget(&engine, "liar", "http://web/")), "web");
    let sh = |script: &str| engine.tare(["exec", "liar", "sh", "-c", script]);
    assert_eq!(sh("ip -6 addr show eth0").ok(), "", "it has no IPv6");
    sh("ip addr add 10.66.0.77/24 dev eth0").ok();
    let at = engine.inspect("web")["NetworkSettings"]["Networks"]["front"]["IPAddress"].clone();
    let at = at.as_str().expect("an address");
    sh(&format!("ping -c 1 -W 3 {at}")).ok();
    sh(&format!("ping -c 1 -W 1 -I 10.66.0.77 {at}")).fails(1);
    sh("ip link set eth0 down; ip link set eth0 address 02:42:00:00:00:77; ip link set eth0 up").ok();
    sh(&format!("ping -c 1 -W 1 {at}")).fails(1);
}
