//! Device nodes and the rules of the device controller.

use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType,
};
use tare_model::container::DeviceConfig;
use tare_model::{Error, Result};

use super::defaults;
use super::input::DeviceNode;
use super::plan::built;

/// Checks what the user asked for, without looking at the host.
///
/// # Errors
/// `InvalidInput`, naming the device.
pub(crate) fn check(devices: &[DeviceConfig]) -> Result<()> {
    for device in devices {
        let access = &device.permissions;
        let absolute = device.host_path.starts_with('/') && device.container_path.starts_with('/');
        let known = access.bytes().all(|b| matches!(b, b'r' | b'w' | b'm'));
        if !absolute || !known || access.is_empty() || access.len() > 3 {
            return Err(Error::invalid(format!(
                "invalid device specification: {}:{}:{access} (want absolute paths and any of r, w, m)",
                device.host_path, device.container_path
            )));
        }
    }
    Ok(())
}

/// Nodes to make besides those every container has.
pub(crate) fn nodes(devices: &[DeviceNode]) -> Result<Vec<LinuxDevice>> {
    let node = |d: &DeviceNode| {
        built(
            LinuxDeviceBuilder::default()
                .path(&d.path)
                .typ(kind(d.block))
                .major(d.major)
                .minor(d.minor)
                .file_mode(d.mode)
                .uid(d.uid)
                .gid(d.gid)
                .build(),
        )
    };
    devices.iter().map(node).collect()
}

/// Rules of the device controller: nothing, then what may be used. Privileged containers may use everything.
pub(crate) fn rules(devices: &[DeviceNode], privileged: bool) -> Result<Vec<LinuxDeviceCgroup>> {
    if privileged {
        return Ok(vec![rule(true, None, None, None, "rwm")?]);
    }
    let mut rules = vec![rule(false, None, None, None, "rwm")?];
    for &(typ, major, minor, access) in defaults::DEVICE_RULES {
        rules.push(rule(true, Some(kind(typ == 'b')), major, minor, access)?);
    }
    for d in devices {
        rules.push(rule(true, Some(kind(d.block)), Some(d.major), Some(d.minor), &d.access)?);
    }
    Ok(rules)
}

fn kind(block: bool) -> LinuxDeviceType {
    if block { LinuxDeviceType::B } else { LinuxDeviceType::C }
}

fn rule(
    allow: bool,
    typ: Option<LinuxDeviceType>,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> Result<LinuxDeviceCgroup> {
    let mut rule = built(LinuxDeviceCgroupBuilder::default().allow(allow).access(access).build())?;
    rule.set_typ(typ);
    rule.set_major(major);
    rule.set_minor(minor);
    Ok(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_denied_first() {
        let rules = rules(&[], false).expect("builds");
        assert!(!rules[0].allow());
        assert!(rules[1..].iter().all(|r| r.allow()));
        assert_eq!(rules.len(), 1 + defaults::DEVICE_RULES.len());
    }

    #[test]
    fn device_specifications_are_checked() {
        let device = |access: &str, path: &str| DeviceConfig {
            host_path: path.into(),
            container_path: path.into(),
            permissions: access.into(),
        };
        assert!(check(&[device("rw", "/dev/fuse")]).is_ok());
        for bad in
            [device("", "/dev/x"), device("x", "/dev/x"), device("rwm", "dev/x"), device("rrrr", "/dev/x")]
        {
            assert!(check(std::slice::from_ref(&bad)).is_err(), "{bad:?}");
        }
    }
}
