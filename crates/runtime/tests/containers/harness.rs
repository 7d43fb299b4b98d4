//! Runs tests one after another, each in a process of its own.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::process::{WaitOptions, waitpid};
use tare_sys::process::{Forked, Namespaces, exit_now, fork};

/// A test and its name.
pub(crate) type Test = (&'static str, fn());

/// Names functions as tests.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        /// The tests of this file.
        pub(crate) const TESTS: &[$crate::harness::Test] = &[$((concat!(module_path!(), "::", stringify!($name)), $name)),*];
    };
}

/// Runs those that `args` name (all, if none) and gives the exit code.
pub(crate) fn run(args: &[String], tests: &[Test]) -> i32 {
    let exact = args.iter().any(|arg| arg == "--exact");
    let (skips, filters) = filters(args);
    let wanted = |name: &str| {
        let matches =
            |filter: &&String| if exact { name == filter.as_str() } else { name.contains(filter.as_str()) };
        (filters.is_empty() || filters.iter().any(matches))
            && !skips.iter().any(|skip| name.contains(skip.as_str()))
    };
    let chosen: Vec<&Test> = tests.iter().filter(|(name, _)| wanted(short(name))).collect();
    if args.iter().any(|arg| arg == "--list") {
        chosen.iter().for_each(|(name, _)| println!("{}: test", short(name)));
        return 0;
    }
    let root = rustix::process::geteuid().is_root();
    println!("\nrunning {} tests", chosen.len());
    let (mut passed, mut failed) = (0, Vec::new());
    for (name, body) in &chosen {
        print!("test {} ... ", short(name));
        let _ = std::io::stdout().flush();
        if !root {
            println!("ignored, needs root");
        } else if in_a_process(*body) {
            println!("ok");
            passed += 1;
        } else {
            println!("FAILED");
            failed.push(short(name));
        }
    }
    let ignored = chosen.len() - passed - failed.len();
    if !failed.is_empty() {
        println!("\nfailures:\n    {}", failed.join("\n    "));
    }
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {passed} passed; {} failed; {ignored} ignored; 0 measured; {} filtered out\n",
        failed.len(),
        tests.len() - chosen.len()
    );
    if failed.is_empty() { 0 } else { 101 }
}

fn filters(args: &[String]) -> (Vec<&String>, Vec<&String>) {
    let (mut skips, mut filters) = (Vec::new(), Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--skip" => skips.extend(args.next()),
            "--test-threads" | "--format" | "--color" => drop(args.next()),
            flag if flag.starts_with('-') => {}
            _ => filters.push(arg),
        }
    }
    (skips, filters)
}

fn short(name: &'static str) -> &'static str {
    name.split_once("::").map_or(name, |(_, rest)| rest)
}

fn in_a_process(body: fn()) -> bool {
    match fork(Namespaces::NONE, None).expect("fork") {
        Forked::Child => {
            let outcome = catch_unwind(AssertUnwindSafe(body));
            exit_now(i32::from(outcome.is_err()));
        }
        Forked::Parent { pid, .. } => loop {
            match waitpid(Some(pid), WaitOptions::empty()) {
                Ok(Some((_, status))) => return status.exit_status() == Some(0),
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("waitpid: {error}"),
            }
        },
    }
}
