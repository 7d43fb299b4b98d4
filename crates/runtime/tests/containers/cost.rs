//! What a start costs: `cargo test -p tare-runtime --test containers -- --cost 200` prints medians.

use std::time::{Duration, Instant};

use crate::setup::{Setup, pipes, wait};

/// Measures `runs` starts and further processes, with the host's user namespace and with one of their own.
pub(crate) fn print(runs: usize) {
    for _ in 0..2 {
        println!("the host's user namespace");
        measure(runs, Setup::unmapped);
        println!("a user namespace of its own");
        measure(runs, |args| {
            let mut setup = Setup::new(args);
            setup.mapped();
            setup
        });
    }
}

fn measure(runs: usize, new: impl Fn(&[&str]) -> Setup) {
    let mut setup = new(&["exit", "0"]);
    setup.runtime.warm_up();
    setup
        .set("/linux/resources", serde_json::json!({"pids": {"limit": 100}, "memory": {"limit": 512 << 20}}));
    let (mut launch, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let (stdio, stdout) = pipes();
        let began = Instant::now();
        let mut started = setup.start_with(stdio, Some(stdout)).unwrap();
        launch.push(began.elapsed());
        wait(&started.launched);
        started.running.destroy().unwrap();
        whole.push(began.elapsed());
    }
    show("launch", launch);
    show("launch, wait, destroy", whole);
    let mut setup = new(&["sleep"]);
    let mut started = setup.start().unwrap();
    let mut exec = Vec::new();
    for _ in 0..runs {
        let (stdio, _stdout) = pipes();
        let began = Instant::now();
        let launched = started.running.exec(&crate::setup::exec(&["exit", "0"]), stdio).unwrap();
        exec.push(began.elapsed());
        wait(&launched);
    }
    show("exec", exec);
    started.kill();
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1e3;
    println!("{what:<24} median {:.3} ms, p90 {:.3} ms, p99 {:.3} ms", at(50), at(90), at(99));
}
