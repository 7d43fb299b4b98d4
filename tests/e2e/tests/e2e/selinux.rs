//! SELinux: labels that a bundle names confine the container and its files, and the engine gives its containers labels by
//! itself. Where the module does not run (here it may not), naming one is refused; where it runs (the guest), a small policy
//! of ours is loaded and enforced.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tare_kit::engine::BUSYBOX;
use tare_kit::{Cmd, Engine};

use crate::oci::Bundle;
use crate::ours;

const POLICY: &str = include_str!("selinux/policy.cil");

const PROCESS: &str = "system_u:system_r:box_t:s0:c1,c2";
const FILES: &str = "system_u:object_r:box_file_t:s0:c1,c2";
/// That of everything else, which may do everything.
const HOST: &str = "system_u:system_r:host_t:s0";

/// Enforced until dropped, by one test at a time. The policy itself stays, which hinders nobody.
struct Enforced(#[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

impl Enforced {
    fn new() -> Enforced {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let names: Vec<String> = (0..1024).map(|n| format!("c{n}")).collect();
        let declared: String = names.iter().map(|name| format!("(category {name})\n")).collect();
        let order = format!("{declared}(categoryorder ({}))\n", names.join(" "));
        fs::write(at("policy.cil"), POLICY.replace("; CATEGORIES", &format!("{order};"))).unwrap();
        Cmd::new("secilc").args(["-f", "/dev/null", "-o", &at("policy"), &at("policy.cil")]).ok();
        // In one piece: the kernel takes no half a policy.
        fs::write("/sys/fs/selinux/load", fs::read(at("policy")).unwrap()).unwrap();
        fs::write("/sys/fs/selinux/enforce", "1").unwrap();
        Enforced(alone)
    }
}

impl Drop for Enforced {
    fn drop(&mut self) {
        fs::write("/sys/fs/selinux/enforce", "0").unwrap();
    }
}

fn is_on() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
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
    if !is_on() {
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
    bundle.config["process"]["selinuxLabel"] = json!("system_u:system_r:nobody_t:s0");
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

/// Both labels of a container, as inspection shows them.
fn labels(engine: &Engine, container: &str) -> (String, String) {
    let shown = engine.inspect(container);
    let text = |field: &str| shown[field].as_str().unwrap_or_default().to_owned();
    (text("ProcessLabel"), text("MountLabel"))
}

/// The label of a script's own process.
fn own_label(engine: &Engine, flags: &[&str]) -> String {
    engine.sh(flags, "cat /proc/self/attr/current").trim_end_matches('\0').to_owned()
}

const CONTAINER: &str = "system_u:system_r:container_t:s0";
const CONTAINER_FILES: &str = "system_u:object_r:container_file_t:s0";

#[test]
fn the_engine_labels_containers_or_refuses_labels_by_name() {
    if !ours() {
        return;
    }
    if !is_on() {
        let engine = Engine::start();
        let said = engine.shell(&["--security-opt", "label=type:x_t"], "true").fails(125);
        assert!(said.contains("SELinux is not enabled") && said.contains("label=disable"), "{said}");
        let dir = engine.path("dir");
        fs::create_dir(&dir).unwrap();
        let volume = format!("{dir}:/dir:Z");
        let flags = ["--name", "box", "--security-opt", "label=disable", "-v", &volume];
        engine.background(&flags, "echo x > /dir/file; echo done");
        engine.wait_for_log("box", "done");
        assert_eq!(labels(&engine, "box"), (String::new(), String::new()));
        let error =
            rustix::fs::getxattr(format!("{dir}/file").as_str(), "security.selinux", &mut [0; 256][..]);
        assert!(error.is_err(), "labelled without SELinux");
        return;
    }
    let _enforced = Enforced::new();
    let engine = Engine::start();
    each_has_its_own(&engine);
    its_files_are_its_own(&engine);
    sources_are_relabelled_if_asked(&engine);
    some_have_none(&engine);
    labels_are_chosen(&engine);
    labels_outlive_the_daemon(engine);
}

fn each_has_its_own(engine: &Engine) {
    let mut seen = Vec::new();
    for (name, flags) in
        [("one", &["--init"][..]), ("two", &["--userns", "host"]), ("three", &["--uts", "host"])]
    {
        engine.background(&[&["--name", name][..], flags].concat(), "sleep 1000");
        let (process, files) = labels(engine, name);
        let categories = process.strip_prefix(CONTAINER).unwrap_or_else(|| panic!("{name}: {process}"));
        assert!(categories.starts_with(":c") && categories.contains(",c"), "{process}");
        assert_eq!(files, format!("{CONTAINER_FILES}{categories}"));
        let inside =
            engine.tare(["exec", name, "sh", "-c", "cat /proc/1/attr/current /proc/self/attr/current"]);
        assert_eq!(inside.ok().replace('\0', "\n").lines().collect::<Vec<_>>(), [&process; 2], "{name}");
        seen.push(categories.to_owned());
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3, "no two have the same categories: {seen:?}");
}

fn its_files_are_its_own(engine: &Engine) {
    for name in ["one", "two"] {
        let script =
            "echo x > /new && cat /new /etc/hosts > /dev/shm/new && mkdir /dir && echo y >> /bin/sh.new";
        engine.tare(["exec", name, "sh", "-c", script]).ok();
        let (root, files) = (format!("/proc/{}/root", engine.pid_of(name)), labels(engine, name).1);
        for file in [
            "/",
            "/bin",
            "/bin/sh",
            "/new",
            "/dir",
            "/dev/shm",
            "/dev/shm/new",
            "/dev",
            "/dev/null",
            "/dev/pts",
        ] {
            assert_eq!(label_of(&format!("{root}{file}")), files, "{name}: {file}");
        }
        // Others may share its network, and have these.
        for file in ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"] {
            assert_eq!(label_of(&format!("{root}{file}")), CONTAINER_FILES, "{name}: {file}");
        }
    }
    // On the disk as well, as a new file of the container's shows there.
    let upper = engine.inspect("one")["GraphDriver"]["Data"]["UpperDir"].as_str().unwrap().to_owned();
    assert_eq!(label_of(&format!("{upper}/new")), labels(engine, "one").1);
    let hosts = ["run", "--rm", "--network", "container:one", BUSYBOX, "cat", "/etc/hosts"];
    assert!(engine.tare(hosts).ok().contains("localhost"));
}

fn sources_are_relabelled_if_asked(engine: &Engine) {
    let dir = engine.path("source");
    let before = || {
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(format!("{dir}/below")).unwrap();
        fs::write(format!("{dir}/below/file"), "x\n").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", format!("{dir}/below/link")).unwrap();
    };
    let script = "echo y >> /dir/below/file; cat /dir/below/file";
    let (plain, shared, private) = (format!("{dir}:/dir"), format!("{dir}:/dir:z"), format!("{dir}:/dir:Z"));
    before();
    let said = engine.shell(&["--userns", "host", "-v", &plain], script).run();
    assert!(said.to_string().contains("Permission denied"), "not asked for: {said}");
    let passwd = label_of("/etc/passwd");
    // A label that everyone may use.
    assert_eq!(engine.sh(&["--userns", "host", "-v", &shared], script), "x\ny");
    assert_eq!(label_of(&format!("{dir}/below/file")), CONTAINER_FILES);
    assert_eq!(engine.sh(&["-v", &plain], "cat /dir/below/file"), "x\ny");
    // And one that is the container's own.
    before();
    engine.background(&["--name", "owner", "--userns", "host", "-v", &private, "-v", "/volume"], script);
    engine.wait_for_log("owner", "y");
    let own = labels(engine, "owner").1;
    for file in ["", "/below", "/below/file"] {
        assert_eq!(label_of(&format!("{dir}{file}")), own, "{file:?}");
    }
    assert_eq!(label_of("/etc/passwd"), passwd, "links are not followed");
    assert_eq!(engine.inspect("owner")["Mounts"][0]["Mode"], "Z");
    let said = engine.shell(&["-v", &plain], "cat /dir/below/file").run();
    assert!(said.to_string().contains("Permission denied"), "of another container: {said}");
    let volume = engine.inspect("owner")["Mounts"][1]["Source"].as_str().unwrap().to_owned();
    assert_eq!(label_of(&volume), own, "its volume");
    let said = engine.shell(&["-v", "/usr:/dir:z"], "true").fails(125);
    assert!(said.contains("relabeling of /usr is not allowed"), "{said}");
}

fn some_have_none(engine: &Engine) {
    for flags in [
        &["--security-opt", "label=disable"][..],
        &["--privileged"],
        &["--pid", "host"],
        &["--ipc", "host"],
        // As that of the container which it joins.
        &["--pid", "container:free", "--security-opt", "seccomp=unconfined"],
    ] {
        if flags.contains(&"container:free") {
            engine.background(&["--name", "free", "--security-opt", "label=disable"], "sleep 1000");
        }
        assert_eq!(own_label(engine, flags), HOST, "{flags:?}");
    }
    assert_eq!(labels(engine, "free"), (String::new(), String::new()));
    // Whoever joins its network reads what belongs to that all the same.
    let root = format!("/proc/{}/root", engine.pid_of("free"));
    for file in ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"] {
        assert_eq!(label_of(&format!("{root}{file}")), CONTAINER_FILES, "{file}");
    }
    let hosts = ["run", "--rm", "--network", "container:free", BUSYBOX, "cat", "/etc/hosts"];
    assert!(engine.tare(hosts).ok().contains("localhost"));
}

fn labels_are_chosen(engine: &Engine) {
    let a = labels(engine, "one").0;
    assert_eq!(own_label(engine, &["--pid", "container:one"]), a);
    let said = engine.shell(&["--pid", "container:one", "--ipc", "container:two"], "true").fails(125);
    assert!(said.contains("container:one") && said.contains("container:two"), "{said}");
    let chosen = ["--security-opt", "label=type:box_t", "--security-opt", "label=filetype:box_file_t"];
    let level = ["--security-opt", "label=level:s0:c1,c2"];
    assert_eq!(own_label(engine, &[&chosen[..], &level].concat()), PROCESS);
    engine.background(&[&["--name", "chosen"][..], &chosen, &level].concat(), "sleep 1000");
    assert_eq!(labels(engine, "chosen"), (PROCESS.to_owned(), FILES.to_owned()));
    let drawn = own_label(engine, &chosen);
    assert!(drawn.starts_with("system_u:system_r:box_t:s0:c"), "{drawn}");
    // The word of whoever names one counts more than what else is asked for.
    let both = [&["--privileged"][..], &chosen, &level].concat();
    assert_eq!(own_label(engine, &both), PROCESS);
    let said = engine.shell(&["--security-opt", "label=type:nobody_t"], "true").fails(125);
    assert!(said.contains("nobody_t") && said.contains("no such label"), "{said}");
}

fn labels_outlive_the_daemon(mut engine: Engine) {
    let before = labels(&engine, "one");
    engine.kill_daemon();
    engine.start_daemon();
    assert_eq!(labels(&engine, "one"), before);
    engine.tare(["restart", "--time", "0", "one"]).ok();
    let inside = engine.tare(["exec", "one", "cat", "/proc/1/attr/current"]).ok();
    assert_eq!(inside.trim_end_matches('\0'), before.0);
}
