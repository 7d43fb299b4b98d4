//! What is made once and kept: `target/guest/NAME`, with the key of what it was made from. Whoever asks first makes it,
//! others wait; a half-made one, and one with another key, is made anew.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::shell::{self, Done};

/// The file that holds the key of a finished part.
const MADE: &str = "made";

/// `target/guest` of the checkout, where everything lies.
pub(super) fn base() -> PathBuf {
    shell::top().join("target/guest")
}

/// The part `name` for `key`, made by `make` in the directory it is given unless it is there.
pub(super) fn once(name: &str, key: &str, make: impl FnOnce(&Path) -> Done) -> Done<PathBuf> {
    once_in(&base(), name, key, make)
}

fn once_in(base: &Path, name: &str, key: &str, make: impl FnOnce(&Path) -> Done) -> Done<PathBuf> {
    let dir = base.join(name);
    make_dir(base)?;
    let _lock = lock(&base.join(format!("{name}.lock")))?;
    if fs::read_to_string(dir.join(MADE)).is_ok_and(|made| made == key) {
        return Ok(dir);
    }
    if dir.exists() {
        fs::remove_dir_all(&dir).map_err(|e| format!("cannot remove {}: {e}", dir.display()))?;
    }
    make_dir(&dir)?;
    eprintln!("guest: preparing {name}");
    make(&dir)?;
    write(&dir.join(MADE), key)?;
    Ok(dir)
}

/// An exclusive lock that ends with the file, or with its holder.
fn lock(path: &Path) -> Done<File> {
    let file = File::create(path).map_err(|e| format!("cannot make {}: {e}", path.display()))?;
    flock(&file, FlockOperation::LockExclusive)
        .map_err(|e| format!("cannot lock {}: {e}", path.display()))?;
    Ok(file)
}

/// A directory of one run's own, removed at its end.
pub(super) struct Scratch {
    path: PathBuf,
    _lock: File,
}

// === impl Scratch ===

impl Scratch {
    /// Makes one, and takes away those whose owners were killed.
    pub(super) fn new() -> Done<Scratch> {
        let runs = base().join("runs");
        make_dir(&runs)?;
        sweep(&runs);
        let path = runs.join(std::process::id().to_string());
        let lock = lock(&runs.join(format!("{}.lock", std::process::id())))?;
        make_dir(&path)?;
        Ok(Scratch { path, _lock: lock })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove_run(&self.path);
    }
}

/// Removes the runs whose lock nobody holds.
fn sweep(runs: &Path) {
    for entry in fs::read_dir(runs).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|e| e == "lock")
            && let Ok(file) = File::open(&path)
            && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            remove_run(&path.with_extension(""));
        }
    }
}

/// What cannot go now is tried again by the next run.
fn remove_run(path: &Path) {
    if !path.exists() || fs::remove_dir_all(path).is_ok() {
        let _ = fs::remove_file(path.with_extension("lock"));
    }
}

/// Makes a directory and those above it.
pub(super) fn make_dir(path: &Path) -> Done {
    fs::create_dir_all(path).map_err(|e| format!("cannot make {}: {e}", path.display()))
}

/// Writes a file.
pub(super) fn write(path: &Path, content: impl AsRef<[u8]>) -> Done {
    fs::write(path, content).map_err(|e| format!("cannot write {}: {e}", path.display()))
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Done<Vec<u8>> {
    fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_part_is_made_once_for_each_key_and_again_after_a_failure() {
        let base = tempfile::tempdir().unwrap();
        let made = Cell::new(0);
        let part = |key: &str, outcome: Done| {
            once_in(base.path(), "part", key, |dir| {
                assert_eq!(fs::read_dir(dir).unwrap().count(), 0, "begins empty");
                made.set(made.get() + 1);
                write(&dir.join("content"), key)?;
                outcome
            })
        };
        part("one", Err("power cut".into())).unwrap_err();
        for (key, times) in [("one", 2), ("one", 2), ("two", 3), ("one", 4)] {
            let dir = part(key, Ok(())).unwrap();
            assert_eq!((fs::read_to_string(dir.join("content")).unwrap().as_str(), made.get()), (key, times));
        }
    }

    #[test]
    fn only_runs_that_nobody_holds_are_swept() {
        let runs = tempfile::tempdir().unwrap();
        for name in ["1", "2"] {
            fs::create_dir(runs.path().join(name)).unwrap();
        }
        let held = lock(&runs.path().join("1.lock")).unwrap();
        drop(lock(&runs.path().join("2.lock")).unwrap());
        sweep(runs.path());
        assert!(runs.path().join("1").exists() && !runs.path().join("2").exists());
        drop(held);
        sweep(runs.path());
        assert_eq!(fs::read_dir(runs.path()).unwrap().count(), 0);
    }
}
