//! From a specification to a list of typed steps. Pure: no file is opened, no call is made; tested without root.
//!
//! [`Plan::container`] is for the first process of a container, [`Plan::exec`] for one that joins it. Both give the
//! same kind of list, which [`crate::launch::apply`] runs in the child, in order. The order is decided here and only here:
//!
//! ```text
//!  gather   cgroups joined, own session and keyring, host name, loopback, sockets for the network
//!           root assembled, sources of all mounts prepared      (the host's files are visible)
//!  settle   sysctls, OOM score                                  (own procfs, attached nowhere)
//!  meet     with hooks: root in its place and its mounts in it; devices moved in, hooks, label
//!  enter    pivot_root, the host's tree dropped
//!  furnish  mounts attached, devices, masks, read-only          (only the container's files are visible)
//!  become   network awaited, user found, terminal, limits, working directory, program found
//!           user changed, capabilities dropped, filter loaded, execve
//! ```
//!
//! A child in a user namespace of its own has no rights over the host. What takes such rights its parent does meanwhile
//! ([`Plan::outside`], decided in `outside`), and hands over.

use std::ffi::CString;
use std::path::PathBuf;

use oci_spec::runtime::Spec;
use rustix::process::{Resource, Rlimit};
use tare_model::capability::Capability;
use tare_model::sandbox::{ExecSpec, INIT_PATH, Rootfs, SandboxSpec};
use tare_sys::mount::{Attributes, Change, Propagation};
use tare_sys::process::Namespaces;

use crate::error::{Error, Result};
use crate::identity::User;
use crate::mount::attach::Rules;
use crate::mount::options::Datum;

mod attributes;
mod hooks;
mod ids;
mod labels;
mod mounts;
mod namespaces;
mod net_devices;
mod outside;
mod process;
mod sysctl;
mod time;
mod unsupported;

#[cfg(test)]
mod tests;

pub use attributes::Attribute;
pub use hooks::{Hook, Hooks};
pub use ids::{Extent, IdMaps};
pub use labels::Label;
pub use namespaces::{Join, Layout};
pub use net_devices::NetDevice;
pub use process::{Capabilities, Process, Who};
pub use sysctl::Sysctl;

/// What will be done for one process.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Namespaces: made, joined.
    pub namespaces: Layout,
    /// The process itself.
    pub process: Process,
    /// What the child does, in order.
    pub steps: Vec<Step>,
    /// What the parent does for it meanwhile, in order.
    pub outside: Vec<Step>,
    /// Programs to run at its turns.
    pub hooks: Hooks,
    /// Devices that the launching process moves in.
    pub net_devices: Vec<NetDevice>,
    /// The label of SELinux's for the files of what is made for the container, its root among it.
    pub mount_label: Option<String>,
    /// Offsets of the clocks of a new time namespace.
    pub time_offsets: String,
    /// Processors on which the process is made; none: where the launching process is.
    pub first_processors: Vec<usize>,
}

/// One thing the child does.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Out of reach of the container's processes, and dead when the monitor dies.
    Guard,
    /// Into the container's cgroups (v1; on v2 the child was made there).
    JoinCgroups,
    /// Into namespaces that exist, through descriptors the parent opened.
    JoinNamespaces,
    /// Into the pid namespace that is joined, as another process that has none of the host's cgroup files.
    EnterProcesses,
    /// Into a user namespace that exists, and new other ones that belong to it.
    EnterUser,
    /// Waits until the new user namespace has its ids.
    AwaitIds,
    /// Root of the user namespace, which it is in by now.
    BecomeRoot,
    /// A cgroup namespace of its own; only now, or its root would be the wrong group.
    NewCgroupNamespace,
    /// A session of its own.
    NewSession,
    /// The label of its keys.
    KeyLabel(String),
    /// A session keyring of its own.
    NewKeyring,
    /// The host name.
    Hostname(String),
    /// The NIS domain name.
    Domainname(String),
    /// The loopback interface of a new network namespace.
    Loopback,
    /// Sockets of the new network namespace, for whoever sets it up.
    NetworkSockets,
    /// Opens the parameters of the new network namespace, which will be covered.
    NetworkParameters,
    /// Waits until the network is there, and sets parameters of its interfaces.
    AwaitNetwork,
    /// How mounts travel between host and container.
    Propagate(Propagation),
    /// The root file system, detached.
    AssembleRoot {
        /// What it is made of.
        rootfs: Rootfs,
        /// Its ids on disk are the container's.
        mapped: bool,
    },
    /// A source, detached; [`Step::Attach`] puts it in place.
    Prepare(Source),
    /// What covers masked paths, detached.
    MakeCovers,
    /// Something that the parent makes will be needed.
    Expect(Expected),
    /// Takes over everything that is expected.
    Receive,
    /// What the child has made so far is older than what the parent makes from here on: the one says so, the other waits.
    Turn,
    /// Hands over what was made so far.
    HandOver,
    /// A namespaced kernel parameter.
    Sysctl(Sysctl),
    /// How likely the kernel kills it for lack of memory.
    OomScore(i32),
    /// The root goes to its own place, so that hooks find it and what is mounted in it there.
    PlaceRoot(PathBuf),
    /// Waits while the launching process does its part: devices moved in, hooks of the host's namespaces.
    Meet,
    /// Hooks of the container's namespaces that are programs of the host.
    CreateHooks,
    /// The label that the program gets.
    Label(Label),
    /// The container's root becomes the root.
    EnterRoot,
    /// The container's root, attached nowhere, becomes the root of this process alone.
    ChangeRoot,
    /// The oldest prepared source goes to its place.
    Attach(Place),
    /// A device node.
    Device(Device),
    /// A symbolic link in /dev.
    DeviceLink {
        /// Name in /dev.
        name: &'static str,
        /// Where it points to.
        target: &'static str,
    },
    /// Covered, if they exist.
    Mask(Vec<String>),
    /// Read-only with everything below, if it exists.
    ReadOnly(String),
    /// The root's propagation towards its own copies.
    RootPropagation(Propagation),
    /// The root itself.
    RootReadOnly,
    /// All mounts stay as they are, whatever the program may do in its user namespace.
    LockMounts,
    /// Which ids [`Process::who`] means.
    FindUser,
    /// The terminal, and `/dev/console` bound to it.
    Terminal {
        /// Whether to bind it on /dev/console (not for a further process).
        console: bool,
    },
    /// Resource limits.
    Limit(Resource, Rlimit),
    /// The child may set this limit itself, even if it is above the present one.
    AllowLimit(Resource, Rlimit),
    /// Scheduler, I/O priority and the like.
    Attribute(Attribute),
    /// Into the working directory.
    WorkingDirectory,
    /// Which file the program is.
    FindProgram,
    /// Waits until somebody says go on (OCI `create`).
    Gate,
    /// The specification names no program; whoever opens the gate anyway is told so.
    NoProgram,
    /// User, groups, capabilities, `no_new_privs`, the filter, `execve`.
    Become,
}

/// What a parent hands over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The root file system.
    Root,
    /// The source of a mount.
    Source {
        /// Where it will go.
        destination: String,
        /// It is a procfs.
        proc: bool,
    },
    /// What covers masked paths.
    Covers,
}

/// A mount to prepare.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// What it is.
    pub what: What,
    /// Where it will go, for messages.
    pub destination: String,
    /// Attributes of a new file system.
    pub attributes: Attributes,
    /// Changes to make, in order.
    pub changes: Vec<Change>,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A new instance of a file system.
    New {
        /// Its type.
        kind: String,
        /// Device or word that it is made from.
        source: Option<String>,
        /// Parameters.
        data: Vec<Datum>,
    },
    /// Something of the host.
    Bind {
        /// Absolute path.
        path: PathBuf,
        /// With what is mounted below it.
        recursive: bool,
        /// How its ids are mapped, if they are.
        mapped: Option<Mapped>,
    },
    /// A tmpfs with device nodes, which a user namespace cannot make.
    Devices {
        /// Parameters of the tmpfs.
        data: Vec<Datum>,
        /// Nodes; their paths begin with the place of the mount.
        nodes: Vec<Device>,
    },
    /// A single device node.
    Node(Device),
    /// The container's own cgroups, as the machine lays them out.
    Cgroup,
    /// The program that `--init` runs.
    Init,
}

/// How ids of a bind mount are mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// By these; absent: by the container's.
    pub ids: Option<IdMaps>,
    /// Mounts below it, too.
    pub recursive: bool,
    /// File systems that the kernel alone fills, and cannot map, stay as they are.
    pub lenient: bool,
}

/// Where a mount goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Path in the container.
    pub destination: String,
    /// How it is reached.
    pub rules: Rules,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Path in the container.
    pub path: String,
    /// Kind.
    pub kind: DeviceKind,
    /// Device number.
    pub major: u32,
    /// Device number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Kinds of node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// Character device.
    Character,
    /// Block device.
    Block,
    /// Named pipe.
    Pipe,
}

/// What the caller decides, beside the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// It gets a terminal.
    pub terminal: bool,
    /// It dies with its monitor.
    pub die_with_parent: bool,
    /// It waits for a go-ahead before it executes the program.
    pub gate: bool,
    /// The cgroups are entered by writing (v1); on v2 the child is made in them.
    pub join_cgroups: bool,
    /// Keeps the caller's session keyring.
    pub keep_keyring: bool,
    /// Somebody behind a door sets up the network.
    pub door: bool,
}

// === impl Plan ===

impl Plan {
    /// The plan for a container's first process.
    ///
    /// # Errors
    /// What the specification asks for and is wrong, forbidden or not offered, by name of its field.
    pub fn container(spec: &SandboxSpec, manner: Manner) -> Result<Self> {
        unsupported::check(&spec.oci)?;
        let namespaces = Layout::of(&spec.oci)?;
        let mut process = match spec.oci.process() {
            // A container can be made without; it waits to be deleted.
            None if manner.gate => Process::none(),
            _ => Process::of(spec)?,
        };
        if spec.init {
            process.run_under_init();
        }
        let mut steps = Steps::new(&namespaces);
        steps.push(Step::Guard);
        // While the host's /proc is still there.
        steps.privileges(&process);
        steps.key_label(&spec.oci, manner)?;
        let mut mounts = mounts::plan(spec, &namespaces)?;
        let label = labels::of_mounts(&spec.oci)?;
        if let Some(label) = &label {
            labels::label(&mut mounts, label, &namespaces);
        }
        steps.gather(spec, manner, &namespaces, &mounts)?;
        steps.settle(spec, &namespaces)?;
        if manner.door {
            steps.push(Step::NetworkParameters);
        }
        let hooks = Hooks::of(&spec.oci)?;
        let net_devices = net_devices::plan(&spec.oci, &namespaces)?;
        let placed = namespaces.has_new_mounts() && steps.show_to_hooks(spec, &hooks, &mounts)?;
        steps.meet(&spec.oci, &hooks, &net_devices)?;
        steps.furnish(spec, &namespaces, &mounts, placed)?;
        steps.lock(spec, &namespaces, &mounts, &process)?;
        steps.become_program(&process, attributes::of(&spec.oci, false)?, manner, true);
        Ok(Self {
            time_offsets: time::plan(&spec.oci, &namespaces)?,
            mount_label: label,
            namespaces,
            process,
            steps: steps.inside,
            outside: steps.outside,
            hooks,
            net_devices,
            first_processors: Vec::new(),
        })
    }

    /// The plan for a further process of the container that `container` was made from.
    ///
    /// # Errors
    /// As [`Plan::container`].
    pub fn exec(container: &SandboxSpec, exec: &ExecSpec, manner: Manner) -> Result<Self> {
        let mut namespaces = Layout::joining(&container.oci)?;
        let process = Process::exec(container, exec)?;
        let mut steps = Steps::new(&namespaces);
        steps.push(Step::Guard);
        steps.join_cgroups(manner);
        // With the host's user namespace, processes inside may have rights over this one as soon as they see it.
        let seen = namespaces.has_own(Namespaces::PID) && !steps.user;
        if manner.join_cgroups && seen {
            steps.push(Step::EnterProcesses);
            namespaces.enters_late = true;
        }
        // While the host's /proc is still there.
        steps.privileges(&process);
        steps.key_label(&container.oci, manner)?;
        steps.label(&container.oci)?;
        steps.push(Step::JoinNamespaces);
        if steps.user {
            steps.push(Step::BecomeRoot);
        }
        steps.new_session(manner);
        steps.become_program(&process, attributes::of(&container.oci, true)?, manner, false);
        Ok(Self {
            namespaces,
            process,
            steps: steps.inside,
            outside: steps.outside,
            hooks: Hooks::default(),
            net_devices: Vec::new(),
            mount_label: None,
            time_offsets: String::new(),
            first_processors: attributes::first_processors(&container.oci)?,
        })
    }
}

/// The lists while they are being made.
struct Steps {
    inside: Vec<Step>,
    outside: Vec<Step>,
    /// The child has a user namespace that is not the host's.
    user: bool,
}

impl Steps {
    fn new(namespaces: &Layout) -> Self {
        let user = namespaces.has_own(Namespaces::USER);
        Self { inside: Vec::with_capacity(96), outside: Vec::new(), user }
    }

    fn push(&mut self, step: Step) {
        self.inside.push(step);
    }

    fn join_cgroups(&mut self, manner: Manner) {
        if manner.join_cgroups {
            self.push(Step::JoinCgroups);
        }
    }

    fn new_session(&mut self, manner: Manner) {
        self.push(Step::NewSession);
        if !manner.keep_keyring {
            self.push(Step::NewKeyring);
        }
    }

    fn gather(
        &mut self,
        spec: &SandboxSpec,
        manner: Manner,
        namespaces: &Layout,
        mounts: &[mounts::Mount],
    ) -> Result<()> {
        if self.user && !namespaces.new.contains(Namespaces::USER) {
            self.push(Step::EnterUser);
        }
        self.join_cgroups(manner);
        if namespaces.new.contains(Namespaces::USER) {
            self.push(Step::AwaitIds);
        }
        if self.user {
            self.push(Step::BecomeRoot);
        } else if !namespaces.join.is_empty() {
            self.push(Step::JoinNamespaces);
        }
        self.new_session(manner);
        if namespaces.new_cgroup {
            self.push(Step::NewCgroupNamespace);
        }
        self.names(&spec.oci, namespaces)?;
        if namespaces.new.contains(Namespaces::NET) {
            self.push(Step::Loopback);
            if manner.door {
                self.push(Step::NetworkSockets);
            }
        } else if manner.door {
            return Err(Error::invalid("a network is to be set up, and there is no new network namespace"));
        }
        if namespaces.has_new_mounts() {
            self.push(Step::Propagate(mounts::host_propagation(&spec.oci, mounts)?));
        }
        self.prepare(spec, namespaces, mounts);
        Ok(())
    }

    fn names(&mut self, spec: &Spec, namespaces: &Layout) -> Result<()> {
        let own = namespaces.has_own(Namespaces::UTS);
        for (name, what) in [(spec.hostname(), "hostname"), (spec.domainname(), "domainname")] {
            let Some(name) = name.as_ref().filter(|name| !name.is_empty()) else { continue };
            if !own {
                let text = format!("{what} {name:?} would change the host's; it needs a uts namespace");
                return Err(Error::forbidden(text));
            }
            if name.len() > 64 || name.contains('\0') {
                return Err(Error::invalid(format!(
                    "{what} {name:?} is longer than 64 bytes or contains NUL"
                )));
            }
            self.push(if what == "hostname" {
                Step::Hostname(name.clone())
            } else {
                Step::Domainname(name.clone())
            });
        }
        Ok(())
    }

    fn settle(&mut self, spec: &SandboxSpec, namespaces: &Layout) -> Result<()> {
        let asked = spec.oci.linux().as_ref().and_then(|linux| linux.sysctl().as_ref());
        for sysctl in sysctl::plan(asked, namespaces)? {
            // Its file belongs to the host's root, whatever the namespace; the call asks whose the namespace is.
            let name = sysctl.path == "kernel/domainname";
            self.push(if name { Step::Domainname(sysctl.value) } else { Step::Sysctl(sysctl) });
        }
        Ok(())
    }

    /// Hooks that run before the root is entered expect the container's mounts by then, below the path that they are
    /// told. Whether there are any. A root that shares mounts with the host stays apart: it could not be moved again.
    fn show_to_hooks(&mut self, spec: &SandboxSpec, hooks: &Hooks, mounts: &[mounts::Mount]) -> Result<bool> {
        let Rootfs::Directory { path } = &spec.rootfs else { return Ok(false) };
        let shared = self.inside.contains(&Step::Propagate(Propagation::Shared));
        if !hooks.want_mounts() || shared {
            return Ok(false);
        }
        self.push(Step::PlaceRoot(path.clone()));
        self.mount(spec, mounts)?;
        Ok(true)
    }

    fn meet(&mut self, spec: &Spec, hooks: &Hooks, net_devices: &[NetDevice]) -> Result<()> {
        let rdt = spec.linux().as_ref().is_some_and(|linux| linux.intel_rdt().is_some());
        if hooks.want_meeting() || !net_devices.is_empty() || rdt {
            self.push(Step::Meet);
        }
        if !hooks.create_container.is_empty() {
            self.push(Step::CreateHooks);
        }
        // After the hooks, which are not to be confined by it; while the host's /proc is still there.
        self.label(spec)
    }

    fn key_label(&mut self, spec: &Spec, manner: Manner) -> Result<()> {
        let of_keys = |label| match label {
            Label::SeLinux(label) if !manner.keep_keyring => Some(Step::KeyLabel(label)),
            _ => None,
        };
        self.inside.extend(labels::of_process(spec)?.into_iter().filter_map(of_keys));
        Ok(())
    }

    fn label(&mut self, spec: &Spec) -> Result<()> {
        self.inside.extend(labels::of_process(spec)?.into_iter().map(Step::Label));
        Ok(())
    }

    fn furnish(
        &mut self,
        spec: &SandboxSpec,
        namespaces: &Layout,
        mounts: &[mounts::Mount],
        mounted: bool,
    ) -> Result<()> {
        if !namespaces.has_new_mounts() {
            // In somebody else's mount namespace nothing is attached to what is there: the root stays a tree of its own.
            self.mount(spec, mounts)?;
            self.restrict(&spec.oci)?;
            self.push(Step::ChangeRoot);
            return Ok(());
        }
        self.push(Step::EnterRoot);
        if !mounted {
            self.mount(spec, mounts)?;
        }
        self.restrict(&spec.oci)
    }

    fn mount(&mut self, spec: &SandboxSpec, mounts: &[mounts::Mount]) -> Result<()> {
        for mount in mounts {
            self.push(Step::Attach(mount.place.clone()));
        }
        if spec.init {
            let rules = Rules::default();
            self.push(Step::Attach(Place { destination: INIT_PATH.to_owned(), rules }));
        }
        if mounts::has_own_dev(mounts) {
            // In a user namespace they are there already, or are mounts.
            if !self.user {
                for device in mounts::devices(&spec.oci)? {
                    self.push(Step::Device(device));
                }
            }
            for (name, target) in mounts::DEVICE_LINKS {
                self.push(Step::DeviceLink { name, target });
            }
        }
        Ok(())
    }

    fn restrict(&mut self, spec: &Spec) -> Result<()> {
        let Some(linux) = spec.linux() else { return Ok(()) };
        for path in linux.readonly_paths().iter().flatten() {
            self.push(Step::ReadOnly(mounts::inside(path, "linux.readonlyPaths")?));
        }
        let masked = linux.masked_paths().iter().flatten();
        let masked: Result<Vec<String>> =
            masked.map(|path| mounts::inside(path, "linux.maskedPaths")).collect();
        let masked = masked?;
        if !masked.is_empty() {
            self.push(Step::Mask(masked));
        }
        if let Some(propagation) = mounts::root_propagation(spec)? {
            self.push(Step::RootPropagation(propagation));
        }
        if spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false) {
            self.push(Step::RootReadOnly);
        }
        Ok(())
    }

    /// In a user namespace of its own, who has `CAP_SYS_ADMIN` could take off what covers or protects something of the
    /// host's: a read-only bind is one. A privileged exec has it, too, and can reach the first process's mounts; locking
    /// takes a twentieth of a start, so where only such a one could there must be something of the host's to protect. What
    /// is shared back to the host would be cut off from it and is left.
    fn lock(
        &mut self,
        spec: &SandboxSpec,
        namespaces: &Layout,
        mounts: &[mounts::Mount],
        process: &Process,
    ) -> Result<()> {
        let may = process.capabilities.bounding & 1 << Capability::SYS_ADMIN.number() != 0;
        let wanted = self.user && namespaces.has_new_mounts() && (may || mounts::show_host(spec, mounts));
        if wanted && !mounts::share_back(&spec.oci, mounts)? {
            self.push(Step::LockMounts);
        }
        Ok(())
    }

    fn become_program(&mut self, process: &Process, attributes: Vec<Attribute>, manner: Manner, first: bool) {
        if manner.door {
            self.push(Step::AwaitNetwork);
        }
        if process.args.is_empty() {
            self.push(Step::Gate);
            self.push(Step::NoProgram);
            return;
        }
        self.push(Step::FindUser);
        if manner.terminal {
            self.push(Step::Terminal { console: first });
        }
        for (resource, limit) in &process.limits {
            self.push(Step::Limit(*resource, *limit));
        }
        self.inside.extend(attributes.into_iter().map(Step::Attribute));
        self.push(Step::WorkingDirectory);
        self.push(Step::FindProgram);
        if manner.gate {
            self.push(Step::Gate);
        }
        self.push(Step::Become);
    }
}

/// A string for the kernel.
fn c_string(text: &str, what: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::invalid(format!("{what} {text:?} contains NUL")))
}
