//! The parts of a session that need no terminal.

use super::input::Input;
use super::output::Queue;
use super::*;
use std::io::Write;
use std::os::unix::net::UnixStream;

#[test]
fn a_full_pipe_takes_what_fits_and_keeps_the_rest_waiting() {
    let (read, write) = rustix::pipe::pipe().expect("a pipe");
    let mut queue = Queue::new(write.as_fd());
    queue.extend_from_slice(&[b'x'; 10_000]);
    queue.write(write.as_fd()).expect("a write");
    assert_eq!(queue.len(), 10_000 - 4096, "no more than a writable pipe surely takes");
    while !queue.is_empty() {
        queue.write(write.as_fd()).expect("a write");
    }
    let mut buf = vec![0; 20_000];
    assert_eq!(rustix::io::read(&read, &mut buf), Ok(10_000));
}

#[test]
fn a_file_takes_everything_at_once() {
    let file = tempfile::tempfile().expect("a file");
    let mut queue = Queue::new(file.as_fd());
    queue.extend_from_slice(&[b'x'; 1_000_000]);
    queue.write(file.as_fd()).expect("a write");
    assert!(queue.is_empty());
}

#[test]
fn a_container_that_closed_its_stdin_is_no_error() {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    drop(theirs);
    let stream = Hijacked { stream: ours, early: Vec::new(), format: None };
    let mut input = Input::new(true, Vec::new());
    input.push_for_test(b"nobody reads this");
    input.write(&stream);
    assert!(!input.has_work() && !input.wants_stdin());
}

#[test]
fn the_end_of_stdin_follows_what_was_typed_before() {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    let stream = Hijacked { stream: ours, early: Vec::new(), format: None };
    let mut input = Input::new(true, Vec::new());
    input.push_for_test(b"last words");
    input.end_for_test();
    input.write(&stream);
    let mut text = String::new();
    theirs.read_to_string(&mut text).expect("to the end");
    assert_eq!(text, "last words");
    // The other direction still works.
    theirs.write_all(b"answer").expect("a write");
}

#[test]
fn a_signal_before_the_start_is_kept_and_the_third_interrupt_ends_all() {
    let client = tare_docker_api::client::Client::new("/nowhere", "1.51");
    let mut control = Control::new(client, "/containers/x".into(), true, false);
    assert!(control.signal(2).is_ok() && control.signal(15).is_ok() && control.signal(1).is_ok());
    let last = control.signal(2).expect_err("enough");
    assert_eq!((last.code, last.message.as_str()), (1, "got 3 SIGTERM/SIGINTs, forcefully exiting"));
}

#[test]
fn without_a_proxy_a_signal_ends_the_client_with_its_number() {
    let client = tare_docker_api::client::Client::new("/nowhere", "1.51");
    let mut control = Control::new(client, "/exec/x".into(), false, false);
    assert_eq!(control.signal(15), Err(Failure::silent(143)));
}
