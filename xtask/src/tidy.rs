//! `cargo xtask tidy`: what the eye would otherwise have to look for.

use std::fs;

use crate::shell::{self, Done};

/// The longest first line of a commit message.
const SUBJECT: usize = 72;

/// Everything that tidy checks; the slow ones last.
pub(crate) fn run() -> Done {
    quick()?;
    commit_subject()?;
    shell::run(&mut shell::cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    fuzzers()?;
    // Programs would collide with libraries of the same name in the output, so each kind has its own run.
    for kind in ["--lib", "--bins"] {
        let mut doc = shell::cargo(&["doc", "--workspace", "--no-deps", "--document-private-items", kind]);
        // A crate's map may link to its private modules: it is read beside the sources.
        let flags = "-D warnings -A rustdoc::private_intra_doc_links";
        shell::run(doc.env("RUSTDOCFLAGS", flags))?;
    }
    licences()
}

/// The fuzzers still compile. They are a workspace of their own that needs libFuzzer to run, but not to be checked.
fn fuzzers() -> Done {
    let manifest = ["check", "--manifest-path", "fuzz/Cargo.toml", "--no-default-features", "--locked"];
    shell::run(shell::cargo(&manifest).args(["--target-dir", "target"]))
}

/// The checks that take no build: format and file headers.
pub(crate) fn quick() -> Done {
    headers()?;
    if shell::have("rustfmt") {
        shell::run(&mut shell::cargo(&["fmt", "--all", "--check"]))?;
    }
    Ok(())
}

/// Every Rust file opens with what it is for.
fn headers() -> Done {
    let mut bare = Vec::new();
    for file in shell::files("rs")? {
        let text = fs::read_to_string(shell::top().join(&file))
            .map_err(|e| format!("cannot read {}: {e}", file.display()))?;
        if !opens_with_purpose(&text) {
            bare.push(file.display().to_string());
        }
    }
    if bare.is_empty() { Ok(()) } else { Err(format!("no `//!` header: {}", bare.join(", "))) }
}

fn opens_with_purpose(text: &str) -> bool {
    text.strip_prefix("//! ")
        .is_some_and(|rest| rest.starts_with(char::is_alphanumeric) || rest.starts_with('`'))
}

/// `room: what changed`, at most 72 characters. A clone without history has nothing to check.
fn commit_subject() -> Done {
    let log = shell::command("git", &["log", "-1", "--no-merges", "--format=%s"]).output();
    let Ok(log) = log else { return Ok(()) };
    let subject = String::from_utf8_lossy(&log.stdout);
    match subject_fault(subject.trim()) {
        Some(fault) => Err(format!("last commit, `{}`: {fault}", subject.trim())),
        None => Ok(()),
    }
}

fn subject_fault(subject: &str) -> Option<&'static str> {
    if subject.is_empty() {
        return None;
    }
    if subject.chars().count() > SUBJECT {
        return Some("the first line is longer than 72 characters");
    }
    let room = subject.split_once(": ").map(|(room, _)| room);
    let named =
        room.is_some_and(|r| !r.is_empty() && r.chars().all(|c| c.is_alphanumeric() || "-_,/ .".contains(c)));
    if named { None } else { Some("the first line is not `room: what changed`") }
}

fn licences() -> Done {
    if !shell::have("cargo-deny") {
        println!("tidy: cargo-deny is not installed, licences not checked");
        return Ok(());
    }
    shell::run(&mut shell::cargo(&["deny", "check", "licenses", "bans", "sources"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_must_open_with_a_sentence() {
        assert!(opens_with_purpose("//! What it is for.\n"));
        assert!(opens_with_purpose("//! `tared`: the daemon.\n"));
        assert!(!opens_with_purpose("use std::fs;\n"));
        assert!(!opens_with_purpose("// not a doc comment\n"));
        assert!(!opens_with_purpose("//!\nfn f() {}"));
    }

    #[test]
    fn a_commit_names_its_room() {
        assert_eq!(subject_fault("store: layers are renamed into place"), None);
        assert_eq!(subject_fault("bin/cli: exit codes"), None);
        assert!(subject_fault("fix things").is_some());
        assert!(subject_fault(&format!("store: {}", "x".repeat(72))).is_some());
    }
}
