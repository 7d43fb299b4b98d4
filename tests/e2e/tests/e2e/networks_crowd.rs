//! Many containers on a network, many that come and go, and machines where others were first.
//!
//! Each has a small size, which always runs, and some a large one: `cargo test -p tare-e2e --test e2e -- --ignored crowd`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tare_kit::cmd::Cmd;
use tare_kit::engine::BUSYBOX;
use tare_kit::{Engine, debs, wait};

use crate::{lines, ours};

/// Calls side by side: more than there are processors, since most of a call is waiting.
const HANDS: usize = 8;
const NETWORK: &str = "crowd";

/// Does something for each number below `count`, on several threads.
fn each(count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..HANDS {
            scope.spawn(|| {
                while let Some(number) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < count) {
                    work(number);
                }
            });
        }
    });
}

fn start(engine: &Engine, name: &str, command: &Value) -> String {
    let host = json!({"NetworkMode": NETWORK});
    let config = json!({"Image": BUSYBOX, "Hostname": name, "Cmd": command, "HostConfig": host});
    let made = engine.post(&format!("/containers/create?name={name}"), &config).expect(201);
    let id = made["Id"].as_str().expect("an id").to_owned();
    engine.post(&format!("/containers/{id}/start"), &Value::Null).expect(204);
    id
}

/// One of the crowd that others look for: it serves its own name.
struct Known {
    name: String,
    addresses: [String; 2],
}

// === impl Known ===

impl Known {
    fn of(engine: &Engine, id: &str) -> Self {
        let told = engine.get(&format!("/containers/{id}/json")).expect(200);
        let on = &told["NetworkSettings"]["Networks"][NETWORK];
        let word = |value: &Value| value.as_str().expect("a word").to_owned();
        Self {
            name: word(&told["Config"]["Hostname"]),
            addresses: [word(&on["IPAddress"]), word(&on["GlobalIPv6Address"])],
        }
    }

    /// Words of a shell that tell what of this one does not work.
    fn check(&self) -> String {
        let Self { name, addresses: [four, six] } = self;
        format!(
            "get() {{ timeout 5 wget -q -O - http://$1/hostname; }}\n\
             told=$(nslookup {name}); case \"$told\" in *{four}*) ;; *) echo no {four} of {name} in $told ;; esac\n\
             case \"$told\" in *{six}*) ;; *) echo no {six} of {name} in $told ;; esac\n\
             for family in 4 6; do ping -$family -c 1 -W 5 {name} >/dev/null || echo no ping -$family of {name}; done\n\
             for at in {four} [{six}] {name}; do\n\
             # A server that was started just now may need a moment.\n\
             said=$(get $at || {{ sleep 1; get $at; }})\n\
             [ \"$said\" = {name} ] || echo \"{name} at $at says '$said'\"\ndone\n"
        )
    }
}

/// Of each bridge that the network is made of a first one, a middle one and a last one.
fn known(engine: &Engine, size: usize) -> Vec<Known> {
    let told = engine.outside(["ip", "-d", "-o", "link"]).ok();
    let mut on: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in told.lines() {
        let after = |word: &str| line.split_once(word)?.1.split_whitespace().next();
        if let (Some(bridge), Some(id)) = (after(" master "), after("alias tare container ")) {
            on.entry(bridge).or_default().push(id);
        }
    }
    assert_eq!(on.values().map(Vec::len).sum::<usize>(), size, "containers on bridges");
    assert_eq!(on.len(), 1 + size.saturating_sub(960).div_ceil(1022), "{:?}", on.keys());
    on.values()
        .flat_map(|ids| BTreeSet::from([0, ids.len() / 2, ids.len() - 1]).into_iter().map(|at| ids[at]))
        .map(|id| Known::of(engine, id))
        .collect()
}

/// All of these find and reach each other, by both families, by name and by address, and find everybody's name.
fn reach(engine: &Engine, size: usize, known: &[Known]) {
    let checks: Vec<String> = known.iter().map(Known::check).collect();
    each(known.len(), |at| {
        let (me, names) = (&known[at].name, format!("seq {at} {} {}", known.len(), size - 1));
        let others: String =
            checks.iter().enumerate().filter(|(to, _)| *to != at).map(|(_, c)| c.as_str()).collect();
        let all = format!("for n in $({names}); do nslookup c$n >/dev/null || echo no c$n; done\n");
        let wrong = engine.tare(["exec", me, "sh", "-c", &format!("{others}{all}")]).ok();
        assert_eq!(wrong, "", "seen by {me}");
    });
}

/// Starts so many on one network: some on each of its bridges find and reach each other, also after the daemon was killed.
fn crowd(size: usize) {
    let mut engine = Engine::apart();
    let mut since = Instant::now();
    let mut took = |what: &str| {
        eprintln!(
            "{size} containers: {what} took {:?}",
            std::mem::replace(&mut since, Instant::now()).elapsed()
        );
    };
    engine.tare(["network", "create", "--subnet", "10.200.0.0/16", NETWORK]).ok();
    let serve = json!(["httpd", "-f", "-p", "80", "-h", "/etc"]);
    each(size, |number| drop(start(&engine, &format!("c{number}"), &serve)));
    took("all starts");
    let known = known(&engine, size);
    reach(&engine, size, &known);
    took("to reach each other");
    engine.kill_daemon();
    took("to end the daemon");
    engine.start_daemon();
    took("a new daemon");
    reach(&engine, size, &known);
    took("to reach each other again");
    let said = engine.log();
    assert!(!said.contains("changed this engine's firewall"), "nobody did: {said}");
    each(size, |number| {
        engine.request("DELETE", &format!("/containers/c{number}?force=1"), None).expect(204);
    });
    took("to remove all");
    // One that finds nothing running takes away what the one before has left.
    engine.kill_daemon();
    engine.start_daemon();
    engine.stop_daemon();
    let left = engine.outside(["ip", "-br", "link"]).ok();
    assert!(lines(&left).iter().all(|link| link.starts_with("lo ")), "{left}");
    assert_eq!(nft(&engine, &["list", "ruleset"]).ok(), "");
    took("what is left to do");
}

#[test]
fn a_crowd_on_one_network_finds_and_reaches_each_other() {
    crowd(60);
}

#[test]
#[ignore = "2,100 containers: two minutes"]
fn a_crowd_of_two_thousand_finds_and_reaches_each_other() {
    crowd(2100);
}

/// What the machine has of networks and the daemon of descriptors.
#[derive(Debug, PartialEq, Eq)]
struct Inventory {
    links: BTreeSet<String>,
    addresses: BTreeSet<String>,
    elements: usize,
    descriptors: usize,
    mounts: usize,
    directories: usize,
}

fn entries(dir: &Path) -> usize {
    std::fs::read_dir(dir).map_or(0, |dir| dir.flatten().count())
}

fn nft(engine: &Engine, args: &[&str]) -> Cmd {
    let root = debs::unpacked("nftables", &["nftables"]);
    let program = debs::find(&root, "nft").expect("the package has its program");
    let libraries = root.join("usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    let words = [program.as_os_str()].into_iter().chain(args.iter().map(std::ffi::OsStr::new));
    engine.outside(words).env("LD_LIBRARY_PATH", libraries)
}

fn inventory(engine: &Engine) -> Inventory {
    // Of a bridge without ports the state wavers.
    let set = |args: &[&str], says: fn(&str) -> bool| -> BTreeSet<String> {
        let told = engine.outside(args).ok();
        told.lines()
            .flat_map(|line| line.split_whitespace().filter(|word| says(word)))
            .map(str::to_owned)
            .collect()
    };
    let proc = PathBuf::from(format!("/proc/{}", engine.daemon_pid()));
    let mounts = std::fs::read_to_string(proc.join("mountinfo")).expect("mounts of the daemon");
    Inventory {
        links: set(&["ip", "-o", "link"], |word| word.ends_with(':')),
        addresses: set(&["ip", "-o", "address"], |word| word.contains('/')),
        elements: nft(engine, &["list", "ruleset"]).ok().matches("\"tv").count(),
        descriptors: entries(&proc.join("fd")),
        mounts: mounts.lines().count(),
        directories: entries(&engine.root().join("containers"))
            + entries(&engine.run_dir().join("containers")),
    }
}

fn cycle(engine: &Engine, number: usize) {
    let id = start(engine, &format!("c{number}"), &json!(["true"]));
    engine.post(&format!("/containers/{id}/wait"), &Value::Null).expect(200);
    engine.request("DELETE", &format!("/containers/{id}"), None).expect(204);
}

/// Creates, starts and removes so many.
fn cycles(count: usize) {
    let engine = Engine::apart();
    engine.tare(["network", "create", NETWORK]).ok();
    // Sockets and threads that are kept for the next are there afterwards.
    each(20, |number| cycle(&engine, number));
    let settled = || {
        let mut last = inventory(&engine);
        wait::until(wait::PATIENCE, || {
            wait::pause(Duration::from_millis(500));
            let before = std::mem::replace(&mut last, inventory(&engine));
            (before == last && last.elements == 0).then_some(())
        });
        last
    };
    let before = settled();
    each(count, |number| cycle(&engine, number));
    let after = settled();
    // Of sockets for the kernel's links up to eight are kept.
    assert!(after.descriptors <= before.descriptors + 8, "{before:?}\n{after:?}");
    assert_eq!(Inventory { descriptors: 0, ..after }, Inventory { descriptors: 0, ..before });
}

#[test]
fn containers_that_come_and_go_leave_nothing() {
    if ours() {
        cycles(100);
    }
}

#[test]
#[ignore = "5,000 containers: two minutes and a half"]
fn a_crowd_of_five_thousand_that_come_and_go_leaves_nothing() {
    cycles(5000);
}

/// Links, addresses, routes and rules of others, which tare's could be taken for or lie over.
const OTHERS: &str = "\
    ip link add docker0 type bridge; ip address add 172.17.0.1/16 dev docker0; ip link set docker0 up; \
    ip link add vpn type veth peer name far; ip link set vpn up; ip link set far up; ip route add 10.0.0.0/8 dev vpn; ip route add 172.18.0.0/15 dev vpn; \
    ip link add tare0 type bridge; ip link add tv0000000000000 type bridge; ip link add br-taken type bridge";

#[test]
fn a_machine_where_others_were_first_keeps_what_it_has() {
    if !ours() {
        return;
    }
    let engine = Engine::apart_on(OTHERS, &["--bridge", "tare0"]);
    let rules = "table inet mine {\nchain forward {\ntype filter hook forward priority 0; policy accept;\ncounter\n}\n}\n";
    nft(&engine, &["add", "table", "inet", "tare"]).ok();
    nft(&engine, &["-f", "-"]).input(rules).ok();
    let list =
        || nft(&engine, &["list", "table", "inet", "mine"]).ok().replace(|c: char| c.is_ascii_digit(), "");
    let (links, mine) = (engine.outside(["ip", "-br", "link"]).ok(), list());
    // The name of the default network's bridge is taken by somebody: that is said, and others work.
    let taken = engine.tare(["run", "--rm", BUSYBOX, "true"]).run();
    assert_ne!(taken.code, 0, "{taken}");
    assert!(taken.err().contains("tare0 exists and is not this network's"), "{taken}");
    let taken =
        engine.tare(["network", "create", "-o", "com.docker.network.bridge.name=br-taken", "other"]).fails(1);
    assert!(taken.contains("br-taken exists and is not this network's"), "{taken}");
    let shadow = engine.tare(["network", "create", "--subnet", "10.9.0.0/16", "asked"]).run();
    assert!(shadow.code == 0 && shadow.err().contains("10.0.0.0/8"), "{shadow}");
    for name in ["one", "two", "three"] {
        engine.tare(["network", "create", name]).ok();
        let subnet =
            engine.tare(["network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", name]).ok();
        let clear = ["172.17.", "172.18.", "172.19.", "10."].iter().all(|taken| !subnet.starts_with(taken));
        assert!(clear, "{name}: {subnet}");
        let script = "ip route | grep -q ^default && ping -c 1 -W 5 $(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p')";
        engine.tare(["run", "--rm", "--network", name, BUSYBOX, "sh", "-c", script]).ok();
    }
    for name in ["asked", "one", "two", "three"] {
        engine.tare(["network", "rm", name]).ok();
    }
    let after = engine.outside(["ip", "-br", "link"]).ok();
    // The loop by which new connections pass the host's rules on input is the engine's, and stays as long as it does.
    let after: Vec<&str> = lines(&after).into_iter().filter(|link| !link.starts_with("tare-")).collect();
    assert_eq!(after, lines(&links), "links of others");
    assert_eq!(list(), mine, "rules of others");
    nft(&engine, &["list", "table", "inet", "tare"]).ok();
    for link in ["docker0", "vpn", "tare0", "tv0000000000000", "br-taken"] {
        engine.outside(["ip", "link", "delete", link]).ok();
    }
    for table in ["mine", "tare"] {
        nft(&engine, &["delete", "table", "inet", table]).ok();
    }
}
