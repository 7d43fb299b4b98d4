//! Limits: memory, processes, processors, as the kernel was told.

use std::fs;

use serde_json::json;
use tare_kit::Engine;

use crate::ours;

/// Reads a setting of the container's cgroup on the host: v1 in its controller's hierarchy, else v2.
pub(crate) fn setting(engine: &Engine, container: &str, controller: &str, v1: &str, v2: &str) -> String {
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", engine.pid_of(container))).unwrap();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next(), parts.next().unwrap(), parts.next().unwrap());
        let base = if controllers.split(',').any(|c| c == controller) {
            format!("/sys/fs/cgroup/{controllers}{path}/{v1}")
        } else if controllers.is_empty() {
            format!("/sys/fs/cgroup{path}/{v2}")
        } else {
            continue;
        };
        if let Ok(value) = fs::read_to_string(base) {
            return value.trim().to_string();
        }
    }
    panic!("{container} has no {controller} setting in\n{groups}");
}

#[test]
fn a_container_that_eats_too_much_is_killed_and_says_so() {
    let engine = Engine::start();
    engine.background(&["--name", "thin", "-m", "32m", "--memory-swap", "32m"], "sleep 1000");
    let thin = engine.pid_of("thin");
    engine.background(
        &["--name", "fat", "-m", "32m", "--memory-swap", "32m"],
        "tail /dev/zero & wait $!; sleep 0.2; exit 137",
    );
    let code = engine.tare(["wait", "fat"]).ok();
    let state = &engine.inspect("fat")["State"];
    assert_eq!((code.as_str(), &state["OOMKilled"]), ("137", &json!(true)), "{state}");
    assert_eq!(engine.inspect("thin")["State"]["OOMKilled"], json!(false), "it dies alone");
    assert_eq!(engine.pid_of("thin"), thin);
    assert_eq!(engine.sh(&[], "echo well"), "well");
}

#[test]
fn memory_limits_are_set() {
    let engine = Engine::start();
    engine.background(&["--name", "box-m", "-m", "64m"], "sleep 1000");
    assert_eq!(
        setting(&engine, "box-m", "memory", "memory.limit_in_bytes", "memory.max"),
        (64 << 20).to_string()
    );
    engine.background(&["--name", "box-n", "-m", "64m", "--memory-swap", "-1"], "sleep 1000");
    assert_eq!(
        setting(&engine, "box-n", "memory", "memory.limit_in_bytes", "memory.max"),
        (64 << 20).to_string()
    );
}

#[test]
fn a_fork_bomb_hits_its_limit() {
    let engine = Engine::start();
    engine.background(&["--name", "box-p", "--pids-limit", "20"], "sleep 1000");
    assert_eq!(setting(&engine, "box-p", "pids", "pids.max", "pids.max"), "20");
    let bomb = "i=0; while [ $i -lt 40 ]; do sleep 100 & i=$((i+1)); done; wait";
    let out = engine.tare(["exec", "box-p", "timeout", "5", "sh", "-c", bomb]).run();
    assert!(out.err().contains("fork") || out.out().contains("fork"), "{out}");
}

#[test]
fn the_number_of_processes_is_bounded_by_default() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    engine.background(&["--name", "box-p"], "sleep 1000");
    let limit = setting(&engine, "box-p", "pids", "pids.max", "pids.max");
    assert!(limit.parse::<u64>().is_ok_and(|n| n >= 1024), "{limit}");
}

#[test]
fn processor_limits_are_set() {
    let engine = Engine::start();
    engine.background(
        &["--name", "box-c", "--cpus", "0.5", "--cpu-shares", "512", "--cpuset-cpus", "0"],
        "sleep 1000",
    );
    let quota = setting(&engine, "box-c", "cpu", "cpu.cfs_quota_us", "cpu.max");
    assert!(quota == "50000" || quota == "50000 100000", "{quota}");
    let shares = setting(&engine, "box-c", "cpu", "cpu.shares", "cpu.weight");
    assert!(shares == "512" || shares.parse::<u64>().is_ok_and(|w| w < 100), "{shares}");
    assert_eq!(setting(&engine, "box-c", "cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
    assert_eq!(engine.tare(["exec", "box-c", "nproc"]).ok(), "1", "an exec is held by the same limits");
}

/// Processor time that a container has used, in the kernel's own unit.
fn used(engine: &Engine, container: &str) -> f64 {
    let text = setting(engine, container, "cpuacct", "cpuacct.usage", "cpu.stat");
    let text = text.lines().find_map(|line| line.strip_prefix("usage_usec ")).unwrap_or(&text);
    text.parse().unwrap()
}

#[test]
fn two_busy_containers_share_a_processor_as_they_were_told() {
    let engine = Engine::start();
    // What stands for four to one: shares themselves, or the weights that they become.
    let v1 = fs::exists("/sys/fs/cgroup/cpu/cpu.shares").unwrap();
    for (name, shares) in [("much", "1024"), ("little", if v1 { "256" } else { "170" })] {
        let flags = ["--name", name, "--cpu-shares", shares, "--cpuset-cpus", "0"];
        engine.background(&flags, "while :; do :; done");
    }
    let both = || [used(&engine, "much"), used(&engine, "little")];
    let before = both();
    tare_kit::wait::pause(std::time::Duration::from_secs(10));
    let after = both();
    let (much, little) = (after[0] - before[0], after[1] - before[1]);
    let part = 100.0 * much / (much + little);
    assert!((78.0..=82.0).contains(&part), "{part:.1} % of the processor");
}

#[test]
fn an_exec_is_in_the_containers_groups() {
    let engine = Engine::start();
    engine.background(&["--name", "box-e", "-m", "64m"], "sleep 1000");
    let host = fs::read_to_string(format!("/proc/{}/cgroup", engine.pid_of("box-e"))).unwrap();
    engine.tare(["exec", "-d", "box-e", "sleep", "54321"]).ok();
    let found = tare_kit::wait::until(tare_kit::wait::PATIENCE, || {
        let top = engine.get("/containers/box-e/top").expect(200);
        let rows = top["Processes"].as_array()?.clone();
        let row = rows.iter().find(|r| r.to_string().contains("54321"))?.clone();
        let titles = top["Titles"].as_array()?.iter().position(|t| t == "PID")?;
        row[titles].as_str()?.parse::<u32>().ok()
    });
    let pid = found.expect("the exec's process");
    let inside = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(inside, host);
}

#[test]
fn a_parent_group_can_be_chosen_and_stays() {
    let engine = Engine::start();
    let parent = format!("/kit-parent-{}", std::process::id());
    engine.background(&["--name", "box-g", "--cgroup-parent", &parent], "sleep 1000");
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", engine.pid_of("box-g"))).unwrap();
    assert!(groups.contains(&parent), "{groups}");
    engine.remove_containers();
    // The parent is the caller's: whoever asked for it takes it away.
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let _ = fs::remove_dir(format!("{}{parent}", hierarchy.path().display()));
    }
    let _ = fs::remove_dir(format!("/sys/fs/cgroup{parent}"));
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    let engine = Engine::start();
    for (flag, value) in
        [("-m", "1k"), ("--cpus", "9999"), ("--cpuset-cpus", "900-901"), ("-m", "abc"), ("--cpus", "-1")]
    {
        let out = engine.shell(&[flag, value], "true").run();
        assert!(out.code >= 125, "{flag} {value}: {out}");
    }
}

#[test]
fn limits_of_a_running_container_change_and_stay_changed() {
    let engine = Engine::start();
    engine
        .background(&["--name", "box-u", "-m", "64m", "--memory-swap", "64m", "--cpus", "0.5"], "sleep 1000");
    engine
        .tare([
            "update",
            "-m",
            "128m",
            "--memory-swap",
            "256m",
            "--pids-limit",
            "33",
            "--cpus",
            "0.25",
            "box-u",
        ])
        .ok();
    let memory = || setting(&engine, "box-u", "memory", "memory.limit_in_bytes", "memory.max");
    assert_eq!(memory(), (128 << 20).to_string());
    assert_eq!(setting(&engine, "box-u", "pids", "pids.max", "pids.max"), "33");
    let quota = setting(&engine, "box-u", "cpu", "cpu.cfs_quota_us", "cpu.max");
    assert!(quota == "25000" || quota == "25000 100000", "{quota}");
    let shown = &engine.inspect("box-u")["HostConfig"];
    assert_eq!((&shown["Memory"], &shown["PidsLimit"]), (&json!(128 << 20), &json!(33)), "{shown}");
    // Down again, below what both together were, and kept over a stop.
    engine.tare(["update", "-m", "32m", "--memory-swap", "32m", "box-u"]).ok();
    assert_eq!(memory(), (32 << 20).to_string());
    engine.tare(["restart", "-t", "0", "box-u"]).ok();
    assert_eq!(memory(), (32 << 20).to_string());
    assert_eq!(setting(&engine, "box-u", "pids", "pids.max", "pids.max"), "33");
}

#[test]
fn a_limit_that_cannot_be_is_refused_and_nothing_changes() {
    let engine = Engine::start();
    engine.background(&["--name", "box-r", "-m", "64m", "--memory-swap", "64m"], "sleep 1000");
    let said = engine.tare(["update", "-m", "1m", "box-r"]).fails(1);
    assert!(said.contains("6MB"), "{said}");
    let said = engine.tare(["update", "-m", "128m", "box-r"]).fails(1);
    assert!(said.contains("memoryswap"), "{said}");
    let memory = setting(&engine, "box-r", "memory", "memory.limit_in_bytes", "memory.max");
    assert_eq!(memory, (64 << 20).to_string());
    assert!(engine.tare(["update", "-m", "64m", "nobody"]).fails(1).contains("nobody"));
}
