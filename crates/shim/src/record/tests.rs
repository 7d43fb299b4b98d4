//! The record is readable after every way of being torn, and never invented.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use tare_model::Exit;

use super::*;

fn exited(code: u8, error: Option<String>) -> State {
    let exit = ExitRecord { exit: Exit::Code(code), at: 7, oom_killed: false, error };
    State::Exited { pid: 5, started_at: 6, exit }
}

fn running() -> State {
    State::Running { pid: 5, started_at: 6 }
}

fn new_record() -> (tempfile::TempDir, Writer, PathBuf) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let writer = Writer::create(File::open(dir.path()).expect("opens"), 42).expect("creates");
    let path = dir.path().join(NAME);
    (dir, writer, path)
}

fn state(path: &Path) -> State {
    let record = Record::read(path).expect("readable").expect("there");
    assert_eq!(record.shim_pid, 42);
    record.state
}

#[test]
fn each_state_replaces_the_one_before() {
    let (_dir, mut writer, path) = new_record();
    assert_eq!(state(&path), State::Starting);
    for next in [running(), exited(3, None), State::Failed { error: Error::system("no") }] {
        writer.write(next.clone()).expect("writes");
        assert_eq!(state(&path), next);
    }
}

#[test]
fn no_file_is_no_record() {
    let dir = tempfile::tempdir().expect("temporary directory");
    assert_eq!(Record::read(&dir.path().join(NAME)), Ok(None));
}

#[test]
fn an_empty_or_foreign_file_is_corrupt_and_a_symlink_is_refused() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join(NAME);
    for content in [&b""[..], b"tareREC1", &[0; 4096], &[0xff; 10_000]] {
        fs::write(&path, content).expect("writes");
        assert_eq!(Record::read(&path).expect_err("corrupt").kind(), ErrorKind::Corrupt);
    }
    fs::remove_file(&path).expect("removes");
    std::os::unix::fs::symlink("/dev/zero", &path).expect("links");
    assert_eq!(Record::read(&path).expect_err("refused").kind(), ErrorKind::System);
}

#[test]
fn the_file_has_its_full_size_from_the_first_moment() {
    let (_dir, _writer, path) = new_record();
    let blocks = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&path).expect("there"));
    assert!(blocks * 512 >= 2 * SLOT as u64, "only {blocks} blocks are allocated");
}

#[test]
fn a_new_run_does_not_show_the_end_of_the_last_one() {
    let (dir, mut writer, path) = new_record();
    writer.write(exited(1, None)).expect("writes");
    Writer::create(File::open(dir.path()).expect("opens"), 42).expect("creates");
    assert_eq!(state(&path), State::Starting);
}

#[test]
fn a_message_that_is_too_long_is_cut_and_not_lost() {
    let (_dir, mut writer, path) = new_record();
    for text in ["e".repeat(10_000), "\u{1}".repeat(10_000), "ü€🙂".repeat(3_000)] {
        writer.write(exited(1, Some(text.clone()))).expect("writes");
        let State::Exited { exit, .. } = state(&path) else { panic!("not exited") };
        let kept = exit.error.expect("kept");
        assert!(text.starts_with(&kept) && kept.len() > 60, "{} bytes kept", kept.len());
    }
}

proptest! {
    /// A `pwrite` that stopped after any number of bytes leaves either the old record or the new one.
    #[test]
    fn a_torn_write_leaves_the_older_record(code in any::<u8>(), torn in 0usize..400) {
        let old = encode(8, &Record { shim_pid: 1, state: running() }).unwrap();
        let older = encode(7, &Record { shim_pid: 1, state: exited(0, Some("long ago".repeat(30))) }).unwrap();
        let new = encode(9, &Record { shim_pid: 1, state: exited(code, None) }).unwrap();
        let mut file = vec![0; 2 * SLOT];
        file[..old.len()].copy_from_slice(&old);
        file[SLOT..SLOT + older.len()].copy_from_slice(&older);
        let torn = torn.min(new.len());
        file[SLOT..SLOT + torn].copy_from_slice(&new[..torn]);
        let expected = if torn == new.len() { exited(code, None) } else { running() };
        prop_assert_eq!(decode(&file).unwrap().state, expected);
    }

    #[test]
    fn a_flipped_bit_anywhere_leaves_the_other_record(at in 0usize..24, bit in 0u8..8) {
        let mut file = vec![0; 2 * SLOT];
        for (slot, sequence, state) in [(0, 2, running()), (SLOT, 3, exited(1, None))] {
            let bytes = encode(sequence, &Record { shim_pid: 1, state }).unwrap();
            file[slot..slot + bytes.len()].copy_from_slice(&bytes);
        }
        file[SLOT + at] ^= 1 << bit;
        prop_assert_eq!(decode(&file).unwrap().state, running());
    }

    #[test]
    fn no_bytes_make_the_reader_fail(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
        prop_assert_eq!(decode(&bytes), None);
    }
}
