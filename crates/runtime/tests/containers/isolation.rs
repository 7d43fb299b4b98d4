//! What a container cannot see, change or gain.

use std::os::fd::AsFd;

use serde_json::json;

use crate::setup::{Setup, pipes};

crate::tests![
    it_has_the_default_capabilities_and_a_filter,
    nothing_is_inheritable,
    no_new_privileges_is_set_when_asked,
    without_a_filter_there_is_none,
    a_custom_filter_applies,
    masked_files_are_a_null_device_of_ours,
    read_only_paths_cannot_be_written,
    the_hosts_mounts_do_not_show,
    a_read_only_root_cannot_be_written,
    a_device_that_was_not_given_cannot_be_opened,
    its_cgroups_are_shown_as_the_root_and_read_only,
    its_devices_are_the_usual_ones,
    writes_go_to_the_upper_layer_only,
    the_host_sees_no_mount_of_it,
    it_dies_with_its_monitor,
    its_session_keyring_is_new,
];

fn it_has_the_default_capabilities_and_a_filter() {
    let out = Setup::new(&["id"]).output();
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert!(out.contains(&format!("{set}: 00000000a80425fb")), "{out}");
    }
    assert!(out.contains("Seccomp: 2") && out.contains("NoNewPrivs: 0"), "{out}");
}

fn nothing_is_inheritable() {
    let out = Setup::new(&["id"]).output();
    assert!(out.contains("CapInh: 0000000000000000") && out.contains("CapAmb: 0000000000000000"), "{out}");
}

fn no_new_privileges_is_set_when_asked() {
    let mut setup = Setup::new(&["id"]);
    setup.set("/process/noNewPrivileges", json!(true));
    let out = setup.output();
    assert!(out.contains("NoNewPrivs: 1") && out.contains("Seccomp: 2"), "{out}");
}

fn without_a_filter_there_is_none() {
    let mut setup = Setup::new(&["id"]);
    setup.spec.seccomp = tare_model::sandbox::Seccomp::Unconfined;
    assert!(setup.output().contains(&crate::setup::own_filter()));
}

fn a_custom_filter_applies() {
    let mut setup = Setup::new(&["then", "pwd", ",", "id"]);
    setup.spec.seccomp = tare_model::sandbox::Seccomp::Spec;
    setup.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}
        ]}),
    );
    assert!(setup.output().starts_with("error: 95\n"));
}

fn masked_files_are_a_null_device_of_ours() {
    let mut setup = Setup::new(&[
        "then",
        "stat",
        "/proc/keys",
        ",",
        "cat",
        "/proc/keys",
        ",",
        "stat",
        "/sys/firmware",
        ",",
        "ls",
        "/sys/firmware",
    ]);
    let out = setup.output();
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].ends_with("dev 1:3"), "{out}");
    assert_eq!(lines.get(1), Some(&""), "{out}");
}

fn read_only_paths_cannot_be_written() {
    let out = Setup::new(&["append", "/proc/sys/kernel/core_pattern", "|/evil"]).output();
    // Of a file that is the host's a user namespace hears first that it may not.
    let own = crate::setup::MAPPED.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(out, if own { "error: 13" } else { "error: 30" });
    assert!(!std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap().contains("evil"));
}

fn the_hosts_mounts_do_not_show() {
    let mut setup = Setup::new(&["cat", "/proc/self/mountinfo"]);
    let out = setup.output();
    let hosts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let device = |line: &str| line.split(' ').nth(2).map(str::to_owned);
    let root = hosts.lines().find(|line| line.split(' ').nth(4) == Some("/")).and_then(device).unwrap();
    assert!(!out.lines().any(|line| device(line) == Some(root.clone())), "{out}");
    assert_eq!(out.lines().filter(|line| line.contains(" / / ")).count(), 1, "{out}");
}

fn a_read_only_root_cannot_be_written() {
    let mut setup = Setup::new(&["then", "write", "/f", "x", ",", "write", "/dev/shm/f", "x"]);
    setup.set("/root", json!({"path": "x", "readonly": true}));
    assert_eq!(setup.output(), "error: 30\nwritten");
}

fn a_device_that_was_not_given_cannot_be_opened() {
    assert_eq!(Setup::new(&["mknod", "/dev/disk"]).output(), "error: 1");
}

fn its_cgroups_are_shown_as_the_root_and_read_only() {
    let mut setup = Setup::new(&[
        "then",
        "ls",
        "/sys/fs/cgroup",
        ",",
        "cat",
        "/proc/self/cgroup",
        ",",
        "write",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "1",
    ]);
    let out = setup.output();
    let mut lines = out.lines();
    let shown = lines.next().unwrap();
    if std::path::Path::new("/sys/fs/cgroup/memory").exists() {
        assert!(shown.contains("memory") && shown.contains("pids"), "{out}");
        assert!(out.contains("memory:/\n") && out.ends_with("error: 30"), "{out}");
    } else {
        assert!(shown.contains("cgroup.procs") && out.contains("0::/\n"), "{out}");
    }
    assert!(!out.contains("tare-runtime-test"), "{out}");
}

fn its_devices_are_the_usual_ones() {
    let mut setup = Setup::new(&[
        "then",
        "ls",
        "/dev",
        ",",
        "stat",
        "/dev/null",
        ",",
        "stat",
        "/dev/ptmx",
        ",",
        "append",
        "/dev/null",
        "x",
    ]);
    let out = setup.output();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero");
    assert_eq!(lines[1], "20666 0:0 dev 1:3");
    assert!(lines[2].starts_with("120777"), "a link: {out}");
    assert_eq!(lines[3], "written");
}

fn writes_go_to_the_upper_layer_only() {
    let mut setup = Setup::new(&["write", "/etc/new", "text"]);
    assert_eq!(setup.output(), "written");
    assert_eq!(std::fs::read_to_string(setup.upper("etc/new")).unwrap(), "text");
    assert!(!setup.lower("etc/new").exists());
}

fn the_host_sees_no_mount_of_it() {
    let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let started = Setup::new(&["sleep"]).start().unwrap();
    started.line();
    let after = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    started.kill();
    let overlays = |text: &str| text.lines().filter(|line| line.contains(" - overlay ")).count();
    assert_eq!(overlays(&before), overlays(&after));
}

fn it_dies_with_its_monitor() {
    use tare_sys::process::{Forked, Namespaces, fork};
    let (read, write) = rustix::pipe::pipe().unwrap();
    let mut setup = Setup::new(&["sleep"]);
    let monitor = match fork(Namespaces::NONE, None).unwrap() {
        Forked::Child => {
            let started = setup.start().unwrap();
            started.line();
            rustix::io::write(&write, &started.launched.pid.to_ne_bytes()).unwrap();
            loop {
                let _ = rustix::event::poll(&mut [], None);
            }
        }
        Forked::Parent { pid, .. } => pid,
    };
    let mut pid = [0; 4];
    rustix::io::read(&read, &mut pid).unwrap();
    let process = tare_sys::pidfd::open(i32::from_ne_bytes(pid)).unwrap();
    rustix::process::kill_process(monitor, rustix::process::Signal::KILL).unwrap();
    rustix::process::waitpid(Some(monitor), rustix::process::WaitOptions::empty()).unwrap();
    let (moment, mut left) = (rustix::fs::Timespec { tv_sec: 0, tv_nsec: 10_000_000 }, 500);
    while tare_sys::pidfd::number(process.as_fd()).is_ok() {
        left -= 1;
        assert!(left > 0, "it outlives its monitor");
        let _ = rustix::event::poll(&mut [], Some(&moment));
    }
    let path = setup.oci["linux"]["cgroupsPath"].as_str().unwrap().to_owned();
    tare_model::sandbox::Sandbox::cleanup(&setup.runtime, &setup.spec.id, &path).unwrap();
}

fn its_session_keyring_is_new() {
    // /proc/keys shows what a process possesses; unmasked it must not show a key of ours.
    let mut setup = Setup::new(&["cat", "/proc/keys"]);
    setup.set("/linux/maskedPaths", json!([]));
    let (stdio, stdout) = pipes();
    let started = setup.start_with(stdio, Some(stdout)).unwrap();
    let said = started.finish();
    assert!(!said.out.contains("tare-test-key"), "{}", said.out);
}
