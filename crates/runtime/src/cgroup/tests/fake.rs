//! Groups on a tree of plain files: what a v2 machine would be told, without one.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::super::controller::{Controller, Version};
use super::super::plan::{Current, plan};
use super::super::{Cgroup, Error, GroupPath, Layout};
use super::resources;

const V2: &[Controller] = &[Controller::Cpu, Controller::Memory, Controller::Pids, Controller::Io];

fn unified(root: &Path) -> Arc<Layout> {
    Arc::new(Layout::fake(&[(Version::V2, V2, root)]))
}

/// Makes groups and limits as `create` does, without the device program, which needs a real group.
fn make(layout: &Arc<Layout>, path: &str, json: &str) -> Result<Cgroup, Error> {
    let plan = plan(&resources(json), layout.as_ref(), &Current::default())?;
    let group = Cgroup::unmade(layout, GroupPath::parse(path)?, &plan);
    group.make_groups(&plan, &mut Vec::new())?;
    group.write_all(&plan.writes)?;
    Ok(group)
}

fn read(root: &Path, file: &str) -> String {
    fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn limits_are_written_into_the_one_group() {
    let root = tempfile::tempdir().unwrap();
    let asked = r#"{"memory":{"limit":1000000,"swap":1500000},"cpu":{"shares":1024,"quota":150000},"pids":{"limit":50}}"#;
    make(&unified(root.path()), "/tare/one", asked).unwrap();
    assert_eq!(read(root.path(), "tare/one/memory.max"), "1000000");
    assert_eq!(read(root.path(), "tare/one/memory.swap.max"), "500000");
    assert_eq!(read(root.path(), "tare/one/cpu.weight"), "100");
    assert_eq!(read(root.path(), "tare/one/cpu.max"), "150000");
    assert_eq!(read(root.path(), "tare/one/pids.max"), "50");
}

#[test]
fn controllers_are_switched_on_from_the_root_down_and_not_in_the_group_itself() {
    let root = tempfile::tempdir().unwrap();
    make(&unified(root.path()), "/tare/one", "{}").unwrap();
    assert_eq!(read(root.path(), "cgroup.subtree_control"), "+cpu +io +memory +pids");
    assert_eq!(read(root.path(), "tare/cgroup.subtree_control"), "+cpu +io +memory +pids");
    assert!(!root.path().join("tare/one/cgroup.subtree_control").exists());
}

#[test]
fn controllers_that_are_on_are_left_alone() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("tare")).unwrap();
    let on = "cpu io memory pids hugetlb\n";
    fs::write(root.path().join("tare/cgroup.subtree_control"), on).unwrap();
    make(&unified(root.path()), "/tare/one", "{}").unwrap();
    assert_eq!(read(root.path(), "tare/cgroup.subtree_control"), on);
    assert!(!root.path().join("cgroup.subtree_control").exists(), "the root was not even looked at");
}

#[test]
fn beside_v1_only_what_is_asked_for_is_switched_on() {
    let (v1, v2) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let layout = Arc::new(Layout::fake(&[
        (Version::V1, &[Controller::Memory, Controller::Devices], v1.path()),
        (Version::V2, &[Controller::Hugetlb], v2.path()),
    ]));
    Cgroup::create(&layout, "/one", &resources(r#"{"memory":{"limit":5000000}}"#)).unwrap();
    assert!(!v2.path().join("cgroup.subtree_control").exists());
    assert_eq!(read(v1.path(), "one/memory.limit_in_bytes"), "5000000");
    let asked = r#"{"hugepageLimits":[{"pageSize":"2MB","limit":0}]}"#;
    Cgroup::create(&layout, "/two", &resources(asked)).unwrap();
    assert_eq!(read(v2.path(), "cgroup.subtree_control"), "+hugetlb");
    assert_eq!(read(v2.path(), "two/hugetlb.2MB.max"), "0");
}

#[test]
fn a_refused_limit_makes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let asked = resources(r#"{"hugepageLimits":[{"pageSize":"2MB","limit":0}]}"#);
    let error = Cgroup::create(&unified(root.path()), "/one", &asked).unwrap_err();
    assert!(error.to_string().contains("hugetlb controller is not mounted"), "{error}");
    assert!(!root.path().join("one").exists());
}

#[test]
fn updating_a_period_keeps_the_quota() {
    let root = tempfile::tempdir().unwrap();
    let layout = unified(root.path());
    let mut group = make(&layout, "/one", r#"{"cpu":{"quota":70000,"period":90000}}"#).unwrap();
    assert_eq!(read(root.path(), "one/cpu.max"), "70000 90000");
    group.update(&resources(r#"{"cpu":{"period":50000}}"#)).unwrap();
    assert_eq!(read(root.path(), "one/cpu.max"), "70000 50000");
}

#[test]
fn an_update_below_what_is_used_is_refused_if_asked_to_look() {
    let root = tempfile::tempdir().unwrap();
    let mut group = make(&unified(root.path()), "/one", r#"{"memory":{"limit":9000000}}"#).unwrap();
    fs::write(root.path().join("one/memory.current"), "8000000\n").unwrap();
    let asked = resources(r#"{"memory":{"limit":7000000,"checkBeforeUpdate":true}}"#);
    let error = group.update(&asked).unwrap_err();
    assert!(error.to_string().contains("less than the 8000000 bytes in use"), "{error}");
    assert_eq!(read(root.path(), "one/memory.max"), "9000000");
}

#[test]
fn v2_figures_are_read_in_common_words() {
    let root = tempfile::tempdir().unwrap();
    let group = make(&unified(root.path()), "/one", "{}").unwrap();
    for (file, content) in [
        (
            "cpu.stat",
            "usage_usec 5000\nuser_usec 3000\nsystem_usec 2000\nnr_periods 7\nnr_throttled 2\nthrottled_usec 9\n",
        ),
        ("memory.current", "4096\n"),
        ("memory.peak", "8192\n"),
        ("memory.max", "max\n"),
        ("memory.stat", "anon 100\nfile 200\n"),
        ("memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n"),
        ("pids.current", "4\n"),
        ("pids.max", "10\n"),
        ("io.stat", "254:0 rbytes=10 wbytes=20 rios=1 wios=1\n"),
    ] {
        fs::write(root.path().join("one").join(file), content).unwrap();
    }
    let stats = group.stats().unwrap();
    let cpu = stats.cpu.unwrap();
    assert_eq!((cpu.usage, cpu.user, cpu.system), (5_000_000, 3_000_000, 2_000_000));
    assert_eq!((cpu.periods, cpu.throttled_periods, cpu.throttled_time), (7, 2, 9000));
    let memory = stats.memory.unwrap();
    assert_eq!((memory.usage, memory.max_usage, memory.limit, memory.failures), (4096, 8192, None, 3));
    assert_eq!(memory.detail.get("file"), Some(&200));
    let pids = stats.pids.unwrap();
    assert_eq!((pids.current, pids.limit), (4, Some(10)));
    assert_eq!(stats.block_io.len(), 2);
}

#[test]
fn a_figure_that_is_no_number_is_an_error_that_names_the_file() {
    let root = tempfile::tempdir().unwrap();
    let group = make(&unified(root.path()), "/one", "{}").unwrap();
    fs::write(root.path().join("one/pids.current"), "many\n").unwrap();
    let error = group.stats().unwrap_err().to_string();
    assert!(error.contains("one/pids.current holds \"many"), "{error}");
}

#[test]
fn cpusets_above_are_filled_once_and_pass_it_on() {
    let root = tempfile::tempdir().unwrap();
    let layout =
        Arc::new(Layout::fake(&[(Version::V1, &[Controller::Cpuset, Controller::Devices], root.path())]));
    fs::write(root.path().join("cpuset.cpus"), "0-7\n").unwrap();
    fs::write(root.path().join("cpuset.mems"), "0\n").unwrap();
    Cgroup::create(&layout, "/tare/one", &resources(r#"{"cpu":{"cpus":"2"}}"#)).unwrap();
    assert_eq!(read(root.path(), "tare/cpuset.cpus"), "0-7");
    assert_eq!(read(root.path(), "tare/cgroup.clone_children"), "1");
    assert_eq!(read(root.path(), "tare/one/cpuset.mems"), "0");
    assert_eq!(read(root.path(), "tare/one/cpuset.cpus"), "2");
}

#[test]
fn a_group_without_the_memory_controller_has_nothing_to_listen_to() {
    let root = tempfile::tempdir().unwrap();
    let group = make(&unified(root.path()), "/one", "{}").unwrap();
    assert!(group.oom_watch().unwrap().is_none(), "its memory is not delegated to us");
}

/// A freezer that never says so is what a process stuck in the kernel makes.
#[test]
fn what_cannot_be_frozen_is_killed_all_the_same() {
    use std::os::unix::process::ExitStatusExt;
    let root = tempfile::tempdir().unwrap();
    let controllers = &[Controller::Freezer, Controller::Pids];
    let layout = Arc::new(Layout::fake(&[(Version::V1, controllers, root.path())]));
    let group = make(&layout, "/one", "{}").unwrap();
    std::os::unix::fs::symlink("/dev/null", root.path().join("one/freezer.state")).unwrap();
    let mut child = std::process::Command::new("/bin/sleep").arg("100").spawn().unwrap();
    let list = root.path().join("one/cgroup.procs");
    fs::write(&list, child.id().to_string()).unwrap();
    let ends = std::thread::spawn(move || {
        let status = child.wait().unwrap();
        fs::remove_file(list).unwrap();
        status
    });
    group.kill_all().unwrap();
    assert_eq!(ends.join().unwrap().signal(), Some(9));
}

#[test]
fn a_mount_point_that_is_covered_by_something_else_is_no_hierarchy() {
    let place = tempfile::tempdir().unwrap();
    let line = format!("32 31 0:29 / {} rw - cgroup cgroup rw,memory\n", place.path().display());
    assert_eq!(Layout::of(&line, "", false).unwrap_err().to_string().split(':').next(), Some("containers"));
}

#[test]
fn only_what_came_through_from_above_is_switched_on() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("cgroup.controllers"), "cpu memory pids\n").unwrap();
    make(&unified(root.path()), "/one", "{}").unwrap();
    assert_eq!(read(root.path(), "cgroup.subtree_control"), "+cpu +memory +pids");
    let asked = r#"{"blockIO":{"weight":100}}"#;
    let error = make(&unified(root.path()), "/two", asked).unwrap_err().to_string();
    assert!(
        error.starts_with("limits of the io controller: ") && error.contains("not delegated to us"),
        "{error}"
    );
}

#[test]
fn switches_that_are_not_ours_matter_only_to_a_limit() {
    let root = tempfile::tempdir().unwrap();
    // A file that nobody may write, root included.
    std::os::unix::fs::symlink("/proc/sys/kernel/ostype", root.path().join("cgroup.subtree_control"))
        .unwrap();
    make(&unified(root.path()), "/one", "{}").unwrap();
    let error = make(&unified(root.path()), "/two", r#"{"pids":{"limit":5}}"#).unwrap_err().to_string();
    assert!(
        error.starts_with("limits of the pids controller: ") && error.contains("not delegated to us"),
        "{error}"
    );
}

#[test]
fn what_was_delegated_is_found_from_our_own_group_upwards() {
    let root = tempfile::tempdir().unwrap();
    for group in ["user/service/app", "user/other"] {
        fs::create_dir_all(root.path().join(group)).unwrap();
    }
    let mut layout = Layout::fake(&[(Version::V2, V2, root.path())]);
    layout.hierarchies[0].own = "/user/service/app".to_owned();
    assert_eq!(layout.delegated().unwrap(), None);
    for group in ["user/service/app", "user/service", "."] {
        fs::write(root.path().join(group).join("cgroup.procs"), "").unwrap();
        fs::write(root.path().join(group).join("cgroup.subtree_control"), "").unwrap();
    }
    fs::write(root.path().join("user/service/cgroup.controllers"), "cpu pids\n").unwrap();
    let found = layout.delegated().unwrap().unwrap();
    assert_eq!(found.path, "/user/service", "the group between it and the root is not ours");
    assert_eq!(found.controllers, [Controller::Cpu, Controller::Pids]);
}

#[test]
fn swap_is_looked_at_as_well_before_an_update() {
    let root = tempfile::tempdir().unwrap();
    let mut group = make(&unified(root.path()), "/one", r#"{"memory":{"limit":9000,"swap":20000}}"#).unwrap();
    fs::write(root.path().join("one/memory.current"), "5000\n").unwrap();
    fs::write(root.path().join("one/memory.swap.current"), "6000\n").unwrap();
    let asked = |both: u64| {
        resources(&format!(r#"{{"memory":{{"limit":9000,"swap":{both},"checkBeforeUpdate":true}}}}"#))
    };
    let error = group.update(&asked(10_999)).unwrap_err().to_string();
    assert!(error.contains("memory.swap") && error.contains("11000 bytes"), "{error}");
    group.update(&asked(11_000)).unwrap();
    assert_eq!(read(root.path(), "one/memory.swap.max"), "2000");
}

#[test]
fn v2_tells_everything_in_the_names_of_runc() {
    let root = tempfile::tempdir().unwrap();
    let controllers = &[
        Controller::Cpu,
        Controller::Cpuset,
        Controller::Memory,
        Controller::Pids,
        Controller::Io,
        Controller::Hugetlb,
        Controller::Rdma,
    ];
    let layout = Arc::new(Layout::fake(&[(Version::V2, controllers, root.path())]));
    let group = make(&layout, "/one", "{}").unwrap();
    let waited =
        "some avg10=1.50 avg60=0.00 avg300=0.00 total=9\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=4\n";
    for (file, content) in [
        (
            "cpu.stat",
            "usage_usec 5000\nuser_usec 3000\nsystem_usec 2000\nnr_periods 7\nnr_throttled 2\nthrottled_usec 9\n",
        ),
        ("cpu.pressure", waited),
        ("cpuset.cpus.effective", "0-1,4\n"),
        ("cpuset.mems.effective", "0\n"),
        ("memory.current", "4096\n"),
        ("memory.max", "max\n"),
        ("memory.peak", "8192\n"),
        ("memory.swap.current", "100\n"),
        ("memory.swap.max", "0\n"),
        ("memory.stat", "anon 100\nfile 200\n"),
        ("memory.events", "max 3\n"),
        ("pids.current", "4\n"),
        ("pids.max", "max\n"),
        ("io.stat", "254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=5 dios=1\n"),
        ("hugetlb.2MB.current", "2097152\n"),
        ("hugetlb.2MB.rsvd.current", "0\n"),
        ("hugetlb.2MB.events", "max 6\n"),
        ("rdma.current", "mlx4_0 hca_handle=2 hca_object=2000\n"),
    ] {
        fs::write(root.path().join("one").join(file), content).unwrap();
    }
    let told = serde_json::to_value(group.usage().unwrap()).unwrap();
    for (place, wanted) in [
        ("/cpu/usage/total", serde_json::json!(5_000_000)),
        ("/cpu/throttling/throttledTime", 9000.into()),
        ("/cpu/psi/some/avg10", 1.5.into()),
        ("/cpu/psi/full/total", 4.into()),
        ("/cpuset/cpus", serde_json::json!([0, 1, 4])),
        ("/memory/cache", 200.into()),
        ("/memory/usage", serde_json::json!({"limit": u64::MAX, "usage": 4096, "max": 8192, "failcnt": 3})),
        ("/memory/swap/usage", 4196.into()),
        ("/memory/raw/anon", 100.into()),
        ("/pids", serde_json::json!({"current": 4, "limit": 0})),
        (
            "/blkio/ioServiceBytesRecursive/2",
            serde_json::json!({"major": 254, "minor": 0, "op": "Discard", "value": 5}),
        ),
        ("/blkio/ioServicedRecursive/1/value", 2.into()),
        ("/hugetlb", serde_json::json!({"2MB": {"usage": 2_097_152, "max": 0, "failcnt": 6}})),
        ("/rdma/mlx4_0/hca_object", 2000.into()),
    ] {
        assert_eq!(told.pointer(place), Some(&wanted), "{place}");
    }
}
