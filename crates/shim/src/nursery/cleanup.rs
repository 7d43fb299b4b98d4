//! What a dead shim left is removed by a process of its own: it may take time, and must not take the nursery along.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use tare_model::sandbox::Sandbox;
use tare_model::{ContainerId, Error, Result};

use crate::protocol::{Answer, Message};

/// What to remove.
pub(super) struct Task {
    pub(super) container: ContainerId,
    pub(super) cgroups_path: String,
    pub(super) remove: Vec<PathBuf>,
}

// === impl Task ===

impl Task {
    /// Removes everything that can be removed and answers on `answer`.
    pub(super) fn run(&self, sandbox: &dyn Sandbox, answer: &OwnedFd) {
        let result = self.remove_all(sandbox).map(|()| Answer::Done);
        super::send(answer, &Message::Reply { id: 0, result });
    }

    fn remove_all(&self, sandbox: &dyn Sandbox) -> Result<()> {
        let mut errors = Vec::new();
        errors.extend(sandbox.cleanup(&self.container, &self.cgroups_path).err());
        for directory in &self.remove {
            errors.extend(
                remove(directory)
                    .err()
                    .map(|e| Error::system(format!("remove directory {}: {e}", directory.display()))),
            );
        }
        let Some(first) = errors.first() else { return Ok(()) };
        let all: Vec<&str> = errors.iter().map(Error::message).collect();
        Err(Error::new(first.kind(), all.join("; ")))
    }
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
