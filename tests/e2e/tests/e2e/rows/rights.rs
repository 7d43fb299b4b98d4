//! Who a process is and what it may: users, groups, capabilities, filters, kernel settings, devices, cgroups.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use tare_kit::engine::BUSYBOX;
use tare_kit::image::{PATH, busybox_layer, object};
use tare_kit::{Engine, Host, Image, Layer, perl};

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
    let script = "mkdir /made 2>/dev/null || echo shut; grep -w Seccomp /proc/self/status";
    let with = |file: &str| engine.shell(&["--security-opt", &format!("seccomp={file}")], script);
    let written = |name: &str, text: &str| {
        let file = engine.path(name);
        fs::write(&file, text).unwrap();
        file
    };
    // One that says something is taken, from a file and over the API.
    let good = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}"#;
    assert_eq!(with(&written("good.json", good)).ok(), "shut\nSeccomp:\t2");
    let create = |text: &str| {
        let host = json!({"NetworkMode": "none", "SecurityOpt": [format!("seccomp={text}")]});
        engine.post("/containers/create", &json!({"Image": BUSYBOX, "Cmd": ["true"], "HostConfig": host}))
    };
    create(good).expect(201);
    assert!(with(&engine.path("missing.json")).fails(125).contains("missing.json"));
    for (number, text) in
        ["", " ", "{}", "[]", "null", "unconfined", "{\"defaultAction\":\"\"}", "{\"syscalls\":[]}"]
            .iter()
            .enumerate()
    {
        let out = with(&written(&format!("{number}.json"), text)).run();
        assert!(out.code != 0 || out.out().ends_with('2'), "{text:?}: {out}");
        assert!(!ours() || (out.code == 125 && out.err().contains("seccomp")), "{text:?}: {out}");
        let created = create(text);
        if created.status == 201 && *text != "unconfined" {
            let id = created.json()["Id"].as_str().unwrap().to_owned();
            let started = engine.post(&format!("/containers/{id}/start"), &Value::Null);
            assert!(started.status >= 400, "{text:?} started");
        }
    }
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
    let evil = engine.path("evil");
    let touch = format!("touch {evil}");
    let labels =
        object(&[("org.systemd.property.MemoryMax", "4096"), ("org.systemd.property.ExecStopPost", &touch)]);
    engine.load(&Image::busybox("row96:1").config("Labels", labels));
    let host = Host::new(&engine);
    let body = json!({"Image": "row96:1", "Cmd": ["echo", "well"], "HostConfig": {"NetworkMode": "none",
        "Annotations": {"org.systemd.property.PIDsMax": "1", "org.systemd.property.ExecStopPost": touch}}});
    let id = engine.post("/containers/create", &body).expect(201)["Id"].as_str().unwrap().to_owned();
    assert_eq!(engine.tare(["start", "-a", &id]).ok(), "well");
    // They are kept, as annotations are, and that is all.
    assert_eq!(engine.inspect(&id)["HostConfig"]["Annotations"]["org.systemd.property.PIDsMax"], "1");
    assert!(!Path::new(&evil).exists());
    engine.remove_containers();
    host.assert_unchanged();
}

/// Row 15: with the host's cgroup namespace as with one of its own, a container changes nothing of its groups.
#[test]
fn row_15_own_groups_are_not_the_containers_to_change() {
    let engine = Engine::start();
    let script = "mount -o remount,bind,rw /sys/fs/cgroup; mkdir /c; mount -t cgroup2 none /c || rmdir /c; \
                  for f in $(find /sys/fs/cgroup /c -name cgroup.procs -o -name memory.max -o -name pids.max -o -name memory.limit_in_bytes); do \
                  n=$((n + 1)); (: >> $f) && echo OPENED $f; done; \
                  for d in /sys/fs/cgroup /sys/fs/cgroup/* /c; do mkdir $d/evil && echo MADE $d && rmdir $d/evil; done; \
                  test $n -gt 1 && echo seen";
    let all = ["--cap-add", "ALL", "--security-opt", "seccomp=unconfined"];
    for flags in [
        &["--cgroupns", "host", "--userns", "host"][..],
        &[&["--cgroupns", "host"], &all[..]].concat(),
        &[&["--cgroupns", "private"], &all[..]].concat(),
    ] {
        assert_eq!(engine.shell(flags, script).run().out(), "seen", "{flags:?}");
    }
    // Whoever is given everything may.
    let privileged = engine.shell(&["--privileged", "--cgroupns", "host"], script).run().out();
    assert!(!ours() || privileged.contains("OPENED"), "{privileged}");
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

/// A user namespace whose groups somebody outside of it maps, at first without giving up `setgroups`; then what is closed to
/// a group is opened, that group dropped.
const DROP_GROUPS: &str = r#"my ($gid) = split / /, $(; pipe(my $r, my $w); pipe(my $s, my $t); my $pid = fork // die;
    if (!$pid) { call("unshare", 0x10000000) == 0 or die "unshare: $!"; syswrite($t, "x"); sysread($r, my $b, 1);
        $) = "0 0"; print open(my $f, '<', "/closed/file") ? "OPEN
" : "shut
"; exit 0 }
    sysread($s, my $b, 1); sub put { my ($name, $text) = @_; open(my $f, '>', "/proc/$pid/$name") or return; syswrite($f, $text) }
    if (put("gid_map", "0 $gid 1")) { print "mapped " } else { print "refused "; put("setgroups", "deny") or die "setgroups: $!";
        print put("gid_map", "0 $gid 1") ? "mapped " : "no map: $! "; print "allowed again " if put("setgroups", "allow") }
    syswrite($w, "x"); waitpid $pid, 0;"#;

/// Row 114: who has no rights over groups gains none by a user namespace, so that what is closed to a group stays closed.
#[test]
fn row_114_groups_of_an_unprivileged_map_cannot_be_dropped() {
    let engine = Engine::start();
    engine.load(&Image::busybox("row114:1").layer(perl::layer()));
    let dir = engine.path("closed");
    fs::create_dir(&dir).unwrap();
    fs::write(format!("{dir}/file"), "closed\n").unwrap();
    std::os::unix::fs::chown(format!("{dir}/file"), Some(3000), Some(2000)).unwrap();
    fs::set_permissions(format!("{dir}/file"), fs::Permissions::from_mode(0o604)).unwrap();
    let bind = format!("{dir}:/closed");
    let script = perl::prelude() + DROP_GROUPS;
    let drop = |user: &str| {
        let flags = ["run", "--rm", "--network", "none", "--security-opt", "seccomp=unconfined", "-v", &bind];
        let who = ["--cap-drop", "DAC_OVERRIDE", "--group-add", "2000", "-u", user];
        engine.tare([&flags[..], &who, &["row114:1", "perl", "-e", &script]].concat()).ok()
    };
    assert_eq!(drop("1000:1000"), "refused mapped shut");
    // With the right to change groups, here that of root, it works: nothing but that right is missing above.
    assert_eq!(drop("0:0"), "mapped OPEN");
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
    let script = "for d in 'b 7 0' 'c 1 1' 'c 1 11' 'c 10 237'; do mknod /d $d && echo MADE $d; (: < /d) 2>/dev/null && echo READ $d; rm -f /d; done; true";
    for flags in [&[][..], &["--userns", "host"], &["--userns", "host", "--cap-add", "ALL"]] {
        // The cgroup of devices lets nodes be made where it allows `m`, as Docker does: never opened.
        let out = engine.shell(flags, script).run().out();
        assert!(!out.contains("READ"), "{flags:?}: {out}");
    }
    // The machine has them, and whoever is given all devices opens them.
    let all = engine.sh(&["--privileged"], script);
    assert!(all.contains("READ c 1 1") && all.contains("READ c 1 11"), "{all}");
    let given = ["--userns", "host", "--device", "/dev/loop-control"];
    assert_eq!(engine.sh(&given, "(exec 3</dev/loop-control) && echo opened"), "opened");
}
