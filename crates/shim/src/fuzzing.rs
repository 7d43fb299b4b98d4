//! The functions that read foreign bytes, as targets for `fuzz/`. Each must neither panic, hang nor grow without bound;
//! what it returns is of no interest beyond what is asserted.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::net::SendFlags;
use tare_model::container::{LogConfig, LogDriver};

use crate::logs::{LINE_MAX, Options, Reader, Stream, Writer};
use crate::protocol::{LogSettings, Message, NurseryRequest, Request};
use crate::wire::{self, Incoming};

/// Reads a log of two files in the empty directory `scratch`, and writes on behind them.
///
/// # Panics
/// If more lines are given than were asked for, a longer one than there may be, or not what was written last.
pub fn log(scratch: &Path, bytes: &[u8]) {
    let [how, tail, files @ ..] = bytes else { return };
    let (driver, name) = match how & 1 {
        0 => (LogDriver::Local, "log"),
        _ => (LogDriver::JsonFile, "json.log"),
    };
    let (first, second) = files.split_at(files.len() / 2);
    for (number, content) in [(1, first), (2, second)] {
        if fs::write(scratch.join(format!("{name}.{number}")), content).is_err() {
            return;
        }
    }
    let tail = (how & 2 != 0).then_some(u64::from(*tail));
    let lines = read(scratch, driver, Options { tail, follow: how & 4 != 0, ..Options::default() });
    assert!(tail.is_none_or(|most| lines.len() as u64 <= most), "{} lines", lines.len());
    let longest = lines.iter().map(Vec::len).max().unwrap_or(0);
    assert!(driver == LogDriver::JsonFile || longest <= LINE_MAX, "a line of {longest} bytes");
    let config = LogConfig { driver, ..LogConfig::default() };
    if let Ok(mut writer) = Writer::open(&LogSettings { config, directory: scratch.to_owned() }, 1) {
        writer.append(Stream::Stdout, 1, b"behind it\n");
    }
    let last = read(scratch, driver, Options { tail: Some(1), ..Options::default() });
    assert_eq!(last, [b"behind it\n"]);
}

fn read(directory: &Path, driver: LogDriver, options: Options) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    let Ok(mut reader) = Reader::open(directory, driver, options) else { return lines };
    while let Ok(Some(entry)) = reader.next() {
        lines.push(entry.bytes.to_vec());
    }
    lines
}

/// Decodes the record of a run; what is accepted must fit a record again.
///
/// # Panics
/// If it does not.
pub fn record(bytes: &[u8]) {
    if let Some(record) = crate::record::decode(bytes) {
        assert!(crate::record::encode(0, &record).is_ok(), "{record:?}");
    }
}

/// Receives a packet and takes it for each kind of message.
pub fn message(bytes: &[u8]) {
    let Ok((ours, theirs)) = wire::pair() else { return };
    if rustix::net::send(&theirs, bytes, SendFlags::NOSIGNAL).is_err() {
        return;
    }
    if let Ok(Some(packet)) = Incoming::receive(ours.as_fd()) {
        let _ = packet.parse::<Request>().map(|request| request.fds.len());
        let _ = packet.parse::<NurseryRequest>().map(|request| request.version);
        let _ = packet.parse::<Message>().is_ok();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A directory with the log of a run, as one that is damaged here and there.
    fn seed(driver: LogDriver) -> Vec<u8> {
        let dir = tempfile::tempdir().expect("temporary directory");
        let config = LogConfig { driver, ..LogConfig::default() };
        let mut writer =
            Writer::open(&LogSettings { config, directory: dir.path().to_owned() }, 1).expect("opens");
        for i in 0..20 {
            writer.append(if i % 3 == 0 { Stream::Stderr } else { Stream::Stdout }, i, b"a line\nand");
        }
        let entry = fs::read_dir(dir.path()).expect("reads").next().expect("a file").expect("an entry");
        fs::read(entry.path()).expect("reads")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn damaged_logs_of_two_files_keep_the_promises(
            how: u8,
            tail: u8,
            damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..10),
        ) {
            let mut bytes = seed(if how & 1 == 0 { LogDriver::Local } else { LogDriver::JsonFile });
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let dir = tempfile::tempdir().expect("temporary directory");
            log(dir.path(), &[&[how, tail], &bytes[..]].concat());
        }

        #[test]
        fn no_bytes_stop_what_reads_records_and_messages(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            record(&bytes);
            message(&bytes);
        }
    }
}
