//! What of the host a container of a built-in image does not see.
//!
//! The mask is written into the container's own upper layer before it starts: empty opaque directories, empty files,
//! whiteouts. (A shared lower layer for it would be nicer, but overlayfs refuses a lower layer that lies inside another,
//! and everything lies inside `/`.) What there is to hide is looked up when the layer is made: a secret that the host
//! gets later shows in the containers that exist already, and in no other.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Gid, Mode, Stat, Uid, fchmod, fchown, makedev};
use rustix::io::Errno;
use tare_model::Result;
use tare_sys::dir::Dir;
use tare_sys::userns;

use crate::error::SystemContext;
use crate::unpack::set_opaque;

/// How much is hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Only what belongs to engines.
    Engine,
    /// That, and the host's secrets: password hashes, SSH host keys, home directories.
    Secrets,
}

const HOMES: [&str; 2] = ["/root", "/home"];
const HASHES: [&str; 2] = ["/etc/shadow", "/etc/gshadow"];
const OLD_HASHES: [&str; 2] = ["/etc/shadow-", "/etc/gshadow-"];
const SSH: &str = "/etc/ssh";

/// Directories that are hidden whole, by canonical path.
pub(crate) fn directories(engine: &[PathBuf], extent: Extent) -> Vec<PathBuf> {
    let homes = HOMES
        .iter()
        .filter(|_| extent == Extent::Secrets)
        .filter_map(|path| Path::new(path).canonicalize().ok());
    engine.iter().cloned().chain(homes).collect()
}

/// Writes the mask for a container whose lowest layer is `base` into the empty directory `upper`. `engine` are the
/// directories of this engine, by canonical path.
pub(crate) fn write(upper: &Dir, base: &Path, engine: &[PathBuf], extent: Extent) -> Result<()> {
    for dir in directories(engine, extent) {
        hide_directory(upper, base, &dir)?;
    }
    if extent == Extent::Secrets {
        for path in HASHES {
            if let Ok(real) = Path::new(path).canonicalize() {
                hide_content(upper, base, &real)?;
            }
        }
        for path in OLD_HASHES.iter().map(PathBuf::from).chain(ssh_keys()) {
            if path.symlink_metadata().is_ok() {
                hide(upper, base, &path)?;
            }
        }
    }
    Ok(())
}

/// A directory that is there and empty.
fn hide_directory(upper: &Dir, base: &Path, path: &Path) -> Result<()> {
    let Some((parent, name)) = enter(upper, base, path)? else { return Ok(()) };
    let dir = parent.ensure_dir(&name, 0o700).while_(|| "hide a directory")?;
    set_opaque(&dir)?;
    take_over(&dir, path)
}

/// A file that is there and empty.
fn hide_content(upper: &Dir, base: &Path, path: &Path) -> Result<()> {
    let Some((parent, name)) = enter(upper, base, path)? else { return Ok(()) };
    match parent.create_file(&name, 0o600) {
        Err(e) if e.errno() == Errno::EXIST => Ok(()),
        file => take_over(file.while_(|| "hide a file")?, path),
    }
}

/// Nothing there at all.
fn hide(upper: &Dir, base: &Path, path: &Path) -> Result<()> {
    let Some((parent, name)) = enter(upper, base, path)? else { return Ok(()) };
    match parent.make_node(&name, FileType::CharacterDevice, 0, makedev(0, 0)) {
        Err(e) if e.errno() == Errno::EXIST => Ok(()),
        done => done.while_(|| "hide a file"),
    }
}

/// Opens the directory of `path` in the upper layer, making it like the host's; `None` if `path` is not below `base`.
fn enter(upper: &Dir, base: &Path, path: &Path) -> Result<Option<(Dir, OsString)>> {
    let Ok(below) = path.strip_prefix(base) else { return Ok(None) };
    let mut names: Vec<&OsStr> = below
        .components()
        .filter_map(|part| if let Component::Normal(name) = part { Some(name) } else { None })
        .collect();
    let Some(last) = names.pop() else { return Ok(None) };
    let mut dir = upper.try_clone().while_(|| "hide")?;
    let mut host = base.to_owned();
    for name in names {
        host.push(name);
        dir = match dir.make_dir(name, 0o700) {
            Ok(()) => {
                let made = dir.open_dir(name).while_(|| "hide")?;
                take_over(&made, &host)?;
                made
            }
            Err(e) if e.errno() == Errno::EXIST => dir.open_dir(name).while_(|| "hide")?,
            Err(e) => return Err(e).while_(|| "hide"),
        };
    }
    Ok(Some((dir, last.to_owned())))
}

/// Owner and mode of the host's file or directory.
pub(crate) fn take_over(fd: impl AsFd, path: &Path) -> Result<()> {
    let stat: Stat = rustix::fs::stat(path).while_(|| format!("stat({})", path.display()))?;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    match fchown(&fd, Some(uid), Some(gid)) {
        // Nobody's, seen from a user namespace that has no such id: it stays the engine's.
        Err(Errno::INVAL) if !userns::is_initial() => {}
        done => done.while_(|| "fchown")?,
    }
    fchmod(&fd, Mode::from_raw_mode(stat.st_mode & 0o7777)).while_(|| "fchmod")
}

fn ssh_keys() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(SSH) else { return Vec::new() };
    let key = |name: &OsStr| name.to_str().is_some_and(|n| n.starts_with("ssh_host_") && n.contains("_key"));
    entries.flatten().filter(|entry| key(&entry.file_name())).map(|entry| entry.path()).collect()
}
