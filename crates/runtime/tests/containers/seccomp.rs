//! What the filters let through, asked from inside; and the agent of a notifying filter.

use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};
use tare_model::sandbox::{ExecSpec, Seccomp};
use tare_runtime::Extra;
use tare_runtime::hooks::Subject;

use crate::setup::{Setup, Started, exec, pipes, wait};

crate::tests![
    only_the_families_of_the_list_open,
    without_a_filter_more_families_open,
    af_alg_is_shut_by_every_route,
    without_a_filter_the_routes_are_open,
    a_thirty_two_bit_image_gets_its_calls_but_not_x32,
    no_namespace_and_no_mount_can_be_made,
    the_strict_filter_shuts_packets_and_netlink_too,
    dockers_filter_opens_what_docker_opens,
    an_agent_gets_listener_and_state_before_the_program_runs,
    an_agent_gets_the_listener_of_each_further_process,
    a_filter_that_forbids_sendmsg_still_reaches_its_agent,
    a_parent_that_cannot_fetch_the_listener_is_sent_it,
    a_listener_that_cannot_be_fetched_nor_sent_fails_the_launch,
    an_agent_that_is_not_there_fails_the_launch,
    the_listener_is_handed_over_before_the_gate,
];

fn filtered(filter: Seccomp, verb: &str) -> String {
    let mut setup = Setup::new(&[verb]);
    setup.spec.seccomp = filter;
    setup.output()
}

// === the filters ===

/// Security rows 138 and 141.
fn only_the_families_of_the_list_open() {
    assert_eq!(filtered(Seccomp::Default, "sockets"), "1 2 10 16 17\n1 2 10 16 17\n1 2 10 16 17");
}

fn without_a_filter_more_families_open() {
    let out = filtered(Seccomp::Unconfined, "sockets");
    let open: Vec<&str> = out.lines().next().unwrap().split(' ').collect();
    // Two that kernels have or have not, and keep for privileges over the network or the machine.
    let (key, phonet) = ("15", "35");
    let closed = (0..47).map(|family| family.to_string()).filter(|family| !open.contains(&family.as_str()));
    let closed: Vec<String> = closed.filter(|family| family != key && family != phonet).collect();
    assert!(closed.is_empty(), "no other family is EPERM of itself: {closed:?}");
}

/// Security row 140.
fn af_alg_is_shut_by_every_route() {
    for filter in [Seccomp::Default, Seccomp::Strict] {
        let out = filtered(filter, "routes");
        assert!(out.lines().all(|line| line.ends_with(" 1")), "{filter:?}: {out}");
        assert!(cfg!(not(target_arch = "x86_64")) || out.lines().count() == 6, "{out}");
    }
}

fn without_a_filter_the_routes_are_open() {
    let out = filtered(Seccomp::Unconfined, "routes");
    assert!(out.lines().all(|line| !line.ends_with(" 1")), "{out}");
    assert!(cfg!(not(target_arch = "x86_64")) || out.contains("int80-getpid 0"), "{out}");
}

fn a_thirty_two_bit_image_gets_its_calls_but_not_x32() {
    if cfg!(not(target_arch = "x86_64")) {
        return;
    }
    let out = filtered(Seccomp::DefaultThirtyTwoBit, "routes");
    for shut in ["socket 1", "x32 1", "int80 1", "x32-getpid 1"] {
        assert!(out.lines().any(|line| line == shut), "{shut}: {out}");
    }
    assert!(out.contains("int80-getpid 0"), "{out}");
}

/// Security row 138.
fn no_namespace_and_no_mount_can_be_made() {
    for filter in [Seccomp::Default, Seccomp::Strict, Seccomp::Docker] {
        assert_eq!(filtered(filter, "walls"), "unshare 1\nclone 1\nclone3 38\nfsopen 1", "{filter:?}");
    }
}

fn the_strict_filter_shuts_packets_and_netlink_too() {
    let mut setup = Setup::new(&["sockets"]);
    setup.spec.seccomp = Seccomp::Strict;
    let nine = [
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "KILL",
    ];
    let nine: Vec<String> = nine.iter().map(|name| format!("CAP_{name}")).collect();
    for set in ["bounding", "effective", "permitted"] {
        setup.set(&format!("/process/capabilities/{set}"), json!(nine));
    }
    assert_eq!(setup.output().lines().next(), Some("1 2 10 16"));
}

fn dockers_filter_opens_what_docker_opens() {
    let all = filtered(Seccomp::Unconfined, "sockets");
    let out = filtered(Seccomp::Docker, "sockets");
    assert_eq!(all.lines().count(), out.lines().count());
    for (all, open) in all.lines().zip(out.lines()) {
        let want: Vec<&str> = all.split(' ').filter(|family| !matches!(*family, "38" | "40")).collect();
        assert_eq!(open.split(' ').collect::<Vec<_>>(), want);
        assert!(want.len() >= 43, "{open}");
    }
}

// === the agent ===

/// An agent of a test: a socket and what it hears.
struct Agent {
    socket: UnixListener,
    path: String,
}

impl Agent {
    fn new(setup: &Setup) -> Self {
        let path = setup.dir.path().join("agent").to_str().unwrap().to_owned();
        Self { socket: UnixListener::bind(&path).unwrap(), path }
    }

    /// Waits for one connection: the state that was sent, and the listener.
    fn hear(&self) -> (Value, OwnedFd) {
        let (mut stream, _) = self.socket.accept().unwrap();
        let (mut bytes, mut fd) = (vec![0; 65_536], None);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let length = recvmsg(&stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap().bytes;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                fd = fds.last();
            }
        }
        bytes.truncate(length);
        stream.read_to_end(&mut bytes).unwrap(); // closed after one state
        (serde_json::from_slice(&bytes).unwrap(), fd.unwrap())
    }
}

/// A container that makes a call of which the agent is notified.
fn notifying(setup: &mut Setup, path: &str, more: &[Value]) {
    setup.spec.seccomp = Seccomp::Spec;
    let mut rules = vec![json!({"names": ["acct"], "action": "SCMP_ACT_NOTIFY"})];
    rules.extend_from_slice(more);
    let filter = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "for you", "syscalls": rules,
    });
    setup.set("/linux/seccomp", filter);
}

const ACCT: &str = if cfg!(target_arch = "x86_64") { "163" } else { "89" };

/// With its listener gone a notifying call answers ENOSYS; held by the agent, the call waits.
fn held(started: Started, listener: OwnedFd) {
    let mut fds = [rustix::event::PollFd::new(&listener, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut fds, None).unwrap();
    drop(listener);
    assert_eq!(started.finish().out, format!("call {ACCT} 38"));
}

fn an_agent_gets_listener_and_state_before_the_program_runs() {
    let mut setup = Setup::new(&["call", ACCT]);
    let agent = Agent::new(&setup);
    notifying(&mut setup, &agent.path.clone(), &[]);
    setup.set("/annotations", json!({"k": "v"}));
    let started = setup.start().unwrap();
    let (state, listener) = agent.hear();
    let pid = started.launched.pid;
    assert_eq!(state["fds"], json!(["seccompFd"]));
    assert_eq!(state["pid"], json!(pid));
    assert_eq!(state["metadata"], "for you");
    assert_eq!(state["state"]["status"], "creating");
    assert_eq!(state["state"]["pid"], json!(pid));
    assert_eq!(state["state"]["id"], setup.spec.id.as_str());
    assert_eq!(state["state"]["annotations"], json!({"k": "v"}));
    held(started, listener);
}

fn an_agent_gets_the_listener_of_each_further_process() {
    let mut setup = Setup::new(&["sleep"]);
    let agent = Agent::new(&setup);
    notifying(&mut setup, &agent.path.clone(), &[]);
    let mut started = setup.start().unwrap();
    let first = agent.hear();
    let (stdio, _out) = pipes();
    let launched = started.running.exec(&exec(&["exit", "0"]), stdio).unwrap();
    let (state, _listener) = agent.hear();
    assert_eq!(state["pid"], json!(launched.pid));
    assert_eq!(state["state"]["pid"], first.0["pid"]);
    assert_eq!(state["state"]["status"], "running");
    wait(&launched);
    // One with more rights has no filter, and nobody is told of it.
    let privileged = ExecSpec { privileged: true, ..exec(&["exit", "0"]) };
    wait(&started.running.exec(&privileged, pipes().0).unwrap());
    started.kill();
}

fn a_filter_that_forbids_sendmsg_still_reaches_its_agent() {
    let mut setup = Setup::new(&["call", ACCT]);
    let agent = Agent::new(&setup);
    let names = ["sendmsg", "sendmmsg", "sendto", "futex"];
    let silent = json!({"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": 1});
    notifying(&mut setup, &agent.path.clone(), &[silent]);
    if !has_pidfd_getfd() {
        let error = setup.refused();
        assert!(error.message().contains("does not let the process send its listener"), "{error}");
        return;
    }
    let started = setup.start().unwrap();
    held(started, agent.hear().1);
}

fn has_pidfd_getfd() -> bool {
    use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
    // No pidfd, which only the call itself finds out.
    let answer = pidfd_getfd(std::io::stdout(), 1, PidfdGetfdFlags::empty());
    answer.is_err_and(|errno| errno != rustix::io::Errno::NOSYS)
}

/// Makes `pidfd_getfd` a call that this process, and what it starts, does not have.
fn without_pidfd_getfd() {
    let names = json!([{"names": ["pidfd_getfd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]);
    let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": names});
    let filter = tare_runtime::seccomp::compile(&serde_json::from_value(filter).unwrap()).unwrap();
    filter.load().unwrap();
}

fn a_parent_that_cannot_fetch_the_listener_is_sent_it() {
    without_pidfd_getfd();
    let mut setup = Setup::new(&["call", ACCT]);
    let agent = Agent::new(&setup);
    notifying(&mut setup, &agent.path.clone(), &[]);
    let started = setup.start().unwrap();
    held(started, agent.hear().1);
}

fn a_listener_that_cannot_be_fetched_nor_sent_fails_the_launch() {
    without_pidfd_getfd();
    let mut setup = Setup::new(&["call", ACCT]);
    let agent = Agent::new(&setup);
    let silent = json!({"names": ["sendmsg"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1});
    notifying(&mut setup, &agent.path.clone(), &[silent]);
    let error = setup.refused();
    assert!(error.message().contains("sendmsg"), "{error}");
}

fn an_agent_that_is_not_there_fails_the_launch() {
    let mut setup = Setup::new(&["echo", "ran"]);
    notifying(&mut setup, "/nowhere/agent", &[]);
    let error = setup.refused();
    assert!(error.message().contains("linux.seccomp.listenerPath /nowhere/agent"), "{error}");
    assert!(error.message().contains("connect()"), "{error}");
}

fn the_listener_is_handed_over_before_the_gate() {
    let mut setup = Setup::new(&["call", ACCT]);
    let agent = Agent::new(&setup);
    notifying(&mut setup, &agent.path.clone(), &[]);
    setup.spec.oci = serde_json::from_value(setup.oci.clone()).unwrap();
    let (gate, push) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let (stdio, stdout) = pipes();
    let subject = Subject { version: "1.2.0", id: "listened", bundle: setup.dir.path(), annotations: None };
    let extra = Extra { gate: Some(gate.as_fd()), subject: Some(subject), ..Extra::default() };
    let (container, launched) = setup.runtime.launch_with(&setup.spec, stdio, &extra).unwrap();
    let (state, listener) = agent.hear();
    assert_eq!(state["state"]["bundle"], setup.dir.path().to_str().unwrap());
    rustix::io::write(&push, b"x").unwrap();
    held(Started::of(Box::new(container), launched, stdout, &setup), listener);
}
