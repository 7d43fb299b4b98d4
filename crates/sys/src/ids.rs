//! The ids with which the calling thread makes files, apart from those that it has otherwise.
//!
//! See [setfsuid(2)](https://man7.org/linux/man-pages/man2/setfsuid.2.html).

use rustix::io::{Errno, Result};

use crate::capability;

/// While this lives, files are made with other ids, and all capabilities still count. Dropping it goes back.
#[derive(Debug)]
pub struct FileIds {
    uid: u32,
    gid: u32,
}

// === impl FileIds ===

impl FileIds {
    /// Takes these ids.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SETUID` and `CAP_SETGID`.
    pub fn assume(uid: u32, gid: u32) -> Result<Self> {
        let sets = capability::get()?;
        let before = Self { uid: set_uid(uid), gid: set_gid(gid) };
        // The calls tell no errors; asking with an impossible id tells what is so.
        if (set_uid(u32::MAX), set_gid(u32::MAX)) != (uid, gid) {
            return Err(Errno::PERM);
        }
        // Going away from 0 has switched off the capabilities that are about files.
        capability::set(sets)?;
        Ok(before)
    }
}

impl Drop for FileIds {
    fn drop(&mut self) {
        set_gid(self.gid);
        set_uid(self.uid);
    }
}

fn set_uid(uid: u32) -> u32 {
    // SAFETY: takes no pointer; concerns the calling thread only.
    unsafe { libc::syscall(libc::SYS_setfsuid, libc::c_ulong::from(uid)) as u32 }
}

fn set_gid(gid: u32) -> u32 {
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_setfsgid, libc::c_ulong::from(gid)) as u32 }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn files_are_made_with_other_ids_and_capabilities_stay() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let before = capability::get().unwrap();
        let ids = FileIds::assume(12345, 54321).unwrap();
        assert_eq!(capability::get().unwrap(), before);
        // The directory is closed to those ids: only a capability opens it.
        std::fs::write(dir.path().join("theirs"), "").unwrap();
        drop(ids);
        assert_eq!(capability::get().unwrap(), before);
        std::fs::write(dir.path().join("ours"), "").unwrap();
        let owner = |name: &str| {
            let data = std::fs::metadata(dir.path().join(name)).unwrap();
            (data.uid(), data.gid())
        };
        assert_eq!((owner("theirs"), owner("ours")), ((12345, 54321), (0, 0)));
    }
}
