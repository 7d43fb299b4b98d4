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
    let pool = Pool::new(Vec::new());
    let containers = Containers::open(meta, rows, pool, claims(scratch), &mut damage).expect("containers");
    assert_eq!(damage, Vec::<String>::new());
    containers
}

/// Of an engine that lives there.
fn claims(scratch: &Path) -> Claims {
    Claims::new(scratch.join("ids"), "00000000", scratch.to_path_buf())
}

fn record(n: u8, name: &str, durability: Durability) -> ContainerRecord {
    let id = ContainerId::from_bytes([n; 32]);
    ContainerRecord {
        id,
        name: name.parse().expect("name"),
        body: format!("{{\"n\":{n}}}\n").into(),
        durability,
        ids: None,
    }
}

fn with_ids(n: u8, durability: Durability, ids: &HeldIds) -> ContainerRecord {
    ContainerRecord { ids: Some(ids.range()), ..record(n, &format!("name-{n}"), durability) }
}

#[test]
fn ids_survive_with_their_record_and_are_not_lent_twice() {
    let scratch = tempfile::tempdir().expect("scratch");
    let containers = open(scratch.path());
    let (a, b) = (containers.hold_ids(1).expect("ids"), containers.hold_ids(2).expect("ids"));
    containers.put(&with_ids(1, Durability::Disk, &a)).expect("kept");
    containers.put(&with_ids(2, Durability::Process, &b)).expect("kept");
    let held = [a.range(), b.range()];
    drop((a, b, containers));
    let containers = open(scratch.path());
    let mut kept: Vec<_> = containers.all().expect("read").into_iter().filter_map(|r| r.ids).collect();
    kept.sort_unstable();
    assert_eq!(kept, held);
    let next = containers.hold_ids(1).expect("ids").range();
    assert!(held.iter().all(|other| !other.overlaps(next)), "{next}");
}

#[test]
fn ids_are_free_when_the_last_record_with_them_is_gone() {
    let scratch = tempfile::tempdir().expect("scratch");
    let containers = open(scratch.path());
    let held = containers.hold_ids(1).expect("ids");
    let range = held.range();
    containers.put(&with_ids(1, Durability::Disk, &held)).expect("kept");
    let shared = containers.share_ids(range).expect("somebody has them");
    containers.put(&with_ids(2, Durability::Process, &shared)).expect("kept");
    drop((held, shared));
    // A changed record does not count twice.
    let record = containers.get(&ContainerId::from_bytes([1; 32])).expect("read").expect("there");
    containers.put(&record).expect("kept");
    containers.remove(&record.id).expect("removed");
    assert!(containers.share_ids(range).is_ok(), "the other still has them");
    containers.remove(&ContainerId::from_bytes([2; 32])).expect("removed");
    assert_eq!(containers.share_ids(range).expect_err("free").kind(), ErrorKind::Conflict);
}

#[test]
fn ids_of_a_creation_that_failed_are_free() {
    let scratch = tempfile::tempdir().expect("scratch");
    let containers = open(scratch.path());
    containers.put(&record(1, "name-2", Durability::Disk)).expect("kept");
    let held = containers.hold_ids(1).expect("ids");
    let range = held.range();
    containers.put(&with_ids(2, Durability::Disk, &held)).expect_err("the name is taken");
    drop(held);
    assert!(containers.share_ids(range).is_err());
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
    let containers = Containers::open(
        meta,
        rows.expect("rows"),
        Pool::new(Vec::new()),
        claims(scratch.path()),
        &mut damage,
    )
    .expect("opens");
    assert_eq!(containers.all().expect("read").len(), 1);
    assert_eq!(damage.len(), 2, "{damage:?}");
    assert!(!files.join(".half").exists());
}
