//! Where the program runs, and which file it is. Texts are those that users of containers know.

use std::ffi::CString;
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, stat};
use rustix::io::Errno;
use rustix::process::{chdir, fchdir, getcwd};
use tare_model::ErrorKind;

use crate::error::{Call, Context, Error, Result, reason};
use crate::mount::resolve::{self, Kind};
use crate::plan::Process;

/// Where programs are searched if the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Goes into the working directory, which is made below the root if asked.
///
/// A directory that is not below the root (reached by a descriptor somebody left open, CVE-2024-21626) is left at once.
pub(crate) fn enter_directory(root: BorrowedFd<'_>, cwd: &str, create: bool) -> Result<()> {
    let what = || format!("working directory {cwd}");
    if create {
        let made = resolve::ensure(root, cwd, Kind::Directory, true).context(what)?;
        fchdir(&made).call(|| "fchdir(fd)").context(what)?;
    } else {
        // By descriptor as well: a magic link to a directory elsewhere is no path of the container.
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY;
        let found = resolve::open(root, cwd, flags)
            .call(|| format!("openat2(root, {cwd:?}, O_PATH|O_DIRECTORY)"))
            .context(what)?;
        fchdir(&found).call(|| "fchdir(fd)").context(what)?;
    }
    let now = getcwd(Vec::new()).call(|| "getcwd()").context(what)?;
    if now.as_bytes().starts_with(b"/") {
        return Ok(());
    }
    chdir("/").call(|| "chdir(\"/\")")?;
    Err(Error::forbidden(format!("working directory {cwd} is outside the container's root")))
}

/// The file that the process's program name means.
pub(crate) fn find(process: &Process) -> Result<CString> {
    find_in(&process.program, process.variable("PATH"))
}

/// As [`find`], with the search path given.
pub(crate) fn find_in(name: &str, search: Option<&str>) -> Result<CString> {
    if name.contains('/') {
        return match executable(name) {
            Ok(()) => path(name),
            Err(errno) => Err(cannot(name, errno, true)),
        };
    }
    for directory in search.unwrap_or(DEFAULT_PATH).split(':') {
        let candidate =
            if directory.is_empty() { format!("./{name}") } else { format!("{directory}/{name}") };
        // Docker's search goes on as well past what is there and not executable.
        if executable(&candidate).is_ok() {
            return path(&candidate);
        }
    }
    let text = format!("exec: {name:?}: executable file not found in $PATH");
    Err(Error::new(ErrorKind::CommandNotFound, text))
}

/// Whether somebody could execute it.
fn executable(path: &str) -> rustix::io::Result<()> {
    let stat = stat(path)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Err(Errno::ISDIR),
        FileType::RegularFile if stat.st_mode & 0o111 != 0 => Ok(()),
        _ => Err(Errno::ACCESS),
    }
}

fn path(name: &str) -> Result<CString> {
    CString::new(name).map_err(|_| Error::invalid(format!("program {name:?} contains NUL")))
}

/// The error for a program that cannot be executed; `looked` says that it was only looked at so far.
pub(crate) fn cannot(name: &str, errno: Errno, looked: bool) -> Error {
    let kind = match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG => ErrorKind::CommandNotFound,
        _ => ErrorKind::CommandNotExecutable,
    };
    let text = match (looked, errno) {
        (true, Errno::NOENT | Errno::NOTDIR) => format!("exec: {name:?}: stat {name}: {}", reason(errno)),
        (true, _) => format!("exec: {name:?}: {}", reason(errno)),
        (false, _) => format!("exec {name}: {}", reason(errno)),
    };
    Error::new(kind, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_kinds_are_the_known_ones() {
        let cases = [
            (
                cannot("/x", Errno::NOENT, true),
                ErrorKind::CommandNotFound,
                "exec: \"/x\": stat /x: no such file or directory",
            ),
            (
                cannot("/etc", Errno::ISDIR, true),
                ErrorKind::CommandNotExecutable,
                "exec: \"/etc\": is a directory",
            ),
            (
                cannot("/f", Errno::ACCESS, true),
                ErrorKind::CommandNotExecutable,
                "exec: \"/f\": permission denied",
            ),
            (
                cannot("/f", Errno::NOEXEC, false),
                ErrorKind::CommandNotExecutable,
                "exec /f: exec format error",
            ),
            (
                cannot("/f", Errno::NOENT, false),
                ErrorKind::CommandNotFound,
                "exec /f: no such file or directory",
            ),
        ];
        for (error, kind, text) in cases {
            assert_eq!((error.kind(), error.to_string().as_str()), (kind, text));
        }
    }

    #[test]
    fn what_is_executable_is_told_by_its_bits() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "").unwrap();
        let path = file.to_str().unwrap();
        assert_eq!(executable(path), Err(Errno::ACCESS));
        rustix::fs::chmod(&file, rustix::fs::Mode::from_raw_mode(0o700)).unwrap();
        assert_eq!(executable(path), Ok(()));
        assert_eq!(executable(dir.path().to_str().unwrap()), Err(Errno::ISDIR));
        assert_eq!(executable("/no/such"), Err(Errno::NOENT));
    }
}
