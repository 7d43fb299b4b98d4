//! Rates of block I/O, measured on a device: the guest's disk for that, else a loop device of the test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tare_kit::{Cmd, Engine};

use crate::limits::setting;

/// What the guest calls the disk that anybody may write to.
const SERIAL: &str = "scratch";

/// A block device, and how the kernel numbers it.
struct Device {
    path: String,
    number: String,
    /// Of a loop device.
    file: Option<tempfile::NamedTempFile>,
}

impl Device {
    fn new() -> Device {
        let disks = fs::read_dir("/sys/block").unwrap().flatten().map(|disk| disk.path());
        let is_ours =
            |disk: &PathBuf| fs::read_to_string(disk.join("serial")).is_ok_and(|s| s.trim() == SERIAL);
        if let Some(disk) = disks.into_iter().find(is_ours) {
            return Device::at(Path::new("/dev").join(disk.file_name().unwrap()).display().to_string(), None);
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(16 << 20).unwrap();
        let path = Cmd::new("losetup").args(["--find", "--show"]).args([file.path()]).ok();
        Device::at(path.trim().to_owned(), Some(file))
    }

    fn at(path: String, file: Option<tempfile::NamedTempFile>) -> Device {
        let name = Path::new(&path).file_name().unwrap().to_str().unwrap();
        let number = fs::read_to_string(format!("/sys/block/{name}/dev")).unwrap().trim().to_owned();
        Device { path, number, file }
    }

    /// The queue's scheduler, which honours weights or not.
    fn scheduler(&self) -> String {
        format!("/sys/dev/block/{}/queue/scheduler", self.number)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.file.is_some() {
            Cmd::new("losetup").args(["--detach", &self.path]).ok();
        }
    }
}

/// How long `dd` with these words takes in a container with this flag.
fn duration(engine: &Engine, device: &Device, flag: &str, rate: &str, words: &str) -> Duration {
    let limit = format!("{}:{rate}", device.path);
    engine.background(&["--name", "io", "--device", &device.path, flag, &limit], "sleep 1000");
    let was = Instant::now();
    engine.tare(["exec", "io", "sh", "-c", &format!("dd {words} status=none")]).ok();
    let took = was.elapsed();
    let (v1, key) = match flag {
        "--device-read-bps" => ("blkio.throttle.read_bps_device", "rbps"),
        "--device-write-bps" => ("blkio.throttle.write_bps_device", "wbps"),
        "--device-read-iops" => ("blkio.throttle.read_iops_device", "riops"),
        _ => ("blkio.throttle.write_iops_device", "wiops"),
    };
    let told = setting(engine, "io", "blkio", v1, "io.max");
    let number = rate.parse::<u64>().map_or_else(|_| (1 << 20).to_string(), |rate| rate.to_string());
    let (first, second) = (format!("{} {number}", device.number), format!("{key}={number}"));
    assert!(told.lines().any(|line| line == first || line.contains(&second)), "{flag}: {told}");
    engine.tare(["rm", "-f", "io"]).ok();
    took
}

#[test]
fn a_container_reads_and_writes_no_faster_than_it_may() {
    let engine = Engine::start();
    let device = Device::new();
    let at = &device.path;
    // Three seconds' worth each, of which the kernel may let a part of the first through at once.
    let least = Duration::from_millis(2000);
    let write = format!("if=/dev/zero of={at} oflag=direct");
    let read = format!("if={at} of=/dev/null iflag=direct");
    for (flag, rate, words) in [
        ("--device-write-bps", "1mb", format!("{write} bs=64k count=48")),
        ("--device-read-bps", "1mb", format!("{read} bs=64k count=48")),
        ("--device-write-iops", "20", format!("{write} bs=4k count=60")),
        ("--device-read-iops", "20", format!("{read} bs=4k count=60")),
    ] {
        let took = duration(&engine, &device, flag, rate, &words);
        assert!(took >= least, "{flag} {rate}: {took:?}");
    }
}

/// Where a scheduler honours them: BFQ, which is a module in the guest.
#[test]
fn a_weight_is_set_where_the_kernel_has_weights_and_refused_by_name_elsewhere() {
    let engine = Engine::start();
    let device = Device::new();
    let before = fs::read_to_string(device.scheduler()).unwrap_or_default();
    let bfq = device.file.is_none() && fs::write(device.scheduler(), "bfq").is_ok();
    let out = engine.shell(&["-d", "--name", "weighed", "--blkio-weight", "200"], "sleep 1000").run();
    if out.code == 0 {
        let weight = setting(
            &engine,
            "weighed",
            "blkio",
            "blkio.bfq.weight",
            if bfq { "io.bfq.weight" } else { "io.weight" },
        );
        assert!(weight == "200" || weight == "default 200" || weight.starts_with("default 19"), "{weight}");
    } else {
        assert!(out.err().contains("weight"), "{out}");
    }
    engine.tare(["rm", "-f", "weighed"]).run();
    let was = before.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(name, _)| name);
    if let Some(was) = was.filter(|_| bfq) {
        fs::write(device.scheduler(), was).unwrap();
    }
}
