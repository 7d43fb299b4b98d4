//! Settings of links of ours that go with the rules.

use std::fs;
use std::io;
use std::path::Path;

use tare_model::error::{Error, Result};

const ROOT: &str = "/proc/sys/net";

/// What a bridge needs: false if it is not there.
///
/// Packets of the host to its own 127.0.0.0/8 may leave by it, which the rules turn into something sane and without
/// which they would never get there. No container can tell the host about routes (CVE-2020-13401). Its link-local address
/// needs no detection of others that have it: nothing is forwarded to containers while that lasts.
pub(super) fn bridge(name: &str) -> Result<bool> {
    let settings = [
        ("ipv4", "route_localnet", "1"),
        ("ipv4", "accept_redirects", "0"),
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
    // Whatever new links begin with; not 1, which would be somebody's wish (`forwarding.rs`).
    write(&conf("ipv4", back, "forwarding"), "2")?;
    if !conf("ipv6", back, "disable_ipv6").exists() {
        return Ok(false);
    }
    for link in [out, back] {
        for (setting, value) in [("disable_ipv6", "0"), ("accept_ra", "0"), ("accept_redirects", "0")] {
            write(&conf("ipv6", link, setting), value)?;
        }
    }
    Ok(true)
}

fn write(path: &Path, value: &str) -> Result<()> {
    fs::write(path, value).map_err(|error| failed(&format!("write {value} to"), path, &error))
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    Error::system(format!("{what} {}: {error}; is /proc/sys writable here?", path.display()))
}
