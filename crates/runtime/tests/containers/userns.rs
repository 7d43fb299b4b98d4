//! A user namespace of its own: whose files are whose, on disk and inside.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use serde_json::json;
use tare_model::ErrorKind;
use tare_model::sandbox::DiskIds;
use tare_runtime::{Options, Runtime};
use tare_sys::process::{Namespaces, unshare};

use crate::setup::{Canary, FIRST_ID, Setup, another_mount, exec, terminal};

crate::tests![
    root_inside_is_nobody_outside,
    what_is_mounted_stays_so_for_the_administrator_inside,
    what_is_mounted_stays_so_for_a_privileged_exec,
    what_a_privileged_exec_uncovers_is_shut_by_the_kernel,
    one_process_is_enough_for_an_administrator,
    files_belong_on_disk_to_whom_they_belong_inside,
    a_directory_of_the_image_is_removed_and_made_again,
    a_file_capability_is_stored_as_root_would_store_it,
    an_image_shows_its_owners,
    a_bind_shows_its_owners_and_keeps_them,
    a_bind_without_mapping_is_nobodys,
    mounts_below_a_bind_are_mapped_one_by_one,
    a_file_system_that_cannot_be_mapped_is_refused_by_name,
    a_mount_can_have_ids_of_its_own,
    devices_belong_to_root_and_work,
    a_device_may_be_anywhere,
    parameters_of_its_own_namespaces_can_be_set,
    an_exec_is_in_the_same_user_namespace,
    a_terminal_belongs_to_the_user,
    layers_may_be_attached_for_old_kernels,
    a_root_directory_is_mapped_with_what_is_below,
    another_container_may_join,
    ids_that_are_not_mapped_are_refused,
    without_mapping_the_root_belongs_to_its_ids,
];

/// What is left of them where no ids of mounts can be mapped.
pub(crate) const REFUSED: &[crate::harness::Test] =
    &[(concat!(module_path!(), "::where_nothing_can_be_mapped_it_is_refused_by_name"), refused)];

fn refused() {
    let error = mapped(&["exit", "0"]).refused();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    for word in ["mount_setattr(2)", "--userns=host"] {
        assert!(error.to_string().contains(word), "{error}");
    }
}

fn mapped(args: &[&str]) -> Setup {
    let mut setup = Setup::new(args);
    setup.mapped();
    setup
}

fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let data = std::fs::symlink_metadata(path).unwrap();
    (data.uid(), data.gid())
}

/// A mount namespace of the test's own.
fn private_mounts() {
    unshare(Namespaces::MOUNT).unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
}

fn root_inside_is_nobody_outside() {
    let mut setup = mapped(&["then", "cat", "/proc/self/uid_map", ",", "id", ",", "sleep"]);
    let started = setup.start().unwrap();
    let map: Vec<String> = started.line().split_whitespace().map(str::to_owned).collect();
    assert_eq!(map, ["0", &FIRST_ID.to_string(), "65536"]);
    assert_eq!(started.line(), "Uid: 0 0 0 0");
    let status = std::fs::read_to_string(format!("/proc/{}/status", started.launched.pid)).unwrap();
    for name in ["Uid", "Gid"] {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line.split_whitespace().skip(1).all(|id| id == FIRST_ID.to_string()), "{line}");
    }
    let groups = status.lines().find(|line| line.starts_with("Groups")).unwrap();
    assert!(groups.split_whitespace().skip(1).all(|id| id == FIRST_ID.to_string()), "{groups}");
    started.kill();
}

fn files_belong_on_disk_to_whom_they_belong_inside() {
    let script =
        ["then", "write", "/etc/a", "x", ",", "write", "/etc/b", "x", ",", "chown", "/etc/b", "12", "65535"];
    let mut setup = mapped(&[&script[..], &[",", "stat", "/etc/b"]].concat());
    let out = setup.output();
    assert!(out.starts_with("written\nwritten\ngiven\n") && out.contains(" 12:65535 "), "{out}");
    assert_eq!((owner(setup.upper("etc/a")), owner(setup.upper("etc/b"))), ((0, 0), (12, 65535)));
    // And again, with other ids: what is on disk knows nothing of them.
    let other = json!([{"containerID": 0, "hostID": FIRST_ID - 65536, "size": 65536}]);
    setup.set("/linux/uidMappings", other.clone()).set("/linux/gidMappings", other);
    setup.set("/process/args", json!(["/probe", "stat", "/etc/b"]));
    assert!(setup.output().contains(" 12:65535 "));
}

fn a_directory_of_the_image_is_removed_and_made_again() {
    let mut setup = mapped(&[
        "then", "rm", "/d/f", ",", "rmdir", "/d", ",", "mkdir", "/d", ",", "ls", "/d", ",", "write",
        "/d/new", "x",
    ]);
    std::fs::create_dir(setup.lower("d")).unwrap();
    std::fs::write(setup.lower("d/f"), "").unwrap();
    assert_eq!(setup.output(), "removed\nremoved\nmade\n\nwritten");
    assert_eq!((owner(setup.upper("d")), owner(setup.upper("d/new"))), ((0, 0), (0, 0)));
    assert!(setup.lower("d/f").exists(), "the image is as it was");
}

fn a_file_capability_is_stored_as_root_would_store_it() {
    let stored = |path: &Path| {
        let mut value = vec![0; 64];
        let length = rustix::fs::getxattr(path, "security.capability", &mut value[..]).unwrap();
        value.truncate(length);
        value
    };
    let script = ["then", "write", "/etc/f", "x", ",", "setcap", "/etc/f"];
    let mut plain = Setup::unmapped(&script);
    let mut setup = mapped(&script);
    for setup in [&mut plain, &mut setup] {
        assert_eq!(setup.output(), "written\ncapable");
    }
    let (want, got) = (stored(&plain.upper("etc/f")), stored(&setup.upper("etc/f")));
    // The kernel may write the form that says for whose root it is, which then is root.
    let root = got.get(20..24).map_or(0, |bytes| u32::from_le_bytes(bytes.try_into().unwrap()));
    assert_eq!((root, &got[4..20]), (0, &want[4..20]), "{got:?}");
}

fn an_image_shows_its_owners() {
    let mut setup = mapped(&["then", "stat", "/etc/a", ",", "stat", "/etc/large", ",", "cat", "/etc/a"]);
    for (name, id) in [("etc/a", 33), ("etc/large", 100_000)] {
        std::fs::write(setup.lower(name), "secret").unwrap();
        std::os::unix::fs::chown(setup.lower(name), Some(id), Some(id)).unwrap();
        std::fs::set_permissions(setup.lower(name), PermissionsExt::from_mode(0o600)).unwrap();
    }
    let out = setup.output();
    assert!(out.contains(" 33:33 ") && out.contains(" 65534:65534 ") && out.ends_with("secret"), "{out}");
}

fn a_bind_shows_its_owners_and_keeps_them() {
    let host = tempfile::tempdir().unwrap();
    std::fs::write(host.path().join("secret"), "for root").unwrap();
    std::fs::set_permissions(host.path().join("secret"), PermissionsExt::from_mode(0o600)).unwrap();
    let mut setup = mapped(&[
        "then",
        "cat",
        "/data/secret",
        ",",
        "write",
        "/data/new",
        "x",
        ",",
        "chown",
        "/data/new",
        "7",
        "8",
    ]);
    setup.mount(json!({"destination": "/data", "source": host.path(), "options": ["rbind", "ridmap"]}));
    assert_eq!(setup.output(), "for root\nwritten\ngiven");
    assert_eq!(owner(host.path().join("new")), (7, 8));
}

fn a_bind_without_mapping_is_nobodys() {
    let canary = Canary::new();
    let secret = canary.path().join("secret");
    std::fs::set_permissions(canary.path(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
    let mut setup =
        mapped(&["then", "cat", "/data/secret", ",", "write", "/data/new", "x", ",", "stat", "/data/secret"]);
    setup.mount(json!({"destination": "/data", "source": canary.path(), "options": ["rbind"]}));
    let out = setup.output();
    assert!(out.starts_with("error: 13\nerror: 13\n") && out.contains(" 65534:65534 "), "{out}");
    canary.is_untouched();
}

fn mounts_below_a_bind_are_mapped_one_by_one() {
    private_mounts();
    let source = tempfile::tempdir().unwrap();
    let at = |name: &str| source.path().join(name);
    for name in ["shm", "proc", "plain"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    another_mount(&at("shm"));
    mount("proc", at("proc"), "proc", MountFlags::empty(), None).unwrap();
    std::fs::create_dir(at("shm/deep")).unwrap();
    another_mount(&at("shm/deep"));
    let mut setup = mapped(&[
        "then",
        "write",
        "/data/shm/f",
        "x",
        ",",
        "write",
        "/data/shm/deep/f",
        "x",
        ",",
        "write",
        "/data/plain/f",
        "x",
        ",",
        "stat",
        "/data/proc/version",
        ",",
        "write",
        "/data/shm/deep/g",
        "x",
    ]);
    setup.mount(json!({"destination": "/data", "source": source.path(), "options": ["rbind", "ridmap"]}));
    let out = setup.output();
    let files = ["shm/f", "shm/deep/f", "plain/f"].map(|name| owner(at(name)));
    setup.oci["mounts"].as_array_mut().unwrap().pop();
    setup.mount(
        json!({"destination": "/data", "source": source.path(), "options": ["rbind", "ridmap", "rro"]}),
    );
    let read_only = setup.output();
    for name in ["shm/deep", "shm", "proc"] {
        unmount(at(name), UnmountFlags::DETACH).unwrap();
    }
    assert!(out.starts_with("written\nwritten\nwritten\n") && out.contains(" 65534:65534 "), "{out}");
    assert_eq!(files, [(0, 0); 3]);
    assert!(read_only.starts_with("error: 30\nerror: 30\nerror: 30\n"), "{read_only}");
}

fn a_file_system_that_cannot_be_mapped_is_refused_by_name() {
    private_mounts();
    let dir = tempfile::tempdir().unwrap();
    for name in ["lower", "upper", "work", "merged", "source"] {
        std::fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    let at = |name: &str| dir.path().join(name).display().to_string();
    let data = format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("upper"), at("work"));
    let data = std::ffi::CString::new(data).unwrap();
    mount("overlay", at("merged"), "overlay", MountFlags::empty(), data.as_c_str()).unwrap();
    std::fs::create_dir(dir.path().join("source/below")).unwrap();
    rustix::mount::mount_bind(at("merged"), at("source/below")).unwrap();
    for (source, shown) in [("merged", at("merged")), ("source", at("source/below"))] {
        let mut setup = mapped(&["exit", "0"]);
        setup.mount(json!({"destination": "/data", "source": at(source), "options": ["rbind", "ridmap"]}));
        let error = setup.refused();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        for word in [shown.as_str(), "overlay", "--userns=host", "mount /data"] {
            assert!(error.message().contains(word), "{error} should name {word}");
        }
    }
    // A strict specification has /proc refused as well.
    let mut setup = mapped(&["exit", "0"]);
    setup.spec.disk_ids = DiskIds::Host;
    setup.mount(json!({"destination": "/p", "source": "/proc", "options": ["bind", "idmap"]}));
    unmount(at("source/below"), UnmountFlags::DETACH).unwrap();
    unmount(at("merged"), UnmountFlags::DETACH).unwrap();
    assert!(setup.refused().message().contains("proc file system"));
}

fn a_mount_can_have_ids_of_its_own() {
    let host = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(host.path(), Some(1000), Some(1000)).unwrap();
    let ids = json!([{"containerID": 1000, "hostID": 0, "size": 1}]);
    let mut setup = Setup::unmapped(&["then", "stat", "/data", ",", "write", "/data/f", "x"]);
    setup.mount(json!({"destination": "/data", "source": host.path(), "options": ["bind", "idmap"],
        "uidMappings": ids.clone(), "gidMappings": ids}));
    let out = setup.output();
    assert!(out.contains(" 0:0 ") && out.ends_with("written"), "{out}");
    assert_eq!(owner(host.path().join("f")), (1000, 1000));
    let mut setup = Setup::unmapped(&["exit", "0"]);
    setup.mount(json!({"destination": "/data", "source": host.path(), "options": ["bind", "idmap"]}));
    assert!(setup.refused().message().contains("neither uidMappings"));
}

fn devices_belong_to_root_and_work() {
    let mut setup = mapped(&[
        "then",
        "stat",
        "/dev",
        ",",
        "stat",
        "/dev/null",
        ",",
        "write",
        "/dev/null",
        "x",
        ",",
        "stat",
        "/dev/mine",
        ",",
        "ls",
        "/dev",
        ",",
        "mknod",
        "/tmp/sda",
    ]);
    let mine = json!([{"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 3, "gid": 6}]);
    let out = setup.set("/linux/devices", mine).output();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines[..4],
        ["40755 0:0 dev 0:0", "20666 0:0 dev 1:3", "written", "20640 3:6 dev 1:5"],
        "{out}"
    );
    assert_eq!(lines[4], "fd full mine mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero");
    assert_eq!(lines[5], "error: 1", "nobody inside makes devices");
}

fn a_device_may_be_anywhere() {
    let host = tempfile::tempdir().unwrap();
    let mut setup = mapped(&[
        "then",
        "stat",
        "/data/zero",
        ",",
        "stat",
        "/dev/shm/zero",
        ",",
        "append",
        "/data/zero",
        "x",
    ]);
    setup.mount(json!({"destination": "/data", "source": host.path(), "options": ["rbind", "ridmap"]}));
    let zero = |path: &str| json!({"path": path, "type": "c", "major": 1, "minor": 5, "fileMode": 0o666});
    let out = setup.set("/linux/devices", json!([zero("/data/zero"), zero("/dev/shm/zero")])).output();
    assert_eq!(out, "20666 0:0 dev 1:5\n20666 0:0 dev 1:5\nwritten");
    assert!(!std::fs::symlink_metadata(host.path().join("zero")).unwrap().file_type().is_symlink());
    assert_eq!(
        std::fs::metadata(host.path().join("zero")).unwrap().len(),
        0,
        "a place, and no device on the host"
    );
}

fn parameters_of_its_own_namespaces_can_be_set() {
    let mut setup = mapped(&[
        "then",
        "cat",
        "/proc/sys/net/ipv4/ping_group_range",
        ",",
        "cat",
        "/proc/sys/kernel/shmmax",
        ",",
        "cat",
        "/proc/sys/kernel/domainname",
        ",",
        "ls",
        "/sys/class/net",
        ",",
        "host",
    ]);
    setup.set(
        "/linux/sysctl",
        json!({"net.ipv4.ping_group_range": "0 65535", "kernel.shmmax": "4096", "kernel.domainname": "lan"}),
    );
    let out = setup.output();
    assert_eq!(out.replace('\t', " "), "0 65535\n4096\nlan\nlo\nbox");
    let mut setup = mapped(&["exit", "0"]);
    setup.set("/linux/sysctl", json!({"net.ipv4.ping_group_range": "0 65536"}));
    assert!(setup.refused().message().contains("ping_group_range"));
}

fn an_exec_is_in_the_same_user_namespace() {
    let mut setup = mapped(&["sleep"]);
    let mut started = setup.start().unwrap();
    let said = started.exec_probe(&[
        "then",
        "cat",
        "/proc/self/uid_map",
        ",",
        "id",
        ",",
        "append",
        "/dev/stdout",
        "x\n",
    ]);
    assert!(said.out.contains(&FIRST_ID.to_string()) && said.out.contains("Uid: 0 0 0 0"), "{}", said.out);
    assert!(said.out.contains("CapEff: 00000000a80425fb") && said.out.contains("x\nwritten"), "{}", said.out);
    let mut exec = exec(&["then", "id", ",", "append", "/dev/stdout", "y\n"]);
    exec.identity = Some(tare_model::sandbox::Identity { user: "33:34".into(), groups: vec!["35".into()] });
    let said = started.exec(&exec).unwrap();
    assert!(said.out.starts_with("Uid: 33 33 33 33\nGid: 34 34 34 34\nGroups: 34 35"), "{}", said.out);
    assert!(said.out.contains("y\nwritten"), "{}", said.out);
    started.kill();
}

fn a_terminal_belongs_to_the_user() {
    let mut setup =
        mapped(&["then", "tty", ",", "stat", "/dev/pts/0", ",", "stat", "/dev/console", ",", "sleep"]);
    setup.user("5:6");
    let started = setup.start_with(terminal(), None).unwrap();
    let master = started.launched.terminal.as_ref().unwrap();
    let lines: Vec<String> = (0..3).map(|_| crate::setup::read_line(master)).collect();
    assert_eq!(lines[0], "/dev/pts/0 33x101 controlling=true");
    for line in &lines[1..] {
        assert!(line.starts_with("20620 5:5 dev 136:0"), "{line}");
    }
    started.kill();
}

fn layers_may_be_attached_for_old_kernels() {
    let mut setup = mapped(&["then", "write", "/etc/a", "x", ",", "cat", "/etc/b"]);
    setup.runtime = Runtime::new(Options { detached_layers: false, ..Options::default() }).unwrap();
    std::fs::write(setup.lower("etc/b"), "below").unwrap();
    let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let here = std::env::current_dir().unwrap();
    assert_eq!(setup.output(), "written\nbelow");
    assert_eq!(owner(setup.upper("etc/a")), (0, 0));
    assert_eq!(std::env::current_dir().unwrap(), here);
    assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
}

fn a_root_directory_is_mapped_with_what_is_below() {
    private_mounts();
    let mut setup = mapped(&["then", "write", "/etc/a", "x", ",", "write", "/below/f", "x"]);
    let root = setup.dir.path().join("lower");
    setup.spec.rootfs = tare_model::sandbox::Rootfs::Directory { path: root.clone() };
    for name in ["below", "kernel"] {
        std::fs::create_dir(root.join(name)).unwrap();
    }
    another_mount(&root.join("below"));
    mount("proc", root.join("kernel"), "proc", MountFlags::empty(), None).unwrap();
    let out = setup.output();
    let below = owner(root.join("below/f"));
    unmount(root.join("below"), UnmountFlags::DETACH).unwrap();
    unmount(root.join("kernel"), UnmountFlags::DETACH).unwrap();
    assert_eq!((out.as_str(), below, owner(root.join("etc/a"))), ("written\nwritten", (0, 0), (0, 0)));
}

fn another_container_may_join() {
    let mut first = mapped(&["sleep"]);
    let started = first.start().unwrap();
    let pid = started.launched.pid;
    let theirs = |kind: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    for joined in ["user", "ipc", "pid"] {
        let mut setup =
            mapped(&["then", "write", "/etc/a", "x", ",", "id", ",", "stat", "/dev/null", ",", "sleep"]);
        setup.namespace(json!({"type": "user", "path": format!("/proc/{pid}/ns/user")}));
        setup.namespace(json!({"type": joined, "path": format!("/proc/{pid}/ns/{joined}")}));
        let second = setup.start().unwrap();
        let ours =
            |kind: &str| std::fs::read_link(format!("/proc/{}/ns/{kind}", second.launched.pid)).unwrap();
        assert_eq!((ours("user"), ours(joined)), (theirs("user"), theirs(joined)), "{joined}");
        for own in ["mnt", "net", "uts", "ipc", "pid"].into_iter().filter(|kind| *kind != joined) {
            assert_ne!(ours(own), theirs(own), "{own} while {joined} is joined");
        }
        let lines: Vec<String> =
            std::iter::repeat_with(|| second.line()).take_while(|line| line != "waiting").collect();
        second.kill();
        let out = lines.join("\n");
        assert!(
            out.starts_with("written\nUid: 0 0 0 0") && out.contains("20666 0:0 dev 1:3"),
            "{joined}: {out}"
        );
        assert_eq!(owner(setup.upper("etc/a")), (0, 0));
    }
    started.kill();
}

fn ids_that_are_not_mapped_are_refused() {
    let error = mapped(&["id"]).user("70000").refused();
    assert!(error.message().contains("70000") && error.message().contains("user namespace"), "{error}");
    let maps = json!([{"containerID": 0, "hostID": FIRST_ID, "size": 65536},
        {"containerID": 70000, "hostID": FIRST_ID + 65536, "size": 1}]);
    let mut setup = mapped(&["then", "icmp", ",", "id"]);
    setup.set("/linux/uidMappings", maps.clone()).set("/linux/gidMappings", maps);
    for (groups, outcome) in [("0 70000", "may ping"), ("0 65535", "error: 13"), ("5 5", "error: 13")] {
        setup.set("/linux/sysctl", json!({"net.ipv4.ping_group_range": groups}));
        let out = setup.user("70000:70000").output();
        let want = format!("{outcome}\nUid: 70000 70000 70000 70000\nGid: 70000 70000");
        assert!(out.starts_with(&want), "{groups}: {out}");
    }
}

fn without_mapping_the_root_belongs_to_its_ids() {
    let mut setup =
        mapped(&["then", "write", "/etc/a", "x", ",", "stat", "/etc/a", ",", "write", "/mine/b", "x"]);
    setup.spec.disk_ids = DiskIds::Host;
    std::fs::create_dir(setup.lower("mine")).unwrap();
    for name in ["mine", "dev", "proc", "sys"] {
        std::os::unix::fs::chown(setup.lower(name), Some(FIRST_ID), Some(FIRST_ID)).unwrap();
    }
    let out = setup.output();
    assert!(out.starts_with("error: 13\nerror: 2\nwritten"), "{out}");
    assert_eq!(owner(setup.upper("mine/b")), (FIRST_ID, FIRST_ID));
}

/// What covers and protects is locked: with all capabilities inside, a read-only bind stays read-only.
fn what_is_mounted_stays_so_for_the_administrator_inside() {
    let host = tempfile::tempdir().unwrap();
    let attempts: Vec<&str> =
        "remount /data , write /data/new x , umount /data , umount /proc/keys , umount /proc/irq , \
         remount /proc/irq , remount /sys/fs/cgroup , umount /sys , procfs /tmp"
            .split_whitespace()
            .collect();
    let mut setup = mapped(&[&["then"], attempts.as_slice()].concat());
    setup.spec.seccomp = tare_model::sandbox::Seccomp::Unconfined;
    for set in ["bounding", "effective", "permitted"] {
        setup.set(&format!("/process/capabilities/{set}"), json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]));
    }
    setup.mount(json!({"destination": "/data", "source": host.path(), "options": ["bind", "ro", "idmap"]}));
    let out = setup.output();
    assert_eq!(
        out.lines().collect::<Vec<_>>(),
        ["1", "30", "22", "22", "22", "1", "1", "22", "1"].map(|n| format!("error: {n}")),
        "{out}"
    );
    assert_eq!(std::fs::read_dir(host.path()).unwrap().count(), 0, "the host's directory was written");
}

/// The container itself could not undo it; a privileged exec has every capability.
fn what_is_mounted_stays_so_for_a_privileged_exec() {
    let host = tempfile::tempdir().unwrap();
    let mut setup = mapped(&["sleep"]);
    setup.mount(json!({"destination": "/data", "source": host.path(), "options": ["bind", "ro", "idmap"]}));
    let mut started = setup.start().unwrap();
    let words = "then remount /data , write /data/new x , umount /data".split_whitespace();
    let mut exec = exec(&words.collect::<Vec<_>>());
    exec.privileged = true;
    let said = started.exec(&exec).unwrap();
    assert_eq!(said.out, "error: 1\nerror: 30\nerror: 22");
    started.kill();
    assert_eq!(std::fs::read_dir(host.path()).unwrap().count(), 0, "the host's directory was written");
}

/// Where nothing of the host's is shown, mounts are not locked: what such an exec then reaches belongs to the host's root, who
/// is nobody inside.
fn what_a_privileged_exec_uncovers_is_shut_by_the_kernel() {
    let mut setup = mapped(&["sleep"]);
    let mut started = setup.start().unwrap();
    for (covered, attempt) in [
        ("/proc/timer_list", "cat /proc/timer_list"),
        ("/proc/irq", "write /proc/irq/default_smp_affinity 1"),
        ("/proc/sysrq-trigger", "write /proc/sysrq-trigger h"),
        ("/proc/sys", "write /proc/sys/kernel/core_pattern evil"),
    ] {
        if !Path::new(covered).exists() {
            continue;
        }
        let words = format!("then umount {covered} , {attempt}");
        let mut exec = exec(&words.split_whitespace().collect::<Vec<_>>());
        exec.privileged = true;
        let said = started.exec(&exec).unwrap();
        assert_eq!(said.out, "taken off\nerror: 13", "{covered}");
    }
    started.kill();
}

/// Locking the mounts takes a guest, which is not the container's.
fn one_process_is_enough_for_an_administrator() {
    let mut setup = mapped(&["id"]);
    setup.set("/linux/resources", json!({"pids": {"limit": 1}}));
    for set in ["bounding", "effective", "permitted"] {
        setup.set(&format!("/process/capabilities/{set}"), json!(["CAP_SYS_ADMIN"]));
    }
    assert!(setup.output().starts_with("Uid: 0"));
}
