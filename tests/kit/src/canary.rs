//! A tree on the host that nothing may touch, compared bit by bit.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// A directory with files of every kind, and what it looked like at first.
pub struct Canary {
    dir: PathBuf,
    before: BTreeMap<PathBuf, String>,
}

impl Canary {
    /// Makes the tree at `dir`, which must not exist.
    pub fn new(dir: &Path) -> Canary {
        let make = || -> std::io::Result<()> {
            fs::create_dir_all(dir.join("sub/deep"))?;
            fs::write(dir.join("secret"), "the host's own secret\n")?;
            fs::write(dir.join("sub/deep/file"), "untouched\n")?;
            fs::write(dir.join("empty"), "")?;
            symlink("secret", dir.join("link"))
        };
        make().unwrap_or_else(|e| panic!("cannot make a canary at {}: {e}", dir.display()));
        Canary { dir: dir.to_path_buf(), before: look(dir) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Where it is, as text for symlinks in images.
    pub fn str(&self) -> &str {
        self.dir.to_str().expect("test directories are UTF-8")
    }

    /// Fails the test if anything in the tree was added, removed, changed or re-owned.
    #[track_caller]
    pub fn assert_untouched(&self) {
        let after = look(&self.dir);
        assert_eq!(self.before, after, "the canary at {} was touched", self.dir.display());
    }
}

fn look(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut seen = BTreeMap::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(path) = open.pop() {
        let meta =
            fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("cannot stat {}: {e}", path.display()));
        if meta.is_dir() {
            let entries =
                fs::read_dir(&path).unwrap_or_else(|e| panic!("cannot list {}: {e}", path.display()));
            open.extend(entries.flatten().map(|e| e.path()));
        }
        seen.insert(path.clone(), describe(&path, &meta));
    }
    seen
}

fn describe(path: &Path, meta: &fs::Metadata) -> String {
    let content = if meta.is_file() {
        hex(&Sha256::digest(fs::read(path).unwrap_or_default()))
    } else {
        fs::read_link(path).unwrap_or_default().display().to_string()
    };
    format!(
        "inode {} mode {:o} owner {}:{} links {} size {} mtime {}.{} content {content}",
        meta.ino(),
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.nlink(),
        meta.size(),
        meta.mtime(),
        meta.mtime_nsec()
    )
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_untouched_canary_is_silent_and_a_touched_one_tells() {
        let dir = tempfile::tempdir().unwrap();
        let canary = Canary::new(&dir.path().join("canary"));
        canary.assert_untouched();
        fs::write(canary.path().join("sub/deep/file"), "touched!!\n").unwrap();
        assert_ne!(canary.before, look(canary.path()));
    }
}
