//! AppArmor: a profile that the user names confines the container. Where the module does not run (here it may not), naming
//! one is refused; where it runs (the guest), it is enforced.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use tare_kit::engine::BUSYBOX;
use tare_kit::{Canary, Engine, Image, Layer};

use crate::ours;

const PROFILE: &str = "\
profile NAME flags=(attach_disconnected,mediate_deleted) {
  file, capability, network, signal, ptrace, mount, umount, pivot_root, dbus, unix,
  deny /forbidden rw,
}
";

fn is_on() -> bool {
    fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|word| word.starts_with(b"Y"))
}

/// A profile in the kernel, taken out at the end.
struct Loaded {
    name: String,
    file: tempfile::NamedTempFile,
}

impl Loaded {
    fn new(what: &str) -> Self {
        let name = format!("tare-test-{what}-{}", std::process::id());
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), PROFILE.replace("NAME", &name)).unwrap();
        let loaded = Self { name, file };
        loaded.parser("-r");
        loaded
    }

    fn parser(&self, act: &str) {
        let done = Command::new("apparmor_parser").args([act, "-K"]).arg(self.file.path()).status().unwrap();
        assert!(done.success(), "apparmor_parser {act}");
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.parser("-R");
    }
}

#[test]
fn a_named_profile_is_enforced_or_refused_by_name() {
    if !ours() {
        return;
    }
    let engine = Engine::start();
    let listed = engine.tare(["info", "--format", "{{json .SecurityOptions}}"]).ok();
    assert_eq!(listed.contains("name=apparmor"), is_on(), "{listed}");
    if !is_on() {
        let said = engine.shell(&["--security-opt", "apparmor=tare-x"], "true").fails(125);
        assert!(said.contains("AppArmor is not enabled"), "{said}");
        return;
    }
    let profile = Loaded::new("named");
    let option = format!("apparmor={}", profile.name);
    engine.background(&["--name", "confined", "--security-opt", &option], "echo x > /free; sleep 1000");
    let inside = |script: &str| engine.tare(["exec", "confined", "sh", "-c", script]);
    let labels = inside("cat /proc/1/attr/current /proc/self/attr/current").ok();
    let enforced = format!("{} (enforce)", profile.name);
    assert_eq!(
        labels.lines().collect::<Vec<_>>(),
        [enforced.as_str(); 2],
        "of the first process, and of a further one"
    );
    assert_eq!(inside("cat /free").ok(), "x");
    assert!(inside("echo x > /forbidden").fails(1).contains("Permission denied"));
    inside("test -e /forbidden").fails(1);
    assert_eq!(engine.inspect("confined")["AppArmorProfile"], profile.name.as_str());
}

/// Where the label of the next program is asked for, below a directory that passes for `/proc`.
const ASKED: [&str; 2] = ["self/attr/apparmor/exec", "self/attr/exec"];

/// A directory that passes for `/proc`: what takes the label is a file, or a link.
fn fake(dir: &Path, link: Option<&str>) -> String {
    for place in ASKED {
        let place = dir.join(place);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        match link {
            Some(target) => symlink(target, &place).unwrap(),
            None => fs::write(&place, "").unwrap(),
        }
    }
    dir.display().to_string()
}

/// What of a script's output tells whether it was confined, and whether what the label was led to has it instead.
const TELL: &str = "echo x > /forbidden && echo FREE; echo $(hostname) ran";

/// Rows 8 and 20: whatever an image and its mounts put in the place of `/proc`, the label is given, or nothing starts.
#[test]
fn rows_8_20_no_fake_proc_takes_the_label_of_a_start() {
    if !ours() || !is_on() {
        return;
    }
    let engine = Engine::start();
    let canary = Canary::new(&engine.dir().join("canary"));
    let profile = Loaded::new("start");
    let confined = format!("apparmor={}", profile.name);
    let files = fake(&engine.dir().join("files"), None);
    let out = fake(&engine.dir().join("out"), Some("/canary/secret"));
    let aside = fake(&engine.dir().join("aside"), Some("/proc/sys/kernel/hostname"));
    let own =
        |layer: Layer, top: &str| ASKED.iter().fold(layer, |l, place| l.file(&format!("{top}/{place}"), ""));
    engine.load(&Image::busybox("own:1").layer(own(Layer::new(), "proc")));
    engine.load(&Image::busybox("link:1").layer(own(Layer::new().symlink("proc", "/evil"), "evil")));
    engine.load(&Image::busybox("deep:1").config("Volumes", json!({"/proc/self/attr": {}})));
    let shown = format!("{}:/canary", canary.str());
    let bind = |from: &str, to: &str| ["-v".to_owned(), format!("{from}:{to}")].to_vec();
    let tmpfs = ["--mount", "type=tmpfs,dst=/proc/self/attr"].map(str::to_owned).to_vec();
    let mut otherwise = Vec::new();
    for (image, flags, starts) in [
        ("own:1", vec![], true),
        ("link:1", vec![], false),
        ("deep:1", vec![], false),
        (BUSYBOX, tmpfs, false),
        (BUSYBOX, bind(&files, "/proc"), false),
        (BUSYBOX, bind(&format!("{files}/self/attr"), "/proc/self/attr"), false),
        (BUSYBOX, bind(&format!("{out}/self/attr"), "/proc/self/attr"), false),
        (BUSYBOX, bind(&format!("{aside}/self/attr"), "/proc/self/attr"), false),
    ] {
        // Without the wall that is a user namespace; once with it.
        for user_namespace in if starts { &["host", ""][..] } else { &["host"] } {
            let first = ["run", "--rm", "--network", "none", "--hostname", "box", "--userns", user_namespace];
            let more = ["-v", &shown, "--security-opt", &confined];
            let mut args: Vec<&str> = first.iter().chain(&more).copied().collect();
            args.extend(flags.iter().map(String::as_str));
            let said = engine.tare([&args[..], &[image, "sh", "-c", TELL]].concat()).run();
            let expected =
                if starts { said.out() == "box ran" } else { said.code >= 125 && said.out().is_empty() };
            if !expected {
                otherwise.push(said.to_string());
            }
        }
    }
    assert!(otherwise.is_empty(), "{}", otherwise.join("\n"));
    canary.assert_untouched();
}

/// Rows 20 and 23: a container that may mount covers its `/proc`; whoever enters it later has the label all the same, and
/// nothing else is written.
#[test]
fn rows_20_23_no_fake_proc_takes_the_label_of_an_exec() {
    if !ours() || !is_on() {
        return;
    }
    let engine = Engine::start();
    let canary = Canary::new(&engine.dir().join("canary"));
    let profile = Loaded::new("exec");
    let confined = format!("apparmor={}", profile.name);
    let shown = format!("{}:/canary", canary.str());
    // A fresh procfs takes the host's user namespace: in one of its own the kernel refuses what would uncover.
    let real = "mkdir /real && mount -t proc proc /real && ";
    let led = "for p in apparmor/exec exec; do mount -o bind /real/sys/kernel/hostname /evil/self/attr/$p || exit; done; ";
    let mut otherwise = Vec::new();
    for (number, (before, link, user_namespaces)) in [
        ("", None, &["", "host"][..]),
        ("", Some("/canary/secret"), &["host"]),
        (real, Some("/real/sys/kernel/hostname"), &["host"]),
        (&(real.to_owned() + led), None, &["host"]),
    ]
    .into_iter()
    .enumerate()
    {
        for user_namespace in user_namespaces {
            let name = format!("box{number}{user_namespace}");
            let evil = format!("{}:/evil", fake(&engine.dir().join(&name), link));
            let flags =
                ["--name", &name, "--hostname", "box", "--userns", user_namespace, "-v", &evil, "-v", &shown];
            let may = [
                "--cap-add",
                "SYS_ADMIN",
                "--security-opt",
                "seccomp=unconfined",
                "--security-opt",
                &confined,
            ];
            let script = format!("{before} mount -o rbind /evil /proc && echo covered; exec sleep 1000");
            engine.background(&[&flags[..], &may].concat(), &script);
            engine.wait_for_log(&name, "covered");
            let said = engine.tare(["exec", &name, "sh", "-c", TELL]).run();
            if said.out() != "box ran" {
                otherwise.push(format!("{name}: {said}"));
            }
        }
    }
    assert!(otherwise.is_empty(), "{}", otherwise.join("\n"));
    canary.assert_untouched();
}
