//! A directory of the host as a file system in parts, for an engine that is root of a user namespace only.
//!
//! The kernel never shows such an engine what lies under another mount, and so refuses it every directory with mounts below
//! as a layer. Those directories are made anew ([`Split::frame`]); what they hold and what has no mounts below is a layer of
//! its own, with an upper one beside it:
//!
//! ```text
//!   /            made anew          /usr         a part           /etc    a part
//!   /proc /sys   empty (mounts)     /var         made anew        /var/log   a part
//!   /bin         a link, repeated   /var/lib/x   empty (a mount)  /vmlinuz   a file: a part, read-only
//! ```
//!
//! As with a whole layer, mounts do not show: there is an empty directory instead.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tare_model::{Error, Result};

use crate::error::SystemContext;

/// How a directory is taken apart. Paths are relative to it, parents first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Split {
    /// Directories that are made anew, with what becomes the place of a part.
    directories: Vec<PathBuf>,
    links: Vec<PathBuf>,
    /// Directories that are layers.
    pub(crate) layers: Vec<PathBuf>,
    /// Files, shown as they are.
    pub(crate) files: Vec<PathBuf>,
}

/// The mounts strictly below `base`, in this process's mount namespace.
pub(crate) fn mounts_below(base: &Path) -> Result<Vec<PathBuf>> {
    let text = fs::read("/proc/self/mountinfo").while_(|| "read(/proc/self/mountinfo)")?;
    Ok(below(&text, base))
}

fn below(mountinfo: &[u8], base: &Path) -> Vec<PathBuf> {
    let point = |line: &[u8]| {
        line.split(|byte| *byte == b' ')
            .nth(4)
            .map(|field| PathBuf::from(OsString::from_vec(unescaped(field))))
    };
    let all = mountinfo.split(|byte| *byte == b'\n').filter_map(point);
    all.filter(|point| point.starts_with(base) && point != base).collect()
}

/// The kernel writes blanks, newlines and backslashes of a path as `\ooo`.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|digits| *first == b'\\' && digits.iter().all(u8::is_ascii_digit));
        let octal = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    bytes
}

// === impl Split ===

impl Split {
    /// Takes `base` apart, with `mounts` below it. What is `hidden` becomes an empty directory.
    ///
    /// # Errors
    /// `base` cannot be read.
    pub(crate) fn of(base: &Path, mounts: &[PathBuf], hidden: &[PathBuf]) -> Result<Self> {
        let mut split = Self::default();
        split
            .visit(base, Path::new(""), mounts, hidden)
            .while_(|| format!("read directory {}", base.display()))?;
        Ok(split)
    }

    fn visit(&mut self, base: &Path, below: &Path, mounts: &[PathBuf], hidden: &[PathBuf]) -> io::Result<()> {
        let mut entries: Vec<fs::DirEntry> = fs::read_dir(base.join(below))?.collect::<io::Result<_>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (path, place) = (entry.path(), below.join(entry.file_name()));
            let kind = entry.file_type()?;
            if kind.is_symlink() {
                self.links.push(place);
            } else if kind.is_dir() {
                self.directories.push(place.clone());
                if hidden.contains(&path) || mounts.contains(&path) {
                    continue;
                }
                if mounts.iter().any(|mount| mount.starts_with(&path)) {
                    // One that this user may not read looks empty.
                    match self.visit(base, &place, mounts, hidden) {
                        Err(e) if e.kind() != io::ErrorKind::PermissionDenied => return Err(e),
                        _ => {}
                    }
                } else {
                    self.layers.push(place);
                }
            } else if kind.is_file() && !mounts.contains(&path) {
                self.files.push(place);
            }
            // Sockets, pipes and devices mean something only to those who have made them.
        }
        Ok(())
    }

    /// Makes what is no part, and the places for the parts, in the empty directory `upper`.
    ///
    /// # Errors
    /// The failing call.
    pub(crate) fn frame(&self, base: &Path, upper: &Path) -> Result<()> {
        for place in &self.directories {
            let (from, to) = (base.join(place), upper.join(place));
            let mode = fs::metadata(&from).map_or(0o755, |data| data.mode() & 0o7777);
            fs::create_dir(&to).while_(|| format!("mkdir({})", to.display()))?;
            // What is made below comes through a directory that its owner may write to.
            fs::set_permissions(&to, fs::Permissions::from_mode(mode | 0o700))
                .while_(|| format!("chmod({})", to.display()))?;
        }
        for place in &self.links {
            let (from, to) = (base.join(place), upper.join(place));
            let target = fs::read_link(&from).while_(|| format!("readlink({})", from.display()))?;
            symlink(target, &to).while_(|| format!("symlink({})", to.display()))?;
        }
        for place in &self.files {
            let to = upper.join(place);
            fs::write(&to, "").while_(|| format!("write({})", to.display()))?;
        }
        Ok(())
    }
}

/// The name of a part's own directories: its place with other separators.
///
/// # Errors
/// `Unsupported` for a place whose name would be too long.
pub(crate) fn name(place: &Path) -> Result<OsString> {
    let mut bytes = Vec::new();
    for byte in place.as_os_str().as_bytes() {
        match byte {
            b'/' => bytes.push(b'!'),
            b'!' => bytes.extend(b"!!"),
            other => bytes.push(*other),
        }
    }
    if bytes.len() > 255 {
        let message = format!("{}: this path is too long for a part of a root file system", place.display());
        return Err(Error::new(tare_model::ErrorKind::Unsupported, message));
    }
    Ok(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn mount_points_are_read_with_blanks_and_all() {
        let text = b"1 0 8:1 / / rw - ext4 /d rw\n2 1 0:2 / /proc rw - proc proc rw\n3 1 0:3 / /a\\040b\\134c rw - tmpfs t rw\n\n";
        assert_eq!(below(text, Path::new("/")), paths(&["/proc", "/a b\\c"]));
        assert_eq!(below(text, Path::new("/proc")), paths(&[]));
    }

    #[test]
    fn only_directories_above_a_mount_are_made_anew() {
        let scratch = tempfile::tempdir().expect("scratch");
        let base = scratch.path();
        for dir in ["usr/bin", "var/lib/x", "var/log", "proc", "home/me", "var/lib/y"] {
            fs::create_dir_all(base.join(dir)).expect("makes");
        }
        symlink("usr/bin", base.join("bin")).expect("links");
        fs::write(base.join("vmlinuz"), "kernel").expect("writes");
        fs::write(base.join("covered"), "under a mount").expect("writes");
        let at = |name: &str| base.join(name);
        let mounts = [at("proc"), at("var/lib/x"), at("home/me"), at("covered")];
        let split = Split::of(base, &mounts, &[at("home")]).expect("splits");
        assert_eq!(split.layers, paths(&["usr", "var/lib/y", "var/log"]));
        assert_eq!(split.files, paths(&["vmlinuz"]));

        let upper = tempfile::tempdir().expect("scratch");
        split.frame(base, upper.path()).expect("frames");
        let is_empty = |name: &str| fs::read_dir(upper.path().join(name)).expect("a directory").count() == 0;
        assert!(["proc", "var/lib/x", "home", "usr", "var/log"].into_iter().all(is_empty));
        assert_eq!(fs::read_link(upper.path().join("bin")).expect("a link"), Path::new("usr/bin"));
        assert_eq!(fs::read(upper.path().join("vmlinuz")).expect("a place"), b"");
        assert!(!upper.path().join("covered").exists());
    }

    #[test]
    fn names_of_parts_are_distinct() {
        let name = |place: &str| name(Path::new(place)).expect("short");
        assert_eq!(name("var/lib"), "var!lib");
        assert_ne!(name("a/b"), name("a!b"));
        assert!(super::name(Path::new(&"x/".repeat(200))).is_err());
    }
}
