//! What outlives what: the daemon is killed, monitors are killed, engines live side by side, a client starts its own.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tare_kit::engine::{BUSYBOX, program};
use tare_kit::{Cmd, Engine, wait};

use crate::{lines, ours};

#[test]
fn a_container_outlives_a_killed_daemon() {
    if !ours() {
        return;
    }
    let mut engine = Engine::start();
    let id = engine.background(
        &["--name", "box-c", "--label", "k=v"],
        "i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done",
    );
    engine.wait_for_log("box-c", "3");
    let pid = engine.pid_of("box-c");
    engine.kill_daemon();
    wait::pause(std::time::Duration::from_millis(300));
    engine.start_daemon();
    assert_eq!(engine.pid_of("box-c"), pid, "the same process");
    assert_eq!(engine.inspect("box-c")["Id"], json!(id));
    let logs = engine.tare(["logs", "box-c"]).ok();
    let numbers: Vec<usize> = lines(&logs).iter().map(|l| l.parse().unwrap()).collect();
    assert!(
        numbers.iter().enumerate().all(|(i, n)| i == *n) && numbers.len() > 10,
        "the log has a gap: {logs}"
    );
    assert_eq!(engine.tare(["exec", "box-c", "echo", "in"]).ok(), "in");
    engine.tare(["stop", "-t", "0", "box-c"]).ok();
    assert_eq!(engine.tare(["wait", "box-c"]).ok(), "137");
}

#[test]
fn what_happened_meanwhile_is_known() {
    if !ours() {
        return;
    }
    let mut engine = Engine::start();
    // A word from outside: root of the host is nobody inside, and cannot leave one by way of /proc/PID/root.
    let (word, bind) = (engine.path("word"), format!("{}:/word", engine.path("word")));
    fs::create_dir(&word).unwrap();
    let wait = "while [ ! -e /word/go ]; do sleep 0.02; done";
    engine.background(&["--name", "ends", "-v", &bind], &format!("{wait}; echo last words; exit 42"));
    engine.background(&["--name", "gone", "--rm", "-v", &bind], wait);
    let pids = ["ends", "gone"].map(|n| engine.pid_of(n));
    engine.kill_daemon();
    fs::write(format!("{word}/go"), "").unwrap();
    wait::until(wait::PATIENCE, || {
        pids.iter().all(|p| !fs::exists(format!("/proc/{p}")).unwrap()).then_some(())
    })
    .unwrap();
    engine.start_daemon();
    assert_eq!(engine.tare(["wait", "ends"]).ok(), "42");
    let state = engine.inspect("ends")["State"].clone();
    assert_eq!((&state["Status"], &state["ExitCode"]), (&json!("exited"), &json!(42)));
    assert_eq!(engine.tare(["logs", "ends"]).ok(), "last words");
    wait::until(wait::PATIENCE, || (engine.get("/containers/gone/json").status == 404).then_some(()))
        .expect("--rm holds");
}

#[test]
fn a_stopped_container_and_its_files_are_still_there_after_a_kill() {
    if !ours() {
        return;
    }
    let mut engine = Engine::start();
    engine.background(&["--name", "box-s"], "echo x >> /count; wc -l < /count");
    engine.tare(["wait", "box-s"]).ok();
    engine.kill_daemon();
    engine.start_daemon();
    engine.tare(["start", "box-s"]).ok();
    engine.wait_for_log("box-s", "2");
    assert!(engine.tare(["images"]).ok().contains("kit-busybox"));
}

#[test]
fn a_daemon_that_ends_politely_leaves_containers_running() {
    if !ours() {
        return;
    }
    let mut engine = Engine::start();
    engine.background(&["--name", "box-c"], "sleep 1000");
    let pid = engine.pid_of("box-c");
    engine.stop_daemon();
    assert!(fs::exists(format!("/proc/{pid}")).unwrap());
    engine.start_daemon();
    assert_eq!(engine.pid_of("box-c"), pid);
}

#[test]
fn a_killed_nursery_is_replaced() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    engine.background(&["--name", "box-c"], "sleep 1000");
    let pid = engine.pid_of("box-c");
    for nursery in children(engine.daemon_pid()) {
        kill_process(nursery, Signal::KILL).unwrap();
    }
    assert_eq!(engine.sh(&[], "echo next"), "next");
    assert_eq!(engine.pid_of("box-c"), pid, "a running container does not care");
    assert_eq!(engine.tare(["exec", "box-c", "echo", "in"]).ok(), "in");
}

#[test]
fn a_killed_monitor_leaves_a_dead_container_with_a_reason() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    engine.background(&["--name", "box-c"], "sleep 1000");
    let pid = engine.pid_of("box-c");
    let shim = parent(pid).expect("the monitor");
    kill_process(shim, Signal::KILL).unwrap();
    let state = wait::until(wait::PATIENCE, || {
        let state = engine.inspect("box-c")["State"].clone();
        (state["Running"] == json!(false)).then_some(state)
    })
    .expect("it is reported dead");
    assert_eq!(state["ExitCode"], json!(137), "{state}");
    assert!(state["Error"].as_str().unwrap().contains("monitor"), "{state}");
    wait::until(wait::PATIENCE, || (!fs::exists(format!("/proc/{pid}")).unwrap()).then_some(()))
        .expect("no process is left");
    engine.tare(["start", "box-c"]).ok();
    assert_eq!(engine.inspect("box-c")["State"]["Running"], json!(true));
}

#[test]
fn an_init_that_is_killed_from_outside_is_an_exit() {
    let engine = Engine::start();
    engine.background(&["--name", "box-c"], "sleep 1000");
    kill_process(Pid::from_raw(engine.pid_of("box-c").cast_signed()).unwrap(), Signal::KILL).unwrap();
    assert_eq!(engine.tare(["wait", "box-c"]).ok(), "137");
    assert_eq!(engine.inspect("box-c")["State"]["OOMKilled"], json!(false));
}

#[test]
fn two_engines_do_not_see_each_other() {
    if !ours() {
        return;
    }
    let (one, two) = (Engine::start(), Engine::start());
    one.background(&["--name", "same"], "sleep 1000");
    two.background(&["--name", "same"], "sleep 1000");
    assert_eq!((one.containers().len(), two.containers().len()), (1, 1));
    assert_ne!(one.inspect("same")["Id"], two.inspect("same")["Id"]);
    one.tare(["rm", "-f", "same"]).ok();
    assert_eq!(two.inspect("same")["State"]["Running"], json!(true));
}

#[test]
fn a_second_daemon_on_the_same_root_is_refused_with_the_reason() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let out = Cmd::new(program("tared"))
        .args([
            "--root".as_ref(),
            engine.root().as_os_str(),
            "--run-dir".as_ref(),
            engine.run_dir().as_os_str(),
        ])
        .args(["--socket".as_ref(), engine.dir().join("other.sock").as_os_str()])
        .run();
    assert!(out.code != 0 && out.err().contains("already running"), "{out}");
    assert_eq!(engine.sh(&[], "echo well"), "well");
}

#[test]
fn no_half_made_container_is_visible_after_a_kill_during_create() {
    if !ours() {
        return;
    }
    let mut engine = Engine::start();
    for round in 0..5 {
        let body =
            json!({"Image": BUSYBOX, "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}}).to_string();
        let socket = engine.socket();
        let creator = std::thread::spawn(move || {
            let body = tare_kit::http::Body { kind: "application/json", bytes: body.as_bytes() };
            (0..50)
                .filter(|_| {
                    tare_kit::http::request(&socket, "POST", "/containers/create", Some(&body))
                        .is_ok_and(|r| r.status == 201)
                })
                .count()
        });
        wait::pause(std::time::Duration::from_millis(20 + round * 7));
        engine.kill_daemon();
        let made = creator.join().unwrap();
        engine.start_daemon();
        let there = engine.containers();
        assert!(
            there.len() >= made && there.len() <= made + 1,
            "{made} were acknowledged, {} are there",
            there.len()
        );
        for id in &there {
            assert_eq!(engine.inspect(id)["State"]["Status"], json!("created"));
        }
        engine.remove_containers();
    }
}

// === a client starts its own daemon ===

/// Runs a script in a mount namespace in which the default places are fresh, so that the default instance of the
/// machine, if there is one, is neither seen nor touched. What the script started is killed at its end.
fn apart(script: &str) -> tare_kit::Output {
    let tare = program("tare");
    let whole = format!(
        "set -e; mount -t tmpfs none /run; mount -t tmpfs none /var/lib; unset DOCKER_HOST TARE_HOST\n\
         tare={}\n\
         done_with() {{ $tare --no-autostart ps -aq 2>/dev/null | xargs -r $tare rm -f >/dev/null 2>&1; \
         for p in $(pgrep -x tared); do test \"$(readlink /proc/$p/ns/mnt)\" = \"$(readlink /proc/self/ns/mnt)\" && kill $p; done; }}\n\
         trap done_with EXIT\n{script}",
        tare.display()
    );
    Cmd::new("unshare").args(["--mount", "--propagation=private", "bash", "-c", &whole]).run()
}

#[test]
fn without_a_daemon_the_client_starts_one_and_says_so_once() {
    if !ours() {
        return;
    }
    let out = apart(
        "$tare run --rm --network none host -- echo one; $tare run --rm --network none host -- echo two",
    );
    assert_eq!(out.out(), "one\ntwo", "{out}");
    assert_eq!(lines(&out.err()).iter().filter(|l| l.contains("tared")).count(), 1, "{out}");
}

#[test]
fn a_started_daemon_is_on_its_own() {
    if !ours() {
        return;
    }
    let script = "SECRET=mine $tare version >/dev/null 2>&1; for p in $(pgrep -x tared); do \
        test \"$(readlink /proc/$p/ns/mnt)\" = \"$(readlink /proc/self/ns/mnt)\" || continue; \
        readlink /proc/$p/cwd; ps -o sid= -p $p | tr -d ' ' | grep -qx $p && echo own-session; \
        tr '\\0' '\\n' < /proc/$p/environ | grep -c SECRET || true; stat -c %a /run/tare/tared.sock; done";
    let out = apart(script);
    assert_eq!(out.out(), "/\nown-session\n0\n660", "{out}");
}

#[test]
fn a_started_daemon_leaves_no_empty_group() {
    if !ours() {
        return;
    }
    // Other daemons of this name have the group in common: one that is being started may show it empty for a moment.
    let is_left = |group: &std::path::Path| {
        fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|members| members.is_empty())
    };
    for signal in ["TERM", "KILL"] {
        let script = format!(
            "$tare run --rm --network none host -- true 2>/dev/null; pid=$(cut -d' ' -f1 /run/tare/tared.lock); \
             sed -n 's,^[^:]*:[^:]*:/\\(tared-.*\\),\\1,p' /proc/$pid/cgroup | sort -u; kill -{signal} $pid; \
             while test -e /proc/$pid; do sleep 0.02; done"
        );
        let out = apart(&script);
        assert_eq!(out.out(), "tared-run-tare", "{out}");
        let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"];
        let gone = || roots.iter().all(|root| !is_left(&std::path::Path::new(root).join("tared-run-tare")));
        wait::until(wait::PATIENCE, || gone().then_some(())).expect("the group goes");
    }
}

#[test]
fn a_killed_engine_leaves_no_empty_group() {
    if !ours() {
        return;
    }
    let mut engine = Engine::start();
    engine.sh(&[], "true");
    let traces = engine.traces();
    engine.kill_daemon();
    let left: Vec<String> = traces.left().into_iter().filter(|what| what.starts_with("cgroup")).collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn a_daemon_that_was_killed_is_followed_by_another_at_once() {
    if !ours() {
        return;
    }
    // No wait between the two: the old one may still be on its way out.
    let script = "$tare ps >/dev/null 2>&1; for i in 1 2 3 4 5 6 7 8; do : > /run/said; \
        kill -KILL $(cut -d' ' -f1 /run/tare/tared.lock); ${tare}d --ready-fd 1 > /run/said 2>/run/why & \
        until test -s /run/said; do sleep 0.02; done; cat /run/said; done";
    assert_eq!(lines(&apart(script).out()), ["ready"; 8]);
}

#[test]
fn autostart_can_be_refused_and_never_happens_for_docker_host() {
    if !ours() {
        return;
    }
    let engine = Engine::prepared(&[]);
    let out = apart("$tare --no-autostart ps");
    assert!(out.code != 0 && out.err().contains("tared.sock"), "{out}");
    let socket = engine.path("nobody.sock");
    let out = apart(&format!("export DOCKER_HOST=unix://{socket}; $tare ps; test ! -e {socket}"));
    assert!(out.code != 0 && out.err().contains("nobody.sock"), "{out}");
    assert!(!fs::exists(&socket).unwrap());
}

#[test]
fn the_host_flag_beats_tare_host_beats_docker_host() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let good = format!("unix://{}", engine.socket().display());
    let bad = format!("unix://{}", engine.path("nobody.sock"));
    let tare = |args: &[&str]| Cmd::new(program("tare")).args(args);
    tare(&["--host", &good, "ps"]).env("TARE_HOST", &bad).env("DOCKER_HOST", &bad).ok();
    tare(&["ps"]).env("TARE_HOST", &good).env("DOCKER_HOST", &bad).ok();
    tare(&["ps"]).without_env("TARE_HOST").env("DOCKER_HOST", &good).ok();
}

fn children(pid: u32) -> Vec<Pid> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let lists = tasks.map(|t| fs::read_to_string(t.path().join("children")).unwrap_or_default());
    lists
        .flat_map(|l| l.split_whitespace().filter_map(|p| Pid::from_raw(p.parse().ok()?)).collect::<Vec<_>>())
        .collect()
}

fn parent(pid: u32) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after = stat.rsplit_once(')')?.1;
    Pid::from_raw(after.split_whitespace().nth(1)?.parse().ok()?)
}
