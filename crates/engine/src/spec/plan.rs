//! The plan: one function that puts the parts together.

use std::path::Path;

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    BoxBuilder, Linux, LinuxBuilder, LinuxResources, Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder,
    UserBuilder,
};
use tare_model::container::{ContainerConfig, HostOrPrivate};
use tare_model::sandbox::{DiskIds, Identity, SandboxSpec};
use tare_model::{Error, Result};

use super::host::HostFacts;
use super::input::Input;
use super::{devices, files, limits, merge, mounts, namespaces, security, sysctl, userns};

/// Checks everything that can be checked before a container exists and fills in what follows from other settings.
/// Returns the warnings.
///
/// # Errors
/// `InvalidInput`, naming the setting.
pub(crate) fn check(config: &mut ContainerConfig, host: &HostFacts) -> Result<Vec<String>> {
    if let Some(rootless) = &host.rootless {
        rootless.check(config)?;
    }
    let mut warnings = limits::check(&mut config.resources, host)?;
    limits::rlimits(config, host)?;
    mounts::check(&config.mounts)?;
    devices::check(&config.devices)?;
    files::check(config)?;
    sysctl::sysctls(&config.sysctls, &config.namespaces, "")?;
    let caps = security::capability_set(&config.security, host)?;
    security::filter(&config.security, caps, host, false)?;
    security::check_apparmor(&config.security, host)?;
    for group in &config.group_add {
        if group.is_empty() || group.chars().any(char::is_control) {
            return Err(Error::invalid(format!("invalid group {group:?} in group-add")));
        }
    }
    for cap in security::missing_capabilities(&config.security, host) {
        warnings.push(format!("{cap} was asked for, but the engine does not have it itself; it is left out"));
    }
    Ok(warnings)
}

/// The specification of one container.
///
/// # Errors
/// `InvalidInput` for settings that [`check`] would have refused; `Conflict` when a container to join does not run.
pub(crate) fn plan(input: &Input<'_>) -> Result<SandboxSpec> {
    let config = input.config;
    let caps = security::capability_set(&config.security, input.host)?;
    let thirty_two_bit = input.process.thirty_two_bit;
    let (seccomp, profile) = security::filter(&config.security, caps, input.host, thirty_two_bit)?;
    let mut linux = linux(input)?;
    linux.set_seccomp(profile);
    let spec = SpecBuilder::default()
        .version("1.2.0")
        .root(built(RootBuilder::default().path("rootfs").readonly(config.readonly_rootfs).build())?)
        .mounts(mounts::mounts(input)?)
        .process(process(input, security::capabilities(caps)?)?)
        .annotations(config.annotations.clone().into_iter().collect::<std::collections::HashMap<_, _>>())
        .linux(linux);
    let mut spec: Spec = built(spec.build())?;
    let own_name = config.namespaces.uts == HostOrPrivate::Private;
    spec.set_hostname(own_name.then(|| input.hostname.to_owned()));
    spec.set_domainname(Some(config.domainname.clone()).filter(|d| own_name && !d.is_empty()));
    Ok(SandboxSpec {
        id: input.id.clone(),
        oci: spec,
        rootfs: input.rootfs.clone(),
        identity: Some(Identity { user: input.process.user.clone(), groups: config.group_add.clone() }),
        seccomp,
        init: config.init,
        create_cwd: !input.process.working_dir.is_empty(),
        disk_ids: input.user_namespace.ids().map_or(DiskIds::Host, |_| DiskIds::Mapped),
    })
}

/// Where the container's cgroup is, below each hierarchy's mount point; empty if the engine may make none.
pub(crate) fn cgroups_path(config: &ContainerConfig, default_parent: &str, id: &str) -> String {
    let parent = match config.resources.cgroup_parent.as_str() {
        "" if default_parent.is_empty() => return String::new(),
        "" => default_parent,
        parent => parent,
    };
    mounts::clean(&format!("{parent}/{id}"))
}

fn process(input: &Input<'_>, capabilities: oci_spec::runtime::LinuxCapabilities) -> Result<Process> {
    let (config, merged) = (input.config, input.process);
    let cwd = if merged.working_dir.is_empty() { "/" } else { &merged.working_dir };
    let mut process = ProcessBuilder::default()
        .terminal(config.process.tty)
        .user(built(UserBuilder::default().build())?)
        .args(merged.args())
        .env(merge::environment(merged, input.hostname, config.process.tty))
        .cwd(Path::new(cwd))
        .capabilities(capabilities)
        .rlimits(limits::rlimits(config, input.host)?)
        .no_new_privileges(security::no_new_privileges(&config.security))
        .oom_score_adj(config.resources.oom_score_adj);
    if let Some(profile) = &config.security.apparmor {
        process = process.apparmor_profile(profile);
    }
    if let Some(labels) = input.labels {
        process = process.selinux_label(&labels.process);
    }
    if let (true, Some((rows, columns))) = (config.process.tty, config.process.console_size) {
        let size = BoxBuilder::default().height(u64::from(rows)).width(u64::from(columns));
        process = process.console_size(built(size.build())?);
    }
    built(process.build())
}

fn linux(input: &Input<'_>) -> Result<Linux> {
    let config = input.config;
    let resources = resources(input)?;
    let user = input.user_namespace;
    let ping_groups = userns::ping_groups(user);
    let linux = LinuxBuilder::default()
        .namespaces(namespaces::namespaces(&config.namespaces, &input.namespaces, user)?)
        .resources(resources)
        .devices(devices::nodes(input.devices)?)
        .sysctl(sysctl::sysctls(&config.sysctls, &config.namespaces, &ping_groups)?)
        .masked_paths(security::masked(&config.security, input.host))
        .readonly_paths(security::readonly(&config.security));
    let mut linux = built(linux.build())?;
    linux.set_mount_label(input.labels.map(|labels| labels.files.clone()));
    let path = cgroups_path(config, input.cgroup_parent, input.id.as_str());
    linux.set_cgroups_path(Some(path).filter(|path| !path.is_empty()).map(Into::into));
    if let Some((uids, gids)) = userns::mappings(user)? {
        linux.set_uid_mappings(Some(uids)).set_gid_mappings(Some(gids));
    }
    Ok(linux)
}

/// Limits and device rules. An ordinary user's engine was asked for none that it cannot keep; the usual ones that it cannot
/// are left out, and in its user namespace no device node can be made that a rule would have to forbid.
fn resources(input: &Input<'_>) -> Result<LinuxResources> {
    let config = input.config;
    let mut resources = limits::resources(&config.resources, limits::Absent::IsUsual, input.block_device)?;
    match &input.host.rootless {
        None => {
            let mut rules = devices::rules(input.devices, config.security.privileged)?;
            rules.extend(limits::device_rules(&config.resources)?);
            resources.set_devices(Some(rules));
        }
        Some(rootless) if rootless.cgroup.is_none() => resources = LinuxResources::default(),
        Some(rootless) if !rootless.has("pids") => {
            resources.set_pids(None);
        }
        Some(_) => {}
    }
    Ok(resources)
}

/// Builders only fail when a required field is missing, which the golden tests would show.
pub(crate) fn built<T>(result: Result<T, OciSpecError>) -> Result<T> {
    result.map_err(|e| Error::system(format!("OCI specification: {e}")))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
