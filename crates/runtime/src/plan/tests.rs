//! Plans of whole containers: what is in them, in which order, and what is refused.

use serde_json::{Value, json};
use tare_model::ErrorKind;
use tare_model::sandbox::{DiskIds, ExecSpec, Identity, Rootfs, SandboxSpec, Seccomp};

use super::*;

const MANNER: Manner = Manner {
    terminal: false,
    die_with_parent: true,
    gate: false,
    join_cgroups: true,
    keep_keyring: false,
    door: false,
};

/// An ordinary specification; tests change what they are about.
fn document() -> Value {
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["sh", "-c", "true"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {"bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"]},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 18446744073709551615_u64}]
        },
        "root": {"path": "unused"},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/data", "type": "bind", "source": "/srv", "options": ["rbind", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}
        ],
        "linux": {
            "cgroupsPath": "/tare/x",
            "namespaces": [
                {"type": "mount"}, {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}, {"type": "cgroup"}
            ],
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"]
        }
    })
}

fn sandbox(document: Value) -> SandboxSpec {
    SandboxSpec {
        id: tare_model::ContainerId::from_bytes([7; 32]),
        oci: serde_json::from_value(document).unwrap(),
        rootfs: Rootfs::Directory { path: "/r".into() },
        identity: None,
        seccomp: Seccomp::Default,
        init: false,
        create_cwd: false,
        disk_ids: Default::default(),
    }
}

fn planned(document: Value) -> Result<Plan> {
    Plan::container(&sandbox(document), MANNER)
}

/// The ordinary document with the value at `pointer` replaced.
fn with(pointer: &str, value: Value) -> Value {
    let mut document = document();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    document.pointer_mut(parent).unwrap()[key] = value;
    document
}

fn position(plan: &Plan, wanted: impl Fn(&Step) -> bool) -> usize {
    plan.steps.iter().position(wanted).unwrap_or_else(|| panic!("no such step in {:#?}", plan.steps))
}

fn refused(document: Value, kind: ErrorKind, word: &str) {
    let error = planned(document).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(word), "{error} should name {word}");
}

#[test]
fn sources_are_prepared_before_the_root_is_entered_and_attached_after() {
    let plan = planned(document()).unwrap();
    let enter = position(&plan, |step| *step == Step::EnterRoot);
    for (at, step) in plan.steps.iter().enumerate() {
        match step {
            Step::Prepare(_) | Step::AssembleRoot { .. } | Step::Propagate(_) => {
                assert!(at < enter, "{step:?}")
            }
            Step::Attach(_) | Step::Device(_) | Step::Mask(_) | Step::ReadOnly(_) | Step::FindUser => {
                assert!(at > enter, "{step:?}");
            }
            _ => {}
        }
    }
}

#[test]
fn each_place_has_its_source_in_the_same_order() {
    let plan = planned(document()).unwrap();
    let sources = plan.steps.iter().filter_map(|step| match step {
        Step::Prepare(source) => Some(source.destination.as_str()),
        _ => None,
    });
    let places = plan.steps.iter().filter_map(|step| match step {
        Step::Attach(place) => Some(place.destination.as_str()),
        _ => None,
    });
    assert!(sources.clone().eq(places));
    assert_eq!(sources.collect::<Vec<_>>(), ["/proc", "/dev", "/data", "/sys/fs/cgroup"]);
}

#[test]
fn the_cgroup_namespace_is_made_after_the_groups_were_joined() {
    let plan = planned(document()).unwrap();
    assert!(plan.namespaces.new_cgroup && !plan.namespaces.new.contains(Namespaces::CGROUP));
    let join = position(&plan, |step| *step == Step::JoinCgroups);
    assert!(join < position(&plan, |step| *step == Step::NewCgroupNamespace));
}

#[test]
fn the_process_guards_itself_first_and_becomes_the_program_last() {
    for plan in [
        planned(document()).unwrap(),
        Plan::exec(&sandbox(document()), &ExecSpec { args: vec!["x".into()], ..ExecSpec::default() }, MANNER)
            .unwrap(),
    ] {
        assert_eq!(plan.steps.first(), Some(&Step::Guard));
        assert_eq!(plan.steps.last(), Some(&Step::Become));
    }
}

#[test]
fn the_root_is_made_read_only_after_everything_was_put_into_it() {
    let plan = planned(with("/root", json!({"path": "x", "readonly": true}))).unwrap();
    let at = position(&plan, |step| *step == Step::RootReadOnly);
    let last = plan.steps.iter().rposition(|step| matches!(step, Step::Attach(_) | Step::Device(_))).unwrap();
    assert!(at > last);
    assert!(!planned(document()).unwrap().steps.contains(&Step::RootReadOnly));
}

#[test]
fn nothing_the_host_does_to_mounts_reaches_the_container_unless_asked() {
    let plan = planned(document()).unwrap();
    position(&plan, |step| *step == Step::Propagate(Propagation::Private));
    let bind = json!([{"destination": "/d", "source": "/srv", "options": ["rbind", "rslave"]}]);
    let plan = planned(with("/mounts", bind)).unwrap();
    position(&plan, |step| *step == Step::Propagate(Propagation::Slave));
}

#[test]
fn a_bind_is_changed_by_its_options_and_a_new_file_system_made_with_them() {
    let plan = planned(document()).unwrap();
    let source = |destination: &str| {
        plan.steps.iter().find_map(|step| match step {
            Step::Prepare(source) if source.destination == destination => Some(source.clone()),
            _ => None,
        })
    };
    let data = source("/data").unwrap();
    assert_eq!(data.what, What::Bind { path: "/srv".into(), recursive: true, mapped: None });
    assert_eq!((data.attributes, data.changes.len()), (Attributes::NONE, 1));
    assert_eq!(data.changes[0].set, Attributes::RDONLY);
    let proc = source("/proc").unwrap();
    assert!(proc.attributes.contains(Attributes::NOEXEC) && proc.changes.is_empty());
}

#[test]
fn a_tmpfs_without_mode_takes_over_that_of_its_directory() {
    let mounts = json!([{"destination": "/run", "type": "tmpfs", "source": "tmpfs"}]);
    let plan = planned(with("/mounts", mounts)).unwrap();
    position(&plan, |step| matches!(step, Step::Attach(place) if place.rules.keep_mode));
}

#[test]
fn proc_and_sysfs_need_a_real_directory() {
    let plan = planned(document()).unwrap();
    position(&plan, |step| matches!(step, Step::Attach(p) if p.destination == "/proc" && p.rules.no_links));
}

#[test]
fn nothing_but_procfs_goes_to_proc() {
    let volume = json!([{"destination": "/proc/", "source": "/srv", "options": ["bind"]}]);
    refused(with("/mounts", volume), ErrorKind::Forbidden, "/proc");
}

#[test]
fn a_bound_dev_is_not_filled() {
    let mounts = json!([{"destination": "/dev", "source": "/dev", "options": ["rbind"]}]);
    let plan = planned(with("/mounts", mounts)).unwrap();
    assert!(!plan.steps.iter().any(|step| matches!(step, Step::Device(_) | Step::DeviceLink { .. })));
}

#[test]
fn a_device_asked_for_replaces_a_usual_one() {
    let devices =
        json!([{"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 384, "uid": 5}]);
    let plan = planned(with("/linux/devices", devices)).unwrap();
    let nulls: Vec<_> = plan
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Device(device) if device.path == "/dev/null" => Some((device.mode, device.uid)),
            _ => None,
        })
        .collect();
    assert_eq!(nulls, [(0o600, 5)]);
}

#[test]
fn init_is_mounted_and_put_before_the_program() {
    let mut spec = sandbox(document());
    spec.init = true;
    let plan = Plan::container(&spec, MANNER).unwrap();
    assert_eq!(plan.process.program, INIT_PATH);
    let args: Vec<_> = plan.process.args.iter().map(|arg| arg.to_str().unwrap()).collect();
    assert_eq!(args, ["docker-init", "--", "sh", "-c", "true"]);
    position(&plan, |step| matches!(step, Step::Attach(place) if place.destination == INIT_PATH));
}

#[test]
fn joined_namespaces_are_not_made() {
    let namespaces = json!([{"type": "mount"}, {"type": "network", "path": "/proc/1/ns/net"}]);
    let mut document = with("/linux/namespaces", namespaces);
    document["hostname"] = Value::Null;
    let plan = planned(document).unwrap();
    assert_eq!(plan.namespaces.new, Namespaces::MOUNT);
    assert_eq!(plan.namespaces.join.len(), 1);
    position(&plan, |step| *step == Step::JoinNamespaces);
    assert!(!plan.steps.contains(&Step::Loopback), "it is somebody else's");
}

#[test]
fn a_name_for_the_hosts_uts_namespace_is_refused() {
    refused(with("/linux/namespaces", json!([{"type": "mount"}])), ErrorKind::Forbidden, "hostname");
}

#[test]
fn fields_that_are_not_offered_are_refused_by_name() {
    for (pointer, value, word) in [
        ("/solaris", json!({"milestone": "x"}), "solaris"),
        ("/process/commandLine", json!("cmd"), "process.commandLine"),
        (
            "/linux",
            json!({"namespaces": [{"type": "user"}, {"type": "pid"}],
                "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}],
                "gidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}),
            "mount",
        ),
    ] {
        refused(with(pointer, value), ErrorKind::Unsupported, word);
    }
}

#[test]
fn without_a_mount_namespace_of_its_own_the_hosts_mounts_are_left_alone() {
    for namespaces in
        [json!([{"type": "uts"}]), json!([{"type": "uts"}, {"type": "mount", "path": "/proc/7/ns/mnt"}])]
    {
        let mut document = with("/linux/namespaces", namespaces);
        document["hooks"] = json!({"createContainer": [{"path": "/bin/true"}]});
        let plan = planned(document).unwrap();
        let touches = |step: &Step| matches!(step, Step::Propagate(_) | Step::EnterRoot | Step::PlaceRoot(_));
        assert!(!plan.steps.iter().any(touches), "{:?}", plan.steps);
        let root = position(&plan, |step| *step == Step::ChangeRoot);
        let last = plan.steps.iter().rposition(|step| matches!(step, Step::Attach(_) | Step::Mask(_)));
        assert!(last.unwrap() < root, "everything is in place before the process goes in");
    }
}

#[test]
fn hooks_find_the_mounts_in_place_and_the_root_not_yet_entered() {
    let mut document = document();
    document["hooks"] = json!({
        "createRuntime": [{"path": "/bin/a"}], "createContainer": [{"path": "/bin/b"}], "startContainer": [{"path": "/c"}],
    });
    document["process"]["apparmorProfile"] = json!("p");
    let plan = planned(document).unwrap();
    let order = [
        position(&plan, |step| matches!(step, Step::PlaceRoot(_))),
        plan.steps.iter().rposition(|step| matches!(step, Step::Attach(_))).unwrap(),
        position(&plan, |step| *step == Step::Meet),
        position(&plan, |step| *step == Step::CreateHooks),
        position(&plan, |step| matches!(step, Step::Label(_))),
        position(&plan, |step| *step == Step::EnterRoot),
    ];
    assert!(order.is_sorted(), "{order:?} in {:?}", plan.steps);
}

/// Security row 8: what the image or a volume puts in the place of `/proc` is never asked.
#[test]
fn labels_are_asked_for_while_the_hosts_procfs_is_the_one_to_be_seen() {
    for document in [document(), in_user_namespace()] {
        let mut document = document;
        document["process"]["apparmorProfile"] = json!("p");
        let label = |plan: &Plan| position(plan, |step| matches!(step, Step::Label(_)));
        let plan = planned(document.clone()).unwrap();
        assert!(label(&plan) < position(&plan, |step| *step == Step::EnterRoot), "{:?}", plan.steps);
        assert!(label(&plan) < position(&plan, |step| matches!(step, Step::Attach(_))), "{:?}", plan.steps);
        let exec = ExecSpec { args: vec!["x".into()], ..ExecSpec::default() };
        let plan = Plan::exec(&sandbox(document), &exec, MANNER).unwrap();
        assert!(label(&plan) < position(&plan, |step| *step == Step::JoinNamespaces), "{:?}", plan.steps);
    }
}

#[test]
fn keys_have_the_programs_label_from_the_first_on() {
    for document in [document(), in_user_namespace()] {
        let mut document = document;
        document["process"]["selinuxLabel"] = json!("u:r:t:s0");
        let exec = ExecSpec { args: vec!["x".into()], ..ExecSpec::default() };
        for plan in
            [planned(document.clone()).unwrap(), Plan::exec(&sandbox(document), &exec, MANNER).unwrap()]
        {
            let label = position(&plan, |step| matches!(step, Step::KeyLabel(_)));
            assert!(label < position(&plan, |step| *step == Step::NewKeyring), "{:?}", plan.steps);
        }
    }
}

/// Its root is the host's root's, who made the namespace, and nobody inside may label it.
#[test]
fn a_labelled_mqueue_is_made_by_the_parent_once_the_child_is_in_its_namespace() {
    let mut document = in_user_namespace();
    document["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"}));
    let queue = |step: &Step| matches!(step, Step::Prepare(source) if source.destination == "/dev/mqueue");
    assert!(!planned(document.clone()).unwrap().outside.iter().any(queue));
    document["linux"]["mountLabel"] = json!("u:r:t:s0");
    let outside = planned(document).unwrap().outside;
    let at = outside.iter().position(queue).unwrap();
    assert_eq!((&outside[at - 1], &outside[at + 1]), (&Step::Turn, &Step::HandOver));
}

#[test]
fn an_unconfined_apparmor_profile_and_empty_hooks_are_nothing_to_refuse() {
    let mut document = with("/process/apparmorProfile", json!("unconfined"));
    document["hooks"] = json!({});
    planned(document).unwrap();
}

#[test]
fn nonsense_is_refused() {
    for (pointer, value, word) in [
        ("/process/args", json!([]), "args"),
        ("/process/cwd", json!("relative"), "cwd"),
        ("/process/env", json!(["NOEQUALS"]), "NOEQUALS"),
        ("/process/args", json!(["a\u{0}b"]), "NUL"),
        ("/process/rlimits", json!([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]), "RLIMIT_CORE"),
        ("/mounts", json!([{"destination": "relative", "source": "/x", "options": ["bind"]}]), "destination"),
        ("/mounts", json!([{"destination": "/", "source": "/x", "options": ["bind"]}]), "root"),
        ("/mounts", json!([{"destination": "/x", "source": "x", "options": ["bind"]}]), "source"),
        ("/mounts", json!([{"destination": "/x"}]), "type"),
        ("/linux/maskedPaths", json!(["etc"]), "maskedPaths"),
        ("/linux/rootfsPropagation", json!("sideways"), "rootfsPropagation"),
        ("/linux/uidMappings", json!([{"containerID": 0, "hostID": 1, "size": 1}]), "uidMappings"),
        ("/linux/namespaces", json!([{"type": "mount"}, {"type": "user"}]), "linux.uidMappings: missing"),
        ("/mounts", json!([{"destination": "/x", "source": "/x", "options": ["bind", "idmap"]}]), "idmap"),
    ] {
        refused(with(pointer, value), ErrorKind::InvalidInput, word);
    }
}

#[test]
fn the_highest_number_is_no_limit() {
    let plan = planned(document()).unwrap();
    assert_eq!(plan.process.limits[0].1, Rlimit { current: Some(100), maximum: None });
}

#[test]
fn nothing_is_inheritable_unless_the_specification_says_so() {
    let plan = planned(document()).unwrap();
    assert_eq!((plan.process.capabilities.inheritable, plan.process.capabilities.ambient), (0, 0));
    assert_eq!(plan.process.capabilities.bounding, 1);
}

#[test]
fn exec_is_confined_as_the_container_and_privileged_only_when_asked() {
    let container = sandbox(document());
    let mut exec = ExecSpec { args: vec!["id".into()], ..ExecSpec::default() };
    let plan = Plan::exec(&container, &exec, MANNER).unwrap();
    assert_eq!(plan.process.capabilities, Plan::container(&container, MANNER).unwrap().process.capabilities);
    exec.privileged = true;
    let plan = Plan::exec(&container, &exec, MANNER).unwrap();
    assert_eq!(plan.process.capabilities, Capabilities::all());
    assert_eq!(plan.process.capabilities.inheritable, 0);
}

#[test]
fn exec_keeps_the_containers_user_and_directory_unless_told() {
    let mut container = sandbox(with("/process/cwd", json!("/srv")));
    container.identity = Some(Identity { user: "www".into(), groups: vec![] });
    let mut exec = ExecSpec { args: vec!["id".into()], ..ExecSpec::default() };
    let plan = Plan::exec(&container, &exec, MANNER).unwrap();
    assert_eq!(plan.process.who, Who::Named(container.identity.clone().unwrap()));
    assert_eq!(plan.process.cwd, "/srv");
    exec.cwd = Some("/tmp".into());
    exec.identity = Some(Identity { user: "1".into(), groups: vec![] });
    let plan = Plan::exec(&container, &exec, MANNER).unwrap();
    assert_eq!((plan.process.cwd.as_str(), plan.process.who), ("/tmp", Who::Named(exec.identity.unwrap())));
}

#[test]
fn exec_touches_no_mounts() {
    let exec = ExecSpec { args: vec!["id".into()], ..ExecSpec::default() };
    let plan = Plan::exec(&sandbox(document()), &exec, MANNER).unwrap();
    let mounts = |step: &Step| {
        matches!(step, Step::Prepare(_) | Step::Attach(_) | Step::EnterRoot | Step::Mask(_) | Step::Device(_))
    };
    assert!(!plan.steps.iter().any(mounts));
    assert!(plan.namespaces.new.is_empty());
    assert!(plan.namespaces.listed.contains(Namespaces::PID | Namespaces::NET | Namespaces::CGROUP));
}

#[test]
fn a_gate_stands_right_before_the_program() {
    let manner = Manner { gate: true, ..MANNER };
    let plan = Plan::container(&sandbox(document()), manner).unwrap();
    assert_eq!(plan.steps[plan.steps.len() - 2..], [Step::Gate, Step::Become]);
}

/// The ordinary document with a user namespace.
fn in_user_namespace() -> Value {
    let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    let mut document = with("/linux/uidMappings", ids.clone());
    document["linux"]["gidMappings"] = ids;
    document["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    document["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"destination": "/sys", "type": "sysfs", "source": "sysfs"}));
    document
}

#[test]
fn what_takes_rights_over_the_host_is_done_outside() {
    let plan = planned(in_user_namespace()).unwrap();
    let made: Vec<String> = plan
        .outside
        .iter()
        .map(|step| match step {
            Step::AssembleRoot { mapped, .. } => format!("root {mapped}"),
            Step::Prepare(source) => source.destination.clone(),
            other => format!("{other:?}").split(['(', ' ']).next().unwrap().to_owned(),
        })
        .collect();
    assert_eq!(made, ["AllowLimit", "root false", "Turn", "/dev", "HandOver", "/data", "MakeCovers"]);
    let expected = plan.steps.iter().filter(|step| matches!(step, Step::Expect(_))).count();
    assert_eq!(expected, 4, "each is expected");
    let last =
        plan.steps.iter().rposition(|step| matches!(step, Step::Prepare(_) | Step::Expect(_))).unwrap();
    let receive = plan.steps.iter().rposition(|step| *step == Step::Receive).unwrap();
    assert!(last < receive && receive < position(&plan, |step| *step == Step::EnterRoot));
    assert!(!plan.steps.iter().any(|step| matches!(step, Step::Device(_))), "nodes come with /dev");
    assert!(planned(document()).unwrap().outside.is_empty(), "nothing without a user namespace");
}

#[test]
fn mounts_are_made_in_the_order_of_the_document_or_both_work_at_the_same_time() {
    let receive = |plan: &Plan| position(plan, |step| *step == Step::Receive);
    let made = |plan: &Plan, place: &str| {
        position(plan, |step| match step {
            Step::Prepare(source) => source.destination == place,
            Step::Expect(Expected::Source { destination, .. }) => destination == place,
            _ => false,
        })
    };
    let mut spec = sandbox(in_user_namespace());
    let plan = Plan::container(&spec, MANNER).unwrap();
    let turn = position(&plan, |step| *step == Step::Turn);
    assert!(made(&plan, "/proc") < turn && turn < made(&plan, "/dev"));
    assert!(made(&plan, "/dev") < receive(&plan) && receive(&plan) < made(&plan, "/sys/fs/cgroup"));

    spec.disk_ids = DiskIds::Mapped;
    let plan = Plan::container(&spec, MANNER).unwrap();
    assert!(!plan.steps.contains(&Step::Turn) && !plan.outside.contains(&Step::Turn));
    let last =
        plan.steps.iter().rposition(|step| matches!(step, Step::Prepare(_) | Step::Expect(_))).unwrap();
    assert!(last < receive(&plan), "both work at the same time");
}

#[test]
fn what_belongs_to_a_namespace_is_made_by_who_owns_it() {
    for (kind, place) in [("pid", "/proc"), ("network", "/sys")] {
        let mut document = in_user_namespace();
        document["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != kind);
        let plan = planned(document).unwrap();
        let outside = |step: &Step| matches!(step, Step::Prepare(source) if source.destination == place);
        assert!(plan.outside.iter().any(outside), "{place}: the {kind} namespace is the host's");
        assert!(!planned(in_user_namespace()).unwrap().outside.iter().any(outside), "{place}");
    }
}

#[test]
fn it_is_root_of_its_user_namespace_before_it_makes_anything() {
    let plan = planned(in_user_namespace()).unwrap();
    let root = position(&plan, |step| *step == Step::BecomeRoot);
    assert!(position(&plan, |step| *step == Step::AwaitIds) < root);
    assert!(position(&plan, |step| *step == Step::JoinCgroups) < root, "that takes the host's root");
    assert!(root < position(&plan, |step| *step == Step::NewKeyring));
    assert!(root < position(&plan, |step| matches!(step, Step::Prepare(_))));
    let exec = ExecSpec { args: vec!["x".into()], ..ExecSpec::default() };
    let plan = Plan::exec(&sandbox(in_user_namespace()), &exec, MANNER).unwrap();
    let join = position(&plan, |step| *step == Step::JoinNamespaces);
    assert_eq!(position(&plan, |step| *step == Step::BecomeRoot), join + 1);
    assert!(plan.namespaces.listed.contains(Namespaces::USER));
}

#[test]
fn nodes_that_another_mount_would_hide_are_mounts() {
    let mut document = in_user_namespace();
    document["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm"}));
    let zero = |path: &str| json!({"path": path, "type": "c", "major": 1, "minor": 5});
    document["linux"]["devices"] =
        json!([zero("/dev/a"), zero("/dev/sub/b"), zero("/dev/shm/c"), zero("/opt/d"), zero("/dev/../e")]);
    let plan = planned(document).unwrap();
    let mut alone = Vec::new();
    let mut with_dev = Vec::new();
    for step in &plan.outside {
        match step {
            Step::Prepare(Source { what: What::Node(node), .. }) => alone.push(node.path.as_str()),
            Step::Prepare(Source { what: What::Devices { nodes, .. }, .. }) => {
                with_dev.extend(nodes.iter().map(|node| node.path.as_str()));
            }
            _ => {}
        }
    }
    assert_eq!(alone, ["/dev/shm/c", "/opt/d", "/dev/../e"]);
    assert!(with_dev.contains(&"/dev/null") && with_dev.ends_with(&["/dev/a", "/dev/sub/b"]), "{with_dev:?}");
    let last = plan.steps.iter().rposition(|step| matches!(step, Step::Attach(_))).unwrap();
    assert!(last < position(&plan, |step| matches!(step, Step::DeviceLink { .. })));
}

#[test]
fn a_joined_user_namespace_is_entered_first_and_owns_what_is_made() {
    let mut document = document();
    let namespaces = document["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "user", "path": "/proc/7/ns/user"}));
    let plan = planned(document.clone()).unwrap();
    assert!(plan.namespaces.forks_again(), "its new pid namespace takes another process");
    assert_eq!(plan.steps[..2], [Step::Guard, Step::EnterUser]);
    assert!(!plan.steps.contains(&Step::AwaitIds) && plan.steps.contains(&Step::BecomeRoot));
    document["linux"]["namespaces"][1] = json!({"type": "pid", "path": "/proc/7/ns/pid"});
    assert!(!planned(document).unwrap().namespaces.forks_again());
}

#[test]
fn an_exec_has_no_cgroup_files_once_it_is_seen_by_those_who_may_trace_it() {
    let exec = ExecSpec { args: vec!["x".into()], ..ExecSpec::default() };
    let plan = Plan::exec(&sandbox(document()), &exec, MANNER).unwrap();
    assert_eq!(plan.steps[..3], [Step::Guard, Step::JoinCgroups, Step::EnterProcesses]);
    assert!(plan.namespaces.forks_again());
    let unseen = [
        Plan::exec(&sandbox(in_user_namespace()), &exec, MANNER),
        Plan::exec(&sandbox(document()), &exec, Manner { join_cgroups: false, ..MANNER }),
    ];
    for plan in unseen {
        assert!(!plan.unwrap().namespaces.forks_again(), "one process does");
    }
}

#[test]
fn mounts_are_locked_where_the_program_could_undo_them() {
    let locks = |capability: &str, user: bool, options: Value| {
        let mut document = document();
        document["process"]["capabilities"]["bounding"] = json!([capability]);
        document["mounts"][2]["options"] = options;
        if user {
            document["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
            document["linux"]["uidMappings"] = ids.clone();
            document["linux"]["gidMappings"] = ids;
        }
        let mut spec = sandbox(document);
        let path = |name: &str| name.into();
        let lowers = vec![path("/l")];
        spec.rootfs = Rootfs::Overlay { lowers, upper: path("/u"), work: path("/w"), volatile: false };
        let steps = Plan::container(&spec, MANNER).unwrap().steps;
        let at = |step: &Step| steps.iter().position(|other| other == step);
        let lock = at(&Step::LockMounts);
        assert!(lock.is_none() || lock > at(&Step::Mask(vec!["/proc/kcore".to_owned()])));
        lock.is_some()
    };
    assert!(locks("CAP_SYS_ADMIN", true, json!(["rbind", "ro"])));
    assert!(locks("CAP_SYS_ADMIN", true, json!(["bind"])));
    assert!(!locks("CAP_CHOWN", true, json!(["bind"])), "there is nothing of the host's to undo");
    assert!(locks("CAP_CHOWN", true, json!(["bind", "ro"])), "a privileged exec could undo them");
    assert!(locks("CAP_CHOWN", true, json!(["rbind"])), "the host may have covered something below");
    assert!(!locks("CAP_SYS_ADMIN", false, json!(["rbind", "ro"])), "the host's user namespace opts out");
    assert!(!locks("CAP_SYS_ADMIN", true, json!(["rbind", "rshared"])), "what is shared back stays shared");
}
