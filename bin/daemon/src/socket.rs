//! The socket: made under a temporary name, with its owner and permissions, and only then renamed into place. A client
//! never meets one that it may not use, or a path without one while a stale one is replaced.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use tare_model::{Error, Result};

/// The group whose members may use the socket, where it exists.
const GROUP: &str = "tare";

/// A socket that nobody can find yet.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: UnixListener,
    temporary: PathBuf,
    path: PathBuf,
}

/// The name of a socket that is in place.
#[derive(Debug)]
pub(crate) struct Name {
    path: PathBuf,
}

// === impl Socket ===

impl Socket {
    /// Binds beside `path`, for root (and the group) alone. The process has one thread still.
    ///
    /// # Errors
    /// The failing call.
    pub(crate) fn bind(path: &Path) -> Result<Self> {
        let fail =
            |call: &str, e: &dyn std::fmt::Display| Error::system(format!("{call}({}): {e}", path.display()));
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::invalid(format!("--socket {}: want the path of a file", path.display())));
        };
        let name = format!(".{}.{}", name.to_string_lossy(), std::process::id());
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        // By descriptor of the directory: a socket's address holds 108 bytes, a path may have 4096.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(directory, flags, Mode::empty())
            .map_err(|e| fail("open the directory of", &e))?;
        let temporary = directory.join(&name);
        // Left by a daemon of the same number that was killed here.
        let _ = fs::remove_file(&temporary);
        let before = rustix::process::umask(Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(format!("/proc/self/fd/{}/{name}", opened.as_raw_fd()));
        rustix::process::umask(before);
        let socket =
            Self { listener: bound.map_err(|e| fail("bind", &e))?, temporary, path: path.to_owned() };
        // Groups of the machine do not exist in a user's own namespace, and the engine there is that user's alone.
        let rootless = tare_engine::is_rootless();
        let groups = if rootless { None } else { fs::read_to_string("/etc/group").ok() };
        let group = groups.and_then(|text| group_id(&text, GROUP)).unwrap_or(0);
        chown(&socket.temporary, Some(0), Some(group)).map_err(|e| fail("chown", &e))?;
        let mode = fs::Permissions::from_mode(if rootless { 0o600 } else { 0o660 });
        fs::set_permissions(&socket.temporary, mode).map_err(|e| fail("chmod", &e))?;
        socket.listener.set_nonblocking(true).map_err(|e| fail("fcntl(O_NONBLOCK)", &e))?;
        Ok(socket)
    }

    /// Puts it in place, over a stale one.
    ///
    /// # Errors
    /// The failing call.
    pub(crate) fn publish(self) -> Result<(UnixListener, Name)> {
        fs::rename(&self.temporary, &self.path)
            .map_err(|e| Error::system(format!("rename({}): {e}", self.path.display())))?;
        let listener = self.listener.try_clone().map_err(|e| Error::system(format!("dup(socket): {e}")))?;
        Ok((listener, Name { path: self.path.clone() }))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Nothing is there once it is in place.
        let _ = fs::remove_file(&self.temporary);
    }
}

// === impl Name ===

impl Name {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes it away. The lock of the run directory is held, so no other daemon has put its own there.
    pub(crate) fn remove(&self) {
        if let Err(e) = fs::remove_file(&self.path) {
            tracing::warn!("unlink({}): {e}", self.path.display());
        }
    }
}

fn group_id(groups: &str, name: &str) -> Option<u32> {
    let fields = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    };
    groups.lines().find_map(fields)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_socket_appears_whole_and_replaces_a_stale_one() {
        let scratch = tempfile::tempdir().expect("scratch");
        // Longer than an address of a socket can be.
        let directory = scratch.path().join("d".repeat(120));
        fs::create_dir(&directory).expect("made");
        let path = directory.join("tared.sock");
        fs::write(&path, "stale").expect("written");
        let socket = Socket::bind(&path).expect("binds");
        assert!(fs::metadata(&path).expect("stale still").is_file());
        let (_listener, name) = socket.publish().expect("publishes");
        let meta = fs::metadata(&path).expect("there");
        assert_eq!((meta.mode() & 0o777, meta.uid()), (0o660, 0));
        let opened = fs::File::open(&directory).expect("opens");
        UnixStream::connect(format!("/proc/self/fd/{}/tared.sock", opened.as_raw_fd())).expect("connects");
        name.remove();
        assert_eq!(fs::read_dir(&directory).expect("lists").count(), 0);
    }

    #[test]
    fn a_daemon_that_does_not_come_up_leaves_nothing() {
        let scratch = tempfile::tempdir().expect("scratch");
        drop(Socket::bind(&scratch.path().join("s")).expect("binds"));
        assert_eq!(fs::read_dir(scratch.path()).expect("lists").count(), 0);
    }

    #[test]
    fn the_group_is_found_by_name() {
        let text = "root:x:0:\ntared:x:5:\ntare:x:990:me\n";
        assert_eq!(group_id(text, "tare"), Some(990));
        assert_eq!(group_id(text, "none"), None);
    }
}
