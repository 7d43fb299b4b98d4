//! Groups with somebody in them: coming in, standing still, being counted, dying.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::super::controller::Controller;
use super::super::{Error, Layout};
use super::{Inside, Temporary, eventually, layout, layouts};

/// Burns CPU for a while that can be seen.
fn burn() {
    let start = std::time::Instant::now();
    while start.elapsed().as_millis() < 30 {
        std::hint::spin_loop();
    }
}

#[test]
fn a_thread_that_writes_to_the_task_files_is_in_and_so_are_its_children() {
    let layout = layout();
    let group = Temporary::new(&layout, "{}");
    let entry = group.entry().unwrap();
    let inside = std::thread::spawn(move || {
        entry.enter().unwrap();
        // The kernel takes the group of the thread that forks.
        Command::new("/bin/cat").arg("/proc/self/cgroup").stdout(Stdio::piped()).output().unwrap()
    });
    let said = String::from_utf8(inside.join().unwrap().stdout).unwrap();
    for hierarchy in group.hierarchies().filter(|one| one.version == super::super::Version::V1) {
        let names: Vec<_> = hierarchy.controllers.iter().map(|one| one.name()).collect();
        let line = format!(":{}:{}", names.join(","), group.path);
        assert!(said.contains(&line), "{line} is not in {said}");
    }
}

#[test]
fn there_is_a_descriptor_to_clone_into_where_v2_is_mounted() {
    let layout = layout();
    let group = Temporary::new(&layout, "{}");
    assert_eq!(group.entry().unwrap().clone_into().is_some(), layout.v2().is_some());
}

#[test]
fn a_frozen_container_uses_no_time_and_runs_on_when_thawed() {
    for layout in layouts() {
        freezes(&layout);
    }
}

fn freezes(layout: &Arc<Layout>) {
    let group = Temporary::new(layout, "{}");
    let used = || group.stats().unwrap().cpu.unwrap().usage;
    let _child = Inside::run(&group, "while :; do :; done");
    eventually("the loop runs", || used() > 5_000_000);
    assert!(!group.is_frozen().unwrap());
    group.freeze().unwrap();
    assert!(group.is_frozen().unwrap());
    let before = used();
    burn();
    assert_eq!(used(), before, "frozen");
    group.freeze().unwrap(); // again is no error
    group.thaw().unwrap();
    eventually("the loop runs again", || used() > before + 5_000_000);
}

#[test]
fn an_empty_group_can_be_frozen() {
    for layout in layouts() {
        let group = Temporary::new(&layout, "{}");
        group.freeze().unwrap();
        group.thaw().unwrap();
    }
}

#[test]
fn a_container_that_forks_without_end_is_killed_whole() {
    for layout in layouts() {
        let group = Temporary::new(&layout, "{}");
        let _child = Inside::run(&group, "for i in $(seq 20); do while :; do /bin/true; done & done; wait");
        eventually("it forks", || group.pids().unwrap().len() > 20);
        group.kill_all().unwrap();
        assert_eq!(group.pids().unwrap(), Vec::<i32>::new());
        group.destroy().unwrap();
    }
}

#[test]
fn a_frozen_container_can_be_killed() {
    for layout in layouts() {
        let group = Temporary::new(&layout, "{}");
        let child = Inside::run(&group, "exec sleep 100");
        group.freeze().unwrap();
        group.kill_all().unwrap();
        assert!(!group.pids().unwrap().contains(&child.pid()));
    }
}

#[test]
fn killing_nobody_is_no_error_and_neither_is_killing_in_groups_that_are_gone() {
    let group = Temporary::new(&layout(), "{}");
    group.kill_all().unwrap();
    group.destroy().unwrap();
    group.kill_all().unwrap();
    assert_eq!(group.pids().unwrap(), Vec::<i32>::new());
}

#[test]
fn a_group_with_somebody_alive_is_not_removed_and_the_others_are() {
    let group = Temporary::new(&layout(), "{}");
    let child = Inside::run(&group, "exec sleep 100");
    // Out of all but one.
    let stays = group.with(Controller::Pids).unwrap();
    for hierarchy in group.hierarchies().filter(|one| !std::ptr::eq(*one, stays)) {
        hierarchy.write_at("cgroup.procs", &child.pid().to_string(), group.layout.write_flags).unwrap();
    }
    let error = group.destroy().unwrap_err();
    assert!(matches!(error, Error::InUse { pid, .. } if pid == child.pid()), "{error}");
    let left: Vec<_> = group.hierarchies().filter(|one| one.exists_at(group.path.as_str())).collect();
    assert_eq!(left.len(), 1);
}

#[test]
fn processes_in_groups_below_are_seen_killed_and_removed() {
    let group = Temporary::new(&layout(), "{}");
    let child = Inside::run(&group, "exec sleep 100");
    for hierarchy in group.hierarchies() {
        hierarchy.mkdir_at(&group.path.join("inner")).unwrap();
        let file = group.path.join("inner/cgroup.procs");
        hierarchy.write_at(&file, &child.pid().to_string(), group.layout.write_flags).unwrap();
    }
    assert_eq!(group.pids().unwrap(), [child.pid()]);
    group.kill_all().unwrap();
    group.destroy().unwrap();
    assert!(!group.exists());
}

#[test]
fn what_is_used_is_counted() {
    let group = Temporary::new(&layout(), r#"{"memory":{"limit":268435456},"pids":{"limit":30}}"#);
    // Memory is charged to who touches it first: what the shell had before it came in does not count.
    let _child = Inside::run(&group, r"x=$(head -c 4000000 /dev/zero | tr '\0' x); while :; do :; done");
    eventually("memory", || group.stats().unwrap().memory.is_some_and(|memory| memory.usage > 4_000_000));
    eventually("one process is left", || group.pids().unwrap().len() == 1);
    // Version 1 counts time as the program's or the kernel's by the clock's ticks.
    let counts = |cpu: tare_model::sandbox::CpuStats| cpu.usage > 10_000_000 && cpu.user > 0;
    eventually("CPU time", || group.stats().unwrap().cpu.is_some_and(counts));
    let stats = group.stats().unwrap();
    let memory = stats.memory.unwrap();
    assert!(
        memory.usage > 4_000_000 && memory.max_usage >= memory.usage,
        "{} {}",
        memory.usage,
        memory.max_usage
    );
    assert_eq!(memory.limit, Some(268_435_456));
    assert!(!memory.detail.is_empty());
    assert_eq!(stats.pids.unwrap().limit, Some(30));
    // One that has ended counts until its parent has asked for it.
    eventually("one process is counted", || group.stats().unwrap().pids.unwrap().current == 1);
}

#[test]
fn a_process_killed_for_lack_of_memory_is_heard_of() {
    let group = Temporary::new(&layout(), r#"{"memory":{"limit":16777216,"swap":16777216}}"#);
    let watch = group.oom_watch().unwrap().unwrap();
    assert_eq!(watch.kills().unwrap(), 0);
    let child = Inside::run(&group, "tail /dev/zero");
    let timeout = Timespec { tv_sec: 20, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&timeout)).unwrap();
    assert_eq!(ready, 1, "nothing was heard");
    assert!(!child.succeeds());
    eventually("the count", || watch.kills().unwrap() == 1);
    // Heard once, not for ever.
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    assert_eq!(poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&now)).unwrap(), 0);
    group.destroy().unwrap();
    assert_eq!(watch.kills().unwrap(), 0, "a group that is gone");
}

#[test]
fn the_limit_on_processes_holds() {
    let group = Temporary::new(&layout(), r#"{"pids":{"limit":3}}"#);
    let out = tempfile::NamedTempFile::new().unwrap();
    let script = format!("for i in 1 2 3 4 5 6; do sleep 100 & done 2> {}", out.path().display());
    let _child = Inside::run(&group, &script);
    eventually("a fork is refused", || fs::read_to_string(out.path()).unwrap().contains("fork"));
    assert!(group.pids().unwrap().len() <= 3);
}

#[test]
fn without_cgroup_kill_they_are_frozen_and_killed_one_by_one() {
    let group = Temporary::new(&layout(), "{}");
    let _child = Inside::run(&group, "for i in $(seq 20); do while :; do /bin/true; done & done; wait");
    eventually("it forks", || group.pids().unwrap().len() > 20);
    group.kill_listed(&super::super::wait::Deadline::after(20)).unwrap();
    assert_eq!(group.pids().unwrap(), Vec::<i32>::new());
    assert!(!group.is_frozen().unwrap());
}
