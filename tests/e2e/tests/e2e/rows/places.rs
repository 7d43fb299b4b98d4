//! Places and what is read there: mountpoints, links, devices and files of images and volumes.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tare_kit::engine::BUSYBOX;
use tare_kit::{Canary, Cmd, Engine, Host, Image, Layer, perl};

use super::dev_with;
use crate::trap::Real::{Dir, File};
use crate::trap::{Trap, USER_NAMESPACES};
use crate::{lines, ours};

/// Row 3: every default mountpoint is a link to the canary, over a start, a stop and a start.
#[test]
fn row_3_mountpoints_that_are_links_lead_nowhere_at_any_start() {
    let points = [
        ("dev", Dir),
        ("dev/pts", Dir),
        ("dev/shm", Dir),
        ("dev/mqueue", Dir),
        ("proc", Dir),
        ("sys", Dir),
        ("sys/fs/cgroup", Dir),
        ("etc/hosts", File),
        ("etc/resolv.conf", File),
        ("etc/hostname", File),
    ];
    let trap = Trap::new("row3:1", &[]);
    let Trap { engine, canary, .. } = &trap;
    for (point, real) in points {
        // To what is there, and to what would have to be made.
        for target in ["", "made"] {
            trap.set(&[(point, real, target)]);
            for (user_namespace, image) in
                USER_NAMESPACES.iter().flat_map(|name| [(name, trap.image().to_owned()), (name, trap.twin())])
            {
                let flags = ["create", "--name", "links", "--network", "none", "--userns", user_namespace];
                engine.tare([&flags[..], &[&image, "sleep", "1000"]].concat()).ok();
                for round in 1..=2 {
                    let started = engine.tare(["start", "links"]).run();
                    canary.assert_untouched();
                    assert!(image == trap.image() || started.code == 0, "{point}, start {round}: {started}");
                    engine.tare(["stop", "-t", "0", "links"]).run();
                    canary.assert_untouched();
                }
                engine.tare(["rm", "-f", "links"]).ok();
            }
        }
    }
    assert_eq!(engine.sh(&[], "echo well"), "well");
}

/// Row 4: nothing is mounted over `/proc`, not by `-v`, not by the image.
#[test]
fn row_4_a_volume_never_covers_proc() {
    let engine = Engine::start();
    let dir = engine.path("dir");
    fs::create_dir(&dir).unwrap();
    for place in ["/proc", "/proc/", "/proc/self/attr", "/x/../proc/sys"] {
        let bind = format!("{dir}:{place}");
        assert!(engine.shell(&["-v", &bind], "true").run().code >= 125, "-v {place}");
        let volumes: Value = json!({place: {}});
        engine.load(&Image::busybox("row4:1").config("Volumes", volumes));
        let out = engine
            .tare(["run", "--rm", "--network", "none", "row4:1", "stat", "-f", "-c", "%T", "/proc/self/attr"])
            .run();
        assert!(out.code >= 125 || out.out() == "proc", "VOLUME {place}: {out}");
    }
    // Beside it both are given.
    assert_eq!(engine.sh(&["-v", &format!("{dir}:/process")], "grep -c ' /process ' /proc/mounts"), "1");
    engine.load(&Image::busybox("row4:1").config("Volumes", json!({"/process": {}})));
    assert_eq!(engine.sh_in("row4:1", "grep -c ' /process ' /proc/mounts"), "1");
    assert_eq!(engine.sh(&[], "echo well"), "well");
}

/// Row 9: a destination whose last part is an absolute link makes its target inside.
#[test]
fn row_9_the_target_of_a_link_is_made_inside() {
    let engine = Engine::start();
    let canary = Canary::new(&engine.dir().join("canary"));
    let target = format!("{}/made/deep", canary.str());
    engine.load(&Image::busybox("row9:1").layer(Layer::new().symlink("mnt/last", &target)));
    let dir = engine.path("dir");
    fs::create_dir(&dir).unwrap();
    fs::write(format!("{dir}/mine"), "mine\n").unwrap();
    let bind = format!("{dir}:/mnt/last");
    for user_namespace in USER_NAMESPACES {
        let flags = ["run", "--rm", "--network", "none", "--userns", user_namespace, "-v", &bind];
        let inside = format!("{target}/mine");
        let out = engine.tare([&flags[..], &["row9:1", "cat", &inside]].concat()).run();
        canary.assert_untouched();
        assert!(out.out() == "mine" || (out.code >= 125 && !ours()), "{out}");
    }
    assert_eq!(engine.sh(&[], "echo well"), "well");
}

/// Row 13: more than 64 KiB of variables, arguments and mounts arrive as asked, and namespaces with them.
#[test]
fn row_13_a_large_request_arrives_whole() {
    let engine = Engine::start();
    let long = "x".repeat(70_000);
    let body = |host: Value| json!({"Image": BUSYBOX, "Cmd": ["sh", "-c", "echo ${#LONG} $(id -u); cat /proc/self/uid_map; grep -c m1 /proc/self/mountinfo"], "Env": [format!("LONG={long}")], "User": "1000", "HostConfig": host});
    let dir = engine.path("dir");
    fs::create_dir(&dir).unwrap();
    let binds: Vec<String> = (0..400).map(|n| format!("{dir}:/m1/{n:0200}")).collect();
    let host = json!({"NetworkMode": "none", "Binds": binds});
    let created = engine.post("/containers/create", &body(host));
    let id = created.expect(201)["Id"].as_str().unwrap().to_owned();
    let out = engine.tare(["start", "-a", &id]).ok();
    assert_eq!((lines(&out)[0], lines(&out).last().copied()), ("70000 1000", Some("400")), "{out}");
    assert!(!ours() || out.contains("65536"), "namespaces as asked: {out}");
    engine.tare(["rm", "-f", &id]).ok();
}

/// Row 20: a shared tmpfs over `/proc/self/attr` and links to other files of the kernel: refused, or only what was asked
/// for is written.
#[test]
fn row_20_kernel_files_that_are_written_are_the_real_ones() {
    let engine = Engine::start();
    let host = Host::new(&engine);
    let evil = engine.dir().join("evil");
    fs::create_dir(&evil).unwrap();
    for name in ["exec", "current", "oom_score_adj", "ip_forward", "setgroups", "uid_map"] {
        symlink("/proc/sys/kernel/core_pattern", evil.join(name)).unwrap();
    }
    for target in ["/proc/self/attr", "/proc/self", "/proc/sys/net/ipv4", "/proc/thread-self/attr", "/proc/1"]
    {
        let bind = format!("{}:{target}", evil.display());
        let out = engine.shell(&["-v", &bind, "--sysctl", "net.ipv4.ip_forward=1"], "true").run();
        assert!(out.code >= 125, "{target}: {out}");
    }
    let mount = ["--mount", "type=tmpfs,dst=/proc/self/attr"];
    assert!(engine.shell(&mount, "true").run().code >= 125);
    // In the image, where the real ones cover them.
    let layer = ["exec", "current"].iter().fold(Layer::new(), |layer, name| {
        layer.symlink(&format!("proc/self/attr/{name}"), "/proc/sysrq-trigger")
    });
    let layer = layer.symlink("proc/self/oom_score_adj", "/proc/sys/kernel/core_pattern");
    engine.load(
        &Image::busybox("row20:1").layer(layer.symlink("proc/sys/net/ipv4/ip_forward", host.canary().str())),
    );
    let flags = ["--oom-score-adj", "77", "--sysctl", "net.ipv4.ip_forward=1"];
    let script = ["row20:1", "cat", "/proc/self/oom_score_adj", "/proc/sys/net/ipv4/ip_forward"];
    let out = engine.tare([&["run", "--rm", "--network", "none"], &flags[..], &script].concat()).run();
    assert!(out.out() == "77\n1" || (out.code >= 125 && !ours()), "{out}");
    host.assert_unchanged();
    assert_eq!(engine.sh(&[], "echo well"), "well");
}

/// Row 24: no file of the image that an engine of past years read for itself is read through a link.
#[test]
fn row_24_files_for_the_engine_are_not_read_through_links() {
    let engine = Engine::start();
    let canary = Canary::new(&engine.dir().join("canary"));
    // Of a host that knows somebody else by these names.
    let (secret, host) = (format!("{}/secret", canary.str()), engine.path("host"));
    let users = "ann:x:4242:4242::/:/bin/sh\ncrew:x:4243:\n";
    fs::write(&host, users).unwrap();
    let names = [
        ".krun_vm.json",
        "krun-sev.json",
        "run/.containerenv",
        ".dockerenv",
        ".dockerinit",
        "etc/os-release",
        "etc/localtime",
        "etc/ld.so.preload",
        "etc/nsswitch.conf",
        "etc/mtab",
        "etc/hosts",
    ];
    let layer = names.iter().fold(Layer::new(), |layer, name| layer.symlink(name, &secret));
    let files = |layer: Layer, passwd: &str, group: &str| {
        layer.symlink("etc/passwd", passwd).symlink("etc/group", group)
    };
    engine.load(&Image::busybox("row24:1").layer(files(layer.clone(), &host, &host)));
    let inside = layer.file("users", users);
    engine.load(&Image::busybox("row24:2").layer(files(inside, "/users", "/users")));
    let script = "cat /.krun_vm.json /etc/passwd /etc/hosts /run/.containerenv; env; echo $(id -u) $(id -G)";
    for user_namespace in USER_NAMESPACES {
        for flags in [
            &[][..],
            &["-u", "1000"],
            &["-u", "ann"],
            &["--group-add", "crew"],
            &["-u", "0:crew"],
            &["--init"],
        ] {
            let run = |image| {
                let flags =
                    [&["run", "--rm", "--network", "none", "--userns", user_namespace], flags].concat();
                engine.tare([&flags[..], &[image, "sh", "-c", script]].concat()).run()
            };
            let out = run("row24:1");
            assert!(!format!("{out}").contains("the host's own secret"), "{flags:?}: {out}");
            assert!(!out.out().contains("424"), "{flags:?}: {out}");
            canary.assert_untouched();
            // A link that stays inside is followed, and says who they are.
            let named = flags.iter().any(|flag| flag.contains("ann") || flag.contains("crew"));
            assert_eq!(out.code < 125, !named, "{flags:?}: {out}");
            let out = run("row24:2");
            let said = out.out();
            let ids = lines(&said).last().copied().unwrap_or_default();
            assert!(out.code < 125 && ids.contains("424") == named, "{flags:?}: {out}");
        }
    }
}

/// Row 28: the image's null device is a file of the host's; nobody opens, truncates or gives it away.
#[test]
fn row_28_the_images_null_device_is_left_alone() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let host = Host::new(&engine);
    let (dev, bind) = dev_with(&engine, "null", "the host's\n");
    let null = dev.join("null");
    let before = fs::metadata(&null).unwrap();
    for flags in [&[][..], &["-i"], &["-u", "1000"], &["-d"], &["--userns", "host", "-u", "1000"]] {
        // It starts, and has that file in the place of the device.
        let out = engine.shell(&[flags, &["-v", &bind]].concat(), "cat /dev/null").input("input").ok();
        assert!(flags == ["-d"] || out == "the host's", "{flags:?}: {out}");
    }
    engine.remove_containers();
    let after = fs::metadata(&null).unwrap();
    let of = |meta: &fs::Metadata| (meta.uid(), meta.gid(), meta.mode(), meta.mtime_nsec(), meta.len());
    assert_eq!(of(&before), of(&after));
    host.assert_unchanged();
    assert_eq!(engine.sh(&[], "echo well"), "well");
}

/// Row 29: the image has a `/proc/self/fd` of its own; `--read-only` makes the root read-only all the same.
#[test]
fn row_29_a_read_only_root_is_read_only_whatever_the_images_proc() {
    let engine = Engine::start();
    let canary = Canary::new(&engine.dir().join("canary"));
    let layer =
        (3..30).fold(Layer::new(), |layer, fd| layer.symlink(&format!("proc/self/fd/{fd}"), canary.str()));
    engine.load(&Image::busybox("row29:1").layer(layer));
    for flags in [&["--read-only"][..], &["--read-only", "-t"]] {
        let script = [
            "row29:1",
            "sh",
            "-c",
            "(echo x > /x) 2>/dev/null && echo WRITTEN; grep ' / / ' /proc/self/mountinfo",
        ];
        let out = engine.tare([&["run", "--rm", "--network", "none"], flags, &script].concat()).run();
        let ran = out.out().contains(" ro,") && !out.out().contains("WRITTEN");
        assert!(ran || (out.code >= 125 && !ours()), "{out}");
    }
    canary.assert_untouched();
    assert_eq!(engine.sh(&[], "echo well"), "well");
}

/// Row 93: paths that were once forgotten show nothing, where the machine has them.
#[test]
fn row_93_paths_that_were_once_forgotten_show_nothing() {
    let engine = Engine::start();
    let script = "for p in /proc/acpi /proc/asound /proc/scsi /proc/kcore /proc/keys /proc/interrupts /proc/timer_list \
                  /proc/latency_stats /proc/sched_debug /sys/firmware /sys/devices/virtual/powercap \
                  /sys/devices/system/cpu/cpu*/thermal_throttle; do \
                  test -d $p && ls -A $p; test -f $p && echo FILE $p; test -c $p && head -c 1 $p; done; true";
    assert_eq!(engine.sh(&[], script), "");
    // Some of them are on this machine.
    let open = engine.sh(&["--security-opt", "systempaths=unconfined"], script);
    assert!(!ours() || open.contains("FILE /proc/keys"), "{open}");
}

/// Row 112: shared memory, System V segments and message queues go with the container that had them.
#[test]
fn row_112_memory_of_ipc_objects_goes_with_the_container() {
    let engine = Engine::start();
    engine.load(&Image::busybox("row112:1").layer(perl::layer()));
    let shared = || {
        let text = fs::read_to_string("/proc/meminfo").unwrap();
        let line = lines(&text).into_iter().find_map(|l| l.strip_prefix("Shmem:")).unwrap().to_owned();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let before = shared();
    // 8 MiB of a file, 8 of a segment; ten starts would leave 160.
    let fill = "head -c 8388608 /dev/zero > /dev/shm/f; perl -e '$i = shmget(77, 8388608, 01666) // die; shmwrite($i, \"x\" x 8388608, 0, 8388608) or die'; echo full; sleep 1000";
    let flags = [
        "run",
        "-d",
        "--name",
        "ipc",
        "--network",
        "none",
        "--ipc",
        "shareable",
        "row112:1",
        "sh",
        "-c",
        fill,
    ];
    engine.tare(flags).ok();
    for round in 0..10 {
        let log = || engine.get("/containers/ipc/logs?stdout=1&stderr=1").text().matches("full").count();
        let seen = tare_kit::wait::until(Duration::from_secs(20), || (log() > round).then_some(()));
        assert!(seen.is_some(), "round {round}");
        engine.tare(["restart", "-t", "0", "ipc"]).ok();
    }
    engine.tare(["rm", "-f", "ipc"]).ok();
    let freed = tare_kit::wait::until(Duration::from_secs(10), || (shared() < before + 40_000).then_some(()));
    assert!(freed.is_some(), "{before} kB of shared memory became {}", shared());
}

/// Row 112 on cgroup v2: what is in IPC objects counts as the container's, at every start once, and nothing of it is left to
/// the group above.
#[test]
fn row_112_on_v2_ipc_memory_is_the_containers_own() {
    if !ours() || !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return;
    }
    let engine = Engine::start();
    engine.load(&Image::busybox("row112:2").layer(perl::layer()));
    let fill = "head -c 2097152 /dev/zero > /dev/shm/f; perl -e '$i = shmget(77, 2097152, 01666) // die; shmwrite($i, \"x\" x 2097152, 0, 2097152) or die'; echo full; sleep 1000";
    let flags = ["run", "-d", "--name", "ipc", "--network", "none", "--ipc", "shareable", "-m", "64m"];
    engine.tare([&flags[..], &["row112:2", "sh", "-c", fill]].concat()).ok();
    let shared = |group: &Path| {
        let text = fs::read_to_string(group.join("memory.stat")).unwrap();
        let line = lines(&text).into_iter().find_map(|line| line.strip_prefix("shmem ")).unwrap().to_owned();
        line.parse::<u64>().unwrap()
    };
    let group = || {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", engine.pid_of("ipc"))).unwrap();
        Path::new("/sys/fs/cgroup").join(text.trim().trim_start_matches("0::/"))
    };
    let above = group().parent().unwrap().to_owned();
    let set = 4 << 20;
    for round in 0..2 {
        let log = || engine.get("/containers/ipc/logs?stdout=1&stderr=1").text().matches("full").count();
        let seen = tare_kit::wait::until(Duration::from_secs(20), || (log() > round).then_some(()));
        assert!(seen.is_some(), "round {round}");
        let counted = shared(&group());
        assert!((set..set * 2).contains(&counted), "round {round}: {counted} bytes");
        // Of engines beside this one there may be some.
        let all = shared(&above);
        assert!(all < set * 2, "round {round}: {all} bytes above");
        engine.tare(["restart", "-t", "0", "ipc"]).ok();
    }
    engine.tare(["rm", "-f", "ipc"]).ok();
}

/// Row 139: a read-only bind and a layer have the same bytes after a splice into their pages was tried.
#[test]
fn row_139_spliced_pages_are_not_written() {
    let engine = Engine::start();
    engine.load(
        &Image::busybox("row139:1").layer(perl::layer()).layer(Layer::new().file("layer", "A".repeat(4096))),
    );
    let file = engine.path("file");
    fs::write(&file, "A".repeat(4096)).unwrap();
    // A pipe whose buffers may be merged, a page of the file spliced into it, and a write behind. What comes out of the pipe
    // shows that the page was in it, and the write behind it.
    let poc = r#"for my $path (@ARGV) { pipe(my $r, my $w); syswrite($w, "x" x 65536); sysread($r, my $b, 65536);
        open(my $f, '<', $path) or die; my $o = pack("q", 0); syscall(SPLICE, fileno $f, $o, fileno $w, 0, 1, 0) == 1 or die; syswrite($w, "EVIL");
        sysread($r, $b, 8); open(my $g, '<', $path); sysread($g, my $t, 8); print "$b $t\n" }"#;
    let poc = poc.replace("SPLICE", if cfg!(target_arch = "aarch64") { "76" } else { "275" });
    let bind = format!("{file}:/bound:ro");
    let image = ["-v", &bind, "row139:1", "perl", "-e", &poc, "/bound", "/layer"];
    for flags in [&[][..], &["--privileged"]] {
        let run = [&["run", "--rm", "--network", "none"], flags, &image].concat();
        assert_eq!(engine.tare(run).ok(), "AEVIL AAAAAAAA\nAEVIL AAAAAAAA", "{flags:?}");
    }
    // It is the kernel that is mended: nothing else is in the way here.
    assert_eq!(Cmd::new(perl::program()).args(["-e", &poc, &file]).ok(), "AEVIL AAAAAAAA");
    assert_eq!(fs::read_to_string(&file).unwrap(), "A".repeat(4096));
    let again = engine
        .tare(["run", "--rm", "--network", "none", "row139:1", "sh", "-c", "tr -d A < /layer | wc -c"])
        .ok();
    assert_eq!(again, "0");
}
