//! A monitor with plain processes: what its daemon, its peers and its files see.

mod kit;

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use kit::{ALL, Daemon, Fake, OUTPUT, Peer, Shim, demux, exec_request};
use tare_model::container::LogDriver;
use tare_model::sandbox::WindowSize;
use tare_model::{ErrorKind, Exit, Signal};
use tare_shim::protocol::{Answer, Call, Event, FdRole, Message, Request, Streams, VERSION};
use tare_shim::record::{Record, State};

const SMALL: WindowSize = WindowSize { rows: 24, columns: 80 };

fn seq(n: usize) -> String {
    (1..=n).map(|i| format!("{i}\n")).collect()
}

// === output ===

#[test]
fn output_of_a_process_that_ends_at_once_reaches_peer_log_and_record() {
    for driver in [LogDriver::Local, LogDriver::JsonFile] {
        let mut shim = Shim::new();
        shim.driver = driver;
        let mut peer = shim.start_attached("echo out; echo err >&2; exit 3", |_| {});
        assert_eq!(peer.frames(), ("out\n".to_owned(), "err\n".to_owned()));
        let exit = shim.daemon.exited();
        assert_eq!(exit.exit, Exit::Code(3));
        let mut lines: Vec<String> = shim.log().lines().map(str::to_owned).collect();
        lines.sort();
        assert_eq!(lines, ["err", "out"]);
        let record = Record::read(&shim.run_dir().join("record")).expect("reads").expect("there");
        assert!(matches!(record.state, State::Exited { exit: kept, .. } if kept == exit));
        assert!(!shim.run_dir().join("shim.sock").exists(), "the socket is still there");
        shim.ends();
    }
}

#[test]
fn the_log_is_complete_when_the_end_is_told() {
    for _ in 0..20 {
        let mut shim = Shim::new();
        shim.start("seq 1 3000; printf end");
        assert_eq!(shim.daemon.exited().exit, Exit::Code(0));
        assert!(shim.log() == seq(3000) + "end");
    }
}

#[test]
fn megabytes_arrive_whole_at_two_peers_and_the_log() {
    let mut shim = Shim::new();
    let (mut first, a) = Peer::pair();
    let (mut second, b) = Peer::pair();
    let mut request = shim.request("seq 1 400000");
    request.attach = vec![ALL, OUTPUT];
    shim.launch(request, vec![a, b]);
    let other = std::thread::spawn(move || second.frames().0);
    let expected = seq(400_000);
    assert!(first.frames().0 == expected, "the first peer");
    assert!(other.join().expect("joins") == expected, "the second peer");
    shim.daemon.exited();
    assert!(shim.log() == expected, "the log");
}

#[test]
fn a_peer_gets_only_the_streams_it_wants() {
    let mut shim = Shim::new();
    let errors = Streams { stdin: false, stdout: false, stderr: true };
    let mut peer = shim.start_attached("echo out; echo err >&2", |request| request.attach = vec![errors]);
    assert_eq!(peer.frames(), (String::new(), "err\n".to_owned()));
}

#[test]
fn a_late_peer_gets_what_comes_after_it() {
    let mut shim = Shim::new();
    let mut first = shim.start_attached("echo early; read x; echo late", |r| r.stdio.open_stdin = true);
    first.until("early");
    let mut late = shim.attach(OUTPUT);
    first.say("\n");
    assert_eq!(late.frames().0, "late\n");
}

#[test]
fn a_peer_that_does_not_read_holds_up_its_container_and_nothing_else() {
    let mut shim = Shim::new();
    let mut peer = shim.start_attached("seq 1 400000; echo done >&2", |_| {});
    let stopped = || shim.log().len();
    // It goes on until the pipes are full, then it stands.
    let mut last = 0;
    while last == 0 || last != stopped() {
        last = stopped();
        assert!(peer.is_quiet() || last < 1_000_000, "{last} bytes were read for a peer that does not");
        std::thread::yield_now();
    }
    assert!(last < seq(400_000).len(), "nothing held it up");
    assert_eq!(shim.daemon.call(Call::Processes).map(|_| ()), Ok(()));
    let (out, err) = peer.frames();
    assert!(out == seq(400_000) && err == "done\n");
    assert_eq!(shim.daemon.exited().exit, Exit::Code(0));
}

#[test]
fn limits_are_changed_by_who_isolates_and_its_words_come_back() {
    let mut shim = Shim::new();
    shim.start("exec sleep 1000");
    let update = |json: &str| Call::Update(Box::new(serde_json::from_str(json).expect("limits")));
    let told = shim.daemon.call(update(r#"{"cpu":{"shares":512}}"#)).expect("updates");
    assert_eq!(told, Answer::Updated(vec!["512 shares".to_owned()]));
    let refused = shim.daemon.call(update("{}")).expect_err("refused");
    assert!(refused.message().contains("knows shares only"), "{refused}");
    shim.daemon.call(Call::Signal { signal: Signal::KILL, exec: None }).expect("kills");
}

#[test]
fn a_peer_that_hangs_up_lets_its_container_go_on() {
    let mut shim = Shim::new();
    let mut peer = shim.start_attached("seq 1 400000", |_| {});
    peer.socket.read_exact(&mut [0; 100]).expect("reads");
    drop(peer);
    assert_eq!(shim.daemon.exited().exit, Exit::Code(0));
    assert!(shim.log() == seq(400_000));
    shim.ends();
}

#[test]
fn what_a_slow_peer_lacks_at_the_end_is_kept_for_it() {
    let mut shim = Shim::new();
    let mut peer = shim.start_narrow("head -c 60000 /dev/zero | tr '\\0' x");
    assert_eq!(shim.daemon.exited().exit, Exit::Code(0));
    shim.goes_on();
    assert_eq!(peer.frames().0.len(), 60_000);
    shim.ends();
}

#[test]
fn a_monitor_does_not_wait_for_a_slow_peer_that_is_gone() {
    let mut shim = Shim::new();
    let peer = shim.start_narrow("head -c 60000 /dev/zero | tr '\\0' x");
    shim.daemon.exited();
    shim.goes_on();
    drop(peer);
    shim.ends();
}

#[test]
fn a_monitor_that_waits_for_a_slow_peer_sleeps() {
    let mut shim = Shim::new();
    let peer = shim.start_narrow("head -c 60000 /dev/zero | tr '\\0' x");
    shim.daemon.exited();
    // As a cgroup does when it is removed.
    rustix::io::write(&*shim.fake.oom, &1u64.to_ne_bytes()).expect("writes");
    shim.sleeps();
    drop(peer);
    shim.ends();
}

#[test]
fn a_peer_that_cannot_be_waited_for_is_hung_up_on_and_its_container_goes_on() {
    let mut shim = Shim::new();
    let mut peer = shim.start_attached("read x; echo on", |request| request.stdio.open_stdin = true);
    let file = tempfile::tempfile().expect("a file");
    let answer = shim.daemon.call_with(Call::Attach { streams: ALL }, vec![file.into()]);
    assert_eq!(answer.expect_err("no socket").kind(), ErrorKind::InvalidInput);
    peer.say("\n");
    assert_eq!(peer.frames().0, "on\n");
    assert_eq!(shim.daemon.exited().exit, Exit::Code(0));
}

#[test]
fn a_writer_that_outlives_the_container_does_not_hold_up_the_end() {
    let mut shim = Shim::with(Fake { sticky: true, ..Fake::default() });
    // Killed by SIGPIPE as soon as the monitor has closed the pipe.
    let mut peer = shim.start_attached("(while echo x; do :; done) & sleep 0.1; exit 5", |_| {});
    let reader = std::thread::spawn(move || peer.frames().0.len());
    assert_eq!(shim.daemon.exited().exit, Exit::Code(5));
    assert!(reader.join().expect("joins") > 0);
    shim.ends();
}

#[test]
fn a_full_control_socket_loses_no_reply_and_holds_up_no_output() {
    let mut shim = Shim::new();
    let mut peer = shim.start_attached("read x; seq 1 50000", |r| r.stdio.open_stdin = true);
    // Replies of hundreds of kilobytes each, which nobody reads.
    for id in 100..160 {
        shim.daemon.send(&Request::new(id, Call::Stats), vec![]);
    }
    peer.say("\n");
    assert!(peer.frames().0 == seq(50_000));
    for id in 100..160 {
        // After the end they are refused; each has its answer.
        let _ = shim.daemon.reply(id);
    }
    assert_eq!(shim.daemon.exited().exit, Exit::Code(0));
}

// === input ===

#[test]
fn without_an_open_stdin_a_process_reads_the_end_at_once() {
    let mut shim = Shim::new();
    let mut peer = shim.start_attached("cat; echo end", |_| {});
    assert_eq!(peer.frames().0, "end\n");
}

#[test]
fn input_arrives_and_its_end_too() {
    let mut shim = Shim::new();
    let mut peer = shim.start_attached("cat", |request| {
        request.stdio.open_stdin = true;
        request.stdio.stdin_once = true;
    });
    peer.say("hello\n");
    peer.until("hello");
    peer.say("bye\n");
    peer.end_input();
    assert_eq!(peer.frames().0, "bye\n");
    assert_eq!(shim.daemon.exited().exit, Exit::Code(0));
}

#[test]
fn megabytes_of_input_arrive_at_a_slow_process() {
    let mut shim = Shim::new();
    let mut peer = shim.start_attached("sleep 0.2; wc -c", |request| {
        request.stdio.open_stdin = true;
        request.stdio.stdin_once = true;
    });
    let mut writer = Peer { socket: peer.socket.try_clone().expect("dup") };
    let writing = std::thread::spawn(move || {
        writer.say(&"x".repeat(3_000_000));
        writer.end_input();
    });
    assert_eq!(peer.frames().0.trim(), "3000000");
    writing.join().expect("joins");
}

#[test]
fn input_that_was_sent_before_hanging_up_still_arrives() {
    let mut shim = Shim::new();
    let mut peer = shim.start_attached("sleep 0.1; wc -c", |request| {
        request.stdio.open_stdin = true;
        request.stdio.stdin_once = true;
    });
    peer.say(&"y".repeat(150_000));
    drop(peer);
    assert_eq!(shim.daemon.exited().exit, Exit::Code(0));
    assert_eq!(shim.log().trim(), "150000");
}

#[test]
fn without_stdin_once_the_end_of_one_peer_is_not_the_end_of_input() {
    let mut shim = Shim::new();
    let mut first =
        shim.start_attached("read a; read b; echo $a-$b", |request| request.stdio.open_stdin = true);
    first.say("one\n");
    first.end_input();
    let mut second = shim.attach(ALL);
    second.say("two\n");
    assert_eq!(second.frames().0, "one-two\n");
    assert_eq!(first.frames().0, "one-two\n");
}

#[test]
fn a_process_that_closed_its_input_does_not_block_who_types() {
    let mut shim = Shim::new();
    let mut peer = shim.start_attached("exec <&-; echo ready; sleep 1000", |r| r.stdio.open_stdin = true);
    peer.until("ready");
    peer.say(&"z".repeat(2_000_000));
    let kill = Call::Signal { signal: Signal::KILL, exec: None };
    assert_eq!(shim.daemon.call(kill), Ok(Answer::Done));
    assert_eq!(shim.daemon.exited().exit, Exit::Signal(9));
    assert_eq!(peer.rest(), b"", "an orderly end, though input was left");
}

// === terminals ===

#[test]
fn a_terminal_is_raw_to_peers_and_follows_its_size() {
    let mut shim = Shim::new();
    let mut peer = shim.start_attached("stty size; read x; stty size; tty -s && echo yes", |request| {
        request.stdio.terminal = Some(SMALL);
    });
    assert!(peer.until("24 80").starts_with("24 80"), "no frame before the first byte");
    let size = WindowSize { rows: 50, columns: 132 };
    assert_eq!(shim.daemon.call(Call::Resize { size, exec: None }), Ok(Answer::Done));
    peer.say("\n");
    let text = String::from_utf8(peer.rest()).expect("text");
    assert!(text.contains("50 132") && text.contains("yes"), "{text:?}");
    assert_eq!(shim.daemon.exited().exit, Exit::Code(0));
    assert!(shim.log().contains("50 132"));
}

#[test]
fn the_end_of_a_peers_input_is_not_the_end_of_a_terminals() {
    let mut shim = Shim::new();
    let mut peer = shim.start_attached("echo ready; read x; echo got $x", |request| {
        request.stdio.terminal = Some(SMALL);
        request.stdio.stdin_once = true;
    });
    peer.until("ready");
    peer.end_input();
    let mut other = shim.attach(ALL);
    other.say("that\n");
    assert!(other.until("got that").contains("that"));
    other.rest();
}

#[test]
fn a_terminal_that_its_process_has_left_keeps_nobody_busy() {
    let mut shim = Shim::new();
    let mut peer = shim.start_attached(
        "echo bye; trap 'exit 3' TERM; exec <&- >&- 2>&-; while :; do sleep 0.01; done",
        |request| request.stdio.terminal = Some(SMALL),
    );
    peer.until("bye");
    shim.sleeps();
    peer.say("is anybody there");
    shim.sleeps();
    shim.daemon.call(Call::Signal { signal: Signal::TERM, exec: None }).expect("signals");
    assert_eq!(shim.daemon.exited().exit, Exit::Code(3));
}

#[test]
fn what_has_no_terminal_cannot_be_resized() {
    let mut shim = Shim::new();
    shim.start("sleep 1000");
    let error = shim.daemon.call(Call::Resize { size: SMALL, exec: None }).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let kill = Call::Signal { signal: Signal::KILL, exec: None };
    shim.daemon.call(kill).expect("kills");
}

// === exec ===

#[test]
fn an_exec_has_its_own_streams_and_is_not_logged() {
    let mut shim = Shim::new();
    shim.start("sleep 1000");
    let (exec, mut peer) = shim.exec("cat; echo err >&2; exit 7", |_| {});
    peer.say("typed\n");
    peer.end_input();
    assert_eq!(peer.frames(), ("typed\n".to_owned(), "err\n".to_owned()));
    match shim.daemon.event() {
        Some(Event::ExecExited(exit)) => assert_eq!((exit.exec, exit.exit), (exec, Exit::Code(7))),
        other => panic!("{other:?}"),
    }
    assert_eq!(shim.log(), "");
    stop(&mut shim);
}

#[test]
fn an_exec_with_a_terminal_has_its_own_size() {
    let mut shim = Shim::new();
    shim.start("sleep 1000");
    let (exec, mut peer) = shim.exec("stty size; read x; stty size", |r| r.terminal = Some(SMALL));
    peer.until("24 80");
    let size = WindowSize { rows: 10, columns: 20 };
    assert_eq!(shim.daemon.call(Call::Resize { size, exec: Some(exec) }), Ok(Answer::Done));
    peer.say("\n");
    peer.until("10 20");
    stop(&mut shim);
}

#[test]
fn an_exec_without_a_peer_runs_and_tells_its_end() {
    let mut shim = Shim::new();
    shim.start("sleep 1000");
    let request = exec_request("echo nobody hears this; exit 4");
    let exec = request.exec.clone();
    shim.daemon.call(Call::Exec(Box::new(request))).expect("executes");
    match shim.daemon.event() {
        Some(Event::ExecExited(exit)) => assert_eq!((exit.exec, exit.exit), (exec, Exit::Code(4))),
        other => panic!("{other:?}"),
    }
    stop(&mut shim);
}

#[test]
fn a_background_child_of_an_exec_does_not_hold_its_peer() {
    let mut shim = Shim::new();
    shim.start("sleep 1000");
    let (_, mut peer) = shim.exec("sleep 1000 & echo started", |_| {});
    assert_eq!(peer.frames().0, "started\n");
    stop(&mut shim);
}

#[test]
fn an_exec_can_be_signalled_by_its_id() {
    let mut shim = Shim::new();
    shim.start("sleep 1000");
    let (exec, _peer) = shim.exec("exec sleep 1000", |_| {});
    let signal = Call::Signal { signal: Signal::TERM, exec: Some(exec.clone()) };
    assert_eq!(shim.daemon.call(signal.clone()), Ok(Answer::Done));
    match shim.daemon.event() {
        Some(Event::ExecExited(exit)) => assert_eq!(exit.exit, Exit::Signal(15)),
        other => panic!("{other:?}"),
    }
    assert_eq!(shim.daemon.call(signal).expect_err("it has ended").kind(), ErrorKind::Conflict);
    stop(&mut shim);
}

#[test]
fn execs_that_cannot_be_are_refused_for_their_reason() {
    let mut shim = Shim::new();
    shim.start("sleep 1000");
    let mut missing = exec_request("");
    missing.spec.args = vec!["/no/such/program".to_owned()];
    let error = shim.daemon.call(Call::Exec(Box::new(missing))).expect_err("not found");
    assert_eq!(error.kind(), ErrorKind::CommandNotFound);
    let twice = exec_request("true");
    shim.daemon.call(Call::Exec(Box::new(twice.clone()))).expect("executes");
    let error = shim.daemon.call(Call::Exec(Box::new(twice))).expect_err("the id is taken");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    shim.daemon.call(Call::Pause).expect("pauses");
    let error = shim.daemon.call(Call::Exec(Box::new(exec_request("true")))).expect_err("paused");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    stop(&mut shim);
}

#[test]
fn execs_end_with_their_container_and_are_told_before_it() {
    let mut shim = Shim::new();
    shim.start("exec sleep 1000");
    let (exec, mut peer) = shim.exec("echo on; sleep 1000", |_| {});
    peer.until("on");
    shim.daemon.call(Call::Signal { signal: Signal::TERM, exec: None }).expect("signals");
    match shim.daemon.event() {
        Some(Event::ExecExited(exit)) => assert_eq!((exit.exec, exit.exit), (exec, Exit::Signal(9))),
        other => panic!("{other:?}"),
    }
    assert!(matches!(shim.daemon.event(), Some(Event::Exited(_))));
    assert_eq!(peer.rest(), b"");
    shim.ends();
}

#[test]
fn many_execs_that_cannot_be_killed_hold_up_the_end_no_longer_than_one() {
    let mut shim = Shim::with(Fake { sticky: true, ..Fake::default() });
    shim.start("read x < /dev/null; sleep 1; exit 2");
    // More than would fit into what the test waits for, if each had its own time. They end with their input.
    let execs: Vec<_> = (0..15).map(|_| shim.exec("read x", |_| {})).collect();
    shim.ends();
    assert_eq!(shim.daemon.exited().exit, Exit::Code(2));
    drop(execs);
}

fn stop(shim: &mut Shim) {
    shim.daemon.call(Call::Signal { signal: Signal::KILL, exec: None }).expect("kills");
    assert_eq!(shim.daemon.exited().exit, Exit::Signal(9));
    shim.ends();
}

// === control ===

#[test]
fn a_signal_ends_it_and_the_record_says_which() {
    let mut shim = Shim::new();
    let started = shim.start("exec sleep 1000");
    shim.daemon.call(Call::Signal { signal: Signal::TERM, exec: None }).expect("signals");
    assert_eq!(shim.daemon.exited().exit, Exit::Signal(15));
    let record = Record::read(&shim.run_dir().join("record")).expect("reads").expect("there");
    let State::Exited { pid, started_at, exit } = record.state else { panic!("{record:?}") };
    assert_eq!((pid, started_at, exit.exit), (started.pid, started.started_at, Exit::Signal(15)));
    assert!(exit.at >= started_at);
}

#[test]
fn a_paused_container_goes_on_after_resume_and_dies_of_sigkill() {
    let mut shim = Shim::new();
    let mut peer = shim.start_attached("read x; echo awake; read x", |r| r.stdio.open_stdin = true);
    shim.daemon.call(Call::Pause).expect("pauses");
    assert!(shim.daemon.snapshot().paused);
    peer.say("\n");
    assert!(peer.is_quiet());
    shim.daemon.call(Call::Resume).expect("resumes");
    peer.until("awake");
    shim.daemon.call(Call::Pause).expect("pauses");
    stop(&mut shim);
}

#[test]
fn a_daemon_that_comes_back_learns_everything() {
    let mut shim = Shim::new();
    let started = shim.start("read x; sleep 0.2; echo bye; exit 9");
    let (ended, _a) = shim.exec("exit 2", |_| {});
    assert!(matches!(shim.daemon.event(), Some(Event::ExecExited(_))));
    let (runs, _b) = shim.exec("sleep 1000", |_| {});
    // SIGKILL: the socket closes, and that is all.
    shim.daemon = Daemon::connect(&shim.run_dir().join("shim.sock")).expect("connects");
    let snapshot = shim.daemon.snapshot();
    assert_eq!(snapshot.started, started);
    assert_eq!(snapshot.execs.iter().map(|e| &e.exec).collect::<Vec<_>>(), [&runs]);
    let past: Vec<_> = snapshot.ended_execs.iter().map(|e| (&e.exec, e.exit)).collect();
    assert_eq!(past, [(&ended, Exit::Code(2))]);
    assert_eq!(snapshot.exited, None);
    let _later = shim.daemon.exited();
}

#[test]
fn what_is_given_to_be_kept_is_there_for_every_daemon_until_the_end() {
    let mut shim = Shim::new();
    let (mut peer, theirs) = Peer::pair();
    let start = Call::Start(Box::new(shim.request("exec sleep 1000")));
    shim.daemon.call_in_roles(start, vec![(FdRole::Keep, theirs)]).expect("starts");
    for round in ["first", "second"] {
        let mut kept = shim.daemon.call_for_descriptors(Call::Kept).expect("kept");
        let copy = kept.pop().expect("one");
        assert!(kept.is_empty());
        rustix::io::write(&copy, round.as_bytes()).expect("writes");
        assert!(peer.until(round).ends_with(round));
        // Whoever asked goes, and so does the copy.
        drop(copy);
        shim.daemon = Daemon::connect(&shim.run_dir().join("shim.sock")).expect("connects");
        assert_eq!(shim.daemon.snapshot().exited, None);
        assert!(!peer.has_ended(), "the monitor keeps its own");
    }
    stop(&mut shim);
    assert!(peer.ends(), "no longer than the container runs");
}

#[test]
fn a_container_that_runs_is_given_something_to_keep_or_something_else() {
    let mut shim = Shim::new();
    shim.start("exec sleep 1000");
    let mut peers = Vec::new();
    for round in ["first", "second"] {
        let (mut peer, theirs) = Peer::pair();
        let answer = shim.daemon.call_in_roles(Call::Keep, vec![(FdRole::Keep, theirs)]);
        assert_eq!(answer.expect("keeps"), Answer::Done);
        let copy = shim.daemon.call_for_descriptors(Call::Kept).expect("kept").pop().expect("one");
        rustix::io::write(&copy, round.as_bytes()).expect("writes");
        assert!(peer.until(round).ends_with(round));
        peers.push(peer);
    }
    assert!(peers[0].ends() && !peers[1].has_ended(), "the second in place of the first");
    let nothing = shim.daemon.call_in_roles(Call::Keep, vec![]).expect_err("nothing came along");
    assert_eq!(nothing.kind(), ErrorKind::InvalidInput);
    stop(&mut shim);
    assert!(peers[1].ends(), "no longer than the container runs");
}

#[test]
fn one_socket_can_be_given_to_be_kept_and_nothing_else() {
    let file = || OwnedFd::from(std::fs::File::open("/dev/null").expect("opens"));
    let socket = || Peer::pair().1;
    for given in [vec![file()], vec![socket(), socket()]] {
        let mut shim = Shim::new();
        let start = Call::Start(Box::new(shim.request("exec sleep 1000")));
        let given = given.into_iter().map(|fd| (FdRole::Keep, fd)).collect();
        let error = shim.daemon.call_in_roles(start, given).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().contains("Keep"), "{error}");
    }
}

#[test]
fn without_something_to_keep_asking_for_it_is_refused() {
    let mut shim = Shim::new();
    shim.daemon.call_for_descriptors(Call::Kept).expect_err("nothing runs");
    shim.start("exec sleep 1000");
    let error = shim.daemon.call_for_descriptors(Call::Kept).expect_err("nothing is kept");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    stop(&mut shim);
}

#[test]
fn while_no_daemon_is_there_log_and_record_are_kept() {
    let mut shim = Shim::new();
    shim.start("sleep 0.2; seq 1 1000; exit 6");
    let (socket, _) = tare_shim::wire::pair().expect("pair");
    shim.daemon = Daemon::new(socket);
    shim.ends();
    assert!(shim.log() == seq(1000));
    let record = Record::read(&shim.run_dir().join("record")).expect("reads").expect("there");
    assert!(matches!(record.state, State::Exited { exit, .. } if exit.exit == Exit::Code(6)));
}

#[test]
fn a_launch_that_fails_says_why_to_everyone_and_leaves_nothing() {
    let mut shim = Shim::new();
    let mut request = shim.request("");
    request.spec = kit::spec(&["/no/such/program"]);
    request.attach = vec![OUTPUT];
    let (mut peer, theirs) = Peer::pair();
    let error = shim.daemon.call_with(Call::Start(Box::new(request)), vec![theirs]).expect_err("fails");
    assert_eq!(error.kind(), ErrorKind::CommandNotFound);
    assert_eq!(peer.rest(), b"");
    let record = Record::read(&shim.run_dir().join("record")).expect("reads").expect("there");
    assert_eq!(record.state, State::Failed { error });
    assert!(!shim.run_dir().join("shim.sock").exists());
    shim.ends();
}

#[test]
fn a_log_that_cannot_be_opened_stops_the_start() {
    let mut shim = Shim::new();
    let mut request = shim.request("echo must not run");
    request.log.directory = "/no/such/directory".into();
    let error = shim.daemon.call(Call::Start(Box::new(request))).expect_err("fails");
    assert!(error.message().contains("/no/such/directory"), "{error}");
    shim.ends();
}

#[test]
fn a_second_run_in_the_same_directories_shows_only_itself_but_keeps_the_log() {
    let dir = Arc::new(tempfile::tempdir().expect("temporary directory"));
    for (run, code) in [("one", 1), ("two", 2)] {
        let mut shim = Shim::within(Fake::default(), Arc::clone(&dir));
        shim.start(&format!("echo {run}; exit {code}"));
        assert_eq!(shim.daemon.exited().exit, Exit::Code(code));
        shim.ends();
        let expected = if code == 1 { "one\n" } else { "one\ntwo\n" };
        assert_eq!(shim.log(), expected);
    }
}

#[test]
fn a_daemon_that_leaves_before_the_start_ends_the_monitor() {
    let mut shim = Shim::new();
    let (socket, _) = tare_shim::wire::pair().expect("pair");
    shim.daemon = Daemon::new(socket);
    shim.ends();
}

#[test]
fn another_version_is_refused_by_an_error_that_names_both() {
    let mut shim = Shim::new();
    shim.start("exec sleep 1000");
    shim.daemon.send(&Request { version: 99, ..Request::new(5, Call::Snapshot) }, vec![]);
    let error = shim.daemon.reply(5).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("99") && error.message().contains(&VERSION.to_string()), "{error}");
    stop(&mut shim);
}

#[test]
fn an_unknown_call_is_unsupported_and_nonsense_is_hung_up_on() {
    let mut shim = Shim::new();
    shim.start("exec sleep 1000");
    let mut other = Daemon::connect(&shim.run_dir().join("shim.sock")).expect("connects");
    let unknown =
        serde_json::json!({ "version": VERSION, "id": 8, "call": { "teleport": { "to": "mars" } } });
    other.send_raw(&unknown);
    assert_eq!(other.reply(8).expect_err("unknown").kind(), ErrorKind::Unsupported);
    other.send_raw(&serde_json::json!("GET / HTTP/1.1"));
    assert!(other.message().is_none());
    stop(&mut shim);
}

#[test]
fn descriptors_without_their_role_are_refused() {
    let mut shim = Shim::new();
    shim.start("exec sleep 1000");
    let fd: OwnedFd = std::fs::File::open("/dev/null").expect("opens").into();
    let request = Request { fds: vec![FdRole::Control], ..Request::new(3, Call::Attach { streams: ALL }) };
    shim.daemon.send(&request, vec![fd]);
    assert_eq!(shim.daemon.reply(3).expect_err("refused").kind(), ErrorKind::InvalidInput);
    let error = shim.daemon.call(Call::Attach { streams: ALL }).expect_err("no socket");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    stop(&mut shim);
}

#[test]
fn a_second_start_is_refused() {
    let mut shim = Shim::new();
    shim.start("exec sleep 1000");
    let again = Call::Start(Box::new(shim.request("true")));
    assert_eq!(shim.daemon.call(again).expect_err("refused").kind(), ErrorKind::Conflict);
    stop(&mut shim);
}

#[test]
fn growth_of_the_log_is_told_once_for_each_time_it_is_asked() {
    let mut shim = Shim::new();
    let mut peer =
        shim.start_attached("while read x; do echo $x; done", |request| request.stdio.open_stdin = true);
    for round in ["a", "b"] {
        shim.daemon.call(Call::WatchLog).expect("watches");
        peer.say(&format!("{round}1\n"));
        peer.until(&format!("{round}1"));
        peer.say(&format!("{round}2\n"));
        peer.until(&format!("{round}2"));
        assert_eq!(shim.daemon.event(), Some(Event::LogGrew));
    }
    shim.daemon.call(Call::Processes).expect("answers");
    assert!(shim.daemon.events.is_empty(), "{:?}", shim.daemon.events);
    stop(&mut shim);
}

#[test]
fn a_kill_for_lack_of_memory_is_told_and_recorded() {
    let mut shim = Shim::new();
    shim.start("exec sleep 1000");
    rustix::io::write(&*shim.fake.oom, &1u64.to_ne_bytes()).expect("writes");
    assert_eq!(shim.daemon.event(), Some(Event::Oom));
    shim.daemon.call(Call::Signal { signal: Signal::KILL, exec: None }).expect("kills");
    assert!(shim.daemon.exited().oom_killed);
}

#[test]
fn what_could_not_be_removed_is_told_before_the_end() {
    let mut shim = Shim::with(Fake { sticky: true, ..Fake::default() });
    shim.start("exit 0");
    match shim.daemon.event() {
        Some(Event::Leftovers(error)) => assert!(error.message().contains("it sticks"), "{error}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(shim.daemon.event(), Some(Event::Exited(_))));
}

#[test]
fn after_the_end_calls_are_refused_as_long_as_somebody_is_there() {
    let mut shim = Shim::new();
    let mut peer = shim.start_narrow("head -c 60000 /dev/zero | tr '\\0' x");
    shim.daemon.exited();
    for call in [Call::Stats, Call::Pause, Call::Exec(Box::new(exec_request("true")))] {
        assert_eq!(shim.daemon.call(call).expect_err("ended").kind(), ErrorKind::Conflict);
    }
    assert_eq!(shim.daemon.snapshot().exited.map(|exit| exit.exit), Some(Exit::Code(0)));
    assert_eq!(demux(&peer.rest()).0.len(), 60_000);
}

#[test]
fn the_greeting_names_version_and_monitor() {
    let mut shim = Shim::new();
    match shim.daemon.message() {
        Some(Message::Hello { version, shim_pid }) => {
            assert_eq!((version, shim_pid), (VERSION, std::process::id().cast_signed()));
        }
        other => panic!("{other:?}"),
    }
    assert!(!kit::is_readable(shim.daemon.socket().as_fd(), Duration::from_millis(50)));
}

/// `cargo test --release -p tare-shim --test supervisor -- --ignored --nocapture throughput`
#[test]
#[ignore = "a measurement, not a check"]
fn throughput_of_the_log_in_71_byte_lines() {
    for driver in [LogDriver::None, LogDriver::Local, LogDriver::JsonFile] {
        let mut shim = Shim::new();
        shim.driver = driver;
        let line = "x".repeat(70);
        let begin = std::time::Instant::now();
        shim.start(&format!("yes {line} | head -c 1000000000"));
        shim.daemon.exited();
        let took = begin.elapsed().as_secs_f64();
        println!("{driver:?}: {:.0} MB/s", 1000.0 / took);
    }
}
