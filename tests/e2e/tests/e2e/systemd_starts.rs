//! Many containers one after the other, each in a scope that systemd makes: one message lost on its bus, and a start waits for
//! as long as the bus has patience. Only in the guest; `docs/guest.md` has the command.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::oci::Bundle;
use crate::ours;

const STARTS: usize = 200;

/// Far above what a start takes when it waits for nothing, and below any patience of systemd's and ours.
const WAITS: Duration = Duration::from_secs(10);

#[test]
#[ignore = "200 starts under systemd: minutes, and only in the guest"]
fn of_two_hundred_starts_in_scopes_of_systemd_none_waits() {
    if !ours() || !Path::new("/run/systemd/system").exists() {
        return;
    }
    let bundle = Bundle::new(&["true"]);
    let id = bundle.id();
    fs::write(bundle.path("config.json"), bundle.config.to_string()).unwrap();
    let start = |_| {
        let began = Instant::now();
        bundle.oci(&["--systemd-cgroup", "run", "--bundle", &bundle.text(""), &id]).ok();
        began.elapsed()
    };
    let mut took: Vec<Duration> = (0..STARTS).map(start).collect();
    took.sort();
    let longest = took[STARTS - 1];
    eprintln!("{STARTS} starts: median {:?}, longest {longest:?}", took[STARTS / 2]);
    assert!(longest < WAITS, "one start took {longest:?}");
}
