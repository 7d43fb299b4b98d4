//! Labels of security modules: which one the program gets, which one its file systems get.

use oci_spec::runtime::Spec;

use tare_sys::process::Namespaces;

use super::mounts::Mount;
use super::{Layout, What};
use crate::error::{Error, Result};
use crate::mount::source;

/// What the program is confined by, from its execution on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Label {
    /// `process.apparmorProfile`.
    AppArmor(String),
    /// `process.selinuxLabel`.
    SeLinux(String),
}

/// File systems that SELinux labels by itself.
const LABELLED_BY_KERNEL: [&str; 4] = ["proc", "sysfs", "cgroup", "cgroup2"];

/// The labels of the process.
pub(crate) fn of_process(spec: &Spec) -> Result<Vec<Label>> {
    let Some(process) = spec.process() else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    if let Some(profile) = said(process.apparmor_profile().as_ref(), "process.apparmorProfile")? {
        all.push(Label::AppArmor(profile));
    }
    if let Some(label) = said(process.selinux_label().as_ref(), "process.selinuxLabel")? {
        all.push(Label::SeLinux(label));
    }
    Ok(all)
}

/// `linux.mountLabel`.
pub(crate) fn of_mounts(spec: &Spec) -> Result<Option<String>> {
    let asked = spec.linux().as_ref().and_then(|linux| linux.mount_label().as_ref());
    said(asked, "linux.mountLabel")
}

/// Gives each new file system the label, unless it has one by its own options. That of queues is the namespace's, and the
/// host's keeps its label.
pub(crate) fn label(mounts: &mut [Mount], label: &str, namespaces: &Layout) {
    let own_queues = namespaces.has_own(Namespaces::IPC);
    for mount in mounts {
        let (kind, data) = match &mut mount.source.what {
            What::New { kind, data, .. } => (kind.as_str(), data),
            What::Devices { data, .. } => ("tmpfs", data),
            _ => continue,
        };
        let labelled = data.iter().any(|datum| datum.key.ends_with("context"));
        let hosts = kind == "mqueue" && !own_queues;
        if !labelled && !hosts && !LABELLED_BY_KERNEL.contains(&kind) {
            data.push(source::context(label));
        }
    }
}

fn said(text: Option<&String>, field: &str) -> Result<Option<String>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    if text.chars().any(char::is_control) {
        return Err(Error::invalid(format!("{field}: {text:?} contains a control character")));
    }
    Ok(Some(text.clone()))
}

#[cfg(test)]
mod tests {
    use tare_model::ContainerId;
    use tare_model::sandbox::{DiskIds, Rootfs, SandboxSpec, Seccomp};

    use super::*;

    fn spec(text: &serde_json::Value) -> Spec {
        serde_json::from_value(text.clone()).unwrap()
    }

    #[test]
    fn labels_are_read_and_empty_ones_are_none() {
        let with = |profile: &str, label: &str| {
            spec(&serde_json::json!({"ociVersion": "1.0.2", "process": {
                "cwd": "/", "user": {"uid": 0, "gid": 0}, "apparmorProfile": profile, "selinuxLabel": label}}))
        };
        let both = [Label::AppArmor("p".into()), Label::SeLinux("a:b:c:s0".into())];
        assert_eq!(of_process(&with("p", "a:b:c:s0")).unwrap(), both);
        assert!(of_process(&with("", "")).unwrap().is_empty());
        assert!(of_process(&with("p\nq", "")).is_err(), "two lines would be two requests");
    }

    #[test]
    fn new_file_systems_get_the_mount_label_and_others_keep_theirs() {
        let spec = spec(&serde_json::json!({"ociVersion": "1.0.2", "mounts": [
            {"destination": "/a", "type": "tmpfs", "source": "tmpfs"},
            {"destination": "/b", "type": "tmpfs", "source": "tmpfs", "options": ["context=own"]},
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/c", "type": "bind", "source": "/srv", "options": ["bind"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"},
        ]}));
        let spec = SandboxSpec {
            id: ContainerId::from_bytes([7; 32]),
            oci: spec,
            rootfs: Rootfs::Directory { path: "/r".into() },
            disk_ids: DiskIds::Host,
            identity: None,
            seccomp: Seccomp::Unconfined,
            init: false,
            create_cwd: false,
        };
        let layout = Layout::of(&spec.oci).unwrap();
        let mut mounts = super::super::mounts::plan(&spec, &layout).unwrap();
        label(&mut mounts, "x:y:z:s0", &layout);
        let contexts = |mount: &Mount| match &mount.source.what {
            What::New { data, .. } => data.iter().filter_map(|datum| datum.value.clone()).collect(),
            _ => Vec::new(),
        };
        let got: Vec<Vec<String>> = mounts.iter().map(contexts).collect();
        assert_eq!(
            got,
            [vec!["x:y:z:s0".to_owned()], vec!["own".to_owned()], vec![], vec![], vec![]],
            "the queues are the host's"
        );
    }
}
