//! Settings of the kernel that go with the rules: forwarding, and what a bridge of ours must not believe.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tare_model::error::{Error, Result};

use super::IpFamily;

const ROOT: &str = "/proc/sys/net";

/// Packets of that family are forwarded between links at all.
pub(super) fn forwards(family: IpFamily) -> Result<bool> {
    let path = forwarding(family);
    match fs::read_to_string(&path) {
        Ok(value) => Ok(value.trim() != "0"),
        // The kernel or the host is without IPv6: there is nothing to forward.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(failed("read", &path, &error)),
    }
}

/// Switches forwarding on. The host goes on believing routers about its IPv6 routes where it did so before: a host that
/// forwards does so only if told twice (`accept_ra` 2).
pub(super) fn forward(family: IpFamily) -> Result<()> {
    if family == IpFamily::V6 {
        let conf = Path::new(ROOT).join("ipv6/conf");
        let links = fs::read_dir(&conf).map_err(|error| failed("list", &conf, &error))?;
        for link in links.flatten().filter(|link| !["all", "default"].iter().any(|n| link.file_name() == *n))
        {
            let path = link.path().join("accept_ra");
            if fs::read_to_string(&path).is_ok_and(|value| value.trim() == "1") {
                write(&path, "2")?;
            }
        }
    }
    write(&forwarding(family), "1")
}

/// Switches it off again. Links that were told twice to believe routers go on doing so, as they would if told once.
pub(super) fn stop_forwarding(family: IpFamily) -> Result<()> {
    let path = forwarding(family);
    if path.exists() { write(&path, "0") } else { Ok(()) }
}

/// What a bridge needs: false if it is not there.
///
/// Packets of the host to its own 127.0.0.0/8 may leave by it, which the rules turn into something sane and without
/// which they would never get there. No container can tell the host about routes (CVE-2020-13401). Its link-local address
/// needs no detection of others that have it: nothing is forwarded to containers while that lasts.
pub(super) fn bridge(name: &str) -> Result<bool> {
    let settings = [
        ("ipv4", "route_localnet", "1"),
        ("ipv6", "accept_ra", "0"),
        ("ipv6", "accept_redirects", "0"),
        ("ipv6", "accept_dad", "0"),
    ];
    if !Path::new("/proc/sys/net/ipv4/conf").join(name).exists() {
        return Ok(false);
    }
    for (family, setting, value) in settings {
        let path = Path::new(ROOT).join(family).join("conf").join(name).join(setting);
        if path.exists() {
            write(&path, value)?;
        }
    }
    Ok(true)
}

/// What the ends of the second round need; false without IPv6.
///
/// What comes round has senders that are reached by other links, which is no reason to drop it: 2, because the greater of
/// this and the host's own setting counts.
pub(super) fn round(out: &str, back: &str) -> Result<bool> {
    let conf = |family: &str, link: &str, setting: &str| {
        Path::new(ROOT).join(family).join("conf").join(link).join(setting)
    };
    write(&conf("ipv4", back, "rp_filter"), "2")?;
    write(&conf("ipv4", back, "forwarding"), "1")?;
    if !conf("ipv6", back, "disable_ipv6").exists() {
        return Ok(false);
    }
    for link in [out, back] {
        for (setting, value) in [("disable_ipv6", "0"), ("accept_ra", "0"), ("accept_redirects", "0")] {
            write(&conf("ipv6", link, setting), value)?;
        }
    }
    write(&conf("ipv6", back, "forwarding"), "1")?;
    Ok(true)
}

fn forwarding(family: IpFamily) -> PathBuf {
    Path::new(ROOT).join(match family {
        IpFamily::V4 => "ipv4/ip_forward",
        IpFamily::V6 => "ipv6/conf/all/forwarding",
    })
}

fn write(path: &Path, value: &str) -> Result<()> {
    fs::write(path, value).map_err(|error| failed(&format!("write {value} to"), path, &error))
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    Error::system(format!("{what} {}: {error}; is /proc/sys writable here?", path.display()))
}
