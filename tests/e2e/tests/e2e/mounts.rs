//! Mounts: binds, tmpfs, volumes of images.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tare_kit::engine::BUSYBOX;
use tare_kit::{Canary, Cmd, Engine, Image, Layer, wait};

use crate::ours;

#[test]
fn a_bind_is_the_hosts_directory() {
    let engine = Engine::start();
    let dir = engine.path("shared");
    fs::create_dir(&dir).unwrap();
    fs::write(format!("{dir}/in"), "from host\n").unwrap();
    assert_eq!(
        engine.sh(&["-v", &format!("{dir}:/data")], "cat /data/in; echo from container > /data/out"),
        "from host"
    );
    assert_eq!(fs::read_to_string(format!("{dir}/out")).unwrap(), "from container\n");
}

#[test]
fn a_read_only_bind_is_read_only_to_its_depth() {
    let engine = Engine::start();
    let dir = engine.path("ro");
    fs::create_dir(&dir).unwrap();
    for flags in [
        ["-v".to_string(), format!("{dir}:/data:ro")],
        ["--mount".into(), format!("type=bind,src={dir},dst=/data,readonly")],
    ] {
        let out = engine.shell(&[&flags[0], &flags[1]], "echo x > /data/x").run();
        assert_ne!(out.code, 0, "{flags:?}");
    }
    assert!(fs::read_dir(&dir).unwrap().next().is_none());
}

#[test]
fn a_file_can_be_bound() {
    let engine = Engine::start();
    let file = engine.path("file");
    fs::write(&file, "one file\n").unwrap();
    assert_eq!(engine.sh(&["-v", &format!("{file}:/etc/one:ro")], "cat /etc/one"), "one file");
}

#[test]
fn a_missing_source_is_made_for_v_and_refused_for_mount() {
    let engine = Engine::start();
    let dir = engine.path("made/by/v");
    engine.sh(&["-v", &format!("{dir}:/data")], "true");
    assert!(fs::metadata(&dir).unwrap().is_dir());
    let missing = engine.path("missing");
    let out = engine.shell(&["--mount", &format!("type=bind,src={missing},dst=/data")], "true").run();
    assert!(out.code >= 125 && out.err().contains("missing"), "{out}");
}

#[test]
fn a_relative_or_odd_mount_is_refused() {
    let engine = Engine::start();
    for (flag, value) in [
        ("-v", "/tmp:relative"),
        ("-v", "/tmp:/x:nosuchmode"),
        ("--mount", "type=nosuch,dst=/x"),
        ("--mount", "type=bind,dst=/x"),
        ("-v", "/tmp:/"),
    ] {
        let out = engine.shell(&[flag, value], "true").run();
        assert!(out.code >= 125, "{flag} {value}: {out}");
    }
}

#[test]
fn a_tmpfs_is_empty_writable_and_as_large_as_told() {
    let engine = Engine::start();
    let out = engine.sh(
        &["--tmpfs", "/t:size=1m,mode=700"],
        "stat -c %a /t; df -k /t | tail -1 | tr -s ' ' | cut -d' ' -f2; ls -A /t | wc -l",
    );
    assert_eq!(out, "700\n1024\n0");
    let out = engine.sh(
        &["--mount", "type=tmpfs,dst=/t,tmpfs-size=2097152"],
        "df -k /t | tail -1 | tr -s ' ' | cut -d' ' -f2",
    );
    assert_eq!(out, "2048");
}

#[test]
fn mounts_nest_in_the_right_order() {
    let engine = Engine::start();
    let outer = engine.path("outer");
    let inner = engine.path("inner");
    for dir in [&outer, &inner] {
        fs::create_dir(dir).unwrap();
    }
    fs::create_dir(format!("{outer}/deep")).unwrap();
    fs::write(format!("{inner}/f"), "inner\n").unwrap();
    let flags = ["-v", &format!("{inner}:/data/deep"), "-v", &format!("{outer}:/data")];
    assert_eq!(engine.sh(&flags, "cat /data/deep/f"), "inner");
}

#[test]
fn mounts_made_on_the_host_later_do_not_leak_in_and_none_leak_out() {
    let engine = Engine::start();
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
    engine.background(&["--name", "box-m", "--tmpfs", "/t"], "sleep 1000");
    if ours() {
        assert_eq!(
            fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count(),
            before,
            "mounts on the host"
        );
    }
}

#[test]
fn an_images_volume_holds_its_data_and_goes_with_the_container() {
    let engine = Engine::start();
    let layer = Layer::new().dir("vol", 0o755).file("vol/seed", "from image\n");
    engine.load(&Image::busybox("volume:1").layer(layer).config("Volumes", json!({"/vol": {}})));
    engine
        .tare([
            "run",
            "-d",
            "--name",
            "box-v",
            "--network",
            "none",
            "volume:1",
            "sh",
            "-c",
            "echo x > /vol/x; cat /vol/seed; sleep 1000",
        ])
        .ok();
    engine.wait_for_log("box-v", "from image");
    let mounts = engine.inspect("box-v")["Mounts"].clone();
    assert_eq!(
        (&mounts[0]["Type"], &mounts[0]["Destination"]),
        (&json!("volume"), &json!("/vol")),
        "{mounts}"
    );
    let source = mounts[0]["Source"].as_str().unwrap().to_string();
    if ours() {
        assert!(fs::exists(format!("{source}/x")).unwrap(), "{source}");
    }
    engine.tare(["restart", "-t", "0", "box-v"]).ok();
    assert_eq!(engine.tare(["exec", "box-v", "cat", "/vol/x"]).ok(), "x", "a volume outlives a restart");
    engine.tare(["rm", "-fv", "box-v"]).ok();
    assert!(!fs::exists(&source).unwrap(), "{source} is left");
}

#[test]
fn a_bind_takes_an_images_volumes_place() {
    let engine = Engine::start();
    engine.load(&Image::busybox("volume:2").config("Volumes", json!({"/vol": {}})));
    let dir = engine.path("mine");
    fs::create_dir(&dir).unwrap();
    let bind = format!("{dir}:/vol");
    engine
        .tare(["run", "--rm", "--network", "none", "-v", &bind, "volume:2", "sh", "-c", "echo x > /vol/x"])
        .ok();
    assert!(fs::exists(format!("{dir}/x")).unwrap());
}

#[test]
fn what_is_not_supported_yet_is_refused_by_the_fields_name() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let out = engine.shell(&["-v", "named:/data"], "true").run();
    assert!(out.code == 125 && out.err().contains("volume"), "{out}");
    let body = json!({"Image": BUSYBOX, "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}}});
    let answer = engine.post("/containers/create", &body);
    assert!(answer.status >= 400 && answer.text().contains("PortBindings"), "{}", answer.text());
}

/// Security rows 9, 12, 17: a mount's target never leads out of the container's root.
#[test]
fn targets_are_resolved_inside_the_root() {
    let engine = Engine::start();
    let canary = Canary::new(&engine.dir().join("canary"));
    let layer =
        Layer::new().symlink("abs", canary.str()).symlink("up", "../../../../../../..").dir("real", 0o755);
    engine.load(&Image::busybox("targets:1").layer(layer));
    for target in ["/abs", "/abs/new", &format!("/up{}", canary.str()), "/real/../../../../../abs/x"] {
        let mount = format!("type=tmpfs,dst={target}");
        engine.tare(["run", "--rm", "--network", "none", "--mount", &mount, "targets:1", "true"]).run();
        canary.assert_untouched();
    }
}

#[test]
fn a_bind_source_that_is_a_symlink_means_what_it_points_to() {
    let engine = Engine::start();
    let (real, link) = (engine.path("real"), engine.path("link"));
    fs::create_dir(&real).unwrap();
    fs::write(format!("{real}/f"), "real\n").unwrap();
    symlink(&real, &link).unwrap();
    assert_eq!(engine.sh(&["-v", &format!("{link}:/d")], "cat /d/f"), "real");
}

/// Security row 4.
#[test]
fn nothing_can_be_mounted_over_proc() {
    let engine = Engine::start();
    let dir = engine.path("evil");
    fs::create_dir(&dir).unwrap();
    for target in ["/proc", "/proc/self/attr", "/proc/sys"] {
        let out = engine.shell(&["-v", &format!("{dir}:{target}")], "true").run();
        assert!(out.code >= 125, "{target}: {out}");
    }
}

/// A mounted file system whose server answers nothing; dropping it fails all who wait.
struct Hung {
    place: String,
    server: Child,
}

// === impl Hung ===

impl Hung {
    fn mount(place: String) -> Hung {
        fs::create_dir(&place).unwrap();
        let script = format!(
            "exec 5<>/dev/fuse && mount -i -t fuse -o fd=5,rootmode=40000,user_id=0,group_id=0 none {place} && echo mounted \
             && read _"
        );
        let mut bash = Command::new("bash");
        bash.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = bash.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "mounted\n");
        Hung { place, server }
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        Cmd::new("umount").args(["-l", &self.place]).run();
    }
}

#[test]
fn a_file_system_whose_server_hangs_holds_up_only_who_asks_for_it() {
    if !ours() || !fs::exists("/dev/fuse").unwrap() {
        return;
    }
    let engine = Engine::start();
    let hung = Hung::mount(engine.path("hung"));
    // The mount itself the kernel knows; what is below it, the server does.
    let mount = format!("type=bind,source={}/below,target=/x", hung.place);
    let create = || engine.tare(["create", "--network", "none", "--mount", &mount, BUSYBOX, "true"]).spawn();
    let mut waiting: Vec<_> = (0..4).map(|_| create()).collect();
    wait::pause(Duration::from_millis(500));
    let mut other = engine.shell(&[], "echo runs").spawn();
    let ended = wait::until(wait::PATIENCE, || (!other.is_running()).then_some(()));
    assert!(waiting.iter_mut().all(tare_kit::cmd::Running::is_running), "they wait for the server");
    drop(hung);
    ended.expect("another container runs meanwhile");
    assert_eq!(other.wait().out(), "runs");
    for waited in waiting {
        let out = waited.wait();
        assert!(out.code != 0 && out.err().contains("stat("), "{out}");
    }
}
