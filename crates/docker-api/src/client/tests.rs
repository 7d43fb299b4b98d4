//! The client against a scripted server: what goes over the wire, and answers cut at every byte.

use super::*;
use proptest::prelude::*;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;

/// A server that takes one connection after another and hands each to the next script.
struct Server {
    dir: tempfile::TempDir,
    thread: JoinHandle<Vec<String>>,
}

type Script = Box<dyn FnOnce(&mut BufReader<UnixStream>) -> String + Send>;

impl Server {
    fn start(scripts: Vec<Script>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let listener = UnixListener::bind(dir.path().join("s")).expect("a listening socket");
        let thread = std::thread::spawn(move || {
            let run = |script: Script| script(&mut BufReader::new(listener.accept().expect("a client").0));
            scripts.into_iter().map(run).collect()
        });
        Self { dir, thread }
    }

    fn client(&self) -> Client {
        Client::new(self.dir.path().join("s"), DEFAULT_VERSION)
    }

    fn seen(self) -> Vec<String> {
        self.thread.join().expect("the server's script to hold")
    }
}

/// Reads one request: head and, if it has one, a body of known length.
fn read_request(stream: &mut BufReader<UnixStream>) -> String {
    let mut text = String::new();
    let mut length = 0;
    loop {
        let start = text.len();
        if stream.read_line(&mut text).expect("a request line") == 0 || &text[start..] == "\r\n" {
            break;
        }
        if let Some(value) = text[start..].strip_prefix("Content-Length: ") {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("the body");
    text + &String::from_utf8(body).expect("text")
}

fn answer(bytes: &'static [u8]) -> Script {
    Box::new(move |stream| {
        let request = read_request(stream);
        stream.get_mut().write_all(bytes).expect("the answer to go out");
        request
    })
}

/// Sends `bytes` in two packets, cut at `at`, and gives the client time to see the first by waiting for nothing.
fn answer_cut(bytes: Vec<u8>, at: usize) -> Script {
    Box::new(move |stream| {
        let request = read_request(stream);
        stream.get_mut().write_all(&bytes[..at]).expect("the first part");
        std::thread::yield_now();
        stream.get_mut().write_all(&bytes[at..]).expect("the second part");
        request
    })
}

#[test]
fn a_request_names_the_version_and_encodes_its_query() {
    let server = Server::start(vec![answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")]);
    let request = Request::get("/containers/json").query("filters", r#"{"a b":["c&d"]}"#).flag("all", true);
    let list: Vec<String> = server.client().json(request).expect("an empty list");
    assert!(list.is_empty());
    let seen = server.seen();
    let line = seen[0].lines().next().expect("a request line").to_owned();
    assert_eq!(
        line,
        "GET /v1.51/containers/json?filters=%7B%22a%20b%22%3A%5B%22c%26d%22%5D%7D&all=1 HTTP/1.1"
    );
}

#[test]
fn a_connection_is_kept_and_used_again() {
    let both: Script = Box::new(|stream| {
        let mut seen = String::new();
        for _ in 0..2 {
            seen += &read_request(stream);
            stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("an answer");
        }
        seen
    });
    let server = Server::start(vec![both]);
    let mut client = server.client();
    client.done(Request::post("/a")).expect("the first");
    client.done(Request::post("/b").json(&serde_json::json!({"x": 1})).expect("json")).expect("the second");
    let seen = server.seen().concat();
    assert!(seen.contains("POST /v1.51/a") && seen.ends_with(r#"{"x":1}"#), "{seen}");
}

#[test]
fn a_connection_that_the_daemon_closed_meanwhile_is_not_used() {
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let server = Server::start(vec![answer(ok), answer(ok)]);
    let mut client = server.client();
    client.done(Request::get("/1")).expect("the first");
    // The script of the first connection has returned and dropped it once the second is accepted; poll tells.
    let kept = client.idle.pop().expect("a kept connection");
    let mut fds = [rustix::event::PollFd::new(&kept, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut fds, None).expect("the close to arrive");
    client.idle.push(kept);
    client.done(Request::get("/2")).expect("the second, on a new connection");
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn an_error_status_becomes_the_daemons_message() {
    let server = Server::start(vec![answer(
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 36\r\n\r\n{\"message\":\"No such container: abc\"}",
    )]);
    let error = server.client().done(Request::get("/containers/abc/json")).expect_err("no such container");
    assert_eq!(error.kind(), ErrorKind::Api(404));
    assert!(error.to_string().starts_with("Error response from daemon: "), "{error}");
    server.seen();
}

#[test]
fn an_error_without_json_keeps_its_text() {
    let error = ClientError::api("GET /x", 500, b"oh no\n");
    assert_eq!(error.to_string(), "Error response from daemon: oh no");
    assert_eq!(ClientError::api("GET /x", 500, b"").api_message(), Some("status 500 without a message"));
}

#[test]
fn nobody_listening_is_told_apart_from_being_forbidden() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let missing = Client::new(dir.path().join("none"), DEFAULT_VERSION).probe().expect_err("nothing there");
    assert_eq!(missing.kind(), ErrorKind::NotListening);
    let dead = dir.path().join("dead");
    drop(UnixListener::bind(&dead).expect("a socket"));
    let refused = Client::new(&dead, DEFAULT_VERSION).probe().expect_err("nobody there");
    assert_eq!(refused.kind(), ErrorKind::NotListening);
    let forbidden = ClientError::connect(&dead, std::io::ErrorKind::PermissionDenied.into());
    assert_eq!(forbidden.kind(), ErrorKind::Forbidden);
}

#[test]
fn a_chunked_answer_may_be_cut_at_every_byte() {
    let wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\nA\r\n, world!!\n\r\n0\r\nT: 1\r\n\r\n";
    for at in 0..=wire.len() {
        let server = Server::start(vec![answer_cut(wire.to_vec(), at)]);
        let mut client = server.client();
        let bytes = client.bytes(Request::get("/x")).expect("the body");
        assert_eq!(bytes, b"hello, world!!\n", "cut at {at}");
        assert_eq!(client.idle.len(), 1, "the connection is kept, cut at {at}");
        server.seen();
    }
}

#[test]
fn a_body_cut_short_is_an_error() {
    for wire in [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello".as_slice(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    ] {
        let server = Server::start(vec![answer(wire)]);
        let error = server.client().bytes(Request::get("/x")).expect_err("a short body");
        assert_eq!(error.kind(), ErrorKind::Io);
        server.seen();
    }
}

#[test]
fn a_body_without_a_length_ends_with_the_connection() {
    let server = Server::start(vec![answer(b"HTTP/1.0 200 OK\r\n\r\nall of it")]);
    let mut client = server.client();
    assert_eq!(client.bytes(Request::get("/x")).expect("the body"), b"all of it");
    assert!(client.idle.is_empty());
    server.seen();
}

#[test]
fn not_modified_has_no_body_whatever_it_says() {
    let server = Server::start(vec![answer(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n")]);
    let mut client = server.client();
    client.done(Request::post("/containers/x/start")).expect("already started");
    assert_eq!(client.idle.len(), 1);
    server.seen();
}

#[test]
fn an_interim_answer_is_passed_over() {
    let server = Server::start(vec![answer(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )]);
    assert_eq!(server.client().bytes(Request::get("/x")).expect("the body"), b"ok");
    server.seen();
}

#[test]
fn a_hijacked_stream_keeps_what_came_with_the_head() {
    let script: Script = Box::new(|stream| {
        let request = read_request(stream);
        let head = b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n\
                     Connection: Upgrade\r\nUpgrade: tcp\r\n\r\nearly";
        stream.get_mut().write_all(head).expect("the head");
        let mut stdin = String::new();
        stream.read_to_string(&mut stdin).expect("stdin to its end");
        stream.get_mut().write_all(b" late").expect("output after stdin's end");
        request + &stdin
    });
    let server = Server::start(vec![script]);
    let mut hijacked = server.client().hijack(Request::post("/attach").upgrade()).expect("an upgrade");
    assert_eq!(hijacked.format, Some(StreamFormat::Multiplexed));
    hijacked.stream.write_all(b"input").expect("stdin");
    hijacked.close_write().expect("a half close");
    let mut output = hijacked.early;
    hijacked.stream.read_to_end(&mut output).expect("output to its end");
    assert_eq!(output, b"early late");
    assert!(server.seen()[0].ends_with("input"));
}

#[test]
fn a_refused_upgrade_is_the_daemons_error() {
    let server = Server::start(vec![answer(
        b"HTTP/1.1 409 Conflict\r\nContent-Length: 26\r\n\r\n{\"message\":\"it is paused\"}",
    )]);
    let error = server.client().hijack(Request::post("/attach").upgrade()).expect_err("a refusal");
    assert_eq!(error.to_string(), "Error response from daemon: it is paused");
    server.seen();
}

#[test]
fn an_upload_goes_out_chunked() {
    let script: Script = Box::new(|stream| {
        let head = read_request(stream);
        let (mut wire, mut body, mut decoder) = (Vec::new(), Vec::new(), ChunkDecoder::default());
        while !decoder.is_done() {
            wire.clear();
            wire.extend_from_slice(stream.fill_buf().expect("a chunk"));
            let used = decoder.decode(&wire, &mut body).expect("chunks");
            stream.consume(used);
        }
        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("an answer");
        format!("{head}{}", body.len())
    });
    let server = Server::start(vec![script]);
    let data = vec![7u8; 1_000_001];
    server.client().done(Request::post("/images/load").stream(&mut data.as_slice())).expect("the upload");
    assert!(server.seen()[0].ends_with("1000001"));
}

#[test]
fn two_requests_may_be_under_way_at_once() {
    let scripts: Vec<Script> = vec![
        answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1"),
        answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2"),
    ];
    let server = Server::start(scripts);
    let mut client = server.client();
    let first = client.begin(Request::get("/1")).expect("sent");
    let second = client.begin(Request::get("/2")).expect("sent");
    let mut text = String::new();
    second.response().expect("an answer").read_to_string(&mut text).expect("its body");
    first.response().expect("an answer").read_to_string(&mut text).expect("its body");
    assert_eq!(text, "21");
    server.seen();
}

#[test]
fn broken_framing_is_named() {
    for (wire, word) in [
        ("garbage\r\n\r\n", "not an HTTP response head"),
        ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "Content-Length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "differ"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "Transfer-Encoding"),
    ] {
        let server = Server::start(vec![answer(wire.as_bytes())]);
        let error = server.client().done(Request::get("/x")).expect_err("broken framing");
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(error.to_string().contains(word), "{error}");
        server.seen();
    }
}

#[test]
fn chunk_sizes_that_are_not_numbers_are_refused() {
    for wire in ["x\r\n", "\r\n", "5x\r\n", "11111111111111111\r\n", "1\r\nab\r\n"] {
        assert!(ChunkDecoder::default().decode(wire.as_bytes(), &mut Vec::new()).is_err(), "{wire:?}");
    }
    let endless = [b"5;".as_slice(), &[b'x'; 10_000]].concat();
    assert!(ChunkDecoder::default().decode(&endless, &mut Vec::new()).is_err());
}

#[test]
fn a_frame_of_no_known_stream_is_refused() {
    let mut sink = |_: Stream, _: &[u8]| {};
    assert!(Frames::default().feed(&[9, 0, 0, 0, 0, 0, 0, 1, b'x'], &mut sink).is_err());
}

#[test]
fn every_byte_of_a_query_survives() {
    let all: String = (1u8..=127).map(char::from).collect::<String>() + "é漢";
    let encoded = percent_encode(&all);
    assert!(encoded.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)));
    assert!(encoded.ends_with("%C3%A9%E6%BC%A2"));
}

proptest! {
    #[test]
    fn chunks_decode_to_what_was_encoded_however_they_are_split(
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..8),
        splits in prop::collection::vec(1usize..9, 1..40),
        rest in prop::collection::vec(any::<u8>(), 0..9),
    ) {
        let mut wire = Vec::new();
        for part in &parts {
            wire.extend(format!("{:X}\r\n", part.len()).into_bytes());
            wire.extend(part);
            wire.extend(b"\r\n");
        }
        wire.extend(b"0\r\n\r\n");
        let end = wire.len();
        wire.extend(&rest);
        let (mut decoder, mut out, mut at) = (ChunkDecoder::default(), Vec::new(), 0);
        for step in splits.iter().cycle() {
            let to = (at + step).min(wire.len());
            at += decoder.decode(&wire[at..to], &mut out).expect("valid coding");
            if decoder.is_done() { break; }
        }
        prop_assert_eq!(at, end);
        prop_assert_eq!(out, parts.concat());
    }

    #[test]
    fn frames_come_apart_however_they_are_split(
        frames in prop::collection::vec((1u8..=2, prop::collection::vec(any::<u8>(), 0..40)), 0..10),
        step in 1usize..20,
    ) {
        let mut wire = Vec::new();
        for (stream, data) in &frames {
            wire.extend([*stream, 0, 0, 0]);
            wire.extend((data.len() as u32).to_be_bytes());
            wire.extend(data);
        }
        let (mut out, mut err) = (Vec::<u8>::new(), Vec::<u8>::new());
        let mut decoder = Frames::default();
        for piece in wire.chunks(step) {
            decoder.feed(piece, &mut |stream, data: &[u8]| {
                if stream == Stream::Stdout { out.extend(data) } else { err.extend(data) }
            }).expect("valid frames");
        }
        let of = |which: u8| frames.iter().filter(|f| f.0 == which).flat_map(|f| f.1.clone()).collect::<Vec<u8>>();
        prop_assert!(decoder.at_boundary());
        prop_assert_eq!(out, of(1));
        prop_assert_eq!(err, of(2));
    }

    #[test]
    fn the_decoder_never_panics_on_noise(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = ChunkDecoder::default().decode(&noise, &mut Vec::new());
        let _ = Frames::default().feed(&noise, &mut |_, _| {});
    }
}

#[test]
fn an_older_daemon_is_spoken_to_in_its_version_and_a_newer_one_in_ours() {
    for (said, asked) in
        [("Api-Version: 1.41\r\n", "v1.41"), ("Api-Version: 1.99\r\n", "v1.51"), ("", "v1.51")]
    {
        let pong: &'static str =
            format!("HTTP/1.1 200 OK\r\n{said}Content-Length: 2\r\nConnection: close\r\n\r\nOK").leak();
        let server = Server::start(vec![
            answer(pong.as_bytes()),
            answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
        ]);
        let mut client = server.client();
        client.negotiate().expect("a daemon");
        client.done(Request::get("/info")).expect("an answer");
        let seen = server.seen();
        assert!(seen[0].starts_with("GET /_ping HTTP/1.1"), "{}", seen[0]);
        assert!(seen[1].starts_with(&format!("GET /{asked}/info ")), "{said}: {}", seen[1]);
    }
}

#[test]
fn a_daemon_that_refuses_the_version_it_was_taken_to_have_is_asked_once() {
    const REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 90\r\nConnection: close\r\n\r\n\
        {\"message\":\"client version 1.51 is too new. Maximum supported API version is 1.41: older\"}";
    const PONG: &[u8] =
        b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK";
    const DONE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    let server = Server::start(vec![answer(REFUSAL), answer(PONG), answer(DONE)]);
    let mut client = server.client();
    client.assume_version();
    let body = serde_json::json!({"Image": "x"});
    client.done(Request::post("/containers/create").json(&body).expect("JSON")).expect("an answer");
    let seen = server.seen();
    assert!(seen[0].starts_with("POST /v1.51/containers/create "), "{}", seen[0]);
    assert!(seen[1].starts_with("GET /_ping "), "{}", seen[1]);
    assert!(seen[2].starts_with("POST /v1.41/containers/create "), "{}", seen[2]);
    assert_eq!(seen[0].split("\r\n\r\n").nth(1), seen[2].split("\r\n\r\n").nth(1));
    let server = Server::start(vec![answer(REFUSAL)]);
    let refused = server.client().done(Request::get("/info")).expect_err("a version that was asked for");
    assert_eq!(refused.kind(), ErrorKind::Api(400));
}
