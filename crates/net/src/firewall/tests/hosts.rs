//! Debian's ufw and firewalld, in a root of their own: what they shut stays shut, what they open is open.

#[test]
fn ufw_decides_about_published_ports() {
    let root = tare_kit::debs::debian("firewalls", &["ufw", "firewalld", "iptables", "nftables", "dbus", "python3-gi"]);
    eprintln!("{}", root.display());
}
