//! `cargo xtask test`: everything, from quick checks to end-to-end tests here and in the guest; the last line counts them.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::shell::{self, Done};
use crate::{edges, guest, older, tidy};

/// Crates whose tests need the built programs and root.
const END_TO_END: &[&str] = &["tare-e2e", "tare-crash"];

/// Runs all tests. A failing suite does not stop the next one: the reader gets the whole picture.
pub(crate) fn run() -> Done {
    shell::need_root("test")?;
    let started = std::time::Instant::now();
    tidy::quick()?;
    edges::run()?;
    shell::run(&mut shell::cargo(&["build", "--workspace", "--bins"]))?;
    let mut count = Count::default();
    let mut unit = vec!["test", "--workspace", "--no-fail-fast"];
    for suite in END_TO_END {
        unit.extend(["--exclude", suite]);
    }
    let mut sound = suite(&mut shell::cargo(&unit), &mut count)?;
    for name in END_TO_END {
        sound &= suite(&mut shell::cargo(&["test", "-p", name, "--no-fail-fast"]), &mut count)?;
    }
    sound &= on_older(&mut count)?;
    sound &= in_guest(&mut count);
    println!("took {} s", started.elapsed().as_secs());
    println!("{count}");
    if sound && count.failed == 0 { Ok(()) } else { Err("not everything passed".into()) }
}

/// Runs what is tested as if the kernel were older, and nothing else.
pub(crate) fn older() -> Done {
    shell::need_root("older")?;
    shell::run(&mut shell::cargo(&["build", "--workspace", "--bins"]))?;
    let mut count = Count::default();
    let sound = on_older(&mut count)?;
    println!("{count}");
    if sound { Ok(()) } else { Err("not everything passed".into()) }
}

fn on_older(count: &mut Count) -> Done<bool> {
    println!("as if the kernel were older (docs/kernels.md):");
    older::commands()?.iter_mut().try_fold(true, |sound, command| Ok(suite(command, count)? && sound))
}

/// Runs what needs another machine; true if it succeeded. Without the guest what was counted so far still stands.
fn in_guest(count: &mut Count) -> bool {
    let ran = guest::stage::run("", &mut |line| {
        println!("{line}");
        count.add(line);
    });
    ran.unwrap_or_else(|why| {
        eprintln!("test: the guest: {why}");
        false
    })
}

/// How many tests ran so far.
#[derive(Default, Debug, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

impl Count {
    /// Adds what a closing line of a test program says; other lines say nothing.
    fn add(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else { return };
        for part in rest.split(['.', ';']) {
            match part.trim().split_once(' ') {
                Some((n, "passed")) => self.passed += n.parse().unwrap_or(0),
                Some((n, "failed")) => self.failed += n.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
}

/// Runs one `cargo test`, its output shown and counted; true if it succeeded.
fn suite(command: &mut Command, count: &mut Count) -> Done<bool> {
    let shown = shell::shown(command);
    println!("$ {shown}");
    let mut child =
        command.stdout(Stdio::piped()).spawn().map_err(|e| format!("cannot run `{shown}`: {e}"))?;
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).lines() {
            let line = line.map_err(|e| format!("cannot read the output of `{shown}`: {e}"))?;
            println!("{line}");
            count.add(&line);
        }
    }
    let status = child.wait().map_err(|e| format!("cannot wait for `{shown}`: {e}"))?;
    Ok(status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_add_up() {
        let mut count = Count::default();
        count.add(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        );
        count.add("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        count.add("test a_name ... ok");
        assert_eq!(count, Count { passed: 15, failed: 2 });
    }
}
