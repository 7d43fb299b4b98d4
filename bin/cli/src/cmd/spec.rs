//! From parsed flags to the body of `POST /containers/create`: pure but for the files that flags name.

use crate::failure::plain;
use crate::flags::Given;
use crate::options::{Parsed, confine, env, mount, network, port, resource, size};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tare_docker_api::extension::{CreateExtension, CreateRequest, RootfsDirectory};
use tare_docker_api::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, NetworkingConfig,
};
use tare_model::reference::Reference;

/// Where relative paths and variables come from.
pub(crate) struct Surroundings<'a> {
    pub(crate) cwd: PathBuf,
    pub(crate) variable: env::Lookup<'a>,
    /// Rows and columns of the terminal, if there is one.
    pub(crate) window: Option<(u16, u16)>,
}

/// Which of our streams go to and come from the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attached {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

impl Attached {
    /// What `-a`, `-i` and `-d` amount to.
    pub(crate) fn from(given: &Given) -> Self {
        let asked = given.many("attach");
        let has = |name: &str| asked.iter().any(|a| a.eq_ignore_ascii_case(name));
        if given.on("detach") {
            return Self { stdin: false, stdout: false, stderr: false };
        }
        if asked.is_empty() {
            return Self { stdin: given.on("interactive"), stdout: true, stderr: true };
        }
        Self { stdin: has("stdin"), stdout: has("stdout"), stderr: has("stderr") }
    }

    /// Whether anything is attached at all.
    pub(crate) fn any(self) -> bool {
        self.stdin || self.stdout || self.stderr
    }
}

/// A create request. With `--rootfs` there is no image and all arguments are the command.
pub(crate) fn create_request(given: &Given, around: &Surroundings<'_>) -> Parsed<CreateRequest> {
    let rootfs = given.one("rootfs").map(|dir| rootfs(dir, around)).transpose()?;
    let (image, command) = match rootfs {
        Some(_) => (String::new(), given.args.clone()),
        None => image_and_command(given)?,
    };
    let attached = Attached::from(given);
    let interactive = given.on("interactive");
    let (mode, endpoints) = network::endpoints(given)?;
    let docker = ContainerCreateBody {
        hostname: given.some("hostname"),
        domainname: given.some("domainname"),
        user: given.some("user"),
        attach_stdin: Some(attached.stdin),
        attach_stdout: Some(attached.stdout),
        attach_stderr: Some(attached.stderr),
        tty: Some(given.on("tty")),
        open_stdin: Some(interactive),
        stdin_once: Some(interactive && attached.stdin),
        env: Some(variables(given, around)?),
        cmd: (!command.is_empty()).then_some(command),
        entrypoint: given.one("entrypoint").map(|e| vec![e.to_owned()]),
        image: Some(image),
        volumes: anonymous_volumes(given, &around.cwd)?,
        working_dir: given.some("workdir"),
        labels: Some(labels(given)?),
        stop_signal: given.some("stop-signal"),
        stop_timeout: given.number("stop-timeout"),
        healthcheck: given.on("no-healthcheck").then(no_health_check),
        exposed_ports: exposed(given)?,
        networking_config: (!endpoints.is_empty())
            .then_some(NetworkingConfig { endpoints_config: Some(endpoints) }),
        host_config: Some(HostConfig { network_mode: Some(mode), ..host_config(given, around)? }),
        ..ContainerCreateBody::default()
    };
    let ours = CreateExtension { rootfs, network: resource::network_limits(given)? };
    Ok(CreateRequest { docker, tare: (ours != CreateExtension::default()).then_some(ours) })
}

/// What says that the image's check is not wanted.
fn no_health_check() -> HealthConfig {
    HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }
}

/// `--rootfs DIR[:rw]`, as the daemon is told it.
fn rootfs(text: &str, around: &Surroundings<'_>) -> Parsed<RootfsDirectory> {
    let (dir, writable) = text.strip_suffix(":rw").map_or((text, false), |dir| (dir, true));
    let path = around.cwd.join(dir).canonicalize().map_err(|e| format!("--rootfs {dir}: {}", plain(&e)))?;
    if !path.is_dir() {
        return Err(format!("--rootfs {dir}: not a directory"));
    }
    let path = path.to_str().ok_or_else(|| format!("--rootfs {dir}: its path is not UTF-8"))?;
    Ok(RootfsDirectory { path: path.to_owned(), writable })
}

fn image_and_command(given: &Given) -> Parsed<(String, Vec<String>)> {
    let (image, command) = given.args.split_first().ok_or("an IMAGE is required")?;
    if image.is_empty() {
        return Err("invalid reference format: the image's name is empty".to_owned());
    }
    // A whole id is no reference, and is no mistake either.
    if !(image.len() == 64 && image.bytes().all(|b| b.is_ascii_hexdigit())) {
        image.parse::<Reference>().map_err(|e| e.message().to_owned())?;
    }
    Ok((image.clone(), command.to_vec()))
}

fn variables(given: &Given, around: &Surroundings<'_>) -> Parsed<Vec<String>> {
    let mut out = Vec::new();
    for path in given.many("env-file") {
        let lines = env::file(&read(&around.cwd, path)?, Some(around.variable));
        out.extend(lines.map_err(|e| format!("invalid env file ({path}): {e}"))?);
    }
    out.extend(given.many("env").into_iter().map(|v| env::variable(v, around.variable)));
    Ok(out)
}

fn labels(given: &Given) -> Parsed<HashMap<String, String>> {
    let mut out = HashMap::new();
    for path in given.many("label-file") {
        let lines = env::file(&read(Path::new(""), path)?, None);
        out.extend(
            lines.map_err(|e| format!("invalid label file ({path}): {e}"))?.iter().map(|l| env::pair(l)),
        );
    }
    out.extend(given.many("label").into_iter().map(env::pair));
    Ok(out)
}

fn read(cwd: &Path, path: &str) -> Parsed<Vec<u8>> {
    std::fs::read(cwd.join(path)).map_err(|e| format!("open {path}: {}", plain(&e)))
}

fn anonymous_volumes(given: &Given, cwd: &Path) -> Parsed<Option<Vec<String>>> {
    let mut out = Vec::new();
    for text in given.many("volume") {
        if let mount::Volume::Anonymous(path) = mount::volume(text, cwd)? {
            out.push(path);
        }
    }
    Ok((!out.is_empty()).then_some(out))
}

fn binds(given: &Given, cwd: &Path) -> Parsed<Option<Vec<String>>> {
    let mut out = Vec::new();
    for text in given.many("volume") {
        if let mount::Volume::Bind(bind) = mount::volume(text, cwd)? {
            out.push(bind);
        }
    }
    Ok((!out.is_empty()).then_some(out))
}

fn host_config(given: &Given, around: &Surroundings<'_>) -> Parsed<HostConfig> {
    if !given.on_or("disable-content-trust", true) {
        return Err(
            "--disable-content-trust=false: there is no content trust, images cannot be verified".to_owned()
        );
    }
    if given.on("rm") && given.one("restart").is_some_and(|policy| !matches!(policy, "" | "no")) {
        return Err("conflicting options: cannot specify both --restart and --rm".to_owned());
    }
    let mut host = HostConfig {
        annotations: map(given, "annotation"),
        extra_hosts: given.api_list("add-host"),
        cap_add: given.api_list("cap-add"),
        cap_drop: given.api_list("cap-drop"),
        dns: given.api_list("dns"),
        dns_options: given.api_list("dns-option"),
        dns_search: given.api_list("dns-search"),
        group_add: given.api_list("group-add"),
        init: given.one("init").map(|_| given.on("init")),
        privileged: Some(given.on("privileged")),
        readonly_rootfs: Some(given.on("read-only")),
        auto_remove: Some(given.on("rm")),
        oom_score_adj: given.number("oom-score-adj"),
        shm_size: bytes(given, "shm-size")?,
        sysctls: map(given, "sysctl"),
        tmpfs: tmpfs(given)?,
        binds: binds(given, &around.cwd)?,
        mounts: each(given, "mount", |m| mount::mount(m, &around.cwd))?,
        links: given.api_list("link"),
        port_bindings: Some(port::map(&given.many("publish"))?).filter(|map| !map.is_empty()),
        publish_all_ports: given.on("publish-all").then_some(true),
        restart_policy: resource::restart_policy(given)?,
        log_config: log_config(given),
        console_size: around.window.map(|(rows, columns)| vec![usize::from(rows), usize::from(columns)]),
        container_id_file: given.some("cidfile"),
        ..resource::limits(given)?
    };
    limits(given, &mut host)?;
    namespaces(given, &mut host)?;
    confine::security(&given.many("security-opt"), &mut host)?;
    Ok(host)
}

fn limits(given: &Given, host: &mut HostConfig) -> Parsed<()> {
    host.memory_swappiness = given.number("memory-swappiness");
    host.oom_kill_disable = given.on("oom-kill-disable").then_some(true);
    host.blkio_weight_device = each(given, "blkio-weight-device", resource::device_weight)?;
    host.blkio_device_read_bps = each(given, "device-read-bps", resource::device_bytes)?;
    host.blkio_device_write_bps = each(given, "device-write-bps", resource::device_bytes)?;
    host.blkio_device_read_iops = each(given, "device-read-iops", resource::device_operations)?;
    host.blkio_device_write_iops = each(given, "device-write-iops", resource::device_operations)?;
    host.ulimits = each(given, "ulimit", resource::ulimit)?;
    host.devices = each(given, "device", resource::device)?;
    host.device_cgroup_rules = given.api_list("device-cgroup-rule");
    host.cgroup_parent = given.some("cgroup-parent");
    Ok(())
}

fn namespaces(given: &Given, host: &mut HostConfig) -> Parsed<()> {
    confine::pid(given.one("pid").unwrap_or_default())?;
    confine::uts(given.one("uts").unwrap_or_default())?;
    confine::userns(given.one("userns").unwrap_or_default())?;
    confine::ipc(given.one("ipc").unwrap_or_default())?;
    host.pid_mode = given.some("pid");
    host.uts_mode = given.some("uts");
    host.userns_mode = given.some("userns");
    host.ipc_mode = given.some("ipc");
    host.cgroupns_mode = given.some("cgroupns").map(|mode| confine::cgroupns(&mode)).transpose()?;
    Ok(())
}

/// What `--expose` names, and what is published.
fn exposed(given: &Given) -> Parsed<Option<Vec<String>>> {
    let mut all = std::collections::BTreeSet::new();
    for text in given.many("expose") {
        all.extend(port::expose(text)?);
    }
    all.extend(port::map(&given.many("publish"))?.into_keys());
    Ok((!all.is_empty()).then(|| all.into_iter().collect()))
}

fn log_config(given: &Given) -> Option<HostConfigLogConfig> {
    let options = map(given, "log-opt");
    let driver = given.some("log-driver");
    (driver.is_some() || options.is_some()).then_some(HostConfigLogConfig { typ: driver, config: options })
}

fn tmpfs(given: &Given) -> Parsed<Option<HashMap<String, String>>> {
    Ok(each(given, "tmpfs", mount::tmpfs)?.map(|list| list.into_iter().collect()))
}

fn bytes(given: &Given, flag: &str) -> Parsed<Option<i64>> {
    given.one(flag).map(size::bytes).transpose()
}

fn map(given: &Given, flag: &str) -> Option<HashMap<String, String>> {
    let map: HashMap<String, String> = given.many(flag).into_iter().map(env::pair).collect();
    (!map.is_empty()).then_some(map)
}

fn each<T>(given: &Given, flag: &str, parse: impl Fn(&str) -> Parsed<T>) -> Parsed<Option<Vec<T>>> {
    let list = given.many(flag).into_iter().map(parse).collect::<Parsed<Vec<T>>>()?;
    Ok((!list.is_empty()).then_some(list))
}

#[cfg(test)]
mod tests;
