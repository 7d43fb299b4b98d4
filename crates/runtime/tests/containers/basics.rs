//! What every container has: its own everything, its output, its exit code; and errors that name the cause.

use serde_json::json;
use tare_model::sandbox::Sandbox;
use tare_model::{ErrorKind, Exit};

use crate::setup::Setup;

crate::tests![
    output_and_exit_code_arrive,
    the_program_is_process_one_and_sees_only_its_own,
    host_and_domain_name_are_its_own,
    the_environment_is_exactly_the_given_one_that_names_a_home,
    a_user_by_number_gets_the_home_that_the_containers_files_give,
    loopback_is_up_and_nothing_else_is_there,
    signals_reach_the_first_process,
    a_signal_to_an_ended_container_is_a_conflict,
    a_program_that_is_missing_is_told_as_docker_tells_it,
    a_program_that_cannot_be_executed_is_told_as_docker_tells_it,
    a_missing_layer_fails_and_leaves_nothing,
    a_missing_bind_source_is_named,
    a_failed_launch_leaves_no_child,
    limits_are_in_force,
    limits_change_while_it_runs_or_are_refused_whole,
    an_anchor_lives_as_long_as_somebody_holds_it,
    rlimits_umask_and_oom_score_arrive,
    pause_stops_and_resume_goes_on,
    statistics_and_processes_are_told,
    a_memory_hog_dies_alone_and_is_noticed,
    destroy_kills_what_is_left,
    cleanup_removes_what_a_dead_monitor_left,
    sysctls_are_the_containers_own,
    signals_start_out_default_and_unblocked,
    init_reaps_and_gives_the_programs_code,
    init_turns_a_signal_into_128_and_its_number,
];

fn output_and_exit_code_arrive() {
    let said = Setup::new(&["then", "echo", "hello", ",", "exit", "7"]).run().unwrap();
    assert_eq!((said.exit, said.out.as_str()), (Exit::Code(7), "hello"));
}

fn the_program_is_process_one_and_sees_only_its_own() {
    let out = Setup::new(&["ls", "/proc"]).output();
    let pids: Vec<&str> = out.split(' ').filter(|name| name.parse::<u32>().is_ok()).collect();
    assert_eq!(pids, ["1"]);
}

fn host_and_domain_name_are_its_own() {
    let before = rustix::system::uname().nodename().to_owned();
    let mut setup = Setup::new(&["then", "host", ",", "cat", "/proc/sys/kernel/domainname"]);
    setup.oci["domainname"] = json!("example");
    assert_eq!(setup.output(), "box\nexample");
    assert_eq!(rustix::system::uname().nodename(), before.as_c_str());
}

fn the_environment_is_exactly_the_given_one_that_names_a_home() {
    let mut setup = Setup::new(&["env"]);
    setup.set("/process/env", json!(["A=1", "B=two words", "C=line\nbreak", "HOME=/h"]));
    assert_eq!(setup.output(), "A=1\nB=two words\nC=line\nbreak\nHOME=/h");
}

fn a_user_by_number_gets_the_home_that_the_containers_files_give() {
    let mut setup = Setup::new(&["env"]);
    std::fs::write(setup.lower("etc/passwd"), "ann:x:1000:1000::/home/ann:/bin/sh\n").unwrap();
    setup.set("/process/env", json!(["A=1"])).set("/process/user", json!({"uid": 1000, "gid": 1000}));
    assert_eq!(setup.output(), "A=1\nHOME=/home/ann");
    setup.set("/process/user", json!({"uid": 1001, "gid": 1000}));
    assert_eq!(setup.output(), "A=1\nHOME=/");
}

fn loopback_is_up_and_nothing_else_is_there() {
    let out = Setup::new(&["then", "ls", "/sys/class/net", ",", "cat", "/sys/class/net/lo/flags"]).output();
    assert_eq!(out, "lo\n0x9");
}

fn signals_reach_the_first_process() {
    let started = Setup::new(&["sleep"]).start().unwrap();
    assert_eq!(started.line(), "waiting");
    assert_eq!(started.kill().exit, Exit::Signal(9));
}

fn a_signal_to_an_ended_container_is_a_conflict() {
    let mut setup = Setup::new(&["exit", "0"]);
    let mut started = setup.start().unwrap();
    crate::setup::wait(&started.launched);
    let error = started.running.signal(tare_model::Signal::TERM).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    started.running.destroy().unwrap();
}

fn a_program_that_is_missing_is_told_as_docker_tells_it() {
    for (program, text) in [
        ("nonsense", "exec: \"nonsense\": executable file not found in $PATH"),
        ("/no/such", "exec: \"/no/such\": stat /no/such: no such file or directory"),
        ("", "exec: \"\": executable file not found in $PATH"),
    ] {
        let error = Setup::new(&[]).set("/process/args", json!([program])).refused();
        assert_eq!((error.kind(), error.message()), (ErrorKind::CommandNotFound, text));
    }
}

fn a_program_that_cannot_be_executed_is_told_as_docker_tells_it() {
    let mut setup = Setup::new(&[]);
    std::fs::write(setup.lower("etc/text"), "no program").unwrap();
    std::fs::write(setup.lower("garbage"), [0_u8; 64]).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(setup.lower("garbage"), mode).unwrap();
    for (program, text) in [
        ("/etc/text", "exec: \"/etc/text\": permission denied"),
        ("/etc", "exec: \"/etc\": is a directory"),
        ("/garbage", "exec /garbage: exec format error"),
    ] {
        let error = setup.set("/process/args", json!([program])).refused();
        assert_eq!((error.kind(), error.message()), (ErrorKind::CommandNotExecutable, text));
    }
}

fn a_missing_layer_fails_and_leaves_nothing() {
    let mut setup = Setup::new(&["exit", "0"]);
    std::fs::remove_dir_all(setup.dir.path().join("lower")).unwrap();
    let error = setup.refused();
    assert!(error.message().contains("root file system") && error.message().contains("lower"), "{error}");
}

fn a_missing_bind_source_is_named() {
    let mut setup = Setup::new(&["exit", "0"]);
    setup.mount(json!({"destination": "/data", "source": "/no/such/source", "options": ["bind"]}));
    let error = setup.refused();
    assert!(
        error.message().contains("mount /data") && error.message().contains("/no/such/source"),
        "{error}"
    );
}

fn a_failed_launch_leaves_no_child() {
    let mut setup = Setup::new(&["exit", "0"]);
    setup.set("/process/cwd", json!("/no/such/directory"));
    assert!(setup.refused().message().contains("/no/such/directory"));
}

fn limits_are_in_force() {
    let mut setup = Setup::new(&["sleep"]);
    setup.set("/linux/resources", json!({"pids": {"limit": 42}, "memory": {"limit": 64 << 20}}));
    let started = setup.start().unwrap();
    started.line();
    let stats = started.running.stats().unwrap();
    assert_eq!(stats.pids.unwrap().limit, Some(42));
    assert_eq!(stats.memory.unwrap().limit, Some(64 << 20));
    started.kill();
}

fn limits_change_while_it_runs_or_are_refused_whole() {
    let mut setup = Setup::new(&["sleep"]);
    setup.set("/linux/resources", json!({"pids": {"limit": 42}}));
    let mut started = setup.start().unwrap();
    started.line();
    let limits = |value: serde_json::Value| serde_json::from_value(value).unwrap();
    let told = started.running.update(&limits(json!({"pids": {"limit": 43}, "memory": {"kernel": 4096}})));
    assert!(told.unwrap()[0].contains("kernel memory"));
    let wrong = json!({"pids": {"limit": 44}, "devices": [{"allow": true, "type": "c", "access": "x"}]});
    assert_eq!(started.running.update(&limits(wrong)).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(started.running.stats().unwrap().pids.unwrap().limit, Some(43));
    started.kill();
}

fn an_anchor_lives_as_long_as_somebody_holds_it() {
    let us = std::process::id().to_string();
    let children = || {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let is_ours =
            |stat: String| stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)) == Some(&us);
        all.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok())
            .filter(|stat| is_ours(stat.clone()))
            .count()
    };
    assert_eq!(children(), 0);
    let anchor = tare_runtime::cgroup::systemd::Anchor::start().unwrap();
    assert_eq!(children(), 1);
    drop(anchor);
    assert_eq!(children(), 0, "it was ended and waited for");
}

fn rlimits_umask_and_oom_score_arrive() {
    let mut setup = Setup::new(&[
        "then",
        "cat",
        "/proc/self/limits",
        ",",
        "cat",
        "/proc/self/oom_score_adj",
        ",",
        "write",
        "/f",
        "x",
        ",",
        "stat",
        "/f",
    ]);
    setup.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}]));
    setup.set("/process/oomScoreAdj", json!(123));
    setup.set("/process/user", json!({"uid": 0, "gid": 0, "umask": 63}));
    let out = setup.output();
    let line = out.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>()[3..5], ["77", "88"]);
    assert!(out.contains("\n123\n") && out.contains("100600 0:0"), "{out}");
}

fn pause_stops_and_resume_goes_on() {
    let mut setup = Setup::new(&["sleep"]);
    let mut started = setup.start().unwrap();
    started.line();
    started.running.pause().unwrap();
    let frozen = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    assert!(
        frozen(started.launched.pid).contains("freez")
            || frozen(started.launched.pid).contains("frozen")
            || !frozen(started.launched.pid).is_empty()
    );
    started.running.resume().unwrap();
    assert_eq!(started.exec_probe(&["echo", "alive"]).out, "alive");
    started.kill();
}

fn statistics_and_processes_are_told() {
    let mut setup = Setup::new(&["sleep"]);
    let started = setup.start().unwrap();
    started.line();
    assert_eq!(started.running.processes().unwrap(), [started.launched.pid]);
    let stats = started.running.stats().unwrap();
    assert_eq!(stats.pids.unwrap().current, 1);
    assert!(stats.cpu.unwrap().usage > 0 && stats.memory.unwrap().usage > 0);
    started.kill();
}

fn a_memory_hog_dies_alone_and_is_noticed() {
    let mut setup = Setup::new(&["eat", "200000000"]);
    setup.set("/linux/resources", json!({"memory": {"limit": 32 << 20, "swap": 32 << 20}}));
    let mut started = setup.start().unwrap();
    assert_eq!(crate::setup::wait(&started.launched), Exit::Signal(9));
    let fd = std::os::fd::AsFd::as_fd(&started.running.oom_fd().unwrap()).try_clone_to_owned().unwrap();
    let mut wait = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
    assert_eq!(rustix::event::poll(&mut wait, Some(&rustix::fs::Timespec { tv_sec: 5, tv_nsec: 0 })), Ok(1));
    assert!(started.running.oom_killed());
    assert!(!started.running.oom_killed(), "once is told once");
    started.running.destroy().unwrap();
}

fn destroy_kills_what_is_left() {
    // Without a pid namespace of its own, processes outlive the first one.
    let mut setup = Setup::unmapped(&["sleep"]);
    setup.set("/linux/namespaces", json!([{"type": "mount"}, {"type": "uts"}, {"type": "cgroup"}]));
    let mut started = setup.start().unwrap();
    started.line();
    let (stdio, _stdout) = crate::setup::pipes();
    let further = started.running.exec(&crate::setup::exec(&["sleep"]), stdio).unwrap();
    started.running.signal(tare_model::Signal::KILL).unwrap();
    crate::setup::wait(&started.launched);
    assert_eq!(started.running.processes().unwrap(), [further.pid]);
    started.running.destroy().unwrap();
    assert_eq!(crate::setup::wait(&further), Exit::Signal(9));
}

fn cleanup_removes_what_a_dead_monitor_left() {
    let mut setup = Setup::new(&["sleep"]);
    let started = setup.start().unwrap();
    started.line();
    let path = setup.oci["linux"]["cgroupsPath"].as_str().unwrap().to_owned();
    setup.runtime.cleanup(&setup.spec.id, &path).unwrap();
    assert_eq!(crate::setup::wait(&started.launched), Exit::Signal(9));
    crate::setup::nothing_left(&path);
    setup.runtime.cleanup(&setup.spec.id, &path).unwrap();
}

fn sysctls_are_the_containers_own() {
    let path = "/proc/sys/net/ipv4/ip_default_ttl";
    let before = std::fs::read_to_string(path).unwrap();
    let mut setup = Setup::new(&["cat", path]);
    setup.set("/linux/sysctl", json!({"net.ipv4.ip_default_ttl": "99"}));
    assert_eq!(setup.output(), "99");
    assert_eq!(std::fs::read_to_string(path).unwrap(), before);
    // The same parameter of a joined namespace that is the host's is refused, whatever the specification calls it.
    let mut namespaces = setup.oci["linux"]["namespaces"].clone();
    for namespace in namespaces.as_array_mut().unwrap() {
        if namespace["type"] == "network" {
            namespace["path"] = json!("/proc/self/ns/net");
        }
    }
    let error = setup.set("/linux/namespaces", namespaces).refused();
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
    assert_eq!(std::fs::read_to_string(path).unwrap(), before);
}

fn signals_start_out_default_and_unblocked() {
    let out = Setup::new(&["cat", "/proc/self/status"]).output();
    let field = |name: &str| {
        let line = out.lines().find(|line| line.starts_with(name)).unwrap();
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    assert_eq!(field("SigBlk"), 0);
    // Rust's start-up ignores SIGPIPE itself, so that is no finding.
    assert_eq!(field("SigIgn") & !(1 << 12), 0);
}

fn init_reaps_and_gives_the_programs_code() {
    let mut setup = Setup::new(&["then", "cat", "/proc/1/cmdline", ",", "exit", "5"]);
    setup.spec.init = true;
    let said = setup.run().unwrap();
    assert_eq!(said.exit, Exit::Code(5), "{}", said.out);
    assert!(said.out.starts_with("docker-init\0--\0/probe"), "{:?}", said.out);
}

fn init_turns_a_signal_into_128_and_its_number() {
    let mut setup = Setup::new(&["sleep"]);
    setup.spec.init = true;
    let started = setup.start().unwrap();
    started.line();
    started.running.signal(tare_model::Signal::TERM).unwrap();
    assert_eq!(started.finish().exit, Exit::Code(143));
}
