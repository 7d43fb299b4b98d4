//! Settings of a link of ours that netlink cannot make: through `/proc/sys/net`, which shows the calling thread's network
//! namespace.

use std::fs;
use std::io::ErrorKind as Io;

use tare_model::error::{Error, Result};

/// Makes packets from and to 127.0.0.0/8 pass a bridge of ours, or not: needed to reach ports published on loopback. Dangerous
/// without a rule that drops what comes for those addresses from any other link (CVE-2020-8558).
///
/// # Errors
/// `System` if the setting cannot be written.
pub fn route_localnet(bridge: &str, on: bool) -> Result<()> {
    write("ipv4", bridge, "route_localnet", on)
}

/// No router that a container plays is believed (CVE-2020-13401), and without IPv6 on the network there is none of it on the
/// link either (CVE-2024-32473).
pub(super) fn quiet(link: &str, ipv6: bool) -> Result<()> {
    match write("ipv6", link, "accept_ra", false) {
        // The machine has no IPv6 at all.
        Err(_) if fs::metadata("/proc/sys/net/ipv6").is_err() => return Ok(()),
        outcome => outcome?,
    }
    write("ipv6", link, "disable_ipv6", !ipv6)
}

fn write(family: &str, link: &str, setting: &str, on: bool) -> Result<()> {
    let path = format!("/proc/sys/net/{family}/conf/{link}/{setting}");
    let value = if on { "1" } else { "0" };
    fs::write(&path, value).map_err(|error| {
        let hint = match error.kind() {
            Io::NotFound => ": is the link gone?",
            Io::ReadOnlyFilesystem | Io::PermissionDenied => ": the daemon needs a writable /proc/sys",
            _ => "",
        };
        Error::system(format!("write({path:?}, {value}): {error}{hint}"))
    })
}
