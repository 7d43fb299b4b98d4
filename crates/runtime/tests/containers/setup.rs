//! What tests need: a root file system, a specification, a container that is gone when the test is over.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::WaitIdOptions;
use serde_json::{Value, json};
use tare_model::sandbox::{
    ExecSpec, Launched, Rootfs, Running, Sandbox, SandboxSpec, Seccomp, Stdio, WindowSize,
};
use tare_model::{ContainerId, Error, Exit};
use tare_runtime::{Options, Runtime};

use crate::probe;

/// Everything one test makes. Dropping it leaves nothing behind.
pub(crate) struct Setup {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) oci: Value,
    pub(crate) spec: SandboxSpec,
    pub(crate) runtime: Runtime,
}

/// A running container of a test.
pub(crate) struct Started {
    pub(crate) running: Box<dyn Running>,
    pub(crate) launched: Launched,
    pub(crate) stdout: Option<OwnedFd>,
    cgroup: String,
}

/// What a finished process said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) exit: Exit,
    pub(crate) out: String,
}

/// Containers have user namespaces of their own, and their binds show the host's owners, unless a test says otherwise.
pub(crate) static MAPPED: AtomicBool = AtomicBool::new(false);

/// The first of the ids that tests give to user namespaces.
pub(crate) const FIRST_ID: u32 = 0x7ffc_0000;

/// Docker's fourteen.
pub(crate) const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

// === impl Setup ===

impl Setup {
    /// An ordinary container over a nearly empty directory `lower`, that will run the probe with these arguments.
    pub(crate) fn new(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in
            ["lower", "lower/etc", "lower/proc", "lower/dev", "lower/sys", "lower/tmp", "upper", "work"]
        {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        // A link costs nothing; across file systems it has to be a copy.
        let (own, inside) = (std::env::current_exe().unwrap(), dir.path().join("lower/probe"));
        if std::fs::hard_link(&own, &inside).is_err() {
            std::fs::copy(&own, &inside).unwrap();
        }
        let mut random = [0_u8; 32];
        rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::empty()).unwrap();
        let id = ContainerId::from_bytes(random);
        let rootfs = Rootfs::Overlay {
            lowers: vec![dir.path().join("lower")],
            upper: dir.path().join("upper"),
            work: dir.path().join("work"),
            volatile: false,
        };
        let oci = document(&id, args);
        let spec = SandboxSpec {
            id,
            oci: serde_json::from_value(oci.clone()).unwrap(),
            rootfs,
            identity: None,
            seccomp: Seccomp::Default,
            init: false,
            create_cwd: false,
            disk_ids: tare_model::sandbox::DiskIds::Host,
        };
        let runtime = Runtime::new(Options::default()).unwrap();
        let mut setup = Self { dir, oci, spec, runtime };
        if MAPPED.load(Ordering::Relaxed) {
            setup.mapped();
        }
        setup
    }

    /// As [`Setup::new`], in the host's user namespace whatever the suite is run in.
    pub(crate) fn unmapped(args: &[&str]) -> Self {
        let mut setup = Self::new(args);
        setup.spec.disk_ids = tare_model::sandbox::DiskIds::Host;
        let namespaces = setup.oci["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "user");
        setup.set("/linux/uidMappings", Value::Null).set("/linux/gidMappings", Value::Null);
        setup
    }

    /// Path below the lower layer.
    pub(crate) fn lower(&self, path: &str) -> PathBuf {
        self.dir.path().join("lower").join(path)
    }

    /// Path below the upper layer.
    pub(crate) fn upper(&self, path: &str) -> PathBuf {
        self.dir.path().join("upper").join(path)
    }

    /// Changes the specification: the value at `pointer`.
    pub(crate) fn set(&mut self, pointer: &str, value: Value) -> &mut Self {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        self.oci.pointer_mut(parent).unwrap()[key] = value;
        self
    }

    /// Adds a mount.
    pub(crate) fn mount(&mut self, mount: Value) -> &mut Self {
        self.oci["mounts"].as_array_mut().unwrap().push(mount);
        self
    }

    /// A user namespace of its own with 65,536 ids from [`FIRST_ID`] on; on disk everything is as without.
    pub(crate) fn mapped(&mut self) -> &mut Self {
        self.spec.disk_ids = tare_model::sandbox::DiskIds::Mapped;
        self.namespace(json!({"type": "user"})).ids(65536)
    }

    /// Adds a namespace.
    pub(crate) fn namespace(&mut self, namespace: Value) -> &mut Self {
        let kind = namespace["type"].clone();
        let all = self.oci["linux"]["namespaces"].as_array_mut().unwrap();
        all.retain(|other| other["type"] != kind);
        all.push(namespace);
        self
    }

    /// The ids of its user namespace.
    pub(crate) fn ids(&mut self, count: u32) -> &mut Self {
        let maps = json!([{"containerID": 0, "hostID": FIRST_ID, "size": count}]);
        self.set("/linux/uidMappings", maps.clone()).set("/linux/gidMappings", maps)
    }

    pub(crate) fn user(&mut self, user: &str) -> &mut Self {
        self.spec.identity =
            Some(tare_model::sandbox::Identity { user: user.to_owned(), groups: Vec::new() });
        self
    }

    /// Starts it.
    pub(crate) fn start(&mut self) -> Result<Started, Error> {
        let (stdio, stdout) = pipes();
        self.start_with(stdio, Some(stdout))
    }

    pub(crate) fn start_with(&mut self, stdio: Stdio, stdout: Option<OwnedFd>) -> Result<Started, Error> {
        self.plan();
        let (running, launched) = self.runtime.launch(&self.spec, stdio, None)?;
        let cgroup = self.oci["linux"]["cgroupsPath"].as_str().unwrap().to_owned();
        Ok(Started { running, launched, stdout, cgroup })
    }

    /// Makes the specification of what was set.
    pub(crate) fn plan(&mut self) {
        let mut oci = self.oci.clone();
        if MAPPED.load(Ordering::Relaxed) && self.spec.disk_ids == tare_model::sandbox::DiskIds::Mapped {
            map_binds(&mut oci);
        }
        self.spec.oci = serde_json::from_value(oci).unwrap();
    }

    /// Runs it to its end.
    pub(crate) fn run(&mut self) -> Result<Said, Error> {
        Ok(self.start()?.finish())
    }

    /// What it prints, having succeeded.
    pub(crate) fn output(&mut self) -> String {
        let said = self.run().unwrap_or_else(|error| panic!("launch: {error}"));
        assert_eq!(said.exit, Exit::Code(0), "{}", said.out);
        said.out
    }

    /// The error of a launch that must fail, after checking that nothing is left.
    pub(crate) fn refused(&mut self) -> Error {
        match self.run() {
            Ok(said) => panic!("it ran: {said:?}"),
            Err(error) => {
                nothing_left(self.oci["linux"]["cgroupsPath"].as_str().unwrap());
                error
            }
        }
    }
}

// === impl Started ===

impl Started {
    /// One that was launched by other means.
    pub(crate) fn of(running: Box<dyn Running>, launched: Launched, stdout: OwnedFd, setup: &Setup) -> Self {
        let cgroup = setup.oci["linux"]["cgroupsPath"].as_str().unwrap().to_owned();
        Self { running, launched, stdout: Some(stdout), cgroup }
    }

    /// Waits for the end, removes what is left, and gives what was said.
    pub(crate) fn finish(mut self) -> Said {
        let mut out = String::new();
        if let Some(stdout) = self.stdout.take() {
            std::fs::File::from(stdout).read_to_string(&mut out).unwrap();
        }
        let exit = wait(&self.launched);
        self.running.destroy().unwrap();
        nothing_left(&self.cgroup);
        Said { exit, out: out.trim_end().to_owned() }
    }

    /// Kills it first.
    pub(crate) fn kill(self) -> Said {
        let _ = self.running.signal(tare_model::Signal::KILL);
        self.finish()
    }

    /// Waits for a line of the output.
    pub(crate) fn line(&self) -> String {
        read_line(self.stdout.as_ref().unwrap())
    }

    /// Runs a further process to its end.
    pub(crate) fn exec(&mut self, exec: &ExecSpec) -> Result<Said, Error> {
        let (stdio, stdout) = pipes();
        let launched = self.running.exec(exec, stdio)?;
        let mut out = String::new();
        std::fs::File::from(stdout).read_to_string(&mut out).unwrap();
        Ok(Said { exit: wait(&launched), out: out.trim_end().to_owned() })
    }

    pub(crate) fn exec_probe(&mut self, args: &[&str]) -> Said {
        self.exec(&exec(args)).unwrap_or_else(|error| panic!("exec: {error}"))
    }
}

/// As the engine does.
fn map_binds(oci: &mut Value) {
    for mount in oci["mounts"].as_array_mut().into_iter().flatten() {
        let options = mount["options"].as_array_mut();
        match options {
            Some(options) if options.contains(&json!("rbind")) => options.push(json!("ridmap")),
            Some(options) if options.contains(&json!("bind")) => options.push(json!("idmap")),
            _ => {}
        }
    }
}

/// A line, read byte by byte so that nothing beyond it is taken.
pub(crate) fn read_line(file: &OwnedFd) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while rustix::io::read(file, &mut byte).is_ok_and(|n| n == 1) && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8_lossy(&line).trim_end().to_owned()
}

pub(crate) fn exec(args: &[&str]) -> ExecSpec {
    let args = [probe::PATH].iter().chain(args).map(|arg| (*arg).to_owned()).collect();
    ExecSpec { args, env: vec!["PATH=/".to_owned()], ..ExecSpec::default() }
}

/// Streams from nowhere into a pipe (standard error with it).
pub(crate) fn pipes() -> (Stdio, OwnedFd) {
    let stdin = std::fs::File::open("/dev/null").unwrap().into();
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let stderr = write.try_clone().unwrap();
    (Stdio::Pipes { stdin, stdout: write, stderr }, read)
}

pub(crate) fn terminal() -> Stdio {
    Stdio::Terminal { size: WindowSize { rows: 33, columns: 101 } }
}

pub(crate) fn wait(launched: &Launched) -> Exit {
    use std::os::fd::AsFd;
    let ended = || tare_sys::pidfd::wait(launched.pidfd.as_fd(), WaitIdOptions::EXITED);
    let status = rustix::io::retry_on_intr(ended).unwrap().unwrap();
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(u8::try_from(code).unwrap()),
        (None, Some(signal)) => Exit::Signal(u8::try_from(signal).unwrap()),
        (None, None) => panic!("{status:?}"),
    }
}

/// A mount at `place`, of a directory beside it: of a file system whose ids any kernel can map that can map any (those of a
/// tmpfs since 6.3).
pub(crate) fn another_mount(place: &Path) {
    let beside = place.with_extension("beside");
    std::fs::create_dir(&beside).unwrap();
    rustix::mount::mount_bind(&beside, place).unwrap();
}

/// What a process without a filter of its own shows: the one of this program, if the suite is run under one.
pub(crate) fn own_filter() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("Seccomp:")).unwrap();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// No cgroup of this path is left in any hierarchy, and no child of ours.
pub(crate) fn nothing_left(cgroup: &str) {
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let path = hierarchy.path().join(cgroup.trim_start_matches('/'));
        assert!(!path.exists(), "{} is left", path.display());
    }
    assert_eq!(tare_sys::process::reap_any(), Ok(None), "a child is left");
}

/// Takes away the group that is the parent of all containers of these tests, unless another run is using it.
pub(crate) fn remove_parent() {
    let layout = tare_runtime::cgroup::Layout::detect().map(std::sync::Arc::new);
    if let Ok(layout) = layout {
        let _ = tare_runtime::cgroup::remove_if_empty(&layout, "/tare-runtime-test");
    }
}

/// An entry outside every root file system that nothing may touch.
pub(crate) struct Canary(tempfile::TempDir);

impl Canary {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), "untouched").unwrap();
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn is_untouched(&self) {
        let names: Vec<_> =
            std::fs::read_dir(self.path()).unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(names, ["secret"], "something was made on the host");
        assert_eq!(std::fs::read_to_string(self.path().join("secret")).unwrap(), "untouched");
    }
}

fn document(id: &ContainerId, args: &[&str]) -> Value {
    let args: Vec<&str> = [probe::PATH].iter().chain(args).copied().collect();
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "env": ["PATH=/", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES},
            "noNewPrivileges": false
        },
        "root": {"path": "unused"},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
        ],
        "linux": {
            "cgroupsPath": format!("/tare-runtime-test/{}", id.short()),
            "resources": {"pids": {"limit": 100}},
            "namespaces": [
                {"type": "mount"}, {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}, {"type": "cgroup"}
            ],
            "maskedPaths": [
                "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
                "/sys/devices/virtual/powercap"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}
