//! SELinux: labels that a bundle names confine the container and its files. Where the module does not run (here it may
//! not), naming one is refused; where it runs (the guest), a small policy of ours is loaded and enforced.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tare_kit::Cmd;

use crate::oci::Bundle;
use crate::ours;

const POLICY: &str = include_str!("selinux/policy.cil");

const PROCESS: &str = "sys_u:sys_r:box_t:s0:c1,c2";
const FILES: &str = "sys_u:object_r:box_file_t:s0:c1,c2";
/// That of everything else, which may do everything.
const HOST: &str = "sys_u:sys_r:host_t:s0";

/// Enforced until dropped. The policy itself stays, which hinders nobody.
struct Enforced;

impl Enforced {
    fn new() -> Enforced {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        fs::write(at("policy.cil"), POLICY).unwrap();
        Cmd::new("secilc").args(["-f", "/dev/null", "-o", &at("policy"), &at("policy.cil")]).ok();
        // In one piece: the kernel takes no half a policy.
        fs::write("/sys/fs/selinux/load", fs::read(at("policy")).unwrap()).unwrap();
        fs::write("/sys/fs/selinux/enforce", "1").unwrap();
        Enforced
    }
}

impl Drop for Enforced {
    fn drop(&mut self) {
        fs::write("/sys/fs/selinux/enforce", "0").unwrap();
    }
}

fn labelled(args: &[&str]) -> Bundle {
    let mut bundle = Bundle::new(args);
    bundle.config["process"]["selinuxLabel"] = json!(PROCESS);
    bundle.config["linux"]["mountLabel"] = json!(FILES);
    fs::write(bundle.path("rootfs/hosts"), "").unwrap();
    bundle
}

/// The label of a file, as seen through the root of a process.
fn label_of(path: &str) -> String {
    let mut text = [0; 256];
    let length = rustix::fs::getxattr(path, "security.selinux", &mut text[..]).unwrap();
    String::from_utf8_lossy(&text[..length]).trim_end_matches('\0').to_owned()
}

#[test]
fn labels_confine_a_container_and_its_files_or_are_refused_by_name() {
    if !ours() {
        return;
    }
    if !Path::new("/sys/fs/selinux/enforce").exists() {
        let mut bundle = labelled(&["true"]);
        let said = bundle.make(&["run"]).fails(1);
        assert!(said.contains("process.selinuxLabel") && said.contains("SELinux is not enabled"), "{said}");
        bundle.config["process"]["selinuxLabel"] = json!("");
        let said = bundle.make(&["run"]).fails(1);
        assert!(said.contains("linux.mountLabel") && said.contains("SELinux is not enabled"), "{said}");
        return;
    }
    let _enforced = Enforced::new();
    confined();
    unconfined();
    no_such_label();
    a_false_proc_fools_nobody();
}

fn confined() {
    let bundle = labelled(&["sh", "-c", "echo x > /dev/shm/first; exec sleep 1000"]);
    bundle.make(&["run", "--detach"]).ok();
    let id = bundle.id();
    let inside = |script: &str| bundle.oci(&["exec", &id, "sh", "-c", script]);
    let labels =
        inside("tr '\\0' '\\n' < /proc/1/attr/current; tr '\\0' '\\n' < /proc/self/attr/current").ok();
    assert_eq!(
        labels.lines().collect::<Vec<_>>(),
        [PROCESS; 2],
        "of the first process, and of a further one"
    );
    inside("echo x > /dev/shm/further").ok();
    let state: Value = serde_json::from_str(&bundle.oci(&["state", &id]).ok()).unwrap();
    for file in ["/dev/shm", "/dev/shm/first", "/dev/shm/further", "/dev/pts", "/dev", "/dev/mqueue"] {
        assert_eq!(label_of(&format!("/proc/{}/root{file}", state["pid"])), FILES, "{file}");
    }
    // As root, with a mode that would let it: only the label is in the way.
    assert!(inside("echo x > /hosts").fails(1).contains("Permission denied"));
    assert!(inside("echo x > /new").fails(1).contains("Permission denied"));
    assert_eq!(inside("cat /hosts").ok(), "");
    // One command may be given another.
    let other =
        bundle.oci(&["exec", "--process-label", HOST, &id, "sh", "-c", "echo x > /hosts; cat /hosts"]);
    assert_eq!(other.ok(), "x");
}

fn unconfined() {
    let mut bundle = labelled(&["sh", "-c", "echo x > /hosts && cat /hosts /proc/self/attr/current"]);
    bundle.config["process"]["selinuxLabel"] = json!("");
    bundle.config["linux"]["mountLabel"] = json!("");
    assert_eq!(bundle.make(&["run"]).ok().trim_end_matches('\0'), format!("x\n{HOST}"));
}

fn no_such_label() {
    let mut bundle = labelled(&["true"]);
    bundle.config["process"]["selinuxLabel"] = json!("sys_u:sys_r:nobody_t:s0");
    let said = bundle.make(&["run"]).fails(1);
    assert!(said.contains("process.selinuxLabel") && said.contains("nobody_t"), "{said}");
}

/// Row 8: what takes the label is the host's procfs, not what a container has in its place.
fn a_false_proc_fools_nobody() {
    let current = "cat /proc/self/attr/current | tr -d '\\0'; (echo x > /hosts) 2>/dev/null && echo WRITTEN";
    // By the bundle: either it is refused, or the process is confined.
    for (target, kind) in [("/proc", "bind"), ("/proc/self/attr", "bind"), ("/proc/self/attr", "tmpfs")] {
        let mut bundle = labelled(&["sh", "-c", current]);
        fs::create_dir_all(bundle.path("false/self/attr")).unwrap();
        for name in ["self/attr/exec", "exec"] {
            fs::write(bundle.path("false").join(name), "").unwrap();
        }
        let options = if kind == "bind" { json!(["rbind"]) } else { json!([]) };
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        if target == "/proc" {
            mounts.retain(|mount| mount["destination"] != "/proc");
        }
        let source = if kind == "bind" { "false" } else { "tmpfs" };
        mounts.push(json!({"destination": target, "type": kind, "source": source, "options": options}));
        let said = bundle.make(&["run"]).run();
        assert!(!said.out().contains("WRITTEN"), "{target} {kind}: {said}");
        assert!(said.code != 0 || said.out().contains(PROCESS), "{target} {kind}: {said}");
    }
    // From inside, by one who may mount: what an exec asks for is not asked there.
    let swap = "mkdir -p /dev/shm/p/self/attr /dev/shm/p/1/attr && cd /dev/shm/p && \
         ln -s /dev/shm/proc/sys/kernel/domainname self/attr/exec && mkdir /dev/shm/proc && \
         mount --bind /proc /dev/shm/proc && mount --bind /dev/shm/p /proc && touch /dev/shm/swapped; \
         exec sleep 1000";
    let mut bundle = labelled(&["sh", "-c", swap]);
    for set in ["bounding", "effective", "permitted"] {
        bundle.config["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_SYS_ADMIN"));
    }
    bundle.make(&["run", "--detach"]).ok();
    let inside = |script: &str| bundle.oci(&["exec", &bundle.id(), "sh", "-c", script]).run();
    let ready = || inside("test -e /dev/shm/swapped").code;
    let swapped = tare_kit::wait::until(tare_kit::wait::PATIENCE, || (ready() == 0).then_some(()));
    assert!(swapped.is_some(), "{}", inside("ls -la /dev/shm /proc"));
    let said = inside(
        "cat /dev/shm/proc/self/attr/current | tr -d '\\0'; (echo x > /hosts) 2>/dev/null && echo WRITTEN",
    );
    assert_eq!(said.out().trim(), PROCESS, "{said}");
}
