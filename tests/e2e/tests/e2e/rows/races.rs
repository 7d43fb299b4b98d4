//! Loops: names that change places while containers start, and processes inside that wait for what enters.

use std::fs;
use std::path::Path;

use tare_kit::{Engine, Host, Image, Layer, Race, Rounds, perl};

use super::dev_with;
use crate::trap::Real::File;
use crate::trap::{Trap, USER_NAMESPACES};
use crate::{lines, ours};

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
    let race = Race::new(Path::new(&volume), "real", host.canary().path());
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
    race.run(|| {
        let script = "cat /v/real/secret /v/link/secret /v/real/made0/secret; ls /v/real/made0 /v/link/made0";
        let out = engine.shell(&flags, script).run();
        assert!(!out.out().contains("the host's own secret"), "the host shows: {out}");
        host.canary().assert_untouched();
        out.code < 125
    });
    host.assert_unchanged();
}

/// Row 10: the root's `proc`, or `sys`, is on a volume where it and a link change places. It is mounted on the real one, and
/// all that covers parts of it lies on the same, or nothing runs.
#[test]
fn row_10_an_exchanged_proc_or_sys_is_the_real_one_or_there_is_none() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let host = Host::new(&engine);
    for (name, least) in [("proc", 5), ("sys", 3)] {
        let root = engine.dir().join(format!("rootfs-{name}"));
        fs::create_dir(&root).unwrap();
        tare_kit::image::unpack_busybox(&root);
        fs::create_dir_all(root.join("evil/self/attr")).unwrap();
        exchange(&engine, &root, name, least);
        assert_eq!(fs::read_dir(root.join("evil/self/attr")).unwrap().count(), 0);
    }
    host.assert_unchanged();
}

/// Starts containers on `root` while the directory `name` in it and a link to `/evil` change places; undisturbed, at least so
/// many mounts lie there.
fn exchange(engine: &Engine, root: &Path, name: &str, least: usize) {
    // The directory itself: over an overlay of it the names would not be seen to change.
    let path = format!("{}:rw", root.display());
    let race = Race::new(root, name, "/evil");
    let own = format!("/{name}");
    for user_namespace in USER_NAMESPACES {
        // By whichever of its names it has by then.
        let script =
            "until /bin/cat /proc/self/mountinfo || /bin/cat /link/self/mountinfo; do :; done 2>/dev/null";
        let flags = ["run", "--rm", "--network", "none", "--userns", user_namespace, "--rootfs", &path];
        let run = || engine.tare([&flags[..], &["/bin/sh", "-c", script]].concat()).run();
        // Both names are equally good: what was attached to the one may be found by the other.
        let mounts = |text: &str| -> Vec<String> {
            let points = lines(text).into_iter().filter_map(|line| line.split(' ').nth(4));
            let points = points.map(|point| point.replacen("/link", &own, 1));
            points.filter(|point| point.starts_with(&own) || point.starts_with("/evil")).collect()
        };
        let quiet = mounts(&run().out());
        assert!(quiet[0] == own && quiet.len() >= least, "{quiet:?}");
        race.run(|| {
            let out = run();
            assert!(out.code >= 125 || mounts(&out.out()) == quiet, "not {quiet:?}: {out}");
            out.code < 125
        });
    }
}

/// Rows 18 and 22: the null device of a volume at `/dev` and a link to where it hurts change places.
#[test]
fn rows_18_22_an_exchanged_null_device_covers_nothing_else() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let host = Host::new(&engine);
    let (dev, bind) = dev_with(&engine, "null", "");
    // The target is the container's own, so that an attack which succeeds does no harm.
    Race::new(&dev, "null", "/proc/sys/kernel/hostname").run(|| {
        let script = "echo evil > /proc/keys; echo evil > /proc/timer_list; hostname; stat -c %t:%T /proc/keys /proc/timer_list";
        let out = engine.shell(&["--hostname", "box", "-v", &bind], script).run();
        let ran = out.out() == "box\n1:3\n1:3";
        assert!(ran || out.code >= 125, "{out}");
        ran
    });
    host.assert_unchanged();
}

/// Row 19: what is bound on `/dev/console` is the terminal, and it is bound there, whatever happens to a volume at `/dev`.
#[test]
fn row_19_the_console_is_a_terminal() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let host = Host::new(&engine);
    let (dev, bind) = dev_with(&engine, "console", "");
    fs::create_dir(dev.join("pts")).unwrap();
    // Such a volume has a place for terminals only if it is given one.
    let flags = ["-t", "--userns", "host", "-v", &bind, "-v", "/dev/pts:/dev/pts"];
    let seen = "grep -E ' /dev/(console|link) ' /proc/self/mountinfo; mount | grep -c devpts";
    let out = engine.shell(&flags, seen).ok();
    assert!(out.contains(" /dev/console ") && out.trim_end().ends_with('2'), "{out}");
    Race::new(&dev, "console", host.canary().path().join("made")).run(|| {
        let out = engine.shell(&flags, seen).run();
        host.canary().assert_untouched();
        let said = out.out();
        let ran = said.matches(" - devpts ").count() == 1 && said.trim_end().ends_with('2');
        assert!(ran || out.code >= 125, "{out}");
        ran
    });
    host.assert_unchanged();
}

/// Row 19: the image has links in the places of the console and of the first terminal.
#[test]
fn row_19_a_console_of_the_image_is_not_the_terminal() {
    for target in ["secret", "made"] {
        let trap = Trap::new("row19:1", &[("dev/console", File, target), ("dev/pts/0", File, target)]);
        let script = "stat -c %t:%T /dev/console $(tty); echo evil > /dev/console";
        for flags in USER_NAMESPACES.map(|name| ["-t", "--userns", name]) {
            assert!(trap.run_twin(&flags, script).contains("evil"));
            let out = trap.run(&flags, script);
            trap.canary.assert_untouched();
            let ran = out.out().starts_with("88:0\r\n88:0") && out.out().contains("evil");
            assert!(ran || (out.code >= 125 && !ours()), "{out}");
        }
    }
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
        while rounds.another() {
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
        while rounds.another() {
            engine.tare(["exec", "tracer", "true"]).run();
        }
        let log = engine.get("/containers/tracer/logs?stdout=1&stderr=1").text();
        assert!(!log.contains("SEEN"), "--userns {user_namespace:?}: {log}");
        engine.tare(["rm", "-f", "tracer"]).ok();
    }
}
