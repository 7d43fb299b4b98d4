//! The root file system: assembled detached, then made the root, then the host's tree dropped.
//!
//! An overlay is made inside the container's own mount namespace, or detached by its parent, so that it shows in no table
//! of the host and is gone with the namespace.
//!
//! With ids mapped, its layers are mapped copies, and the overlay over them is made with the file ids of the container's
//! root: to the kernel, whatever the overlay does on disk is done by that root, which is root on disk.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{
    FsOpenFlags, MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsopen, mount, move_mount,
    open_tree, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};
use tare_model::sandbox::{Part, Rootfs, Union};
use tare_sys::dir::proc_path;
use tare_sys::ids::FileIds;
use tare_sys::mount::{
    Attributes, Change, Propagation, can_detach, copy_tree, map_ids, mount_setattr, stage,
};
use tare_sys::userns;

use crate::error::{Call, Context, Error, Result};
use crate::mount::aside;
use crate::mount::idmap::{self, Mapping, Piece};
use crate::mount::later::Later;
use crate::mount::options::Datum;
use crate::mount::source;

/// The overlay keeps its marks where a user namespace may write them, as the store does.
const USER_MARKS: &str = "userxattr";
/// What is in the way on a kernel that cannot.
const WITHOUT_USER_MARKS: &str = "an overlay in a user namespace (Linux 5.11)";

/// Longest string that one `fsconfig` call takes.
const LONGEST_VALUE: usize = 255;

/// How a union is made, whatever it is made of.
#[derive(Clone, Copy)]
struct Manner<'a> {
    volatile: bool,
    /// SELinux's, of all its files.
    label: Option<&'a str>,
}

/// Settles how host mounts and ours affect each other, before anything is mounted.
pub(crate) fn set_propagation(propagation: Propagation) -> Result<()> {
    let change = Change { propagation: Some(propagation), recursive: true, ..Change::default() };
    mount_setattr(CWD, c"/", change).call(|| format!("mount_setattr(\"/\", {propagation:?}, AT_RECURSIVE)"))
}

/// Assembles the root file system; the mount is detached, or attached where only this namespace sees it. What is made of
/// layers has `label` on all files; a directory of somebody else's keeps its own.
pub(crate) fn assemble(rootfs: &Rootfs, label: Option<&str>) -> Result<OwnedFd> {
    match rootfs {
        Rootfs::Directory { path } => source::bind(path, true),
        Rootfs::Overlay { lowers, upper, work, volatile } => {
            union(lowers, upper, work, Manner { volatile: *volatile, label })
        }
        Rootfs::Parts { .. } => {
            Err(Error::unsupported("a root of several parts takes a user namespace of its own"))
        }
    }
}

/// As [`assemble`], by a process whose mount namespace is not the container's, and that hands over what it has made:
/// nothing stays attached in its own.
pub(crate) fn assemble_outside(rootfs: &Rootfs, label: Option<&str>) -> Result<Vec<Piece>> {
    let (base, parts, manner) = match rootfs {
        Rootfs::Directory { .. } => return Ok(vec![Piece::whole(assemble(rootfs, label)?)]),
        Rootfs::Overlay { lowers, upper, work, volatile } => {
            let manner = Manner { volatile: *volatile, label };
            return Ok(vec![Piece::whole(union_outside(lowers, upper, work, manner)?)]);
        }
        Rootfs::Parts { base, parts, volatile } => (base, parts, Manner { volatile: *volatile, label }),
    };
    let layers = |one: &Union| union_outside(std::slice::from_ref(&one.lower), &one.upper, &one.work, manner);
    let mut pieces = vec![Piece::whole(layers(base)?)];
    for part in parts {
        let (place, from, mount) = match part {
            Part::Layer { place, union } => (place, &union.lower, layers(union)),
            Part::File { place, path } => (place, path, read_only_file(path)),
        };
        match mount {
            // The host goes on living: what has gone meanwhile has an empty place.
            Err(error) if error.errno() == Some(Errno::NOENT) && !from.exists() => {}
            mount => {
                let mount = mount.context(|| format!("/{}", place.display()))?;
                pieces.push(Piece { mount, place: place.clone() });
            }
        }
    }
    Ok(pieces)
}

fn read_only_file(path: &Path) -> Result<OwnedFd> {
    let mount = source::bind(path, false)?;
    let set = Attributes::RDONLY.with(Attributes::NOSUID).with(Attributes::NODEV);
    source::change(mount.as_fd(), Change { set, ..Change::default() })?;
    Ok(mount)
}

fn union(lowers: &[PathBuf], upper: &Path, work: &Path, manner: Manner<'_>) -> Result<OwnedFd> {
    if !can_detach() {
        if manner.volatile {
            forget_volatile(work);
        }
        return overlay_by_mount(lowers, upper, work, manner);
    }
    match overlay(lowers, upper, work, manner) {
        // Before 6.5 layers could not be named one by one.
        Err(error) if error.errno() == Some(Errno::INVAL) => {
            overlay_by_mount(lowers, upper, work, manner).map_err(|second| better(error, second))
        }
        answer => answer,
    }
}

fn union_outside(lowers: &[PathBuf], upper: &Path, work: &Path, manner: Manner<'_>) -> Result<OwnedFd> {
    match overlay(lowers, upper, work, manner) {
        Err(error) if error.errno() == Some(Errno::INVAL) => aside::with(&[], || {
            let _attached =
                overlay_by_mount(lowers, upper, work, manner).map_err(|second| better(error, second))?;
            // A copy is left when that namespace goes.
            copy_tree(CWD, upper, false).call(|| format!("open_tree({upper:?}, OPEN_TREE_CLONE)"))
        }),
        answer => answer,
    }
}

fn overlay(lowers: &[PathBuf], upper: &Path, work: &Path, manner: Manner<'_>) -> Result<OwnedFd> {
    let mut held = Vec::new();
    let mut layers = Layers::default();
    for lower in lowers {
        layers.lowers.push(layer(lower, &mut held)?);
    }
    (layers.upper, layers.work) = (layer(upper, &mut held)?, layer(work, &mut held)?);
    if manner.volatile {
        forget_volatile(work);
    }
    let fs = layers.describe(manner)?;
    source::create(fs.as_fd(), "overlay", Attributes::NONE)
}

/// Layers by names that the kernel can look up.
#[derive(Default)]
struct Layers {
    lowers: Vec<String>,
    upper: String,
    work: String,
}

impl Layers {
    /// Each fits into one call.
    fn are_short(&self) -> bool {
        self.lowers.iter().chain([&self.upper, &self.work]).all(|name| name.len() <= LONGEST_VALUE)
    }

    /// An overlay of them, described and not yet made.
    fn describe(&self, manner: Manner<'_>) -> Result<OwnedFd> {
        let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).call(|| "fsopen(\"overlay\")")?;
        for lower in &self.lowers {
            source::set(fs.as_fd(), "lowerdir+", Some(lower))?;
        }
        source::set(fs.as_fd(), "upperdir", Some(&self.upper))?;
        source::set(fs.as_fd(), "workdir", Some(&self.work))?;
        if manner.volatile {
            source::set(fs.as_fd(), "volatile", None)?;
        }
        if let Some(label) = manner.label {
            source::set(fs.as_fd(), source::CONTEXT, Some(label))?;
        }
        if !userns::is_initial() {
            source::set(fs.as_fd(), USER_MARKS, None).context(|| WITHOUT_USER_MARKS)?;
        }
        Ok(fs)
    }
}

/// As [`assemble`], with ids on disk mapped by `userns`, whose root is `owner` outside. `detached` says to try the layers
/// as detached mounts, which kernels take since 6.15, and which are left to `later` then; else, and after a refusal, they are
/// attached in a mount namespace made for that.
pub(crate) fn assemble_mapped(
    rootfs: &Rootfs,
    label: Option<&str>,
    userns: BorrowedFd<'_>,
    owner: (u32, u32),
    detached: bool,
    later: &Later,
) -> Result<Vec<Piece>> {
    let (lowers, upper, work, volatile) = match rootfs {
        Rootfs::Directory { path } => {
            return idmap::bind(path, true, Mapping { userns, recursive: true, lenient: true });
        }
        Rootfs::Overlay { lowers, upper, work, volatile } => (lowers, upper, work, *volatile),
        Rootfs::Parts { .. } => {
            return Err(Error::unsupported("the ids of a root of several parts cannot be mapped"));
        }
    };
    let manner = Manner { volatile, label };
    if volatile {
        forget_volatile(work);
    }
    if detached {
        let copies = match Copies::one_of_all(lowers, upper, work, userns)? {
            Some(copies) => copies,
            None => Copies::one_of_each(lowers, upper, work, userns)?,
        };
        match copies.overlay(owner, manner) {
            Err(error) if error.errno() == Some(Errno::INVAL) => {}
            made => {
                later.keep(copies.mounts);
                return Ok(vec![Piece::whole(made?)]);
            }
        }
    }
    let copies = Copies::one_of_each(lowers, upper, work, userns)?;
    let root = copies.overlay_attached(owner, manner).context(|| WITHOUT)?;
    Ok(vec![Piece::whole(root)])
}

/// What is in the way on a kernel that cannot do it either way.
const WITHOUT: &str = "an overlay of layers with mapped ids (Linux 5.19; --userns=host does without)";

/// Mapped copies of the mounts that layers are on.
struct Copies {
    mounts: Vec<OwnedFd>,
    layers: Layers,
}

impl Copies {
    /// One of the mount that all layers are on, if that is one and all can be reached by it: a copy costs two system calls to
    /// make, and a grace period of the kernel's to drop.
    fn one_of_all(
        lowers: &[PathBuf],
        upper: &Path,
        work: &Path,
        userns: BorrowedFd<'_>,
    ) -> Result<Option<Self>> {
        // The kernel takes a backslash in the name of a layer for an escape.
        let is_plain = |path: &Path| path.to_str().is_some_and(|path| !path.contains('\\'));
        if !lowers.iter().map(PathBuf::as_path).chain([upper, work]).all(is_plain) {
            return Ok(None);
        }
        let Some(above) = above_all(lowers, upper, work)? else { return Ok(None) };
        let mount = mapped(above, userns)?;
        let top = proc_path(mount.as_fd());
        let named = |path: &Path| Ok(format!("{top}/{}", utf8(path.strip_prefix(above).unwrap_or(path))?));
        let lowers = lowers.iter().map(|lower| named(lower)).collect::<Result<_>>()?;
        let layers = Layers { lowers, upper: named(upper)?, work: named(work)? };
        Ok(layers.are_short().then_some(Self { mounts: vec![mount], layers }))
    }

    /// One of each layer below, and one of the directory that upper and work are in: they have to be on one mount.
    fn one_of_each(lowers: &[PathBuf], upper: &Path, work: &Path, userns: BorrowedFd<'_>) -> Result<Self> {
        let (Some(parent), Some(upper_name), Some(work_name)) = (
            upper.parent().filter(|parent| work.parent() == Some(parent)),
            upper.file_name(),
            work.file_name(),
        ) else {
            return Err(Error::invalid(format!("layers {upper:?} and {work:?} are not in one directory")));
        };
        let mut mounts: Vec<OwnedFd> =
            lowers.iter().map(|lower| mapped(lower, userns)).collect::<Result<_>>()?;
        let lowers = mounts.iter().map(|lower| proc_path(lower.as_fd())).collect();
        let own = mapped(parent, userns)?;
        let named = |name| Ok::<_, Error>(format!("{}/{}", proc_path(own.as_fd()), utf8(Path::new(name))?));
        let layers = Layers { lowers, upper: named(upper_name)?, work: named(work_name)? };
        mounts.push(own);
        Ok(Self { mounts, layers })
    }

    fn overlay(&self, (uid, gid): (u32, u32), manner: Manner<'_>) -> Result<OwnedFd> {
        let fs = self.layers.describe(manner)?;
        // Without these the kernel could make nothing in the work directory, and would mount read-only without a word.
        let _ids = FileIds::assume(uid, gid).call(|| format!("setfsuid({uid}), setfsgid({gid})"))?;
        source::create(fs.as_fd(), "overlay", Attributes::NONE)
    }

    /// The same with the copies attached.
    fn overlay_attached(&self, owner: (u32, u32), manner: Manner<'_>) -> Result<OwnedFd> {
        let copies: Vec<BorrowedFd<'_>> = self.mounts.iter().map(AsFd::as_fd).collect();
        aside::with(&copies, || match self.overlay(owner, manner) {
            Err(error) if error.errno() == Some(Errno::INVAL) => {
                self.overlay_by_mount(owner, manner).map_err(|second| better(error, second))
            }
            answer => answer,
        })
    }

    /// Before 6.5 layers could not be named one by one. The overlay covers the upper directory, and a copy of it is taken
    /// away from there.
    fn overlay_by_mount(&self, (uid, gid): (u32, u32), manner: Manner<'_>) -> Result<OwnedFd> {
        let Layers { lowers, upper, work } = &self.layers;
        let names: Vec<String> = lowers.iter().chain([upper, work]).cloned().collect();
        let _ids = FileIds::assume(uid, gid).call(|| format!("setfsuid({uid}), setfsgid({gid})"))?;
        mount_overlay(Path::new(upper), &overlay_data(&names, manner))?;
        copy_tree(CWD, Path::new(upper), false).call(|| format!("open_tree({upper:?}, OPEN_TREE_CLONE)"))
    }
}

/// A copy of the mount at `path`, mapped.
fn mapped(path: &Path, userns: BorrowedFd<'_>) -> Result<OwnedFd> {
    let copy = source::bind(path, false)?;
    map_ids(copy.as_fd(), userns, false).map_err(|errno| idmap::unmappable(path, errno))?;
    Ok(copy)
}

/// The nearest directory that all layers lie below, if no other mount lies between, no symlink, and no directory of anybody but
/// root: in a mapped copy nobody has a right to one whose owner is not mapped, and a symlink may lead out of it.
fn above_all<'a>(lowers: &[PathBuf], upper: &'a Path, work: &Path) -> Result<Option<&'a Path>> {
    let all = || lowers.iter().map(PathBuf::as_path).chain([upper, work]);
    let Some(above) = upper.ancestors().skip(1).find(|dir| all().all(|path| is_below(path, dir))) else {
        return Ok(None);
    };
    let (layers, mut ways) = (all().collect::<BTreeSet<_>>(), BTreeSet::from([above]));
    for layer in &layers {
        ways.extend(layer.ancestors().skip(1).take_while(|dir| *dir != above));
    }
    let mut mount = None;
    for path in layers.iter().chain(&ways) {
        let follow = if *path == above { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        let wanted = StatxFlags::MNT_ID | StatxFlags::TYPE | StatxFlags::UID | StatxFlags::GID;
        let known = statx(CWD, *path, follow, wanted).call(|| format!("statx({path:?}, STATX_MNT_ID)"))?;
        let is_here = known.stx_mask & StatxFlags::MNT_ID.bits() != 0
            && *mount.get_or_insert(known.stx_mnt_id) == known.stx_mnt_id
            && FileType::from_raw_mode(known.stx_mode.into()) == FileType::Directory;
        if !is_here || (ways.contains(path) && (known.stx_uid, known.stx_gid) != (0, 0)) {
            return Ok(None);
        }
    }
    Ok(Some(above))
}

fn is_below(path: &Path, dir: &Path) -> bool {
    path.strip_prefix(dir).is_ok_and(|rest| !rest.as_os_str().is_empty())
}

/// The kernel marks a volatile upper layer and refuses it the next time, as a crash may have damaged it. A container
/// that is started again without a crash in between (its directories would be gone) may go on with it.
fn forget_volatile(work: &Path) {
    let mark = work.join("work/incompat");
    // What is not there need not go; what cannot go is the kernel's to complain about.
    let _ = std::fs::remove_dir(mark.join("volatile"));
    let _ = std::fs::remove_dir(mark);
}

/// The path of a layer as the kernel takes it; a long one by a descriptor, which is kept in `held`.
fn layer(path: &Path, held: &mut Vec<OwnedFd>) -> Result<String> {
    let text = utf8(path)?;
    if text.len() <= LONGEST_VALUE { Ok(text.to_owned()) } else { by_descriptor(path, held) }
}

fn by_descriptor(path: &Path, held: &mut Vec<OwnedFd>) -> Result<String> {
    use std::os::fd::AsRawFd;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty())
        .call(|| format!("open({path:?}, O_PATH|O_DIRECTORY)"))?;
    let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
    held.push(fd);
    Ok(name)
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Error::invalid(format!("layer {path:?} is not UTF-8")))
}

/// Of two ways that failed, the error that says more: what the second could not find it names.
fn better(first: Error, second: Error) -> Error {
    match second.errno() {
        None | Some(Errno::NOSYS | Errno::INVAL) => first,
        Some(_) => second,
    }
}

/// The old way: one call with all layers in one string. Short names by descriptor beat its limit of one page, and
/// nothing in them needs escaping.
fn overlay_by_mount(lowers: &[PathBuf], upper: &Path, work: &Path, manner: Manner<'_>) -> Result<OwnedFd> {
    let mut held = Vec::new();
    let mut names = Vec::new();
    for path in lowers.iter().map(PathBuf::as_path).chain([upper, work]) {
        names.push(by_descriptor(path, &mut held)?);
    }
    let data = overlay_data(&names, manner);
    if !can_detach() {
        return source::new("overlay", None, &data, Attributes::NONE);
    }
    // The mount hides the upper directory, in this mount namespace only.
    mount_overlay(upper, &data)?;
    open_tree(CWD, upper, OpenTreeFlags::OPEN_TREE_CLOEXEC).call(|| format!("open_tree({upper:?})"))
}

fn mount_overlay(on: &Path, data: &[Datum]) -> Result<()> {
    let word = |Datum { key, value }: &Datum| match value {
        // It may have commas.
        Some(value) if key == source::CONTEXT => format!("{key}=\"{value}\""),
        Some(value) => format!("{key}={value}"),
        None => key.clone(),
    };
    let data = data.iter().map(word).collect::<Vec<_>>().join(",");
    let text = CString::new(data.as_str()).map_err(|_| Error::invalid("layer path with NUL"))?;
    mount("overlay", on, "overlay", MountFlags::empty(), text.as_c_str())
        .call(|| format!("mount(\"overlay\", {on:?}, \"overlay\", {data:?})"))
}

/// `names`: lower layers, topmost first, then upper and work.
fn overlay_data(names: &[String], manner: Manner<'_>) -> Vec<Datum> {
    let [lowers @ .., upper, work] = names else { return Vec::new() };
    let datum = |key: &str, value: Option<String>| Datum { key: key.to_owned(), value };
    let mut data = vec![
        datum("lowerdir", Some(lowers.join(":"))),
        datum("upperdir", Some(upper.clone())),
        datum("workdir", Some(work.clone())),
    ];
    data.extend((!userns::is_initial()).then(|| datum(USER_MARKS, None)));
    data.extend(manner.volatile.then(|| datum("volatile", None)));
    data.extend(manner.label.map(|label| datum(source::CONTEXT, Some(label.to_owned()))));
    data
}

/// Puts the root on its own path, in this mount namespace only, where hooks look for it.
pub(crate) fn place(root: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = rustix::fs::open(path, flags, Mode::empty()).call(|| format!("open({path:?}, O_PATH)"))?;
    tare_sys::mount::attach(root, place.as_fd(), "").call(|| format!("move_mount(root, {path:?})"))
}

/// Makes `root` the root directory of this process and leaves everything else as it is.
pub(crate) fn change(root: BorrowedFd<'_>) -> Result<()> {
    fchdir(root).call(|| "fchdir(root)")?;
    rustix::process::chroot(".").call(|| "chroot(\".\")")
}

/// Makes `root` the root directory and drops the host's tree. The mount may be detached or attached.
///
/// It is put on top of the present root, where nobody else can see it; with both arguments `.` the old root ends up
/// above the new one at the same place, and is taken off there.
pub(crate) fn enter(root: BorrowedFd<'_>) -> Result<()> {
    if stage::is_built() {
        return stage::enter(root).call(|| "pivot_root(stage), chroot(root)");
    }
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(root, "", CWD, "/", empty).call(|| "move_mount(root, \"/\")")?;
    fchdir(root).call(|| "fchdir(root)")?;
    pivot_root(".", ".").call(|| "pivot_root(\".\", \".\")")?;
    unmount(".", UnmountFlags::DETACH).call(|| "umount2(\".\", MNT_DETACH)")?;
    chdir("/").call(|| "chdir(\"/\")")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_copied_together_if_they_lie_below_one_directory_of_one_mount() {
        let root = std::env::temp_dir().join(format!("tare-rootfs-{}", std::process::id()));
        let (own, layers) = (root.join("containers/1"), [root.join("layers/a"), root.join("layers/b")]);
        let (upper, work) = (own.join("upper"), own.join("work"));
        for dir in layers.iter().chain([&upper, &work]) {
            std::fs::create_dir_all(dir).unwrap();
        }
        let above = |lowers: &[PathBuf]| above_all(lowers, &upper, &work).unwrap().map(Path::to_owned);
        let found = (above(&layers), above(&[PathBuf::from("/proc")]), above(&[PathBuf::from("/")]));
        let near = above(&[own.join("upper")]);
        std::os::unix::fs::symlink(root.join("layers"), root.join("link")).unwrap();
        let link = above(&[root.join("link/a")]);
        let shut = |uid, gid| {
            std::os::unix::fs::chown(root.join("layers"), uid, gid).unwrap();
            above(&layers)
        };
        let others = rustix::process::geteuid()
            .is_root()
            .then(|| [shut(Some(200_001), None), shut(Some(0), Some(200_001))]);
        std::fs::remove_dir_all(&root).unwrap();
        let is_root = rustix::process::geteuid().is_root() && rustix::process::getegid().is_root();
        assert_eq!(
            found,
            (is_root.then_some(root), None, None),
            "another mount, and a layer that the others are in"
        );
        assert_eq!(near, is_root.then_some(own));
        assert_eq!(link, None, "a symlink on the way");
        assert_eq!(
            others.into_iter().flatten().flatten().next(),
            None,
            "a directory of somebody else on the way"
        );
    }

    #[test]
    fn the_old_way_names_every_layer_in_one_string() {
        let names = ["/proc/self/fd/3", "/proc/self/fd/4", "/proc/self/fd/5", "/proc/self/fd/6"];
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let of = |volatile, label| overlay_data(&names, Manner { volatile, label });
        let data: Vec<(String, Option<String>)> =
            of(true, Some("u:r:t:s0:c1,c2")).into_iter().map(|datum| (datum.key, datum.value)).collect();
        let with = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
        let want = [
            with("lowerdir", "/proc/self/fd/3:/proc/self/fd/4"),
            with("upperdir", "/proc/self/fd/5"),
            with("workdir", "/proc/self/fd/6"),
            ("volatile".to_owned(), None),
            with("context", "u:r:t:s0:c1,c2"),
        ];
        assert_eq!(data, want);
        assert_eq!(of(false, None).len(), 3);
    }

    #[test]
    fn a_long_path_is_named_by_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let mut long = dir.path().to_owned();
        while long.as_os_str().len() <= LONGEST_VALUE {
            long.push("a-directory-with-a-long-name");
        }
        std::fs::create_dir_all(&long).unwrap();
        let mut held = Vec::new();
        let name = layer(&long, &mut held).unwrap();
        assert!(name.starts_with("/proc/self/fd/"), "{name}");
        assert_eq!(std::fs::canonicalize(&name).unwrap(), std::fs::canonicalize(&long).unwrap());
        assert_eq!(layer(dir.path(), &mut held).unwrap(), dir.path().to_str().unwrap());
        assert_eq!(held.len(), 1);
    }
}
