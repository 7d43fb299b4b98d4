//! Networks that cannot be had as somebody wants them: it is said why, and nothing is left half done.

use std::fs;

use tare_kit::Engine;
use tare_kit::engine::BUSYBOX;

/// Where what a container has of networks cannot be written down for now.
struct Unwritable(std::path::PathBuf);

impl Unwritable {
    fn new(engine: &Engine, container: &str) -> Self {
        let id = engine.tare(["inspect", "-f", "{{.Id}}", container]).ok();
        let note = engine.run_dir().join("containers").join(id).join(".network");
        fs::create_dir(&note).unwrap();
        Self(note)
    }
}

impl Drop for Unwritable {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).unwrap();
    }
}

fn interfaces(engine: &Engine, container: &str) -> usize {
    engine.tare(["exec", container, "ls", "/sys/class/net"]).ok().split_whitespace().count() - 1
}

fn published(engine: &Engine, container: &str) -> String {
    engine.tare(["port", container]).ok()
}

#[test]
fn a_change_that_cannot_be_written_down_is_undone() {
    let engine = Engine::apart();
    engine.tare(["network", "create", "front"]).ok();
    engine.tare(["network", "create", "back"]).ok();
    let run = ["run", "-d", "--name", "one", "--network", "front", "-p", "127.0.0.1:8080:80"];
    engine.tare([&run[..], &[BUSYBOX, "sleep", "1000"]].concat()).ok();
    let before = published(&engine, "one");
    let unwritable = Unwritable::new(&engine, "one");
    let refused = engine.tare(["network", "connect", "back", "one"]).fails(1);
    assert!(refused.contains("Is a directory"), "{refused}");
    assert_eq!(interfaces(&engine, "one"), 1, "it is off the network again");
    engine.tare(["port", "add", "one", "127.0.0.1:8081:80"]).fails(1);
    assert_eq!(published(&engine, "one"), before);
    drop(unwritable);
    engine.tare(["network", "connect", "back", "one"]).ok();
    assert_eq!(interfaces(&engine, "one"), 2);
    engine.tare(["port", "add", "one", "127.0.0.1:8081:80"]).ok();
    let unwritable = Unwritable::new(&engine, "one");
    engine.tare(["network", "disconnect", "back", "one"]).fails(1);
    drop(unwritable);
    // Whatever it is now, once more makes it so.
    engine.tare(["network", "disconnect", "back", "one"]).ok();
    assert_eq!(interfaces(&engine, "one"), 1);
    engine.tare(["network", "rm", "back"]).ok();
}

#[test]
fn an_error_names_its_network_once() {
    let engine = Engine::apart();
    let create = ["network", "create", "-d", "macvlan", "-o", "parent=nowhere", "s3"];
    let refused = engine.tare(create).fails(1);
    assert!(refused.contains("network s3: parent link nowhere does not exist on the host"), "{refused}");
    assert_eq!(refused.matches("network s3").count(), 1, "{refused}");
}

#[test]
fn a_missing_network_is_not_taken_for_a_missing_image() {
    let engine = Engine::apart();
    engine.have_busybox();
    for (flags, said) in [
        (&["--network", "nosuch"][..], "network nosuch not found"),
        (&["--network", "container:nosuch"], "No such container: nosuch"),
        (&["--link", "nosuch:x"], "could not get container for nosuch: No such container: nosuch"),
    ] {
        let refused = engine.docker([&["run", "--rm"], flags, &[BUSYBOX, "true"]].concat()).fails(125);
        assert!(refused.contains(said) && !refused.contains("Unable to find image"), "{flags:?}: {refused}");
    }
    let failed = engine.docker(["run", "--rm", BUSYBOX, "nosuch"]).fails(127);
    assert!(!failed.contains("Error waiting"), "{failed}");
}

#[test]
fn an_address_outside_of_the_network_is_refused_before_there_is_a_container() {
    let engine = Engine::apart();
    engine.tare(["network", "create", "--subnet", "10.9.0.0/24", "front"]).ok();
    let create = ["create", "--network", "front", "--ip", "10.8.0.1", BUSYBOX, "true"];
    let refused = engine.tare(create).fails(125);
    assert!(
        refused.contains("no configured subnet of network front contains IP address 10.8.0.1"),
        "{refused}"
    );
    assert!(engine.containers().is_empty());
}

#[test]
fn a_container_that_left_its_only_network_can_be_put_on_another() {
    let engine = Engine::apart();
    engine.tare(["network", "create", "--subnet", "10.9.0.0/24", "front"]).ok();
    engine.tare(["run", "-d", "--name", "one", BUSYBOX, "sleep", "1000"]).ok();
    engine.tare(["network", "disconnect", "bridge", "one"]).ok();
    assert_eq!(interfaces(&engine, "one"), 0);
    engine.tare(["network", "connect", "--ip", "10.9.0.9", "front", "one"]).ok();
    assert_eq!(interfaces(&engine, "one"), 1);
    let address = "{{.NetworkSettings.Networks.front.IPAddress}}";
    assert_eq!(engine.tare(["inspect", "-f", address, "one"]).ok(), "10.9.0.9");
    engine.tare(["stop", "-t", "0", "one"]).ok();
    // What is said last of one that does not run holds.
    engine.tare(["network", "connect", "--ip", "10.9.0.10", "front", "one"]).ok();
    engine.tare(["start", "one"]).ok();
    assert_eq!(engine.tare(["inspect", "-f", address, "one"]).ok(), "10.9.0.10");
}

#[test]
fn a_link_on_the_default_network_is_a_name() {
    let engine = Engine::apart();
    engine.tare(["run", "-d", "--name", "one", BUSYBOX, "sleep", "1000"]).ok();
    engine.tare(["run", "-d", "--name", "two", "--link", "one:db", BUSYBOX, "sleep", "1000"]).ok();
    let found = || engine.tare(["exec", "two", "nslookup", "db"]).ok();
    let address =
        || engine.tare(["inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "one"]).ok();
    assert!(found().contains(&address()), "{}: {}", address(), found());
    engine.tare(["restart", "-t", "0", "one"]).ok();
    assert!(found().contains(&address()), "{}: {}, when it was started again", address(), found());
}
