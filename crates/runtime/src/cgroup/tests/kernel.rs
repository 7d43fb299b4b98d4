//! Limits against this machine's kernel: what is asked for is in force, and nothing is left.

use std::process::Command;

use super::super::controller::{Controller, Version};
use super::super::{Cgroup, Error, Layout, remove_if_empty};
use super::{Inside, Temporary, layout, legacy, path, resources};

/// Mounted places where there is a group of this path.
fn places(layout: &Layout, path: &str) -> Vec<String> {
    let relative = path.trim_start_matches('/');
    let there = layout.hierarchies.iter().filter(|hierarchy| hierarchy.exists_at(relative));
    there.map(|hierarchy| hierarchy.shown(relative)).collect()
}

#[test]
fn groups_are_made_where_they_serve_and_are_all_removed() {
    let layout = layout();
    let path = path();
    let group = Cgroup::create(&layout, &path, &resources("{}")).unwrap();
    let made = places(&layout, &path);
    assert_eq!(made.len(), group.members.len());
    assert!(
        made.len() < layout.hierarchies.len() || layout.hierarchies.len() == 1,
        "cpuset was not asked for: {made:?}"
    );
    assert!(group.exists());
    group.destroy().unwrap();
    assert_eq!(places(&layout, &path), Vec::<String>::new());
    assert!(!group.exists());
    group.destroy().unwrap(); // again is no error
}

#[test]
fn limits_are_in_force() {
    if layout().version_of(Controller::Memory) != Some(Version::V1) {
        return; // the v2 guest has its own figures
    }
    let asked = r#"{"memory":{"limit":67108864,"swap":134217728},"cpu":{"shares":512,"quota":50000,"period":100000},"pids":{"limit":20}}"#;
    let group = Temporary::new(&layout(), asked);
    assert_eq!(group.read(Controller::Memory, "memory.limit_in_bytes"), "67108864");
    assert_eq!(group.read(Controller::Memory, "memory.memsw.limit_in_bytes"), "134217728");
    assert_eq!(group.read(Controller::Cpu, "cpu.shares"), "512");
    assert_eq!(group.read(Controller::Cpu, "cpu.cfs_quota_us"), "50000");
    assert_eq!(group.read(Controller::Pids, "pids.max"), "20");
}

#[test]
fn memory_and_swap_are_raised_and_lowered_in_the_order_the_kernel_wants() {
    if layout().version_of(Controller::Memory) != Some(Version::V1) {
        return;
    }
    const MIB: u64 = 1 << 20;
    let mut group = Temporary::new(&layout(), r#"{"memory":{"limit":33554432,"swap":33554432}}"#);
    for limit in [64 * MIB, 256 * MIB, 16 * MIB] {
        let asked = format!(r#"{{"memory":{{"limit":{limit},"swap":{}}}}}"#, limit + MIB);
        group.0.update(&resources(&asked)).unwrap();
        assert_eq!(group.read(Controller::Memory, "memory.limit_in_bytes"), limit.to_string());
        assert_eq!(group.read(Controller::Memory, "memory.memsw.limit_in_bytes"), (limit + MIB).to_string());
    }
    group.0.update(&resources(r#"{"memory":{"limit":-1}}"#)).unwrap();
    assert_eq!(group.stats().unwrap().memory.unwrap().limit, None);
}

#[test]
fn a_kernels_refusal_undoes_what_was_made() {
    let layout = layout();
    let parent = path();
    let path = format!("{parent}/inner");
    let error = Cgroup::create(&layout, &path, &resources(r#"{"cpu":{"cpus":"900"}}"#)).unwrap_err();
    assert!(error.to_string().contains("900"), "{error}");
    assert_eq!(places(&layout, &path), Vec::<String>::new());
    assert_eq!(places(&layout, &parent), Vec::<String>::new(), "the parent that was made for it");
}

#[test]
fn a_controller_that_is_not_here_is_named() {
    let layout = layout();
    if layout.version_of(Controller::Rdma).is_some() {
        return;
    }
    let path = path();
    let asked = resources(r#"{"rdma":{"mlx5_1":{"hcaHandles":3}}}"#);
    let error = Cgroup::create(&layout, &path, &asked).unwrap_err();
    assert!(error.to_string().contains("the rdma controller is not mounted here"), "{error}");
    assert_eq!(places(&layout, &path), Vec::<String>::new());
}

#[test]
fn a_weight_that_no_scheduler_honours_is_refused_by_name() {
    let layout = layout();
    let root = Temporary::new(&layout, "{}");
    let there = ["blkio.weight", "blkio.bfq.weight", "io.weight", "io.bfq.weight"];
    let io = root.with(Controller::Io).unwrap();
    if there.iter().any(|file| io.exists_at(&root.path.join(file))) {
        return;
    }
    let error = Cgroup::create(&layout, path(), &resources(r#"{"blockIO":{"weight":100}}"#)).unwrap_err();
    assert!(error.to_string().starts_with("block I/O weight: this kernel offers no blkio.weight"), "{error}");
}

#[test]
fn a_group_somebody_lives_in_is_not_taken_over() {
    let layout = layout();
    let group = Temporary::new(&layout, "{}");
    let child = Inside::run(&group, "exec sleep 100");
    group.hierarchies().for_each(|hierarchy| hierarchy.mkdir_at(&group.path.join("below")).unwrap());
    let error = Cgroup::create(&layout, group.path.to_string(), &resources("{}")).unwrap_err();
    assert!(matches!(error, Error::InUse { pid, .. } if pid == child.pid()), "{error}");
    assert_eq!(group.pids().unwrap(), [child.pid()], "it was left alone");
    assert!(group.hierarchies().all(|hierarchy| hierarchy.exists_at(&group.path.join("below"))));
}

#[test]
fn a_remnant_that_nobody_lives_in_is_made_anew() {
    let layout = layout();
    let first = Temporary::new(&layout, r#"{"pids":{"limit":5}}"#);
    first.hierarchies().for_each(|hierarchy| hierarchy.mkdir_at(&first.path.join("below")).unwrap());
    let second = Cgroup::create(&layout, first.path.to_string(), &resources("{}")).unwrap();
    assert_eq!(first.read(Controller::Pids, "pids.max"), "max");
    assert!(!second.hierarchies().any(|hierarchy| hierarchy.exists_at(&first.path.join("below"))));
}

#[test]
fn cpus_can_be_pinned_from_the_start_and_later() {
    let layout = layout();
    let mut pinned = Temporary::new(&layout, r#"{"cpu":{"cpus":"0"}}"#);
    assert_eq!(pinned.read(Controller::Cpuset, "cpuset.cpus"), "0");
    pinned.0.update(&resources(r#"{"cpu":{"cpus":"0-1"}}"#)).unwrap();
    let mut later = Temporary::new(&layout, "{}");
    let child = Inside::run(&later, "exec sleep 100");
    later.0.update(&resources(r#"{"cpu":{"cpus":"1"}}"#)).unwrap();
    let allowed = std::fs::read_to_string(format!("/proc/{}/status", child.pid())).unwrap();
    assert!(allowed.contains("Cpus_allowed_list:\t1\n"), "the running process was moved");
}

#[test]
fn the_engines_parent_goes_when_nothing_is_left_below_it() {
    let layout = layout();
    let parent = path();
    let group = Temporary(Cgroup::create(&layout, format!("{parent}/one"), &resources("{}")).unwrap());
    remove_if_empty(&layout, &parent).unwrap();
    assert!(!places(&layout, &parent).is_empty(), "somebody is below");
    drop(group);
    remove_if_empty(&layout, &parent).unwrap();
    assert_eq!(places(&layout, &parent), Vec::<String>::new());
    remove_if_empty(&layout, &parent).unwrap();
}

#[test]
fn dangerous_devices_are_closed_even_if_no_rule_says_so() {
    closed(&Temporary::new(&layout(), "{}"));
}

#[test]
fn the_device_program_closes_them_where_there_is_no_devices_controller() {
    let mut layout = Layout::detect().unwrap();
    if layout.v2().is_none() {
        return;
    }
    layout.hierarchies.retain(|hierarchy| !hierarchy.controllers.contains(&Controller::Devices));
    let mut group = Temporary::new(&std::sync::Arc::new(layout), "{}");
    closed(&group);
    let privileged = r#"{"devices":[{"allow":true,"access":"rwm"}]}"#;
    group.0.update(&resources(privileged)).unwrap();
    assert!(opens(&group, "kmsg c 1 11"), "after an update that allows everything");
}

fn closed(group: &Temporary) {
    assert!(opens(group, "null c 1 3"), "/dev/null");
    assert!(!opens(group, "kmsg c 1 11"), "/dev/kmsg");
    assert!(!opens(group, "loop b 7 0"), "/dev/loop0");
}

/// Whether a process in the group can make this node and read from it.
fn opens(group: &Cgroup, node: &str) -> bool {
    let directory = tempfile::tempdir().unwrap();
    let name = directory.path().join(node.split(' ').next().unwrap());
    let words: Vec<&str> = node.split(' ').skip(1).collect();
    let status = Command::new("mknod").arg(&name).args(words).status().unwrap();
    assert!(status.success(), "mknod {node} outside");
    Inside::run(group, &format!(": < {}", name.display())).succeeds()
}

#[test]
fn huge_pages_are_limited_where_their_controller_is_in_v2() {
    let layout = layout();
    let Some(Version::V2) = layout.version_of(Controller::Hugetlb) else { return };
    let root = &layout.hierarchies[layout.v2().unwrap()];
    let before = root.read_at("cgroup.subtree_control").unwrap();
    let group = Temporary::new(&layout, r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#);
    assert_eq!(group.read(Controller::Hugetlb, "hugetlb.2MB.max"), "4194304");
    drop(group);
    if !before.contains("hugetlb") {
        root.write_at("cgroup.subtree_control", "-hugetlb", layout.write_flags).unwrap();
    }
}

#[test]
fn without_v2_the_freezer_hierarchy_is_used() {
    let layout = legacy();
    let group = Temporary::new(&layout, "{}");
    assert_eq!(layout.version_of(Controller::Freezer).is_some(), group.members_freezer().is_some());
}
