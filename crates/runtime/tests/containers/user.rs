//! Whose process it is: looked up in files that may be hostile.

use std::os::unix::fs::symlink;

use serde_json::json;
use tare_model::ErrorKind;

use crate::setup::{Canary, Setup};

crate::tests![
    ids_of_the_specification_arrive,
    a_user_is_looked_up_in_the_containers_files,
    a_user_other_than_root_has_no_capabilities,
    ambient_capabilities_arrive_when_asked_for,
    a_number_is_not_a_name,
    nonsense_users_are_refused,
    hostile_passwd_files_are_refused_quickly,
    a_passwd_that_leads_outside_is_not_there,
    home_is_set_unless_given,
    pipes_belong_to_the_user_so_that_dev_stdout_opens,
    the_working_directory_is_made_inside,
    a_working_directory_through_descriptors_is_refused,
];

const PASSWD: &str =
    "root:x:0:0::/root:/bin/sh\nalice:x:1000:1001::/home/alice:/bin/sh\n1000:x:0:0::/evil:/bin/sh\n";
const GROUP: &str = "root:x:0:\naudio:x:29:alice\n";

fn with_users(args: &[&str]) -> Setup {
    let setup = Setup::new(args);
    std::fs::write(setup.lower("etc/passwd"), PASSWD).unwrap();
    std::fs::write(setup.lower("etc/group"), GROUP).unwrap();
    setup
}

fn ids_of_the_specification_arrive() {
    let mut setup = Setup::new(&["id"]);
    setup.set("/process/user", json!({"uid": 12, "gid": 34, "additionalGids": [56, 78]}));
    let out = setup.output();
    assert!(out.starts_with("Uid: 12 12 12 12\nGid: 34 34 34 34\nGroups: 56 78"), "{out}");
}

fn a_user_is_looked_up_in_the_containers_files() {
    let out = with_users(&["id"]).user("alice").output();
    assert!(out.starts_with("Uid: 1000 1000 1000 1000\nGid: 1001 1001 1001 1001\nGroups: 29 1001"), "{out}");
}

fn a_user_other_than_root_has_no_capabilities() {
    let out = with_users(&["id"]).user("1000").output();
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert!(out.contains(&format!("{set}: 0000000000000000")), "{out}");
    }
    assert!(out.contains("CapBnd: 00000000a80425fb"), "{out}");
}

fn ambient_capabilities_arrive_when_asked_for() {
    let mut setup = Setup::new(&["id"]);
    let bind = json!(["CAP_NET_BIND_SERVICE"]);
    for set in ["inheritable", "ambient"] {
        setup.set(&format!("/process/capabilities/{set}"), bind.clone());
    }
    setup.set("/process/user", json!({"uid": 5, "gid": 5}));
    let out = setup.output();
    assert!(out.contains("CapEff: 0000000000000400") && out.contains("CapAmb: 0000000000000400"), "{out}");
}

fn a_number_is_not_a_name() {
    for (user, uid) in [("1000", 1000), ("01", 1), ("1:", 1), ("0", 0), ("1:1", 1)] {
        let out = with_users(&["id"]).user(user).output();
        assert!(out.starts_with(&format!("Uid: {uid} {uid}")), "{user}: {out}");
    }
}

fn nonsense_users_are_refused() {
    for user in ["-1", "+1", "0x0", "4294967296", "2147483648", "mallory", "alice:mallory", "a\nb"] {
        let error = with_users(&["id"]).user(user).refused();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{user:?}: {error}");
    }
}

fn hostile_passwd_files_are_refused_quickly() {
    for file in ["etc/passwd", "etc/group"] {
        for kind in ["fifo", "directory", "sparse", "device"] {
            let mut setup = Setup::new(&["id"]);
            let path = setup.lower(file);
            match kind {
                "fifo" => make_node(&path, rustix::fs::FileType::Fifo, 0),
                "device" => {
                    make_node(&path, rustix::fs::FileType::CharacterDevice, rustix::fs::makedev(1, 5));
                }
                "directory" => std::fs::create_dir(&path).unwrap(),
                _ => std::fs::File::create(&path).unwrap().set_len(10 << 30).unwrap(),
            }
            let began = std::time::Instant::now();
            let error = setup.user("alice").refused();
            assert_eq!(error.kind(), ErrorKind::Forbidden, "{file} {kind}: {error}");
            assert!(began.elapsed() < std::time::Duration::from_secs(10), "{file} {kind}");
        }
    }
}

fn make_node(path: &std::path::Path, kind: rustix::fs::FileType, device: u64) {
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, rustix::fs::Mode::from_raw_mode(0o644), device).unwrap();
}

fn a_passwd_that_leads_outside_is_not_there() {
    let canary = Canary::new();
    std::fs::write(canary.path().join("secret"), "untouched").unwrap();
    let mut setup = Setup::new(&["id"]);
    symlink(canary.path().join("secret"), setup.lower("etc/passwd")).unwrap();
    assert!(setup.user("5").output().starts_with("Uid: 5 5"));
    let error = setup.user("root").refused();
    assert!(error.message().contains("unable to find user root"), "{error}");
}

fn home_is_set_unless_given() {
    let mut setup = with_users(&["env"]);
    setup.set("/process/env", json!(["A=1"]));
    assert_eq!(setup.user("alice").output(), "A=1\nHOME=/home/alice");
    setup.set("/process/env", json!(["HOME=/given"]));
    assert_eq!(setup.output(), "HOME=/given");
}

fn pipes_belong_to_the_user_so_that_dev_stdout_opens() {
    assert_eq!(
        with_users(&["append", "/dev/stdout", "through the file\n"]).user("alice").output(),
        "through the file\nwritten"
    );
}

fn the_working_directory_is_made_inside() {
    let canary = Canary::new();
    let mut setup = Setup::new(&["pwd"]);
    symlink(canary.path(), setup.lower("l")).unwrap();
    setup.spec.create_cwd = true;
    let inside = canary.path().join("x");
    assert_eq!(setup.set("/process/cwd", json!("/l/x")).output(), inside.to_str().unwrap());
    assert!(setup.upper(inside.strip_prefix("/").unwrap().to_str().unwrap()).is_dir());
    canary.is_untouched();
}

fn a_working_directory_through_descriptors_is_refused() {
    let mut setup = Setup::new(&["pwd"]);
    symlink("/proc/self/fd/7", setup.lower("link")).unwrap();
    let mut paths: Vec<String> = (0..31).map(|fd| format!("/proc/self/fd/{fd}")).collect();
    paths.extend(["/link".to_owned(), "/proc/self/cwd".to_owned(), "/proc/self/fd/7/../../..".to_owned()]);
    for path in paths {
        for create in [false, true] {
            setup.spec.create_cwd = create;
            setup.set("/process/cwd", json!(path)).refused();
        }
    }
}
