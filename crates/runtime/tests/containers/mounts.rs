//! Mounts of every kind end up where they should, with the options they should have.

use serde_json::json;

use crate::setup::{Canary, Setup};

crate::tests![
    a_bound_directory_is_shared_with_the_host,
    a_read_only_bind_cannot_be_written,
    a_recursive_read_only_bind_covers_mounts_below,
    a_single_file_is_bound_on_a_place_that_is_made,
    a_link_to_nowhere_is_a_place_for_a_mount,
    a_bind_flag_that_is_not_named_stays,
    a_tmpfs_has_its_size_and_mode,
    a_tmpfs_keeps_the_mode_of_what_it_covers,
    mounts_are_made_in_order,
    a_plain_directory_serves_as_root,
    layers_show_the_topmost_first,
    many_layers_with_long_names_are_one_root,
    a_program_may_be_on_a_bind,
    an_unknown_file_system_is_named,
    a_wrong_option_is_named,
    shared_memory_and_queues_are_the_containers_own,
];

fn a_bound_directory_is_shared_with_the_host() {
    let host = tempfile::tempdir().unwrap();
    let mut setup = Setup::new(&["write", "/data/deep/er/f", "from inside"]);
    std::fs::create_dir_all(host.path().join("er")).unwrap();
    setup
        .mount(json!({"destination": "/data/deep", "source": host.path(), "options": ["rbind", "rprivate"]}));
    assert_eq!(setup.output(), "written");
    assert_eq!(std::fs::read_to_string(host.path().join("er/f")).unwrap(), "from inside");
}

fn a_read_only_bind_cannot_be_written() {
    let canary = Canary::new();
    let mut setup =
        Setup::new(&["then", "write", "/data/new", "x", ",", "cat", "/data/secret", ",", "remount", "/data"]);
    setup.mount(json!({"destination": "/data", "source": canary.path(), "options": ["bind", "ro"]}));
    assert_eq!(setup.output(), "error: 30\nuntouched\nerror: 1");
    canary.is_untouched();
}

fn a_recursive_read_only_bind_covers_mounts_below() {
    for (option, below) in [("ro", "written"), ("rro", "error: 30")] {
        let mut setup = Setup::new(&["then", "write", "/data/f", "x", ",", "write", "/data/shm/f", "x"]);
        // A mount below the source, in a mount namespace of the test's own.
        tare_sys::process::unshare(tare_sys::process::Namespaces::MOUNT).unwrap();
        let source = setup.dir.path().join("source");
        std::fs::create_dir_all(source.join("shm")).unwrap();
        let private =
            rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).unwrap();
        crate::setup::another_mount(&source.join("shm"));
        setup.mount(json!({"destination": "/data", "source": source, "options": ["rbind", option]}));
        let out = setup.output();
        rustix::mount::unmount(source.join("shm"), rustix::mount::UnmountFlags::DETACH).unwrap();
        assert_eq!(out, format!("error: 30\n{below}"), "{option}");
    }
}

fn a_single_file_is_bound_on_a_place_that_is_made() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "nameserver ::1").unwrap();
    let mut setup = Setup::new(&["cat", "/etc/resolv.conf"]);
    setup.mount(json!({"destination": "/etc/resolv.conf", "source": file.path(), "options": ["bind"]}));
    assert_eq!(setup.output(), "nameserver ::1");
}

fn a_link_to_nowhere_is_a_place_for_a_mount() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "nameserver ::1").unwrap();
    let mut setup = Setup::new(&["cat", "/etc/resolv.conf"]);
    std::os::unix::fs::symlink("../run/systemd/resolve/stub.conf", setup.lower("etc/resolv.conf")).unwrap();
    setup.mount(json!({"destination": "/etc/resolv.conf", "source": file.path(), "options": ["bind"]}));
    assert_eq!(setup.output(), "nameserver ::1");
}

fn a_bind_flag_that_is_not_named_stays() {
    let mut setup = Setup::new(&["cat", "/proc/self/mountinfo"]);
    let options = ["bind", "nosuid", "nodev", "noexec", "noatime"];
    setup.mount(
        json!({"destination": "/data", "source": setup.dir.path().join("lower/tmp"), "options": options}),
    );
    let out = setup.output();
    let line = out.lines().find(|line| line.contains(" /data ")).unwrap();
    assert!(line.contains("rw,nosuid,nodev,noexec,noatime"), "{line}");
}

fn a_tmpfs_has_its_size_and_mode() {
    let mut setup = Setup::new(&["then", "stat", "/scratch", ",", "cat", "/proc/self/mountinfo"]);
    setup.mount(json!({"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=700", "size=4096k"]}));
    let out = setup.output();
    assert!(out.starts_with("40700 ") && out.contains("size=4096k"), "{out}");
}

fn a_tmpfs_keeps_the_mode_of_what_it_covers() {
    let mut setup = Setup::new(&["stat", "/tmp"]);
    std::fs::set_permissions(setup.lower("tmp"), std::os::unix::fs::PermissionsExt::from_mode(0o1753))
        .unwrap();
    setup.mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]}));
    assert!(setup.output().starts_with("41753 "));
}

fn mounts_are_made_in_order() {
    let canary = Canary::new();
    let mut setup = Setup::new(&["then", "ls", "/a", ",", "ls", "/a/b"]);
    setup.mount(json!({"destination": "/a", "type": "tmpfs", "source": "tmpfs"}));
    setup.mount(json!({"destination": "/a/b", "source": canary.path(), "options": ["bind"]}));
    assert_eq!(setup.output(), "b\nsecret");
}

fn a_plain_directory_serves_as_root() {
    let mut setup = Setup::new(&["then", "write", "/here", "x", ",", "ls", "/"]);
    setup.spec.rootfs = tare_model::sandbox::Rootfs::Directory { path: setup.dir.path().join("lower") };
    assert_eq!(setup.output(), "written\ndev etc here probe proc sys tmp");
    assert_eq!(std::fs::read_to_string(setup.lower("here")).unwrap(), "x");
}

fn layers_show_the_topmost_first() {
    let mut setup = Setup::new(&["cat", "/which"]);
    let top = setup.dir.path().join("top");
    std::fs::create_dir(&top).unwrap();
    std::fs::write(top.join("which"), "top").unwrap();
    std::fs::write(setup.lower("which"), "bottom").unwrap();
    if let tare_model::sandbox::Rootfs::Overlay { lowers, .. } = &mut setup.spec.rootfs {
        lowers.insert(0, top);
    }
    assert_eq!(setup.output(), "top");
}

fn many_layers_with_long_names_are_one_root() {
    let mut setup = Setup::new(&["then", "cat", "/layer0", ",", "cat", "/layer59"]);
    for number in 0..60 {
        let mut layer = setup.dir.path().join(format!("layer:{number},x\\y"));
        while layer.as_os_str().len() < 300 {
            layer.push("a-directory-with-a-rather-long-name-inside");
        }
        std::fs::create_dir_all(&layer).unwrap();
        std::fs::write(layer.join(format!("layer{number}")), number.to_string()).unwrap();
        if let tare_model::sandbox::Rootfs::Overlay { lowers, .. } = &mut setup.spec.rootfs {
            lowers.insert(0, layer);
        }
    }
    assert_eq!(setup.output(), "0\n59");
}

fn a_program_may_be_on_a_bind() {
    let mut setup = Setup::new(&[]);
    let own = std::env::current_exe().unwrap();
    setup.mount(json!({"destination": "/opt/probe", "source": own, "options": ["bind", "ro"]}));
    setup.set("/process/args", json!(["/opt/probe", "echo", "here"]));
    assert_eq!(setup.output(), "here");
}

fn an_unknown_file_system_is_named() {
    let mut setup = Setup::new(&["exit", "0"]);
    setup.mount(json!({"destination": "/x", "type": "nosuchfs", "source": "none"}));
    let error = setup.refused();
    let call = if tare_sys::mount::can_detach() { "fsopen(" } else { "mount(" };
    assert!(error.message().contains(&format!("mount /x: {call}")), "{error}");
    assert!(error.message().contains("\"nosuchfs\""), "{error}");
}

fn a_wrong_option_is_named() {
    let mut setup = Setup::new(&["exit", "0"]);
    setup.mount(json!({"destination": "/x", "type": "tmpfs", "source": "tmpfs", "options": ["sizzle=5"]}));
    let error = setup.refused();
    assert!(error.message().contains("mount /x") && error.message().contains("sizzle"), "{error}");
}

fn shared_memory_and_queues_are_the_containers_own() {
    let mut setup = Setup::new(&["then", "write", "/dev/shm/tare-test", "x", ",", "ls", "/dev/mqueue"]);
    assert_eq!(setup.output(), "written");
    assert!(!std::path::Path::new("/dev/shm/tare-test").exists());
}
