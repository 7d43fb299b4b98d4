//! Attachments, execs, logs, figures.

use futures_util::FutureExt;
use tare_model::container::{AttachedStreams, LogDriver};
use tare_model::{ErrorKind, ExecId};
use tare_shim::logs::{Stream, Writer};
use tare_shim::protocol::{Event, LogSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::api::exec::{ExecConfig, ExecStartOptions};
use crate::api::options::{AttachOptions, LogOptions};
use crate::api::stream::LogStream;

const OUT: AttachedStreams = AttachedStreams { stdin: true, stdout: true, stderr: true };

fn attach() -> AttachOptions {
    AttachOptions { streams: OUT, stream: true, logs: false }
}

fn socket(fd: std::os::fd::OwnedFd) -> tokio::net::UnixStream {
    tokio::net::UnixStream::from_std(std::os::unix::net::UnixStream::from(fd)).expect("a socket")
}

#[tokio::test]
async fn an_attachment_before_the_start_is_handed_over_with_it() {
    let room = Room::new().await;
    let id = room.create("web").await;
    let mut stream = room.engine.attach("web", attach()).await.expect("attaches");
    assert!(!stream.tty);
    room.engine.start("web", Default::default()).await.expect("starts");
    assert_eq!(room.world.last_request().attach, [OUT]);
    let mut monitors = room.world.shim(&id).take_streams();
    let mut far = socket(monitors.remove(0));
    far.write_all(b"hello").await.expect("writes");
    drop(far);
    let mut text = String::new();
    stream.socket.read_to_string(&mut text).await.expect("reads");
    assert_eq!(text, "hello");
}

#[tokio::test]
async fn an_attachment_to_what_runs_goes_to_its_monitor() {
    let room = Room::new().await;
    let id = room.run("web").await;
    let _stream = room.engine.attach("web", attach()).await.expect("attaches");
    assert_eq!(room.world.shim(&id).take_streams().len(), 1);
    room.engine.pause("web").await.expect("freezes");
    assert!(message(room.engine.attach("web", attach()).await).contains("paused"));
}

#[tokio::test]
async fn an_attachment_ends_when_the_start_fails() {
    let room = Room::new().await;
    room.create("web").await;
    let mut stream = room.engine.attach("web", attach()).await.expect("attaches");
    room.world.refuse(ErrorKind::System, "no");
    room.engine.start("web", Default::default()).await.expect_err("refused");
    let mut rest = Vec::new();
    stream.socket.read_to_end(&mut rest).await.expect("ends");
}

fn exec(cmd: &[&str]) -> ExecConfig {
    ExecConfig { cmd: cmd.iter().map(|s| (*s).to_owned()).collect(), attach: OUT, ..Default::default() }
}

#[tokio::test]
async fn an_exec_is_prepared_started_and_ends() {
    let room = Room::new().await;
    let id = room.create_with("web", |c| c.process.env = vec!["A=1".into()]).await;
    room.engine.start("web", Default::default()).await.expect("starts");
    let mut events = room.engine.events(None);
    let config = ExecConfig { env: vec!["B=2".into()], ..exec(&["ls", "-l"]) };
    let exec = room.engine.exec_create("web", config).await.expect("prepares");
    assert_eq!(room.engine.inspect("web").expect("there").execs, std::slice::from_ref(&exec));
    let stream = room.engine.exec_start(exec.as_str(), Default::default()).await.expect("starts");
    let shim = room.world.shim(&id);
    let request = shim.execs().remove(0);
    assert_eq!(request.spec.args, ["ls", "-l"]);
    assert!(request.spec.env.contains(&"A=1".to_owned()) && request.spec.env.contains(&"B=2".to_owned()));
    let view = room.engine.exec_inspect(exec.as_str()).expect("known");
    assert_eq!((view.running, view.pid, view.exit_code), (true, Some(4242), None));
    let again = room.engine.exec_start(exec.as_str(), Default::default()).await;
    assert_eq!(again.expect_err("started").kind(), ErrorKind::Conflict);
    shim.end_exec(&exec, 4);
    stream.expect("attached").settled().await;
    let view = room.engine.exec_inspect(exec.as_str()).expect("known");
    assert_eq!((view.running, view.exit_code), (false, Some(4)));
    assert_eq!(words(&mut events, 3).await, ["exec_create", "exec_start", "exec_die"]);
}

#[tokio::test]
async fn an_exec_whose_caller_hangs_up_still_ends() {
    let room = Room::new().await;
    room.run("web").await;
    let config = ExecConfig { cmd: vec!["missing".into()], ..Default::default() };
    let exec = room.engine.exec_create("web", config).await.expect("prepared");
    room.world.hesitate();
    let mut start = Box::pin(room.engine.exec_start(exec.as_str(), ExecStartOptions::default()));
    assert!((&mut start).now_or_never().is_none());
    drop(start);
    let code = || room.engine.exec_inspect(exec.as_str()).expect("known").exit_code;
    soon("it has ended", || code() == Some(127)).await;
}

#[tokio::test]
async fn an_exec_that_cannot_be_executed_ends_with_127() {
    let room = Room::new().await;
    room.run("web").await;
    let exec = room.engine.exec_create("web", exec(&["missing"])).await.expect("prepares");
    let e = room.engine.exec_start(exec.as_str(), Default::default()).await.expect_err("missing");
    assert_eq!(e.kind(), ErrorKind::CommandNotFound);
    assert_eq!(room.engine.exec_inspect(exec.as_str()).expect("known").exit_code, Some(127));
}

#[tokio::test]
async fn a_detached_exec_has_no_streams_and_ends_with_its_container() {
    let room = Room::new().await;
    let id = room.run("web").await;
    let exec = room.engine.exec_create("web", exec(&["sleep"])).await.expect("prepares");
    let options = ExecStartOptions { detach: true, ..Default::default() };
    assert!(room.engine.exec_start(exec.as_str(), options).await.expect("starts").is_none());
    assert!(room.world.shim(&id).take_streams().is_empty());
    room.world.exit(&id, 0);
    soon("exited", || room.status("web") == "exited").await;
    assert_eq!(room.engine.exec_inspect(exec.as_str()).expect("known").exit_code, Some(137));
}

#[tokio::test]
async fn execs_need_a_running_container_and_a_command() {
    let room = Room::new().await;
    room.create("web").await;
    assert!(message(room.engine.exec_create("web", exec(&["ls"])).await).contains("is not running"));
    room.engine.start("web", Default::default()).await.expect("starts");
    assert_eq!(message(room.engine.exec_create("web", exec(&[])).await), "No exec command specified");
    let relative = ExecConfig { working_dir: "x".into(), ..exec(&["ls"]) };
    assert!(message(room.engine.exec_create("web", relative).await).contains("absolute path"));
    let none = ExecId::from_bytes([0; 32]);
    let text = message(room.engine.exec_start(none.as_str(), Default::default()).await);
    assert_eq!(text, format!("No such exec instance: {none}"));
}

fn writer(room: &Room, key: &str) -> Writer {
    let fixed = room.engine.inspect(key).expect("there").fixed;
    let settings = LogSettings { config: fixed.config.log.clone(), directory: fixed.paths.log.clone() };
    Writer::open(&settings, 1).expect("opens")
}

async fn next(lines: &mut LogStream) -> Option<String> {
    let line = lines.next().await?.expect("readable");
    Some(String::from_utf8_lossy(&line.bytes).into_owned())
}

const BOTH: LogOptions =
    LogOptions { stdout: true, stderr: true, follow: false, tail: None, since: None, until: None };

#[tokio::test]
async fn logs_are_read_back_by_stream_and_tail() {
    let room = Room::new().await;
    room.run("web").await;
    let mut log = writer(&room, "web");
    log.append(Stream::Stdout, 10, b"one\ntwo\n");
    log.append(Stream::Stderr, 20, b"bad\n");
    let mut lines = room.engine.logs("web", LogOptions { stderr: false, ..BOTH }).await.expect("opens");
    assert_eq!(next(&mut lines).await.as_deref(), Some("one\n"));
    assert_eq!(next(&mut lines).await.as_deref(), Some("two\n"));
    assert_eq!(next(&mut lines).await, None);
    let mut lines = room.engine.logs("web", LogOptions { tail: Some(1), ..BOTH }).await.expect("opens");
    assert_eq!(next(&mut lines).await.as_deref(), Some("bad\n"));
    assert_eq!(next(&mut lines).await, None);
    let neither = LogOptions { stdout: false, stderr: false, ..BOTH };
    assert!(message(room.engine.logs("web", neither).await).contains("at least one stream"));
}

#[tokio::test]
async fn a_follower_gets_what_comes_and_ends_with_the_container() {
    let room = Room::new().await;
    let id = room.run("web").await;
    let mut log = writer(&room, "web");
    log.append(Stream::Stdout, 10, b"one\n");
    let mut lines = room.engine.logs("web", LogOptions { follow: true, ..BOTH }).await.expect("opens");
    assert_eq!(next(&mut lines).await.as_deref(), Some("one\n"));
    let shim = room.world.shim(&id);
    soon("watched", || shim.watched() > 0).await;
    log.append(Stream::Stdout, 20, b"two\nunfinished");
    shim.tell(Event::LogGrew);
    assert_eq!(next(&mut lines).await.as_deref(), Some("two\n"));
    room.world.exit(&id, 0);
    assert_eq!(next(&mut lines).await.as_deref(), Some("unfinished"));
    assert_eq!(next(&mut lines).await, None);
}

#[tokio::test]
async fn logs_that_are_not_kept_cannot_be_read() {
    let room = Room::new().await;
    room.create_with("web", |c| c.log.driver = LogDriver::None).await;
    let e = room.engine.logs("web", BOTH).await.expect_err("not kept");
    assert_eq!(e.message(), "configured logging driver does not support reading");
}

#[tokio::test]
async fn an_attachment_with_logs_begins_with_them() {
    let room = Room::new().await;
    let id = room.run("web").await;
    writer(&room, "web").append(Stream::Stderr, 10, b"old\n");
    let mut stream =
        room.engine.attach("web", AttachOptions { logs: true, ..attach() }).await.expect("attaches");
    let mut far = socket(room.world.shim(&id).take_streams().remove(0));
    far.write_all(b"new").await.expect("writes");
    drop(far);
    let mut bytes = [0; 15];
    stream.socket.read_exact(&mut bytes).await.expect("reads");
    assert_eq!(&bytes, b"\x02\0\0\0\0\0\0\x04old\nnew");
}

#[tokio::test]
async fn what_needs_a_running_container_is_refused_without() {
    let room = Room::new().await;
    room.create("web").await;
    assert!(message(room.engine.top("web", "").await).contains("is not running"));
    assert!(message(room.engine.resize("web", Default::default()).await).contains("is not running"));
    let sample = room.engine.stats("web").await.expect("empty figures");
    assert!(!sample.running && sample.system_cpu > 0);
    room.engine.start("web", Default::default()).await.expect("starts");
    assert_eq!(room.engine.top("web", "-ef").await.expect("lists").rows.len(), 1);
    assert!(message(room.engine.top("web", "-o pid").await).contains("-o pid"));
    assert!(room.engine.stats("web").await.expect("figures").running);
    let info = room.engine.info();
    assert_eq!((info.running, info.stopped), (1, 0));
}
