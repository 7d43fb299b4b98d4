//! Limits against this machine's kernel: what is asked for is in force, and nothing is left.

use std::process::Command;

use super::super::controller::{Controller, Version};
use super::super::{Cgroup, Error, Layout, remove_if_empty};
use super::{Inside, Temporary, layout, legacy, path, resources};

/// Who switches huge pages on at the root, which is everybody's, and off again.
static HUGE: std::sync::Mutex<()> = std::sync::Mutex::new(());

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
    assert!(
        error
            .to_string()
            .starts_with("block I/O weight (blockIO.weight): this kernel offers no blkio.weight"),
        "{error}"
    );
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
    let _alone = super::alone(&HUGE);
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
    if layout.hierarchies.is_empty() {
        return; // a machine with v2 alone
    }
    let group = Temporary::new(&layout, "{}");
    assert_eq!(layout.version_of(Controller::Freezer).is_some(), group.members_freezer().is_some());
}

#[test]
fn an_update_that_can_be_refused_in_advance_changes_nothing() {
    let mut group = Temporary::new(&layout(), r#"{"cpu":{"shares":512},"pids":{"limit":20}}"#);
    let nonsense = r#"{"allow":true,"type":"c","major":1,"access":"rx"}"#;
    let exception = r#"{"allow":true,"type":"b","major":8,"access":"rw"},
        {"allow":false,"type":"b","major":8,"minor":1,"access":"w"}"#;
    let mut refused = vec![
        format!(r#"{{"cpu":{{"shares":256}},"devices":[{nonsense}]}}"#),
        r#"{"cpu":{"shares":256},"blockIO":{"leafWeight":100}}"#.to_owned(),
    ];
    if layout().version_of(Controller::Devices) == Some(Version::V1) {
        refused.push(format!(r#"{{"cpu":{{"shares":256}},"devices":[{exception}]}}"#));
    }
    for asked in refused {
        let error = group.0.update(&resources(&asked)).unwrap_err();
        assert!(!matches!(error, Error::Call { .. }), "{error}");
        let (file, before) = match layout().version_of(Controller::Cpu) {
            Some(Version::V2) => ("cpu.weight", "59"),
            _ => ("cpu.shares", "512"),
        };
        assert_eq!(group.read(Controller::Cpu, file), before, "{asked}");
    }
}

#[test]
fn a_controller_is_switched_on_when_an_update_first_needs_it() {
    let layout = layout();
    let Some(Version::V2) = layout.version_of(Controller::Hugetlb) else { return };
    let root = &layout.hierarchies[layout.v2().unwrap()];
    let _alone = super::alone(&HUGE);
    let before = root.read_at("cgroup.subtree_control").unwrap();
    let parent = path();
    let name = format!("{parent}/inner");
    let mut group = Temporary(Cgroup::create(&layout, name, &resources("{}")).unwrap());
    let updated = group.0.update(&resources(r#"{"hugepageLimits":[{"pageSize":"2MB","limit":2097152}]}"#));
    let limit = updated.map(|()| group.read(Controller::Hugetlb, "hugetlb.2MB.max"));
    drop(group);
    remove_if_empty(&layout, &parent).unwrap();
    if !before.contains("hugetlb") {
        let _ = root.write_at("cgroup.subtree_control", "-hugetlb", layout.write_flags); // it may not be on
    }
    assert_eq!(limit.unwrap(), "2097152");
}

#[test]
fn devices_that_stay_allowed_are_never_closed_by_an_update() {
    let mut group = Temporary::new(&layout(), "{}");
    let out = tempfile::NamedTempFile::new().unwrap();
    let loops = format!("while :; do : < /dev/null || echo bad; done > {0} 2> {0}", out.path().display());
    let child = Inside::run(&group, &format!("( {loops} ) & ( {loops} ) & wait"));
    let more = r#"{"devices":[{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"}]}"#;
    let less = r#"{"devices":[{"allow":false,"access":"rwm"}]}"#;
    for _ in 0..1000 {
        group.0.update(&resources(more)).unwrap();
        group.0.update(&resources(less)).unwrap();
    }
    group.kill_all().unwrap();
    drop(child);
    let said = std::fs::read_to_string(out.path()).unwrap();
    assert!(said.is_empty(), "{}", said.lines().next().unwrap_or_default());
}

#[test]
fn devices_can_be_changed_when_the_container_has_groups_of_its_own() {
    let layout = layout();
    let mut group = Temporary::new(&layout, "{}");
    assert!(!opens(&group, "kmsg c 1 11"));
    group.hierarchies().for_each(|hierarchy| hierarchy.mkdir_at(&group.path.join("below")).unwrap());
    let more = r#"{"devices":[{"allow":true,"type":"c","major":1,"minor":11,"access":"r"}]}"#;
    group.0.update(&resources(more)).unwrap();
    assert!(opens(&group, "kmsg c 1 11"));
    group.0.update(&resources(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#)).unwrap();
    closed(&group);
}

#[test]
fn a_parent_that_somebody_else_uses_by_now_is_left_and_not_complained_about() {
    let layout = layout();
    let parent = path();
    let path = super::super::GroupPath::parse(format!("{parent}/one")).unwrap();
    let plan = super::super::plan::Plan::default();
    let group = Cgroup::unmade(&layout, path, &plan);
    let mut made = Vec::new();
    group.make_groups(&plan, &mut made).unwrap();
    let other = Temporary(Cgroup::create(&layout, format!("{parent}/other"), &resources("{}")).unwrap());
    let _child = Inside::run(&other, "exec sleep 100");
    assert!(group.unmake(made).is_empty());
    assert!(!group.exists() && other.exists());
    drop(other);
    remove_if_empty(&layout, &parent).unwrap();
}

#[test]
fn a_parent_may_be_removed_by_somebody_else_while_a_group_is_made_below_it() {
    let layout = layout();
    let parent = path();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                remove_if_empty(&layout, &parent).unwrap();
            }
        });
        let made = (0..1000).try_for_each(|_| {
            let group = Cgroup::create(&layout, format!("{parent}/one"), &resources("{}"))?;
            group.destroy()
        });
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        made.unwrap();
    });
    remove_if_empty(&layout, &parent).unwrap();
}

#[test]
fn limits_of_groups_that_come_at_once_below_a_new_parent_are_all_in_force() {
    let layout = layout();
    for _ in 0..20 {
        let parent = path();
        let all = std::sync::Barrier::new(4);
        let made: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|number| {
                    let (all, layout, path) = (&all, &layout, format!("{parent}/{number}"));
                    scope.spawn(move || {
                        all.wait();
                        let asked =
                            r#"{"cpu":{"shares":512},"pids":{"limit":9},"memory":{"limit":67108864}}"#;
                        Cgroup::create(layout, path, &resources(asked))
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for group in &made {
            group.as_ref().unwrap().destroy().unwrap();
        }
        remove_if_empty(&layout, &parent).unwrap();
    }
}

#[test]
fn figures_of_v1_reach_the_kernel() {
    let layout = layout();
    if layout.version_of(Controller::Io) != Some(Version::V1) {
        return; // the v2 guest has its own
    }
    let Some(disk) = std::fs::read_dir("/sys/dev/block").unwrap().next() else { return };
    let disk = disk.unwrap().file_name().into_string().unwrap();
    let Some((major, minor)) =
        disk.split_once(':').filter(|_| std::fs::exists(format!("/sys/dev/block/{disk}/queue")).unwrap())
    else {
        return;
    };
    let rate =
        |field: &str, rate| format!(r#""{field}":[{{"major":{major},"minor":{minor},"rate":{rate}}}]"#);
    let asked = format!(
        r#"{{"blockIO":{{{},{}}},"cpu":{{"quota":50000,"burst":10000}},"memory":{{"limit":67108864,"swappiness":10,"reservation":33554432,"disableOOMKiller":true,"useHierarchy":true}}}}"#,
        rate("throttleReadBpsDevice", 1_048_576),
        rate("throttleWriteIOPSDevice", 100),
    );
    let group = Temporary::new(&layout, &asked);
    assert_eq!(group.read(Controller::Io, "blkio.throttle.read_bps_device"), format!("{disk} 1048576"));
    assert_eq!(group.read(Controller::Io, "blkio.throttle.write_iops_device"), format!("{disk} 100"));
    assert_eq!(group.read(Controller::Cpu, "cpu.cfs_burst_us"), "10000");
    assert_eq!(group.read(Controller::Memory, "memory.swappiness"), "10");
    assert_eq!(group.read(Controller::Memory, "memory.soft_limit_in_bytes"), "33554432");
    assert!(group.read(Controller::Memory, "memory.oom_control").contains("oom_kill_disable 1"));
}

#[test]
fn real_time_and_idle_time_on_v1() {
    let layout = layout();
    if layout.version_of(Controller::Cpu) != Some(Version::V1) {
        return;
    }
    let there = |file: &str| layout.hierarchies[layout.holding(Controller::Cpu).unwrap()].exists_at(file);
    if there("cpu.rt_runtime_us") {
        let group = Temporary::new(&layout, r#"{"cpu":{"realtimeRuntime":1000,"realtimePeriod":500000}}"#);
        assert_eq!(group.read(Controller::Cpu, "cpu.rt_runtime_us"), "1000");
        assert_eq!(group.read(Controller::Cpu, "cpu.rt_period_us"), "500000");
    }
    let mut group = Temporary::new(&layout, r#"{"cpu":{"idle":1,"shares":512}}"#);
    assert_eq!(group.read(Controller::Cpu, "cpu.idle"), "1");
    group.0.update(&resources(r#"{"cpu":{"idle":1,"shares":256}}"#)).unwrap();
    group.0.update(&resources(r#"{"cpu":{"idle":0,"shares":256}}"#)).unwrap();
    assert_eq!(group.read(Controller::Cpu, "cpu.shares"), "256");
}

#[test]
fn an_update_that_would_kill_is_refused_if_asked_to_look() {
    let layout = layout();
    let mut group = Temporary::new(&layout, r#"{"memory":{"limit":268435456,"swap":536870912}}"#);
    let _child = Inside::run(&group, r"x=$(head -c 20000000 /dev/zero | tr '\0' x); exec sleep 100 $x");
    let _held =
        Inside::run(&group, r"x=$(head -c 20000000 /dev/zero | tr '\0' x); while :; do sleep 1; done");
    super::eventually("memory is used", || {
        group.memory_used().unwrap().is_some_and(|used| used > 20_000_000)
    });
    for asked in [
        r#"{"memory":{"limit":10000000,"checkBeforeUpdate":true}}"#,
        r#"{"memory":{"limit":9000000,"swap":10000000,"checkBeforeUpdate":true}}"#,
    ] {
        let error = group.0.update(&resources(asked)).unwrap_err().to_string();
        assert!(error.contains("checkBeforeUpdate was set"), "{error}");
    }
    assert_eq!(group.stats().unwrap().memory.unwrap().limit, Some(268_435_456));
    let enough = r#"{"memory":{"limit":134217728,"swap":268435456,"checkBeforeUpdate":true}}"#;
    group.0.update(&resources(enough)).unwrap();
    assert_eq!(group.stats().unwrap().memory.unwrap().limit, Some(134_217_728));
}

#[test]
fn everything_that_is_counted_is_told() {
    let layout = layout();
    // So little that it is used up however many others want that processor; half of it nobody gets on a busy machine.
    let asked = r#"{"memory":{"limit":268435456},"pids":{"limit":30},"cpu":{"cpus":"0","quota":5000}}"#;
    let group = Temporary::new(&layout, asked);
    let _child = Inside::run(&group, r"x=$(head -c 4000000 /dev/zero | tr '\0' x); while :; do :; done");
    super::eventually("it works", || {
        let usage = group.usage().unwrap();
        usage.cpu.usage.total > 10_000_000 && usage.memory.usage.usage > 4_000_000
    });
    super::eventually("it is throttled", || group.usage().unwrap().cpu.throttling.throttled_periods > 0);
    let usage = group.usage().unwrap();
    assert_eq!(
        (usage.memory.usage.limit, usage.pids.limit, &usage.cpuset.cpus[..]),
        (268_435_456, 30, &[0u16][..])
    );
    assert!(usage.memory.usage.max >= usage.memory.usage.usage && !usage.memory.raw.is_empty());
    let json = serde_json::to_value(&usage).unwrap();
    for place in [
        "/cpu/usage/total",
        "/cpu/throttling/throttledPeriods",
        "/memory/swap/limit",
        "/memory/kernelTCP/failcnt",
        "/pids/current",
    ] {
        assert!(json.pointer(place).is_some_and(serde_json::Value::is_u64), "{place} in {json}");
    }
    if layout.version_of(Controller::Cpuacct) == Some(Version::V1) {
        let cpus = std::thread::available_parallelism().unwrap().get();
        assert!(usage.cpu.usage.percpu_user.len() >= cpus && usage.cpuset.sched_load_balance == 1);
    }
}

#[test]
fn who_stands_in_the_way_steps_aside() {
    let layout = layout();
    let Some(at) = layout.v2() else { return };
    let hierarchy = &layout.hierarchies[at];
    let parent = Temporary::new(&layout, "{}");
    let us = Inside::run(&parent, "exec sleep 100");
    let other = Inside::run(&parent, "exec sleep 100");
    super::super::subtree::make_room(&layout, hierarchy, parent.path.as_str(), us.pid()).unwrap();
    let aside = parent.path.join(super::super::subtree::ASIDE);
    assert_eq!(super::super::processes::of_group(hierarchy, &aside).unwrap(), [us.pid()]);
    assert_eq!(super::super::processes::of_group(hierarchy, parent.path.as_str()).unwrap(), [other.pid()]);
    super::super::subtree::make_room(&layout, hierarchy, parent.path.as_str(), us.pid()).unwrap(); // done already
}

#[test]
fn a_parent_with_processes_of_others_is_named() {
    let layout = layout();
    let Some(Version::V2) = layout.version_of(Controller::Hugetlb) else { return };
    let root = &layout.hierarchies[layout.v2().unwrap()];
    let _alone = super::alone(&HUGE);
    let before = root.read_at("cgroup.subtree_control").unwrap();
    let parent = Temporary::new(&layout, "{}");
    let other = Inside::run(&parent, "exec sleep 100");
    let asked = resources(r#"{"hugepageLimits":[{"pageSize":"2MB","limit":0}]}"#);
    let made = Cgroup::create(&layout, format!("{}/one", parent.path), &asked);
    drop(parent);
    if !before.contains("hugetlb") {
        let _ = root.write_at("cgroup.subtree_control", "-hugetlb", layout.write_flags); // it may not be on
    }
    let said = made.unwrap_err().to_string();
    assert!(
        said.starts_with("limits of the hugetlb controller") && said.contains(&other.pid().to_string()),
        "{said}"
    );
}
