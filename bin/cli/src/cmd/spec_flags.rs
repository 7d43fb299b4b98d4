//! The flags of `run` and `create`: ours, Docker's, and those of Docker's that are not there yet, with the reason.

use crate::flags::{Flag, integer, list, refused, refused_switch, switch, text};
use crate::options::{env, mount, network, port, resource, size};

const HEALTH: &str = "health checks come later";
const WINDOWS: &str = "it is for Windows";

/// Flags that `run` and `create` share, beside the [`LIMITS`].
pub(crate) const CONTAINER: &[Flag] = &[
    list("annotation", None, "Add an annotation to the container (passed through to the OCI runtime)")
        .valued("map"),
    list("add-host", None, "Add a custom host-to-IP mapping (host:ip)"),
    list("attach", Some('a'), "Attach to STDIN, STDOUT or STDERR").checked(check_attach),
    list("blkio-weight-device", None, "Block IO weight (relative device weight)")
        .checked(resource::check_device_weight),
    list("cap-add", None, "Add Linux capabilities"),
    list("cap-drop", None, "Drop Linux capabilities"),
    text("cgroup-parent", None, "string", "Optional parent cgroup for the container"),
    text("cgroupns", None, "string", "Cgroup namespace to use (host|private)"),
    text("cidfile", None, "string", "Write the container ID to the file"),
    list("device", None, "Add a host device to the container").checked(resource::check_device),
    list("device-cgroup-rule", None, "Add a rule to the cgroup allowed devices list")
        .checked(resource::check_device_rule),
    list("device-read-bps", None, "Limit read rate (bytes per second) from a device")
        .checked(resource::check_device_bytes),
    list("device-read-iops", None, "Limit read rate (IO per second) from a device")
        .checked(resource::check_device_operations),
    list("device-write-bps", None, "Limit write rate (bytes per second) to a device")
        .checked(resource::check_device_bytes),
    list("device-write-iops", None, "Limit write rate (IO per second) to a device")
        .checked(resource::check_device_operations),
    switch("disable-content-trust", None, "Skip image verification (there is none; default true)"),
    list("dns", None, "Set custom DNS servers"),
    list("dns-option", None, "Set DNS options"),
    list("dns-search", None, "Set custom DNS search domains"),
    text("domainname", None, "string", "Container NIS domain name"),
    text("entrypoint", None, "string", "Overwrite the default ENTRYPOINT of the image"),
    list("env", Some('e'), "Set environment variables").checked(env::check_variable),
    list("env-file", None, "Read in a file of environment variables"),
    list("expose", None, "Expose a port or a range of ports").checked(port::check_expose),
    list("group-add", None, "Add additional groups to join"),
    text("hostname", Some('h'), "string", "Container host name"),
    switch("init", None, "Run an init inside the container that forwards signals and reaps processes"),
    switch("interactive", Some('i'), "Keep STDIN open even if not attached"),
    text("ip", None, "ip", "IPv4 address (e.g., 172.30.100.104)"),
    text("ip6", None, "ip", "IPv6 address (e.g., 2001:db8::33)"),
    text("ipc", None, "string", "IPC mode to use"),
    text("isolation", None, "string", "Container isolation technology (default)").checked(check_isolation),
    list("label", Some('l'), "Set meta data on a container").checked(env::check_label),
    list("label-file", None, "Read in a line delimited file of labels"),
    list("link", None, "Add link to another container"),
    list("link-local-ip", None, "Container IPv4/IPv6 link-local addresses").valued("ip"),
    text("log-driver", None, "string", "Logging driver for the container (local, json-file, none)"),
    list("log-opt", None, "Log driver options"),
    text("mac-address", None, "mac-address", "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    text("memory-swappiness", None, "int", "Tune container memory swappiness (0 to 100)").checked(integer),
    list("mount", None, "Attach a filesystem mount to the container")
        .valued("mount")
        .checked(mount::check_mount),
    text("name", None, "string", "Assign a name to the container"),
    list("network", None, "Connect a container to a network").valued("network").checked(network::check),
    list("net", None, "Same as --network").valued("network").checked(network::check),
    list("network-alias", None, "Add network-scoped alias for the container"),
    list("net-alias", None, "Same as --network-alias"),
    switch("no-healthcheck", None, "Disable any container-specified HEALTHCHECK"),
    switch("oom-kill-disable", None, "Disable OOM Killer"),
    text("oom-score-adj", None, "int", "Tune host's OOM preferences (-1000 to 1000)").checked(integer),
    text("pid", None, "string", "PID namespace to use"),
    switch("privileged", None, "Give extended privileges to this container"),
    text(
        "pull",
        None,
        "string",
        "Pull image before running (\"missing\", \"never\"; there is no registry yet)",
    )
    .checked(check_pull),
    list("publish", Some('p'), "Publish a container's port(s) to the host").checked(port::check_publish),
    switch("publish-all", Some('P'), "Publish all exposed ports to random ports"),
    switch("quiet", Some('q'), "Suppress the pull output"),
    switch("read-only", None, "Mount the container's root filesystem as read only"),
    switch(
        "rm",
        None,
        "Automatically remove the container and its associated anonymous volumes when it exits",
    ),
    text(
        "rootfs",
        None,
        "dir[:rw]",
        "Run this directory instead of an image, under a private writable layer or, with :rw, itself",
    ),
    list("security-opt", None, "Security Options"),
    text("shm-size", None, "bytes", "Size of /dev/shm").checked(size::check_bytes),
    text("stop-signal", None, "string", "Signal to stop the container"),
    text("stop-timeout", None, "int", "Timeout (in seconds) to stop a container").checked(integer),
    list("sysctl", None, "Sysctl options").valued("map").checked(resource::check_sysctl),
    list("tmpfs", None, "Mount a tmpfs directory").checked(mount::check_tmpfs),
    switch("tty", Some('t'), "Allocate a pseudo-TTY"),
    list("ulimit", None, "Ulimit options").valued("ulimit").checked(resource::check_ulimit),
    text("user", Some('u'), "string", "Username or UID (format: <name|uid>[:<group|gid>])"),
    text("userns", None, "string", "User namespace to use (host: not one of its own)"),
    text("uts", None, "string", "UTS namespace to use"),
    list("volume", Some('v'), "Bind mount a volume"),
    text("workdir", Some('w'), "string", "Working directory inside the container"),
];

/// Flags of `run`, `create` and `update`: what can be changed while a container runs.
pub(crate) const LIMITS: &[Flag] = &[
    text("blkio-weight", None, "uint16", "Block IO (relative weight), between 10 and 1000, or 0 to disable")
        .checked(integer),
    text("cpu-period", None, "int", "Limit CPU CFS (Completely Fair Scheduler) period").checked(integer),
    text("cpu-quota", None, "int", "Limit CPU CFS (Completely Fair Scheduler) quota").checked(integer),
    text("cpu-rt-period", None, "int", "Limit CPU real-time period in microseconds").checked(integer),
    text("cpu-rt-runtime", None, "int", "Limit CPU real-time runtime in microseconds").checked(integer),
    text("cpu-shares", Some('c'), "int", "CPU shares (relative weight)").checked(integer),
    text("cpus", None, "decimal", "Number of CPUs").checked(size::check_cpus),
    text("cpuset-cpus", None, "string", "CPUs in which to allow execution (0-3, 0,1)"),
    text("cpuset-mems", None, "string", "MEMs in which to allow execution (0-3, 0,1)"),
    text("kernel-memory", None, "bytes", "Kernel memory limit (Linux no longer has it; ignored)")
        .checked(size::check_bytes),
    text("memory", Some('m'), "bytes", "Memory limit").checked(size::check_bytes),
    text("memory-reservation", None, "bytes", "Memory soft limit").checked(size::check_bytes),
    text("memory-swap", None, "bytes", "Swap limit equal to memory plus swap: '-1' to enable unlimited swap")
        .checked(size::check_bytes_or_unlimited),
    text(
        "network-rate",
        None,
        "in=RATE,out=RATE",
        "Limit the network's speed (10mbit, 5MB per second), burst=BYTES too",
    )
    .checked(resource::check_network_rate),
    text("network-share", None, "int", "Share of a network's own rate (relative weight, 1 to 10000)")
        .checked(integer),
    text("pids-limit", None, "int", "Tune container pids limit (set -1 for unlimited)").checked(integer),
    text("restart", None, "string", "Restart policy to apply when a container exits")
        .checked(resource::check_restart),
];

/// Flags that `run` alone has.
pub(crate) const RUN: &[Flag] = &[
    switch("detach", Some('d'), "Run container in background and print container ID"),
    text("detach-keys", None, "string", "Override the key sequence for detaching a container")
        .checked(crate::options::keys::check),
    switch("sig-proxy", None, "Proxy received signals to the process (default true)"),
];

/// Docker's flags that are refused by name.
pub(crate) const REFUSED: &[Flag] = &[
    refused("cpu-count", None, WINDOWS),
    refused("cpu-percent", None, WINDOWS),
    refused("gpus", None, "pass the device nodes with --device"),
    refused("health-cmd", None, HEALTH),
    refused("health-interval", None, HEALTH),
    refused("health-retries", None, HEALTH),
    refused("health-start-interval", None, HEALTH),
    refused("health-start-period", None, HEALTH),
    refused("health-timeout", None, HEALTH),
    refused("io-maxbandwidth", None, WINDOWS),
    refused("io-maxiops", None, WINDOWS),
    refused("platform", None, "images run on this machine's platform only"),
    refused("runtime", None, "tare is the runtime"),
    refused("storage-opt", None, "there are no storage drivers to choose from"),
    refused_switch("use-api-socket", None, "mount the socket with --volume if you mean it"),
    refused("volume-driver", None, "volumes come later; use a bind mount"),
    refused("volumes-from", None, "volumes come later; use a bind mount"),
];

fn check_attach(text: &str) -> Result<(), String> {
    match text.to_lowercase().as_str() {
        "stdin" | "stdout" | "stderr" => Ok(()),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".to_owned()),
    }
}

fn check_pull(text: &str) -> Result<(), String> {
    match text {
        "missing" | "never" => Ok(()),
        "always" => Err("pulling is not supported yet: use `tare load` or `tare import`".to_owned()),
        _ => {
            Err(format!("invalid pull option: '{text}': must be one of \"always\", \"missing\" or \"never\""))
        }
    }
}

fn check_isolation(text: &str) -> Result<(), String> {
    match text {
        "" | "default" => Ok(()),
        _ => Err(format!("the only isolation there is is \"default\": {WINDOWS}")),
    }
}
