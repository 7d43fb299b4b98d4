//! What is written is read: across chunks, files, runs, damage and full disks.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tare_model::container::LogConfig;
use tempfile::TempDir;

use super::*;

struct Log {
    dir: TempDir,
    driver: LogDriver,
    max_size: Option<u64>,
    max_files: Option<u32>,
}

/// An entry with its bytes.
type Owned = (Stream, u64, String);

impl Log {
    fn new(driver: LogDriver) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        Self { dir, driver, max_size: None, max_files: None }
    }

    fn writer(&self) -> Writer {
        let config = LogConfig {
            driver: self.driver,
            max_size: self.max_size,
            max_files: self.max_files,
            ..LogConfig::default()
        };
        let settings = LogSettings { config, directory: self.dir.path().to_owned() };
        Writer::open(&settings, 1).expect("opens")
    }

    fn reader(&self, options: Options) -> Reader {
        Reader::open(self.dir.path(), self.driver, options).expect("opens")
    }

    fn read(&self, options: Options) -> Vec<Owned> {
        rest(&mut self.reader(options))
    }

    fn text(&self) -> String {
        self.read(Options::default()).into_iter().map(|(_, _, text)| text).collect()
    }

    fn tail(&self, n: u64) -> Vec<String> {
        let options = Options { tail: Some(n), ..Options::default() };
        self.read(options).into_iter().map(|(_, _, text)| text).collect()
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.dir.path()).expect("reads");
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("entry").path()).collect();
        files.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
        files
    }
}

fn rest(reader: &mut Reader) -> Vec<Owned> {
    let mut entries = Vec::new();
    while let Some(entry) = reader.next().expect("reads") {
        entries.push((entry.stream, entry.time, String::from_utf8_lossy(entry.bytes).into_owned()));
    }
    entries
}

fn both() -> [Log; 2] {
    [Log::new(LogDriver::Local), Log::new(LogDriver::JsonFile)]
}

#[test]
fn lines_come_back_whole_with_stream_and_time() {
    for log in both() {
        let mut writer = log.writer();
        writer.append(Stream::Stdout, 10, b"one\ntw");
        writer.append(Stream::Stderr, 20, b"oops\n");
        writer.append(Stream::Stdout, 30, b"o\n");
        writer.finish();
        let lines: Vec<(Stream, String)> =
            log.read(Options::default()).into_iter().map(|(stream, _, text)| (stream, text)).collect();
        let expected = [(Stream::Stdout, "one\n"), (Stream::Stderr, "oops\n"), (Stream::Stdout, "two\n")];
        assert_eq!(lines, expected.map(|(stream, text)| (stream, text.to_owned())), "{:?}", log.driver);
    }
}

#[test]
fn a_line_has_the_time_of_its_beginning() {
    let log = Log::new(LogDriver::Local);
    let mut writer = log.writer();
    writer.append(Stream::Stdout, 10, b"be");
    writer.append(Stream::Stdout, 20, b"gun\nnext\n");
    let times: Vec<u64> = log.read(Options::default()).into_iter().map(|(_, time, _)| time).collect();
    assert_eq!(times, [10, 20]);
}

#[test]
fn a_line_without_an_end_is_given_at_the_end() {
    for log in both() {
        let mut writer = log.writer();
        writer.append(Stream::Stdout, 1, b"line\nprompt$ ");
        writer.append(Stream::Stderr, 1, b"also");
        writer.finish();
        let mut texts: Vec<String> = log.read(Options::default()).into_iter().map(|(_, _, t)| t).collect();
        texts.sort();
        assert_eq!(texts, ["also", "line\n", "prompt$ "], "{:?}", log.driver);
    }
}

#[test]
fn two_runs_do_not_share_a_line() {
    let log = Log::new(LogDriver::Local);
    for text in ["first", "second"] {
        let mut writer = log.writer();
        writer.append(Stream::Stdout, 1, text.as_bytes());
        writer.append(Stream::Stderr, 1, text.as_bytes());
        writer.finish();
    }
    let texts: Vec<String> = log.read(Options::default()).into_iter().map(|(_, _, t)| t).collect();
    assert_eq!(texts, ["first", "first", "second", "second"]);
}

#[test]
fn long_lines_come_in_parts_that_say_so() {
    for log in both() {
        let mut writer = log.writer();
        let long = "x".repeat(LINE_MAX * 2 + 5) + "\nshort\n";
        for chunk in long.as_bytes().chunks(10_000) {
            writer.append(Stream::Stdout, 1, chunk);
        }
        let mut reader = log.reader(Options::default());
        let mut shapes = Vec::new();
        while let Some(entry) = reader.next().expect("reads") {
            shapes.push((entry.bytes.len(), entry.continues, entry.is_partial()));
        }
        let full = LINE_MAX;
        assert_eq!(shapes, [(full, false, true), (full, true, true), (6, true, false), (6, false, false)]);
    }
}

#[test]
fn since_and_until_include_their_edges() {
    for log in both() {
        let mut writer = log.writer();
        for time in [10, 20, 30, 40] {
            writer.append(Stream::Stdout, time, format!("{time}\n").as_bytes());
        }
        let options = Options { since: Some(20), until: Some(30), ..Options::default() };
        let times: Vec<u64> = log.read(options).into_iter().map(|(_, time, _)| time).collect();
        assert_eq!(times, [20, 30]);
    }
}

#[test]
fn a_clock_that_goes_back_hides_nothing() {
    let log = Log::new(LogDriver::Local);
    let mut writer = log.writer();
    for time in [50, 10, 60] {
        writer.append(Stream::Stdout, time, format!("{time}\n").as_bytes());
    }
    let options = Options { since: Some(40), ..Options::default() };
    let times: Vec<u64> = log.read(options).into_iter().map(|(_, time, _)| time).collect();
    assert_eq!(times, [50, 60]);
}

#[test]
fn rotation_keeps_the_newest_files_and_loses_no_line_between_them() {
    for mut log in both() {
        (log.max_size, log.max_files) = (Some(2_000), Some(3));
        let mut writer = log.writer();
        for i in 0..1_000 {
            writer.append(Stream::Stdout, i, format!("line {i}\n").as_bytes());
        }
        let files = log.files();
        assert_eq!(files.len(), 3);
        for file in &files {
            assert!(fs::metadata(file).expect("there").len() <= 2_000, "{}", file.display());
        }
        let numbers: Vec<u64> = log
            .read(Options::default())
            .iter()
            .map(|(_, _, text)| text.trim_start_matches("line ").trim().parse().expect("a number"))
            .collect();
        let expected: Vec<u64> = (1_000 - numbers.len() as u64..1_000).collect();
        assert!(numbers.len() > 60 && numbers == expected, "{numbers:?}");
    }
}

#[test]
fn a_chunk_larger_than_a_file_is_spread_over_files() {
    let mut log = Log::new(LogDriver::Local);
    (log.max_size, log.max_files) = (Some(4096), Some(100));
    let text = "0123456789\n".repeat(5_000);
    log.writer().append(Stream::Stdout, 1, text.as_bytes());
    assert!(log.text() == text);
    assert!(log.files().len() > 10, "{} files", log.files().len());
    for file in log.files() {
        assert!(fs::metadata(&file).expect("there").len() <= 4096, "{} is too large", file.display());
    }
}

#[test]
fn a_rotation_that_fails_takes_nothing_away() {
    for mut log in both() {
        (log.max_size, log.max_files) = (Some(1_100), Some(1));
        let mut writer = log.writer();
        let line = |letter: &str| letter.repeat(900) + "\n";
        writer.append(Stream::Stdout, 1, line("x").as_bytes());
        let first = log.files()[0].clone();
        // Something in its way.
        fs::create_dir(first.with_extension("2")).expect("makes");
        writer.append(Stream::Stdout, 1, line("y").as_bytes());
        assert!(first.exists() && writer.dropped() > 0, "{:?}", log.driver);
    }
}

#[test]
fn a_file_with_the_last_number_there_is_neither_stops_writing_nor_reading() {
    for log in both() {
        log.writer().append(Stream::Stdout, 1, b"one\n");
        let last = log.files()[0].with_extension(u64::MAX.to_string());
        fs::write(last, b"\0").expect("writes");
        log.writer().append(Stream::Stdout, 1, b"two\n");
        assert_eq!(log.text(), "one\ntwo\n", "{:?}", log.driver);
    }
}

#[test]
fn a_reader_that_does_not_follow_stops_where_the_log_ended_when_it_was_opened() {
    for log in both() {
        let mut writer = log.writer();
        writer.append(Stream::Stdout, 1, b"one\n");
        for tail in [None, Some(5)] {
            let mut reader = log.reader(Options { tail, ..Options::default() });
            writer.append(Stream::Stdout, 1, b"later\n");
            let first = rest(&mut reader).first().map(|(_, _, text)| text.clone());
            assert_eq!(first.as_deref(), Some("one\n"));
            assert!(rest(&mut reader).is_empty(), "{:?}", log.driver);
        }
        let mut reader = log.reader(Options::default());
        writer.append(Stream::Stdout, 1, b"last\n");
        assert!(!rest(&mut reader).iter().any(|(_, _, text)| text == "last\n"), "{:?}", log.driver);
    }
}

#[test]
fn a_tail_whose_files_are_deleted_meanwhile_skips_nothing_of_what_is_left() {
    let mut log = Log::new(LogDriver::Local);
    (log.max_size, log.max_files) = (Some(2_000), Some(50));
    let mut writer = log.writer();
    for i in 0..300 {
        writer.append(Stream::Stdout, i, format!("{i}\n").as_bytes());
    }
    let mut reader = log.reader(Options { tail: Some(150), follow: true, ..Options::default() });
    // As rotation does when the log grows faster than it is read.
    let files = log.files();
    let (deleted, kept) = files.split_at(files.len() - 2);
    deleted.iter().for_each(|file| fs::remove_file(file).expect("deletes"));
    assert_eq!(kept.len(), 2);
    assert_eq!(rest(&mut reader), log.read(Options::default()));
}

#[test]
fn without_a_limit_nothing_is_rotated() {
    let mut log = Log::new(LogDriver::Local);
    log.max_size = Some(0);
    let mut writer = log.writer();
    let text = "0123456789\n".repeat(6_000);
    for _ in 0..400 {
        writer.append(Stream::Stdout, 1, text.as_bytes());
    }
    assert_eq!(log.files().len(), 1);
}

#[test]
fn the_driver_none_keeps_and_gives_nothing() {
    let log = Log::new(LogDriver::None);
    log.writer().append(Stream::Stdout, 1, b"gone\n");
    assert_eq!(log.text(), "");
    assert_eq!(log.files().len(), 0);
}

#[test]
fn tail_gives_exactly_the_last_lines_over_files_and_streams() {
    for mut log in both() {
        (log.max_size, log.max_files) = (Some(3_000), Some(50));
        let mut writer = log.writer();
        let mut all = Vec::new();
        for i in 0..300 {
            let stream = if i % 3 == 0 { Stream::Stderr } else { Stream::Stdout };
            writer.append(stream, i, format!("{i}\n").as_bytes());
            all.push(format!("{i}\n"));
        }
        for n in [0, 1, 2, 7, 150, 299, 300, 301, u64::MAX] {
            let from = all.len() - all.len().min(usize::try_from(n).unwrap_or(usize::MAX));
            assert_eq!(log.tail(n), all[from..], "tail {n} of {:?}", log.driver);
        }
    }
}

#[test]
fn tail_counts_what_has_no_end_as_a_line() {
    for log in both() {
        let mut writer = log.writer();
        writer.append(Stream::Stdout, 1, b"a\nb\nc");
        writer.finish();
        assert_eq!(log.tail(2), ["b\n", "c"]);
    }
}

#[test]
fn a_follower_sees_everything_over_rotations() {
    for mut log in both() {
        (log.max_size, log.max_files) = (Some(1_500), Some(1_000));
        let mut writer = log.writer();
        let mut reader = log.reader(Options { follow: true, ..Options::default() });
        let mut seen = String::new();
        let mut written = String::new();
        for i in 0..500 {
            let text = format!("line {i}\n");
            writer.append(Stream::Stdout, i, text.as_bytes());
            written += &text;
            if i % 7 == 0 {
                rest(&mut reader).iter().for_each(|(_, _, text)| seen += text);
                assert_eq!(seen, written);
            }
        }
        rest(&mut reader).iter().for_each(|(_, _, text)| seen += text);
        assert_eq!(seen, written);
    }
}

#[test]
fn a_follower_that_fell_behind_goes_on_with_what_is_left() {
    let mut log = Log::new(LogDriver::Local);
    (log.max_size, log.max_files) = (Some(1_500), Some(2));
    let mut writer = log.writer();
    writer.append(Stream::Stdout, 0, b"first\n");
    let mut reader = log.reader(Options { follow: true, ..Options::default() });
    assert_eq!(rest(&mut reader).len(), 1);
    for i in 1..1_000 {
        writer.append(Stream::Stdout, i, format!("line {i}\n").as_bytes());
    }
    let seen = rest(&mut reader);
    assert_eq!(seen.last().map(|(_, _, text)| text.as_str()), Some("line 999\n"));
}

#[test]
fn a_follower_waits_for_the_end_of_a_line_until_the_end_of_the_log() {
    let log = Log::new(LogDriver::Local);
    let mut writer = log.writer();
    let mut reader = log.reader(Options { follow: true, ..Options::default() });
    writer.append(Stream::Stdout, 1, b"half");
    assert_eq!(rest(&mut reader), []);
    writer.append(Stream::Stdout, 2, b" done\nrest");
    assert_eq!(rest(&mut reader), [(Stream::Stdout, 1, "half done\n".to_owned())]);
    reader.stop_following();
    assert_eq!(rest(&mut reader), [(Stream::Stdout, 2, "rest".to_owned())]);
}

#[test]
fn a_frame_that_is_still_being_written_is_waited_for() {
    let log = Log::new(LogDriver::Local);
    log.writer().append(Stream::Stdout, 1, b"whole\n");
    let whole = fs::read(&log.files()[0]).expect("reads");
    let mut reader = log.reader(Options { follow: true, ..Options::default() });
    assert_eq!(rest(&mut reader).len(), 1);
    let mut file = OpenOptions::new().append(true).open(&log.files()[0]).expect("opens");
    for byte in &whole {
        assert_eq!(rest(&mut reader), []);
        file.write_all(&[*byte]).expect("writes");
    }
    assert_eq!(rest(&mut reader).len(), 1);
}

#[test]
fn a_torn_last_record_costs_itself_only_and_the_next_run_writes_on() {
    for log in both() {
        let mut writer = log.writer();
        writer.append(Stream::Stdout, 1, b"kept\n");
        writer.append(Stream::Stdout, 2, b"torn by a power cut\n");
        drop(writer);
        let path = &log.files()[0];
        let file = OpenOptions::new().write(true).open(path).expect("opens");
        file.set_len(fs::metadata(path).expect("there").len() - 3).expect("cuts");
        assert_eq!(log.text(), "kept\n", "{:?}", log.driver);
        assert_eq!(log.tail(1), ["kept\n"]);
        log.writer().append(Stream::Stdout, 3, b"again\n");
        assert_eq!(log.text(), "kept\nagain\n");
        assert_eq!(log.tail(2), ["kept\n", "again\n"]);
    }
}

#[test]
fn a_run_behind_a_torn_one_does_not_go_on_with_its_line() {
    let log = Log::new(LogDriver::Local);
    let mut writer = log.writer();
    writer.append(Stream::Stdout, 1, b"prompt$ ");
    writer.append(Stream::Stdout, 2, b"torn");
    drop(writer);
    let path = &log.files()[0];
    let file = OpenOptions::new().write(true).open(path).expect("opens");
    file.set_len(fs::metadata(path).expect("there").len() - 3).expect("cuts");
    log.writer().append(Stream::Stdout, 3, b"again\n");
    let texts: Vec<String> = log.read(Options::default()).into_iter().map(|(_, _, t)| t).collect();
    assert_eq!(texts, ["prompt$ ", "again\n"]);
}

#[test]
fn runs_of_nul_bytes_are_skipped() {
    for log in both() {
        let path = log.dir.path().join(if log.driver == LogDriver::Local { "log.1" } else { "json.log.1" });
        let line = |text: &[u8]| log.writer().append(Stream::Stdout, 1, text);
        let damage = |bytes: &[u8]| {
            OpenOptions::new().append(true).open(&path).expect("opens").write_all(bytes).expect("writes");
        };
        line(b"one\n");
        damage(&[0; 100_000]);
        damage(b"\n");
        line(b"two\n");
        assert_eq!(log.text(), "one\ntwo\n", "{:?}", log.driver);
        assert_eq!(log.tail(1), ["two\n"]);
        assert_eq!(log.tail(5), ["one\n", "two\n"]);
    }
}

#[test]
fn a_file_that_is_truncated_while_followed_is_read_from_its_beginning() {
    let log = Log::new(LogDriver::Local);
    let mut writer = log.writer();
    writer.append(Stream::Stdout, 1, b"a line that is long enough\n");
    let mut reader = log.reader(Options { follow: true, ..Options::default() });
    assert_eq!(rest(&mut reader).len(), 1);
    OpenOptions::new().write(true).open(&log.files()[0]).expect("opens").set_len(0).expect("truncates");
    assert_eq!(rest(&mut reader), []);
    writer.append(Stream::Stdout, 2, b"new\n");
    assert_eq!(rest(&mut reader), [(Stream::Stdout, 2, "new\n".to_owned())]);
}

#[test]
fn a_link_or_a_fifo_in_place_of_the_log_is_refused_and_does_not_hang() {
    for driver in [LogDriver::Local, LogDriver::JsonFile] {
        let name = if driver == LogDriver::Local { "log.1" } else { "json.log.1" };
        let log = Log::new(driver);
        let path = log.dir.path().join(name);
        let refused = |log: &Log| {
            let settings = LogSettings {
                config: LogConfig { driver, ..LogConfig::default() },
                directory: log.dir.path().to_owned(),
            };
            assert!(Writer::open(&settings, 1).is_err());
            assert!(Reader::open(log.dir.path(), driver, Options::default()).is_err());
        };
        symlink("/etc/passwd", &path).expect("links");
        refused(&log);
        fs::remove_file(&path).expect("removes");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .expect("makes");
        refused(&log);
    }
}

#[test]
fn foreign_files_in_the_directory_are_left_alone() {
    let log = Log::new(LogDriver::Local);
    for name in ["log", "log.", "log.01", "log.x", "log.-1", "log.99999999999999999999", "xlog.7"] {
        fs::write(log.dir.path().join(name), "foreign").expect("writes");
    }
    log.writer().append(Stream::Stdout, 1, b"ours\n");
    assert_eq!(log.text(), "ours\n");
    assert!(log.dir.path().join("log.1").exists());
}

#[test]
fn a_run_that_says_nothing_leaves_no_file_of_ours() {
    let log = Log::new(LogDriver::Local);
    log.writer().finish();
    assert_eq!(log.files(), Vec::<PathBuf>::new());
    let mut reader = log.reader(Options { follow: true, ..Options::default() });
    assert_eq!(rest(&mut reader), []);
    log.writer().append(Stream::Stdout, 1, b"late\n");
    assert_eq!(rest(&mut reader), [(Stream::Stdout, 1, "late\n".to_owned())]);
    let json = Log::new(LogDriver::JsonFile);
    json.writer().finish();
    assert_eq!(json.files().len(), 1, "others may wait for it");
}

#[test]
fn a_missing_directory_is_an_error_and_an_empty_one_an_empty_log() {
    let log = Log::new(LogDriver::Local);
    assert_eq!(log.text(), "");
    assert_eq!(log.tail(3), [""; 0]);
    let missing = Reader::open(Path::new("/nonexistent/log"), LogDriver::Local, Options::default());
    assert_eq!(missing.expect_err("missing").kind(), tare_model::ErrorKind::NotFound);
}

#[test]
fn on_a_full_disk_the_writer_counts_what_is_missing_and_goes_on_when_there_is_room() {
    for driver in [LogDriver::Local, LogDriver::JsonFile] {
        let disk = small_disk();
        let directory = crate::wire::path_below(&disk, "log".as_ref());
        fs::create_dir(&directory).expect("makes");
        let config = LogConfig { driver, ..LogConfig::default() };
        let mut writer =
            Writer::open(&LogSettings { config, directory: directory.clone() }, 1).expect("opens");
        writer.append(Stream::Stdout, 1, b"before\n");
        let ballast = crate::wire::path_below(&disk, "ballast".as_ref());
        let mut file = fs::File::create(&ballast).expect("creates");
        while file.write_all(&[1; 512]).is_ok() {}
        let line = "x".repeat(99) + "\n";
        for _ in 0..100 {
            writer.append(Stream::Stdout, 2, line.as_bytes());
        }
        let dropped = writer.dropped();
        assert!(dropped > 1_000 && dropped.is_multiple_of(100), "{dropped} bytes dropped");
        drop(file);
        fs::remove_file(&ballast).expect("removes");
        writer.append(Stream::Stdout, 3, b"after\n");
        let mut reader = Reader::open(&directory, driver, Options::default()).expect("opens");
        let texts: Vec<String> = rest(&mut reader).into_iter().map(|(_, _, text)| text).collect();
        assert_eq!(texts.first().map(String::as_str), Some("before\n"));
        assert_eq!(texts.last().map(String::as_str), Some("after\n"));
        let said = texts.iter().any(|text| text.contains(&format!("{dropped} bytes of output are missing")));
        assert!(said || driver == LogDriver::JsonFile, "the gap is not shown: {texts:?}");
    }
}

#[test]
fn of_lines_that_do_not_all_fit_on_the_disk_those_that_do_are_kept() {
    let disk = small_disk();
    let config = LogConfig { driver: LogDriver::JsonFile, ..LogConfig::default() };
    let directory = crate::wire::path_below(&disk, "log".as_ref());
    fs::create_dir(&directory).expect("makes");
    let mut writer = Writer::open(&LogSettings { config, directory: directory.clone() }, 1).expect("opens");
    // More than the disk in one write: somebody who follows may have seen the lines that are whole.
    writer.append(Stream::Stdout, 1, "x\n".repeat(2_000).as_bytes());
    let mut reader = Reader::open(&directory, LogDriver::JsonFile, Options::default()).expect("opens");
    let kept = rest(&mut reader).len() as u64;
    assert!(kept > 500 && writer.dropped() > 0, "{kept} lines, {} bytes dropped", writer.dropped());
    assert!(writer.dropped().abs_diff(4_000 - 2 * kept) <= 4, "{} bytes dropped", writer.dropped());
}

/// A file system of 64 KiB that is mounted nowhere and gone with its descriptor.
fn small_disk() -> std::os::fd::OwnedFd {
    use rustix::mount::*;
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).expect("fsopen");
    fsconfig_set_string(&context, "size", "64k").expect("size");
    fsconfig_create(&context).expect("create");
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).expect("fsmount")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However output is cut into chunks, and chunks into files, each stream reads back as it was.
    #[test]
    fn every_byte_comes_back(
        chunks in proptest::collection::vec((any::<bool>(), "[ab\n]{0,30}"), 0..60),
        size in 1_100u64..5_000,
    ) {
        let mut log = Log::new(LogDriver::Local);
        (log.max_size, log.max_files) = (Some(size), Some(10_000));
        let mut writer = log.writer();
        let mut written = [String::new(), String::new()];
        for (i, (stderr, text)) in chunks.iter().enumerate() {
            let stream = if *stderr { Stream::Stderr } else { Stream::Stdout };
            writer.append(stream, i as u64, text.as_bytes());
            written[stream as usize] += text;
        }
        let entries = log.read(Options::default());
        let mut read = [String::new(), String::new()];
        for (stream, _, text) in &entries {
            read[*stream as usize] += text;
        }
        prop_assert_eq!(&read, &written);
    }

    #[test]
    fn tail_is_the_end_of_everything(
        chunks in proptest::collection::vec("[ab\n]{0,30}", 0..60),
        size in 1_100u64..5_000,
        n in 0usize..20,
    ) {
        let mut log = Log::new(LogDriver::Local);
        (log.max_size, log.max_files) = (Some(size), Some(10_000));
        let mut writer = log.writer();
        chunks.iter().for_each(|text| writer.append(Stream::Stdout, 1, text.as_bytes()));
        let all: Vec<String> = log.read(Options::default()).into_iter().map(|(_, _, text)| text).collect();
        prop_assert_eq!(&log.tail(n as u64)[..], &all[all.len().saturating_sub(n)..]);
    }

    /// Whatever happens to the bytes on disk: no failure, no endless loop, and what is given is bounded.
    #[test]
    fn damage_anywhere_costs_only_what_it_touches(
        json: bool,
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..20),
        cut in any::<proptest::sample::Index>(),
        n in 0u64..50,
    ) {
        let log = Log::new(if json { LogDriver::JsonFile } else { LogDriver::Local });
        let mut writer = log.writer();
        for i in 0..40 {
            writer.append(Stream::Stdout, i, format!("line {i}\n").as_bytes());
        }
        let path = &log.files()[0];
        let mut bytes = fs::read(path).unwrap();
        for (at, byte) in &damage {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        bytes.truncate(bytes.len() - cut.index(60));
        fs::write(path, &bytes).unwrap();
        let lines = log.read(Options::default());
        // One damaged byte touches at most two records; the cut two more.
        prop_assert!(lines.len() + 2 * damage.len() + 2 >= 40, "{} lines left", lines.len());
        prop_assert!(log.tail(n).len() as u64 <= n);
    }

    /// Nor do bytes that were never a log.
    #[test]
    fn garbage_is_an_empty_log_or_what_it_holds(json: bool, bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let log = Log::new(if json { LogDriver::JsonFile } else { LogDriver::Local });
        let name = if json { "json.log.1" } else { "log.1" };
        fs::write(log.dir.path().join(name), &bytes).unwrap();
        prop_assert_eq!(log.text(), "");
        log.writer().append(Stream::Stdout, 1, b"behind it\n");
        prop_assert_eq!(log.text(), "behind it\n");
    }
}
