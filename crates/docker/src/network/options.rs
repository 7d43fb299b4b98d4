//! `Options`: what the drivers know of them. An option that none of ours knows is kept and shown, as Docker does with
//! those of its own drivers, and whoever asks is told; one that Docker's driver acts on and ours cannot is refused.

use std::collections::BTreeMap;
use std::str::FromStr;

use tare_model::network::{BridgeOptions, Driver, GatewayMode, ParentMode, ParentOptions};
use tare_model::{Error, Result};

/// What the options say.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) bridge: BridgeOptions,
    pub(super) parent: ParentOptions,
    /// The old spelling of `EnableIPv4`.
    pub(super) ipv4: Option<bool>,
    /// The same of `EnableIPv6`.
    pub(super) ipv6: Option<bool>,
    /// Names of those that nothing is done about.
    pub(super) unknown: Vec<String>,
}

/// Longest name of a link (`IFNAMSIZ` without its zero byte).
const LINK_MAX: usize = 15;
/// Longest prefix of an interface's name: digits follow.
const PREFIX_MAX: usize = 10;
/// Smallest packet that IPv4 allows (RFC 791), and the kernel's largest.
const MTU: std::ops::RangeInclusive<u32> = 68..=65_535;

pub(super) fn options(driver: Driver, options: &BTreeMap<String, String>) -> Result<Read> {
    let mut read = Read::default();
    for (name, value) in options {
        let known = common(name, value, &mut read)?
            || match driver {
                Driver::Bridge => bridge(name, value, &mut read.bridge)?,
                Driver::Macvlan | Driver::Ipvlan => parent(driver, name, value, &mut read.parent)?,
                Driver::Host | Driver::None => false,
            };
        if !known {
            read.unknown.push(name.clone());
        }
    }
    if driver == Driver::Bridge
        && options.get(MASQUERADE).map(|v| truth(MASQUERADE, v)).transpose()? == Some(false)
    {
        for mode in [&mut read.bridge.gateway_ipv4, &mut read.bridge.gateway_ipv6] {
            if *mode == GatewayMode::Nat {
                *mode = GatewayMode::NatUnprotected;
            }
        }
    }
    if driver == Driver::Ipvlan
        && options.get("ipvlan_flag").is_some_and(|flag| flag == "private")
        && read.parent.mode != ParentMode::Private
    {
        return Err(Error::unsupported(
            "Options.ipvlan_flag = \"private\" goes with ipvlan_mode \"l2\" only",
        ));
    }
    Ok(read)
}

/// Nothing leaves or enters an isolated gateway, so only a network that nothing leaves can have it.
pub(super) fn isolated(bridge: &BridgeOptions, internal: bool) -> Result<()> {
    let has = [bridge.gateway_ipv4, bridge.gateway_ipv6].contains(&GatewayMode::Isolated);
    if has && !internal {
        return Err(Error::invalid("gateway mode 'isolated' can only be used for an internal network"));
    }
    Ok(())
}

/// Options of every driver; whether it is one.
fn common(name: &str, value: &str, read: &mut Read) -> Result<bool> {
    match name {
        "com.docker.network.driver.mtu" => {
            let mtu = number::<u32>(name, value)?;
            if mtu != 0 && !MTU.contains(&mtu) {
                return Err(wrong(name, value, "want 68 to 65535"));
            }
            read.bridge.mtu = Some(mtu).filter(|mtu| *mtu != 0);
        }
        "com.docker.network.container_iface_prefix" => read.bridge.interface_prefix = prefix(name, value)?,
        "com.docker.network.enable_ipv4" => read.ipv4 = Some(truth(name, value)?),
        "com.docker.network.enable_ipv6" => read.ipv6 = Some(truth(name, value)?),
        _ => return Ok(false),
    }
    Ok(true)
}

const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";

fn bridge(name: &str, value: &str, options: &mut BridgeOptions) -> Result<bool> {
    match name {
        "com.docker.network.bridge.name" => {
            options.name = Some(link(name, value)?);
        }
        "com.docker.network.bridge.enable_icc" => options.icc = truth(name, value)?,
        "com.docker.network.bridge.gateway_mode_ipv4" => options.gateway_ipv4 = gateway(value)?,
        "com.docker.network.bridge.gateway_mode_ipv6" => options.gateway_ipv6 = gateway(value)?,
        "com.docker.network.bridge.host_binding_ipv4" => options.host_binding = address(name, value)?,
        "com.docker.network.host_ipv4" => options.host_ipv4 = address(name, value)?,
        "com.docker.network.host_ipv6" => options.host_ipv6 = address(name, value)?,
        MASQUERADE => {} // with the gateway modes, which may come later
        "tare.network.spoofing" => options.spoofing = truth(name, value)?,
        "com.docker.network.bridge.inhibit_ipv4" | "com.docker.network.bridge.default_bridge" => {
            if truth(name, value)? {
                let why = "the bridge has its address, and there is one default network";
                return Err(refused(name, value, why));
            }
        }
        "com.docker.network.bridge.trusted_host_interfaces" => {
            if !value.is_empty() {
                let why = "use gateway mode \"routed\" to be reached from other links";
                return Err(refused(name, value, why));
            }
        }
        "tare.network.rate" => {
            options.rates = value.parse().map_err(|e: Error| e.context(format!("Options.{name}")))?;
        }
        other if other.starts_with("tare.network.") => {
            return Err(refused(name, value, "there is no such option"));
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn parent(driver: Driver, name: &str, value: &str, options: &mut ParentOptions) -> Result<bool> {
    match (driver, name) {
        (_, ours) if ours.starts_with("tare.network.") => {
            return Err(refused(name, value, "it needs the bridge driver"));
        }
        (_, "parent") if value.is_empty() => {}
        (_, "parent") => options.link = Some(link(name, value)?),
        (Driver::Macvlan, "macvlan_mode") => {
            options.mode = match value {
                "" | "bridge" => ParentMode::Default,
                "vepa" => ParentMode::Vepa,
                "passthru" => ParentMode::Passthru,
                "private" => ParentMode::Private,
                _ => {
                    return Err(Error::invalid(format!(
                        "requested macvlan mode '{value}' is not valid, 'bridge' mode is the macvlan driver default"
                    )));
                }
            }
        }
        (Driver::Ipvlan, "ipvlan_mode") => {
            let mode = match value {
                "" | "l2" => ParentMode::Default,
                "l3" => ParentMode::L3,
                "l3s" => ParentMode::L3s,
                _ => {
                    return Err(Error::invalid(format!(
                        "requested ipvlan mode '{value}' is not valid, 'l2' mode is the ipvlan driver default"
                    )));
                }
            };
            // The flag stands before the mode in the order of names, and only private is one of both.
            if mode != ParentMode::Default {
                options.mode = mode;
            }
        }
        (Driver::Ipvlan, "ipvlan_flag") => match value {
            "" | "bridge" => {}
            "private" => options.mode = ParentMode::Private,
            "vepa" => return Err(refused(name, value, "use \"bridge\" or \"private\"")),
            _ => {
                return Err(Error::invalid(format!(
                    "requested ipvlan flag '{value}' is not valid, 'bridge' is the ipvlan driver default"
                )));
            }
        },
        _ => return Ok(false),
    }
    Ok(true)
}

fn wrong(name: &str, value: &str, why: &str) -> Error {
    Error::invalid(format!("failed to parse {name} value: {value:?} ({why})"))
}

fn refused(name: &str, value: &str, why: &str) -> Error {
    Error::unsupported(format!("Options.{name} = {value:?}: {why}"))
}

/// The spellings that Go's flag packages know.
fn truth(name: &str, value: &str) -> Result<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(wrong(name, value, "want true or false")),
    }
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T> {
    value.parse().map_err(|_| wrong(name, value, "want a number"))
}

/// An address; empty for none.
fn address<T: FromStr>(name: &str, value: &str) -> Result<Option<T>> {
    match value {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| wrong(name, value, "want an IP address")),
    }
}

fn gateway(value: &str) -> Result<GatewayMode> {
    match value {
        "" | "nat" => Ok(GatewayMode::Nat),
        "routed" => Ok(GatewayMode::Routed),
        "nat-unprotected" => Ok(GatewayMode::NatUnprotected),
        "isolated" => Ok(GatewayMode::Isolated),
        _ => Err(Error::invalid(format!(
            "unknown gateway mode {value}: want nat, routed, nat-unprotected or isolated"
        ))),
    }
}

/// A name that the kernel takes for a link.
fn link(name: &str, value: &str) -> Result<String> {
    let bad = value.bytes().any(|b| b <= b' ' || b == 0x7f || b == b'/' || b == b':');
    if value.is_empty() || value.len() > LINK_MAX || bad || matches!(value, "." | "..") {
        return Err(wrong(name, value, "want 1 to 15 characters without blanks, '/' and ':'"));
    }
    Ok(value.to_owned())
}

fn prefix(name: &str, value: &str) -> Result<Option<String>> {
    if value.len() > PREFIX_MAX {
        return Err(wrong(name, value, "want at most 10 characters"));
    }
    if value.is_empty() { Ok(None) } else { link(name, value).map(Some) }
}
