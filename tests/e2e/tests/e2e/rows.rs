//! Rows of the security file that need more than one request to attack: races, tables of values, whole walks. The table
//! of all rows and their tests is `docs/security-rows.md`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tare_kit::engine::BUSYBOX;
use tare_kit::image::{PATH, busybox_layer, object};
use tare_kit::{Canary, Engine, Host, Image, Layer, perl};

use crate::{lines, ours};

// === races ===

/// How long a race is run: `TARE_TEST_ROUNDS` starts, or as many as fit into ten seconds.
struct Rounds {
    end: Instant,
    rounds: Option<u64>,
    done: u64,
}

impl Rounds {
    fn new() -> Rounds {
        let rounds = std::env::var("TARE_TEST_ROUNDS").ok().map(|n| n.parse().expect("a number of rounds"));
        Rounds { end: Instant::now() + Duration::from_secs(10), rounds, done: 0 }
    }

    fn next(&mut self) -> bool {
        self.done += 1;
        match self.rounds {
            Some(rounds) => self.done <= rounds,
            None => self.done <= 10 || Instant::now() < self.end,
        }
    }
}

/// Runs `attempt` again and again while two names change places as fast as they can; it says whether the container ran,
/// and some must: that none is let in defends nothing.
fn while_exchanging(one: &Path, other: &Path, mut attempt: impl FnMut() -> bool) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let (over, count) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                // Somebody may hold one of the two for a moment.
                let done = renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE);
                count.fetch_add(u64::from(done.is_ok()), Ordering::Relaxed);
            }
        });
        let _stop = Stop(&over);
        let (mut rounds, mut ran) = (Rounds::new(), 0);
        while rounds.next() {
            ran += u64::from(attempt());
        }
        assert!(ran > 0, "not one container ran");
    });
    assert!(count.load(Ordering::Relaxed) > 1000, "the names did not change places");
}

/// Also when an attempt fails the test, so that the scope can end.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Rows 12 and 17: two containers share a volume, the second mounts into it while a directory there and a link to the
/// host change places.
#[test]
fn rows_12_17_a_mount_into_an_exchanged_directory_never_leads_out() {
    let engine = Engine::start();
    let host = Host::new(&engine);
    let (volume, source) = (engine.path("volume"), engine.path("source"));
    for dir in [&source, &format!("{volume}/real")] {
        fs::create_dir_all(dir).unwrap();
    }
    fs::write(format!("{source}/mine"), "").unwrap();
    symlink(host.canary().path(), format!("{volume}/link")).unwrap();
    engine.background(&["--name", "other", "-v", &format!("{volume}:/v")], "sleep 1000");
    let mut flags = vec!["-v".to_owned(), format!("{volume}:/v")];
    // Of 20, some name a place that has to be made: a directory, or a file for a file.
    for number in 0..10 {
        flags.extend(["-v".to_owned(), format!("{source}:/v/real/made{number}")]);
        flags.extend(["-v".to_owned(), format!("{source}/mine:/v/real/file{number}")]);
    }
    // Without the wall that is the user namespace: only how paths are looked up defends then.
    flags.extend(["--userns", "host"].map(str::to_owned));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let at = |name: &str| Path::new(&volume).join(name);
    while_exchanging(&at("real"), &at("link"), || {
        let script = "cat /v/real/secret /v/link/secret /v/real/made0/secret; ls /v/real/made0 /v/link/made0";
        let out = engine.shell(&flags, script).run();
        assert!(!out.out().contains("the host's own secret"), "the host shows: {out}");
        host.canary().assert_untouched();
        out.code < 125
    });
    host.assert_unchanged();
}

/// Row 10: the root's `proc` is on a volume where it and a link change places.
#[test]
fn row_10_an_exchanged_proc_is_the_real_one_or_there_is_none() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let host = Host::new(&engine);
    let root = engine.dir().join("rootfs");
    fs::create_dir(&root).unwrap();
    tare_kit::image::unpack_busybox(&root);
    let evil = root.join("evil");
    fs::create_dir_all(evil.join("self/attr")).unwrap();
    fs::write(evil.join("self/status"), "CapEff: 0\n").unwrap();
    symlink("/evil", root.join("link")).unwrap();
    let path = root.display().to_string();
    while_exchanging(&root.join("proc"), &root.join("link"), || {
        let args = ["run", "--rm", "--network", "none", "--rootfs", &path, "/bin/sh", "-c"];
        let script = "/bin/stat -f -c %T /proc; /bin/grep -c Seccomp: /proc/self/status";
        let out = engine.tare([&args[..], &[script]].concat()).run();
        assert!(out.code >= 125 || out.out() == "proc\n1", "{out}");
        out.code < 125
    });
    assert_eq!(fs::read_dir(evil.join("self/attr")).unwrap().count(), 0);
    host.assert_unchanged();
}

/// Rows 18 and 22: the null device of a volume at `/dev` and a link to where it hurts change places.
#[test]
fn rows_18_22_an_exchanged_null_device_covers_nothing_else() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let host = Host::new(&engine);
    let dev = engine.dir().join("dev");
    fs::create_dir(&dev).unwrap();
    fs::write(dev.join("null"), "").unwrap();
    symlink("/proc/sys/kernel/core_pattern", dev.join("link")).unwrap();
    let bind = format!("{}:/dev", dev.display());
    while_exchanging(&dev.join("null"), &dev.join("link"), || {
        let script = "echo '|/evil' > /proc/keys; echo '|/evil' > /proc/timer_list; stat -c %t:%T /proc/keys /proc/timer_list";
        let out = engine.shell(&["-v", &bind], script).run();
        assert!(out.code >= 125 || lines(&out.out()).iter().all(|line| *line == "1:3"), "{out}");
        out.code < 125
    });
    host.assert_unchanged();
}

/// Row 19: what is bound on `/dev/console` is a terminal, whatever happens to a volume at `/dev`.
#[test]
fn row_19_the_console_is_a_terminal() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let host = Host::new(&engine);
    let dev = engine.dir().join("dev");
    fs::create_dir_all(dev.join("pts")).unwrap();
    fs::write(dev.join("console"), "").unwrap();
    symlink(host.canary().path().join("secret"), dev.join("link")).unwrap();
    let bind = format!("{}:/dev", dev.display());
    while_exchanging(&dev.join("console"), &dev.join("link"), || {
        let out = engine
            .shell(&["-t", "-v", &bind], "echo evil > /dev/console; stat -c %t /dev/console; cat /dev/link")
            .run();
        assert!(!out.out().contains("the host's own secret"), "{out}");
        host.canary().assert_untouched();
        // Such a volume has no place for terminals: that it is refused is all right here.
        true
    });
    let layer = Layer::new().symlink("dev/console", host.canary().str()).symlink("dev/pts/0", "/etc/passwd");
    engine.load(&Image::busybox("row19:1").layer(layer));
    let script = "stat -c %t:%T /dev/console $(tty); echo evil > /dev/console";
    let out = engine.tare(["run", "--rm", "-t", "--network", "none", "row19:1", "sh", "-c", script]).ok();
    assert!(out.starts_with("88:0\r\n88:0") && out.contains("evil"), "{out:?}");
    host.assert_unchanged();
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
    engine
        .load(&Image::busybox("row20:1").layer(layer.symlink("proc/sys/net/ipv4/ip_forward", "/etc/passwd")));
    let flags = ["--oom-score-adj", "77", "--sysctl", "net.ipv4.ip_forward=1"];
    let script = ["row20:1", "cat", "/proc/self/oom_score_adj", "/proc/sys/net/ipv4/ip_forward"];
    let out = engine.tare([&["run", "--rm", "--network", "none"], &flags[..], &script].concat()).run();
    assert!(out.code >= 125 || out.out() == "77\n1", "{out}");
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
        assert!(out.code >= 125 || (out.out().contains(" ro,") && !out.out().contains("WRITTEN")), "{out}");
    }
    canary.assert_untouched();
    assert_eq!(engine.sh(&[], "echo well"), "well");
}

/// Holds programs that it can open and tries to write to them later, when nobody runs them any more.
const WRITER: &str = r#"#!/bin/perl
my %held; while (1) { opendir(my $d, "/proc");
  for my $p (grep { /^\d+$/ } readdir $d) { my $name = readlink("/proc/$p/exe") // next; next if $name =~ m{^/bin/};
    open(my $f, '<', "/proc/$p/exe") or next; $held{$name} = $f; }
  for my $name (keys %held) { my $fd = fileno $held{$name};
    if (open(my $w, '>>', "/proc/self/fd/$fd")) { open(my $log, '>>', "/seen"); print $log "WRITTEN $name\n" } } }
"#;

/// Row 7: programs of the engine are the interpreter of the entry point, and are written to through `/proc`.
#[test]
fn row_7_no_loop_of_run_and_exec_changes_a_program() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let layer = Layer::new()
        .program("evil", "#!/proc/self/exe\n")
        .program("loop", WRITER)
        .symlink("lib/ld-hijacked.so", "/proc/self/exe")
        .symlink("self", "/proc/self/exe");
    engine.load(&Image::busybox("row7:1").layer(perl::layer()).layer(layer));
    let host = Host::new(&engine);
    for user_namespace in ["", "host"] {
        let flags = ["run", "-d", "--name", "writer", "--network", "none", "--userns", user_namespace];
        engine.tare([&flags[..], &["row7:1", "/loop"]].concat()).ok();
        let mut rounds = Rounds::new();
        while rounds.next() {
            for program in ["/evil", "/self", "true"] {
                engine.tare(["exec", "writer", program]).run();
            }
            engine.tare(["run", "--rm", "--network", "none", "row7:1", "/evil"]).run();
        }
        let seen = engine.tare(["exec", "writer", "sh", "-c", "grep WRITTEN /seen"]).run().out();
        assert_eq!(seen, "", "--userns {user_namespace:?}");
        engine.tare(["rm", "-f", "writer"]).ok();
        host.assert_unchanged();
    }
}

// === places and values ===

/// Row 3: every default mountpoint is a link to the canary, over a start, a stop and a start.
#[test]
fn row_3_mountpoints_that_are_links_lead_nowhere_at_any_start() {
    let points = [
        "dev",
        "dev/pts",
        "dev/shm",
        "dev/mqueue",
        "proc",
        "sys",
        "sys/fs/cgroup",
        "etc/hosts",
        "etc/resolv.conf",
        "etc/hostname",
    ];
    let engine = Engine::start();
    let canary = Canary::new(&engine.dir().join("canary"));
    for (number, point) in points.iter().flat_map(|point| [point; 2]).enumerate() {
        let image = format!("row3:{number}");
        engine.load(&Image::busybox(&image).layer(Layer::new().symlink(point, canary.str())));
        // With the host's user namespace as well, where that wall does not hide a hole in another.
        let user_namespace = ["", "host"][number % 2];
        let flags = ["create", "--name", "links", "--network", "none", "--userns", user_namespace];
        engine.tare([&flags[..], &[image.as_str(), "sleep", "1000"]].concat()).run();
        for _ in 0..2 {
            engine.tare(["start", "links"]).run();
            canary.assert_untouched();
            engine.tare(["stop", "-t", "0", "links"]).run();
            canary.assert_untouched();
        }
        engine.tare(["rm", "-f", "links"]).run();
    }
    assert_eq!(engine.sh(&[], "echo well"), "well");
}

/// Row 4: nothing is mounted over `/proc`, not by `-v`, not by the image.
#[test]
fn row_4_a_volume_never_covers_proc() {
    let engine = Engine::start();
    for place in ["/proc", "/proc/", "/proc/self/attr", "/x/../proc/sys"] {
        let bind = format!("named:{place}");
        assert!(engine.shell(&["-v", &bind], "true").run().code >= 125, "-v {place}");
        let volumes: Value = json!({place: {}});
        engine.load(&Image::busybox("row4:1").config("Volumes", volumes));
        let out = engine
            .tare(["run", "--rm", "--network", "none", "row4:1", "stat", "-f", "-c", "%T", "/proc/self/attr"])
            .run();
        assert!(out.code >= 125 || out.out() == "proc", "VOLUME {place}: {out}");
    }
    assert_eq!(engine.sh(&[], "echo well"), "well");
}

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

/// Row 13: more than 64 KiB of variables, arguments and mounts arrive as asked or are refused.
#[test]
fn row_13_a_large_request_arrives_whole_or_not_at_all() {
    let engine = Engine::start();
    let long = "x".repeat(70_000);
    let body = |host: Value| json!({"Image": BUSYBOX, "Cmd": ["sh", "-c", "echo ${#LONG} $(id -u); cat /proc/self/uid_map; grep -c m1 /proc/self/mountinfo"], "Env": [format!("LONG={long}")], "User": "1000", "HostConfig": host});
    let dir = engine.path("dir");
    fs::create_dir(&dir).unwrap();
    let binds: Vec<String> = (0..400).map(|n| format!("{dir}:/m1/{n:0200}")).collect();
    let host = json!({"NetworkMode": "none", "Binds": binds});
    let created = engine.post("/containers/create", &body(host));
    assert!(created.status == 201 || created.status == 400, "{}", created.text());
    if created.status == 201 {
        let id = created.json()["Id"].as_str().unwrap().to_owned();
        let out = engine.tare(["start", "-a", &id]).run();
        if out.code == 0 {
            let said = out.out();
            assert_eq!((lines(&said)[0], lines(&said).last().copied()), ("70000 1000", Some("400")), "{out}");
            assert!(!ours() || said.contains("65536"), "namespaces as asked: {out}");
        } else {
            assert!(out.code >= 1 && !out.err().is_empty(), "{out}");
        }
        engine.tare(["rm", "-f", &id]).ok();
    }
    assert_eq!(engine.sh(&[], "echo well"), "well");
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

/// Row 24: no file of the image that an engine of past years read for itself is read through a link.
#[test]
fn row_24_files_for_the_engine_are_not_read_through_links() {
    let engine = Engine::start();
    let canary = Canary::new(&engine.dir().join("canary"));
    let secret = format!("{}/secret", canary.str());
    let names = [
        ".krun_vm.json",
        "krun-sev.json",
        "run/.containerenv",
        ".dockerenv",
        ".dockerinit",
        "etc/passwd",
        "etc/group",
        "etc/os-release",
        "etc/localtime",
        "etc/ld.so.preload",
        "etc/nsswitch.conf",
        "etc/mtab",
        "etc/hosts",
    ];
    let layer = names.iter().fold(Layer::new(), |layer, name| layer.symlink(name, &secret));
    engine.load(&Image::busybox("row24:1").layer(layer));
    for flags in [&[][..], &["-u", "1000"], &["-u", "ann"], &["--group-add", "crew"], &["--init"]] {
        let script =
            ["row24:1", "sh", "-c", "cat /.krun_vm.json /etc/passwd /etc/hosts /run/.containerenv; id; env"];
        let out = engine.tare([&["run", "--rm", "--network", "none"], flags, &script].concat()).run();
        assert!(!format!("{out}").contains("the host's own secret"), "{flags:?}: {out}");
        canary.assert_untouched();
    }
    assert_eq!(engine.sh(&[], "echo well"), "well");
}

/// Row 28: the image's null device is a file of the host's; nobody opens, truncates or gives it away.
#[test]
fn row_28_the_images_null_device_is_left_alone() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let host = Host::new(&engine);
    let dev = engine.dir().join("dev");
    fs::create_dir(&dev).unwrap();
    let null = dev.join("null");
    fs::write(&null, "the host's\n").unwrap();
    let before = fs::metadata(&null).unwrap();
    let bind = format!("{}:/dev", dev.display());
    for flags in [&[][..], &["-i"], &["-u", "1000"], &["-d"]] {
        engine.shell(&[flags, &["-v", &bind]].concat(), "true").input("input").run();
    }
    engine.remove_containers();
    let after = fs::metadata(&null).unwrap();
    let of = |meta: &fs::Metadata| (meta.uid(), meta.gid(), meta.mode(), meta.mtime_nsec(), meta.len());
    assert_eq!(of(&before), of(&after));
    host.assert_unchanged();
    assert_eq!(engine.sh(&[], "echo well"), "well");
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
    engine.remove_containers();
    assert_eq!(engine.sh(&[], "echo well"), "well");
}

/// Rows 94 and 95: settings of the host, and values and names that hide a second one.
#[test]
fn rows_94_95_only_the_containers_own_settings_are_written() {
    let engine = Engine::start();
    let host = Host::new(&engine);
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

/// Row 137 by way of programs: `/sys/fs/cgroup` is read-only, hierarchies cannot be mounted.
#[test]
fn row_137_a_default_container_mounts_no_cgroups() {
    let engine = Engine::start();
    let script = "mkdir /m; mount -t cgroup -o memory none /m && echo MOUNTED; unshare -Ur true && echo UNSHARED; \
                  for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/evil && echo MADE $d; done; \
                  for f in /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs; do (: >> $f) && echo OPENED $f; done; true";
    assert_eq!(engine.shell(&[], script).run().out(), "");
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
    // A pipe whose buffers may be merged, a page of the file spliced into it, and a write behind.
    let poc = r#"for my $path ("/bound", "/layer") { pipe(my $r, my $w); syswrite($w, "x" x 65536); sysread($r, my $b, 65536);
        open(my $f, '<', $path) or die; my $o = pack("q", 0); syscall(SPLICE, fileno $f, $o, fileno $w, 0, 1, 0) == 1 or die; syswrite($w, "EVIL"); open(my $g, '<', $path); sysread($g, my $t, 8); print "$t\n" }"#;
    let poc = poc.replace("SPLICE", if cfg!(target_arch = "aarch64") { "76" } else { "275" });
    let bind = format!("{file}:/bound:ro");
    let out =
        engine.tare(["run", "--rm", "--network", "none", "-v", &bind, "row139:1", "perl", "-e", &poc]).ok();
    assert_eq!(out, "AAAAAAAA\nAAAAAAAA");
    assert_eq!(fs::read_to_string(&file).unwrap(), "A".repeat(4096));
    let again = engine
        .tare(["run", "--rm", "--network", "none", "row139:1", "sh", "-c", "tr -d A < /layer | wc -c"])
        .ok();
    assert_eq!(again, "0");
}

/// Row 6 with a thousand loops: a process with SYS_PTRACE attaches to whatever appears while the host enters.
#[test]
fn row_6_no_entering_process_can_be_attached_to() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    engine.load(&Image::busybox("row6:1").layer(perl::layer()));
    // PTRACE_SEIZE; what was attached while it is still the engine's would show a descriptor or program of the host.
    let watch = perl::prelude()
        + r#"print "ready\n"; while (1) { opendir(my $d, "/proc"); for my $p (grep { /^\d+$/ && $_ > 1 } readdir $d) {
        if (call("ptrace", 0x4206, $p + 0, 0, 0) == 0) { for my $l ("exe", "cwd", "root", map { "fd/$_" } 3..40) { my $t = readlink "/proc/$p/$l"; print "SEEN $p $l $t\n" if defined $t && $t =~ m{tare|memfd|/run/|/var/lib} } } } 1 while waitpid(-1, 0x40000001) > 0 }"#;
    // With the host's user namespace, whoever has SYS_PTRACE has rights over what enters.
    for user_namespace in ["", "host"] {
        let flags = ["run", "-d", "--name", "tracer", "--network", "none", "--cap-add", "SYS_PTRACE"];
        let flags = [&flags[..], &["--userns", user_namespace, "row6:1", "perl", "-e", &watch]].concat();
        engine.tare(flags).ok();
        engine.wait_for_log("tracer", "ready");
        let mut rounds = Rounds::new();
        while rounds.next() {
            engine.tare(["exec", "tracer", "true"]).run();
        }
        let log = engine.get("/containers/tracer/logs?stdout=1&stderr=1").text();
        assert!(!log.contains("SEEN"), "--userns {user_namespace:?}: {log}");
        engine.tare(["rm", "-f", "tracer"]).ok();
    }
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
    for user_namespace in ["", "host"] {
        let flags = ["run", "--rm", "--network", "none", "--userns", user_namespace, "-v", &bind];
        let inside = format!("{target}/mine");
        let out = engine.tare([&flags[..], &["row9:1", "cat", &inside]].concat()).run();
        assert!(out.code >= 125 || out.out() == "mine", "{out}");
        canary.assert_untouched();
    }
    assert_eq!(engine.sh(&[], "echo well"), "well");
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

/// Row 93: paths that were once forgotten show nothing, where the machine has them.
#[test]
fn row_93_paths_that_were_once_forgotten_show_nothing() {
    let engine = Engine::start();
    let script = "for p in /proc/acpi /proc/asound /proc/scsi /proc/kcore /proc/keys /proc/interrupts /proc/timer_list \
                  /proc/latency_stats /proc/sched_debug /sys/firmware /sys/devices/virtual/powercap \
                  /sys/devices/system/cpu/cpu*/thermal_throttle; do \
                  test -d $p && ls -A $p; test -f $p && echo FILE $p; test -c $p && head -c 1 $p; done; true";
    assert_eq!(engine.sh(&[], script), "");
}
