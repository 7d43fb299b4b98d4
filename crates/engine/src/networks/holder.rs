//! Who has a port of the host: looked for only to name it in an error.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use tare_model::network::Protocol;

/// `nginx (PID 123)`, or as much as can be found out.
pub(super) fn of(protocol: Protocol, address: SocketAddr) -> String {
    let family = if address.is_ipv4() { "" } else { "6" };
    let any = "another program of the host".to_owned();
    // A socket of IPv6 holds the port of IPv4 too, unless it was told not to.
    let tables = [format!("/proc/net/{protocol}{family}"), format!("/proc/net/{protocol}6")];
    let inode = tables.iter().find_map(|table| inode_in(&fs::read_to_string(table).ok()?, address));
    inode.and_then(|inode| process_with(inode, Path::new("/proc"))).unwrap_or(any)
}

/// The inode of a socket that holds `address`, by a table as /proc/net/tcp.
fn inode_in(table: &str, address: SocketAddr) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let (ip, port) = fields.nth(1)?.rsplit_once(':')?;
        let state = fields.nth(1)?;
        if u16::from_str_radix(port, 16).ok()? != address.port() || !matches!(state, "0A" | "07") {
            return None;
        }
        let any = ip.bytes().all(|b| b == b'0');
        if !any && !address.ip().is_unspecified() && ip_of(ip)? != address.ip() {
            return None;
        }
        fields.nth(5)?.parse().ok().filter(|inode| *inode != 0)
    })
}

/// Words of four bytes in the machine's order.
fn ip_of(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    if hex.len() == 8 {
        return word(0).map(IpAddr::from);
    }
    let mut bytes = [0; 16];
    for (at, four) in bytes.chunks_mut(4).enumerate() {
        four.copy_from_slice(&word(8 * at)?);
    }
    Some(IpAddr::from(bytes))
}

fn process_with(inode: u64, proc: &Path) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    for process in fs::read_dir(proc).ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|b| b.is_ascii_digit())) else {
            continue;
        };
        let Ok(fds) = fs::read_dir(process.path().join("fd")) else { continue };
        let has = fds
            .flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == wanted.as_str()));
        if has {
            let program = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (PID {pid})", program.trim_end()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_this_program_is_found_by_its_port() {
        for address in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"] {
            let listener = std::net::TcpListener::bind(address).unwrap();
            let found = of(Protocol::Tcp, listener.local_addr().unwrap());
            assert!(found.ends_with(&format!("(PID {})", std::process::id())), "{address}: {found}");
        }
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(of(Protocol::Tcp, nobody), "another program of the host");
    }
}
