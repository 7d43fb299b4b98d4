//! What is written for what is asked.

use super::super::controller::{Controller, Version};
use super::super::plan::{Available, Current, Plan, plan};
use super::super::{Error, Result};
use super::resources;

/// A machine with these controllers of one version.
struct Has(Version, &'static [Controller]);

impl Available for Has {
    fn version_of(&self, controller: Controller) -> Option<Version> {
        self.1.contains(&controller).then_some(self.0)
    }
}

const ALL: &[Controller] = &[
    Controller::Cpu,
    Controller::Cpuset,
    Controller::Memory,
    Controller::Io,
    Controller::Pids,
    Controller::Hugetlb,
    Controller::Rdma,
];

fn planned(version: Version, json: &str) -> Result<Plan> {
    plan(&resources(json), &Has(version, ALL), &Current::default())
}

/// The plan as `file=value` words, first choices only.
fn words(version: Version, json: &str) -> Vec<String> {
    let plan = planned(version, json).unwrap();
    plan.writes.iter().map(|write| format!("{}={}", write.choices[0].0, write.choices[0].1)).collect()
}

fn v1(json: &str) -> Vec<String> {
    words(Version::V1, json)
}

fn v2(json: &str) -> Vec<String> {
    words(Version::V2, json)
}

fn refused(version: Version, json: &str) -> String {
    planned(version, json).unwrap_err().to_string()
}

#[test]
fn nothing_asked_is_nothing_written() {
    assert!(v1("{}").is_empty());
    assert!(v2("{}").is_empty());
    let zeros = r#"{"memory":{"limit":0,"swap":0,"reservation":0},"cpu":{"shares":0,"quota":0,"period":0},"pids":{"limit":0}}"#;
    assert!(v1(zeros).is_empty());
    assert!(v2(zeros).is_empty());
}

#[test]
fn cpu_figures() {
    let asked = r#"{"cpu":{"shares":512,"quota":50000,"period":200000,"burst":10000,"idle":0}}"#;
    assert_eq!(
        v1(asked),
        [
            "cpu.shares=512",
            "cpu.cfs_period_us=200000",
            "cpu.cfs_quota_us=50000",
            "cpu.cfs_burst_us=10000",
            "cpu.idle=0"
        ]
    );
    assert_eq!(v2(asked), ["cpu.weight=59", "cpu.max=50000 200000", "cpu.max.burst=10000", "cpu.idle=0"]);
}

#[test]
fn a_negative_quota_is_no_quota() {
    let asked = r#"{"cpu":{"quota":-1}}"#;
    assert_eq!(v1(asked), ["cpu.cfs_quota_us=-1"]);
    assert_eq!(v2(asked), ["cpu.max=max"]);
}

#[test]
fn a_period_alone_keeps_the_quota_in_force() {
    let asked = resources(r#"{"cpu":{"period":50000}}"#);
    let has = Has(Version::V2, ALL);
    let value = |current: &Current| plan(&asked, &has, current).unwrap().writes[0].choices[0].1.clone();
    assert_eq!(value(&Current::default()), "max 50000");
    assert_eq!(value(&Current { cpu_quota: Some("20000".to_owned()), ..Current::default() }), "20000 50000");
}

#[test]
fn shares_out_of_range_are_refused_not_cut() {
    for version in [Version::V1, Version::V2] {
        assert!(
            refused(version, r#"{"cpu":{"shares":1}}"#).contains("CPU shares (cpu.shares): 1 is not between")
        );
        assert!(refused(version, r#"{"cpu":{"shares":262145}}"#).contains("262145"));
    }
}

#[test]
fn memory_with_swap_counts_both_in_v1_and_the_rest_in_v2() {
    let asked = r#"{"memory":{"limit":1000000,"swap":3000000,"reservation":500000}}"#;
    assert_eq!(
        v1(asked),
        [
            "memory.limit_in_bytes=1000000",
            "memory.memsw.limit_in_bytes=3000000",
            "memory.soft_limit_in_bytes=500000"
        ]
    );
    assert_eq!(v2(asked), ["memory.swap.max=2000000", "memory.max=1000000", "memory.low=500000"]);
}

#[test]
fn unlimited_memory_is_unlimited_swap() {
    let asked = r#"{"memory":{"limit":-1}}"#;
    assert_eq!(v1(asked), ["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1"]);
    assert_eq!(v2(asked), ["memory.swap.max=max", "memory.max=max"]);
}

#[test]
fn no_swap_at_all() {
    let asked = r#"{"memory":{"limit":1000000,"swap":1000000}}"#;
    assert_eq!(v1(asked), ["memory.limit_in_bytes=1000000", "memory.memsw.limit_in_bytes=1000000"]);
    assert_eq!(v2(asked), ["memory.swap.max=0", "memory.max=1000000"]);
}

#[test]
fn less_for_both_than_for_memory_is_refused() {
    for version in [Version::V1, Version::V2] {
        let said = refused(version, r#"{"memory":{"limit":2000000,"swap":1000000}}"#);
        assert!(said.starts_with("memory and swap limit (memory.swap): "), "{said}");
    }
}

#[test]
fn what_v2_cannot_do_is_refused_by_name() {
    for (asked, what) in [
        (r#"{"memory":{"disableOOMKiller":true}}"#, "disabling the OOM killer (memory.disableOOMKiller)"),
        (r#"{"memory":{"swappiness":10}}"#, "memory swappiness (memory.swappiness)"),
        (r#"{"memory":{"useHierarchy":false}}"#, "memory accounting of the whole tree (memory.useHierarchy)"),
        (r#"{"memory":{"kernelTCP":4096}}"#, "kernel TCP memory limit (memory.kernelTCP)"),
        (r#"{"cpu":{"realtimeRuntime":1000}}"#, "CPU real-time runtime (cpu.realtimeRuntime)"),
        (r#"{"cpu":{"realtimePeriod":1000}}"#, "CPU real-time period (cpu.realtimePeriod)"),
        (r#"{"blockIO":{"leafWeight":100}}"#, "block I/O leaf weight (blockIO.leafWeight)"),
        (
            r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0,"leafWeight":100}]}}"#,
            "block I/O leaf weight of device 8:0 (blockIO.weightDevice)",
        ),
        (r#"{"network":{"classID":1}}"#, "network class (network.classID)"),
        (
            r#"{"network":{"priorities":[{"name":"eth0","priority":1}]}}"#,
            "network priority of interface eth0",
        ),
    ] {
        let said = refused(Version::V2, asked);
        assert!(said.starts_with(what), "{said}");
    }
    assert!(v2(r#"{"memory":{"disableOOMKiller":false,"useHierarchy":true}}"#).is_empty(), "so it is anyway");
}

#[test]
fn what_v1_can_do_beyond_v2() {
    let asked = r#"{"memory":{"disableOOMKiller":true,"swappiness":10},"cpu":{"realtimeRuntime":1000,"realtimePeriod":9000}}"#;
    assert_eq!(
        v1(asked),
        ["cpu.rt_period_us=9000", "cpu.rt_runtime_us=1000", "memory.swappiness=10", "memory.oom_control=1"]
    );
    assert!(refused(Version::V1, r#"{"memory":{"swappiness":101}}"#).contains("101"));
}

#[test]
fn kernel_memory_is_ignored_aloud() {
    for version in [Version::V1, Version::V2] {
        let plan = planned(version, r#"{"memory":{"kernel":1000000}}"#).unwrap();
        assert!(plan.writes.is_empty());
        assert_eq!(plan.notes.len(), 1);
    }
}

#[test]
fn processes_are_limited_or_not() {
    for version in [Version::V1, Version::V2] {
        assert_eq!(words(version, r#"{"pids":{"limit":100}}"#), ["pids.max=100"]);
        assert_eq!(words(version, r#"{"pids":{"limit":-1}}"#), ["pids.max=max"]);
    }
}

#[test]
fn block_io_by_device() {
    let asked = r#"{"blockIO":{"weight":500,
        "weightDevice":[{"major":8,"minor":0,"weight":10}],
        "throttleReadBpsDevice":[{"major":8,"minor":16,"rate":1048576}],
        "throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":0}]}}"#;
    assert_eq!(
        v1(asked),
        [
            "blkio.weight=500",
            "blkio.weight_device=8:0 10",
            "blkio.throttle.read_bps_device=8:16 1048576",
            "blkio.throttle.write_iops_device=8:16 0"
        ]
    );
    let plan = planned(Version::V2, asked).unwrap();
    assert_eq!(plan.writes[0].choices[1], ("io.weight".to_owned(), "4950".to_owned()));
    assert_eq!(plan.writes[1].choices[1].1, "8:0 1");
    assert_eq!(plan.writes[2].choices[0].1, "8:16 rbps=1048576");
    assert_eq!(plan.writes[3].choices[0].1, "8:16 wiops=max");
    assert!(refused(Version::V1, r#"{"blockIO":{"weight":9}}"#).contains("9 is not between 10 and 1000"));
}

#[test]
fn huge_pages_by_size() {
    let asked = r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#;
    assert_eq!(v1(asked), ["hugetlb.2MB.limit_in_bytes=4194304", "hugetlb.2MB.rsvd.limit_in_bytes=4194304"]);
    assert_eq!(v2(asked), ["hugetlb.2MB.max=4194304", "hugetlb.2MB.rsvd.max=4194304"]);
    for size in ["../../x", "MB", "2", "2mb", "2MBMB"] {
        let asked = format!(r#"{{"hugepageLimits":[{{"pageSize":"{size}","limit":1}}]}}"#);
        assert!(refused(Version::V2, &asked).contains("a page size is written like 2MB"), "{size}");
    }
}

#[test]
fn rdma_limits_are_one_line_for_each_device() {
    let asked = r#"{"rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":10000},"mlx4_0":{"hcaObjects":5}}}"#;
    assert_eq!(v1(asked), ["rdma.max=mlx4_0 hca_object=5", "rdma.max=mlx5_1 hca_handle=3 hca_object=10000"]);
}

#[test]
fn cpu_lists_are_checked_before_they_reach_a_file() {
    assert_eq!(v1(r#"{"cpu":{"cpus":"0-1,3","mems":"0"}}"#), ["cpuset.cpus=0-1,3", "cpuset.mems=0"]);
    assert!(v1(r#"{"cpu":{"cpus":""}}"#).is_empty());
    let long = format!(r#"{{"cpu":{{"cpus":"{}"}}}}"#, "1,".repeat(500_000));
    assert!(refused(Version::V1, &long).len() < 300, "the message does not repeat a megabyte");
    assert!(refused(Version::V2, r#"{"cpu":{"cpus":"0\n1"}}"#).contains("is no list"));
}

#[test]
fn a_limit_without_its_controller_is_refused_by_name() {
    let asked = resources(r#"{"memory":{"limit":1000000}}"#);
    let none = Has(Version::V1, &[Controller::Cpu]);
    let error = plan(&asked, &none, &Current::default()).unwrap_err();
    assert_eq!(error.to_string(), "memory limit (memory.limit): the memory controller is not mounted here");
    assert!(plan(&resources(r#"{"cpu":{"shares":2}}"#), &none, &Current::default()).is_ok());
}

#[test]
fn files_named_by_the_document_go_to_their_controller_in_v2_only() {
    let asked = r#"{"unified":{"memory.high":"500000","cpu.uclamp.max":"50"}}"#;
    assert_eq!(v2(asked), ["cpu.uclamp.max=50", "memory.high=500000"]);
    assert!(matches!(planned(Version::V1, asked), Err(Error::Unsupported { .. })));
    for file in ["memory", "../x.y", "nonsense.max", "cgroup.procs", "cgroup.kill", "cgroup.subtree_control"]
    {
        let asked = format!(r#"{{"unified":{{"{file}":"1"}}}}"#);
        assert!(planned(Version::V2, &asked).is_err(), "{file}");
    }
}

#[test]
fn a_value_of_several_lines_is_as_many_writes() {
    let asked = r#"{"unified":{"io.max":"8:0 rbps=1\n8:16 rbps=2\n"}}"#;
    assert_eq!(v2(asked), ["io.max=8:0 rbps=1", "io.max=8:16 rbps=2"]);
}

#[test]
fn a_group_may_be_bounded_in_what_is_made_below_it() {
    let asked = resources(r#"{"unified":{"cgroup.max.descendants":"5"}}"#);
    let has = Has(Version::V2, &[Controller::Core]);
    assert_eq!(plan(&asked, &has, &Current::default()).unwrap().writes[0].choices[0].1, "5");
    let asked = resources(r#"{"unified":{"cgroup.kill":"1"}}"#);
    let error = plan(&asked, &has, &Current::default()).unwrap_err().to_string();
    assert!(error.contains("the runtime's own"), "{error}");
}

#[test]
fn rates_are_one_table_for_both_versions() {
    let fields = [
        "throttleReadBpsDevice",
        "throttleWriteBpsDevice",
        "throttleReadIOPSDevice",
        "throttleWriteIOPSDevice",
    ];
    let files = ["read_bps", "write_bps", "read_iops", "write_iops"];
    for ((field, file), key) in fields.iter().zip(files).zip(["rbps", "wbps", "riops", "wiops"]) {
        let asked = format!(r#"{{"blockIO":{{"{field}":[{{"major":8,"minor":1,"rate":77}}]}}}}"#);
        assert_eq!(v1(&asked), [format!("blkio.throttle.{file}_device=8:1 77")]);
        assert_eq!(v2(&asked), [format!("io.max=8:1 {key}=77")]);
    }
}

#[test]
fn an_idle_container_has_no_shares_and_is_told_so() {
    for version in [Version::V1, Version::V2] {
        let plan = planned(version, r#"{"cpu":{"shares":512,"idle":1}}"#).unwrap();
        assert_eq!(plan.writes.len(), 1);
        assert_eq!(plan.writes[0].choices[0].0, "cpu.idle");
        assert!(plan.notes[0].starts_with("CPU shares"), "{:?}", plan.notes);
    }
}

#[test]
fn what_is_usual_asks_nothing_of_an_old_kernel() {
    for version in [Version::V1, Version::V2] {
        let plan = planned(version, r#"{"cpu":{"idle":0,"burst":0}}"#).unwrap();
        assert!(plan.writes.iter().all(|write| write.optional));
        assert!(
            planned(version, r#"{"cpu":{"idle":1,"burst":9}}"#)
                .unwrap()
                .writes
                .iter()
                .all(|write| !write.optional)
        );
    }
}

#[test]
fn swap_alone_is_judged_by_the_memory_limit_in_force() {
    let asked = resources(r#"{"memory":{"swap":3000}}"#);
    let update = |version, memory| {
        let current = Current { memory, is_update: true, ..Current::default() };
        plan(&asked, &Has(version, ALL), &current).map(|plan| plan.writes[0].choices[0].1.clone())
    };
    assert_eq!(update(Version::V2, Some(1000)).unwrap(), "2000");
    assert_eq!(update(Version::V1, Some(1000)).unwrap(), "3000");
    for version in [Version::V1, Version::V2] {
        let unlimited = update(version, None).unwrap_err().to_string();
        assert!(unlimited.contains("needs a memory limit"), "{unlimited}");
        let less = update(version, Some(4000)).unwrap_err().to_string();
        assert!(less.contains("cannot be less than the memory limit"), "{less}");
    }
}

#[test]
fn memory_beyond_both_together_is_refused_in_words_on_v1() {
    let asked = resources(r#"{"memory":{"limit":3000}}"#);
    let current =
        Current { memory: Some(1000), memory_and_swap: Some(2000), is_update: true, ..Current::default() };
    let error = plan(&asked, &Has(Version::V1, ALL), &current).unwrap_err().to_string();
    assert!(
        error.contains("memory limit (memory.limit): 3000 is more than") && error.contains("memory.swap"),
        "{error}"
    );
}

#[test]
fn the_oom_killer_comes_back_by_an_update() {
    let asked = resources(r#"{"memory":{"disableOOMKiller":false}}"#);
    let update = Current { is_update: true, ..Current::default() };
    let writes = |version, current: &Current| plan(&asked, &Has(version, ALL), current).unwrap().writes;
    assert_eq!(writes(Version::V1, &update)[0].choices[0], ("memory.oom_control".to_owned(), "0".to_owned()));
    assert!(writes(Version::V1, &Current::default()).is_empty());
    assert!(writes(Version::V2, &update).is_empty());
}
