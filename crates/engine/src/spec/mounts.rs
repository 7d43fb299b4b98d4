//! The list of mounts: kernel file systems, the engine's files, the user's mounts and volumes, in mount order.

use std::collections::BTreeSet;
use std::path::Path;

use oci_spec::runtime::{Mount, MountBuilder};
use tare_model::container::{IpcMode, MountConfig, MountSource};
use tare_model::{Error, Result};

use super::defaults;
use super::input::{Input, ResolvedMount, ResolvedSource};
use super::plan::built;

const PROPAGATIONS: &[&str] = &["private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// An absolute path with `.`, `..` and repeated slashes resolved as text; never above the root.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Checks what the user asked to mount, without looking at the host.
///
/// # Errors
/// `InvalidInput` in Docker's words.
pub(crate) fn check(mounts: &[MountConfig]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for mount in mounts {
        let target = &mount.target;
        if !target.starts_with('/') || target.contains('\0') {
            return Err(Error::invalid(format!(
                "invalid mount path: '{target}' mount path must be absolute"
            )));
        }
        let cleaned = clean(target);
        if cleaned == "/" {
            return Err(Error::invalid("invalid specification: destination can't be '/'"));
        }
        check_source(&mount.source)?;
        if !seen.insert(cleaned) {
            return Err(Error::invalid(format!("Duplicate mount point: {target}")));
        }
    }
    Ok(())
}

fn check_source(source: &MountSource) -> Result<()> {
    let MountSource::Bind { path, propagation, .. } = source else { return Ok(()) };
    if !path.starts_with('/') || path.contains('\0') {
        return Err(Error::invalid(format!("invalid mount source: '{path}' must be an absolute path")));
    }
    if !propagation.is_empty() && !PROPAGATIONS.contains(&propagation.as_str()) {
        return Err(Error::invalid(format!("invalid propagation mode: {propagation:?}")));
    }
    Ok(())
}

/// All mounts of a container, parents before children.
pub(crate) fn mounts(input: &Input<'_>) -> Result<Vec<Mount>> {
    let taken: BTreeSet<&str> = input.mounts.iter().map(|m| m.target.as_str()).collect();
    let hidden = |path: &str| taken.contains(path) || (path.starts_with("/dev/") && taken.contains("/dev"));
    let readonly_root = input.config.readonly_rootfs;
    let mut all = Vec::new();
    for &(path, typ, source, options) in defaults::MOUNTS.iter().filter(|m| !hidden(m.0)) {
        let mut options: Vec<String> = options.iter().map(|o| (*o).to_owned()).collect();
        if input.config.security.privileged {
            options.retain(|o| o != "ro");
        }
        all.push(mount(path, typ, Path::new(source), options)?);
    }
    if !hidden("/dev/shm") {
        all.extend(shm(input)?);
    }
    let files = &input.files;
    let generated = [
        ("/etc/resolv.conf", &files.resolv_conf),
        ("/etc/hostname", &files.hostname),
        ("/etc/hosts", &files.hosts),
    ];
    for (path, source) in generated.into_iter().filter(|(path, _)| !taken.contains(path)) {
        let mut options = vec!["bind".to_owned(), "rprivate".to_owned()];
        options.extend(readonly_root.then(|| "ro".to_owned()));
        all.push(mount(path, "bind", source, options)?);
    }
    let mapped = input.user_namespace.ids().is_some();
    for user in input.mounts {
        all.push(user_mount(user, mapped)?);
    }
    // Stable, so what was given first is mounted first among equals.
    all.sort_by_key(|m| m.destination().components().count());
    Ok(all)
}

fn shm(input: &Input<'_>) -> Result<Option<Mount>> {
    let bind = |source: &Path, options: &[&str]| {
        mount("/dev/shm", "bind", source, options.iter().map(|o| (*o).to_owned()).collect())
    };
    let mapped = input.user_namespace.ids().is_some();
    Ok(Some(match &input.config.namespaces.ipc {
        IpcMode::None => return Ok(None),
        IpcMode::Host if mapped => bind(Path::new("/dev/shm"), &["rbind", "rprivate", "ridmap"])?,
        IpcMode::Host => bind(Path::new("/dev/shm"), &["rbind", "rprivate"])?,
        // The same user namespace has made it: its ids are right.
        IpcMode::Container { .. } => match &input.namespaces.shm {
            Some(path) => bind(path, &["rbind", "rprivate"])?,
            None => return Ok(None),
        },
        IpcMode::Private | IpcMode::Shareable => {
            let size = input.config.shm_size.filter(|s| *s > 0).unwrap_or(defaults::SHM_SIZE);
            let mut options = ["nosuid", "noexec", "nodev", "mode=1777"].map(String::from).to_vec();
            options.push(format!("size={size}"));
            mount("/dev/shm", "tmpfs", Path::new("shm"), options)?
        }
    }))
}

/// On disk the ids of what the user mounts are those of the host, whatever they are elsewhere.
fn user_mount(user: &ResolvedMount, mapped: bool) -> Result<Mount> {
    match &user.source {
        ResolvedSource::Tmpfs { options } => {
            mount(&user.target, "tmpfs", Path::new("tmpfs"), options.clone())
        }
        ResolvedSource::Bind { path, propagation, recursive, readonly_non_recursive } => {
            let mut options = vec![if *recursive { "rbind" } else { "bind" }.to_owned()];
            options.push(if propagation.is_empty() { "rprivate".to_owned() } else { propagation.clone() });
            options.extend(mapped.then(|| if *recursive { "ridmap" } else { "idmap" }.to_owned()));
            if user.readonly {
                options.push("ro".to_owned());
                options.extend((*recursive && !readonly_non_recursive).then(|| "rro".to_owned()));
            }
            mount(&user.target, "bind", path, options)
        }
    }
}

fn mount(destination: &str, typ: &str, source: &Path, options: Vec<String>) -> Result<Mount> {
    built(MountBuilder::default().destination(destination).typ(typ).source(source).options(options).build())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tare_model::container::Relabel;

    use super::*;

    fn bind(target: &str, path: &str, propagation: &str) -> MountConfig {
        MountConfig {
            target: target.into(),
            source: MountSource::Bind {
                path: path.into(),
                propagation: propagation.into(),
                recursive: true,
                readonly_non_recursive: false,
                relabel: Relabel::No,
            },
            readonly: false,
            create_source: false,
        }
    }

    #[test]
    fn mounts_are_checked_in_dockers_words() {
        for (mounts, want) in [
            (vec![bind("rel", "/x", "")], "mount path must be absolute"),
            (vec![bind("/", "/x", "")], "destination can't be '/'"),
            (vec![bind("/a/..", "/x", "")], "destination can't be '/'"),
            (vec![bind("/a", "x", "")], "must be an absolute path"),
            (vec![bind("/a", "/x", "weird")], "invalid propagation"),
            (vec![bind("/a", "/x", ""), bind("/b/../a/", "/y", "")], "Duplicate mount point"),
        ] {
            let e = check(&mounts).expect_err(want);
            assert!(e.message().contains(want), "{e}");
        }
        assert!(check(&[bind("/a", "/x", "rslave"), bind("/a/b", "/y", "")]).is_ok());
    }

    proptest! {
        #[test]
        fn a_clean_path_is_absolute_and_climbs_nowhere(path in "[./ab]{0,24}") {
            let cleaned = clean(&path);
            prop_assert!(cleaned.starts_with('/'));
            prop_assert!(cleaned.split('/').all(|p| p != ".." && p != "."));
            prop_assert_eq!(clean(&cleaned), cleaned);
        }
    }
}
