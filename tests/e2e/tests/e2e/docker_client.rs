//! The stock `docker` client on our socket.

use std::fs;

use serde_json::json;
use tare_kit::archive::gzip;
use tare_kit::engine::BUSYBOX;
use tare_kit::image::busybox_layer;
use tare_kit::{Engine, Image, Pty, wait};

use crate::lines;

#[test]
fn version_and_info_speak_of_both_sides() {
    let engine = Engine::start();
    let out = engine
        .docker(["version", "--format", "{{.Client.Version}} {{.Server.Version}} {{.Server.APIVersion}}"])
        .ok();
    assert_eq!(out.split_whitespace().count(), 3, "{out}");
    assert!(engine.docker(["info"]).ok().contains("Containers:"));
}

#[test]
fn run_gives_output_and_exit_code() {
    let engine = Engine::start();
    let out = engine
        .docker(["run", "--rm", "--network", "none", BUSYBOX, "sh", "-c", "echo out; echo err >&2; exit 7"])
        .run();
    assert_eq!((out.out().as_str(), out.err().as_str(), out.code), ("out", "err", 7));
}

#[test]
fn run_takes_input() {
    let engine = Engine::start();
    let out = engine.docker(["run", "--rm", "-i", "--network", "none", BUSYBOX, "cat"]).input("typed\n").ok();
    assert_eq!(out, "typed");
}

#[test]
fn the_default_network_mode_works_with_the_stock_client() {
    let engine = Engine::start();
    assert_eq!(engine.docker(["run", "--rm", BUSYBOX, "echo", "hi"]).ok(), "hi");
}

#[test]
fn run_on_a_terminal() {
    let engine = Engine::start();
    let words = [
        "run",
        "--rm",
        "-it",
        "--network",
        "none",
        BUSYBOX,
        "sh",
        "-c",
        "test -t 0 && echo tty; read x; echo got-$x; exit 2",
    ];
    let mut pty = Pty::spawn(engine.docker(words));
    pty.expect("tty");
    pty.type_in("k\r");
    pty.expect("got-k");
    assert_eq!(pty.wait().0, 2);
}

#[test]
fn a_day_in_the_life() {
    let engine = Engine::start();
    let id = engine
        .docker([
            "run",
            "-d",
            "--name",
            "day",
            "--network",
            "none",
            BUSYBOX,
            "sh",
            "-c",
            "echo up; sleep 1000",
        ])
        .ok();
    engine.wait_for_log("day", "up");
    assert!(engine.docker(["ps"]).ok().contains("day"));
    assert_eq!(engine.docker(["logs", "day"]).ok(), "up");
    assert_eq!(engine.docker(["exec", "day", "echo", "in"]).ok(), "in");
    assert_eq!(
        engine.docker(["inspect", "-f", "{{.Id}} {{.State.Status}}", "day"]).ok(),
        format!("{id} running")
    );
    assert!(engine.docker(["top", "day"]).ok().contains("sleep 1000"));
    assert!(engine.docker(["stats", "--no-stream", "day"]).ok().contains("day"));
    engine.docker(["pause", "day"]).ok();
    assert!(engine.docker(["ps"]).ok().contains("(Paused)"));
    engine.docker(["unpause", "day"]).ok();
    engine.docker(["rename", "day", "night"]).ok();
    engine.docker(["restart", "-t", "0", "night"]).ok();
    engine.docker(["stop", "-t", "0", "night"]).ok();
    assert_eq!(engine.docker(["wait", "night"]).ok(), "137");
    assert!(engine.docker(["ps", "-a"]).ok().contains("Exited (137)"));
    engine.docker(["start", "night"]).ok();
    engine.docker(["kill", "night"]).ok();
    assert_eq!(engine.docker(["rm", "-f", "night"]).ok(), "night");
    assert_eq!(engine.containers(), Vec::<String>::new());
}

#[test]
fn attach_and_exec_streams() {
    let engine = Engine::start();
    engine
        .docker([
            "run",
            "-d",
            "--name",
            "box-a",
            "--network",
            "none",
            BUSYBOX,
            "sh",
            "-c",
            "while [ ! -e /go ]; do sleep 0.05; done; echo out; exit 5",
        ])
        .ok();
    let attached = engine.docker(["attach", "box-a"]).spawn();
    wait::pause(std::time::Duration::from_millis(300));
    assert_eq!(engine.docker(["exec", "-i", "box-a", "cat"]).input("piped").ok(), "piped");
    assert_eq!(engine.docker(["exec", "box-a", "sh", "-c", "touch /go; exit 9"]).run().code, 9);
    let out = attached.wait();
    assert_eq!((out.out().as_str(), out.code), ("out", 5), "{out}");
}

#[test]
fn images_are_loaded_listed_tagged_run_and_removed() {
    let engine = Engine::empty();
    let path = engine.path("image.tar");
    fs::write(&path, Image::busybox("stock:1").docker_archive()).unwrap();
    assert!(engine.docker(["load", "-i", &path]).ok().contains("stock:1"));
    engine.docker(["tag", "stock:1", "stock:2"]).ok();
    let listed = engine.docker(["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok();
    let mut names = lines(&listed);
    names.sort_unstable();
    assert_eq!(names, ["stock:1", "stock:2"]);
    assert_eq!(engine.docker(["run", "--rm", "--network", "none", "stock:2", "echo", "hi"]).ok(), "hi");
    engine.docker(["rmi", "stock:1", "stock:2"]).ok();
    assert_eq!(engine.docker(["images", "-q"]).ok(), "");
    engine.docker(["import", "-", "imported:1"]).input(gzip(&busybox_layer().finish())).ok();
    assert_eq!(engine.docker(["run", "--rm", "--network", "none", "imported:1", "echo", "hi"]).ok(), "hi");
}

#[test]
fn create_with_everything_is_inspected_as_told() {
    let engine = Engine::start();
    let words = [
        "create",
        "--name",
        "full",
        "--network",
        "none",
        "-m",
        "64m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "50",
        "-e",
        "A=1",
        "-w",
        "/tmp",
        "-u",
        "1000",
        "--label",
        "l=1",
        "--read-only",
        "--cap-drop",
        "ALL",
        "--cap-add",
        "CHOWN",
        "--tmpfs",
        "/t",
        "--hostname",
        "h",
        "--ulimit",
        "nofile=100:200",
        "--stop-signal",
        "INT",
        "--entrypoint",
        "sleep",
        BUSYBOX,
        "1000",
    ];
    engine.docker(words).ok();
    let shown = engine.inspect("full");
    let host = &shown["HostConfig"];
    assert_eq!(
        (&host["Memory"], &host["NanoCpus"], &host["PidsLimit"]),
        (&json!(64 << 20), &json!(500_000_000), &json!(50))
    );
    assert_eq!((&host["ReadonlyRootfs"], &host["CapDrop"]), (&json!(true), &json!(["ALL"])));
    assert_eq!((&shown["Config"]["User"], &shown["Config"]["WorkingDir"]), (&json!("1000"), &json!("/tmp")));
    assert_eq!(
        (&shown["Config"]["Entrypoint"], &shown["Config"]["StopSignal"]),
        (&json!(["sleep"]), &json!("INT"))
    );
    engine.docker(["start", "full"]).ok();
    let out = engine.docker(["exec", "full", "sh", "-c", "id -u; pwd; ulimit -n; hostname"]).ok();
    assert_eq!(out, "1000\n/tmp\n100\nh");
}

#[test]
fn errors_read_as_they_should() {
    let engine = Engine::start();
    let why = engine.docker(["start", "missing"]).fails(1);
    assert!(why.contains("No such container: missing"), "{why}");
    assert_eq!(engine.docker(["run", "--rm", "--network", "none", BUSYBOX, "no-such"]).run().code, 127);
    engine.docker(["run", "-d", "--name", "dup", "--network", "none", BUSYBOX, "sleep", "1000"]).ok();
    let why = engine.docker(["run", "--name", "dup", "--network", "none", BUSYBOX, "true"]).fails(125);
    assert!(why.contains("already in use"), "{why}");
}

#[test]
fn each_negotiated_version_lists_and_runs() {
    if Engine::is_peer() {
        return;
    }
    let engine = Engine::start();
    for version in ["1.40", "1.41", "1.43", "1.44", "1.48"] {
        let client = || engine.docker(["ps", "-a"]).env("DOCKER_API_VERSION", version);
        assert!(client().ok().contains("CONTAINER ID"), "{version}");
        let run = ["run", "--rm", "--network", "none", BUSYBOX, "echo", "hi"];
        assert_eq!(engine.docker(run).env("DOCKER_API_VERSION", version).ok(), "hi", "{version}");
    }
}
