//! The database keeps what it acknowledged, and refuses to forget.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

fn put(key: &str, value: &str) -> Op {
    Op::Put(Table::Settings, key.into(), value.into())
}

fn scratch() -> (tempfile::TempDir, Dir) {
    let scratch = tempfile::tempdir().expect("scratch");
    let dir = Dir::open_trusted_path(scratch.path()).expect("opens");
    (scratch, dir)
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let (_scratch, dir) = scratch();
    let meta = Meta::open(&dir, false).expect("opens");
    meta.commit(vec![put("a", "1"), put("b", "2"), Op::Delete(Table::Settings, "a".into())])
        .expect("commits");
    drop(meta);
    let meta = Meta::open(&dir, true).expect("opens again");
    assert_eq!(meta.get(Table::Settings, "b").expect("reads").as_deref(), Some(b"2".as_slice()));
    assert_eq!(meta.get(Table::Settings, "a").expect("reads"), None);
    assert_eq!(meta.scan(Table::Images).expect("every table is there"), []);
}

#[test]
fn a_database_that_vanished_is_not_silently_started_afresh() {
    let (scratch, dir) = scratch();
    drop(Meta::open(&dir, false).expect("opens"));
    std::fs::write(scratch.path().join("meta.redb"), "").expect("truncated");
    let e = Meta::open(&dir, true).err().expect("refused");
    assert_eq!(e.kind(), ErrorKind::Corrupt);
    assert!(e.message().contains("missing or empty"), "{e}");
}

#[test]
fn garbage_in_place_of_the_database_is_reported_as_damage() {
    let (scratch, dir) = scratch();
    std::fs::write(scratch.path().join("meta.redb"), vec![7u8; 100_000]).expect("garbage");
    assert_eq!(Meta::open(&dir, false).err().expect("refused").kind(), ErrorKind::Corrupt);
}

#[test]
fn a_database_of_a_newer_version_is_left_alone() {
    let (_scratch, dir) = scratch();
    let meta = Meta::open(&dir, false).expect("opens");
    meta.commit(vec![put(FORMAT_KEY, "3")]).expect("commits");
    drop(meta);
    assert_eq!(Meta::open(&dir, false).err().expect("refused").kind(), ErrorKind::Unsupported);
}

#[test]
fn a_database_of_the_version_before_is_taken_on() {
    let (_scratch, dir) = scratch();
    let meta = Meta::open(&dir, false).expect("opens");
    meta.commit(vec![put(FORMAT_KEY, "1"), put("a", "1")]).expect("commits");
    drop(meta);
    let meta = Meta::open(&dir, true).expect("opens again");
    assert_eq!(meta.get(Table::Settings, FORMAT_KEY).expect("reads").as_deref(), Some(FORMAT.as_bytes()));
    assert_eq!(meta.get(Table::Settings, "a").expect("reads").as_deref(), Some(b"1".as_slice()));
}

#[test]
fn concurrent_commits_all_happen() {
    let (_scratch, dir) = scratch();
    let meta = Arc::new(Meta::open(&dir, false).expect("opens"));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let meta = Arc::clone(&meta);
            scope.spawn(move || {
                for n in 0..20 {
                    meta.commit(vec![put(&format!("{thread}-{n}"), "x")]).expect("commits");
                }
            });
        }
    });
    let keys = meta.scan(Table::Settings).expect("reads").len();
    assert_eq!(keys, 8 * 20 + 1, "one of them is the format");
}

#[test]
fn callers_of_a_failed_batch_all_learn_it() {
    let group = Arc::new(Group::default());
    let failures = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (group, failures) = (Arc::clone(&group), &failures);
            scope.spawn(move || {
                let result = group.run(vec![put(&n.to_string(), "")], |_| Err(Error::system("disk full")));
                failures.fetch_add(usize::from(result.is_err()), Ordering::Relaxed);
            });
        }
    });
    assert_eq!(failures.into_inner(), 8);
}

/// Not a promise (the disk decides), but a look at what a commit costs: `cargo test -p tare-store cost -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn cost_of_a_commit() {
    let scratch = tempfile::tempdir_in("/var/tmp").expect("scratch on a disk");
    let dir = Dir::open_trusted_path(scratch.path()).expect("opens");
    let meta = Meta::open(&dir, false).expect("opens");
    let body = "x".repeat(4000);
    let mut times: Vec<_> = (0..500)
        .map(|n| {
            let begin = std::time::Instant::now();
            meta.commit(vec![Op::Put(Table::Containers, format!("{n:064}"), body.clone().into())])
                .expect("commits");
            begin.elapsed()
        })
        .collect();
    times.sort();
    println!("commit: median {:?}, p99 {:?}", times[250], times[495]);
}
