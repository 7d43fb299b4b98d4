//! Terminals: raw mode, size, keys, detaching, signals.

use rustix::process::Signal;
use serde_json::json;
use tare_kit::engine::BUSYBOX;
use tare_kit::{Engine, Pty, wait};

const RUN: &[&str] = &["run", "--network", "none"];

fn terminal(engine: &Engine, flags: &[&str], script: &str) -> Pty {
    Pty::spawn(engine.tare([RUN, flags, &[BUSYBOX, "sh", "-c", script]].concat()))
}

#[test]
fn a_program_on_a_terminal_reads_keys_and_ends_with_its_code() {
    let engine = Engine::start();
    let mut pty = terminal(
        &engine,
        &["-it", "--rm"],
        "test -t 0 && test -t 1 && echo tty; read x; echo got-$x; exit 3",
    );
    pty.expect("tty");
    pty.type_in("word\r");
    pty.expect("got-word");
    assert_eq!(pty.wait().0, 3);
}

#[test]
fn the_callers_terminal_is_raw_meanwhile_and_sane_afterwards() {
    let engine = Engine::start();
    let mut pty = terminal(&engine, &["-it", "--rm"], "echo ready; read x");
    pty.expect("ready");
    wait::until(wait::PATIENCE, || pty.is_raw().then_some(())).expect("raw mode");
    pty.type_in("\r");
    wait::until(wait::PATIENCE, || (!pty.is_running()).then_some(())).expect("the end");
    assert!(!pty.is_raw(), "the terminal was left raw");
}

#[test]
fn the_window_size_is_the_callers_and_follows_it() {
    let engine = Engine::start();
    let script = "trap 'stty size' WINCH; echo ready; stty size; while :; do sleep 0.05; done";
    let mut pty = terminal(&engine, &["-it", "--rm", "--name", "size"], script);
    pty.expect("ready");
    wait::until(wait::PATIENCE, || {
        (engine.tare(["exec", "size", "sh", "-c", "stty size < /dev/console"]).run().out() == "24 80")
            .then_some(())
    })
    .expect("the first size");
    pty.resize(40, 132);
    pty.expect("40 132");
    engine.tare(["kill", "size"]).ok();
    assert_eq!(pty.wait().0, 137);
}

#[test]
fn ctrl_c_goes_to_the_program() {
    let engine = Engine::start();
    let mut pty = terminal(
        &engine,
        &["-it", "--rm"],
        "trap 'echo caught; exit 8' INT; echo ready; while :; do sleep 0.05; done",
    );
    pty.expect("ready");
    wait::until(wait::PATIENCE, || pty.is_raw().then_some(())).expect("raw mode");
    pty.type_in([3]);
    pty.expect("caught");
    assert_eq!(pty.wait().0, 8);
}

#[test]
fn ctrl_c_twice_never_wedges_the_terminal() {
    let engine = Engine::start();
    // No terminal in the container and a program that ignores the signal: the caller's Ctrl-C is a signal to the client.
    let mut pty = terminal(&engine, &["--rm", "--name", "deaf"], "trap '' INT; echo ready; sleep 1000");
    pty.expect("ready");
    for _ in 0..3 {
        pty.type_in([3]);
        wait::pause(std::time::Duration::from_millis(100));
    }
    assert!(!pty.is_raw());
    engine.tare(["kill", "deaf"]).ok();
    pty.wait();
}

#[test]
fn detach_keys_leave_the_container_running() {
    let engine = Engine::start();
    let mut pty = terminal(&engine, &["-it", "--name", "box-d"], "echo ready; sleep 1000");
    pty.expect("ready");
    wait::until(wait::PATIENCE, || pty.is_raw().then_some(())).expect("raw mode");
    pty.type_in([16]);
    pty.type_in([17]);
    assert_eq!(pty.wait().0, 0);
    assert_eq!(engine.inspect("box-d")["State"]["Running"], json!(true));
}

#[test]
fn detach_keys_can_be_chosen() {
    let engine = Engine::start();
    let mut pty =
        terminal(&engine, &["-it", "--name", "box-d", "--detach-keys", "ctrl-x,y"], "echo ready; sleep 1000");
    pty.expect("ready");
    wait::until(wait::PATIENCE, || pty.is_raw().then_some(())).expect("raw mode");
    pty.type_in([24]);
    pty.type_in("y");
    pty.wait();
    assert_eq!(engine.inspect("box-d")["State"]["Running"], json!(true));
}

#[test]
fn attach_joins_and_gives_the_exit_code() {
    let engine = Engine::start();
    engine
        .tare(
            [
                RUN,
                &[
                    "-itd",
                    "--name",
                    "box-a",
                    BUSYBOX,
                    "sh",
                    "-c",
                    "while read x; do echo got-$x; test $x = end && exit 6; done",
                ],
            ]
            .concat(),
        )
        .ok();
    let mut pty = Pty::spawn(engine.tare(["attach", "box-a"]));
    wait::until(wait::PATIENCE, || pty.is_raw().then_some(())).expect("raw mode");
    pty.type_in("one\r");
    pty.expect("got-one");
    pty.type_in("end\r");
    pty.expect("got-end");
    assert_eq!(pty.wait().0, 6);
}

#[test]
fn two_attached_clients_see_the_same() {
    let engine = Engine::start();
    engine
        .tare([RUN, &["-itd", "--name", "two", BUSYBOX, "sh", "-c", "read x; echo all-$x; read y"]].concat())
        .ok();
    let mut first = Pty::spawn(engine.tare(["attach", "two"]));
    let mut second = Pty::spawn(engine.tare(["attach", "two"]));
    for pty in [&first, &second] {
        wait::until(wait::PATIENCE, || pty.is_raw().then_some(())).expect("raw mode");
    }
    wait::pause(std::time::Duration::from_millis(300));
    first.type_in("hear\r");
    first.expect("all-hear");
    second.expect("all-hear");
    engine.tare(["kill", "two"]).ok();
    first.wait();
    second.wait();
}

#[test]
fn attach_without_a_terminal_has_both_streams() {
    let engine = Engine::start();
    engine.background(
        &["--name", "plain"],
        "while [ ! -e /go ]; do sleep 0.05; done; echo out; echo err >&2; exit 4",
    );
    let attached = engine.tare(["attach", "plain"]).spawn();
    wait::pause(std::time::Duration::from_millis(300));
    engine.tare(["exec", "plain", "touch", "/go"]).ok();
    let out = attached.wait();
    assert_eq!((out.out().as_str(), out.err().as_str(), out.code), ("out", "err", 4), "{out}");
}

#[test]
fn exec_has_terminals_too() {
    let engine = Engine::start();
    engine.background(&["--name", "box-e"], "sleep 1000");
    let mut pty = Pty::spawn(engine.tare([
        "exec",
        "-it",
        "box-e",
        "sh",
        "-c",
        "sleep 0.3; stty size; read x; echo got-$x; exit 2",
    ]));
    pty.expect("24 80");
    pty.type_in("k\r");
    pty.expect("got-k");
    assert_eq!(pty.wait().0, 2);
}

#[test]
fn a_terminal_asked_for_without_one_is_refused() {
    let engine = Engine::start();
    let out = engine.tare([RUN, &["--rm", "-it", BUSYBOX, "true"]].concat()).input("x").run();
    assert!(out.code != 0 && out.err().to_uppercase().contains("TTY"), "{out}");
}

#[test]
fn a_terminal_for_the_program_alone_needs_none_here() {
    let engine = Engine::start();
    let out =
        engine.tare([RUN, &["--rm", "-t", BUSYBOX, "sh", "-c", "test -t 1 && echo tty"]].concat()).run();
    assert_eq!((out.out().as_str(), out.code), ("tty\r", 0), "{out}");
}

#[test]
fn hanging_up_a_client_leaves_the_container_alone() {
    let engine = Engine::start();
    let run = engine.tare(
        [RUN, &["--name", "box-h", "--sig-proxy=false", BUSYBOX, "sh", "-c", "echo ready; sleep 1000"]]
            .concat(),
    );
    let run = run.spawn();
    engine.wait_for_log("box-h", "ready");
    run.signal(Signal::HUP);
    run.wait();
    assert_eq!(engine.inspect("box-h")["State"]["Running"], json!(true));
}
