//! What a start needs of the host: directories and files made, sources checked, devices and namespaces looked up.
//!
//! Nearly all of it is a handful of calls on memory file systems and warm directories, which take microseconds: they are
//! made where the driver runs, because handing them to another thread costs more. The sources of bind mounts are the user's
//! and may lie on a file system whose server is gone: those are looked at by a thread that may wait ([`bind_sources`]).

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tare_model::container::{
    ContainerConfig, DeviceConfig, IpcMode, LabelChoice, MountConfig, MountSource, NamespaceMode,
    NetworkMode, Relabel,
};
use tare_model::sandbox::SandboxSpec;
use tare_model::{Error, Result};

use super::container::Container;
use super::core::Core;
use crate::api::view::{Fixed, Labels, MountKind, Paths};
use crate::assets;
use crate::networks::{Attached, resolver};
use crate::selinux;
use crate::spec::files::ResolvConf;
use crate::spec::mounts::clean;
use crate::spec::{
    self, DeviceNode, GeneratedFiles, Input, ResolvedMount, ResolvedNamespaces, ResolvedSource, files,
    namespaces, tmpfs, userns,
};
use crate::work;

/// What `/dev` of the host has that a privileged container makes itself.
const OWN_DEV: &[&str] = &["pts", "shm", "fd", "mqueue", "console", ".lxc", ".lxd-mounts", ".udev"];

/// Prepares a start and plans it.
///
/// # Errors
/// What is missing on the host, or `Conflict` when a container to join does not run.
pub(super) fn sandbox(core: &Core, me: &Container, attached: Option<&Attached>) -> Result<SandboxSpec> {
    let fixed = &me.made.fixed;
    let config = &fixed.config;
    directories(&fixed.paths)?;
    // A power cut may have taken the directories of a container whose record was on the disk already.
    let rootfs = core.store.prepare(&me.id, &assets::source(&core.store, fixed)?, me.durability())?;
    let mounts = resolve_mounts(me, core)?;
    // An ordinary user's engine has no device to give.
    let all_devices = config.security.privileged && core.host.rootless.is_none();
    let devices = if all_devices { host_devices()? } else { devices(&config.devices)? };
    let input = Input {
        id: &me.id,
        config,
        process: &fixed.process,
        hostname: &fixed.hostname,
        rootfs,
        mounts: &mounts,
        devices: &devices,
        block_device,
        namespaces: resolve_namespaces(core, me)?,
        user_namespace: &fixed.user_namespace,
        labels: labels(core, fixed),
        files: generate(core, me, attached)?,
        cgroup_parent: &core.cgroup_parent,
        host: &core.host,
    };
    spec::plan(&input)
}

/// Its labels, if there is somebody to enforce them. A machine that was booted without SELinux runs what was to have the usual
/// ones; labels that were asked for are refused when they are applied.
fn labels<'a>(core: &Core, fixed: &'a Fixed) -> Option<&'a Labels> {
    let usual = fixed.config.security.label == LabelChoice::Default;
    fixed.labels.as_ref().filter(|_| core.host.selinux.is_some() || !usual)
}

/// The numbers by which the kernel knows a block device that a limit names.
///
/// # Errors
/// There is no such block device.
pub(super) fn block_device(path: &str) -> Result<(i64, i64)> {
    let meta = fs::metadata(path).map_err(|e| Error::invalid(format!("block device {path}: stat: {e}")))?;
    if !meta.file_type().is_block_device() {
        return Err(Error::invalid(format!("block device {path}: this is no block device")));
    }
    Ok((i64::from(rustix::fs::major(meta.rdev())), i64::from(rustix::fs::minor(meta.rdev()))))
}

fn directories(paths: &Paths) -> Result<()> {
    make_dir(&paths.run_dir, 0o700)?;
    // A record of an earlier run would be taken for this one's, should the engine be killed now.
    for old in [tare_shim::record::NAME, "shim.sock"] {
        match fs::remove_file(paths.run_dir.join(old)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(Error::system(format!("unlink({}/{old}): {e}", paths.run_dir.display())));
            }
            _ => {}
        }
    }
    if paths.log.as_os_str().is_empty() { Ok(()) } else { make_dir(&paths.log, 0o700) }
}

/// Makes a directory and its parents.
pub(super) fn make_dir(path: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|e| Error::system(format!("mkdir({}): {e}", path.display())))
}

fn generate(core: &Core, me: &Container, attached: Option<&Attached>) -> Result<GeneratedFiles> {
    let fixed = &me.made.fixed;
    let paths = &fixed.paths;
    if let NetworkMode::Container { container } = &fixed.config.namespaces.network {
        // Names and addresses are those of the network.
        let theirs = &core.table.get(container)?.view().fixed.paths;
        return Ok(GeneratedFiles {
            resolv_conf: theirs.resolv_conf.clone(),
            hosts: theirs.hosts.clone(),
            hostname: theirs.hostname.clone(),
        });
    }
    name_files(core, me, attached)?;
    Owner::of(core, me).write(&paths.hostname, &files::hostname(&fixed.hostname))?;
    Ok(GeneratedFiles {
        resolv_conf: paths.resolv_conf.clone(),
        hosts: paths.hosts.clone(),
        hostname: paths.hostname.clone(),
    })
}

/// Writes `/etc/hosts` and `/etc/resolv.conf`, in place where they are there: they are mounted.
pub(super) fn name_files(core: &Core, me: &Container, attached: Option<&Attached>) -> Result<()> {
    let fixed = &me.made.fixed;
    let paths = &fixed.paths;
    let own_network = namespaces::own_network(&fixed.config.namespaces);
    let addresses: Vec<_> = attached.into_iter().flat_map(Attached::addresses).collect();
    let owner = Owner::of(core, me);
    let resolv_conf = match attached.and_then(|attached| attached.resolver.as_ref()) {
        Some(resolver) => resolver::inside(resolver),
        None => {
            let read = attached.and_then(|attached| attached.host.clone());
            ResolvConf::direct(&fixed.config.dns, &read.unwrap_or_else(ResolvConf::of_host), own_network)
        }
    };
    owner.write(&paths.resolv_conf, &resolv_conf.text())?;
    let gateways = match fixed.config.namespaces.network {
        // There the host is itself.
        NetworkMode::Host => vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        _ => attached.map(|attached| core.networks.host_gateways(attached)).unwrap_or_default(),
    };
    owner.write(&paths.hosts, &files::hosts(&fixed.config, &fixed.hostname, &addresses, &gateways)?)
}

/// Whose the generated files are.
struct Owner {
    /// The container's root, on the host, if that is another than the host's.
    root: Option<u32>,
    /// The label of files that containers share: whoever joins the network has these, too.
    label: Option<String>,
}

// === impl Owner ===

impl Owner {
    fn of(core: &Core, me: &Container) -> Self {
        let fixed = &me.made.fixed;
        Self {
            root: fixed.user_namespace.ids().map(|ids| ids.range.first),
            label: spec::selinux::of_network_files(labels(core, fixed), core.host.selinux.as_ref()),
        }
    }

    /// The directory is closed to everyone but root, and the container has only the file, never its name. The file belongs to
    /// the container's root, so that no mapping is needed to have it written there.
    fn write(&self, path: &Path, text: &str) -> Result<()> {
        let failed = |e| Error::system(format!("write({}): {e}", path.display()));
        let mut file = fs::File::create(path).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        if let Some(label) = &self.label {
            selinux::label(file.as_fd(), label)?;
        }
        match self.root {
            None => Ok(()),
            Some(id) => std::os::unix::fs::fchown(&file, Some(id), Some(id))
                .map_err(|e| Error::system(format!("fchown({}, {id}, {id}): {e}", path.display()))),
        }
    }
}

fn resolve_mounts(me: &Container, core: &Core) -> Result<Vec<ResolvedMount>> {
    let mut all = Vec::new();
    for mount in &me.made.fixed.config.mounts {
        // Volumes are among the views, with the path that the store gave them.
        if !matches!(mount.source, MountSource::Volume { .. }) {
            all.push(resolve_mount(mount)?);
        }
    }
    for volume in me.made.fixed.mounts.iter().filter(|m| m.kind == MountKind::Volume) {
        let id = volume.volume.as_ref().ok_or_else(|| Error::system("a volume without an id"))?;
        all.push(ResolvedMount {
            target: clean(&volume.destination),
            source: ResolvedSource::Bind {
                path: core.store.volume_path(id),
                propagation: String::new(),
                recursive: true,
                readonly_non_recursive: false,
            },
            readonly: !volume.writable,
        });
    }
    Ok(all)
}

fn resolve_mount(mount: &MountConfig) -> Result<ResolvedMount> {
    let source = match &mount.source {
        MountSource::Bind { path, propagation, recursive, readonly_non_recursive, .. } => {
            ResolvedSource::Bind {
                path: PathBuf::from(path),
                propagation: propagation.clone(),
                recursive: *recursive,
                readonly_non_recursive: *readonly_non_recursive,
            }
        }
        MountSource::Tmpfs { size, mode, options } => {
            ResolvedSource::Tmpfs { options: tmpfs::options(*size, *mode, options, mount.readonly)? }
        }
        MountSource::Volume { .. } => return Err(Error::system("a volume is no mount of the host")),
    };
    Ok(ResolvedMount { target: clean(&mount.target), source, readonly: mount.readonly })
}

/// Looks at the sources of all bind mounts that the kernel does not know, by a thread that may wait for as long as their
/// file systems take. Without `create` those that would be made are left out.
///
/// # Errors
/// As [`bind_source`].
pub(super) async fn bind_sources(config: &ContainerConfig, create: bool) -> Result<()> {
    let source = |mount: &MountConfig| match &mount.source {
        MountSource::Bind { path, .. } if create || !mount.create_source => {
            Some((PathBuf::from(path), mount.create_source))
        }
        _ => None,
    };
    let sources: Vec<(PathBuf, bool)> =
        config.mounts.iter().filter_map(source).filter(|(path, _)| !is_known(path)).collect();
    if sources.is_empty() {
        return Ok(());
    }
    work::blocking(move || sources.iter().try_for_each(|(path, create)| bind_source(path, *create))).await
}

/// Makes sources of bind mounts that are missing, and labels those that are to be the container's in the eyes of SELinux.
///
/// # Errors
/// As [`bind_sources`], and as [`selinux::label_tree`].
pub(super) async fn ready_sources(core: &Core, fixed: &Fixed) -> Result<()> {
    bind_sources(&fixed.config, true).await?;
    let Some(labels) = labels(core, fixed) else { return Ok(()) };
    let source = |mount: &MountConfig| match &mount.source {
        MountSource::Bind { path, relabel: Relabel::Shared, .. } => {
            Some((path.clone(), labels.shared_files()))
        }
        MountSource::Bind { path, relabel: Relabel::Private, .. } => {
            Some((path.clone(), labels.files.clone()))
        }
        _ => None,
    };
    let all: Vec<(String, String)> = fixed.config.mounts.iter().filter_map(source).collect();
    if all.is_empty() {
        return Ok(());
    }
    work::blocking(move || {
        all.iter().try_for_each(|(path, label)| selinux::label_tree(Path::new(path), label))
    })
    .await
}

/// Whether the kernel knows without asking a file system that there is something at the path (Linux 5.12): no thread has to
/// wait then, which costs twenty times as much as the look.
fn is_known(path: &Path) -> bool {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
    openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::CACHED).is_ok()
}

/// The source of a bind mount must exist; for `-v` a missing one is made, as Docker does.
///
/// # Errors
/// `InvalidInput` in Docker's words.
fn bind_source(path: &Path, create: bool) -> Result<()> {
    match fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound && create => make_dir(path, 0o755),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Error::invalid(format!(
            "invalid mount config for type \"bind\": bind source path does not exist: {}",
            path.display()
        ))),
        Err(e) => Err(Error::invalid(format!(
            "invalid mount config for type \"bind\": stat({}): {e}",
            path.display()
        ))),
    }
}

fn resolve_namespaces(core: &Core, me: &Container) -> Result<ResolvedNamespaces> {
    let asked = &me.made.fixed.config.namespaces;
    let mut resolved = ResolvedNamespaces::default();
    if let NamespaceMode::Container { container } = &asked.pid {
        resolved.pid = Some(PathBuf::from(format!("/proc/{}/ns/pid", lender(core, container)?)));
    }
    if let IpcMode::Container { container } = &asked.ipc {
        let pid = lender(core, container)?;
        let mode = core.table.get(container)?.view().fixed.config.namespaces.ipc.clone();
        if mode != IpcMode::Shareable {
            return Err(Error::conflict(format!(
                "cannot join IPC of a non-shareable container {container}: create it with --ipc=shareable"
            )));
        }
        resolved.ipc = Some(PathBuf::from(format!("/proc/{pid}/ns/ipc")));
        // Its /dev/shm is a mount point of the engine's making, which a container without CAP_SYS_ADMIN cannot swap.
        resolved.shm = Some(PathBuf::from(format!("/proc/{pid}/root/dev/shm")));
    }
    if let NetworkMode::Container { container } = &asked.network {
        resolved.network = Some(PathBuf::from(format!("/proc/{}/ns/net", lender(core, container)?)));
    }
    resolved.user = lent_user_namespace(core, me)?;
    Ok(resolved)
}

/// The user namespace of the containers that lend others. The same ids were theirs when this one was created; meanwhile the
/// name may be another container's.
fn lent_user_namespace(core: &Core, me: &Container) -> Result<Option<PathBuf>> {
    let fixed = &me.made.fixed;
    let mut path = None;
    for (words, container) in userns::lenders(&fixed.config) {
        let pid = lender(core, container)?;
        let theirs = core.table.get(container)?.view().fixed.user_namespace.clone();
        let differs = theirs.is_host() != fixed.user_namespace.is_host();
        if differs || theirs.ids() != fixed.user_namespace.ids() {
            return Err(Error::conflict(format!(
                "{words}: that container has another user namespace than the one that was there when this container was \
                 created; create this one anew"
            )));
        }
        path = (!theirs.is_host()).then(|| PathBuf::from(format!("/proc/{pid}/ns/user")));
    }
    Ok(path)
}

fn lender(core: &Core, container: &str) -> Result<i32> {
    let view = core.table.get(container)?.view();
    let running =
        || Error::conflict(format!("cannot join namespace of a non running container: {container}"));
    view.state.pid.ok_or_else(running)
}

/// The devices a user asked for; a directory stands for all devices in it.
pub(super) fn devices(asked: &[DeviceConfig]) -> Result<Vec<DeviceNode>> {
    let mut nodes = Vec::new();
    for device in asked {
        let (host, inside) = (Path::new(&device.host_path), Path::new(&device.container_path));
        let gather = |e: io::Error| {
            Error::invalid(format!(
                "error gathering device information while adding custom device \"{}\": {e}",
                device.host_path
            ))
        };
        if fs::metadata(host).map_err(gather)?.is_dir() {
            walk(host, inside, &device.permissions, &mut nodes, 0).map_err(gather)?;
            continue;
        }
        let none = || gather(io::Error::other("not a device node"));
        nodes.push(node(host, inside, &device.permissions).map_err(gather)?.ok_or_else(none)?);
    }
    Ok(nodes)
}

/// Every device of the host, for a privileged container.
fn host_devices() -> Result<Vec<DeviceNode>> {
    let mut nodes = Vec::new();
    let dev = Path::new("/dev");
    walk(dev, dev, "rwm", &mut nodes, 0).map_err(|e| Error::system(format!("read /dev: {e}")))?;
    Ok(nodes)
}

fn walk(
    host: &Path,
    inside: &Path,
    access: &str,
    nodes: &mut Vec<DeviceNode>,
    depth: usize,
) -> io::Result<()> {
    for entry in fs::read_dir(host)? {
        let entry = entry?;
        let name = entry.file_name();
        let (host, inside) = (host.join(&name), inside.join(&name));
        let kind = entry.file_type()?;
        if depth == 0 && name.to_str().is_some_and(|n| OWN_DEV.contains(&n)) {
            continue;
        }
        if kind.is_dir() && depth < 8 {
            walk(&host, &inside, access, nodes, depth + 1)?;
        } else if kind.is_char_device() || kind.is_block_device() {
            nodes.extend(node(&host, &inside, access)?);
        }
    }
    Ok(())
}

fn node(host: &Path, inside: &Path, access: &str) -> io::Result<Option<DeviceNode>> {
    let meta = fs::metadata(host)?;
    let kind = meta.file_type();
    if !kind.is_char_device() && !kind.is_block_device() {
        return Ok(None);
    }
    Ok(Some(DeviceNode {
        path: clean(&inside.to_string_lossy()),
        block: kind.is_block_device(),
        major: i64::from(rustix::fs::major(meta.rdev())),
        minor: i64::from(rustix::fs::minor(meta.rdev())),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        access: access.to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "a measurement"]
    async fn cost_of_a_look_at_a_source() {
        let scratch = tempfile::tempdir().expect("scratch");
        let path = scratch.path().to_owned();
        let mut all = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..5000 {
            let begin = std::time::Instant::now();
            bind_source(&path, false).expect("there");
            all[0].push(begin.elapsed());
            let begin = std::time::Instant::now();
            let path = path.clone();
            tokio::spawn(async move { work::blocking(move || bind_source(&path, false)).await })
                .await
                .expect("runs")
                .expect("there");
            all[1].push(begin.elapsed());
            let begin = std::time::Instant::now();
            assert!(is_known(scratch.path()));
            all[2].push(begin.elapsed());
        }
        for times in &mut all {
            times.sort_unstable();
            println!("least {:?}, quarter {:?}, median {:?}", times[0], times[1250], times[2500]);
        }
    }

    #[test]
    fn only_what_is_there_is_known() {
        let scratch = tempfile::tempdir().expect("scratch");
        assert!(!is_known(&scratch.path().join("missing")));
    }

    fn device(path: &str) -> DeviceConfig {
        DeviceConfig { host_path: path.into(), container_path: path.into(), permissions: "rw".into() }
    }

    #[test]
    fn a_device_is_looked_up_on_the_host() {
        let nodes = devices(&[device("/dev/null")]).expect("there is one");
        assert_eq!((nodes[0].major, nodes[0].minor, nodes[0].block), (1, 3, false));
    }

    #[test]
    fn what_is_no_device_is_refused_by_name() {
        for bad in ["/dev/no-such-device", "/etc/passwd"] {
            let e = devices(&[device(bad)]).expect_err(bad);
            assert!(e.message().contains(bad), "{e}");
        }
    }

    #[test]
    fn a_missing_bind_source_is_made_for_v_and_refused_for_mount() {
        let scratch = tempfile::tempdir().expect("scratch");
        let missing = scratch.path().join("a/b");
        let e = bind_source(&missing, false).expect_err("missing");
        assert!(e.message().contains("bind source path does not exist"), "{e}");
        bind_source(&missing, true).expect("made");
        assert!(missing.is_dir());
    }
}
