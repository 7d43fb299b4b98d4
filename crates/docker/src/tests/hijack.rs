//! Connections that leave HTTP.

use tokio::io::AsyncWriteExt;

use super::client::{post, served};

const UPGRADE: &str = "Host: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn an_upgraded_connection_carries_the_streams() {
    let s = served();
    let mut client = s.connect().await;
    client
        .send(&format!("POST /v1.51/containers/web/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\n{UPGRADE}"))
        .await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 UPGRADED\r\n"), "{head}");
    assert!(
        head.contains("Upgrade: tcp") && head.contains("application/vnd.docker.multiplexed-stream"),
        "{head}"
    );
    client.send("hello").await;
    assert_eq!(client.take(13).await, b"\x01\0\0\0\0\0\0\x05hello");
    client.0.shutdown().await.expect("half-close");
    assert_eq!(client.rest().await, b"\x02\0\0\0\0\0\0\x03bye", "output goes on after the end of input");
    assert_eq!(s.fake.log(), ["attach stdin=true web"]);
}

#[tokio::test]
async fn without_upgrade_the_answer_is_200_and_early_input_counts() {
    let s = served();
    let mut client = s.connect().await;
    client.send("POST /v1.40/containers/web/attach?stream=1&stdin=1 HTTP/1.1\r\nHost: d\r\n\r\nearly").await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("application/vnd.docker.raw-stream"), "{head}");
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "raw bytes follow: {head}");
    assert_eq!(client.take(13).await, b"\x01\0\0\0\0\0\0\x05early");
}

#[tokio::test]
async fn a_terminal_is_a_raw_stream_and_detach_keys_end_it() {
    let s = served();
    let mut client = s.connect().await;
    let path = "/containers/tty/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-a,q";
    client.send(&format!("POST {path} HTTP/1.1\r\n{UPGRADE}")).await;
    assert!(client.head().await.contains("application/vnd.docker.raw-stream"));
    client.send("hi").await;
    assert_eq!(client.take(2).await, b"hi");
    client.send("\x01q").await;
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn attach_errors_are_plain_answers_before_anything_is_hijacked() {
    let s = served();
    for (path, status) in [
        ("/containers/missing/attach?stream=1", 404),
        ("/containers/web/attach", 400),
        ("/containers/web/attach?stream=1&detachKeys=bad-key", 400),
    ] {
        let mut client = s.connect().await;
        client.send(&format!("POST {path} HTTP/1.1\r\n{UPGRADE}")).await;
        assert_eq!(client.answer().await.status, status, "{path}");
        client.send("GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 200, "the connection goes on");
    }
}

#[tokio::test]
async fn an_exec_is_created_started_and_inspected() {
    let s = served();
    let made =
        s.post("/containers/web/exec", r#"{"Cmd":["cat"],"AttachStdin":true,"AttachStdout":true}"#).await;
    assert_eq!((made.status, made.json()["Id"].as_str()), (201, Some("ee".repeat(32).as_str())));
    let mut client = s.connect().await;
    let start = post("/exec/eeee/start", r#"{"Detach":false,"Tty":false}"#);
    client.send(&start.replace("Host: docker", "Host: docker\r\nConnection: Upgrade\r\nUpgrade: tcp")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 UPGRADED"));
    client.send("x").await;
    assert_eq!(client.take(9).await, b"\x01\0\0\0\0\0\0\x01x");
    client.0.shutdown().await.expect("half-close");
    client.rest().await;
    let shown = s.call("GET /exec/eeee/json").await.json();
    assert_eq!(
        (shown["ExitCode"].as_i64(), shown["ProcessConfig"]["entrypoint"].as_str()),
        (Some(0), Some("cat"))
    );
}

#[tokio::test]
async fn a_detached_exec_answers_plainly() {
    let s = served();
    s.post("/containers/web/exec", r#"{"Cmd":["true"]}"#).await;
    let answer = s.post("/exec/eeee/start", r#"{"Detach":true}"#).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
}

#[tokio::test]
async fn an_exec_that_cannot_be_executed_says_so_in_its_stream() {
    let s = served();
    s.post("/containers/web/exec", r#"{"Cmd":["nope"]}"#).await;
    let mut client = s.connect().await;
    let start = post("/exec/eeee/start", r#"{"Detach":false}"#);
    client.send(&start.replace("Host: docker", "Host: docker\r\nConnection: Upgrade\r\nUpgrade: tcp")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101"));
    let bytes = client.rest().await;
    assert_eq!(bytes[0], 2, "on standard error");
    assert!(String::from_utf8_lossy(&bytes).contains("executable file not found"));
    assert_eq!(s.call("GET /exec/eeee/json").await.json()["ExitCode"], serde_json::json!(127));
    let detached = s.post("/exec/eeee/start", r#"{"Detach":true}"#).await;
    assert_eq!(detached.status, 400);
}

#[tokio::test]
async fn wrong_execs_are_refused() {
    let s = served();
    assert_eq!(s.post("/containers/web/exec", r#"{"Cmd":[]}"#).await.status, 400);
    assert_eq!(s.post("/containers/web/exec", r#"{"Cmd":["a"],"WorkingDir":"b"}"#).await.status, 400);
    assert_eq!(s.post("/containers/web/exec", r#"{"Cmd":["a"],"Env":["=b"]}"#).await.status, 400);
    assert_eq!(s.post("/exec/none/start", "{}").await.status, 404);
}

#[tokio::test]
async fn the_fields_of_an_exec_count_whatever_their_case() {
    let s = served();
    let made = s.post("/containers/web/exec", r#"{"cmd":["id"],"user":"nobody","workingdir":"b"}"#).await;
    assert_eq!(made.status, 400, "the working directory was read");
    assert_eq!(
        s.post("/containers/web/exec", r#"{"cmd":["id"],"TTY":true,"user":"nobody"}"#).await.status,
        201
    );
    let shown = s.call("GET /exec/eeee/json").await.json();
    let process = &shown["ProcessConfig"];
    assert_eq!((process["user"].as_str(), process["tty"].as_bool()), (Some("nobody"), Some(true)));
    assert_eq!(s.post("/exec/eeee/start", r#"{"detach":true}"#).await.status, 200);
}

#[tokio::test]
async fn a_body_of_an_attach_request_is_no_input() {
    let s = served();
    let mut client = s.connect().await;
    let head = "POST /v1.51/containers/web/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp";
    client.send(&format!("{head}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101"));
    client.send("hello").await;
    assert_eq!(client.take(13).await, b"\x01\0\0\0\0\0\0\x05hello");
}
