//! Kernel parameters that belong to the container's own namespaces, and no others.

use std::collections::HashMap;

use tare_sys::process::Namespaces;

use crate::error::{Error, Result};
use crate::plan::Layout;

/// One parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// Path below /proc/sys.
    pub path: String,
    /// What is written.
    pub value: String,
    /// The namespace it belongs to.
    pub namespace: Namespaces,
}

/// Parameters of the IPC namespace.
const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// Writing it sets `forwarding` and `accept_redirects` of every interface, too.
const FORWARD: &str = "net/ipv4/ip_forward";

/// What is to be written, in the order of names, but first what would undo others.
pub(crate) fn plan(asked: Option<&HashMap<String, String>>, namespaces: &Layout) -> Result<Vec<Sysctl>> {
    let mut planned = Vec::new();
    for (key, value) in asked.into_iter().flatten() {
        planned.push(one(key, value, namespaces)?);
    }
    planned.sort_by(|a, b| (a.path != FORWARD, &a.path).cmp(&(b.path != FORWARD, &b.path)));
    Ok(planned)
}

fn one(key: &str, value: &str, namespaces: &Layout) -> Result<Sysctl> {
    let path = path(key)?;
    // A newline, where some tool splits on it, would smuggle in a second parameter (CVE-2022-0811).
    if value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err(Error::invalid(format!(
            "linux.sysctl: value {value:?} of {key} contains a control character"
        )));
    }
    let namespace = if path.starts_with("net/") {
        Namespaces::NET
    } else if path.starts_with("fs/mqueue/") || IPC.contains(&path.as_str()) {
        Namespaces::IPC
    } else if path == "kernel/domainname" {
        Namespaces::UTS
    } else if path == "kernel/hostname" {
        return Err(Error::forbidden("linux.sysctl: kernel.hostname: use the hostname field"));
    } else {
        let text =
            format!("linux.sysctl: {key} belongs to the whole machine, not to a container's namespace");
        return Err(Error::forbidden(text));
    };
    if !namespaces.has_own(namespace) {
        let text =
            format!("linux.sysctl: {key} would change the host's, whose namespace this container uses");
        return Err(Error::forbidden(text));
    }
    Ok(Sysctl { path, value: value.to_owned(), namespace })
}

/// `net.ipv4.conf.eth0/1.forwarding` or `net/ipv4/conf/eth0.1/forwarding`: the first separator says which is which.
fn path(key: &str) -> Result<String> {
    let swap = key.find(['.', '/']).is_some_and(|at| key[at..].starts_with('.'));
    let path: String = key
        .chars()
        .map(|c| match c {
            '.' if swap => '/',
            '/' if swap => '.',
            other => other,
        })
        .collect();
    let sane = |part: &str| {
        !part.is_empty()
            && !part.bytes().all(|byte| byte == b'.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.:@".contains(&byte))
    };
    if path.contains('/') && path.split('/').all(sane) {
        return Ok(path);
    }
    Err(Error::invalid(format!("linux.sysctl: {key:?} is not the name of a kernel parameter")))
}

#[cfg(test)]
mod tests {
    use tare_model::ErrorKind;

    use super::*;

    fn own() -> Layout {
        let listed = Namespaces::NET | Namespaces::IPC | Namespaces::UTS;
        Layout { listed, ..Layout::default() }
    }

    fn planned(key: &str, value: &str, layout: &Layout) -> Result<String> {
        let asked = HashMap::from([(key.to_owned(), value.to_owned())]);
        plan(Some(&asked), layout).map(|list| list[0].path.clone())
    }

    #[test]
    fn namespaced_parameters_are_planned() {
        for (key, want) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
            ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
            ("kernel.shmmax", "kernel/shmmax"),
            ("fs.mqueue.msg_max", "fs/mqueue/msg_max"),
            ("kernel.domainname", "kernel/domainname"),
        ] {
            assert_eq!(planned(key, "1", &own()).as_deref(), Ok(want), "{key}");
        }
    }

    #[test]
    fn what_is_said_of_one_interface_comes_after_what_is_said_of_all() {
        let names = [
            "kernel.shmmax",
            "net.ipv4.ip_forward",
            "net.ipv4.conf.lo.forwarding",
            "net.ipv4.conf.all.forwarding",
        ];
        let asked = names.map(|name| (name.to_owned(), "1".to_owned())).into();
        let order: Vec<String> =
            plan(Some(&asked), &own()).unwrap().into_iter().map(|one| one.path).collect();
        let wanted = [
            "net/ipv4/ip_forward",
            "kernel/shmmax",
            "net/ipv4/conf/all/forwarding",
            "net/ipv4/conf/lo/forwarding",
        ];
        assert_eq!(order, wanted);
    }

    #[test]
    fn parameters_of_the_machine_are_refused() {
        for key in
            ["kernel.core_pattern", "kernel/core_pattern", "vm.swappiness", "fs.file-max", "kernel.hostname"]
        {
            assert_eq!(planned(key, "1", &own()).unwrap_err().kind(), ErrorKind::Forbidden, "{key}");
        }
    }

    #[test]
    fn parameters_of_a_shared_namespace_are_refused() {
        let host_net = Layout { listed: Namespaces::IPC, ..Layout::default() };
        assert!(planned("net.ipv4.ip_forward", "1", &host_net).is_err());
        assert!(planned("kernel.shmmax", "1", &host_net).is_ok());
        let host_ipc = Layout { listed: Namespaces::NET, ..Layout::default() };
        assert!(planned("kernel.shmmax", "1", &host_ipc).is_err());
    }

    #[test]
    fn names_cannot_leave_the_tree() {
        for key in [
            "net/../kernel/core_pattern",
            "net....kernel",
            "net//x",
            "net",
            "",
            "/net/x",
            "net.x\n",
            "net.a b",
        ] {
            assert!(planned(key, "1", &own()).is_err(), "{key:?}");
        }
    }

    #[test]
    fn values_cannot_smuggle_lines() {
        assert!(planned("net.ipv4.ip_forward", "1\nkernel.core_pattern=|/x", &own()).is_err());
        assert!(planned("net.ipv4.ip_forward", "1\0", &own()).is_err());
        assert!(planned("net.ipv4.ping_group_range", "0\t1", &own()).is_ok());
        assert!(
            planned("kernel.shmmax", "1+kernel.core_pattern=x", &own()).is_ok(),
            "one file, whatever the text"
        );
    }
}
