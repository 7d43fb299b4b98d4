//! Container records survive what they promise, and names stay unique.

use std::path::Path;

use tare_model::ErrorKind;
use tare_sys::dir::Dir;

use super::*;
use crate::meta::Table;

fn open(scratch: &Path) -> Containers {
    let run = scratch.join("run");
    std::fs::create_dir_all(&run).expect("run directory");
    let root = Dir::open_trusted_path(scratch).expect("root");
    let rows = Rows::open(Table::Containers, &Dir::open_trusted_path(&run).expect("run")).expect("rows");
    let mut damage = Vec::new();
    let meta = Arc::new(Meta::open(&root, false).expect("database"));
    let containers = Containers::open(meta, rows, &mut damage).expect("containers");
    assert_eq!(damage, Vec::<String>::new());
    containers
}

fn record(n: u8, name: &str, durability: Durability) -> ContainerRecord {
    let id = ContainerId::from_bytes([n; 32]);
    ContainerRecord {
        id,
        name: name.parse().expect("name"),
        body: format!("{{\"n\":{n}}}\n").into(),
        durability,
    }
}

#[test]
fn records_of_both_kinds_survive_the_daemon() {
    let scratch = tempfile::tempdir().expect("scratch");
    let (a, b) = (record(1, "disk", Durability::Disk), record(2, "process", Durability::Process));
    let containers = open(scratch.path());
    containers.put(&a).expect("kept");
    containers.put(&b).expect("kept");
    drop(containers);
    let mut all = open(scratch.path()).all().expect("read");
    all.sort_by(|x, y| x.id.cmp(&y.id));
    assert_eq!(all, [a, b]);
}

#[test]
fn a_process_record_does_not_outlive_the_run_directory() {
    let scratch = tempfile::tempdir().expect("scratch");
    open(scratch.path()).put(&record(1, "process", Durability::Process)).expect("kept");
    std::fs::remove_dir_all(scratch.path().join("run")).expect("a reboot empties it");
    assert_eq!(open(scratch.path()).all().expect("read"), []);
}

#[test]
fn names_are_unique_across_both_kinds() {
    let scratch = tempfile::tempdir().expect("scratch");
    let containers = open(scratch.path());
    containers.put(&record(1, "web", Durability::Process)).expect("kept");
    let e = containers.put(&record(2, "web", Durability::Disk)).expect_err("taken");
    assert_eq!(e.kind(), ErrorKind::Conflict);
    assert!(e.message().contains("\"/web\" is already in use by container"), "{e}");
    assert!(!containers.contains(&ContainerId::from_bytes([2; 32])));
}

#[test]
fn of_many_creations_with_one_name_exactly_one_succeeds() {
    let scratch = tempfile::tempdir().expect("scratch");
    let containers = open(scratch.path());
    let kept: usize = std::thread::scope(|scope| {
        let put = |n| {
            scope.spawn({
                let c = &containers;
                move || c.put(&record(n, "web", Durability::Disk))
            })
        };
        let threads: Vec<_> = (0..8).map(put).collect();
        threads.into_iter().map(|t| usize::from(t.join().expect("no panic").is_ok())).sum()
    });
    assert_eq!((kept, containers.all().expect("read").len()), (1, 1));
}

#[test]
fn a_rename_frees_the_old_name_and_keeps_the_body() {
    let scratch = tempfile::tempdir().expect("scratch");
    let containers = open(scratch.path());
    let old = record(1, "old", Durability::Disk);
    containers.put(&old).expect("kept");
    containers.put(&record(2, "other", Durability::Disk)).expect("kept");
    let taken = containers.rename(&old.id, &"other".parse().expect("name"));
    assert_eq!(taken.expect_err("taken").kind(), ErrorKind::Conflict);
    assert_eq!(containers.named(&old.name), Some(old.id.clone()), "a refused rename changes nothing");
    containers.rename(&old.id, &"new".parse().expect("name")).expect("renamed");
    containers.put(&record(3, "old", Durability::Disk)).expect("the name is free");
    drop(containers);
    let kept = open(scratch.path()).get(&old.id).expect("read").expect("there");
    assert_eq!((kept.name.as_str(), kept.body), ("new", old.body));
}

#[test]
fn a_removed_container_gives_its_name_back() {
    let scratch = tempfile::tempdir().expect("scratch");
    let containers = open(scratch.path());
    for durability in [Durability::Disk, Durability::Process] {
        let web = record(1, "web", durability);
        containers.put(&web).expect("kept");
        containers.remove(&web.id).expect("removed");
        containers.remove(&web.id).expect("again is fine");
    }
    containers.put(&record(2, "web", Durability::Disk)).expect("the name is free");
}

#[test]
fn a_record_may_change_its_durability() {
    let scratch = tempfile::tempdir().expect("scratch");
    let containers = open(scratch.path());
    for durability in [Durability::Process, Durability::Disk, Durability::Process] {
        containers.put(&record(1, "web", durability)).expect("kept");
        let all = containers.all().expect("read");
        assert_eq!((all.len(), all[0].durability), (1, durability));
    }
}

#[test]
fn a_damaged_record_is_reported_and_does_not_hide_the_others() {
    let scratch = tempfile::tempdir().expect("scratch");
    open(scratch.path()).put(&record(1, "good", Durability::Process)).expect("kept");
    let files = scratch.path().join("run/containers");
    std::fs::write(files.join("ff".repeat(32)), "no line feed").expect("damage");
    std::fs::write(files.join(".half"), "unfinished").expect("left by a killed daemon");
    std::os::unix::fs::symlink("/etc/passwd", files.join("ee".repeat(32))).expect("symlink");
    let rows =
        Rows::open(Table::Containers, &Dir::open_trusted_path(&scratch.path().join("run")).expect("run"));
    let meta = Arc::new(
        Meta::open(&Dir::open_trusted_path(scratch.path()).expect("root"), false).expect("database"),
    );
    let mut damage = Vec::new();
    let containers = Containers::open(meta, rows.expect("rows"), &mut damage).expect("opens");
    assert_eq!(containers.all().expect("read").len(), 1);
    assert_eq!(damage.len(), 2, "{damage:?}");
    assert!(!files.join(".half").exists());
}
