//! Hostile images and requests: the rows of the security file that the first container answers for, by number.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

use serde_json::json;
use tare_kit::image::{Entry, PATH, busybox_layer, object};
use tare_kit::{Canary, Cmd, Engine, Image, Layer, Pty};

use crate::trap::Real::{Dir, File};
use crate::trap::{Trap, USER_NAMESPACES};
use crate::{lines, ours, trap};

/// Starts an engine with an image of busybox and one layer more, made for a canary's path.
fn with_image(name: &str, make: impl FnOnce(&str, Layer) -> Layer) -> (Engine, Canary) {
    let engine = Engine::start();
    let canary = Canary::new(&engine.dir().join("canary"));
    engine.load(&Image::busybox(name).layer(make(canary.str(), Layer::new())));
    (engine, canary)
}

fn run(engine: &Engine, flags: &[&str], image: &str, script: &str) -> tare_kit::Output {
    trap::run(engine, flags, image, script).run()
}

/// The image with and without a terminal, in both user namespaces; its twin runs in all of these ways. What the image
/// puts into `/dev` is hidden, so that it has to run as well unless it `may_refuse`.
fn run_all_ways(trap: &Trap, may_refuse: bool) {
    for user_namespace in USER_NAMESPACES {
        for terminal in [&[][..], &["-t"]] {
            let flags = [terminal, &["--userns", user_namespace]].concat();
            assert_eq!(trap.run_twin(&flags, "echo well").trim(), "well");
            let out = trap.run(&flags, "echo well");
            trap.canary.assert_untouched();
            assert!(out.out().trim() == "well" || may_refuse || !ours(), "{out}");
        }
        for image in [trap.image(), &trap.twin()] {
            let flags = ["run", "--rm", "-it", "--network", "none", "--userns", user_namespace];
            let mut pty = Pty::spawn(trap.engine.tare([&flags[..], &[image, "echo", "well"]].concat()));
            let ended = tare_kit::wait::until(Duration::from_secs(10), || (!pty.is_running()).then_some(()));
            trap.canary.assert_untouched();
            assert!(ended.is_some(), "{image} does not end");
            let (code, seen) = pty.wait();
            let must_run = image != trap.image() || (ours() && !may_refuse);
            assert!(!must_run || (code == 0 && seen.contains("well")), "{image}: {code} {seen}");
        }
    }
    assert_eq!(trap.engine.sh(&[], "echo well"), "well");
}

#[test]
fn row_2_device_symlinks_of_an_image_lead_nowhere() {
    let links = [("dev/console", File, "console"), ("dev/stdout", File, "stdout"), ("dev/pts", Dir, "sub")];
    run_all_ways(&Trap::new("row2:1", &links), false);
}

#[test]
fn row_3_default_mountpoints_that_are_symlinks_lead_nowhere() {
    for point in ["proc", "sys", "dev", "etc"] {
        // To what is there, and to what would have to be made.
        let trap = Trap::new("row3:1", &[(point, Dir, "")]);
        for target in ["", "made"] {
            trap.set(&[(point, Dir, target)]);
            for flags in USER_NAMESPACES.map(|name| ["--userns", name]) {
                trap.run(&flags, "true");
                trap.canary.assert_untouched();
                assert_eq!(trap.run_twin(&flags, "echo well"), "well");
            }
        }
    }
}

#[test]
fn row_7_the_programs_of_the_engine_cannot_be_written_from_inside() {
    if !ours() {
        return;
    }
    let (engine, _canary) = with_image("row7:1", |_, layer| layer.program("evil", "#!/proc/self/exe\n"));
    let hash = |name: &str| fs::read(tare_kit::engine::program(name)).unwrap();
    let before: Vec<_> = ["tare-shim", "tared"].map(hash).into();
    let writer = "while :; do for p in /proc/[0-9]*; do (: >> $p/exe) 2>/dev/null; done; done";
    engine.tare(["run", "-d", "--name", "box-w", "--network", "none", "row7:1", "sh", "-c", writer]).ok();
    for _ in 0..10 {
        engine.tare(["exec", "box-w", "/evil"]).run();
        engine.tare(["exec", "box-w", "true"]).ok();
        run(
            &engine,
            &["--pid", "container:box-w"],
            "row7:1",
            "for p in /proc/[0-9]*; do (: >> $p/exe) 2>/dev/null; done",
        );
    }
    assert!(before == ["tare-shim", "tared"].map(hash), "a program of the engine was changed");
}

#[test]
fn row_16_no_descriptor_of_the_host_is_open_inside() {
    let engine = Engine::start();
    // `ls` itself holds one more: the directory that it lists.
    let out = engine.sh(
        &[],
        "ls -l /proc/self/fd | grep -e '->' | grep -Ev 'pipe:|socket:|/dev/null|/proc/[0-9]+/fd' || true",
    );
    assert_eq!(out, "");
    engine.background(&["--name", "fds"], "exec sleep 1000");
    let count = |pid: u32| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    assert_eq!(count(engine.pid_of("fds")), 3, "standard streams and nothing else");
    let out = engine.tare(["exec", "fds", "sh", "-c", "ls /proc/self/fd | wc -l"]).ok();
    assert_eq!(out.trim(), "4", "exec: streams and the listing itself");
}

#[test]
fn row_16_a_working_directory_in_proc_leads_nowhere() {
    let (engine, canary) = with_image("row16:1", |_, layer| {
        layer.symlink("link", "/proc/self/fd/7").symlink("harmless", "/home/ann")
    });
    // From any directory of the host's it is up and down again.
    let secret = format!("../../../../../../../..{}/secret", canary.str());
    let outside = Cmd::new("sh").args(["-c", &format!("cd /sys/fs/cgroup && cat {secret}")]).ok();
    assert_eq!(outside, "the host's own secret");
    for user_namespace in USER_NAMESPACES {
        let host = ["--userns", user_namespace];
        engine.background(&[&host[..], &["--name", "box-c"]].concat(), "sleep 1000");
        let enter = |dir: &str| {
            let script = format!("pwd; cat {secret}");
            [
                run(&engine, &[&host[..], &["-w", dir]].concat(), "row16:1", &script),
                engine.tare(["exec", "-w", dir, "box-c", "sh", "-c", &script]).run(),
            ]
        };
        for out in enter("/home/ann") {
            assert_eq!(out.out(), "/home/ann", "{out}");
        }
        let [out, _] = enter("/harmless");
        assert_eq!(out.out(), "/home/ann", "{out}");
        let descriptors = (3..31).map(|fd| format!("/proc/self/fd/{fd}"));
        for dir in descriptors.chain(["/link".to_owned()]) {
            for out in enter(&dir) {
                assert!(!out.out().contains("secret"), "{dir}: {out}");
                assert!(out.out().is_empty() || !ours(), "{dir}: {out}");
            }
        }
        canary.assert_untouched();
        engine.tare(["rm", "-f", "box-c"]).ok();
    }
}

#[test]
fn row_18_a_swapped_null_device_unmasks_nothing() {
    // The target is the container's own, so that an attack which succeeds does no harm.
    let (engine, canary) = with_image("row18:1", |_, layer| {
        layer.dir("dev", 0o755).symlink("dev/null", "/proc/sys/kernel/hostname")
    });
    engine.load(&Image::busybox("row18:2").layer(Layer::new().dir("dev", 0o755).file("dev/null", "")));
    let script = "for f in kcore keys timer_list; do echo evil > /proc/$f; done 2>/dev/null; hostname; \
                  for f in kcore keys timer_list; do test -e /proc/$f && stat -c '%t:%T' /proc/$f; done; true";
    let good = |out: &str| {
        let lines = lines(out);
        lines.len() > 1 && lines[0] == "box" && lines[1..].iter().all(|line| *line == "1:3")
    };
    for image in ["row18:1", "row18:2", "row18:1"] {
        let out = run(&engine, &["--hostname", "box"], image, script);
        let refused = out.code >= 125 && image == "row18:1" && !ours();
        assert!(refused || good(&out.out()), "{image}: {out}");
    }
    canary.assert_untouched();
}

#[test]
fn row_21_proc_and_sys_of_an_image_may_not_be_symlinks_out() {
    for (point, target) in [("proc", "sub"), ("sys", "sub"), ("proc", ""), ("sys", "")] {
        let trap = Trap::new("row21:1", &[(point, Dir, target)]);
        let script = format!("ls /{point}; echo ran");
        for flags in USER_NAMESPACES.map(|name| ["--userns", name]) {
            let out = trap.run(&flags, &script);
            assert!(out.code >= 125 || !out.out().contains("secret") && !out.out().contains("deep"), "{out}");
            assert!(out.code >= 125 || !ours(), "{out}");
            trap.canary.assert_untouched();
            assert!(trap.run_twin(&flags, &script).ends_with("ran"));
        }
    }
}

#[test]
fn row_26_a_dev_that_is_a_symlink_is_not_followed() {
    for target in ["", "made"] {
        run_all_ways(&Trap::new("row26:1", &[("dev", Dir, target)]), true);
    }
}

#[test]
fn row_27_a_console_that_is_a_symlink_is_not_created_outside() {
    let links = [("dev/console", File, "new"), ("dev/ptmx", File, "ptmx")];
    run_all_ways(&Trap::new("row27:1", &links), false);
}

#[test]
fn row_70_an_images_volume_copies_only_from_the_image() {
    let engine = Engine::start();
    let canary = Canary::new(&engine.dir().join("canary"));
    let climb = format!("/../../../../../../../../..{}", canary.str());
    let layer = Layer::new().symlink("through", canary.str()).file("plain/file", "the image's own\n");
    let volumes = json!({climb.clone(): {}, "/through": {}, "/plain": {}});
    engine.load(&Image::busybox("row70:1").layer(layer).config("Volumes", volumes));
    let script = format!("cat /plain/file {climb}/secret {}/secret /through/secret", canary.str());
    let out = run(&engine, &[], "row70:1", &script);
    assert!(!out.out().contains("the host's own secret"), "{out}");
    assert!(out.out() == "the image's own" || !ours(), "{out}");
    let plain = Image::busybox("row70:2").layer(Layer::new().file("plain/file", "the image's own\n"));
    engine.load(&plain.config("Volumes", json!({"/plain": {}})));
    assert_eq!(run(&engine, &[], "row70:2", "cat /plain/file").ok(), "the image's own");
    canary.assert_untouched();
}

#[test]
fn row_73_files_that_the_engine_writes_do_not_follow_the_images_links() {
    let places: Vec<String> =
        ["resolv.conf", "hosts", "hostname", "mtab"].iter().map(|name| format!("etc/{name}")).collect();
    let files: Vec<_> = places.iter().map(|place| (place.as_str(), File, "secret")).collect();
    let missing: Vec<_> = places.iter().map(|place| (place.as_str(), File, "made")).collect();
    for links in [&files[..], &missing, &[("etc", Dir, "")], &[("etc", Dir, "made")]] {
        let trap = Trap::new("row73:1", links);
        for flags in USER_NAMESPACES.map(|name| ["--userns", name]) {
            let script = "echo x >> /etc/hosts; cat /etc/hosts";
            let out = trap.run(&flags, script);
            trap.canary.assert_untouched();
            assert!(!out.out().contains("secret"), "{out}");
            assert!(trap.run_twin(&flags, script).ends_with('x'));
        }
    }
}

#[test]
fn row_74_an_odd_passwd_file_is_refused_in_time() {
    type Make = fn(Layer, &str) -> Layer;
    let odd: [(&str, Make); 5] = [
        ("link", |layer, canary| layer.symlink("etc/passwd", &format!("{canary}/secret"))),
        ("fifo", |layer, _| layer.entry(&Entry { name: "etc/passwd", kind: b'6', ..Entry::default() })),
        ("dir", |layer, _| layer.file("etc/.wh.passwd", "").dir("etc/passwd", 0o755)),
        ("zero", |layer, _| {
            layer.entry(&Entry { name: "etc/passwd", kind: b'3', device: (1, 5), ..Entry::default() })
        }),
        ("loop", |layer, _| layer.symlink("etc/passwd", "passwd")),
    ];
    for (name, make) in odd {
        // A FIFO there hangs the reference for good.
        if name == "fifo" && !ours() {
            continue;
        }
        let mut engine = Engine::start();
        let canary = Canary::new(&engine.dir().join("canary"));
        fs::write(canary.path().parent().unwrap().join("fifo-guard"), "").unwrap();
        engine.load(&Image::busybox("row74:1").layer(make(Layer::new(), canary.str())));
        engine.load(&Image::busybox("row74:2"));
        assert_eq!(run(&engine, &["-u", "ann"], "row74:2", "id -u").ok(), "1000");
        let begun = Instant::now();
        let out = run(&engine, &["-u", "ann"], "row74:1", "id -u");
        assert!(out.code >= 125, "{name}: {out}");
        if ours() {
            assert!(begun.elapsed() < Duration::from_secs(5), "{name} took {:?}", begun.elapsed());
            assert!(engine.daemon_is_alive());
        }
        canary.assert_untouched();
        assert_eq!(engine.sh(&[], "echo well"), "well", "after {name}");
    }
}

#[test]
fn row_75_a_huge_group_file_does_not_fill_memory() {
    if !ours() {
        return;
    }
    let mut engine = Engine::start();
    let mut group = vec![b'g'; 64 << 20];
    group.extend_from_slice(b":x:99:ann\n");
    engine.load(&Image::busybox("row75:1").layer(Layer::new().file("etc/group", group)));
    let small = Layer::new().file("etc/group", "g:x:99:ann\n");
    engine.load(&Image::busybox("row75:2").layer(small));
    assert_eq!(run(&engine, &["-u", "ann"], "row75:2", "id -G").ok(), "1000 99");
    let begun = Instant::now();
    let out = run(&engine, &["-u", "ann"], "row75:1", "id -G");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?} {out}", begun.elapsed());
    let status = fs::read_to_string(format!("/proc/{}/status", engine.daemon_pid())).unwrap();
    let rss = lines(&status).iter().find_map(|l| l.strip_prefix("VmRSS:")).unwrap().trim().to_string();
    let kib: u64 = rss.split(' ').next().unwrap().parse().unwrap();
    assert!(kib < 200_000 && engine.daemon_is_alive(), "the daemon holds {rss}");
}

#[test]
fn row_76_strings_with_line_ends_reach_no_file() {
    let engine = Engine::start();
    let evil = "/x\nroot2::0:0::/:/bin/sh";
    let out = engine.shell(&["-e", &format!("HOME={evil}"), "-u", "1000"], "cat /etc/passwd").run();
    assert!(!out.out().contains("root2::"), "{out}");
    assert!(out.out().contains("ann:") || !ours(), "{out}");
    assert!(engine.sh(&["--hostname", "ab"], "cat /etc/hosts").contains("ab"));
    for hostname in ["a\nb", "a b", "a\n127.0.0.1 evil"] {
        let out = engine.shell(&["--hostname", hostname], "cat /etc/hosts").run();
        assert!(out.code != 0 || !lines(&out.out()).iter().any(|l| l.starts_with("127.0.0.1 evil")), "{out}");
    }
    let body = json!({"Image": tare_kit::engine::BUSYBOX, "Cmd": ["true"], "Env": ["A=x\u{0}y"], "HostConfig": {"NetworkMode": "none"}});
    let created = engine.post("/containers/create", &body);
    if created.status == 201 {
        let id = created.json()["Id"].as_str().unwrap().to_string();
        assert!(engine.post(&format!("/containers/{id}/start"), &json!(null)).status >= 400);
    }
    assert_eq!(engine.sh(&[], "echo well"), "well");
}

#[test]
fn row_77_a_working_directory_is_made_inside_only() {
    let trap = Trap::new("row77:1", &[("l", Dir, "")]);
    for (image, runs) in [(trap.image().to_owned(), false), (trap.twin(), true)] {
        for flags in USER_NAMESPACES.map(|name| ["--userns", name, "-w", "/l/made"]) {
            let out = run(&trap.engine, &flags, &image, "pwd");
            trap.canary.assert_untouched();
            assert!(!runs || out.out() == "/l/made", "{out}");
        }
    }
    let layer = Layer::new().symlink("l", trap.canary.str()).dir("d", 0o755);
    for (name, dir, runs) in [("row77:2", "/l/x/y", false), ("row77:3", "/d/x/y", true)] {
        trap.engine.load(&Image::busybox(name).layer(layer.clone()).config("WorkingDir", json!(dir)));
        for flags in USER_NAMESPACES.map(|name| ["--userns", name]) {
            let out = run(&trap.engine, &flags, name, "pwd");
            trap.canary.assert_untouched();
            assert!(!runs || out.out() == dir, "{out}");
        }
    }
}

#[test]
fn row_78_an_images_environment_imports_nothing() {
    let engine = Engine::empty();
    let names = json!([PATH, "AWS*", "*", "TARE_SECRET", "X*", "PLAIN=1"]);
    engine.load(&Image::busybox("row78:1").config("Env", names));
    let out = engine
        .tare(["run", "--rm", "--network", "none", "row78:1", "env"])
        .env("AWS_KEY", "stolen")
        .env("TARE_SECRET", "stolen")
        .env("X1", "stolen")
        .ok();
    assert!(!out.contains("stolen") && out.contains("PLAIN=1"), "{out}");
    let daemon = engine.sh_in("row78:1", "env");
    assert!(
        !daemon.contains("CARGO") && !daemon.contains("INVOCATION_ID"),
        "the engine's environment shows: {daemon}"
    );
}

/// What `/proc` says of a container's first process that its image must not be able to change.
fn posture(engine: &Engine, image: &str) -> String {
    posture_with(engine, &[], image)
}

fn posture_with(engine: &Engine, flags: &[&str], image: &str) -> String {
    let script = "grep -E 'Cap|Seccomp:|NoNewPrivs|Uid|Gid|Groups' /proc/self/status; ls /dev | tr '\\n' ' '; ulimit -a; \
                  cut -d' ' -f4- /proc/self/mountinfo | sed -E 's/[0-9a-f]{12,}/ID/g; s/[^ ]*(lowerdir|upperdir)[^ ]*//g' | wc -l; \
                  cat /proc/self/oom_score_adj /proc/1/comm; sed 's/[0-9a-f]\\{12,\\}/ID/g' /proc/self/cgroup";
    run(engine, flags, image, script).ok()
}

#[test]
fn rows_79_80_labels_and_annotations_of_an_image_change_nothing() {
    let engine = Engine::start();
    let labels = object(&[
        ("io.podman.annotations.autoremove", "TRUE"),
        ("io.podman.annotations.privileged", "TRUE"),
        ("io.podman.annotations.checkpoint", "/x"),
        ("run.oci.keep_original_groups", "1"),
        ("run.oci.hooks.stderr", "/tmp/x"),
        ("run.oci.handler", "krun"),
        ("org.systemd.property.MemoryMax", "1"),
        ("io.kubernetes.cri-o.userns-mode", "auto"),
        ("io.containerd.runc.v2.group", "x"),
        ("com.docker.security.seccomp", "unconfined"),
        ("io.tare.privileged", "true"),
        ("tare.rootfs", "/"),
        ("tare.host", "true"),
        ("tare.rm", "true"),
        ("dev.tare.image", "host:full"),
    ]);
    engine.load(&Image::busybox("plain:1"));
    engine.load(&Image::busybox("labelled:1").config("Labels", labels));
    assert_eq!(posture(&engine, "labelled:1"), posture(&engine, "plain:1"));
}

/// Row 90: security options stored in an image are not read, wherever in the document they stand.
#[test]
fn row_90_security_fields_in_an_image_change_nothing() {
    let engine = Engine::start();
    engine.load(&Image::busybox("plain:1"));
    let plain = posture(&engine, "plain:1");
    for (number, (field, value, flags)) in [
        ("Privileged", json!(true), ["--privileged"].as_slice()),
        ("CapAdd", json!(["ALL"]), &["--cap-add", "ALL"]),
        ("SecurityOpt", json!(["seccomp=unconfined"]), &["--security-opt", "seccomp=unconfined"]),
        ("PidMode", json!("host"), &["--pid", "host"]),
    ]
    .into_iter()
    .enumerate()
    {
        // What the image asks for would show.
        assert_ne!(posture_with(&engine, flags, "plain:1"), plain, "{flags:?}");
        let host = json!({field: value.clone()});
        let (direct, below) = (format!("direct{number}:1"), format!("below{number}:1"));
        engine.load(&Image::busybox(&direct).config(field, value));
        engine.load(&Image::busybox(&below).config("HostConfig", host));
        for image in [&direct, &below] {
            assert_eq!(posture(&engine, image), plain, "{field} in {image}");
        }
    }
}

#[test]
fn row_86_the_socket_is_closed_to_the_world() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let meta = fs::metadata(engine.socket()).unwrap();
    assert_eq!((meta.permissions().mode() & 0o777, meta.uid()), (0o660, 0));
}

#[test]
fn row_86_a_setuid_file_in_a_volume_is_out_of_other_users_reach() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let layer = Layer::new().dir("vol", 0o777);
    engine.load(&Image::busybox("row86:1").layer(layer).config("Volumes", json!({"/vol": {}})));
    let script = "cp /bin/busybox /vol/root-shell; chmod 6777 /vol/root-shell; echo done; sleep 1000";
    engine.tare(["run", "-d", "--name", "box-s", "--network", "none", "row86:1", "sh", "-c", script]).ok();
    engine.wait_for_log("box-s", "done");
    let source = engine.inspect("box-s")["Mounts"][0]["Source"].as_str().unwrap().to_string();
    // The kit's scratch directory is closed as well, so ask from the engine's own root on.
    let root = engine.root();
    let mode = fs::metadata(&root).unwrap().permissions().mode();
    assert_eq!(mode & 0o007, 0, "{} is {mode:o}", root.display());
    assert!(std::path::Path::new(&source).starts_with(&root), "{source}");
}

/// Row 5: a number is a number, whatever names the image has.
#[test]
fn row_5_a_numeric_user_is_not_looked_up_as_a_name() {
    let engine = Engine::empty();
    let image = Image::new("row5:1")
        .layer(busybox_layer().clone())
        .layer(Layer::new().file("etc/passwd", "1000:x:0:0::/:/bin/sh\n"));
    engine.load(&image.clone().config("Env", json!([PATH])));
    let out = engine.tare(["run", "--rm", "--network", "none", "-u", "1000", "row5:1", "id", "-u"]).ok();
    assert_eq!(out, "1000");
}

/// Row 32: programs of the image never run on the engine's behalf.
#[test]
fn row_32_an_images_decompressors_do_not_run() {
    let (engine, canary) = with_image("row32:1", |canary, layer| {
        let script = format!("#!/bin/sh\ntouch {canary}/ran\n");
        ["usr/bin/xz", "usr/bin/unpigz", "usr/bin/zstd", "usr/bin/gzip"]
            .iter()
            .fold(layer, |l, p| l.program(p, &script))
    });
    assert_eq!(run(&engine, &[], "row32:1", "echo ok").ok(), "ok");
    canary.assert_untouched();
}

#[test]
fn a_process_inside_cannot_see_the_engine() {
    let engine = Engine::start();
    let out = engine.sh(
        &[],
        "ps -o args; cat /proc/1/environ /proc/1/cmdline | tr '\\0' '\\n'; cat /proc/self/mountinfo",
    );
    for secret in ["tared", "tare-shim", "--run-dir"] {
        assert!(!out.contains(secret) || !ours(), "{secret} shows:\n{out}");
    }
}

/// Row 6 of the hostile cases. In a user namespace of its own, nobody inside has rights over the memory of what enters. With
/// the host's, whoever has SYS_PTRACE has: what enters holds none of the host's files by then.
#[test]
fn an_exec_cannot_be_traced_from_inside_while_it_enters() {
    for user_namespace in ["", "host"] {
        an_exec_shows_nothing(user_namespace);
    }
}

fn an_exec_shows_nothing(user_namespace: &str) {
    let engine = Engine::start();
    engine.background(&["--name", "box-t", "--cap-add", "SYS_PTRACE", "--userns", user_namespace], "while :; do for p in /proc/[0-9]*; do ls -l $p/fd $p/root $p/cwd 2>/dev/null; done; done | grep -v -E 'pipe|null|/proc|socket' > /seen");
    for _ in 0..20 {
        engine.tare(["exec", "box-t", "true"]).ok();
    }
    let out = engine
        .tare(["exec", "box-t", "sh", "-c", "grep -E 'tare|/sys/fs/cgroup|/var/lib' /seen | head"])
        .run();
    assert_eq!(out.out(), "", "descriptors of the host were visible (--userns {user_namespace:?})");
}

/// The daemon's own files, seen from the host by somebody else.
#[test]
fn another_user_of_the_host_reaches_nothing() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    engine.background(&[], "sleep 1000");
    for path in [engine.root(), engine.run_dir()] {
        let script = format!("ls -A '{}'", path.display());
        let out = Cmd::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", &script])
            .run();
        assert_eq!(out.out(), "", "{} could be read", path.display());
    }
}
