//! Answers that come piece by piece, and bodies that do.

use serde_json::json;
use tare_engine::WaitResult;

use super::client::{Client, Served, served, soon};
use super::fake::event;
use crate::show::tests::THEN;

async fn begin(s: &Served, what: &str) -> Client {
    let mut client = s.connect().await;
    client.send(&format!("{what} HTTP/1.1\r\nHost: docker\r\n\r\n")).await;
    client
}

#[tokio::test]
async fn wait_answers_its_head_at_once_and_its_body_at_the_end() {
    let s = served();
    let mut client = begin(&s, "POST /containers/web/wait?condition=next-exit").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200"), "before anything has ended");
    let exit = s.fake.exits.pop();
    exit.send(WaitResult { code: 137, error: None }).expect("it is waited for");
    assert_eq!(client.chunk().await, "{\"StatusCode\":137}\n");
}

#[tokio::test]
async fn a_waiting_client_that_goes_away_is_forgotten() {
    let s = served();
    let mut client = begin(&s, "POST /containers/web/wait").await;
    client.head().await;
    let mut exit = s.fake.exits.pop();
    drop(client);
    soon(exit.closed()).await;
}

#[tokio::test]
async fn wait_tells_why_there_is_no_better_answer() {
    let s = served();
    let mut client = begin(&s, "POST /containers/web/wait").await;
    client.head().await;
    let exit = s.fake.exits.pop();
    exit.send(WaitResult { code: 127, error: Some("no such file".into()) }).expect("it is waited for");
    assert_eq!(client.chunk().await, "{\"StatusCode\":127,\"Error\":{\"Message\":\"no such file\"}}\n");
    let mut client = begin(&s, "POST /containers/web/wait?condition=removed").await;
    client.head().await;
    let exit = s.fake.exits.pop();
    exit.send(WaitResult { code: 127, error: Some("no such file".into()) }).expect("it is waited for");
    assert_eq!(client.chunk().await, "{\"StatusCode\":127}\n", "whoever started it was told");
    assert_eq!(s.call("POST /containers/web/wait?condition=never").await.status, 400);
    assert_eq!(s.call("POST /containers/missing/wait").await.status, 404);
}

#[tokio::test]
async fn events_come_as_they_happen_until_the_client_goes() {
    let s = served();
    let mut client = begin(&s, "GET /events?since=1700000001").await;
    client.head().await;
    let past: serde_json::Value = serde_json::from_str(&client.chunk().await).expect("JSON");
    assert_eq!((&past["Action"], &past["time"]), (&json!("start"), &json!(1_700_000_005)));
    s.fake.events.send(event(THEN + 9_000_000_000)).expect("it is listened to");
    assert!(client.chunk().await.contains("1700000009"));
    drop(client);
    soon(async {
        while s.fake.events.receiver_count() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn events_of_the_past_end_by_themselves() {
    let s = served();
    let answer = s.call("GET /events?since=1700000000&until=1700000003").await;
    assert_eq!(answer.body.lines().count(), 1, "{}", answer.body);
    assert_eq!(s.call("GET /events?since=then").await.status, 400);
}

#[tokio::test]
async fn logs_are_framed_unless_there_is_a_terminal() {
    let s = served();
    let framed = s.call("GET /containers/web/logs?stdout=1&stderr=1").await;
    assert_eq!(framed.body.as_bytes(), b"\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0\0\x04err\n");
    assert!(framed.head.contains("multiplexed-stream"), "{}", framed.head);
    let raw = s.call("GET /containers/tty/logs?stdout=1&stderr=1").await;
    assert_eq!(raw.body, "out\nerr\n");
    assert!(raw.head.contains("raw-stream"), "{}", raw.head);
    assert_eq!(s.call("GET /containers/web/logs").await.status, 400);
}

#[tokio::test]
async fn followed_logs_stay_open() {
    let s = served();
    let mut client = begin(&s, "GET /containers/tty/logs?stdout=1&follow=1").await;
    client.head().await;
    assert_eq!(client.chunk().await, "out\nerr\n");
}

#[tokio::test]
async fn stats_stream_and_single_samples() {
    let s = served();
    let once = s.call("GET /containers/web/stats?stream=0&one-shot=1").await.json();
    assert_eq!((&once["name"], &once["cpu_stats"]["online_cpus"]), (&json!("/web"), &json!(2)));
    assert_eq!(once["preread"], json!("0001-01-01T00:00:00Z"));
    let mut client = begin(&s, "GET /containers/web/stats").await;
    client.head().await;
    for before in ["0001-01-01T00:00:00Z", "2023-11-14T22:13:20Z"] {
        let sample: serde_json::Value = serde_json::from_str(&client.chunk().await).expect("JSON");
        assert_eq!(sample["preread"], json!(before));
    }
}

#[tokio::test]
async fn an_archive_is_read_while_it_arrives() {
    let s = served();
    let mut client = begin(&s, "GET /_ping").await;
    assert_eq!(client.answer().await.status, 200);
    let head = "POST /images/load?quiet=1 HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(head).await;
    let chunk = "x".repeat(0x10000);
    for _ in 0..100 {
        client.send("10000\r\n").await;
        client.send(&chunk).await;
        client.send("\r\n").await;
    }
    client.send("0\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.body, "{\"stream\":\"Loaded image: nginx:1.27\\n\"}\n");
    assert_eq!(s.fake.log(), ["loaded 6553600 bytes"]);
}

#[tokio::test]
async fn half_an_archive_is_a_failure_not_an_end() {
    let s = served();
    let mut client = s.connect().await;
    client.send("POST /images/load HTTP/1.1\r\nHost: d\r\nContent-Length: 1000\r\n\r\nhalf").await;
    drop(client);
    soon(s.fake.logged.notified()).await;
    assert!(s.fake.log()[0].starts_with("load failed: read"), "{:?}", s.fake.log());
}

#[tokio::test]
async fn a_refused_archive_is_answered_after_its_sender_is_done() {
    let s = served();
    let mut client = s.connect().await;
    client
        .send(&format!(
            "POST /images/load HTTP/1.1\r\nHost: d\r\nContent-Length: {}\r\n\r\nevil",
            4 + (8 << 20)
        ))
        .await;
    client.send(&"x".repeat(8 << 20)).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.message()), (500, "hostile entry".into()));
}

#[tokio::test]
async fn an_import_takes_name_and_changes() {
    let s = served();
    let path = "/images/create?fromSrc=-&repo=me/app&tag=2&changes=CMD%20%5B%22sh%22%5D";
    let answer = s.ask(&format!("POST {path} HTTP/1.1\r\nHost: d\r\nContent-Length: 5\r\n\r\nhello")).await;
    assert_eq!(answer.json(), json!({"status": format!("sha256:{}", "03".repeat(32))}));
    assert_eq!(s.fake.log(), ["import me/app:2 5 [\"sh\"]"]);
    for bad in
        ["fromSrc=-&changes=RUN+x", "fromSrc=http://x/", "fromSrc=-&message=hi", "fromSrc=-&repo=A", ""]
    {
        let status = s.call(&format!("POST /images/create?{bad}")).await.status;
        assert!(matches!(status, 400 | 501), "{bad}: {status}");
    }
}
