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
    let code = harness::run(&args[1..], &tests);
    println!("the same in user namespaces of their own");
    setup::MAPPED.store(true, std::sync::atomic::Ordering::Relaxed);
    let code = code.max(harness::run(&args[1..], &tests[..tests.len() - userns::TESTS.len()]));
    setup::remove_parent();
    std::process::exit(code);
}
