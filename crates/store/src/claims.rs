//! Which engine of this machine lends which part of the pool: a file that all of them read and write in turn.
//!
//! ```text
//! DIR/lock     held (flock) while the claims are read and written
//! DIR/claims   JSON: the first slot of a part, and the instance and root of the engine that has it
//! ```
//!
//! A part is an engine's until the engine gives it back, which it does when it stops and no record has ids. Containers may
//! run while their engine does not, and stopped ones keep their ids over a reboot: so neither a lock that ends with a
//! process nor a file that ends with the machine's uptime would do. The parts of an engine whose root is gone are given to
//! others, but only when there are no others left: the root may be on a disk that is not mounted now.
//!
//! The claims of a file that was lost are made anew from the ranges in the engines' records, as each of them opens.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use tare_model::Result;

use crate::error::{SystemContext, corrupt};
use crate::meta;
use crate::pool;

/// The engine's access to the claims. Nothing is touched before there is something to claim.
#[derive(Clone, Debug)]
pub(crate) struct Claims {
    dir: PathBuf,
    instance: String,
    root: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    part: u32,
    instance: String,
    root: PathBuf,
}

// === impl Claims ===

impl Claims {
    /// Those in `dir`, for the engine `instance` that lives at `root`.
    pub(crate) fn new(dir: PathBuf, instance: &str, root: PathBuf) -> Self {
        Self { dir, instance: instance.to_owned(), root }
    }

    /// More parts for this engine than it knows of: those that are its already, or one more. Empty when there are none.
    /// **Blocks on the disk.**
    pub(crate) fn more(&self, known: &BTreeSet<u32>) -> Result<Vec<u32>> {
        self.change(|all| {
            let own = all.iter().filter(|claim| claim.instance == self.instance).map(|claim| claim.part);
            let unknown: Vec<u32> = own.filter(|part| !known.contains(part)).collect();
            if unknown.is_empty() { self.take(all).into_iter().collect() } else { unknown }
        })
    }

    /// Claims the parts that ids of this engine's records lie in, as far as nobody else has. **Blocks on the disk.**
    pub(crate) fn keep(&self, used: &BTreeSet<u32>) -> Result<()> {
        self.change(|all| {
            for part in used {
                if !all.iter().any(|claim| claim.part == *part) {
                    all.push(self.claim(*part));
                }
            }
        })
    }

    /// Gives all parts back. **Blocks on the disk.**
    pub(crate) fn give_back(&self) -> Result<()> {
        self.change(|all| all.retain(|claim| claim.instance != self.instance))
    }

    fn claim(&self, part: u32) -> Claim {
        Claim { part, instance: self.instance.clone(), root: self.root.clone() }
    }

    fn take(&self, all: &mut Vec<Claim>) -> Option<u32> {
        let taken = |all: &[Claim], part: &u32| all.iter().any(|claim| claim.part == *part);
        let free = |all: &[Claim], parts: Vec<u32>| parts.into_iter().find(|part| !taken(all, part));
        let (mut usual, further) = pool::parts();
        // Elsewhere than others, so that a lost file is less of a loss.
        let digits = self.instance.get(..8).and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let start = digits.unwrap_or(0) % usual.len();
        usual.rotate_left(start);
        let found = free(all, usual.clone()).or_else(|| {
            all.retain(|claim| claim.instance == self.instance || !is_gone(&claim.root));
            free(all, usual).or_else(|| free(all, further))
        })?;
        all.push(self.claim(found));
        Some(found)
    }

    /// Reads the claims, changes them, and writes them if they have changed.
    fn change<T>(&self, change: impl FnOnce(&mut Vec<Claim>) -> T) -> Result<T> {
        let shown = self.dir.display();
        let what = || format!("claim ids of the host in {shown}");
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).while_(what)?;
        let mut options = OpenOptions::new();
        let lock = options.create(true).append(true).mode(0o600).open(self.dir.join("lock")).while_(what)?;
        flock(&lock, FlockOperation::LockExclusive).while_(what)?;
        let path = self.dir.join("claims");
        let before: Vec<Claim> = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => serde_json::from_slice(&other.while_(what)?).map_err(|e| {
                corrupt(format!("{}: {e}; remove it and restart every tared of this machine", path.display()))
            })?,
        };
        let mut after = before.clone();
        let done = change(&mut after);
        // It may have moved.
        for claim in after.iter_mut().filter(|claim| claim.instance == self.instance) {
            claim.root.clone_from(&self.root);
        }
        if after != before {
            self.write(&path, &after).while_(what)?;
        }
        Ok(done)
    }

    /// Whole or not at all, and on the disk when it returns.
    fn write(&self, path: &Path, all: &[Claim]) -> io::Result<()> {
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(all)?)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(&self.dir)?.sync_all()
    }
}

/// Whether there is no engine's root any more.
fn is_gone(root: &Path) -> bool {
    let found = root.join(meta::FILE).symlink_metadata();
    found.is_err_and(|e| matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An engine whose instance begins with `digits`, with a root of its own.
    fn engine(scratch: &Path, digits: &str, name: &str) -> Claims {
        let root = scratch.join(name);
        fs::create_dir_all(&root).expect("root");
        fs::write(root.join(meta::FILE), "").expect("database");
        Claims::new(scratch.join("ids"), &format!("{digits}{name}"), root)
    }

    fn more(claims: &Claims, known: &[u32]) -> Vec<u32> {
        claims.more(&known.iter().copied().collect()).expect("claims")
    }

    #[test]
    fn two_engines_that_begin_at_one_place_have_different_parts_for_good() {
        let scratch = tempfile::tempdir().expect("scratch");
        let (a, b) = (engine(scratch.path(), "00000001", "a"), engine(scratch.path(), "00000001", "b"));
        assert_eq!((more(&a, &[]), more(&b, &[])), (vec![0x7040], vec![0x7080]));
        assert_eq!((more(&b, &[]), more(&a, &[])), (vec![0x7080], vec![0x7040]), "they come back");
        assert_eq!(more(&a, &[0x7040]), [0x70c0], "one more");
        assert_eq!(more(&a, &[]), [0x7040, 0x70c0]);
        a.give_back().expect("gives back");
        assert_eq!(more(&b, &[0x7080]), [0x7040]);
        assert_eq!(more(&a, &[]), [0x70c0]);
    }

    #[test]
    fn parts_of_roots_that_are_gone_are_the_last_of_the_usual_ones_to_be_taken() {
        let scratch = tempfile::tempdir().expect("scratch");
        let (usual, further) = pool::parts();
        let (gone, a) = (engine(scratch.path(), "00000000", "gone"), engine(scratch.path(), "00000000", "a"));
        assert_eq!(more(&gone, &[]), [usual[0]]);
        fs::remove_dir_all(scratch.path().join("gone")).expect("removed");
        let mut known = Vec::new();
        for part in usual[1..].iter().chain([&usual[0], &further[0], &further[1]]) {
            assert_eq!(more(&a, &known), [*part]);
            known.push(*part);
        }
        assert!(!further.iter().any(|part| usual.contains(part)));
        let all: BTreeSet<u32> = usual.iter().chain(&further).copied().collect();
        a.keep(&all).expect("keeps");
        assert_eq!(a.more(&all).expect("asks"), Vec::<u32>::new(), "none is left");
    }

    #[test]
    fn what_records_use_is_claimed_anew_unless_it_is_somebody_elses() {
        let scratch = tempfile::tempdir().expect("scratch");
        let (a, b) = (engine(scratch.path(), "00000000", "a"), engine(scratch.path(), "00000000", "b"));
        a.keep(&BTreeSet::from([0x7000, 0x7100])).expect("keeps");
        b.keep(&BTreeSet::from([0x7100, 0x7200])).expect("keeps");
        assert_eq!((more(&a, &[]), more(&b, &[])), (vec![0x7000, 0x7100], vec![0x7200]));
    }

    #[test]
    fn a_damaged_file_is_told_by_name() {
        let scratch = tempfile::tempdir().expect("scratch");
        let a = engine(scratch.path(), "00000000", "a");
        fs::create_dir(scratch.path().join("ids")).expect("directory");
        fs::write(scratch.path().join("ids/claims"), "[{").expect("damage");
        let error = a.more(&BTreeSet::new()).expect_err("damaged");
        assert!(error.message().contains("ids/claims"), "{error}");
    }
}
