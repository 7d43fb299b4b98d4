//! What a container goes through: create, start, stop, kill, pause, rename, wait, remove; how it is listed and shown.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use tare_kit::engine::BUSYBOX;
use tare_kit::{Engine, wait};

use crate::lines;

/// Ends on SIGTERM with code 9, and says that it is ready to.
const POLITE: &str = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done";

#[test]
fn stop_asks_first() {
    let engine = Engine::start();
    engine.background(&["--name", "polite"], POLITE);
    engine.wait_for_log("polite", "ready");
    assert_eq!(engine.tare(["stop", "polite"]).ok(), "polite");
    assert_eq!(engine.inspect("polite")["State"]["ExitCode"], json!(9));
}

#[test]
fn stop_kills_who_does_not_listen() {
    let engine = Engine::start();
    engine.background(&["--name", "deaf"], "trap '' TERM; echo ready; while :; do sleep 0.05; done");
    engine.wait_for_log("deaf", "ready");
    let begun = Instant::now();
    engine.tare(["stop", "-t", "1", "deaf"]).ok();
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(8), "{took:?}");
    assert_eq!(engine.inspect("deaf")["State"]["ExitCode"], json!(137));
}

#[test]
fn the_stop_signal_is_the_containers() {
    let engine = Engine::start();
    let script = "trap 'exit 11' USR1; echo ready; while :; do sleep 0.05; done";
    engine.background(&["--name", "usr", "--stop-signal", "SIGUSR1"], script);
    engine.wait_for_log("usr", "ready");
    engine.tare(["stop", "usr"]).ok();
    assert_eq!(engine.inspect("usr")["State"]["ExitCode"], json!(11));
}

#[test]
fn the_stop_timeout_is_the_containers() {
    let engine = Engine::start();
    engine.background(&["--name", "short", "--stop-timeout", "0"], "trap '' TERM; echo ready; sleep 100");
    engine.wait_for_log("short", "ready");
    let begun = Instant::now();
    engine.tare(["stop", "short"]).ok();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn kill_sends_any_signal() {
    let engine = Engine::start();
    let script = "trap 'echo hup' HUP; trap 'exit 3' INT; echo ready; while :; do sleep 0.05; done";
    engine.background(&["--name", "many"], script);
    engine.wait_for_log("many", "ready");
    engine.tare(["kill", "-s", "HUP", "many"]).ok();
    engine.wait_for_log("many", "hup");
    engine.tare(["kill", "--signal", "2", "many"]).ok();
    assert_eq!(engine.tare(["wait", "many"]).ok(), "3");
    assert!(engine.tare(["kill", "many"]).fails(1).contains("is not running"));
    assert!(!engine.tare(["kill", "-s", "NOSUCH", "many"]).fails(1).is_empty());
}

#[test]
fn kill_without_a_signal_is_sigkill() {
    let engine = Engine::start();
    engine.background(&["--name", "victim"], "trap '' TERM INT; sleep 100");
    engine.tare(["kill", "victim"]).ok();
    assert_eq!(engine.tare(["wait", "victim"]).ok(), "137");
}

#[test]
fn wait_returns_when_it_ends_and_at_once_later() {
    let engine = Engine::start();
    engine.background(&["--name", "box-w"], "sleep 0.3; exit 6");
    assert_eq!(engine.tare(["wait", "box-w"]).ok(), "6");
    assert_eq!(engine.tare(["wait", "box-w", "box-w"]).ok(), "6\n6");
}

#[test]
fn a_stopped_container_starts_again_with_its_files() {
    let engine = Engine::start();
    engine.background(&["--name", "again"], "echo run >> /count; cat /count | wc -l; sleep 100");
    engine.wait_for_log("again", "1");
    engine.tare(["kill", "again"]).ok();
    engine.tare(["wait", "again"]).ok();
    engine.tare(["start", "again"]).ok();
    engine.wait_for_log("again", "2");
    engine.tare(["restart", "-t", "0", "again"]).ok();
    engine.wait_for_log("again", "3");
    assert_eq!(engine.inspect("again")["State"]["Running"], json!(true));
}

#[test]
fn starting_twice_changes_nothing() {
    let engine = Engine::start();
    let id = engine.background(&[], "sleep 100");
    let pid = engine.pid_of(&id);
    engine.tare(["start", &id]).ok();
    assert_eq!(engine.pid_of(&id), pid);
    assert_eq!(engine.post(&format!("/containers/{id}/start"), &json!(null)).status, 304);
    engine.tare(["stop", "-t", "0", &id]).ok();
    assert_eq!(engine.post(&format!("/containers/{id}/stop"), &json!(null)).status, 304);
}

#[test]
fn pause_holds_every_process_still() {
    let engine = Engine::start();
    engine
        .background(&["--name", "box-p"], "i=0; while :; do i=$((i+1)); echo $i > /count; sleep 0.01; done");
    let count = || engine.tare(["exec", "box-p", "cat", "/count"]).ok();
    wait::until(wait::PATIENCE, || {
        engine.tare(["exec", "box-p", "test", "-s", "/count"]).run().code.eq(&0).then_some(())
    });
    engine.tare(["pause", "box-p"]).ok();
    let state = &engine.inspect("box-p")["State"];
    assert_eq!((&state["Status"], &state["Paused"]), (&json!("paused"), &json!(true)));
    assert!(engine.tare(["exec", "box-p", "true"]).run().code != 0, "no exec into a paused container");
    assert!(engine.tare(["ps"]).ok().contains("(Paused)"));
    engine.tare(["unpause", "box-p"]).ok();
    let first = count();
    wait::until(wait::PATIENCE, || (count() != first).then_some(())).expect("it goes on");
}

#[test]
fn a_paused_container_can_be_removed() {
    let engine = Engine::start();
    engine.background(&["--name", "box-p"], "sleep 100");
    engine.tare(["pause", "box-p"]).ok();
    engine.tare(["rm", "-f", "box-p"]).ok();
    assert_eq!(engine.containers(), Vec::<String>::new());
}

#[test]
fn rename_moves_the_name() {
    let engine = Engine::start();
    let id = engine.background(&["--name", "old"], "sleep 100");
    engine.background(&["--name", "taken"], "sleep 100");
    engine.tare(["rename", "old", "new"]).ok();
    assert_eq!(engine.inspect("new")["Id"], json!(id));
    assert_eq!(engine.get("/containers/old/json").status, 404);
    assert!(engine.tare(["rename", "new", "taken"]).fails(1).contains("taken"));
}

#[test]
fn a_running_container_is_not_removed_without_force() {
    let engine = Engine::start();
    engine.background(&["--name", "box-r"], "sleep 100");
    let why = engine.tare(["rm", "box-r"]).fails(1);
    assert!(why.contains("running"), "{why}");
    assert_eq!(engine.tare(["rm", "-f", "box-r"]).ok(), "box-r");
    assert!(engine.tare(["rm", "box-r"]).fails(1).contains("No such container"));
}

#[test]
fn several_are_handled_in_one_go_and_errors_do_not_stop_it() {
    let engine = Engine::start();
    engine.background(&["--name", "box-a"], "sleep 100");
    engine.background(&["--name", "box-b"], "sleep 100");
    let out = engine.tare(["rm", "-f", "box-a", "missing", "box-b"]).run();
    assert!(out.out().contains("box-a") && out.out().contains("box-b"), "{out}");
    assert_eq!(engine.containers(), Vec::<String>::new());
}

#[test]
fn a_prefix_of_an_id_names_the_container() {
    let engine = Engine::start();
    let id = engine.background(&[], "sleep 100");
    for length in [64, 12, 6] {
        assert_eq!(engine.tare(["inspect", "-f", "{{.Id}}", &id[..length]]).ok(), id);
    }
}

#[test]
fn ps_shows_the_running_and_with_a_all() {
    let engine = Engine::start();
    let up = engine.background(&["--name", "up"], "sleep 100");
    let down = engine.background(&["--name", "down"], "exit 3");
    engine.tare(["wait", "down"]).ok();
    assert_eq!(engine.tare(["ps", "-q", "--no-trunc"]).ok(), up);
    let ids = engine.tare(["ps", "-q", "--no-trunc", "--format", "{{.Names}}"]).run();
    assert!(ids.out() == up.trim() && ids.err().contains("Ignoring custom format"), "as Docker's: {ids}");
    let all = engine.tare(["ps", "-a", "-q", "--no-trunc"]).ok();
    assert_eq!(lines(&all), [down.as_str(), up.as_str()], "newest first");
    let table = engine.tare(["ps", "-a"]).ok();
    let head: Vec<_> = lines(&table)[0].split_whitespace().collect();
    assert_eq!(head, ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
    assert!(table.contains("Exited (3)") && table.contains("Up ") && table.contains(BUSYBOX), "{table}");
    assert!(table.contains(&up[..12]), "{table}");
}

#[test]
fn ps_filters_and_formats() {
    let engine = Engine::start();
    let up = engine.background(&["--name", "alpha", "--label", "k=v"], "sleep 100");
    engine.background(&["--name", "beta"], "exit 0");
    engine.tare(["wait", "beta"]).ok();
    engine.tare(["create", "--name", "gamma", "--network", "none", BUSYBOX]).ok();
    let names = |filter: &str| engine.tare(["ps", "-a", "--filter", filter, "--format", "{{.Names}}"]).ok();
    assert_eq!(names("status=running"), "alpha");
    assert_eq!(names("status=exited"), "beta");
    assert_eq!(names("status=created"), "gamma");
    assert_eq!(names("name=alp"), "alpha");
    assert_eq!(names("label=k=v"), "alpha");
    assert_eq!(names(&format!("id={}", &up[..12])), "alpha");
    assert_eq!(names("exited=0"), "beta");
    let json = engine.tare(["ps", "--format", "{{json .}}"]).ok();
    assert!(json.contains("\"Names\":\"alpha\""), "{json}");
    let table = engine.tare(["ps", "--format", "table {{.Names}}\t{{.Image}}"]).ok();
    assert_eq!(lines(&table)[0].split_whitespace().collect::<Vec<_>>(), ["NAMES", "IMAGE"]);
}

#[test]
fn inspect_tells_what_was_asked_for() {
    let engine = Engine::start();
    let id =
        engine.background(&["--name", "box-i", "-e", "A=b", "-m", "64m", "--hostname", "h"], "sleep 100");
    let shown = engine.inspect("box-i");
    assert_eq!(shown["Id"], json!(id));
    assert_eq!(shown["Path"], json!("sh"));
    assert_eq!(shown["Args"], json!(["-c", "sleep 100"]));
    assert_eq!(shown["Config"]["Image"], json!(BUSYBOX));
    assert_eq!(shown["Config"]["Hostname"], json!("h"));
    assert_eq!(shown["HostConfig"]["Memory"], json!(64 << 20));
    assert_eq!(shown["HostConfig"]["NetworkMode"], json!("none"));
    assert_eq!(shown["State"]["Running"], json!(true));
    assert!(shown["Image"].as_str().unwrap().starts_with("sha256:"));
    assert!(shown["Created"].as_str().unwrap().ends_with('Z'));
    let format = "{{.Name}} {{.State.Status}} {{index .Config.Env 0}} {{json .Config.Hostname}}";
    assert_eq!(engine.tare(["inspect", "-f", format, "box-i"]).ok(), "/box-i running A=b \"h\"");
    assert!(engine.tare(["inspect", "missing"]).fails(1).to_lowercase().contains("no such"));
}

#[test]
fn top_lists_the_containers_processes() {
    let engine = Engine::start();
    engine.background(&["--name", "box-t"], "sleep 12345 & sleep 12345 & wait");
    let table = wait::until(wait::PATIENCE, || {
        let table = engine.tare(["top", "box-t"]).ok();
        (table.matches("sleep 12345").count() >= 2).then_some(table)
    });
    let table = table.expect("both sleeps");
    assert!(lines(&table)[0].contains("PID") && lines(&table)[0].contains("CMD"), "{table}");
}

#[test]
fn stats_show_what_it_uses() {
    let engine = Engine::start();
    engine.background(&["--name", "box-s", "-m", "100m"], "sleep 100");
    let table = engine.tare(["stats", "--no-stream", "box-s"]).ok();
    assert!(lines(&table)[0].contains("MEM USAGE / LIMIT") && table.contains("100MiB"), "{table}");
    let stats = engine.get("/containers/box-s/stats?stream=false&one-shot=true").expect(200);
    assert_eq!(stats["memory_stats"]["limit"], json!(100 << 20));
    assert!(stats["pids_stats"]["current"].as_u64().unwrap_or(0) >= 1, "{stats}");
}

#[test]
fn events_tell_the_story() {
    let engine = Engine::start();
    engine.background(&["--name", "told"], "sleep 100");
    engine.tare(["kill", "told"]).ok();
    engine.tare(["wait", "told"]).ok();
    engine.tare(["rm", "told"]).ok();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 1;
    let filter = "%7B%22container%22%3A%5B%22told%22%5D%7D";
    let answer = engine.get(&format!("/events?since=0&until={now}&filters={filter}"));
    let text = answer.text();
    let at = |action: &str| {
        text.find(&format!("\"Action\":\"{action}\"")).unwrap_or_else(|| panic!("{action}: {text}"))
    };
    assert!(at("create") < at("start") && at("start") < at("kill") && at("kill") < at("die"));
    assert!(at("die") < at("destroy"));
}

#[test]
fn a_container_that_cannot_start_says_why_and_stays() {
    let engine = Engine::start();
    let out = engine.tare(["run", "--name", "bad", "--network", "none", BUSYBOX, "/no/such"]).run();
    assert_eq!(out.code, 127);
    assert!(out.err().contains("/no/such") && out.err().to_lowercase().contains("no such file"), "{out}");
    let state = &engine.inspect("bad")["State"];
    assert_eq!((&state["Status"], &state["ExitCode"]), (&json!("created"), &json!(127)));
}

#[test]
fn an_interrupted_client_leaves_a_container_that_can_be_handled() {
    let engine = Engine::start();
    let args = ["run", "--name", "left", "--network", "none", BUSYBOX, "sleep", "100"];
    let run = engine.tare(args).spawn();
    wait::until(wait::PATIENCE, || {
        (engine.get("/containers/left/json").json()["State"]["Running"] == json!(true)).then_some(())
    })
    .expect("it runs");
    run.signal(Signal::KILL);
    run.wait();
    assert_eq!(engine.inspect("left")["State"]["Running"], json!(true));
    engine.tare(["stop", "-t", "0", "left"]).ok();
}

#[test]
fn many_at_once_do_not_disturb_one_another() {
    let engine = Engine::start();
    let running: Vec<_> =
        (0..12).map(|i| engine.shell(&[], &format!("echo {i}; exit {i}")).spawn()).collect();
    for (i, run) in running.into_iter().enumerate() {
        let out = run.wait();
        assert_eq!((out.out(), out.code), (i.to_string(), i32::try_from(i).unwrap()), "{out}");
    }
    assert_eq!(engine.containers(), Vec::<String>::new());
}
