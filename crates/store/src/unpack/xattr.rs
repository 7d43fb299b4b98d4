//! Which extended attributes of an archive are kept.
//!
//! Kept: `security.capability` (file capabilities), `user.*`, and POSIX ACLs in their binary form. Left out:
//! everything that overlayfs would take for its own notes (`trusted.overlay.*`, `user.overlay.*`), so an image cannot
//! forge whiteouts, opaque directories or redirects; labels of the host's security modules (`security.selinux`, …),
//! which are the host's to give; and the rest of `trusted.*`.

use std::os::fd::BorrowedFd;

use rustix::fs::{XattrFlags, fsetxattr};
use rustix::io::Errno;
use tare_model::{Error, Result};

use crate::error::SystemContext;

/// Whether an attribute of this name is set on a file of a layer.
pub(crate) fn is_kept(name: &[u8]) -> bool {
    match name {
        b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default" => true,
        _ => name.starts_with(b"user.") && !name.starts_with(b"user.overlay."),
    }
}

/// Sets the kept ones among `xattrs`.
pub(super) fn apply(fd: BorrowedFd<'_>, xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
    for (name, value) in xattrs.iter().filter(|(name, _)| is_kept(name)) {
        match fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
            Err(Errno::NOTSUP) => {
                return Err(Error::unsupported(format!(
                    "the file system of the engine root cannot hold attribute {}: use another one for --root",
                    name.escape_ascii()
                )));
            }
            done => done.while_(|| format!("fsetxattr({}, {} bytes)", name.escape_ascii(), value.len()))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_overlayfs_and_no_label_of_the_host_is_kept() {
        for name in ["security.capability", "user.mime_type", "user.overlayx", "system.posix_acl_access"] {
            assert!(is_kept(name.as_bytes()), "{name}");
        }
        for name in [
            "trusted.overlay.opaque",
            "trusted.overlay.redirect",
            "trusted.x",
            "user.overlay.opaque",
            "user.overlay.metacopy",
            "security.selinux",
            "security.apparmor",
            "security.ima",
            "system.x",
            "",
            "user",
        ] {
            assert!(!is_kept(name.as_bytes()), "{name}");
        }
    }
}
