//! Networks as a user has them: made, joined, reached by name, published, left, removed.

use serde_json::json;
use tare_kit::cmd::Cmd;
use tare_kit::engine::BUSYBOX;
use tare_kit::{Engine, debs, wait};

use crate::{lines, ours};

/// A web server that says who it is.
const SERVE: &str = "mkdir /www; hostname >/www/index.html; echo up; exec httpd -f -p 80 -h /www";

/// What comes before an address; Debian's `wget -T` of busybox 1.35 crashes.
pub(crate) const WGET: [&str; 6] = ["timeout", "3", "wget", "-q", "-O", "-"];

/// Starts a web server in the background.
#[track_caller]
pub(crate) fn web(engine: &Engine, name: &str, flags: &[&str]) {
    let start = ["run", "-d", "--name", name, "--hostname", name];
    engine.tare([&start, flags, &[BUSYBOX, "sh", "-c", SERVE]].concat()).ok();
    engine.wait_for_log(name, "up");
}

/// `wget` in a container; what it got, nothing if it could not.
pub(crate) fn wget(engine: &Engine, container: &str, url: &str) -> Option<String> {
    let got = engine.tare([&["exec", container], &WGET[..], &[url]].concat()).run();
    (got.code == 0).then(|| got.out())
}

/// `wget` on the machine.
pub(crate) fn from_outside(engine: &Engine, url: &str) -> Option<String> {
    let busybox = debs::busybox();
    let words = WGET.iter().copied().chain([url]).map(std::ffi::OsStr::new);
    let got = engine.outside([busybox.as_os_str()].into_iter().chain(words)).run();
    (got.code == 0).then(|| got.out())
}

/// The same once it works; a server may need a moment.
#[track_caller]
pub(crate) fn reached(look: impl Fn() -> Option<String>) -> String {
    wait::until(wait::PATIENCE, &look).expect("it is reached")
}

fn format(engine: &Engine, args: &[&str]) -> String {
    engine.tare(args).ok()
}

#[test]
fn containers_of_one_network_find_each_other_by_name_and_alias() {
    let engine = Engine::apart();
    let id = format(&engine, &["network", "create", "front"]);
    assert_eq!(id.len(), 64, "{id}");
    web(&engine, "one", &["--network", "front", "--network-alias", "www"]);
    web(&engine, "two", &["--network", "front"]);
    assert_eq!(reached(|| wget(&engine, "two", "http://one/")), "one");
    assert_eq!(reached(|| wget(&engine, "two", "http://www/")), "one");
    assert_eq!(reached(|| wget(&engine, "one", "http://two/")), "two");
    let address = format(&engine, &["inspect", "-f", "{{.NetworkSettings.Networks.front.IPAddress}}", "one"]);
    let looked = engine.tare(["exec", "two", "nslookup", "one"]).ok();
    assert!(looked.contains(&address), "{address}: {looked}");
    engine.tare(["exec", "two", "ping", "-c", "1", "-W", "3", "one"]).ok();
    assert_eq!(wget(&engine, "two", "http://nobody/"), None);
}

#[test]
fn programs_of_the_host_find_containers_by_name() {
    let mut engine = Engine::apart_on("true", &["--host-dns", "127.0.0.55"]);
    engine.tare(["network", "create", "shop"]).ok();
    web(&engine, "web", &["--network", "shop"]);
    web(&engine, "plain", &[]);
    let busybox = debs::busybox();
    let ask = |engine: &Engine, name: &str| {
        let words = ["nslookup", name, "127.0.0.55"].map(std::ffi::OsStr::new);
        engine.outside([busybox.as_os_str()].into_iter().chain(words)).run().out()
    };
    let is = |engine: &Engine, name: &str, network: &str| {
        let path = format!("{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}");
        format(engine, &["inspect", "-f", &path, name])
    };
    assert!(ask(&engine, "web.shop.tare.internal").contains(&is(&engine, "web", "shop")));
    assert!(ask(&engine, "plain.tare.internal").contains(&is(&engine, "plain", "bridge")));
    engine.kill_daemon();
    engine.start_daemon();
    let found = ask(&engine, "web.tare.internal");
    assert!(found.contains(&is(&engine, "web", "shop")), "{found}");
    assert!(ask(&engine, "debian.org").contains("REFUSED"));
}

#[test]
fn networks_are_apart_and_a_connected_container_is_on_both() {
    let engine = Engine::apart();
    for name in ["front", "back"] {
        engine.tare(["network", "create", name]).ok();
    }
    web(&engine, "db", &["--network", "back"]);
    web(&engine, "app", &["--network", "front"]);
    let address = format(&engine, &["inspect", "-f", "{{.NetworkSettings.Networks.back.IPAddress}}", "db"]);
    assert_eq!(wget(&engine, "app", "http://db/"), None);
    assert_eq!(wget(&engine, "app", &format!("http://{address}/")), None, "not by address either");
    engine.tare(["network", "connect", "--alias", "client", "back", "app"]).ok();
    assert_eq!(reached(|| wget(&engine, "app", "http://db/")), "db");
    assert_eq!(reached(|| wget(&engine, "db", "http://client/")), "app");
    let again = engine.tare(["network", "connect", "back", "app"]).fails(1);
    assert!(again.contains("already exists in network back"), "{again}");
    engine.tare(["network", "disconnect", "back", "app"]).ok();
    assert_eq!(wget(&engine, "app", "http://db/"), None);
    let gone = engine.tare(["network", "disconnect", "back", "app"]).fails(1);
    assert!(gone.contains("not connected to"), "{gone}");
}

#[test]
fn published_ports_are_reached_from_the_machine_and_shown() {
    let engine = Engine::apart();
    web(&engine, "web", &["-p", "8080:80", "-p", "127.0.0.1:8081:80", "--expose", "9/udp"]);
    assert_eq!(reached(|| from_outside(&engine, "http://127.0.0.1:8080/")), "web");
    assert_eq!(reached(|| from_outside(&engine, "http://127.0.0.1:8081/")), "web");
    let all = format(&engine, &["port", "web"]);
    assert!(lines(&all).contains(&"80/tcp -> 0.0.0.0:8080"), "{all}");
    assert!(lines(&all).contains(&"80/tcp -> 127.0.0.1:8081"), "{all}");
    assert!(lines(&format(&engine, &["port", "web", "80"])).contains(&"0.0.0.0:8080"));
    let none = engine.tare(["port", "web", "443"]).fails(1);
    assert!(none.to_lowercase().contains("no public port '443/tcp' published for web"), "{none}");
    let column = format(&engine, &["ps", "--format", "{{.Ports}}"]);
    assert!(column.contains("0.0.0.0:8080->80/tcp") && column.contains("9/udp"), "{column}");
    for (filter, count) in
        [("publish=8080", 1), ("publish=80", 0), ("expose=9/udp", 1), ("network=bridge", 1)]
    {
        let found = format(&engine, &["ps", "-q", "--filter", filter]);
        assert_eq!(lines(&found).len(), count, "{filter}");
    }
    engine.tare(["stop", "-t", "0", "web"]).ok();
    assert_eq!(from_outside(&engine, "http://127.0.0.1:8080/"), None);
    assert_eq!(engine.inspect("web")["NetworkSettings"]["Ports"], json!({}));
}

#[test]
fn ports_without_a_number_and_ranges_get_free_ones() {
    let engine = Engine::apart();
    web(&engine, "one", &["-P", "--expose", "80"]);
    web(&engine, "two", &["-p", "8000-8001:80"]);
    web(&engine, "three", &["-p", "8000-8001:80"]);
    for name in ["one", "two", "three"] {
        let shown = format(&engine, &["port", name, "80/tcp"]);
        let port = lines(&shown)[0].rsplit_once(':').expect("a port").1.to_owned();
        assert_eq!(reached(|| from_outside(&engine, &format!("http://127.0.0.1:{port}/"))), name);
    }
    let full = engine.tare(["run", "--rm", "-p", "8000-8001:80", BUSYBOX, "true"]).run();
    assert_eq!(full.code, 125, "{full}");
}

#[test]
fn exposed_ports_are_published_again_by_who_comes_back() {
    let engine = Engine::apart();
    web(&engine, "web", &["-P", "--expose", "80"]);
    engine.tare(["network", "disconnect", "bridge", "web"]).ok();
    assert_eq!(format(&engine, &["port", "web"]), "");
    engine.tare(["network", "connect", "bridge", "web"]).ok();
    let shown = format(&engine, &["port", "web", "80/tcp"]);
    let port = lines(&shown)[0].rsplit_once(':').expect("a port").1.to_owned();
    assert_eq!(reached(|| from_outside(&engine, &format!("http://127.0.0.1:{port}/"))), "web");
}

#[test]
fn ports_are_published_and_taken_back_live() {
    if !ours() {
        return;
    }
    let engine = Engine::apart();
    web(&engine, "web", &[]);
    assert_eq!(format(&engine, &["port", "web"]), "");
    let added = format(&engine, &["port", "add", "web", "127.0.0.1:8080:80"]);
    assert_eq!(added, "80/tcp -> 127.0.0.1:8080");
    assert_eq!(reached(|| from_outside(&engine, "http://127.0.0.1:8080/")), "web");
    let bindings = &engine.inspect("web")["HostConfig"]["PortBindings"];
    assert_eq!(*bindings, json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}));
    engine.tare(["restart", "-t", "0", "web"]).ok();
    assert_eq!(reached(|| from_outside(&engine, "http://127.0.0.1:8080/")), "web", "it is durable");
    assert_eq!(format(&engine, &["port", "rm", "web", "80"]), "");
    assert_eq!(from_outside(&engine, "http://127.0.0.1:8080/"), None);
    engine.tare(["port", "rm", "web", "80"]).fails(1);
}

#[test]
fn networks_are_listed_inspected_removed_and_pruned() {
    let engine = Engine::apart();
    let made = [
        "network",
        "create",
        "--subnet",
        "10.123.0.0/16",
        "--gateway",
        "10.123.0.1",
        "--label",
        "tier=1",
        "front",
    ];
    let id = format(&engine, &made);
    engine.tare(["network", "create", "--internal", "spare"]).ok();
    let names = format(&engine, &["network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"]);
    for line in [
        "bridge bridge local",
        "front bridge local",
        "host host local",
        "none null local",
        "spare bridge local",
    ] {
        assert!(lines(&names).contains(&line), "{line}: {names}");
    }
    assert_eq!(format(&engine, &["network", "ls", "-q", "--no-trunc", "--filter", "name=front"]), id);
    assert_eq!(format(&engine, &["network", "ls", "-q", "--filter", "label=tier=1"]), id[..12]);
    let taken = engine.tare(["network", "create", "front"]).fails(1);
    assert!(taken.contains("network with name front already exists"), "{taken}");
    web(&engine, "web", &["--network", "front", "--ip", "10.123.0.77", "--mac-address", "02:42:0a:7b:00:4d"]);
    let shown = format(
        &engine,
        &[
            "network",
            "inspect",
            "-f",
            "{{range .Containers}}{{.Name}} {{.IPv4Address}} {{.MacAddress}}{{end}}",
            &id[..12],
        ],
    );
    assert_eq!(shown, "web 10.123.0.77/16 02:42:0a:7b:00:4d");
    let subnet = "{{range .IPAM.Config}}{{.Subnet}} {{.Gateway}};{{end}}";
    assert!(
        format(&engine, &["network", "inspect", "-f", subnet, "front"])
            .starts_with("10.123.0.0/16 10.123.0.1;")
    );
    let used = engine.tare(["network", "rm", "front"]).fails(1);
    assert!(used.contains("has active endpoints"), "{used}");
    let fixed = engine.tare(["network", "rm", "bridge"]).fails(1);
    assert!(fixed.contains("bridge is a pre-defined network and cannot be removed"), "{fixed}");
    let pruned = format(&engine, &["network", "prune", "-f"]);
    assert_eq!(lines(&pruned), ["Deleted Networks:", "spare"]);
    engine.tare(["rm", "-f", "web"]).ok();
    assert_eq!(format(&engine, &["network", "rm", "front"]), "front");
    let missing = engine.tare(["network", "inspect", "front"]).fails(1);
    assert!(missing.contains("network front not found"), "{missing}");
}

#[test]
fn a_shared_network_is_the_other_containers() {
    let engine = Engine::apart();
    web(&engine, "web", &["-p", "8080:80"]);
    let same = engine.tare([
        "run",
        "--rm",
        "--network",
        "container:web",
        BUSYBOX,
        "wget",
        "-q",
        "-O",
        "-",
        "http://127.0.0.1/",
    ]);
    assert_eq!(same.ok(), "web");
    let refused =
        engine.tare(["run", "--rm", "--network", "container:web", "-p", "81:81", BUSYBOX, "true"]).fails(125);
    assert!(
        refused.contains("conflicting options: port publishing and the container type network mode"),
        "{refused}"
    );
    let host = engine.tare(["run", "--rm", "--network", "host", "-p", "81:81", BUSYBOX, "true"]).run();
    assert_eq!(host.code, 0, "{host}");
    assert!(host.err().contains("Published ports are discarded when using host network mode"), "{host}");
}

/// A connection with bytes still to be sent outlives its program, and its namespace with it: for minutes the address of a
/// container that is gone was answered for.
#[test]
fn a_container_is_off_the_network_when_it_has_ended_whatever_it_had_still_to_send() {
    let engine = Engine::apart();
    let send = "yes | nc -l -p 80";
    engine.tare(["run", "-d", "--name", "talks", BUSYBOX, "sh", "-c", send]).ok();
    let address =
        format(&engine, &["inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "talks"]);
    let to = format!("{address}:80");
    let connect = || wait::until(wait::PATIENCE, || std::net::TcpStream::connect(&to).ok());
    let listener = engine.space().inside(connect).expect("a connection");
    let is_stuck = || {
        let queues = engine.tare(["exec", "talks", "cat", "/proc/net/tcp", "/proc/net/tcp6"]).ok();
        queues
            .lines()
            .any(|line| line.contains(":0050 ") && line.contains(" 01 ") && !line.contains(" 01 00000000:"))
            .then_some(())
    };
    wait::until(wait::PATIENCE, is_stuck).expect("bytes that nobody reads");
    engine.tare(["rm", "-f", "talks"]).ok();
    let links = || engine.space().sh("ip -o link");
    let gone = wait::until(wait::PATIENCE, || (!links().contains("tare container")).then_some(()));
    assert!(gone.is_some(), "{}", links());
    drop(listener);
}

#[test]
fn what_happens_to_networks_is_told() {
    let engine = Engine::apart();
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().to_string();
    engine.tare(["network", "create", "front"]).ok();
    engine.tare(["run", "--rm", "--network", "front", BUSYBOX, "true"]).ok();
    engine.tare(["network", "rm", "front"]).ok();
    let told = wait::until(wait::PATIENCE, || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 1;
        let words = [
            "events",
            "--since",
            &since,
            "--until",
            &now.to_string(),
            "--filter",
            "type=network",
            "--format",
            "{{.Action}} {{.Actor.Attributes.name}}",
        ]
        .map(str::to_owned);
        let seen = engine.tare(words).ok();
        (lines(&seen) == ["create front", "connect front", "disconnect front", "destroy front"]).then_some(())
    });
    assert!(told.is_some());
}

#[test]
fn the_stock_client_has_networks_and_ports() {
    let engine = Engine::apart();
    let docker = |args: &[&str]| -> Cmd { engine.docker(args) };
    assert_eq!(docker(&["network", "create", "-d", "bridge", "--internal=false", "front"]).ok().len(), 64);
    let serve = [
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "front",
        "--network-alias",
        "www",
        "-p",
        "127.0.0.1:8080:80",
        BUSYBOX,
        "sh",
        "-c",
        SERVE,
    ];
    docker(&serve).ok();
    engine.wait_for_log("web", "up");
    let url = "http://www/";
    let look = [&["run", "--rm", "--network", "front", BUSYBOX], &WGET[..], &[url]].concat();
    let got = docker(&look).ok();
    assert_eq!(got.len(), 12, "the host name is the short id: {got}");
    assert_eq!(reached(|| from_outside(&engine, "http://127.0.0.1:8080/")), got);
    assert_eq!(docker(&["port", "web", "80"]).ok(), "127.0.0.1:8080");
    assert!(
        docker(&["ps", "--format", "{{.Ports}} {{.Networks}}"]).ok().contains("127.0.0.1:8080->80/tcp front")
    );
    docker(&["network", "create", "back"]).ok();
    docker(&["network", "connect", "--alias", "db", "back", "web"]).ok();
    let on = docker(&[
        "inspect",
        "-f",
        "{{range $name, $n := .NetworkSettings.Networks}}{{$name}} {{end}}",
        "web",
    ])
    .ok();
    assert_eq!(on.trim_end(), "back front");
    docker(&["network", "disconnect", "back", "web"]).ok();
    assert!(docker(&["network", "prune", "-f"]).ok().contains("back"));
    docker(&["rm", "-f", "web"]).ok();
    assert_eq!(docker(&["network", "rm", "front"]).ok(), "front");
}
