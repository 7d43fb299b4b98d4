//! A user namespace for every container: ids that nobody else has, files that stay whose they are, and the ways out.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;

use serde_json::{Value, json};
use tare_kit::engine::BUSYBOX;
use tare_kit::{Engine, Image, Layer, Pty};

use crate::{lines, ours};

/// What `inspect` says of whose ids a container has.
fn shown(engine: &Engine, container: &str) -> Value {
    engine.inspect(container)["Tare"]["UserNamespace"].clone()
}

/// The first id of a container's own range.
fn first_id(engine: &Engine, container: &str) -> u64 {
    let shown = shown(engine, container);
    assert_eq!(shown["Mode"], json!("private"), "{shown}");
    shown["FirstId"].as_u64().unwrap()
}

/// Ids of a process in the host's eyes.
fn ids_of(pid: u32) -> BTreeSet<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let wanted = lines(&status).into_iter().filter(|l| l.starts_with("Uid:") || l.starts_with("Gid:"));
    wanted.flat_map(|l| l.split_whitespace().skip(1)).map(|id| id.parse().unwrap()).collect()
}

fn user_namespace(pid: impl std::fmt::Display) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/user")).unwrap()
}

/// The upper layer of a container on the host.
fn upper(engine: &Engine, container: &str) -> PathBuf {
    engine.inspect(container)["GraphDriver"]["Data"]["UpperDir"].as_str().unwrap().into()
}

fn owner(path: PathBuf) -> (u32, u32) {
    let data = fs::symlink_metadata(path).unwrap();
    (data.uid(), data.gid())
}

#[test]
fn every_container_has_ids_that_no_other_has() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let mut ranges = Vec::new();
    for name in ["one", "two", "three"] {
        engine.background(&["--name", name], "sleep 1000");
        let pid = engine.pid_of(name);
        let first = first_id(&engine, name);
        assert_eq!(ids_of(pid), BTreeSet::from([first]), "root is the first of its range");
        assert_ne!(user_namespace(pid), user_namespace("self"));
        assert!((0x7000_0000..0x7ffe_0000).contains(&first), "{first:#x}");
        ranges.push(first);
    }
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[1] - pair[0] >= 65_536), "{ranges:?}");
    let map = engine.sh(&[], "cat /proc/1/uid_map /proc/1/gid_map");
    assert!(lines(&map).iter().all(|l| l.split_whitespace().last() == Some("65536")), "{map}");
}

#[test]
fn two_engines_have_ids_of_their_own() {
    if !ours() {
        return;
    }
    let mut engines = [Engine::start(), Engine::start()];
    let claims = |root: PathBuf| -> Vec<u64> {
        let all: Value = serde_json::from_slice(&fs::read("/var/lib/tare-ids/claims").unwrap()).unwrap();
        let ours = all.as_array().unwrap().iter().filter(|claim| claim["root"] == json!(root));
        ours.map(|claim| claim["part"].as_u64().unwrap()).collect()
    };
    let parts = engines.each_ref().map(|engine| {
        engine.background(&["--name", "one"], "sleep 1000");
        let [part] = claims(engine.root())[..] else { panic!("one claim") };
        let slot = first_id(engine, "one") >> 16;
        assert!((part..part + 64).contains(&slot), "{part:#x}: {slot:#x}");
        part
    });
    assert_ne!(parts[0], parts[1]);
    engines[0].kill_daemon();
    engines[0].start_daemon();
    engines[0].background(&["--name", "two"], "sleep 1000");
    assert_eq!(claims(engines[0].root()), [parts[0]], "what was claimed is used on");
    engines[1].tare(["rm", "-f", "one"]).ok();
    engines[1].stop_daemon();
    assert_eq!(claims(engines[1].root()), Vec::<u64>::new(), "it has given back what nobody uses");
    assert_eq!(claims(engines[0].root()), [parts[0]]);
}

#[test]
fn a_file_on_disk_belongs_to_whom_it_belongs_inside() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let layer = Layer::new().dir("d", 0o755).file("d/f", "image");
    engine.load(&Image::busybox("owners:1").layer(layer));
    let script = "echo x > /etc/root; echo x > /etc/www; chown 33:34 /etc/www; rm /d/f && rmdir /d && mkdir /d && \
                  touch /d/new && ls -A /d && mknod /etc/pipe p && mkdir /etc/dir && chmod 2755 /etc/dir && \
                  cp /bin/busybox /etc/set && chmod 4755 /etc/set && stat -c %u:%g /etc/www";
    let flags = ["run", "--name", "owners", "--network", "none", "owners:1", "sh", "-c", script];
    assert_eq!(engine.tare(flags).ok(), "new\n33:34");
    let upper = upper(&engine, "owners");
    for (path, want) in [
        ("etc/root", (0, 0)),
        ("etc/www", (33, 34)),
        ("d", (0, 0)),
        ("d/new", (0, 0)),
        ("etc/pipe", (0, 0)),
        ("etc/set", (0, 0)),
    ] {
        assert_eq!(owner(upper.join(path)), want, "{path}");
    }
    assert_eq!(fs::metadata(upper.join("etc/set")).unwrap().mode() & 0o7777, 0o4755);
}

#[test]
fn restarts_and_a_killed_daemon_change_neither_ids_nor_data() {
    if !ours() {
        return;
    }
    let mut engine = Engine::start();
    engine.background(&["--name", "box"], "echo x >> /kept; chown 7:8 /kept; wc -l < /kept; sleep 1000");
    engine.background(&["--name", "rm", "--rm"], "sleep 1000");
    engine.wait_for_log("box", "1");
    let before = (first_id(&engine, "box"), first_id(&engine, "rm"));
    engine.tare(["restart", "-t", "0", "box"]).ok();
    engine.wait_for_log("box", "2");
    engine.kill_daemon();
    engine.start_daemon();
    assert_eq!((first_id(&engine, "box"), first_id(&engine, "rm")), before);
    assert_eq!(ids_of(engine.pid_of("box")), BTreeSet::from([before.0]));
    engine.background(&["--name", "new"], "sleep 1000");
    let new = first_id(&engine, "new");
    assert!([before.0, before.1].iter().all(|other| other.abs_diff(new) >= 65_536), "{new} {before:?}");
    engine.tare(["restart", "-t", "0", "box"]).ok();
    engine.wait_for_log("box", "3");
    assert_eq!(owner(upper(&engine, "box").join("kept")), (7, 8));
    assert_eq!(engine.tare(["exec", "box", "stat", "-c", "%u:%g", "/kept"]).ok(), "7:8");
}

/// 4,094 ranges are there below 2^31: were any kept, the engine would have to go beyond.
#[test]
fn ranges_are_freed_with_their_containers() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let body =
        json!({"Image": BUSYBOX, "Cmd": ["true"], "User": "100000", "HostConfig": {"AutoRemove": true}});
    // Two blocks each: what is kept by one in forty shows.
    for _ in 0..200 {
        let id = engine.post("/containers/create", &body).expect(201)["Id"].as_str().unwrap().to_owned();
        let first = first_id(&engine, &id);
        assert!((0x7000_0000..0x7ffe_0000).contains(&first), "{first:#x}");
        assert_eq!(engine.request("DELETE", &format!("/containers/{id}"), None).status, 204);
    }
    // One that could not be created keeps nothing either.
    let bad = json!({"Image": BUSYBOX, "Cmd": ["true"], "HostConfig": {"Binds": ["/no/such:/x:nonsense"]}});
    assert!(engine.post("/containers/create", &bad).status >= 400);
}

#[test]
fn a_bind_is_the_hosts_with_the_hosts_owners() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let dir = engine.path("shared");
    fs::create_dir(&dir).unwrap();
    let at = |name: &str| PathBuf::from(format!("{dir}/{name}"));
    fs::write(at("secret"), "for root\n").unwrap();
    fs::set_permissions(at("secret"), PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(at("www"), "for www\n").unwrap();
    chown(at("www"), Some(33), Some(33)).unwrap();
    fs::set_permissions(at("www"), PermissionsExt::from_mode(0o600)).unwrap();
    let bind = format!("{dir}:/data");
    let script = "cat /data/secret; stat -c %u /data/www; echo x > /data/new; chown 5:6 /data/new";
    assert_eq!(engine.sh(&["-v", &bind], script), "for root\n33");
    assert_eq!(owner(at("new")), (5, 6));
    assert_eq!(
        engine.sh(&["-v", &bind, "-u", "33"], "cat /data/www; echo y > /data/y 2>/dev/null || echo no"),
        "for www\nno"
    );
    let out = engine
        .sh(&["-v", "/proc:/host/proc:ro", "-v", "/sys:/host/sys:ro"], "stat -c %u /host/proc /host/sys");
    assert_eq!(out, "65534\n65534", "what only the kernel fills is nobody's");
    // Without being bound there is no way to it, whatever the container may do.
    let pid = std::process::id();
    let script =
        format!("cat /proc/{pid}/root{dir}/secret /proc/1/root{dir}/secret {dir}/secret 2>/dev/null; true");
    assert_eq!(engine.sh(&["--cap-add", "ALL", "--security-opt", "seccomp=unconfined"], &script), "");
}

#[test]
fn a_volume_of_the_image_keeps_its_owners() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let layer = Layer::new().dir("vol", 0o755).file("vol/seed", "x");
    engine.load(&Image::busybox("volume:1").layer(layer).config("Volumes", json!({"/vol": {}})));
    let script = "stat -c %u /vol/seed; echo x > /vol/a; chown 9:9 /vol/a";
    let out = engine.tare(["run", "--name", "vol", "--network", "none", "volume:1", "sh", "-c", script]).ok();
    assert_eq!(out, "0");
    let source = engine.inspect("vol")["Mounts"][0]["Source"].as_str().unwrap().to_owned();
    assert_eq!(owner(format!("{source}/a").into()), (9, 9));
    engine.tare(["rm", "-v", "vol"]).ok();
}

#[test]
fn every_way_out_is_asked_for_and_its_reason_is_shown() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    for (flag, reason) in [
        ("--userns=host", "--userns=host"),
        ("--privileged", "--privileged"),
        ("--network=host", "--network=host"),
        ("--pid=host", "--pid=host"),
    ] {
        let run = ["run", "-d", "--name", "out", flag, BUSYBOX, "sleep", "1000"];
        engine.tare(run).ok();
        assert_eq!(user_namespace(engine.pid_of("out")), user_namespace("self"), "{flag}");
        let shown = shown(&engine, "out");
        assert_eq!((&shown["Mode"], &shown["Reason"]), (&json!("host"), &json!(reason)));
        assert_eq!(engine.inspect("out")["HostConfig"]["UsernsMode"], json!("host"));
        engine.tare(["rm", "-f", "out"]).ok();
    }
    for flag in ["--ipc=host", "--uts=host", "--cgroupns=host", "--cap-add=ALL", "--init", "--read-only"] {
        let run = ["run", "-d", "--name", "in", "--network=none", flag, BUSYBOX, "sleep", "1000"];
        engine.tare(run).ok();
        assert_ne!(user_namespace(engine.pid_of("in")), user_namespace("self"), "{flag}");
        assert_eq!(engine.inspect("in")["HostConfig"]["UsernsMode"], json!(""));
        engine.tare(["rm", "-f", "in"]).ok();
    }
}

#[test]
fn whoever_joins_a_container_has_its_ids() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    engine.background(&["--name", "own", "--ipc", "shareable"], "sleep 1000");
    engine.background(&["--name", "open", "--ipc", "shareable", "--userns", "host"], "sleep 1000");
    let first = first_id(&engine, "own");
    for kind in ["pid", "ipc"] {
        engine
            .background(&["--name", "joins", &format!("--{kind}"), "container:own"], "touch /f; sleep 1000");
        let pid = engine.pid_of("joins");
        assert_eq!(user_namespace(pid), user_namespace(engine.pid_of("own")), "{kind}");
        assert_eq!(ids_of(pid), BTreeSet::from([first]));
        let shown = shown(&engine, "joins");
        assert_eq!((&shown["Mode"], &shown["FirstId"]), (&json!("container"), &json!(first)), "{shown}");
        assert_eq!(engine.tare(["exec", "joins", "stat", "-c", "%u", "/f"]).ok(), "0");
        engine.tare(["rm", "-f", "joins"]).ok();
        engine.background(&["--name", "joins", &format!("--{kind}"), "container:open"], "sleep 1000");
        assert_eq!(user_namespace(engine.pid_of("joins")), user_namespace("self"), "{kind}");
        assert!(shown_reason(&engine, "joins").contains("container:open"));
        engine.tare(["rm", "-f", "joins"]).ok();
        for contradiction in ["--userns=host", "--privileged"] {
            let out = engine.shell(&[&format!("--{kind}"), "container:own", contradiction], "true").run();
            assert!(out.code == 125 && out.err().contains(contradiction), "{out}");
        }
    }
    let out = engine.shell(&["--pid", "container:own", "--ipc", "container:open"], "true").run();
    assert!(out.code == 125 && out.err().contains("different user namespaces"), "{out}");
    // The range is whoever's is left.
    engine.background(&["--name", "last", "--ipc", "container:own"], "sleep 1000");
    engine.tare(["rm", "-f", "own"]).ok();
    engine.background(&["--name", "other"], "sleep 1000");
    assert_ne!(first_id(&engine, "other"), first);
    assert_eq!(ids_of(engine.pid_of("last")), BTreeSet::from([first]));
}

fn shown_reason(engine: &Engine, container: &str) -> String {
    shown(engine, container)["Reason"].as_str().unwrap().to_owned()
}

#[test]
fn ids_above_65535_are_mapped_when_they_are_named() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let flags = ["-u", "100000:200000", "--group-add", "300000"];
    assert_eq!(engine.sh(&flags, "id -u; id -g; id -G"), "100000\n200000\n200000 300000");
    let groups = engine.sh(&flags, "cat /proc/sys/net/ipv4/ping_group_range");
    assert_eq!(groups.split_whitespace().collect::<Vec<_>>(), ["0", "300000"]);
    engine.load(&Image::busybox("large:1").config("User", json!("70000")));
    assert_eq!(engine.sh_in("large:1", "id -u"), "70000");
    let names = Layer::new()
        .file("etc/passwd", "root:x:0:0::/:/bin/sh\nbig:x:70001:70002::/:/bin/sh\n")
        .file("etc/group", "root:x:0:\nbig:x:70002:\nextra:x:70003:big\nmore:x:70004:\n");
    engine.load(&Image::busybox("named:1").layer(names).config("User", json!("big")));
    assert_eq!(engine.sh_in("named:1", "id -u; id -g; id -G"), "70001\n70002\n70002 70003");
    let flags = ["-u", "0:more", "--group-add", "extra"];
    let run = [&["run", "--rm", "--network", "none"], &flags[..], &["named:1", "id", "-G"]].concat();
    assert_eq!(engine.tare(run).ok(), "70004 70003");
    let groups = engine.sh(&[], "cat /proc/sys/net/ipv4/ping_group_range");
    assert_eq!(groups.split_whitespace().collect::<Vec<_>>(), ["0", "65535"]);
    let out = engine.shell(&["--name", "ex", "-d"], "sleep 1000").run();
    assert_eq!(out.code, 0, "{out}");
    let out = engine.tare(["exec", "-u", "100000", "ex", "true"]).run();
    assert!(out.code != 0 && out.err().contains("100000"), "{out}");
}

#[test]
fn all_capabilities_reach_nothing_of_the_host() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let before = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let everything = [
        "--cap-add",
        "ALL",
        "--security-opt",
        "seccomp=unconfined",
        "--security-opt",
        "systempaths=unconfined",
    ];
    for attempt in [
        "echo '|/evil' > /proc/sys/kernel/core_pattern",
        "echo b > /proc/sysrq-trigger",
        "mknod /tmp/vda b 254 0",
        "mount -t devtmpfs none /tmp && ls /tmp/vda",
        "mount -o remount,rw /sys && echo 0 > /sys/kernel/mm/ksm/run",
        "date -s 2000-01-01 > /dev/null; test $(date +%Y) = 2000",
        "dmesg -c",
        "swapoff -a && swapon /etc/passwd",
        "insmod /etc/passwd",
        "chroot /proc/1/root/../../.. ls /var/lib/tare",
        "mount -t cgroup -o memory none /tmp && echo 1 > /tmp/memory.limit_in_bytes",
    ] {
        let out = engine.shell(&everything, &format!("{attempt} 2>/dev/null && echo DONE")).run();
        assert!(!out.out().contains("DONE"), "{attempt}: {out}");
    }
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), hostname);
    // Inside it is root all the same.
    let inside = "hostname changed && hostname && mount -t tmpfs none /tmp && touch /tmp/x && ls /tmp && ip link set lo down && echo ok";
    assert_eq!(engine.sh(&everything, inside), "changed\nx\nok");
}

#[test]
fn terminals_init_and_read_only_roots_work() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let out = engine.sh(
        &["--init", "--read-only", "--tmpfs", "/t:uid=33,mode=700"],
        "stat -c %u /t; cat /proc/1/comm; echo x > /x 2>/dev/null || echo ro",
    );
    assert_eq!(out, "33\ndocker-init\nro");
    let pty = Pty::spawn(engine.tare([
        "run",
        "--rm",
        "-it",
        "--network",
        "none",
        "-u",
        "33",
        BUSYBOX,
        "sh",
        "-c",
        "stat -c '%u %t' $(tty); echo y > /dev/tty; echo end",
    ]));
    let (_, said) = pty.wait();
    assert!(said.contains("33 88") && said.contains("y") && said.contains("end"), "{said}");
    let out = engine.sh(&[], "stat -c '%u:%g %a' /dev/null /dev/pts/ptmx /dev/shm /etc/hosts /etc/resolv.conf; echo x >> /etc/hosts && tail -1 /etc/hosts; df /dev/mqueue | tail -1 | cut -d' ' -f1");
    assert_eq!(out, "0:0 666\n0:0 666\n0:0 1777\n0:0 644\n0:0 644\nx\nmqueue");
}
