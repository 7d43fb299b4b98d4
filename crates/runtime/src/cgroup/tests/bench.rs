//! What groups cost on this machine: `cargo test -p tare-runtime -- --ignored --nocapture cost_of_groups`.

use std::time::{Duration, Instant};

use super::super::Cgroup;
use super::{Temporary, layout, resources};

#[test]
#[ignore = "a measurement, not a judgement"]
fn cost_of_groups() {
    let layout = layout();
    let limits = r#"{"memory":{"limit":67108864,"swap":134217728},"cpu":{"shares":512,"quota":50000},"pids":{"limit":20}}"#;
    let mut times: [Vec<Duration>; 4] = Default::default();
    let parent = Temporary::new(&layout, "{}");
    for round in 0..500 {
        let asked = resources(if round % 2 == 0 { "{}" } else { limits });
        let path = format!("{}/{round}", parent.path());
        let start = Instant::now();
        let group = Cgroup::create(&layout, &path, &asked).unwrap();
        times[round % 2].push(start.elapsed());
        let entry = group.entry().unwrap();
        let joined = std::thread::spawn(move || {
            let start = Instant::now();
            entry.enter().unwrap();
            start.elapsed()
        });
        times[2].push(joined.join().unwrap());
        let start = Instant::now();
        group.destroy().unwrap();
        times[3].push(start.elapsed());
    }
    for (name, mut all) in ["create", "create with limits", "join (v1)", "destroy"].into_iter().zip(times) {
        all.sort_unstable();
        let (median, late) = (all[all.len() / 2], all[all.len() * 99 / 100]);
        println!("{name:20} median {median:>10.1?}   p99 {late:>10.1?}");
    }
}
