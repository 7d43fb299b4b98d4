//! Who makes what: the child what its own namespaces allow, the parent what takes rights over the host.
//!
//! | made by the parent | because |
//! |---|---|
//! | the root, bind mounts | their ids are mapped, which takes rights over their file systems; they may lie where only root may look |
//! | /dev with its nodes, covers of masked paths | nobody else may make device nodes |
//! | kernel file systems of namespaces that are the host's | they belong to whoever owns the namespace |
//! | /dev/mqueue with a label | its root was made with the namespace, by whoever was still nobody inside |
//! | a lower OOM score, a higher limit | the host's rights count |

use tare_model::sandbox::{DiskIds, SandboxSpec};
use tare_sys::process::Namespaces;

use super::{Expected, Layout, Process, Source, Step, Steps, What, mounts};
use crate::mount::source::CONTEXT;

// === impl Steps ===

impl Steps {
    /// What of the process takes rights over the host.
    pub(super) fn privileges(&mut self, process: &Process) {
        if let Some(score) = process.oom_score {
            self.by_rights(Step::OomScore(score));
        }
        if self.user {
            let limits = process.limits.iter();
            self.outside.extend(limits.map(|(resource, limit)| Step::AllowLimit(*resource, *limit)));
        }
    }

    /// The root and the sources of all mounts.
    pub(super) fn prepare(&mut self, spec: &SandboxSpec, namespaces: &Layout, mounts: &[mounts::Mount]) {
        let mapped = self.user && spec.disk_ids == DiskIds::Mapped;
        let root = Step::AssembleRoot { rootfs: spec.rootfs.clone(), mapped };
        self.make(root, self.user, Expected::Root);
        for mount in mounts {
            let source = &mount.source;
            let proc = matches!(&source.what, What::New { kind, .. } if kind == "proc");
            let expected = Expected::Source { destination: source.destination.clone(), proc };
            let step = Step::Prepare(source.clone());
            // mountinfo is sorted by age since Linux 6.8, and whoever wrote the document may look for its order there. Of
            // the engine's own documents nobody expects one: for those both work at the same time.
            // A labelled mqueue is that of a namespace which the child has to be in by then.
            let later = matches!(source.what, What::Devices { .. }) && !mapped;
            if later || (self.user && is_labelled_queue(source)) {
                self.make_in_turn(step, expected);
            } else {
                self.make(step, is_outside(source, namespaces), expected);
            }
        }
        if spec.init {
            self.push(Step::Prepare(mounts::init_source()));
        }
        let masks = spec.oci.linux().as_ref().and_then(|linux| linux.masked_paths().as_ref());
        if self.user && masks.is_some_and(|paths| !paths.is_empty()) {
            self.make(Step::MakeCovers, true, Expected::Covers);
        }
        let awaited = |step: &&Step| matches!(step, Step::Expect(_) | Step::Receive);
        if matches!(self.inside.iter().rev().find(awaited), Some(Step::Expect(_))) {
            self.push(Step::Receive);
        }
    }

    /// Made by the parent, between what the child makes before and after it.
    fn make_in_turn(&mut self, step: Step, expected: Expected) {
        self.outside.push(Step::Turn);
        self.push(Step::Turn);
        self.make(step, true, expected);
        self.outside.push(Step::HandOver);
        self.push(Step::Receive);
    }

    fn make(&mut self, step: Step, outside: bool, expected: Expected) {
        if outside {
            self.outside.push(step);
            self.push(Step::Expect(expected));
        } else {
            self.push(step);
        }
    }

    fn by_rights(&mut self, step: Step) {
        if self.user { self.outside.push(step) } else { self.push(step) }
    }
}

fn is_labelled_queue(source: &Source) -> bool {
    match &source.what {
        What::New { kind, data, .. } => kind == "mqueue" && data.iter().any(|datum| datum.key == CONTEXT),
        _ => false,
    }
}

fn is_outside(source: &Source, namespaces: &Layout) -> bool {
    let user = namespaces.has_own(Namespaces::USER);
    let of_host = |kind: Namespaces| user && !namespaces.has_own(kind);
    match &source.what {
        // Ids of its own take a user namespace that is made for them, by somebody who still sees the host's /proc.
        What::Bind { mapped, .. } => user || mapped.is_some(),
        What::Devices { .. } | What::Node(_) => true,
        What::Cgroup | What::Init => false,
        What::New { kind, .. } => match kind.as_str() {
            "proc" => of_host(Namespaces::PID),
            "sysfs" => of_host(Namespaces::NET),
            "mqueue" => of_host(Namespaces::IPC),
            // What a user namespace may mount itself.
            "tmpfs" | "ramfs" | "devpts" | "overlay" | "fuse" | "binfmt_misc" => false,
            _ => user,
        },
    }
}
