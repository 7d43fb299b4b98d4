//! AppArmor: a profile that the user names confines the container. Where the module does not run (here it may not), naming
//! one is refused; where it runs (the guest), it is enforced.

use std::fs;
use std::process::Command;

use tare_kit::Engine;

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
    fn new() -> Self {
        let name = format!("tare-test-{}", std::process::id());
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
    if !is_on() {
        let said = engine.shell(&["--security-opt", "apparmor=tare-x"], "true").fails(125);
        assert!(said.contains("AppArmor is not enabled"), "{said}");
        return;
    }
    let profile = Loaded::new();
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
