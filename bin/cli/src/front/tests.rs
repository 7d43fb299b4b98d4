//! Names, aliases, global flags, and the tables as a whole.

use super::*;
use std::collections::HashSet;

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn failure(line: &str) -> Failure {
    run(&words(line)).expect_err(line)
}

#[test]
fn unknown_commands_and_flags_are_told_in_dockers_words() {
    assert_eq!(
        failure("foo").message,
        "tare: unknown command: tare foo\n\nRun 'tare --help' for more information"
    );
    assert_eq!(failure("foo").code, 1);
    assert!(
        failure("container foo")
            .message
            .starts_with("tare: unknown command: tare container foo\n\nUsage:  tare container")
    );
    assert!(failure("--foo").message.starts_with("unknown flag: --foo\n\nUsage:  tare [OPTIONS] COMMAND"));
    assert_eq!(failure("--foo").code, 125);
    assert!(failure("-X ps").message.starts_with("unknown shorthand flag: 'X' in -X"));
}

#[test]
fn what_docker_has_and_we_do_not_is_refused_by_name() {
    assert!(failure("pull alpine").message.contains("'tare pull' is not supported yet"));
    assert!(failure("image pull alpine").message.contains("'tare image pull' is not supported yet"));
    assert!(failure("--tlsverify ps").message.starts_with("--tlsverify is not supported"));
    assert!(failure("-D ps").message.starts_with("--debug is not supported"));
    assert!(failure("run --gpus all x").message.starts_with("--gpus is not supported yet: "));
}

#[test]
fn the_host_flag_comes_in_every_spelling() {
    for line in ["-H /x ps", "--host /x ps", "--host=/x ps", "-H/x ps", "-H=/x ps"] {
        let line = words(line);
        match globals(&line).expect("good flags") {
            Start::Command(g, rest) => assert_eq!((g.host.as_deref(), rest), (Some("/x"), &words("ps")[..])),
            _ => panic!("{line:?} is a command"),
        }
    }
    assert!(failure("-H tcp://1.2.3.4 create x").message.contains("not a unix socket"));
    assert!(failure("-H").message.starts_with("flag needs an argument"));
}

#[test]
fn no_autostart_may_stand_before_or_after_the_command_but_not_in_the_program() {
    let syntax = &find("run").expect("run").syntax;
    assert!(asks_no_autostart(&words("--no-autostart host true"), syntax));
    assert!(!asks_no_autostart(&words("host echo --no-autostart"), syntax));
    assert_eq!(drop_global(&words("host echo --no-autostart"), syntax), words("host echo --no-autostart"));
}

#[test]
fn a_daemon_that_may_not_be_started_is_missed_with_a_clear_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let failure = run(&[
        "-H".into(),
        dir.path().join("tared.sock").to_string_lossy().into_owned(),
        "--no-autostart".into(),
        "create".into(),
        "x".into(),
    ])
    .expect_err("no daemon");
    assert!(
        failure.message.contains("Is the daemon running?") && failure.message.contains("--no-autostart"),
        "{}",
        failure.message
    );
}

#[test]
fn no_name_and_no_flag_is_there_twice() {
    let mut names = HashSet::new();
    for command in COMMANDS {
        assert!(command.names.iter().all(|n| names.insert(*n)), "a name of {} is taken", command.names[0]);
        let (mut longs, mut shorts) = (HashSet::new(), HashSet::new());
        for flag in command.syntax.flags.iter().flat_map(|t| t.iter()) {
            assert!(longs.insert(flag.long), "{}: --{} twice", command.names[0], flag.long);
            assert!(
                flag.short.is_none_or(|s| shorts.insert(s)),
                "{}: -{:?} twice",
                command.names[0],
                flag.short
            );
            assert!(flag.refused.is_some() || !flag.help.is_empty(), "--{} has no help", flag.long);
        }
    }
    assert!(LATER.iter().all(|(name, _)| !names.contains(name)));
}

#[test]
fn every_flag_of_docker_run_is_known() {
    // From `docker run --help` of 28.2.
    let docker = "add-host annotation attach blkio-weight blkio-weight-device cap-add cap-drop cgroup-parent cgroupns cidfile \
        cpu-count cpu-percent cpu-period cpu-quota cpu-rt-period cpu-rt-runtime cpu-shares cpus cpuset-cpus cpuset-mems detach \
        detach-keys device device-cgroup-rule device-read-bps device-read-iops device-write-bps device-write-iops \
        disable-content-trust dns dns-option dns-search domainname entrypoint env env-file expose gpus group-add health-cmd \
        health-interval health-retries health-start-interval health-start-period health-timeout hostname init interactive \
        io-maxbandwidth io-maxiops ip ip6 ipc isolation kernel-memory label label-file link link-local-ip log-driver log-opt \
        mac-address memory memory-reservation memory-swap memory-swappiness mount name network network-alias no-healthcheck \
        oom-kill-disable oom-score-adj pid pids-limit platform privileged publish publish-all pull quiet read-only restart rm \
        runtime security-opt shm-size sig-proxy stop-signal stop-timeout storage-opt sysctl tmpfs tty ulimit use-api-socket user \
        userns uts volume volume-driver volumes-from workdir";
    let syntax = &find("run").expect("run").syntax;
    for name in docker.split_whitespace() {
        assert!(syntax.flags.iter().flat_map(|t| t.iter()).any(|f| f.long == name), "--{name} is not known");
    }
}
