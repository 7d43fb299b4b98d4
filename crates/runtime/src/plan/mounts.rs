//! The mounts and devices of the specification, checked and in order.

use std::path::Path;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Mount as OciMount, Spec};
use tare_model::sandbox::{DiskIds, Rootfs, SandboxSpec};
use tare_sys::mount::{Attributes, Change, Propagation};
use tare_sys::process::Namespaces;

use super::{Device, DeviceKind, IdMaps, Layout, Mapped, Place, Source, What};
use crate::error::{Context, Error, Result};
use crate::mount::attach::Rules;
use crate::mount::options::{Idmap, Options};

/// One mount: its source and its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mount {
    pub(crate) source: Source,
    pub(crate) place: Place,
}

/// Links that programs expect in /dev.
pub(crate) const DEVICE_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Nodes that every container has: name and minor number of a character device with this major number.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// All mounts, in the order of the specification; in a user namespace those that bring device nodes, too.
pub(crate) fn plan(spec: &SandboxSpec, namespaces: &Layout) -> Result<Vec<Mount>> {
    let user = namespaces.has_own(Namespaces::USER);
    let all = spec.oci.mounts().as_deref().unwrap_or_default();
    let mut planned = Vec::with_capacity(all.len());
    for mount in all {
        let what = || format!("mount {}", mount.destination().display());
        let mut one = one(mount).context(what)?;
        if let What::Bind { mapped: Some(mapped), .. } = &mut one.source.what {
            mapped.lenient = spec.disk_ids == DiskIds::Mapped;
            if mapped.ids.is_none() && !user {
                let text =
                    "option \"idmap\": there are neither uidMappings of the mount nor a user namespace";
                return Err(Error::invalid(text)).context(what);
            }
        }
        planned.push(one);
    }
    if user && has_own_dev(&planned) {
        bring_devices(&mut planned, devices(&spec.oci)?);
    }
    Ok(planned)
}

/// Nodes below /dev come with the tmpfs there; those that something else would hide, or that lie elsewhere, are mounts of
/// their own.
fn bring_devices(mounts: &mut Vec<Mount>, devices: Vec<Device>) {
    let at = |mount: &Mount| format!("{}/", mount.place.destination.trim_end_matches('/'));
    let dev = mounts.iter().rposition(|mount| {
        at(mount) == "/dev/" && matches!(&mount.source.what, What::New { kind, .. } if kind == "tmpfs")
    });
    let others: Vec<String> = mounts.iter().map(at).filter(|place| place != "/dev/").collect();
    let (with_dev, alone): (Vec<Device>, Vec<Device>) = devices.into_iter().partition(|device| {
        dev.is_some()
            && device.path.starts_with("/dev/")
            && !device.path.split('/').any(|part| part == "..")
            && !others.iter().any(|place| place.starts_with("/dev/") && device.path.starts_with(place))
    });
    if let Some(mount) = dev.and_then(|at| mounts.get_mut(at))
        && let What::New { data, .. } = &mount.source.what
    {
        mount.source.what = What::Devices { data: data.clone(), nodes: with_dev };
    }
    mounts.extend(alone.into_iter().map(|device| {
        let destination = device.path.clone();
        let what = What::Node(device);
        let attributes = Attributes::NOSUID.with(Attributes::NOEXEC);
        let source = Source { what, destination: destination.clone(), attributes, changes: Vec::new() };
        Mount { source, place: Place { destination, rules: Rules::default() } }
    }));
}

fn one(mount: &OciMount) -> Result<Mount> {
    let destination = text(mount.destination(), "destination")?;
    let options = Options::parse(mount.options().as_deref().unwrap_or_default())?;
    let kind = mount.typ().as_deref().unwrap_or_default();
    let what = what(mount, kind, &options)?;
    let destination = inside(&destination, "destination")?;
    require_trusted_proc(&destination, kind)?;
    if options.copy_up && !matches!(&what, What::New { kind, .. } if kind == "tmpfs") {
        return Err(Error::invalid("option \"tmpcopyup\" is for tmpfs only"));
    }
    let is_bind = matches!(what, What::Bind { .. });
    let attributes = if is_bind { Attributes::NONE } else { options.attributes.set };
    let changes = changes(&options, is_bind);
    let rules = Rules {
        no_links: matches!(kind, "proc" | "sysfs"),
        copy_up: options.copy_up,
        keep_mode: kind == "tmpfs" && !options.data.iter().any(|datum| datum.key == "mode"),
    };
    let source = Source { what, destination: destination.clone(), attributes, changes };
    Ok(Mount { source, place: Place { destination, rules } })
}

fn what(mount: &OciMount, kind: &str, options: &Options) -> Result<What> {
    let source = mount.source().as_deref().map(|path| text(path, "source")).transpose()?;
    if options.bind.is_some() || kind == "bind" {
        let Some(source) = source.filter(|source| source.starts_with('/')) else {
            return Err(Error::invalid("the source of a bind mount must be an absolute path"));
        };
        // Words for a file system go nowhere, as with mount(2): the file system is there already.
        let recursive = options.bind.unwrap_or(false);
        return Ok(What::Bind { path: source.into(), recursive, mapped: mapped(mount, options)? });
    }
    if mapped(mount, options)?.is_some() {
        return Err(Error::unsupported("only the ids of bind mounts can be mapped (idmap, uidMappings)"));
    }
    match kind {
        "" | "none" => Err(Error::invalid("neither a type nor bind among the options")),
        "cgroup" | "cgroup2" => Ok(What::Cgroup),
        _ => Ok(What::New { kind: kind.to_owned(), source, data: options.data.clone() }),
    }
}

/// By what ids a bind mount is mapped. Its own lists count; without them the container's.
fn mapped(mount: &OciMount, options: &Options) -> Result<Option<Mapped>> {
    let uids = mount.uid_mappings().as_ref().filter(|list| !list.is_empty());
    let gids = mount.gid_mappings().as_ref().filter(|list| !list.is_empty());
    if uids.is_none() && gids.is_none() {
        let mapped = |idmap| Mapped { ids: None, recursive: idmap == Idmap::Recursive, lenient: false };
        return Ok(options.idmap.map(mapped));
    }
    let ids = Some(IdMaps::of(uids, gids, "")?);
    Ok(Some(Mapped { ids, recursive: options.idmap == Some(Idmap::Recursive), lenient: false }))
}

/// What is to be changed after the mount exists; for a new file system its attributes are given when it is made.
fn changes(options: &Options, is_bind: bool) -> Vec<Change> {
    let changes = options.changes();
    if is_bind {
        return changes;
    }
    changes.into_iter().filter(|change| change.propagation.is_some()).collect()
}

/// What is at /proc is trusted by programs and by us: it is procfs, or a bind that says so by being asked for there.
fn require_trusted_proc(destination: &str, kind: &str) -> Result<()> {
    let parts: Vec<&str> = destination.split('/').filter(|part| !part.is_empty()).collect();
    if parts == ["proc"] && kind != "proc" {
        return Err(Error::forbidden("only a proc file system may be mounted at /proc"));
    }
    if parts.is_empty() {
        return Err(Error::invalid("the root itself cannot be mounted over"));
    }
    Ok(())
}

/// A path inside the container: absolute, plain text.
pub(crate) fn inside(path: &str, field: &str) -> Result<String> {
    if !path.starts_with('/') || path.contains('\0') {
        return Err(Error::invalid(format!("{field}: {path:?} is not an absolute path")));
    }
    Ok(path.to_owned())
}

fn text(path: &Path, field: &str) -> Result<String> {
    let text = path.to_str().ok_or_else(|| Error::invalid(format!("{field} {path:?} is not UTF-8")))?;
    if text.contains('\0') {
        return Err(Error::invalid(format!("{field} {text:?} contains NUL")));
    }
    Ok(text.to_owned())
}

/// The init program, read-only.
pub(crate) fn init_source() -> Source {
    let set = Attributes::RDONLY.with(Attributes::NOSUID).with(Attributes::NODEV);
    let changes = vec![Change { set, ..Change::default() }];
    let destination = tare_model::sandbox::INIT_PATH.to_owned();
    Source { what: What::Init, destination, attributes: Attributes::NONE, changes }
}

/// How host mounts reach us while we set up: not at all, unless a mount of the container wants news from there.
pub(crate) fn host_propagation(spec: &Spec, mounts: &[Mount]) -> Result<Propagation> {
    let wants =
        |change: &Change| matches!(change.propagation, Some(Propagation::Slave | Propagation::Shared));
    if mounts.iter().any(|mount| mount.source.changes.iter().any(wants)) {
        return Ok(match root_propagation(spec)? {
            // Whoever shares mounts back to the host must stay in the host's peer groups.
            Some(Propagation::Shared) => Propagation::Shared,
            _ => Propagation::Slave,
        });
    }
    Ok(Propagation::Private)
}

/// Whether mounts made inside are to show on the host.
pub(crate) fn share_back(spec: &Spec, mounts: &[Mount]) -> Result<bool> {
    let shared = |change: &Change| change.propagation == Some(Propagation::Shared);
    let root = root_propagation(spec)? == Some(Propagation::Shared);
    Ok(root || mounts.iter().any(|mount| mount.source.changes.iter().any(shared)))
}

/// Whether mounts cover or protect something of the host's: a bind that may do less than the host's own, or that has others
/// below it, of the host's or of ours; a root that is more than layers. Single files of the engine's do not count.
pub(crate) fn show_host(spec: &SandboxSpec, mounts: &[Mount]) -> bool {
    let binds = || {
        mounts.iter().filter_map(|mount| match &mount.source.what {
            What::Bind { recursive, .. } => Some((mount, *recursive)),
            _ => None,
        })
    };
    let below = |place: &str| {
        let place = format!("{}/", place.trim_end_matches('/'));
        mounts.iter().any(|other| other.place.destination.starts_with(&place))
    };
    let restricts = |mount: &Mount| mount.source.changes.iter().any(|change| change.set != Attributes::NONE);
    !matches!(spec.rootfs, Rootfs::Overlay { .. })
        || binds().any(|(mount, recursive)| recursive || restricts(mount) || below(&mount.place.destination))
}

/// `linux.rootfsPropagation`.
pub(crate) fn root_propagation(spec: &Spec) -> Result<Option<Propagation>> {
    let asked = spec.linux().as_ref().and_then(|linux| linux.rootfs_propagation().as_deref());
    Ok(match asked.unwrap_or_default() {
        "" => None,
        "private" | "rprivate" => Some(Propagation::Private),
        "slave" | "rslave" => Some(Propagation::Slave),
        "shared" | "rshared" => Some(Propagation::Shared),
        "unbindable" | "runbindable" => Some(Propagation::Unbindable),
        other => return Err(Error::invalid(format!("linux.rootfsPropagation: {other:?}"))),
    })
}

/// Whether /dev is the container's own to fill: anything but a bind of somebody else's.
pub(crate) fn has_own_dev(mounts: &[Mount]) -> bool {
    let at_dev = |mount: &&Mount| mount.place.destination.trim_end_matches('/') == "/dev";
    mounts.iter().rev().find(at_dev).is_none_or(|mount| !matches!(mount.source.what, What::Bind { .. }))
}

/// The nodes every container has, then those asked for.
pub(crate) fn devices(spec: &Spec) -> Result<Vec<Device>> {
    let mut all: Vec<Device> = DEVICES
        .into_iter()
        .map(|(name, major, minor)| Device {
            path: format!("/dev/{name}"),
            kind: DeviceKind::Character,
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect();
    let asked = spec.linux().as_ref().and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
    for device in asked.iter().map(device) {
        let device = device?;
        // A node asked for in the place of a usual one replaces it.
        all.retain(|other| other.path != device.path);
        all.push(device);
    }
    Ok(all)
}

fn device(asked: &LinuxDevice) -> Result<Device> {
    let path = inside(&text(asked.path(), "linux.devices: path")?, "linux.devices: path")?;
    let kind = match asked.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Character,
        LinuxDeviceType::B => DeviceKind::Block,
        LinuxDeviceType::P => DeviceKind::Pipe,
        LinuxDeviceType::A => {
            return Err(Error::invalid(format!(
                "linux.devices: {path}: type \"a\" is for cgroup rules only"
            )));
        }
    };
    let number = |value: i64| {
        // Pipes have no numbers; specifications then leave them out or write -1.
        if kind == DeviceKind::Pipe { Ok(0) } else { u32::try_from(value) }
    };
    let wrong = |_| Error::invalid(format!("linux.devices: {path}: device numbers out of range"));
    Ok(Device {
        kind,
        major: number(asked.major()).map_err(wrong)?,
        minor: number(asked.minor()).map_err(wrong)?,
        mode: asked.file_mode().unwrap_or(0o666) & 0o7777,
        uid: asked.uid().unwrap_or(0),
        gid: asked.gid().unwrap_or(0),
        path: path.clone(),
    })
}
