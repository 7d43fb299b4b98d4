//! One daemon per run directory. (The root has a lock of its own, which the store holds.)

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use tare_model::{Error, Result};

/// Held while this process runs; the kernel lets go of it however the process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

// === impl Lock ===

impl Lock {
    /// Makes the run directory if need be, and takes its lock.
    ///
    /// # Errors
    /// `Conflict` ("already running (pid N)") when another daemon has it.
    pub(crate) fn take(run_dir: &Path) -> Result<Self> {
        // Open to be passed through: a group may be allowed to use the socket inside.
        DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(run_dir)
            .map_err(|e| Error::system(format!("mkdir({}): {e}", run_dir.display())))?;
        let path = run_dir.join("tared.lock");
        let fail =
            |call: &str, e: &dyn std::fmt::Display| Error::system(format!("{call}({}): {e}", path.display()));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|e| fail("open", &e))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let holder = std::io::read_to_string(&file).unwrap_or_default();
                return Err(Error::conflict(format!(
                    "tared is already running (pid {}) for {}",
                    holder.trim(),
                    run_dir.display()
                )));
            }
            Err(e) => return Err(fail("flock", &e)),
        }
        file.set_len(0).map_err(|e| fail("ftruncate", &e))?;
        writeln!(file, "{}", std::process::id()).map_err(|e| fail("write", &e))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loser_learns_who_runs_already() {
        let scratch = tempfile::tempdir().expect("scratch");
        let run_dir = scratch.path().join("a/run");
        let first = Lock::take(&run_dir).expect("free");
        let e = Lock::take(&run_dir).expect_err("taken");
        assert!(e.message().contains(&format!("already running (pid {})", std::process::id())), "{e}");
        drop(first);
        Lock::take(&run_dir).expect("free again");
    }
}
