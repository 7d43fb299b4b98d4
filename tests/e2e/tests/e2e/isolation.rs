//! What a container can see and do by default, and what the flags change.

use std::fs;

use tare_kit::Engine;
use tare_kit::engine::BUSYBOX;

use crate::{lines, old_peer, ours};

#[test]
fn every_namespace_is_its_own() {
    let engine = Engine::start();
    engine.background(&["--name", "box-n"], "sleep 1000");
    let pid = engine.pid_of("box-n");
    for kind in ["mnt", "pid", "net", "ipc", "uts"] {
        let link = |p: &str| fs::read_link(format!("/proc/{p}/ns/{kind}")).unwrap();
        assert_ne!(link(&pid.to_string()), link("self"), "{kind}");
    }
    if ours() {
        let link = |p: &str| fs::read_link(format!("/proc/{p}/ns/cgroup")).unwrap();
        assert_ne!(link(&pid.to_string()), link("self"), "cgroup");
    }
}

#[test]
fn the_program_is_process_one_among_its_own() {
    let engine = Engine::start();
    assert_eq!(engine.sh(&[], "echo $$"), "1");
    let listed = engine.sh(&[], "ls /proc | grep -E '^[0-9]+$' | wc -l");
    assert!(listed.trim().parse::<u32>().unwrap() <= 4, "{listed}");
}

#[test]
fn there_is_one_link_and_it_is_up() {
    let engine = Engine::start();
    assert_eq!(engine.sh(&[], "ls /sys/class/net"), "lo");
    assert!(engine.sh(&[], "ip -o link show lo").contains("UP"));
    assert_eq!(engine.sh(&[], "ping -c1 -W2 127.0.0.1 >/dev/null && echo ok"), "ok");
}

#[test]
fn capabilities_are_the_fourteen_or_fewer() {
    let engine = Engine::start();
    let status = engine.sh(&[], "grep Cap /proc/self/status");
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        let line = lines(&status).into_iter().find(|l| l.starts_with(set)).unwrap();
        let bits = u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap();
        assert_eq!(bits & !0xa804_25fb, 0, "{line}: more than Docker's default");
    }
    assert!(status.contains("CapInh:\t0000000000000000"), "{status}");
}

/// Security row 87.
#[test]
fn a_user_other_than_root_has_no_capability() {
    let engine = Engine::start();
    let status = engine.sh(&["-u", "1000"], "grep -E 'Cap(Prm|Eff|Amb|Inh)' /proc/self/status");
    assert!(lines(&status).iter().all(|l| l.ends_with("0000000000000000")), "{status}");
}

#[test]
fn capabilities_are_added_and_dropped() {
    let engine = Engine::start();
    let eff = |flags: &[&str]| {
        let line = engine.sh(flags, "grep CapEff /proc/self/status");
        u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap()
    };
    assert_eq!(eff(&["--cap-drop", "ALL"]), 0);
    assert_eq!(eff(&["--cap-drop", "ALL", "--cap-add", "NET_ADMIN"]), 1 << 12);
    assert_eq!(eff(&["--cap-add", "CAP_SYS_TIME"]), 0xa804_25fb | 1 << 25);
    assert_eq!(eff(&["--cap-drop", "chown"]), 0xa804_25fb & !1);
    let out = engine.shell(&["--cap-add", "NO_SUCH"], "true").run();
    assert!(out.code == 125 && out.err().to_uppercase().contains("NO_SUCH"), "{out}");
}

/// What a process without a filter of its own shows: that of the tests, if the suite is run under one.
fn without_a_filter() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find(|line| line.starts_with("Seccomp:")).unwrap().to_owned()
}

#[test]
fn the_default_filter_is_on_and_can_be_taken_off() {
    let engine = Engine::start();
    assert_eq!(engine.sh(&[], "grep -w Seccomp /proc/self/status"), "Seccomp:\t2");
    assert_eq!(
        engine.sh(&["--security-opt", "seccomp=unconfined"], "grep -w Seccomp /proc/self/status"),
        without_a_filter()
    );
}

#[test]
fn a_profile_chooses_capabilities_filter_and_privileges() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let status = |profile: &str| {
        let option = format!("profile={profile}");
        let script = "grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status | cut -f2 | xargs";
        engine.sh(&["--security-opt", &option], script)
    };
    assert_eq!(status("default"), "00000000a80425fb 0 2");
    assert_eq!(status("docker"), "00000000a80425fb 0 2");
    assert_eq!(status("strict"), "00000000000005fb 1 2");
    engine.background(&["--name", "box-s", "--security-opt", "profile=strict"], "sleep 600");
    let shown = &engine.inspect("box-s")["HostConfig"]["SecurityOpt"];
    assert_eq!(*shown, serde_json::json!(["profile=strict"]));
    // What runs in it later is confined alike.
    let later = engine.tare(["exec", "box-s", "grep", "NoNewPrivs", "/proc/self/status"]).ok();
    assert_eq!(later, "NoNewPrivs:\t1");
    engine.tare(["rm", "-f", "box-s"]).ok();
    for (options, told) in [
        (vec!["profile=lax"], "default, strict, docker"),
        (vec!["profile=strict", "no-new-privileges=false"], "no-new-privileges=false"),
        (vec!["profile=strict", "profile=docker"], "several profiles"),
    ] {
        let flags: Vec<&str> = options.iter().flat_map(|option| ["--security-opt", *option]).collect();
        let out = engine.shell(&flags, "true").run();
        assert!(out.code == 125 && out.err().contains(told), "{options:?}: {out}");
    }
    let out = engine.shell(&["--privileged", "--security-opt", "profile=strict"], "true").run();
    assert!(out.code == 125 && out.err().contains("Privileged"), "{out}");
}

/// An image cannot loosen anything silently: that it is one of 32-bit programs is said, and never true under `strict`.
#[test]
#[cfg(target_arch = "x86_64")]
fn an_image_of_32_bit_programs_is_said_to_be_one() {
    use serde_json::json;
    use tare_kit::{Image, Layer};
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let image = Image::busybox("small:386");
    let document = String::from_utf8(image.document()).unwrap().replace("\"amd64\"", "\"386\"");
    let manifest = json!([{"Config": "c.json", "RepoTags": ["small:386"], "Layers": ["l/layer.tar"]}]);
    let archive = Layer::new()
        .file("c.json", document)
        .file("l/layer.tar", image.layers[0].finish())
        .file("manifest.json", manifest.to_string());
    let loaded = engine.load_archive(&archive.finish()).text();
    assert!(!loaded.contains("\"error\""), "{loaded}");
    let create = |options: serde_json::Value| {
        let body = json!({"Image": "small:386", "Cmd": ["true"], "HostConfig": {"SecurityOpt": options}});
        let answer = engine.post("/containers/create", &body);
        (answer.status, answer.text())
    };
    let (status, said) = create(json!([]));
    assert!(status == 201 && said.contains("32-bit programs"), "{status} {said}");
    let (status, said) = create(json!(["profile=strict"]));
    assert!(status == 400 && said.contains("profile=strict does not run 32-bit programs"), "{status} {said}");
    assert_eq!(engine.sh_in("small:386", "grep -w Seccomp /proc/self/status"), "Seccomp:\t2");
    engine.remove_containers();
}

#[test]
fn the_filter_and_the_capabilities_refuse_what_is_dangerous() {
    let engine = Engine::start();
    for attempt in [
        "mount -t tmpfs none /tmp",
        "umount /proc",
        "unshare -U true",
        "unshare -m true",
        "hostname changed",
        "mknod /tmp/sda b 8 0 && head -c1 /tmp/sda",
        "chroot / mount -t proc proc /tmp",
        "insmod /etc/passwd",
        "swapoff -a && swapon /etc/passwd",
    ] {
        let out = engine.shell(&[], &format!("{attempt} 2>/dev/null && echo DONE")).run();
        assert!(!out.out().contains("DONE"), "{attempt} worked");
    }
}

#[test]
fn no_new_privileges_is_a_flag_away() {
    let engine = Engine::start();
    assert_eq!(
        engine.sh(&["--security-opt", "no-new-privileges"], "grep NoNewPrivs /proc/self/status"),
        "NoNewPrivs:\t1"
    );
}

#[test]
fn privileged_has_every_capability_every_device_and_no_filter() {
    if old_peer() {
        return;
    }
    let engine = Engine::start();
    let out = engine.sh(&["--privileged"], "grep -w Seccomp /proc/self/status; mount -t tmpfs none /mnt 2>&1 || mkdir /mnt && mount -t tmpfs none /mnt && echo mounted; ls /dev | wc -l");
    assert!(out.contains(&without_a_filter()) && out.contains("mounted"), "{out}");
    let devices: u32 = lines(&out).last().unwrap().trim().parse().unwrap();
    assert!(devices > 20, "{out}");
}

#[test]
fn masked_paths_show_nothing_and_kernel_settings_are_read_only() {
    let engine = Engine::start();
    for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug"] {
        let out = engine.sh(&[], &format!("test ! -e {path} || head -c 10 {path} | wc -c"));
        assert!(out.is_empty() || out.trim() == "0", "{path}: {out}");
    }
    assert_eq!(engine.sh(&[], "ls /sys/firmware /proc/scsi 2>/dev/null | grep -v : || true"), "");
    for path in [
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
        "/sys/kernel/profiling",
    ] {
        let out = engine.shell(&[], &format!("echo x > {path}")).run();
        assert_ne!(out.code, 0, "{path} could be written");
    }
}

/// Security row 93: a walk over everything that could be written.
#[test]
fn nothing_in_proc_or_sys_can_be_opened_for_writing() {
    let engine = Engine::start();
    // Per-process files are the process's own; what is written to /proc/pressure is a trigger of the writer's own
    // descriptor. Opening for append changes nothing where it succeeds.
    let script = "find /proc /sys -type f -perm -200 2>/dev/null | grep -Ev '^/proc/([0-9]+|self|thread-self|pressure)/|^/sys/fs/cgroup' | \
                  while read f; do (: >> \"$f\") 2>/dev/null && echo \"$f\"; done; true";
    let out = engine.shell(&[], script).run().out();
    assert_eq!(out, "", "these can be written");
}

#[test]
fn devices_are_the_usual_few() {
    let engine = Engine::start();
    let out = engine.sh(&[], "find /dev -type c | sort | tr '\\n' ' '");
    for device in ["/dev/full", "/dev/null", "/dev/random", "/dev/tty", "/dev/urandom", "/dev/zero"] {
        assert!(out.contains(device), "{device} is missing: {out}");
    }
    for device in ["/dev/mem", "/dev/kmsg", "/dev/sda", "/dev/vda", "/dev/loop0", "/dev/fuse"] {
        assert!(!out.contains(device), "{device} is there: {out}");
    }
    let links = engine.sh(&[], "for l in stdin fd ptmx; do readlink /dev/$l; done");
    assert_eq!(links, "/proc/self/fd/0\n/proc/self/fd\npts/ptmx");
    assert_eq!(engine.sh(&[], "echo x > /dev/null && head -c3 /dev/zero | wc -c"), "3");
}

/// Security row 11: no rule is no access.
#[test]
fn a_device_made_inside_cannot_be_opened() {
    let engine = Engine::start();
    let out = engine.shell(&[], "mknod /tmp/loop b 7 0 && head -c1 /tmp/loop").run();
    assert_ne!(out.code, 0, "{out}");
    let out = engine.shell(&[], "mknod /tmp/mem c 1 1 && head -c1 /tmp/mem").run();
    assert_ne!(out.code, 0, "{out}");
}

#[test]
fn a_device_can_be_given() {
    let engine = Engine::start();
    let out = engine.sh(
        &["--device", "/dev/kmsg:/dev/mylog:r"],
        "stat -c '%t %T' /dev/mylog; (echo x > /dev/mylog) 2>/dev/null || echo denied",
    );
    assert_eq!(out, "1 b\ndenied");
    let out = engine.shell(&["--device", "/dev/no-such"], "true").run();
    assert!(out.code >= 125 && out.err().contains("/dev/no-such"), "{out}");
}

#[test]
fn a_read_only_root_cannot_be_written_but_its_tmpfs_can() {
    let engine = Engine::start();
    let out = engine.sh(&["--read-only", "--tmpfs", "/scratch"], "(echo x > /x) 2>/dev/null || echo no; echo y > /scratch/y && echo yes; echo z > /dev/shm/z && echo shm");
    assert_eq!(out, "no\nyes\nshm");
}

#[test]
fn namespaces_of_the_host_can_be_asked_for() {
    let engine = Engine::start();
    for (flag, kind) in [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts")] {
        let out = engine.sh(&[flag, "host"], &format!("readlink /proc/self/ns/{kind}"));
        assert_eq!(
            out,
            fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string(),
            "{flag} host"
        );
    }
    if ours() {
        let out =
            engine.tare(["run", "--rm", "--network", "host", BUSYBOX, "readlink", "/proc/self/ns/net"]).ok();
        assert_eq!(out, fs::read_link("/proc/self/ns/net").unwrap().display().to_string());
    }
}

#[test]
fn namespaces_of_another_container_can_be_joined() {
    let engine = Engine::start();
    engine.background(&["--name", "first", "--ipc", "shareable"], "sleep 1000");
    let inside =
        |kind: &str| engine.tare(["exec", "first", "readlink", &format!("/proc/self/ns/{kind}")]).ok();
    for (flag, kind) in [("--pid", "pid"), ("--ipc", "ipc")] {
        let out = engine.sh(&[flag, "container:first"], &format!("readlink /proc/self/ns/{kind}"));
        assert_eq!(out, inside(kind), "{flag}");
    }
}

#[test]
fn kernel_settings_of_its_own_namespaces_can_be_set() {
    let engine = Engine::start();
    let out = engine.sh(
        &["--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.msgmax=4096"],
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax",
    );
    assert_eq!(out, "1\n4096");
}

/// Security rows 94 and 95: a setting that is not the container's own is refused, and odd values do no harm.
#[test]
fn kernel_settings_of_the_host_cannot_be_set() {
    let engine = Engine::start();
    let pattern = || fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let before = pattern();
    for sysctl in [
        "kernel.core_pattern=|/bad",
        "kernel/core_pattern=|/bad",
        "kernel.msgmax=1+kernel.core_pattern=|/bad",
        "../kernel.core_pattern=x",
        "net.../../kernel.core_pattern=x",
    ] {
        let out = engine.shell(&["--sysctl", sysctl], "true").run();
        assert!(out.code >= 125, "{sysctl}: {out}");
    }
    assert_eq!(pattern(), before);
    if ours() {
        let args = ["run", "--rm", "--network", "host", "--sysctl", "net.ipv4.ip_forward=1", BUSYBOX, "true"];
        assert!(engine.tare(args).run().code >= 125);
    }
}

#[test]
fn rlimits_oom_score_and_shm_are_as_told() {
    let engine = Engine::start();
    assert_eq!(engine.sh(&["--ulimit", "nofile=123:456"], "ulimit -n; ulimit -Hn"), "123\n456");
    assert_eq!(engine.sh(&["--oom-score-adj", "500"], "cat /proc/self/oom_score_adj"), "500");
    assert!(engine.sh(&["--shm-size", "5m"], "df -k /dev/shm | tail -1").contains("5120"));
    assert!(engine.sh(&[], "df -k /dev/shm | tail -1").contains("65536"));
}

#[test]
fn an_init_reaps_and_passes_signals_on() {
    if Engine::is_peer() {
        return;
    }
    let engine = Engine::start();
    assert_ne!(engine.sh(&["--init"], "echo $$"), "1");
    let zombies =
        "for i in 1 2 3; do (sleep 0.05 &) ; done; sleep 0.4; ps -o stat,args | grep -c '^Z' || true";
    assert_eq!(engine.sh(&["--init"], zombies), "0");
    engine.background(
        &["--name", "box-i", "--init"],
        "trap 'exit 12' TERM; echo ready; while :; do sleep 0.05; done",
    );
    engine.wait_for_log("box-i", "ready");
    engine.tare(["stop", "box-i"]).ok();
    assert_eq!(engine.inspect("box-i")["State"]["ExitCode"], serde_json::json!(12));
}

#[test]
fn a_session_keyring_is_its_own() {
    let engine = Engine::start();
    let keys = engine.sh(&["--security-opt", "seccomp=unconfined"], "cat /proc/keys 2>/dev/null | wc -l");
    assert!(keys.trim().parse::<u32>().unwrap_or(0) <= 5, "{keys}");
}

/// Security row 89: numbers that do not fit are not wrapped.
#[test]
fn a_user_number_that_does_not_fit_is_refused() {
    let engine = Engine::start();
    for user in ["4294967296", "2147483648", "-1", "0x0", "99999999999999999999"] {
        let out = engine.shell(&["-u", user], "id -u").run();
        assert_ne!(out.code, 0, "-u {user}: {out}");
    }
}

/// Security row 91: an empty or missing profile is never taken for "unconfined".
#[test]
fn a_bad_filter_profile_is_refused() {
    let engine = Engine::start();
    let empty = engine.path("empty.json");
    fs::write(&empty, "").unwrap();
    for profile in ["seccomp=", "seccomp=/no/such/file", &format!("seccomp={empty}")] {
        let out = engine.shell(&["--security-opt", profile], "true").run();
        assert!(out.code >= 125 || (!ours() && out.code != 0), "{profile}: {out}");
    }
}

#[test]
fn a_filter_profile_is_read_from_a_file_and_applies() {
    let engine = Engine::start();
    let file = engine.path("filter.json");
    let rule = r#"{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}"#;
    fs::write(&file, format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}"#)).unwrap();
    let option = format!("seccomp={file}");
    let out = engine.sh(&["--security-opt", &option], "mkdir /x 2>&1 || true");
    assert!(out.contains("No space left on device"), "{out}");
}

#[test]
fn a_filter_profile_that_contradicts_itself_is_refused() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let file = engine.path("filter.json");
    let rules =
        r#"{"names":["mkdir"],"action":"SCMP_ACT_ALLOW"},{"names":["mkdir"],"action":"SCMP_ACT_LOG"}"#;
    fs::write(&file, format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{rules}]}}"#)).unwrap();
    let out = engine.shell(&["--security-opt", &format!("seccomp={file}")], "true").run();
    assert!(out.code >= 125 && out.err().contains("mkdir: one rule says SCMP_ACT_ALLOW"), "{out}");
}
