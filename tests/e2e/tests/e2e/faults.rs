//! Networks that go wrong on purpose: cut off, slowed down, mended, by hand, in time and over the daemon's end.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tare_kit::engine::BUSYBOX;
use tare_kit::{Engine, wait};

use crate::networks::{reached, web, wget};

/// An engine with a network, and web servers on it.
fn room(names: &[&str]) -> Engine {
    let engine = Engine::apart();
    engine.tare(["network", "create", "front"]).ok();
    for name in names {
        web(&engine, name, &["--network", "front"]);
    }
    engine
}

#[track_caller]
fn fault(engine: &Engine, words: &[&str]) -> String {
    engine.tare([&["network", "fault", "add"], words].concat()).ok()
}

/// One gets an answer of another, within a second.
fn gets(engine: &Engine, from: &str, to: &str) -> bool {
    let get = ["exec", from, "timeout", "1", "wget", "-q", "-O", "-"];
    engine.tare([&get[..], &[&format!("http://{to}/")]].concat()).run().code == 0
}

#[track_caller]
fn come_together(engine: &Engine, from: &str, to: &str) {
    assert_eq!(reached(|| wget(engine, from, &format!("http://{to}/"))), to);
}

fn shown(engine: &Engine, container: &str) -> Value {
    engine.inspect(container)["Tare"]["Faults"].clone()
}

#[test]
fn who_is_cut_off_is_from_open_connections_too_until_that_is_mended() {
    let mut engine = room(&["one", "two", "third"]);
    // Somebody counts on a connection that stays open all the time.
    engine.tare(["exec", "-d", "two", "sh", "-c", "sleep 1000 | nc -l -p 7000 >/got"]).ok();
    let talk = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.1; done | nc two 7000";
    wait::pause(Duration::from_millis(200));
    engine.tare(["exec", "-d", "one", "sh", "-c", talk]).ok();
    let got = |engine: &Engine| {
        let size = engine.tare(["exec", "two", "sh", "-c", "wc -c </got"]).ok();
        size.trim().parse::<u64>().expect("a number")
    };
    wait::until(wait::PATIENCE, || (got(&engine) > 0).then_some(())).expect("the connection is there");
    let id = fault(&engine, &["--partition", "two", "one"]);
    assert!(!gets(&engine, "one", "two") && !gets(&engine, "two", "one"));
    assert!(gets(&engine, "one", "third") && gets(&engine, "third", "two"));
    let before = got(&engine);
    wait::pause(Duration::from_millis(600));
    assert_eq!(got(&engine), before, "nothing comes by the open connection");
    let faults = shown(&engine, "one");
    assert_eq!(
        (&faults[0]["Partition"], faults[0]["Id"].as_str().unwrap().get(..12)),
        (&json!(["container:two"]), Some(&*id))
    );
    engine.tare(["network", "fault", "rm", &id]).ok();
    assert_eq!(shown(&engine, "one"), Value::Null);
    come_together(&engine, "two", "one");
    let goes_on = || (got(&engine) > before).then_some(());
    wait::until(wait::PATIENCE, goes_on).expect("the open connection goes on");
    let id = fault(&engine, &["--partition", "two", "one"]);
    engine.kill_daemon();
    engine.start_daemon();
    assert!(!gets(&engine, "one", "two"), "it outlives the daemon");
    let list = engine.tare(["network", "fault", "ls"]).ok();
    assert!(list.contains(&id) && list.contains("partition two"), "{list}");
    engine.tare(["network", "fault", "rm", &id]).ok();
    come_together(&engine, "two", "one");
    let gone = engine.tare(["network", "fault", "rm", &id]).fails(1);
    assert!(gone.contains("no such network fault"), "{gone}");
}

#[test]
fn a_peer_stays_cut_off_when_it_is_started_again_and_all_ends_with_the_run() {
    let engine = room(&["one", "two"]);
    fault(&engine, &["--partition", "container:two", "one"]);
    engine.tare(["restart", "-t", "0", "two"]).ok();
    engine.wait_for_log("two", "up");
    // Not even what is sent to all, and not by the address that nobody had before.
    assert!(!gets(&engine, "one", "two") && !gets(&engine, "two", "one"));
    engine.tare(["restart", "-t", "0", "one"]).ok();
    assert_eq!(engine.tare(["network", "fault", "ls", "-q"]).ok(), "");
    come_together(&engine, "one", "two");
}

#[test]
fn a_network_is_as_if_the_cable_had_been_pulled() {
    let engine = room(&["one", "two"]);
    engine.tare(["network", "create", "back"]).ok();
    web(&engine, "db", &["--network", "back"]);
    engine.tare(["network", "connect", "back", "one"]).ok();
    come_together(&engine, "one", "db");
    fault(&engine, &["--partition", "front", "one"]);
    assert!(!gets(&engine, "one", "two") && !gets(&engine, "two", "one"));
    let gateway = "ping -c 1 -W 1 $(ip route | awk '/src/ && /eth0/ {print $9}' | sed 's/[0-9]*$/1/')";
    engine.tare(["exec", "one", "sh", "-c", gateway]).fails(1);
    assert!(gets(&engine, "one", "db"), "the other network goes on");
    let again = engine.tare(["network", "fault", "rm", "--container", "one"]).ok();
    assert_eq!(again.len(), 12, "{again}");
    come_together(&engine, "one", "two");
}

#[test]
fn a_fault_ends_in_its_time_with_or_without_a_daemon() {
    let mut engine = room(&["one", "two"]);
    let began = Instant::now();
    fault(&engine, &["--partition", "two", "--for", "1s", "one"]);
    assert!(shown(&engine, "one")[0]["Until"].is_string());
    come_together(&engine, "one", "two");
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(shown(&engine, "one"), Value::Null);
    fault(&engine, &["--partition", "two", "--for", "1s", "one"]);
    engine.kill_daemon();
    wait::pause(Duration::from_millis(1200));
    engine.start_daemon();
    come_together(&engine, "one", "two");
    let ended = || (shown(&engine, "one") == Value::Null).then_some(());
    wait::until(wait::PATIENCE, ended).expect("it is not forgotten");
    let events = engine.tare(["events", "--since", "0", "--until", "0s", "--format", "{{.Action}}"]).ok();
    assert!(events.lines().any(|line| line == "fault_remove"), "{events}");
}

/// The least time of a few pings, in milliseconds: the first one asks for a neighbour too, and a machine may be busy.
#[track_caller]
fn ping(engine: &Engine, from: &str, to: &str) -> f64 {
    let said = engine.tare(["exec", from, "ping", "-c", "4", "-i", "0.2", "-q", to]).ok();
    let least = said.rsplit_once(" = ").and_then(|(_, times)| times.split('/').next()).expect(&said);
    least.parse().expect("a number")
}

#[test]
fn packets_are_delayed_and_lost_where_the_kernel_can_and_it_is_said_where_not() {
    let mut engine = room(&["one", "two"]);
    let add = ["network", "fault", "add", "--latency", "100ms", "--jitter", "5ms", "one"];
    let added = engine.tare(add).run();
    if added.code != 0 {
        let why = added.err();
        assert!(why.contains("CONFIG_NET_SCH_NETEM") && why.contains("lacks"), "{why}");
        assert_eq!(shown(&engine, "one"), Value::Null, "nothing is left of it");
        eprintln!("step aside: {why}");
        return;
    }
    let near = |measured: f64, wanted: f64| {
        assert!((measured - wanted).abs() < 40.0, "{measured} ms, not {wanted}");
    };
    near(ping(&engine, "two", "one"), 200.0);
    near(ping(&engine, "one", "two"), 200.0);
    let twice = engine.tare(["network", "fault", "add", "--loss", "5%", "one"]).fails(1);
    assert!(twice.contains("spoils the same packets"), "{twice}");
    engine.kill_daemon();
    engine.start_daemon();
    near(ping(&engine, "two", "one"), 200.0);
    engine.tare(["update", "--network-rate", "in=1MB,out=1MB", "one"]).ok();
    near(ping(&engine, "two", "one"), 200.0);
    engine.tare(["network", "fault", "rm", "--all"]).ok();
    assert!(ping(&engine, "two", "one") < 50.0);
    fault(&engine, &["--latency", "100ms", "--direction", "in", "--for", "3s", "one"]);
    near(ping(&engine, "two", "one"), 100.0);
    wait::until(wait::PATIENCE, || (shown(&engine, "one") == Value::Null).then_some(())).expect("it ends");
    assert!(ping(&engine, "two", "one") < 50.0);
    fault(&engine, &["--loss", "100%", "--network", "front", "one"]);
    assert!(!gets(&engine, "two", "one"));
    engine.tare(["network", "disconnect", "front", "one"]).ok();
    assert_eq!(shown(&engine, "one"), Value::Null, "it was of that network alone");
}

#[test]
fn what_cannot_go_wrong_is_refused_by_name() {
    let engine = room(&["one"]);
    engine.tare(["create", "--name", "still", "--network", "front", BUSYBOX, "true"]).ok();
    engine.tare(["run", "-d", "--name", "other", BUSYBOX, "sleep", "1000"]).ok();
    engine.tare(["run", "-d", "--name", "host", "--network", "host", BUSYBOX, "sleep", "1000"]).ok();
    for (words, why) in [
        (&["one"][..], "nothing is to go wrong"),
        (&["--partition", "one", "one"], "itself"),
        (&["--partition", "other", "one"], "no network in common"),
        (&["--partition", "bridge", "one"], "no network in common"),
        (&["--partition", "nobody", "one"], "no container and no network"),
        (&["--jitter", "1s", "one"], "jitter"),
        (&["--reorder", "1%", "one"], "reorder"),
        (&["--partition", "one", "--direction", "in", "other"], "no network in common"),
        (&["--loss", "1%", "still"], "not running"),
        (&["--loss", "1%", "host"], "no network of its own"),
        (&["--loss", "1%", "--network", "bridge", "one"], "not connected"),
        (&["--loss", "1%", "nobody"], "No such container"),
    ] {
        let said = engine.tare([&["network", "fault", "add"], words].concat()).fails(1);
        assert!(said.contains(why), "{words:?}: {said}");
    }
    let body = json!({"Weather": 1});
    assert_eq!(engine.post("/containers/one/faults", &body).status, 400);
}
