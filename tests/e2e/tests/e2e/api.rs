//! The Engine API by hand: versions, statuses, errors, streams.

use std::io::{Read, Write};
use std::time::Duration;

use serde_json::json;
use tare_kit::engine::BUSYBOX;
use tare_kit::http::{self, Body, demultiplex};
use tare_kit::{Engine, wait};

use crate::ours;

#[test]
fn ping_names_the_version() {
    let engine = Engine::start();
    let answer = engine.get("/_ping");
    assert_eq!((answer.status, answer.text().as_str()), (200, "OK"));
    assert!(
        answer.header("api-version").is_some() && answer.header("ostype") == Some("linux"),
        "{:?}",
        answer.headers
    );
    assert_eq!(engine.request("HEAD", "/_ping", None).status, 200);
}

#[test]
fn versions_from_1_40_to_1_55_are_served_and_others_refused() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    for minor in 40..=55 {
        assert_eq!(engine.get(&format!("/v1.{minor}/_ping")).status, 200, "1.{minor}");
    }
    assert_eq!(engine.get("/v1.24/version").status, 400);
    assert_eq!(engine.get("/v1.99/version").status, 400);
    let version = engine.get("/version").expect(200);
    assert_eq!((&version["ApiVersion"], &version["MinAPIVersion"]), (&json!("1.55"), &json!("1.40")));
}

#[test]
fn errors_are_json_with_a_message() {
    let engine = Engine::start();
    for (path, status) in
        [("/containers/none/json", 404), ("/images/none:none/json", 404), ("/no/such/page", 404)]
    {
        let answer = engine.get(path);
        assert_eq!(answer.status, status, "{path}");
        assert!(
            answer.json()["message"].as_str().is_some_and(|m| !m.is_empty()),
            "{path}: {}",
            answer.text()
        );
    }
}

#[test]
fn bodies_that_are_wrong_are_the_callers_fault() {
    let mut engine = Engine::start();
    for body in ["", "{", "[]", "null", "{\"Cmd\": 5}", "{\"Image\": {}}", "\"x\"", "{\"HostConfig\": []}"] {
        let body = Body { kind: "application/json", bytes: body.as_bytes() };
        let answer = engine.request("POST", "/containers/create", Some(&body));
        let limit = if ours() { 500 } else { 600 };
        assert!((400..limit).contains(&answer.status), "{}: {}", answer.status, answer.text());
    }
    let answer = engine.post("/containers/create", &json!({"Image": "missing:1", "Cmd": ["true"]}));
    assert_eq!(answer.status, 404, "{}", answer.text());
    assert!(!ours() || engine.daemon_is_alive());
}

#[test]
fn a_whole_life_over_the_api() {
    let engine = Engine::start();
    let body = json!({
        "Image": BUSYBOX, "Cmd": ["sh", "-c", "echo out; echo err >&2; exit 3"],
        "HostConfig": {"NetworkMode": "none"}
    });
    let id =
        engine.post("/containers/create?name=life", &body).expect(201)["Id"].as_str().unwrap().to_string();
    assert_eq!(engine.post(&format!("/containers/{id}/start"), &json!(null)).status, 204);
    let waited = engine.post(&format!("/containers/{id}/wait"), &json!(null)).expect(200);
    assert_eq!(waited["StatusCode"], json!(3));
    let logs = engine.get(&format!("/containers/{id}/logs?stdout=1&stderr=1"));
    assert_eq!(demultiplex(&logs.body), (b"out\n".to_vec(), b"err\n".to_vec()));
    assert_eq!(engine.request("DELETE", &format!("/containers/{id}"), None).status, 204);
    assert_eq!(engine.request("DELETE", &format!("/containers/{id}"), None).status, 404);
}

#[test]
fn attach_before_start_misses_nothing_and_half_closes() {
    let engine = Engine::start();
    let body = json!({
        "Image": BUSYBOX, "Cmd": ["sh", "-c", "echo first; cat"], "OpenStdin": true, "StdinOnce": true,
        "AttachStdin": true, "HostConfig": {"NetworkMode": "none"}
    });
    let id = engine.post("/containers/create", &body).expect(201)["Id"].as_str().unwrap().to_string();
    let path = format!("/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1");
    let (head, mut stream) = http::upgrade(&engine.socket(), &path, None).unwrap();
    assert_eq!((head.status, head.header("upgrade")), (101, Some("tcp")), "{:?}", head.headers);
    engine.post(&format!("/containers/{id}/start"), &json!(null));
    stream.get_mut().write_all(b"typed\n").unwrap();
    stream.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).unwrap();
    assert_eq!(String::from_utf8_lossy(&demultiplex(&raw).0), "first\ntyped\n");
}

#[test]
fn wait_for_removed_and_next_exit_answer_in_time() {
    let engine = Engine::start();
    let body = json!({"Image": BUSYBOX, "Cmd": ["sleep", "0.3"], "HostConfig": {"NetworkMode": "none", "AutoRemove": true}});
    let id = engine.post("/containers/create", &body).expect(201)["Id"].as_str().unwrap().to_string();
    let socket = engine.socket();
    let path = format!("/containers/{id}/wait?condition=removed");
    let waiter = std::thread::spawn(move || http::request(&socket, "POST", &path, None));
    wait::pause(Duration::from_millis(50));
    engine.post(&format!("/containers/{id}/start"), &json!(null));
    let answer = waiter.join().unwrap().unwrap().expect(200);
    assert_eq!(answer["StatusCode"], json!(0));
    assert_eq!(engine.get(&format!("/containers/{id}/json")).status, 404, "removed means removed");
}

#[test]
fn two_requests_for_the_same_name_give_one_container() {
    let engine = Engine::start();
    let body = json!({"Image": BUSYBOX, "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}}).to_string();
    let racers: Vec<_> = (0..8)
        .map(|_| {
            let (socket, body) = (engine.socket(), body.clone());
            std::thread::spawn(move || {
                let body = Body { kind: "application/json", bytes: body.as_bytes() };
                http::request(&socket, "POST", "/containers/create?name=raced", Some(&body)).unwrap().status
            })
        })
        .collect();
    let mut statuses: Vec<_> = racers.into_iter().map(|r| r.join().unwrap()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
}

#[test]
fn info_and_version_are_there() {
    let engine = Engine::start();
    engine.background(&[], "sleep 1000");
    let info = engine.get("/info").expect(200);
    assert_eq!((&info["ContainersRunning"], &info["OSType"]), (&json!(1), &json!("linux")), "{info}");
    assert!(info["NCPU"].as_u64().unwrap() >= 1 && info["MemTotal"].as_u64().unwrap() > 0);
}

#[test]
fn a_slow_or_silent_client_holds_nobody_up() {
    let engine = Engine::start();
    let mut half = std::os::unix::net::UnixStream::connect(engine.socket()).unwrap();
    half.write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\n").unwrap();
    // A client that asks for much output and reads none of it.
    engine.background(&["--name", "loud"], "while :; do echo 0123456789012345678901234567890123456789; done");
    let deaf = http::upgrade(&engine.socket(), "/containers/loud/attach?stream=1&stdout=1", None).unwrap();
    assert_eq!(engine.sh(&[], "echo well"), "well");
    if ours() {
        // The reference waits for the deaf client here, for good.
        engine.tare(["kill", "loud"]).ok();
        assert_eq!(engine.tare(["wait", "loud"]).ok(), "137");
    }
    drop((half, deaf));
}
