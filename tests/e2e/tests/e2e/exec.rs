//! `exec`: another program in a running container.

use serde_json::json;
use tare_kit::http::demultiplex;
use tare_kit::{Engine, wait};

use crate::old_peer;

/// An engine with a container named `c` that sits and waits.
fn engine() -> Engine {
    let engine = Engine::start();
    engine.background(&["--name", "box-c", "-e", "FROM=container", "--hostname", "chost"], "sleep 1000");
    engine
}

#[test]
fn output_and_exit_code_are_the_programs() {
    let engine = engine();
    let out = engine.tare(["exec", "box-c", "sh", "-c", "echo out; echo err >&2; exit 5"]).run();
    assert_eq!((out.out().as_str(), out.err().as_str(), out.code), ("out", "err", 5));
}

#[test]
fn it_is_inside_the_container() {
    let engine = engine();
    assert_eq!(engine.tare(["exec", "box-c", "hostname"]).ok(), "chost");
    assert!(engine.tare(["exec", "box-c", "ps"]).ok().contains("sleep 1000"));
    for kind in ["mnt", "pid", "net", "ipc", "uts"] {
        let link = format!("/proc/self/ns/{kind}");
        let inside = engine.tare(["exec", "box-c", "readlink", &link]).ok();
        let first = std::fs::read_link(format!("/proc/{}/ns/{kind}", engine.pid_of("box-c"))).unwrap();
        assert_eq!(inside, first.display().to_string(), "{kind}");
    }
}

#[test]
fn environment_directory_and_user_can_be_set() {
    let engine = engine();
    let out = engine.tare([
        "exec",
        "-e",
        "MINE=1",
        "-w",
        "/tmp",
        "-u",
        "ann",
        "box-c",
        "sh",
        "-c",
        "echo $FROM $MINE; pwd; id -u; id -G",
    ]);
    assert_eq!(out.ok(), "container 1\n/tmp\n1000\n1000 2000");
}

#[test]
fn input_reaches_it() {
    let engine = engine();
    assert_eq!(
        engine.tare(["exec", "-i", "box-c", "sh", "-c", "cat; echo end"]).input("in\n").ok(),
        "in\nend"
    );
    assert_eq!(engine.tare(["exec", "box-c", "cat"]).input("unread").ok(), "");
}

#[test]
fn megabytes_pass_through_exec() {
    let engine = engine();
    let out = engine.tare(["exec", "box-c", "head", "-c", "5000000", "/dev/zero"]).run();
    assert_eq!((out.code, out.stdout.len()), (0, 5_000_000));
    let back = engine.tare(["exec", "-i", "box-c", "wc", "-c"]).input(vec![b'x'; 3_000_000]).ok();
    assert_eq!(back.trim(), "3000000");
}

#[test]
fn a_detached_exec_runs_on_its_own() {
    let engine = engine();
    engine.tare(["exec", "-d", "box-c", "sh", "-c", "echo done > /tmp/mark"]).ok();
    let out = engine.tare(["exec", "-d", "box-c", "nosuch"]).run();
    assert!(out.code == 1 && out.err().contains("executable file not found"), "as Docker's: {out}");
    wait::until(wait::PATIENCE, || {
        (engine.tare(["exec", "box-c", "cat", "/tmp/mark"]).run().out() == "done").then_some(())
    })
    .expect("the mark");
}

#[test]
fn what_is_not_there_is_an_error_by_name() {
    let engine = engine();
    let out = engine.tare(["exec", "box-c", "no-such-program"]).run();
    assert!((126..=127).contains(&out.code) && (out.err() + &out.out()).contains("no-such-program"), "{out}");
    assert!(engine.tare(["exec", "missing", "true"]).fails(1).contains("No such container"));
    engine.tare(["kill", "box-c"]).ok();
    engine.tare(["wait", "box-c"]).ok();
    assert!(engine.tare(["exec", "box-c", "true"]).fails(1).contains("not running"));
}

#[test]
fn a_privileged_exec_has_every_capability() {
    if old_peer() {
        return;
    }
    let engine = engine();
    let caps = |flags: &[&str]| {
        let words = ["box-c", "grep", "CapEff", "/proc/self/status"];
        engine.tare([&["exec"], flags, &words].concat()).ok()
    };
    assert!(caps(&[]).ends_with("00000000a80425fb"), "{}", caps(&[]));
    let all = u64::from_str_radix(caps(&["--privileged"]).split_whitespace().last().unwrap(), 16).unwrap();
    assert!(all & (1 << 21) != 0, "CAP_SYS_ADMIN is among them");
}

#[test]
fn many_execs_at_once_keep_their_output_apart() {
    let engine = engine();
    let running: Vec<_> = (0..10)
        .map(|i| engine.tare(["exec", "box-c", "sh", "-c", &format!("echo {i}; exit {i}")]).spawn())
        .collect();
    for (i, run) in running.into_iter().enumerate() {
        let out = run.wait();
        assert_eq!((out.out(), out.code), (i.to_string(), i32::try_from(i).unwrap()), "{out}");
    }
}

#[test]
fn the_api_keeps_an_execs_exit_code() {
    let engine = engine();
    let body = json!({"Cmd": ["sh", "-c", "echo out; echo err >&2; exit 4"], "AttachStdout": true, "AttachStderr": true});
    let id = engine.post("/containers/box-c/exec", &body).expect(201)["Id"].as_str().unwrap().to_string();
    let answer = engine.post(&format!("/exec/{id}/start"), &json!({"Detach": false, "Tty": false}));
    assert_eq!(demultiplex(&answer.body), (b"out\n".to_vec(), b"err\n".to_vec()));
    let shown = engine.get(&format!("/exec/{id}/json")).expect(200);
    assert_eq!((&shown["Running"], &shown["ExitCode"]), (&json!(false), &json!(4)));
}

#[test]
fn an_exec_ends_with_its_container() {
    let engine = engine();
    let exec = engine.tare(["exec", "box-c", "sleep", "1000"]).spawn();
    wait::until(wait::PATIENCE, || {
        engine.tare(["top", "box-c"]).ok().matches("sleep 1000").count().ge(&2).then_some(())
    })
    .expect("both run");
    engine.tare(["kill", "box-c"]).ok();
    assert_eq!(exec.wait().code, 137);
}

/// Security row 14: nothing is inheritable, also not in an exec.
#[test]
fn no_capability_is_inheritable() {
    if old_peer() {
        return;
    }
    let engine = engine();
    for flags in [&["exec"][..], &["exec", "-u", "1000"], &["exec", "--privileged"]] {
        let out = engine.tare([flags, &["box-c", "grep", "CapInh", "/proc/self/status"]].concat()).ok();
        assert!(out.ends_with("0000000000000000"), "{flags:?}: {out}");
    }
}
