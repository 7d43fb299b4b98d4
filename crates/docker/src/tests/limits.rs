//! Clients that are slow, greedy, or gone.

use std::time::Duration;

use super::client::{post, served, served_with, soon};
use crate::server::Limits;

#[tokio::test]
async fn what_was_begun_is_finished_though_the_client_is_gone() {
    let s = served();
    let mut client = s.connect().await;
    client.send("POST /containers/slow/start HTTP/1.1\r\nHost: d\r\n\r\n").await;
    tokio::task::yield_now().await;
    // The request has arrived once a second one on another connection has been answered after it.
    assert_eq!(s.call("GET /_ping").await.status, 200);
    drop(client);
    assert_eq!(s.call("GET /_ping").await.status, 200);
    s.fake.gate.notify_one();
    soon(s.fake.logged.notified()).await;
    assert_eq!(s.fake.log(), ["start slow"]);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_it_is_kept() {
    let s = served();
    let huge = format!(r#"{{"Image":"{}"}}"#, "x".repeat(3 << 20));
    let mut client = s.connect().await;
    // All of it is taken: a client that is cut off while it writes does not get to see the answer.
    client.send(&post("/containers/create", &huge)).await;
    assert_eq!(client.answer().await.status, 413);
    assert!(s.fake.log().is_empty());
}

#[tokio::test]
async fn a_head_that_is_too_large_ends_the_connection() {
    let s = served();
    let mut client = s.connect().await;
    client.send(&format!("GET /_ping HTTP/1.1\r\nX: {}\r\n", "y".repeat(60_000))).await;
    let many: String = (0..2000).map(|i| format!("X-{i}: y\r\n")).collect();
    let _ = tokio::io::AsyncWriteExt::write_all(&mut client.0, many.as_bytes()).await;
    let mut all = Vec::new();
    let _ = soon(tokio::io::AsyncReadExt::read_to_end(&mut client.0, &mut all)).await;
    let text = String::from_utf8_lossy(&all);
    assert!(
        text.is_empty() || text.starts_with("HTTP/1.1 431") || text.starts_with("HTTP/1.1 400"),
        "{text}"
    );
}

#[tokio::test]
async fn bodies_with_two_lengths_are_not_guessed_at() {
    let s = served();
    let json = r#"{"Image":"x"}"#;
    for framing in [
        "Content-Length: 5\r\nContent-Length: 13\r\n",
        "Content-Length: -1\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n",
    ] {
        let mut client = s.connect().await;
        let head = "POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n";
        client.send(&format!("{head}{framing}\r\n{json}")).await;
        let all = String::from_utf8(client.rest().await).expect("text");
        assert!(all.is_empty() || all.starts_with("HTTP/1.1 400"), "{framing}: {all}");
    }
    assert!(s.fake.log().is_empty());
}

#[tokio::test]
async fn a_slow_head_is_not_waited_for_for_ever() {
    let s = served_with(Limits { head_timeout: Duration::from_millis(50), ..Default::default() });
    let mut client = s.connect().await;
    client.send("GET /_ping HT").await;
    client.rest().await;
}

#[tokio::test]
async fn further_clients_wait_until_one_leaves() {
    let s = served_with(Limits { connections: 1, ..Default::default() });
    let mut first = s.connect().await;
    first.send("GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n").await;
    assert_eq!(first.answer().await.status, 200);
    let mut second = s.connect().await;
    second.send("GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n").await;
    drop(first);
    assert_eq!(second.answer().await.status, 200);
}

#[tokio::test]
async fn a_stopping_server_finishes_requests_and_closes_idle_connections() {
    let s = served();
    let mut idle = s.connect().await;
    idle.send("GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n").await;
    idle.answer().await;
    let mut busy = s.connect().await;
    busy.send(&post("/containers/create?name=slow", r#"{"Image":"x"}"#)).await;
    assert_eq!(s.call("GET /_ping").await.status, 200);
    s.stop.send(()).expect("it runs");
    assert_eq!(idle.rest().await, b"");
    s.fake.gate.notify_one();
    assert_eq!(busy.answer().await.status, 201);
    soon(s.task).await.expect("no panic").expect("no error");
}
