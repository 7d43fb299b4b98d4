//! `Binds`, `Mounts`, `Tmpfs` and `Volumes`: four ways to ask for a mount, one list.

use std::collections::BTreeSet;

use tare_docker_api::models::{self, HostConfig, MountType};
use tare_model::container::{MountConfig, MountSource, Relabel};
use tare_model::{Error, Result};

use super::text::{absolute, bytes};

const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// Flags that a tmpfs takes besides `size` and `mode`.
const TMPFS_FLAGS: [&str; 19] = [
    "ro",
    "rw",
    "exec",
    "noexec",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "sync",
    "async",
    "dirsync",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
];
/// And settings with a value.
const TMPFS_SETTINGS: [&str; 5] = ["uid", "gid", "nr_inodes", "nr_blocks", "mpol"];

/// Container paths that get an anonymous volume.
pub(super) fn volumes(paths: Vec<String>) -> Result<BTreeSet<String>> {
    paths.iter().map(|path| target("Volumes", path)).collect()
}

/// All mounts in the order Docker makes them: binds, mounts, tmpfs. No two may have the same target.
pub(super) fn mounts(host: &HostConfig) -> Result<Vec<MountConfig>> {
    let mut mounts = Vec::new();
    for text in host.binds.iter().flatten() {
        mounts.push(bind(text)?);
    }
    for (i, wire) in host.mounts.iter().flatten().enumerate() {
        mounts.push(mount(i, wire)?);
    }
    let mut tmpfs: Vec<_> = host.tmpfs.iter().flatten().collect();
    tmpfs.sort();
    for (path, options) in tmpfs {
        mounts.push(tmpfs_option(path, options)?);
    }
    let mut seen = BTreeSet::new();
    match mounts.iter().find(|m| !seen.insert(m.target.clone())) {
        Some(twice) => Err(Error::invalid(format!("Duplicate mount point: {}", twice.target))),
        None => Ok(mounts),
    }
}

/// A path in the container on which something can be mounted.
fn target(field: &str, path: &str) -> Result<String> {
    match absolute(field, path)?.as_str() {
        "/" => Err(Error::invalid(format!("invalid {field}: destination can't be '/'"))),
        clean => Ok(clean.to_owned()),
    }
}

/// `source:target[:options]`, or a target alone for an anonymous volume.
pub(crate) fn bind(text: &str) -> Result<MountConfig> {
    let bad = |why: &str| Error::invalid(format!("invalid volume specification: '{text}' ({why})"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, path, options) = match parts.as_slice() {
        [path] => ("", *path, ""),
        [source, path] => (*source, *path, ""),
        [source, path, options] => (*source, *path, *options),
        _ => return Err(bad("want source:target[:options]")),
    };
    if parts.len() > 1 && source.is_empty() {
        return Err(bad("empty source"));
    }
    let path = target("HostConfig.Binds", path).map_err(|e| bad(e.message()))?;
    let options = BindOptions::parse(options).map_err(|e| bad(&e))?;
    let source = match source {
        "" => MountSource::Volume { id: None, no_copy: options.no_copy },
        absolute_path if absolute_path.starts_with('/') => MountSource::Bind {
            path: absolute("HostConfig.Binds", absolute_path)?,
            propagation: options.propagation,
            recursive: true,
            readonly_non_recursive: false,
            relabel: options.relabel,
        },
        name => {
            return Err(Error::unsupported(format!(
                "HostConfig.Binds = {text:?}: named volumes ({name:?}) are not supported yet; use an absolute host path"
            )));
        }
    };
    Ok(MountConfig { target: path, source, readonly: options.readonly, create_source: true })
}

/// The third part of a bind.
#[derive(Default)]
struct BindOptions {
    readonly: bool,
    no_copy: bool,
    propagation: String,
    relabel: Relabel,
}

impl BindOptions {
    fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        let mut groups = BTreeSet::new();
        for word in text.split(',').filter(|_| !text.is_empty()) {
            let group = match word {
                "ro" | "rw" => "access",
                "z" | "Z" => "label",
                "nocopy" => "copy",
                "consistent" | "cached" | "delegated" | "default" => "consistency",
                word if PROPAGATIONS.contains(&word) => "propagation",
                _ => return Err(format!("invalid mode: {word}")),
            };
            if !groups.insert(group) {
                return Err(format!("invalid mode: {text} has two words for {group}"));
            }
            match group {
                "access" => options.readonly = word == "ro",
                "copy" => options.no_copy = true,
                "propagation" => options.propagation = word.to_owned(),
                "label" => options.relabel = if word == "z" { Relabel::Shared } else { Relabel::Private },
                // Consistency has no meaning here; clients of all platforms send it.
                _ => {}
            }
        }
        Ok(options)
    }
}

/// One entry of `Mounts`.
fn mount(index: usize, wire: &models::Mount) -> Result<MountConfig> {
    let field = |name: &str| format!("HostConfig.Mounts[{index}].{name}");
    let readonly = wire.read_only.unwrap_or_default();
    let source = wire.source.as_deref().unwrap_or("");
    let path = target(&field("Target"), wire.target.as_deref().unwrap_or(""))?;
    foreign_options(wire, &field)?;
    let (source, create_source) = match wire.typ {
        Some(MountType::BIND) => bind_mount(source, wire, &field)?,
        Some(MountType::VOLUME) => (volume_mount(source, wire, &field)?, false),
        Some(MountType::TMPFS) => (tmpfs_mount(source, wire, &field)?, false),
        Some(other) => {
            return Err(Error::unsupported(format!("{} = {other:?} is not supported", field("Type"))));
        }
        None => {
            return Err(Error::invalid(format!("{} is missing: want bind, tmpfs or volume", field("Type"))));
        }
    };
    Ok(MountConfig { target: path, source, readonly, create_source })
}

/// Options of another type than the mount's are a mistake of the caller's.
fn foreign_options(wire: &models::Mount, field: &impl Fn(&str) -> String) -> Result<()> {
    let given = [
        ("BindOptions", MountType::BIND, wire.bind_options.is_some()),
        ("VolumeOptions", MountType::VOLUME, wire.volume_options.is_some()),
        ("TmpfsOptions", MountType::TMPFS, wire.tmpfs_options.is_some()),
        ("ImageOptions", MountType::IMAGE, wire.image_options.is_some()),
    ];
    match given.iter().find(|(_, typ, present)| *present && wire.typ != Some(*typ)) {
        Some((name, ..)) => {
            Err(Error::invalid(format!("{} does not belong to a mount of this type", field(name))))
        }
        None => Ok(()),
    }
}

fn bind_mount(
    source: &str,
    wire: &models::Mount,
    field: &impl Fn(&str) -> String,
) -> Result<(MountSource, bool)> {
    let options = wire.bind_options.clone().unwrap_or_default();
    read_only_options(wire.read_only.unwrap_or_default(), &options, field)?;
    let source = MountSource::Bind {
        path: absolute(&field("Source"), source)?,
        propagation: options.propagation.map(|p| p.to_string()).unwrap_or_default(),
        recursive: !options.non_recursive.unwrap_or_default(),
        // A read-only mount is read-only throughout, which is also what ReadOnlyForceRecursive asks for.
        readonly_non_recursive: options.read_only_non_recursive.unwrap_or_default(),
        relabel: Relabel::No,
    };
    Ok((source, options.create_mountpoint.unwrap_or_default()))
}

/// How far being read-only reaches can be asked for where something is read-only, and in one way.
fn read_only_options(
    readonly: bool,
    options: &models::MountBindOptions,
    field: &impl Fn(&str) -> String,
) -> Result<()> {
    let top = options.read_only_non_recursive.unwrap_or_default();
    let all = options.read_only_force_recursive.unwrap_or_default();
    match (top, all) {
        (true, true) => Err(Error::invalid(format!(
            "{}: ReadOnlyNonRecursive and ReadOnlyForceRecursive contradict each other",
            field("BindOptions")
        ))),
        (true, false) | (false, true) if !readonly => {
            let name = if top { "ReadOnlyNonRecursive" } else { "ReadOnlyForceRecursive" };
            Err(Error::invalid(format!("{} needs ReadOnly as well", field(&format!("BindOptions.{name}")))))
        }
        _ => Ok(()),
    }
}

fn volume_mount(source: &str, wire: &models::Mount, field: &impl Fn(&str) -> String) -> Result<MountSource> {
    if !source.is_empty() {
        return Err(Error::unsupported(format!(
            "{} = {source:?}: named volumes are not supported yet; use type bind, or no source",
            field("Source")
        )));
    }
    let options = wire.volume_options.clone().unwrap_or_default();
    let unsupported = [
        ("VolumeOptions.Labels", options.labels.is_some_and(|l| !l.is_empty())),
        ("VolumeOptions.Subpath", options.subpath.is_some_and(|s| !s.is_empty())),
        (
            "VolumeOptions.DriverConfig",
            options.driver_config.is_some_and(|d| {
                d.options.is_some_and(|o| !o.is_empty())
                    || !matches!(d.name.as_deref(), None | Some("" | "local"))
            }),
        ),
    ];
    if let Some((name, _)) = unsupported.iter().find(|(_, given)| *given) {
        return Err(Error::unsupported(format!("{} is not supported yet", field(name))));
    }
    Ok(MountSource::Volume { id: None, no_copy: options.no_copy.unwrap_or_default() })
}

fn tmpfs_mount(source: &str, wire: &models::Mount, field: &impl Fn(&str) -> String) -> Result<MountSource> {
    if !source.is_empty() {
        return Err(Error::invalid(format!("{} must be empty for a tmpfs", field("Source"))));
    }
    let wire = wire.tmpfs_options.clone().unwrap_or_default();
    let negative = |_| Error::invalid(format!("{} may not be negative", field("TmpfsOptions")));
    let size = wire.size_bytes.filter(|n| *n != 0).map(u64::try_from).transpose().map_err(negative)?;
    let mode = wire.mode.filter(|n| *n != 0).map(u32::try_from).transpose().map_err(negative)?;
    let mut options = Vec::new();
    for words in wire.options.unwrap_or_default() {
        let text = words.join("=");
        check_tmpfs_option(&text)?;
        options.push(text);
    }
    Ok(MountSource::Tmpfs { size, mode, options })
}

/// One entry of `Tmpfs`: a path, and options separated by commas.
pub(crate) fn tmpfs_option(path: &str, text: &str) -> Result<MountConfig> {
    let (mut size, mut mode, mut readonly, mut options) = (None, None, false, Vec::new());
    for word in text.split(',').filter(|_| !text.is_empty()) {
        match word.split_once('=') {
            Some(("size", value)) => size = Some(bytes("tmpfs option size", value)?),
            Some(("mode", value)) => {
                let octal = u32::from_str_radix(value, 8).ok().filter(|m| *m <= 0o7777);
                let bad = || Error::invalid(format!("invalid tmpfs option mode: {value:?} is not octal"));
                mode = Some(octal.ok_or_else(bad)?);
            }
            _ => {
                check_tmpfs_option(word)?;
                match word {
                    "ro" => readonly = true,
                    "rw" => readonly = false,
                    word => options.push(word.to_owned()),
                }
            }
        }
    }
    let source = MountSource::Tmpfs { size, mode, options };
    Ok(MountConfig { target: target("HostConfig.Tmpfs", path)?, source, readonly, create_source: false })
}

fn check_tmpfs_option(text: &str) -> Result<()> {
    let known = match text.split_once('=') {
        Some((name, value)) => TMPFS_SETTINGS.contains(&name) && !value.is_empty() && !value.contains(','),
        None => TMPFS_FLAGS.contains(&text),
    };
    if known { Ok(()) } else { Err(Error::invalid(format!("invalid tmpfs option [{text:?}]"))) }
}
