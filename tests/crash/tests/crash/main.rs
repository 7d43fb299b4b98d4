//! The daemon, the nursery and monitors are killed at random moments while clients create, start, exec, stop and remove
//! containers on a network, with published ports. No container dies by it, none is lost or doubled, each has an address and
//! a port of its own and is reached there all the time, and nothing is left after `rm`.
//!
//! `TARE_CRASH_DAEMON`, `TARE_CRASH_NURSERY` and `TARE_CRASH_MONITOR` say how often; `TARE_CRASH_SEED` repeats the
//! moments of a run (as far as the scheduler lets itself be repeated). `cargo xtask crash` is the long form.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test, as tests do")]

mod load;
mod random;

use std::fs;
use std::time::Duration;

use load::{Witness, under_load};
use random::Random;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tare_kit::wait;

fn count(name: &str, usual: u32) -> u32 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

#[test]
fn the_daemon_may_be_killed_at_any_moment() {
    let mut random = Random::seeded("daemon");
    let mut engine = load::engine();
    let witnesses: Vec<_> = (0..3).map(|i| Witness::start(&engine, i)).collect();
    let socket = engine.socket();
    under_load(&socket, &mut random, |random| {
        for kill in 0..count("TARE_CRASH_DAEMON", 40) {
            wait::pause(Duration::from_millis(random.below(150)));
            engine.kill_daemon();
            witnesses.iter().for_each(|witness| witness.is_reached(&engine, kill));
            engine.start_daemon();
            witnesses.iter().for_each(|witness| witness.lives(&engine, kill));
            load::addresses_are_apart(&engine, kill);
        }
    });
    for witness in &witnesses {
        witness.has_told_everything(&engine);
    }
    assert_eq!(engine.containers().len(), witnesses.len(), "containers were lost or doubled");
    load::nothing_is_left_but(&engine, &witnesses);
}

#[test]
fn the_nursery_may_be_killed_at_any_moment() {
    let mut random = Random::seeded("nursery");
    let engine = load::engine();
    let witnesses: Vec<_> = (0..3).map(|i| Witness::start(&engine, i)).collect();
    under_load(&engine.socket(), &mut random, |random| {
        for kill in 0..count("TARE_CRASH_NURSERY", 10) {
            wait::pause(Duration::from_millis(20 + random.below(150)));
            for nursery in children(engine.daemon_pid()) {
                let _ = kill_process(nursery, Signal::KILL);
            }
            for witness in &witnesses {
                witness.lives(&engine, kill);
            }
        }
    });
    for witness in &witnesses {
        witness.has_told_everything(&engine);
    }
    assert_eq!(engine.containers().len(), witnesses.len(), "containers were lost or doubled");
    load::nothing_is_left_but(&engine, &witnesses);
}

#[test]
fn a_killed_monitor_costs_its_container_and_nothing_else() {
    let mut random = Random::seeded("monitor");
    let engine = load::engine();
    let witness = Witness::start(&engine, 0);
    for _ in 0..count("TARE_CRASH_MONITOR", 10) {
        let id = load::background(&engine, &["-p", "9000:80"], "while :; do echo alive; sleep 0.01; done");
        let pid = engine.pid_of(&id);
        wait::pause(Duration::from_millis(random.below(60)));
        kill_process(parent(pid).expect("a monitor"), Signal::KILL).unwrap();
        let dead = || {
            let state = engine.inspect(&id)["State"].clone();
            (state["Running"] == json!(false)).then_some(state)
        };
        let state = wait::until(wait::PATIENCE, dead).expect("it is reported dead");
        assert!(
            state["Error"].as_str().is_some_and(|e| e.contains("monitor")),
            "without the reason: {state}"
        );
        assert_eq!(state["ExitCode"], json!(137), "{state}");
        let gone = || (!fs::exists(format!("/proc/{pid}")).unwrap()).then_some(());
        wait::until(wait::PATIENCE, gone).expect("its processes are gone");
        engine.tare(["rm", &id]).ok();
        witness.lives(&engine, 0);
    }
    witness.has_told_everything(&engine);
    load::nothing_is_left_but(&engine, &[witness]);
}

/// Direct children of the daemon: the nursery, and no other.
fn children(pid: u32) -> Vec<Pid> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let lists = tasks.map(|t| fs::read_to_string(t.path().join("children")).unwrap_or_default());
    let pids = lists.collect::<String>();
    pids.split_whitespace().filter_map(|p| Pid::from_raw(p.parse().ok()?)).collect()
}

fn parent(pid: u32) -> Option<Pid> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("PPid:"))?;
    Pid::from_raw(line.trim().parse().ok()?)
}
