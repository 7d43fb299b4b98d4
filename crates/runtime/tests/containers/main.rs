//! Containers against the real kernel. Needs root.
//!
//! The runtime wants a process of one thread, so this is not libtest: each test runs in a process of its own, forked by a
//! main that has one thread, and the lines printed are those libtest prints. The static executable of the tests is also
//! the program inside the containers: it is bound into their root file systems as `/probe` (see [`probe`]).

// The lints tell tests by attributes that this program, having a main of its own, cannot use.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

mod harness;
mod probe;
mod setup;

mod basics;
mod cost;
mod door;
mod exec;
mod hostile;
mod isolation;
mod mounts;
mod seccomp;
mod terminal;
mod user;
mod userns;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let Some(code) = probe::main(&args) {
        std::process::exit(code);
    }
    if let Some(at) = args.iter().position(|arg| arg == "--cost") {
        let runs = args.get(at + 1).and_then(|runs| runs.parse().ok()).unwrap_or(100);
        return cost::print(runs);
    }
    let mut tests = Vec::new();
    for file in [
        basics::TESTS,
        door::TESTS,
        exec::TESTS,
        hostile::TESTS,
        isolation::TESTS,
        mounts::TESTS,
        seccomp::TESTS,
        terminal::TESTS,
        user::TESTS,
        userns::TESTS,
    ] {
        tests.extend(file);
    }
    let without = tests.len() - userns::TESTS.len();
    if !tare_sys::mount::can_map_ids() {
        println!("no ids of mounts can be mapped here: user namespaces are refused");
        tests.truncate(without);
        tests.extend(userns::REFUSED);
    }
    let mut code = harness::run(&args[1..], &tests);
    if tare_sys::mount::can_map_ids() {
        println!("the same in user namespaces of their own");
        setup::MAPPED.store(true, std::sync::atomic::Ordering::Relaxed);
        code = code.max(harness::run(&args[1..], &tests[..without]));
    }
    setup::remove_parent();
    std::process::exit(code);
}
