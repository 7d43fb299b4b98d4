//! Bind mounts whose ids on disk are those of a user namespace.
//!
//! The kernel maps a whole tree at once, or refuses all of it for one mount that it cannot map. Then the tree is taken
//! apart ([`Piece`]s): every mount is copied and mapped alone, and the child puts them together again.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::fstatfs;
use rustix::io::Errno;
use tare_sys::mount::map_ids;

use crate::error::{Call, Error, Result, reason};
use crate::mount::source;
use crate::mount::table::Table;

/// A detached mount, and where it goes below the first of its tree.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) mount: OwnedFd,
    /// Empty for the first itself.
    pub(crate) place: PathBuf,
}

/// How a tree is mapped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapping<'a> {
    /// By the ids of this user namespace.
    pub(crate) userns: BorrowedFd<'a>,
    /// With every mount below.
    pub(crate) recursive: bool,
    /// File systems that the kernel alone fills stay as they are.
    pub(crate) lenient: bool,
}

/// File systems that show the kernel's own state and have no ids that could be mapped.
const PSEUDO: [u64; 20] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x1cd1,      // devpts
    0x1980_0202, // mqueue
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x6265_6570, // configfs
    0x6165_676c, // pstore
    0xde5e_81e4, // efivarfs
    0x4249_4e4d, // binfmt_misc
    0xf97c_ff8c, // selinuxfs
    0x6e73_6673, // nsfs
    0x6573_5543, // fusectl
    0x0187,      // autofs
    0x6759_6969, // rpc_pipefs
    0x5a3c_69f0, // apparmorfs
];

// === impl Piece ===

impl Piece {
    /// A tree in one piece.
    pub(crate) fn whole(mount: OwnedFd) -> Self {
        Self { mount, place: PathBuf::new() }
    }
}

/// A copy of the tree at `path` of the host, with or without what is mounted below, mapped.
///
/// # Errors
/// `Unsupported`, naming the mount, its type and the way out, for a file system whose ids cannot be mapped.
pub(crate) fn bind(path: &Path, recursive: bool, mapping: Mapping<'_>) -> Result<Vec<Piece>> {
    let whole = source::bind(path, recursive)?;
    match map_ids(whole.as_fd(), mapping.userns, recursive && mapping.recursive) {
        Ok(()) => Ok(vec![Piece::whole(whole)]),
        Err(_) if recursive && mapping.recursive => piecewise(path, mapping),
        Err(errno) => {
            accept(whole.as_fd(), path, errno, mapping.lenient)?;
            Ok(vec![Piece::whole(whole)])
        }
    }
}

fn piecewise(path: &Path, mapping: Mapping<'_>) -> Result<Vec<Piece>> {
    let top = alone(path, mapping)?;
    let real = std::fs::canonicalize(path).map_err(|e| Error::invalid(format!("realpath({path:?}): {e}")))?;
    let mut pieces = vec![Piece::whole(top)];
    let table = Table::read()?;
    for below in table.below(&real).into_iter().filter(|entry| !entry.unbindable) {
        let place = below.place.strip_prefix(&real).unwrap_or(Path::new("")).to_owned();
        match alone(&below.place, mapping) {
            Ok(mount) => pieces.push(Piece { mount, place }),
            // It lies on a mount that another hides.
            Err(error) if error.errno() == Some(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(pieces)
}

fn alone(path: &Path, mapping: Mapping<'_>) -> Result<OwnedFd> {
    let mount = source::bind(path, false)?;
    if let Err(errno) = map_ids(mount.as_fd(), mapping.userns, false) {
        accept(mount.as_fd(), path, errno, mapping.lenient)?;
    }
    Ok(mount)
}

/// Whether a mount that cannot be mapped may stay as it is.
fn accept(mount: BorrowedFd<'_>, path: &Path, errno: Errno, lenient: bool) -> Result<()> {
    let magic = fstatfs(mount).call(|| "fstatfs(mount)")?.f_type;
    let pseudo = u64::try_from(magic).is_ok_and(|magic| PSEUDO.contains(&(magic & 0xffff_ffff)));
    if pseudo && lenient {
        return Ok(());
    }
    Err(unmappable(path, errno))
}

/// The refusal of a file system whose ids cannot be mapped.
pub(crate) fn unmappable(path: &Path, errno: Errno) -> Error {
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let table = Table::read().unwrap_or_default();
    Error::unsupported(format!(
        "{}: the ids of this {} file system cannot be mapped into the container's user namespace \
         (mount_setattr(MOUNT_ATTR_IDMAP): {}); leave it out, or use --userns=host",
        path.display(),
        table.kind_of(&real),
        reason(errno)
    ))
}

/// `place` as it travels between processes.
pub(crate) fn place_from(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}
