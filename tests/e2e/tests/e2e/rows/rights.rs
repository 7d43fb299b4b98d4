//! Who a process is and what it may: users, groups, capabilities, filters, kernel settings, devices, cgroups.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use tare_kit::engine::BUSYBOX;
use tare_kit::image::{PATH, busybox_layer, object};
use tare_kit::{Engine, Host, Image, Layer};

use crate::ours;

/// Rows 5, 25 and 89: what is a number is that number, and what is none is a name or refused.
#[test]
fn rows_5_25_89_users_are_exactly_who_they_say() {
    let engine = Engine::empty();
    let passwd = "root:x:0:0::/:/bin/sh\n1000:x:0:0::/:/bin/sh\n1:x:0:0::/:/bin/sh\n+1:x:0:0::/:/bin/sh\n4294967296:x:0:0::/:/bin/sh\n-1:x:0:0::/:/bin/sh\n";
    let group = "root:x:0:\n1:x:0:\n1000:x:0:\n";
    let files = Layer::new().file("etc/passwd", passwd).file("etc/group", group);
    let image = Image::new("row5:1").layer(busybox_layer().clone()).layer(files).config("Env", json!([PATH]));
    engine.load(&image);
    let keep = ["run", "-d", "--name", "box", "--network", "none", "row5:1", "sleep", "1000"];
    engine.tare(keep).ok();
    let numbers = [
        ("1000", "1000 0"),
        ("1", "1 0"),
        ("1:", "1 0"),
        ("01", "1 0"),
        ("1:1", "1 1"),
        ("0:1000", "0 1000"),
    ];
    let refused = [
        "4294967296",
        "2147483648",
        "-1",
        "0x0",
        "99999999999999999999",
        "a:b",
        "1:b",
        "b",
        "1:4294967296",
        "1:-1",
    ];
    for (way, flags) in
        [("run", vec!["run", "--rm", "--network", "none", "-u"]), ("exec", vec!["exec", "-u"])]
    {
        let ask = |user: &str| {
            let name = if way == "run" { "row5:1" } else { "box" };
            engine.tare([&flags[..], &[user, name, "sh", "-c", "echo $(id -u) $(id -g)"]].concat()).run()
        };
        for (user, ids) in numbers {
            let out = ask(user);
            // The group of a number that the image names by chance is the image's word.
            let uid = ids.split(' ').next().unwrap();
            assert_eq!(out.out().split(' ').next(), Some(uid), "{way} -u {user}: {out}");
            if user.contains(":1") {
                assert_eq!(out.out(), ids, "{way} -u {user}");
            }
        }
        for user in refused {
            let out = ask(user);
            assert!(out.code >= 125 || (out.code != 0 && out.out().is_empty()), "{way} -u {user}: {out}");
        }
        // A sign makes it a name; that name is not in every image.
        let out = ask("+1");
        assert!(out.code != 0 || !ours(), "{way} -u +1: {out}");
    }
    // The image's own word.
    engine.load(&image.config("User", json!("1000")));
    assert_eq!(engine.tare(["run", "--rm", "--network", "none", "row5:1", "id", "-u"]).ok(), "1000");
}

/// Row 14: run, exec and privileged exec.
#[test]
fn row_14_nothing_is_inheritable_in_any_process() {
    let engine = Engine::start();
    for flags in [&[][..], &["--cap-add", "ALL"], &["--privileged"], &["-u", "1000"]] {
        let name = ["--name", "box"];
        engine.background(&[flags, &name].concat(), "sleep 1000");
        let pid = engine.pid_of("box");
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(
            status.contains("CapInh:\t0000000000000000") && status.contains("CapAmb:\t0000000000000000"),
            "{flags:?}"
        );
        for more in [&[][..], &["--privileged"], &["-u", "1000"], &["--privileged", "-u", "1000"]] {
            let out =
                engine.tare([&["exec"], more, &["box", "grep", "Cap", "/proc/self/status"]].concat()).ok();
            assert!(out.contains("CapInh:\t0000000000000000"), "{flags:?} exec {more:?}: {out}");
        }
        engine.tare(["rm", "-f", "box"]).ok();
    }
}

/// Row 88: groups are those of the image's files and `--group-add`, with the primary one among them, so that a file
/// which is closed to one of them stays closed.
#[test]
fn row_88_groups_are_complete() {
    let engine = Engine::start();
    let dir = engine.path("closed");
    fs::create_dir(&dir).unwrap();
    fs::write(format!("{dir}/file"), "closed\n").unwrap();
    std::os::unix::fs::chown(format!("{dir}/file"), Some(0), Some(2000)).unwrap();
    fs::set_permissions(format!("{dir}/file"), fs::Permissions::from_mode(0o604)).unwrap();
    let bind = format!("{dir}:/closed");
    let script = "id -G; cat /closed/file 2>/dev/null || echo shut";
    assert_eq!(engine.sh(&["-u", "ann", "-v", &bind], script), "1000 2000\nshut");
    let groups = engine.sh(&["-u", "ann", "--group-add", "77", "-v", &bind], "id -G");
    let mut groups: Vec<&str> = groups.split(' ').collect();
    groups.sort_unstable();
    assert_eq!(groups, ["1000", "2000", "77"]);
    engine.background(&["--name", "box", "--group-add", "77"], "sleep 1000");
    let groups = engine.tare(["exec", "-u", "ann", "box", "id", "-G"]).ok();
    assert!(groups.contains("1000") && groups.contains("2000"), "{groups}");
}

/// Row 91: an empty, missing or meaningless profile is never "unconfined".
#[test]
fn row_91_a_profile_that_says_nothing_is_refused() {
    let engine = Engine::start();
    for (number, text) in
        ["", "{}", "[]", "null", "unconfined", "{\"defaultAction\":\"\"}"].iter().enumerate()
    {
        let file = engine.path(&format!("{number}.json"));
        fs::write(&file, text).unwrap();
        let out = engine
            .shell(&["--security-opt", &format!("seccomp={file}")], "grep -w Seccomp /proc/self/status")
            .run();
        assert!(out.code != 0 || out.out().ends_with('2'), "{text:?}: {out}");
        assert!(out.code != 0 || !ours(), "{text:?}: {out}");
        let body = json!({"Image": BUSYBOX, "Cmd": ["true"], "HostConfig": {"NetworkMode": "none", "SecurityOpt": [format!("seccomp={text}")]}});
        let created = engine.post("/containers/create", &body);
        if created.status == 201 && *text != "unconfined" {
            let id = created.json()["Id"].as_str().unwrap().to_owned();
            let started = engine.post(&format!("/containers/{id}/start"), &Value::Null);
            assert!(started.status >= 400, "{text:?} started");
        }
    }
    // One that says something is taken, by the same way.
    let file = engine.path("good.json");
    fs::write(&file, r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).unwrap();
    let taken =
        engine.sh(&["--security-opt", &format!("seccomp={file}")], "grep -w Seccomp /proc/self/status");
    assert!(taken.starts_with("Seccomp:"), "{taken}");
    engine.remove_containers();
    assert_eq!(engine.sh(&[], "echo well"), "well");
}

/// Rows 94 and 95: settings of the host, and values and names that hide a second one.
#[test]
fn rows_94_95_only_the_containers_own_settings_are_written() {
    let engine = Engine::start();
    let host = Host::new(&engine);
    // The same ones where they are the container's own.
    for (setting, file) in [
        ("net.ipv4.ip_forward=1", "net/ipv4/ip_forward"),
        ("kernel.shmmax=4096", "kernel/shmmax"),
        ("kernel.msgmax=4096", "kernel/msgmax"),
        ("fs.mqueue.queues_max=4", "fs/mqueue/queues_max"),
    ] {
        let value = engine.sh(&["--sysctl", setting], &format!("cat /proc/sys/{file}"));
        assert_eq!(setting.split_once('=').unwrap().1, value, "{setting}");
    }
    for (flags, setting) in [
        (&["--network", "host"][..], "net.ipv4.ip_forward=1"),
        (&["--ipc", "host"], "kernel.shmmax=4096"),
        (&["--ipc", "host"], "kernel.msgmax=4096"),
        (&["--ipc", "host"], "fs.mqueue.queues_max=4"),
        (&[], "kernel.shm_rmid_forced=1+kernel.core_pattern=|/evil"),
        (&[], "kernel.msgmax=1\nkernel.core_pattern=|/evil"),
        (&[], "kernel/core_pattern=x"),
        (&[], "kernel.msgmax/../core_pattern=x"),
        (&[], "net/../kernel/core_pattern=x"),
        (&[], "net.ipv4.../.../kernel.core_pattern=x"),
        (&[], "kernel.core_pattern=x"),
        (&[], "vm.swappiness=1"),
        (&[], "=x"),
    ] {
        let image = [&["run", "--rm"], flags, &["--sysctl", setting, BUSYBOX, "true"]].concat();
        let out = engine.tare(image).run();
        assert!(out.code != 0, "{setting:?}: {out}");
        host.assert_unchanged();
    }
    assert_eq!(engine.sh(&[], "echo well"), "well");
}

/// Row 96: annotations of the user and labels of the image set no property of any unit.
#[test]
fn row_96_annotations_set_nothing() {
    let engine = Engine::start();
    let labels = object(&[
        ("org.systemd.property.MemoryMax", "4096"),
        ("org.systemd.property.ExecStopPost", "touch /evil"),
    ]);
    engine.load(&Image::busybox("row96:1").config("Labels", labels));
    let host = Host::new(&engine);
    let body = json!({"Image": "row96:1", "Cmd": ["echo", "well"], "HostConfig": {"NetworkMode": "none",
        "Annotations": {"org.systemd.property.PIDsMax": "1", "org.systemd.property.ExecStopPost": "touch /evil"}}});
    let id = engine.post("/containers/create", &body).expect(201)["Id"].as_str().unwrap().to_owned();
    assert_eq!(engine.tare(["start", "-a", &id]).ok(), "well");
    assert!(!Path::new("/evil").exists());
    engine.remove_containers();
    host.assert_unchanged();
}

/// Row 137 by way of programs: `/sys/fs/cgroup` is read-only, hierarchies cannot be mounted.
#[test]
fn row_137_a_default_container_mounts_no_cgroups() {
    let engine = Engine::start();
    let script = "mkdir /m; mount -t cgroup -o memory none /m && echo MOUNTED; unshare -Ur true && echo UNSHARED; \
                  for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/evil && echo MADE $d; done; \
                  for f in /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs; do (: >> $f) && echo OPENED $f; done; true";
    assert_eq!(engine.shell(&[], script).run().out(), "");
}

/// Row 114: who dropped a group in a user namespace that somebody without rights made cannot drop it there either.
#[test]
fn row_114_groups_of_an_unprivileged_map_cannot_be_dropped() {
    let engine = Engine::start();
    let out = engine.sh(
        &["--security-opt", "seccomp=unconfined", "-u", "1000:1000", "--group-add", "2000"],
        "unshare -Ur sh -c 'cat /proc/self/setgroups'",
    );
    assert_eq!(out, "deny");
    // The engine's own maps are written by root, so that images may change groups.
    if ours() {
        assert_eq!(engine.sh(&[], "cat /proc/self/setgroups"), "allow");
    }
}

/// Row 11: with the host's user namespace the cgroup alone decides: what no rule allows is neither made nor opened.
#[test]
fn row_11_no_device_rule_is_no_device() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let script = "for d in 'b 7 0' 'c 1 1' 'c 1 11' 'c 10 237'; do mknod /d $d && echo MADE $d; (head -c1 /d >/dev/null) 2>/dev/null && echo READ $d; rm -f /d; done; true";
    for flags in [&[][..], &["--userns", "host"], &["--userns", "host", "--cap-add", "ALL"]] {
        // The cgroup of devices lets nodes be made where it allows `m`, as Docker does: never opened.
        let out = engine.shell(flags, script).run().out();
        assert!(!out.contains("READ"), "{flags:?}: {out}");
    }
    let given = ["--userns", "host", "--device", "/dev/loop-control"];
    assert_eq!(engine.sh(&given, "(exec 3</dev/loop-control) && echo opened"), "opened");
}
