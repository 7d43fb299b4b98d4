//! `run`: output, input, exit codes, names, users, environment.

use std::fs;

use serde_json::json;
use tare_kit::cmd::Cmd;
use tare_kit::engine::BUSYBOX;
use tare_kit::image::PATH;
use tare_kit::{Engine, Image, Layer};

use crate::{lines, ours};

#[test]
fn output_and_errors_stay_apart() {
    let engine = Engine::start();
    let out = engine.shell(&[], "echo out; echo err >&2").run();
    assert_eq!((out.out().as_str(), out.err().as_str(), out.code), ("out", "err", 0));
}

#[test]
fn the_exit_code_is_the_programs() {
    let engine = Engine::start();
    for code in [0, 1, 3, 255] {
        assert_eq!(engine.shell(&[], &format!("exit {code}")).run().code, code);
    }
}

#[test]
fn a_program_that_is_not_there_is_127_and_one_that_cannot_run_is_126() {
    let engine = Engine::start();
    let run = |what: &str| engine.tare(["run", "--rm", "--network", "none", BUSYBOX, what]).run();
    assert_eq!(run("no-such-program").code, 127);
    assert_eq!(run("/etc/passwd").code, 126);
    assert_eq!(run("/etc").code, 126);
    assert_eq!(engine.containers(), Vec::<String>::new(), "`--rm` removes what did not start, too");
}

#[test]
fn what_the_engine_refuses_is_125() {
    let engine = Engine::start();
    assert_eq!(engine.tare(["run", "--no-such-flag", BUSYBOX]).run().code, 125);
    assert_eq!(engine.tare(["run", "--network", "none", "no-such-image:none"]).run().code, 125);
    assert_eq!(engine.tare(["run", "-m", "1", BUSYBOX, "true"]).run().code, 125);
}

#[test]
fn a_detached_run_prints_the_id_and_returns() {
    let engine = Engine::start();
    let id = engine.background(&["--name", "back"], "sleep 100");
    assert!(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    assert_eq!(engine.inspect("back")["Id"], json!(id));
    assert_eq!(engine.inspect(&id[..12])["Name"], json!("/back"));
}

#[test]
fn rm_removes_the_container_when_it_ends() {
    let engine = Engine::start();
    engine.sh(&["--name", "gone"], "true");
    assert_eq!(engine.get("/containers/gone/json").status, 404);
    assert_eq!(engine.containers(), Vec::<String>::new());
}

/// Its files need not survive the machine, so the kernel never waits for the disk on their behalf.
#[test]
fn rm_mounts_the_root_volatile_and_nothing_else_does() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let root = "grep ' / overlay ' /proc/mounts";
    // Newer kernels write it as a value of another option.
    let volatile =
        |mounts: String| mounts.split([' ', ',']).any(|o| matches!(o, "volatile" | "fsync=volatile"));
    assert!(volatile(engine.sh(&[], root)));
    engine.tare(["run", "--name", "stays", "--network", "none", BUSYBOX, "sh", "-c", root]).ok();
    assert!(!volatile(engine.tare(["logs", "stays"]).ok()));
}

#[test]
fn without_rm_the_container_stays_with_its_exit_code() {
    let engine = Engine::start();
    let args = ["run", "--name", "stays", "--network", "none", BUSYBOX, "sh", "-c", "exit 4"];
    assert_eq!(engine.tare(args).run().code, 4);
    let state = &engine.inspect("stays")["State"];
    assert_eq!((&state["Status"], &state["ExitCode"]), (&json!("exited"), &json!(4)));
}

#[test]
fn a_name_is_taken_once() {
    let engine = Engine::start();
    engine.background(&["--name", "one"], "sleep 100");
    let why = engine.tare(["run", "--name", "one", "--network", "none", BUSYBOX, "true"]).fails(125);
    assert!(why.to_lowercase().contains("conflict") && why.contains("one"), "{why}");
    let bad = engine.tare(["run", "--name", "no/slash", "--network", "none", BUSYBOX, "true"]).fails(125);
    assert!(bad.contains("no/slash"), "{bad}");
}

#[test]
fn input_reaches_the_program_and_so_does_its_end() {
    let engine = Engine::start();
    let args = ["run", "--rm", "-i", "--network", "none", BUSYBOX, "sh", "-c", "cat; echo end"];
    assert_eq!(engine.tare(args).input("hello\n").ok(), "hello\nend");
}

#[test]
fn without_i_the_program_has_no_input() {
    let engine = Engine::start();
    assert_eq!(engine.shell(&[], "cat; echo end").input("unread\n").ok(), "end");
}

#[test]
fn megabytes_pass_unharmed_both_ways() {
    let engine = Engine::start();
    let data: Vec<u8> = (0..8_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let args = ["run", "--rm", "-i", "--network", "none", BUSYBOX, "cat"];
    let back = engine.tare(args).input(data.clone()).run();
    assert_eq!(back.code, 0, "{}", back.err());
    assert!(back.stdout == data, "{} of {} bytes came back", back.stdout.len(), data.len());
}

#[test]
fn the_output_of_a_fast_program_is_never_lost() {
    let engine = Engine::start();
    for i in 0..25 {
        assert_eq!(engine.sh(&[], &format!("echo {i}")), i.to_string());
    }
}

#[test]
fn a_large_last_write_is_not_cut() {
    let engine = Engine::start();
    let out = engine.shell(&[], "head -c 3000000 /dev/zero").run();
    assert_eq!((out.code, out.stdout.len()), (0, 3_000_000));
}

#[test]
fn the_hostname_is_the_short_id_or_as_told() {
    let engine = Engine::start();
    let id = engine.background(&["--name", "host"], "sleep 100");
    assert_eq!(engine.tare(["exec", "host", "hostname"]).ok(), id[..12]);
    assert_eq!(engine.sh(&["--hostname", "web"], "hostname; cat /etc/hostname"), "web\nweb");
}

#[test]
fn hosts_hostname_and_resolv_conf_are_there() {
    let engine = Engine::start();
    let out = engine.sh(&["--hostname", "web"], "cat /etc/hosts; test -f /etc/resolv.conf && echo resolv");
    assert!(out.contains("127.0.0.1\tlocalhost"), "{out}");
    assert!(out.ends_with("resolv"), "{out}");
}

#[test]
fn the_environment_is_the_images_then_the_callers() {
    let engine = Engine::start();
    let image = Image::busybox("env:1").config("Env", json!([PATH, "FROM_IMAGE=1", "BOTH=image"]));
    engine.load(&image);
    let file = engine.path("vars");
    fs::write(&file, "# a comment\nFROM_FILE=file\nPASSED\n").unwrap();
    let args = [
        "run",
        "--rm",
        "--network",
        "none",
        "-e",
        "BOTH=mine",
        "-e",
        "FROM_CALLER",
        "--env-file",
        &file,
        "env:1",
        "env",
    ];
    let out = engine.tare(args).env("FROM_CALLER", "caller").env("PASSED", "passed").ok();
    for expected in
        ["FROM_IMAGE=1", "BOTH=mine", "FROM_CALLER=caller", "FROM_FILE=file", "PASSED=passed", "HOME=/root"]
    {
        assert!(lines(&out).contains(&expected), "no {expected} in {out}");
    }
    assert!(!out.contains("BOTH=image") && !out.contains("TERM="), "{out}");
    assert!(out.contains("HOSTNAME="), "{out}");
}

#[test]
fn the_working_directory_is_made_if_needed() {
    let engine = Engine::start();
    assert_eq!(engine.sh(&["-w", "/new/deep"], "pwd"), "/new/deep");
    assert_eq!(engine.sh(&[], "pwd"), "/");
}

/// Security row 25: every form of `-u` means exactly what it says.
#[test]
fn users_are_names_or_numbers_with_or_without_a_group() {
    let engine = Engine::start();
    let table = [
        ("0", "0:0"),
        ("1", "1:1"),
        ("1000", "1000:1000"),
        ("ann", "1000:1000"),
        ("ann:crew", "1000:2000"),
        ("ann:0", "1000:0"),
        ("4242", "4242:0"),
        ("4242:4343", "4242:4343"),
        ("daemon", "1:1"),
    ];
    for (user, ids) in table {
        assert_eq!(engine.sh(&["-u", user], "echo $(id -u):$(id -g)"), ids, "-u {user}");
    }
    let why = engine.shell(&["-u", "nobody-here"], "true").run();
    assert!((125..=126).contains(&why.code) && why.err().contains("nobody-here"), "{why}");
}

#[test]
fn a_users_groups_come_from_the_image() {
    let engine = Engine::start();
    assert_eq!(engine.sh(&["-u", "ann"], "id -G"), "1000 2000");
    assert_eq!(
        engine.sh(&["-u", "ann", "--group-add", "77"], "id -G | tr ' ' '\\n' | sort -n | tr '\\n' ' '"),
        "77 1000 2000 "
    );
    assert_eq!(engine.sh(&["-u", "ann"], "echo $HOME"), "/home/ann");
}

#[test]
fn the_images_user_and_directory_hold_unless_overridden() {
    let engine = Engine::start();
    engine.load(&Image::busybox("user:1").config("User", json!("ann")).config("WorkingDir", json!("/srv")));
    let run = |flags: &[&str]| {
        engine
            .tare(
                [&["run", "--rm", "--network", "none"], flags, &["user:1", "sh", "-c", "id -u; pwd"]]
                    .concat(),
            )
            .ok()
    };
    assert_eq!(run(&[]), "1000\n/srv");
    assert_eq!(run(&["-u", "0", "-w", "/"]), "0\n/");
}

#[test]
fn entrypoint_and_command_combine_as_documented() {
    let engine = Engine::start();
    let image = Image::busybox("entry:1")
        .config("Entrypoint", json!(["echo", "entry"]))
        .config("Cmd", json!(["cmd"]));
    engine.load(&image);
    let run = |flags: &[&str], args: &[&str]| {
        engine.tare([&["run", "--rm", "--network", "none"], flags, &["entry:1"], args].concat()).ok()
    };
    assert_eq!(run(&[], &[]), "entry cmd");
    assert_eq!(run(&[], &["mine"]), "entry mine");
    assert_eq!(
        run(&["--entrypoint", "echo"], &[]),
        "",
        "an entrypoint of the caller drops the image's command"
    );
    assert_eq!(run(&["--entrypoint", "echo"], &["mine"]), "mine");
}

#[test]
fn the_caller_may_leave_the_command_to_the_image() {
    let engine = Engine::start();
    let why = {
        engine.load(&Image::new("empty:1").layer(Layer::new().file("x", "")));
        engine.tare(["run", "--rm", "--network", "none", "empty:1"]).fails(125)
    };
    assert!(why.to_lowercase().contains("no command"), "{why}");
}

#[test]
fn signals_are_passed_on_to_the_program() {
    let engine = Engine::start();
    let script = "trap 'echo got-term; exit 7' TERM; echo ready; while :; do sleep 0.1; done";
    let run = engine
        .tare(["run", "--rm", "--name", "sig", "--network", "none", BUSYBOX, "sh", "-c", script])
        .spawn();
    engine.wait_for_log("sig", "ready");
    let kill = Cmd::new("sh").args(["-c", &format!("kill -TERM {}", run.pid())]);
    kill.ok();
    let out = run.wait();
    assert_eq!((out.code, out.out().as_str()), (7, "ready\ngot-term"), "{out}");
}

#[test]
fn labels_are_kept_and_found() {
    let engine = Engine::start();
    let id = engine.background(&["--label", "team=red", "--label", "bare"], "sleep 100");
    engine.background(&["--label", "team=blue"], "sleep 100");
    let labels = &engine.inspect(&id)["Config"]["Labels"];
    assert_eq!((&labels["team"], &labels["bare"]), (&json!("red"), &json!("")));
    assert_eq!(engine.tare(["ps", "-q", "--no-trunc", "--filter", "label=team=red"]).ok(), id);
}

#[test]
fn create_then_start_attached_is_run() {
    let engine = Engine::start();
    let id = engine.tare(["create", "--network", "none", BUSYBOX, "sh", "-c", "echo hi; exit 5"]).ok();
    assert_eq!(engine.inspect(&id)["State"]["Status"], json!("created"));
    let out = engine.tare(["start", "-a", &id]).run();
    assert_eq!((out.out().as_str(), out.code), ("hi", 5));
}

// === ours ===

#[test]
fn the_running_system_is_an_image() {
    if !ours() {
        return;
    }
    let engine = Engine::empty();
    let release = fs::read_to_string("/etc/os-release").unwrap();
    let out = engine.tare(["run", "--rm", "--network", "none", "host", "--", "cat", "/etc/os-release"]).ok();
    assert_eq!(out.trim(), release.trim());
}

#[test]
fn what_a_host_container_writes_stays_with_it() {
    if !ours() {
        return;
    }
    let engine = Engine::empty();
    let script = "echo x > /etc/tare-was-here && rm -f /etc/os-release && ls /etc/tare-was-here";
    let out = engine.tare(["run", "--rm", "--network", "none", "host", "--", "sh", "-c", script]).ok();
    assert_eq!(out, "/etc/tare-was-here");
    assert!(!fs::exists("/etc/tare-was-here").unwrap());
    assert!(fs::exists("/etc/os-release").unwrap());
}

#[test]
fn a_host_container_does_not_see_secrets_or_the_engine() {
    if !ours() {
        return;
    }
    let engine = Engine::empty();
    let canary = tare_kit::Canary::new(&engine.root().join("canary"));
    let script = format!(
        "cat /etc/shadow /etc/gshadow 2>/dev/null; cat /etc/ssh/ssh_host_*_key 2>/dev/null; ls -A /root /home; \
         cat {} 2>/dev/null; true",
        canary.path().join("secret").display()
    );
    let out = engine.tare(["run", "--rm", "--network", "none", "host", "--", "sh", "-c", &script]).ok();
    assert_eq!(out.replace("/root:", "").replace("/home:", "").trim(), "", "something of the host shows");
}

#[test]
fn other_mounts_of_the_host_do_not_show() {
    if !ours() {
        return;
    }
    let engine = Engine::empty();
    let script = "cat /proc/self/mountinfo";
    let out = engine.tare(["run", "--rm", "--network", "none", "host", "--", "sh", "-c", script]).ok();
    let points: Vec<_> = out.lines().filter_map(|l| l.split(' ').nth(4)).collect();
    let known = ["/", "/proc", "/dev", "/sys", "/etc", "/root", "/home", "/tmp", "/run", "/var"];
    for point in points {
        let covered =
            point == "/" || known[1..].iter().any(|k| point == *k || point.starts_with(&format!("{k}/")));
        assert!(covered, "{point} is mounted in the container:\n{out}");
    }
}

#[test]
fn a_plain_directory_is_a_root() {
    if !ours() {
        return;
    }
    let engine = Engine::empty();
    let root = engine.path("plain");
    tare_kit::image::unpack_busybox(root.as_ref());
    let flags = ["run", "--rm", "--network", "none", "--rootfs"];
    let words = ["--", "sh", "-c", "echo new > /made && cat /made"];
    assert_eq!(engine.tare([&flags[..], &[&root], &words].concat()).ok(), "new");
    assert!(!fs::exists(format!("{root}/made")).unwrap(), "a plain root is read-only underneath");
    assert_eq!(engine.tare([&flags[..], &[&format!("{root}:rw")], &words].concat()).ok(), "new");
    assert_eq!(fs::read_to_string(format!("{root}/made")).unwrap(), "new\n");
}

/// Somebody whose id is not among the container's: no capability reaches what is theirs through a mapped mount.
#[test]
fn a_directory_that_somebody_else_keeps_shut_is_a_root() {
    if !ours() {
        return;
    }
    let engine = Engine::empty();
    let home = engine.path("home");
    let root = format!("{home}/plain");
    tare_kit::image::unpack_busybox(root.as_ref());
    fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(&home, Some(200_001), Some(200_001)).unwrap();
    let words = ["run", "--rm", "--network", "none", "--rootfs", &root, "--", "echo", "there"];
    assert_eq!(engine.tare(words).ok(), "there");
}

#[test]
fn flags_that_are_not_there_yet_are_refused_by_name() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    for (flag, value) in [("--gpus", "all"), ("--publish", "80:80"), ("--storage-opt", "size=1G")] {
        let why = engine.tare(["run", "--rm", flag, value, BUSYBOX, "true"]).fails(125);
        assert!(why.contains(flag.trim_start_matches('-')), "{flag}: {why}");
    }
}

#[test]
fn the_default_network_says_once_that_there_is_none() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let out = engine.tare(["run", "--rm", BUSYBOX, "ip", "-o", "link"]).run();
    assert_eq!(out.code, 0, "{out}");
    assert!(out.out().contains("lo") && lines(&out.out()).len() == 1, "{out}");
    assert_eq!(lines(&out.err()).iter().filter(|l| l.contains("network")).count(), 1, "{out}");
}
