//! Debian's ufw and firewalld, in a root of their own: what they shut stays shut, what they open is open.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::world::{HOST, HOST6, LAN, LAN6, World, published, settings};
use crate::firewall::Watch;

/// Mounts of its own, a root of its own, the network of who runs it.
const INSIDE: &str = "mount -t proc proc $0/proc && mount --rbind /dev $0/dev && \
                      mkdir -p $0/run/dbus && exec chroot $0 \"$@\"";

/// A Debian with firewalls, unpacked for one test.
struct Debian(tempfile::TempDir);

impl Debian {
    fn new() -> Self {
        let packages = ["ufw", "firewalld", "iptables", "nftables", "dbus", "python3-gi"];
        let archive = tare_kit::debs::debian("firewalls", &packages);
        let root = tempfile::tempdir().unwrap();
        let out = Command::new("tar").arg("-C").arg(root.path()).arg("-xf").arg(archive).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        Self(root)
    }

    fn command(root: &Path, program: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", INSIDE]).arg(root).args(program);
        command
    }

    /// The socket of its D-Bus, once that runs.
    fn bus(&self) -> PathBuf {
        self.0.path().join("run/dbus/system_bus_socket")
    }

    /// Runs a program in the host's network; gives what it wrote.
    fn run(&self, world: &World, program: &[&str]) -> String {
        let mut command = Self::command(self.0.path(), program);
        let out = world.host.run(move || command.output().unwrap());
        let text =
            format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "{program:?}: {text}");
        text
    }
}

/// A host with a published port, watched over, and a container.
fn published_host(debian: &Debian) -> (World, super::world::Container, Watch) {
    let world = World::with(settings(&debian.bus()));
    world.lan.serve(81);
    world.network(1, |_| {});
    let a = world.container(1, 2);
    world.publish(&[published("0.0.0.0", 8080, a.ip), published("::", 8080, a.ip6)]);
    let firewall = Arc::clone(&world.firewall);
    let watch = world.host.run(move || Watch::start(firewall, |_| {}).unwrap());
    (world, a, watch)
}

fn is_open(world: &World, why: &str) {
    for (to, seen) in [(HOST, LAN), (HOST6, LAN6)] {
        assert_eq!(world.lan.reaches(to, 8080).as_deref(), Some(seen), "{to} 8080 {why}");
    }
}

fn is_shut(world: &World, why: &str) {
    assert!(world.lan.is_kept_from(HOST, 8080) && world.lan.is_kept_from(HOST6, 8080), "open {why}");
}

/// Tries all the time whether a neighbour gets straight to the container, until `done`; gives how often it tried.
fn isolated_while(world: &World, container: std::net::IpAddr, done: impl FnOnce()) -> u64 {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    std::thread::scope(|scope| {
        // A failure of `done` ends the trying as well, which the scope waits for.
        let stop = Stop(stop);
        let probe = scope.spawn(move || {
            let mut tries = 0;
            while !stopped.load(Ordering::Relaxed) {
                let open = world.lan.reach(&container.to_string(), 80, Duration::from_millis(20));
                assert_eq!(open, None, "a neighbour reached the container itself");
                tries += 1;
            }
            tries
        });
        done();
        drop(stop);
        probe.join().unwrap()
    })
}

/// Ends the trying when it is dropped.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn ufw_decides_about_published_ports() {
    let debian = Debian::new();
    let (world, a, _watch) = published_host(&debian);
    is_open(&world, "without a firewall");
    debian.run(&world, &["ufw", "--force", "enable"]);
    is_shut(&world, "though ufw lets nothing in");
    assert_eq!(a.space.reaches(LAN, 81).as_deref(), Some(HOST), "out of a container, by IPv4");
    assert_eq!(a.space.reaches(LAN6, 81).as_deref(), Some(HOST6), "out of a container, by IPv6");
    debian.run(&world, &["ufw", "allow", "8080"]);
    is_open(&world, "after ufw allow");
    debian.run(&world, &["ufw", "default", "deny", "outgoing"]);
    is_open(&world, "though ufw lets the host itself connect to nothing");
    debian.run(&world, &["ufw", "default", "reject", "routed"]);
    debian.run(&world, &["ufw", "default", "reject", "outgoing"]);
    debian.run(&world, &["ufw", "reload"]);
    is_open(&world, "though ufw rejects what is routed or sent");
    for to in [LAN, LAN6] {
        let reached = (0..3).find_map(|_| a.space.reaches(to, 81));
        assert!(reached.is_some(), "out of a container to {to}, though ufw rejects what is routed");
    }
    debian.run(&world, &["ufw", "route", "deny", "proto", "tcp", "to", "172.30.1.2", "port", "80"]);
    assert!(world.lan.is_kept_from(HOST, 8080), "open after ufw route deny");
    debian.run(&world, &["ufw", "route", "delete", "deny", "proto", "tcp", "to", "172.30.1.2", "port", "80"]);
    is_open(&world, "when that is gone");
    debian.run(&world, &["ufw", "--force", "delete", "allow", "8080"]);
    debian.run(&world, &["ufw", "deny", "8080"]);
    is_shut(&world, "after ufw deny");
    let tries = isolated_while(&world, a.ip, || {
        for _ in 0..2 {
            debian.run(&world, &["ufw", "reload"]);
            debian.run(&world, &["nft", "flush", "ruleset"]);
            debian.run(&world, &["ufw", "--force", "enable"]);
        }
    });
    assert!(tries > 50, "{tries} tries are none");
    is_shut(&world, "after flush and reload");
    let rules = debian.run(&world, &["iptables", "-S", "FORWARD"]);
    let ours = |line: &&str| line.contains("br-1");
    assert_eq!(rules.lines().filter(ours).count(), 2, "{rules}");
    assert!(rules.lines().rev().take(2).all(|line| ours(&line)), "others come after ours:\n{rules}");
    world.firewall.remove_network("br-1").unwrap();
    let rules = debian.run(&world, &["iptables", "-S", "FORWARD"]);
    assert_eq!(rules.lines().filter(ours).count(), 0, "{rules}");
}

fn gets_out(a: &super::world::Container, why: &str) {
    for (to, seen) in [(LAN, HOST), (LAN6, HOST6)] {
        let reached = (0..20).find_map(|_| a.space.reaches(to, 81));
        assert_eq!(reached.as_deref(), Some(seen), "out of a container to {to} {why}");
    }
}

#[test]
fn firewalld_lets_containers_out_without_being_told_by_anybody() {
    let debian = Debian::new();
    let (world, a, _watch) = published_host(&debian);
    let firewalld = Firewalld::start(&world, &debian);
    let zone_of = |bridge: &str| {
        let ask = format!("firewall-cmd --get-zone-of-interface={bridge} || true");
        debian.run(&world, &["sh", "-c", &ask]).trim().to_owned()
    };
    gets_out(&a, "when firewalld has started");
    assert_eq!(world.firewall.confined(), None);
    world.network(2, |_| {});
    world.network(3, |network| network.internal = true);
    assert_eq!((zone_of("br-2").as_str(), zone_of("br-3").as_str()), ("trusted", "no zone"));
    let b = world.container(2, 2);
    gets_out(&b, "of a network that was made afterwards");
    debian.run(&world, &["firewall-cmd", "--complete-reload"]);
    gets_out(&a, "after a reload");
    world.firewall.remove_network("br-2").unwrap();
    assert_eq!(zone_of("br-2"), "no zone", "when the network is gone");
    debian.run(&world, &["firewall-cmd", "--permanent", "--zone=block", "--add-interface=br-1"]);
    debian.run(&world, &["firewall-cmd", "--reload"]);
    assert_eq!(zone_of("br-1"), "block", "what somebody has chosen");
    assert!(a.space.is_kept_from(LAN, 81));
    debian.run(&world, &["firewall-cmd", "--permanent", "--zone=block", "--remove-interface=br-1"]);
    drop(firewalld);
    let _again = Firewalld::start(&world, &debian);
    gets_out(&a, "when firewalld has started again");
}

#[test]
fn a_zone_of_firewalld_decides_about_published_ports() {
    let debian = Debian::new();
    let (world, a, _watch) = published_host(&debian);
    let _firewalld = Firewalld::start(&world, &debian);
    let told = |what: &str| debian.run(&world, &["firewall-cmd", what]);
    is_shut(&world, "though the zone has it not");
    told("--add-port=8080/tcp");
    is_open(&world, "after --add-port");
    told("--remove-port=8080/tcp");
    is_shut(&world, "after --remove-port");
    let tries = isolated_while(&world, a.ip, || {
        for how in ["--reload", "--complete-reload"].repeat(4) {
            told(how);
        }
    });
    assert!(tries > 50, "{tries} tries are none");
    is_shut(&world, "after reload");
    told("--add-port=8080/tcp");
    is_open(&world, "after reload and --add-port");
    // firewalld itself does not get over that; what is ours does.
    isolated_while(&world, a.ip, || drop(debian.run(&world, &["nft", "flush", "ruleset"])));
    assert!(world.firewall.unheard().is_none() && world.lan.is_kept_from("172.30.1.2", 80));
}

/// firewalld, the bus that it is told by, and what the bus starts: the processes of one namespace, which end with the first
/// of them, and that ends with us.
struct Firewalld(Child);

impl Firewalld {
    fn start(world: &World, debian: &Debian) -> Self {
        let script = "rm -f /run/dbus/*; dbus-daemon --system --nofork & exec firewalld --nofork --nopid";
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount"]);
        command.args(["--propagation", "private", "sh", "-c", INSIDE]).arg(debian.0.path());
        command.args(["sh", "-c", script]);
        let started = Self(world.host.run(move || command.spawn().unwrap()));
        let wait =
            "for i in $(seq 100); do firewall-cmd --state >/dev/null 2>&1 && exit 0; sleep 0.1; done; exit 1";
        debian.run(world, &["sh", "-c", wait]);
        started
    }
}

impl Drop for Firewalld {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
