//! Device nodes, made by descriptor of their directory inside the container's root, or of a tmpfs that goes there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, makedev, mknodat, openat, readlinkat, statat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;

use tare_sys::ids::FileIds;
use tare_sys::mount::Attributes;
use tare_sys::userns;

use crate::error::{Call, Context, Error, Result};
use crate::mount::aside;
use crate::mount::idmap::Piece;
use crate::mount::options::Datum;
use crate::mount::resolve::{self, Kind};
use crate::mount::source;
use crate::plan::{Device, DeviceKind, IdMaps};

/// Makes a node, and directories on the way to it. One that is there already must be the same device.
pub(crate) fn make(root: BorrowedFd<'_>, device: &Device) -> Result<()> {
    let (parent, name) = device.path.rsplit_once('/').unwrap_or(("", &device.path));
    let parent = resolve::ensure(root, parent, Kind::Directory, true)?;
    let kind = match device.kind {
        DeviceKind::Character => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Pipe => FileType::Fifo,
    };
    let number = makedev(device.major, device.minor);
    match mknodat(&parent, name, kind, Mode::from_raw_mode(device.mode), number) {
        Err(Errno::EXIST) => {
            let there =
                statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).call(|| format!("fstatat(fd, {name:?})"))?;
            if FileType::from_raw_mode(there.st_mode) != kind || there.st_rdev != number {
                return Err(Error::forbidden("the image has something else in the place of this device"));
            }
        }
        other => other.call(|| {
            format!("mknodat(fd, {name:?}, {:o}, {}:{})", device.mode, device.major, device.minor)
        })?,
    }
    if (device.uid, device.gid) == (0, 0) {
        return Ok(());
    }
    give(parent.as_fd(), name, device.uid, device.gid)
}

fn give(parent: BorrowedFd<'_>, name: &str, uid: u32, gid: u32) -> Result<()> {
    let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    chownat(parent, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)
        .call(|| format!("fchownat(fd, {name:?}, {uid}, {gid})"))
}

/// The tmpfs for /dev of a container with these ids, with its nodes, which belong to the same; and, where no nodes can be
/// made, those of the host that go on top of it.
pub(crate) fn file_system(
    data: &[Datum],
    attributes: Attributes,
    nodes: &[Device],
    ids: &IdMaps,
) -> Result<Vec<Piece>> {
    let tmpfs = tmpfs(data, attributes, ids)?;
    let (uid, gid) = ids.root()?;
    let _ids = FileIds::assume(uid, gid).call(|| format!("setfsuid({uid}), setfsgid({gid})"))?;
    let mut lent = Vec::new();
    for node in nodes {
        let path = node.path.strip_prefix("/dev/").unwrap_or(&node.path).to_owned();
        let made = match make(tmpfs.as_fd(), &outside(node, path.clone(), ids)?) {
            Err(error) if is_forbidden(&error) => host_node(tmpfs.as_fd(), node, &path)
                .map(|mount| lent.push(Piece { mount, place: path.into() })),
            other => other,
        };
        made.context(|| format!("device {}", node.path))?;
    }
    let mut pieces = vec![Piece::whole(tmpfs)];
    pieces.extend(lent);
    Ok(pieces)
}

/// Whether it is because of the user namespace that this process is in that there is no node.
fn is_forbidden(error: &Error) -> bool {
    error.errno() == Some(Errno::PERM) && !userns::is_initial()
}

/// A mount of the host's node of the same path and number, and an empty file at `path` for it to go on.
fn host_node(dev: BorrowedFd<'_>, node: &Device, path: &str) -> Result<OwnedFd> {
    let mount = lent(node)?;
    resolve::ensure(dev, path, Kind::File, true)?;
    Ok(mount)
}

fn lent(node: &Device) -> Result<OwnedFd> {
    let mount = source::bind(Path::new(&node.path), false)?;
    let stat = fstat(&mount).call(|| format!("fstat({:?})", node.path))?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind != FileType::CharacterDevice || stat.st_rdev != makedev(node.major, node.minor) {
        return Err(Error::unsupported(
            "an ordinary user's engine cannot make device nodes, and the host has another thing at this path",
        ));
    }
    let set = Attributes::NOSUID.with(Attributes::NOEXEC);
    source::change(mount.as_fd(), tare_sys::mount::Change { set, ..Default::default() })?;
    Ok(mount)
}

/// One node as a mount, with this label of SELinux's.
pub(crate) fn alone(
    node: &Device,
    label: Option<&str>,
    attributes: Attributes,
    ids: &IdMaps,
) -> Result<OwnedFd> {
    let label: Vec<Datum> = label.map(source::context).into_iter().collect();
    let tmpfs = tmpfs(&label, Attributes::NONE, ids)?;
    let (uid, gid) = ids.root()?;
    let _ids = FileIds::assume(uid, gid).call(|| format!("setfsuid({uid}), setfsgid({gid})"))?;
    match make(tmpfs.as_fd(), &outside(node, "node".to_owned(), ids)?) {
        Err(error) if is_forbidden(&error) => return lent(node),
        other => other?,
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file =
        openat(&tmpfs, "node", flags, Mode::empty()).call(|| "openat(private tmpfs, \"node\", O_PATH)")?;
    let mount = match source::clone_of(file.as_fd(), false) {
        Err(error) if error.errno() == Some(Errno::INVAL) => {
            aside::with(&[tmpfs.as_fd()], || source::clone_of(file.as_fd(), false))?
        }
        answer => answer?,
    };
    let change = tare_sys::mount::Change { set: attributes, ..Default::default() };
    source::change(mount.as_fd(), change)?;
    Ok(mount)
}

/// A tmpfs of which the ids given to it, and those of its root, are the container's.
fn tmpfs(data: &[Datum], attributes: Attributes, ids: &IdMaps) -> Result<OwnedFd> {
    let mut data = data.to_vec();
    for (key, outside) in [("uid", IdMaps::uid as fn(&IdMaps, u32) -> Option<u32>), ("gid", IdMaps::gid)] {
        let asked = data.iter().find(|datum| datum.key == key).and_then(|datum| datum.value.clone());
        let inside = asked.map_or(Ok(0), |text| text.parse());
        let mapped = inside.ok().and_then(|inside| outside(ids, inside));
        let wrong = || Error::invalid(format!("option {key}: no id of the container's user namespace"));
        let value = Some(mapped.ok_or_else(wrong)?.to_string());
        data.retain(|datum| datum.key != key);
        data.push(Datum { key: key.to_owned(), value });
    }
    source::new("tmpfs", Some("tmpfs"), &data, attributes)
}

/// The node at another path, with ids as the host has them. What is root's already belongs to whom it is made by.
fn outside(node: &Device, path: String, ids: &IdMaps) -> Result<Device> {
    let nobody = || {
        let (uid, gid) = (node.uid, node.gid);
        Error::invalid(format!("device {}: owner {uid}:{gid} is not mapped in the user namespace", node.path))
    };
    let (uid, gid) = match (node.uid, node.gid) {
        (0, 0) => (0, 0),
        (uid, gid) => (ids.uid(uid).ok_or_else(nobody)?, ids.gid(gid).ok_or_else(nobody)?),
    };
    Ok(Device { path, uid, gid, ..node.clone() })
}

/// Makes a link in /dev. What the image has there stays, but for `ptmx`, which must lead to the container's own devpts.
pub(crate) fn link(root: BorrowedFd<'_>, name: &str, target: &str) -> Result<()> {
    let dev = resolve::open(root, "/dev", OFlags::PATH | OFlags::DIRECTORY)
        .call(|| "openat2(root, \"/dev\", O_PATH|O_DIRECTORY)")?;
    let call = || format!("symlinkat({target:?}, /dev, {name:?})");
    match symlinkat(target, &dev, name) {
        Err(Errno::EXIST) if name == "ptmx" => {
            if readlinkat(&dev, name, Vec::new()).is_ok_and(|there| there.as_bytes() == target.as_bytes()) {
                return Ok(());
            }
            unlinkat(&dev, name, AtFlags::empty()).call(|| format!("unlinkat(/dev, {name:?})"))?;
            symlinkat(target, &dev, name).call(call)
        }
        Err(Errno::EXIST) => Ok(()),
        other => other.call(call),
    }
}
