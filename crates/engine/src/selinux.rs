//! SELinux of this machine: what it has for containers, and labels of files.
//!
//! Files are labelled by descriptor: what a path means is settled when it is opened, and below that nothing is found but
//! by its one name in an open directory, without following links.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    FileType, Mode, OFlags, ResolveFlags, XattrFlags, fstat, getxattr, openat, openat2, readlink, setxattr,
    statfs,
};
use rustix::io::Errno;
use tare_model::{Error, Result};
use tare_sys::dir::{Dir, proc_path};

use crate::api::view::Labels;
use crate::spec::selinux::{Context, SeLinux};

const ROOT: &str = "/sys/fs/selinux";
/// `SELINUX_MAGIC`.
const MAGIC: u64 = 0xf97c_ff8c;
const ATTRIBUTE: &str = "security.selinux";

/// What policies call them unless they say otherwise.
const PROCESS: &str = "system_u:system_r:container_t:s0";
const FILES: &str = "system_u:object_r:container_file_t:s0";

/// The pair of categories that a policy without all of them is least likely to have.
const LAST: (u16, u16) = (CATEGORIES - 2, CATEGORIES - 1);
/// How many categories there are.
pub(crate) const CATEGORIES: u16 = 1024;

/// How deep below the source of a mount files are labelled.
const DEEPEST: usize = 256;

/// What belongs to the machine: with a container's label its own programs would be locked out.
const SYSTEM: &[&str] = &[
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/lib32",
    "/lib64",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/local",
    "/usr/sbin",
    "/usr/share",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/run",
    "/var/spool",
    "/var/tmp",
    "/etc/group",
    "/etc/passwd",
    "/etc/pki",
    "/etc/selinux",
    "/etc/shadow",
    "/etc/ssh",
    "/etc/ssl",
];

/// What SELinux has for containers, if it runs.
pub(crate) fn machine() -> Option<SeLinux> {
    let magic = statfs(ROOT).ok().and_then(|fs| u64::try_from(fs.f_type).ok());
    if magic != Some(MAGIC) {
        return None;
    }
    let contexts = fs::read_to_string(contexts_path()).unwrap_or_default();
    let named = |key, or: &str| {
        let own = value(&contexts, key).and_then(|text| Context::parse(&text));
        own.or_else(|| Context::parse(or))
    };
    let (mut process, mut files) = (named("process", PROCESS)?, named("file", FILES)?);
    // A container's own categories come in place of these.
    (process, files) = (process.shared(), files.shared());
    if !fs::read_to_string(format!("{ROOT}/mls")).is_ok_and(|word| word.starts_with('1')) {
        (process.level, files.level) = (None, None);
    }
    let known = [&process, &files].iter().all(|one| check(&(*one).clone().with_categories(LAST)).is_ok());
    Some(SeLinux { process, files, known })
}

/// Where the installed policy says what containers get.
fn contexts_path() -> PathBuf {
    let config = fs::read_to_string("/etc/selinux/config").unwrap_or_default();
    let kind = value(&config, "SELINUXTYPE").unwrap_or_else(|| "targeted".to_owned());
    Path::new("/etc/selinux").join(kind).join("contexts/lxc_contexts")
}

/// A line `key = "value"`; quotes and blanks may be missing.
fn value(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// Asks the loaded policy.
///
/// # Errors
/// `InvalidInput`, naming the label.
pub(crate) fn check(context: &Context) -> Result<()> {
    let text = context.to_string();
    match fs::write(format!("{ROOT}/context"), &text) {
        Ok(()) => Ok(()),
        Err(e) if e.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Err(Error::invalid(format!(
            "SELinux label {text:?}: the loaded policy has no such label; name what it has with --security-opt label=user:, \
             role:, type:, level: and filetype:, or use label=disable"
        ))),
        Err(e) => Err(Error::system(format!("SELinux label {text:?}: write({ROOT}/context): {e}"))),
    }
}

/// Asks the loaded policy for both.
///
/// # Errors
/// As [`check`].
pub(crate) fn check_both(labels: &Labels) -> Result<()> {
    for text in [&labels.process, &labels.files] {
        let context = Context::parse(text);
        check(&context.ok_or_else(|| Error::invalid(format!("{text:?} is no SELinux label")))?)?;
    }
    Ok(())
}

/// Labels one file.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn label(file: BorrowedFd<'_>, label: &str) -> Result<()> {
    set(file, label).map_err(|e| refused(&name_of(file), label, e))
}

/// Labels the source of a mount and everything below it on the same mount. What lies on a file system without labels is left as it is: it
/// has one label for all, by its mount.
///
/// # Errors
/// `InvalidInput` for what belongs to the machine; the kernel's refusal, naming the file.
pub(crate) fn label_tree(path: &Path, label: &str) -> Result<()> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let top = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|e| Error::invalid(format!("SELinux label of {}: open: {e}", path.display())))?;
    let name = name_of(top.as_fd());
    let home = name.strip_prefix("/home/").is_ok_and(|below| below.components().count() == 1);
    if home || SYSTEM.iter().any(|own| name == Path::new(own)) {
        return Err(Error::invalid(format!(
            "SELinux relabeling of {} is not allowed: with a container's label the machine's own programs would be locked \
             out; leave out z or Z, or use --security-opt label=disable",
            name.display()
        )));
    }
    walk(&top, label, 0).map_err(|(name, e)| refused(&name, label, e))
}

fn refused(name: &Path, label: &str, e: Errno) -> Error {
    Error::system(format!("SELinux label of {}: setxattr({ATTRIBUTE}, {label:?}): {e}", name.display()))
}

/// The name that a file has now, for messages and the like.
fn name_of(file: BorrowedFd<'_>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let name = readlink(proc_path(file), Vec::new()).map(|name| name.into_bytes()).unwrap_or_default();
    PathBuf::from(std::ffi::OsString::from_vec(name))
}

type Walked = std::result::Result<(), (PathBuf, Errno)>;

fn walk(file: &OwnedFd, label: &str, depth: usize) -> Walked {
    let failed = |e| (name_of(file.as_fd()), e);
    match set(file.as_fd(), label) {
        Err(Errno::NOTSUP) => {}
        other => other.map_err(failed)?,
    }
    let stat = fstat(file).map_err(failed)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(());
    }
    if depth == DEEPEST {
        return Err(failed(Errno::NAMETOOLONG));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = Dir::from_fd(openat(file, c".", flags, Mode::empty()).map_err(failed)?);
    let entries = dir.entries().map_err(|e| failed(e.errno()))?;
    for entry in entries {
        let (name, _) = entry.map_err(|e| failed(e.errno()))?;
        match entry_of(&dir, &name) {
            Ok(Some(below)) => walk(&below, label, depth + 1)?,
            Ok(None) => {}
            Err(e) => return Err((name_of(file.as_fd()).join(name), e)),
        }
    }
    Ok(())
}

/// An entry, whatever it is; none if it has gone, or if something else is mounted there: that may be the machine's own.
fn entry_of(dir: &Dir, name: &OsStr) -> rustix::io::Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat2(dir, name, flags, Mode::empty(), ResolveFlags::NO_XDEV) {
        Err(Errno::NOENT | Errno::XDEV) => Ok(None),
        opened => opened.map(Some),
    }
}

/// Through procfs, as only so the label of a link or a device can be set that is not opened. What has it already is not
/// touched: it may be read-only, and its times stay.
fn set(file: BorrowedFd<'_>, label: &str) -> rustix::io::Result<()> {
    let (path, mut now) = (proc_path(file), [0; 512]);
    let length = getxattr(&path, ATTRIBUTE, &mut now[..]).unwrap_or_default();
    if now[..length].strip_suffix(b"\0").unwrap_or(&now[..length]) == label.as_bytes() {
        return Ok(());
    }
    setxattr(&path, ATTRIBUTE, label.as_bytes(), XattrFlags::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_with_quotes_and_without() {
        let text = "# what containers get\nprocess = \"u:r:t:s0\"\nfile=u:r:f\nprocess_x = \"no\"\n";
        assert_eq!(value(text, "process").as_deref(), Some("u:r:t:s0"));
        assert_eq!(value(text, "file").as_deref(), Some("u:r:f"));
        assert_eq!(value(text, "ro_file"), None);
    }

    #[test]
    fn what_is_the_machines_is_not_relabelled_by_whatever_name() {
        let scratch = tempfile::tempdir().expect("scratch");
        let link = scratch.path().join("usr");
        std::os::unix::fs::symlink("/usr", &link).expect("links");
        for path in ["/", "/usr/", "/var/../etc"].map(Path::new).into_iter().chain([link.as_path()]) {
            let refused = label_tree(path, "u:r:t:s0").expect_err("refused");
            assert!(refused.message().contains("not allowed"), "{}: {refused}", path.display());
        }
    }

    #[test]
    fn a_tree_that_never_ends_is_refused_by_name() {
        let scratch = tempfile::tempdir().expect("scratch");
        let mut at = Dir::open_trusted_path(scratch.path()).expect("opens");
        for _ in 0..=DEEPEST {
            at = at.ensure_dir("d", 0o700).expect("makes");
        }
        let top =
            rustix::fs::open(scratch.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("opens");
        // Without SELinux the label of a file is any text, for root alone.
        let (name, errno) = walk(&top, "u:r:t:s0", 0).expect_err("refused");
        assert!(
            errno == Errno::NAMETOOLONG || errno == Errno::PERM || errno == Errno::INVAL,
            "{name:?}: {errno}"
        );
    }
}
