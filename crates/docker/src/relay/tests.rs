//! The relay between two socket pairs.

use tokio::task::JoinHandle;

use super::*;

/// A client, a process, and the relay between them.
fn attached(input: Input) -> (UnixStream, UnixStream, JoinHandle<()>) {
    let (client, near) = UnixStream::pair().expect("socketpair");
    let (process, far) = UnixStream::pair().expect("socketpair");
    let task = tokio::spawn(relay(near, Bytes::from_static(b"early "), AttachStream::new(far, false), input));
    (client, process, task)
}

async fn all(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.expect("no reset");
    bytes
}

#[tokio::test]
async fn bytes_sent_before_the_answer_reach_the_process_first() {
    let (mut client, mut process, _task) = attached(Input::Pass(None));
    client.write_all(b"late").await.expect("write");
    client.shutdown().await.expect("half-close");
    assert_eq!(all(&mut process).await, b"early late");
}

#[tokio::test]
async fn output_goes_on_after_the_end_of_input() {
    let (mut client, mut process, task) = attached(Input::Pass(None));
    client.shutdown().await.expect("half-close");
    assert_eq!(all(&mut process).await, b"early ");
    process.write_all(b"result").await.expect("write");
    drop(process);
    assert_eq!(all(&mut client).await, b"result");
    drop(client);
    task.await.expect("the relay ends");
}

#[tokio::test]
async fn unread_input_does_not_reset_the_clients_connection() {
    let (mut client, mut process, task) = attached(Input::Pass(None));
    process.write_all(b"bye").await.expect("write");
    drop(process);
    for _ in 0..100 {
        if client.write_all(&[b'x'; 1000]).await.is_err() {
            break;
        }
    }
    assert_eq!(all(&mut client).await, b"bye");
    drop(client);
    task.await.expect("the relay ends");
}

#[tokio::test]
async fn a_client_that_goes_away_frees_a_quiet_process() {
    let (client, mut process, task) = attached(Input::Discard);
    drop(client);
    task.await.expect("the relay ends");
    assert_eq!(all(&mut process).await, b"");
}

#[tokio::test]
async fn a_half_closed_client_that_goes_away_frees_it_too() {
    let (mut client, mut process, task) = attached(Input::Pass(None));
    client.shutdown().await.expect("half-close");
    assert_eq!(all(&mut process).await, b"early ");
    drop(client);
    task.await.expect("the relay ends");
}

#[tokio::test]
async fn input_that_was_not_asked_for_is_thrown_away() {
    let (mut client, mut process, _task) = attached(Input::Discard);
    client.write_all(b"typed").await.expect("write");
    client.shutdown().await.expect("half-close");
    process.write_all(b"out").await.expect("write");
    process.shutdown().await.expect("half-close");
    assert_eq!(all(&mut client).await, b"out");
    drop(client);
    assert_eq!(all(&mut process).await, b"");
}

#[tokio::test]
async fn the_detach_sequence_ends_the_relay_and_is_not_passed_on() {
    let (mut client, mut process, task) = attached(Input::Pass(Some(DetachKeys::default())));
    client.write_all(b"ls\x10").await.expect("write");
    client.write_all(b"\x11").await.expect("write");
    assert_eq!(all(&mut process).await, b"early ls");
    assert_eq!(all(&mut client).await, b"");
    drop(client);
    task.await.expect("the relay ends");
}

#[tokio::test]
async fn megabytes_arrive_whole() {
    let (mut client, mut process, _task) = attached(Input::Discard);
    let sent: Vec<u8> = (0..8_000_000u32).map(|i| (i % 251) as u8).collect();
    let expected = sent.clone();
    tokio::spawn(async move {
        process.write_all(&sent).await.expect("write");
    });
    assert!(all(&mut client).await == expected);
}
