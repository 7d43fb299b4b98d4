//! What the filters let through, asked from inside.

use serde_json::json;
use tare_model::sandbox::Seccomp;

use crate::setup::Setup;

crate::tests![
    only_the_families_of_the_list_open,
    without_a_filter_more_families_open,
    af_alg_is_shut_by_every_route,
    without_a_filter_the_routes_are_open,
    a_thirty_two_bit_image_gets_its_calls_but_not_x32,
    no_namespace_and_no_mount_can_be_made,
    the_strict_filter_shuts_packets_and_netlink_too,
    dockers_filter_opens_what_docker_opens,
];

fn filtered(filter: Seccomp, verb: &str) -> String {
    let mut setup = Setup::new(&[verb]);
    setup.spec.seccomp = filter;
    setup.output()
}

// === the filters ===

/// Security rows 138 and 141.
fn only_the_families_of_the_list_open() {
    assert_eq!(filtered(Seccomp::Default, "sockets"), "1 2 10 16 17\n1 2 10 16 17\n1 2 10 16 17");
}

fn without_a_filter_more_families_open() {
    let out = filtered(Seccomp::Unconfined, "sockets");
    let first = out.lines().next().unwrap().split(' ').count();
    assert_eq!(first, 47, "no family is EPERM of itself: {out}");
}

/// Security row 140.
fn af_alg_is_shut_by_every_route() {
    for filter in [Seccomp::Default, Seccomp::Strict] {
        let out = filtered(filter, "routes");
        assert!(out.lines().all(|line| line.ends_with(" 1")), "{filter:?}: {out}");
        assert!(cfg!(not(target_arch = "x86_64")) || out.lines().count() == 6, "{out}");
    }
}

fn without_a_filter_the_routes_are_open() {
    let out = filtered(Seccomp::Unconfined, "routes");
    assert!(out.lines().all(|line| !line.ends_with(" 1")), "{out}");
    assert!(cfg!(not(target_arch = "x86_64")) || out.contains("int80-getpid 0"), "{out}");
}

fn a_thirty_two_bit_image_gets_its_calls_but_not_x32() {
    if cfg!(not(target_arch = "x86_64")) {
        return;
    }
    let out = filtered(Seccomp::DefaultThirtyTwoBit, "routes");
    for shut in ["socket 1", "x32 1", "int80 1", "x32-getpid 1"] {
        assert!(out.lines().any(|line| line == shut), "{shut}: {out}");
    }
    assert!(out.contains("int80-getpid 0"), "{out}");
}

/// Security row 138.
fn no_namespace_and_no_mount_can_be_made() {
    for filter in [Seccomp::Default, Seccomp::Strict, Seccomp::Docker] {
        assert_eq!(filtered(filter, "walls"), "unshare 1\nclone 1\nclone3 38\nfsopen 1", "{filter:?}");
    }
}

fn the_strict_filter_shuts_packets_and_netlink_too() {
    let mut setup = Setup::new(&["sockets"]);
    setup.spec.seccomp = Seccomp::Strict;
    let nine = [
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "KILL",
    ];
    let nine: Vec<String> = nine.iter().map(|name| format!("CAP_{name}")).collect();
    for set in ["bounding", "effective", "permitted"] {
        setup.set(&format!("/process/capabilities/{set}"), json!(nine));
    }
    assert_eq!(setup.output().lines().next(), Some("1 2 10 16"));
}

fn dockers_filter_opens_what_docker_opens() {
    let out = filtered(Seccomp::Docker, "sockets");
    for line in out.lines() {
        let open: Vec<&str> = line.split(' ').collect();
        assert!(open.len() == 45 && !open.contains(&"38") && !open.contains(&"40"), "{line}");
    }
}
