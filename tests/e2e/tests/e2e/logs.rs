//! `logs`: nothing lost, in order, bounded.

use std::io::Read;
use std::time::{Duration, Instant};

use tare_kit::engine::BUSYBOX;
use tare_kit::{Engine, http, wait};

use crate::{lines, ours};

/// Runs a script to its end in a container that stays, and gives its name.
fn ended(engine: &Engine, flags: &[&str], script: &str) -> String {
    let id = engine.background(flags, script);
    engine.tare(["wait", &id]).limit(Duration::from_secs(60)).ok();
    id
}

#[test]
fn both_streams_come_back_apart() {
    let engine = Engine::start();
    let id = ended(&engine, &[], "echo out; echo err >&2");
    let logs = engine.tare(["logs", &id]).run();
    assert_eq!((logs.out().as_str(), logs.err().as_str()), ("out", "err"));
}

#[test]
fn tail_gives_the_last_lines() {
    let engine = Engine::start();
    let id = ended(&engine, &[], "for i in $(seq 1000); do echo line-$i; done");
    assert_eq!(engine.tare(["logs", "--tail", "2", &id]).ok(), "line-999\nline-1000");
    assert_eq!(engine.tare(["logs", "--tail", "0", &id]).ok(), "");
    assert_eq!(lines(&engine.tare(["logs", "--tail", "5000", &id]).ok()).len(), 1000);
    assert_eq!(lines(&engine.tare(["logs", "--tail", "all", &id]).ok()).len(), 1000);
}

#[test]
fn timestamps_are_rfc_3339_and_rise() {
    let engine = Engine::start();
    let id = ended(&engine, &[], "echo one; sleep 0.1; echo two");
    let out = engine.tare(["logs", "-t", &id]).ok();
    let stamps: Vec<_> = lines(&out).iter().map(|l| l.split(' ').next().unwrap().to_string()).collect();
    assert!(stamps.len() == 2 && stamps[0] < stamps[1], "{out}");
    assert!(stamps.iter().all(|s| s.len() == 30 && s.ends_with('Z') && s.as_bytes()[10] == b'T'), "{out}");
    assert!(out.ends_with(" two"), "{out}");
}

#[test]
fn since_and_until_cut_by_time() {
    let engine = Engine::start();
    let id = ended(&engine, &[], "echo early; sleep 1.2; echo late");
    let out = engine.tare(["logs", "-t", &id]).ok();
    let late = lines(&out)[1].split(' ').next().unwrap().to_string();
    assert_eq!(engine.tare(["logs", "--since", &late, &id]).ok(), "late");
    assert_eq!(engine.tare(["logs", "--since", "1h", &id]).ok(), "early\nlate");
}

#[test]
fn follow_ends_with_the_container_and_has_everything() {
    let engine = Engine::start();
    let id = engine.background(&[], "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done");
    assert_eq!(engine.tare(["logs", "-f", &id]).ok(), "1\n2\n3\n4\n5");
}

#[test]
fn follow_shows_a_line_when_it_is_written() {
    let engine = Engine::start();
    let id = engine.background(&[], "echo first; sleep 30; echo second");
    engine.wait_for_log(&id, "first");
    let path = format!("/containers/{id}/logs?follow=1&stdout=1");
    let (head, mut rest) = http::stream(&engine.socket(), &path, Duration::from_secs(10)).unwrap();
    assert_eq!(head.status, 200);
    let begun = Instant::now();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("first") {
        let mut byte = [0];
        assert_eq!(rest.read(&mut byte).unwrap(), 1, "the stream ended early: {seen:?}");
        seen.push(byte[0]);
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_line_without_an_end_and_bytes_that_are_no_text_survive() {
    let engine = Engine::start();
    let id = ended(&engine, &[], "printf 'no newline'");
    assert_eq!(engine.tare(["logs", &id]).run().stdout, b"no newline");
    if ours() {
        let id = ended(&engine, &[], "printf 'a\\000\\377\\n'");
        assert_eq!(engine.tare(["logs", &id]).run().stdout, b"a\0\xff\n");
    }
}

#[test]
fn a_very_long_line_comes_back_whole() {
    let engine = Engine::start();
    let id = ended(&engine, &[], "head -c 100000 /dev/zero | tr '\\0' x; echo");
    assert_eq!(engine.tare(["logs", &id]).run().stdout.len(), 100_001);
}

#[test]
fn a_hundred_thousand_lines_are_all_there_in_order() {
    let engine = Engine::start();
    let id = ended(&engine, &[], "seq 100000");
    let out = engine.tare(["logs", &id]).ok();
    assert_eq!(lines(&out).len(), 100_000);
    assert!(lines(&out).iter().enumerate().all(|(i, l)| *l == (i + 1).to_string()));
}

#[test]
fn json_file_is_a_driver() {
    let engine = Engine::start();
    let id = ended(&engine, &["--log-driver", "json-file"], "echo hi");
    assert_eq!(engine.tare(["logs", &id]).ok(), "hi");
}

#[test]
fn none_keeps_nothing_and_says_so() {
    let engine = Engine::start();
    let id = ended(&engine, &["--log-driver", "none"], "echo hi");
    let why = engine.tare(["logs", &id]).run();
    assert!(why.code != 0 && !why.out().contains("hi"), "{why}");
    assert_eq!(engine.sh(&["--log-driver", "none"], "echo hi"), "hi", "attached output does not need a log");
}

#[test]
fn an_unknown_driver_is_refused_by_name() {
    let engine = Engine::start();
    let out = engine.tare(["run", "--log-driver", "nosuch", "--network", "none", BUSYBOX, "true"]).run();
    assert!(out.code == 125 && out.err().contains("nosuch"), "{out}");
}

#[test]
fn a_log_is_bounded_as_told_and_keeps_the_newest() {
    let engine = Engine::start();
    let flags = ["--log-driver", "json-file", "--log-opt", "max-size=100k", "--log-opt", "max-file=2"];
    let id = ended(&engine, &flags, "seq 200000");
    let out = engine.tare(["logs", &id]).ok();
    assert!(out.len() < 400_000, "{} bytes were kept", out.len());
    assert_eq!(lines(&out).last(), Some(&"200000"));
}

#[test]
fn the_default_log_is_bounded_too() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    // 20 MB in 5 files is the default: write more than that.
    ended(&engine, &[], "head -c 150000000 /dev/zero | tr '\\0' '\\n'");
    let used = tare_kit::cmd::Cmd::new("du").args(["-sm", engine.root().to_str().unwrap()]).ok();
    let run = tare_kit::cmd::Cmd::new("du").args(["-sm", engine.run_dir().to_str().unwrap()]).ok();
    let megabytes = |text: &str| text.split_whitespace().next().unwrap().parse::<u64>().unwrap();
    assert!(megabytes(&used) + megabytes(&run) < 130, "{used}\n{run}");
}

#[test]
fn logs_can_be_read_while_the_container_runs_and_after_a_restart() {
    let engine = Engine::start();
    engine.background(&["--name", "box-l"], "echo started; sleep 1000");
    engine.wait_for_log("box-l", "started");
    engine.tare(["restart", "-t", "0", "box-l"]).ok();
    wait::until(wait::PATIENCE, || (engine.tare(["logs", "box-l"]).ok() == "started\nstarted").then_some(()))
        .expect("both runs are in the log");
}
