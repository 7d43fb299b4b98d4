//! A daemon of an ordinary user: its places, and the way to become root of a user namespace.
//!
//! This program has threads sooner or later and leaves namespaces alone; `tare-shim rootless` makes them and executes it
//! again, with every path said.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tare_model::{Error, ErrorKind, Result, UserEnvironment, UserPlace};

use crate::args::Args;
use crate::process;

/// Executes this program again as root of a user namespace. Returns only what failed.
///
/// # Errors
/// No place for the engine, a run directory that somebody else has, a program that is not there.
pub(crate) fn start_again(args: &Args) -> Result<()> {
    let uid = rustix::process::geteuid().as_raw();
    let (root, run_dir) = places(args, uid)?;
    private_directory(&run_dir, uid)?;
    let socket = absolute(&args.socket_in(&run_dir))?;
    let me = std::env::current_exe().map_err(|e| Error::system(format!("readlink(/proc/self/exe): {e}")))?;
    let launcher = process::libexec()?.join("tare-shim");
    let mut command = Command::new(&launcher);
    command.arg("rootless").arg("--run-dir").arg(&run_dir);
    let ready = args.ready_fd.map(|fd| fd.to_string());
    command.args(ready.iter().flat_map(|fd| ["--ready-fd", fd]));
    command.arg("--").arg(me).arg("--root").arg(root).arg("--run-dir").arg(&run_dir);
    command.arg("--socket").arg(socket).args(["--log-level", args.log_level.word()]);
    command.args(ready.iter().flat_map(|fd| ["--ready-fd", fd]));
    command.args(args.bridge.iter().flat_map(|name| ["--bridge", name]));
    let host_dns = args.host_dns.map(|at| at.to_string());
    command.args(host_dns.iter().flat_map(|at| ["--host-dns", at]));
    let error = command.exec();
    Err(Error::system(format!("execve({}): {error}: tared needs tare-shim beside it", launcher.display())))
}

/// Root and run directory, as given or the user's own.
fn places(args: &Args, uid: u32) -> Result<(PathBuf, PathBuf)> {
    if let (Some(root), Some(run_dir)) = (&args.root, &args.run_dir) {
        return Ok((absolute(root)?, absolute(run_dir)?));
    }
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let (data_home, home) = (variable("XDG_DATA_HOME"), variable("HOME"));
    let runtime_dir = variable("XDG_RUNTIME_DIR")
        .filter(|dir| fs::metadata(dir).is_ok_and(|data| data.is_dir() && data.uid() == uid));
    let environment = UserEnvironment {
        data_home: data_home.as_deref(),
        home: home.as_deref(),
        runtime_dir: runtime_dir.as_deref(),
    };
    let place = UserPlace::of(uid, environment)?;
    let root = args.root.as_deref().map_or(Ok(place.root), absolute)?;
    Ok((root, args.run_dir.as_deref().map_or(Ok(place.run_dir), absolute)?))
}

/// The daemon leaves its working directory.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::system(format!("{}: {e}", path.display())))
}

/// Makes the run directory. One that is there must be a directory of this user, into which nobody else can put a socket or
/// a record: it may lie in /tmp.
fn private_directory(path: &Path, uid: u32) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|e| Error::system(format!("mkdir({}): {e}", path.display())))?;
    let data =
        fs::symlink_metadata(path).map_err(|e| Error::system(format!("lstat({}): {e}", path.display())))?;
    if data.is_dir() && data.uid() == uid && data.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Forbidden,
        format!(
            "{}: want a directory of user {uid} that nobody else can write to; it belongs to user {}, mode {:o}; remove it, or \
         set XDG_RUNTIME_DIR",
            path.display(),
            data.uid(),
            data.mode() & 0o177_777
        ),
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_run_directory_of_somebody_else_is_refused() {
        let scratch = tempfile::tempdir().expect("scratch");
        let uid = rustix::process::geteuid().as_raw();
        let dir = scratch.path().join("run");
        private_directory(&dir, uid).expect("made");
        private_directory(&dir, uid).expect("there");
        assert_eq!(fs::metadata(&dir).expect("there").mode() & 0o777, 0o700);
        assert!(private_directory(&dir, uid + 1).is_err(), "another user's");
        symlink(&dir, scratch.path().join("link")).expect("links");
        assert!(private_directory(&scratch.path().join("link"), uid).is_err(), "a link");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("chmod");
        let error = private_directory(&dir, uid).expect_err("open to all");
        assert!(error.message().contains("mode 40777"), "{error}");
    }
}
