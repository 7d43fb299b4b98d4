//! `::1`: what the host's own programs connect to, or send to, on a published port of it goes to the container.
//!
//! The kernel translates no packet from `::1` on to another link, so that the address is changed before there is a packet: in
//! the call of the program that connects (`program.rs`). The hooks are on the root of cgroup v2, where every process is, and
//! concern sockets of this network namespace alone; others' hooks there are not touched. They cost a connection of IPv6 a
//! comparison, and packets nothing; datagrams too only while a port of UDP is published.
//!
//! ```text
//!   connect(::1, P)  ─▶ connect6 ─▶ the container's address and port     getpeername() ─▶ ::1, P
//!   sendto(::1, P)   ─▶ sendmsg6 ─▶ the same                             recvfrom()    ─▶ ::1, P
//! ```
//!
//! They are there while a port of `::` or `::1` is published and anybody holds them: the daemon, or whoever has what
//! [`Keep`] holds. The next daemon goes on with the maps, and puts its own programs in the place of the former ones.

mod program;

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use tare_model::error::{Error, Result};
use tare_model::network::{Protocol, Published};
use tare_sys::bpf::{AddressHook, Link, Map, MapKind, network_cookie};

use super::element::{Place, of_published};
use super::keep::Keep;
use super::rules::Ruleset;
use program::Of;

/// Ports of three protocols, each once.
const PORTS: u32 = 3 << 16;
/// Sockets that are remembered: of whoever is forgotten, a connection goes on and is told the container's address.
const SOCKETS: u32 = 1 << 14;
/// Those of connections, then those of datagrams.
const HOOKS: [AddressHook; 4] =
    [AddressHook::Connect6, AddressHook::Peer6, AddressHook::Send6, AddressHook::Receive6];
const OF_CONNECTIONS: usize = 2;

/// Bits that count, the protocol's number, nothing, the port.
type Key = [u8; 8];
/// The container's address, its port, nothing.
type Target = [u8; 20];
type Ports = Map<8, 20>;
type Answers = Map<28, 4>;

/// What is led where.
#[derive(Debug, Default)]
pub(super) struct Loopback {
    led: BTreeMap<Key, Target>,
    hooks: Option<Hooks>,
}

/// In the kernel.
#[derive(Debug)]
struct Hooks {
    ports: Ports,
    answers: Answers,
    /// Of the first of [`HOOKS`].
    links: Vec<Link>,
}

/// Whether a port is meant on `::1`, and can be.
fn entry(rules: &Ruleset, port: &Published) -> Option<(Key, Target)> {
    let Published { host_port, protocol, address, port: inside, .. } = port;
    let IpAddr::V6(address) = address else { return None };
    // Where addresses are routed, the host's numbers play no part.
    let translated = of_published(rules, port)?.place == Place::Nat;
    if !is_meant(port) || !translated || *protocol == Protocol::Sctp {
        return None;
    }
    let [high, low] = host_port.to_be_bytes();
    let mut key = [0, 0, 0, 0, protocol.number(), 0, high, low];
    key[..4].copy_from_slice(&32_u32.to_ne_bytes());
    let mut target = [0; 20];
    target[..16].copy_from_slice(&address.octets());
    target[16..18].copy_from_slice(&inside.to_be_bytes());
    Some((key, target))
}

/// It is published on `::1` alone, or on all addresses.
pub(super) fn is_meant(port: &Published) -> bool {
    port.host == IpAddr::V6(Ipv6Addr::UNSPECIFIED) || is_loopback(port)
}

/// It is published on `::1` alone.
pub(super) fn is_loopback(port: &Published) -> bool {
    port.host == IpAddr::V6(Ipv6Addr::LOCALHOST)
}

// === impl Loopback ===

impl Loopback {
    /// Leads everything that is published and nothing else, by way of what a daemon before has left in `keep`.
    ///
    /// # Errors
    /// The kernel's refusal; what is published no longer is not led even so, unless it refuses that.
    pub(super) fn load(&mut self, rules: &Ruleset, keep: &Keep, host: BorrowedFd<'_>) -> Result<()> {
        let wanted: BTreeMap<_, _> = rules.published.iter().filter_map(|port| entry(rules, port)).collect();
        if self.hooks.is_none() {
            self.hooks = Hooks::adopt(keep.take()?);
        }
        if wanted.is_empty() {
            return self.end(keep);
        }
        if let Some(hooks) = &mut self.hooks {
            // Before anything else: nobody goes where nothing is published any longer.
            for key in hooks.ports.keys().map_err(|e| failed("list the map of ports", e))? {
                if !wanted.contains_key(&key) {
                    there(hooks.ports.remove(&key))?;
                }
            }
            hooks.install(keep, host, datagrams(&wanted))?;
        }
        self.led.clear();
        self.lead(wanted, keep, host)
    }

    /// Leads these ports too, all or none.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn add(
        &mut self,
        rules: &Ruleset,
        ports: &[Published],
        keep: &Keep,
        host: BorrowedFd<'_>,
    ) -> Result<()> {
        let wanted: BTreeMap<_, _> = ports.iter().filter_map(|port| entry(rules, port)).collect();
        if wanted.is_empty() { Ok(()) } else { self.lead(wanted, keep, host) }
    }

    /// Leads these ports no longer.
    ///
    /// # Errors
    /// The kernel's refusal; as many as possible are led no longer.
    pub(super) fn remove(&mut self, rules: &Ruleset, ports: &[Published], keep: &Keep) -> Result<()> {
        let mut outcome = Ok(());
        for (key, _) in ports.iter().filter_map(|port| entry(rules, port)) {
            self.led.remove(&key);
            if let Some(hooks) = &self.hooks {
                outcome = outcome.and(there(hooks.ports.remove(&key)));
            }
        }
        if self.led.is_empty() { outcome.and(self.end(keep)) } else { outcome }
    }

    /// Takes the hooks away.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn end(&mut self, keep: &Keep) -> Result<()> {
        self.led.clear();
        let Some(hooks) = self.hooks.take() else { return Ok(()) };
        let detached = hooks.links.iter().map(detach).fold(Ok(()), Result::and);
        keep.take().map(drop).and(detached)
    }

    fn lead(&mut self, wanted: BTreeMap<Key, Target>, keep: &Keep, host: BorrowedFd<'_>) -> Result<()> {
        let led = self.try_to_lead(&wanted, keep, host);
        if led.is_ok() {
            self.led.extend(wanted);
        } else {
            for key in wanted.keys().filter(|key| !self.led.contains_key(*key)) {
                // The first error is the one to tell.
                let _ = self.hooks.as_ref().map(|hooks| hooks.ports.remove(key));
            }
            if self.led.is_empty() {
                let _ = self.end(keep);
            }
        }
        led
    }

    fn try_to_lead(
        &mut self,
        wanted: &BTreeMap<Key, Target>,
        keep: &Keep,
        host: BorrowedFd<'_>,
    ) -> Result<()> {
        let hooks = match &mut self.hooks {
            Some(hooks) => hooks,
            none => none.insert(Hooks::new()?),
        };
        if hooks.links.len() < count(datagrams(wanted)) {
            hooks.install(keep, host, datagrams(wanted))?;
        }
        let set = |(key, target)| hooks.ports.set(key, target);
        wanted.iter().try_for_each(set).map_err(|error| failed("set an entry of the map of ports", error))
    }
}

/// Whether any of them is of UDP.
fn datagrams(ports: &BTreeMap<Key, Target>) -> bool {
    ports.keys().any(|key| key[4] == Protocol::Udp.number())
}

fn count(datagrams: bool) -> usize {
    if datagrams { HOOKS.len() } else { OF_CONNECTIONS }
}

// === impl Hooks ===

impl Hooks {
    fn new() -> Result<Self> {
        let made = |what, error| failed(&format!("BPF_MAP_CREATE({what})"), error);
        let ports = Map::new(MapKind::Trie, *b"tare_ports\0\0\0\0\0\0", PORTS);
        let answers = Map::new(MapKind::Recent, *b"tare_answers\0\0\0\0", SOCKETS);
        Ok(Self {
            ports: ports.map_err(|e| made("trie", e))?,
            answers: answers.map_err(|e| made("LRU hash", e))?,
            links: Vec::new(),
        })
    }

    /// What [`Self::keep`] gave to be kept; none if that is nothing, or of another make.
    fn adopt(kept: Vec<OwnedFd>) -> Option<Self> {
        let mut kept = kept.into_iter();
        let ports = Map::adopt(kept.next()?).ok()?;
        let answers = Map::adopt(kept.next()?).ok()?;
        Some(Self { ports, answers, links: kept.map(Link::adopt).collect() })
    }

    /// Attaches our programs, in the place of those that are attached.
    fn install(&mut self, keep: &Keep, host: BorrowedFd<'_>, datagrams: bool) -> Result<()> {
        let namespace = network_cookie(host).map_err(|e| failed("getsockopt(SO_NETNS_COOKIE)", e))?;
        let of = Of { namespace, ports: self.ports.number(), answers: self.answers.number() };
        let root = root()?;
        let count = count(datagrams).max(self.links.len());
        for (at, hook) in HOOKS.into_iter().enumerate().take(count) {
            let code = match hook {
                AddressHook::Connect6 | AddressHook::Send6 => program::there(of),
                AddressHook::Peer6 | AddressHook::Receive6 => program::back(of),
            };
            let program =
                hook.load(&code).map_err(|e| failed(&format!("BPF_PROG_LOAD(cgroup, {hook:?})"), e))?;
            let replaced = self.links.get(at).map(|link| link.replace(program.as_fd()));
            if replaced != Some(Ok(())) {
                let link = hook.attach(root.as_fd(), program.as_fd());
                let link = link.map_err(|e| failed(&format!("BPF_LINK_CREATE(cgroup, {hook:?})"), e))?;
                match self.links.get_mut(at) {
                    Some(former) => *former = link,
                    None => self.links.push(link),
                }
            }
        }
        self.keep(keep)
    }

    fn keep(&self, keep: &Keep) -> Result<()> {
        let mut fds = vec![self.ports.as_fd(), self.answers.as_fd()];
        fds.extend(self.links.iter().map(AsFd::as_fd));
        keep.put(&fds)
    }
}

/// The root of cgroup v2, wherever it is mounted.
fn root() -> Result<File> {
    const MOUNTS: &str = "/proc/self/mountinfo";
    let failed = |what: &str, error| Error::system(format!("{what}: {error}"));
    let mounts = std::fs::read_to_string(MOUNTS).map_err(|error| failed(&format!("read {MOUNTS}"), error))?;
    let place = mounts.lines().find_map(root_of).ok_or_else(|| {
        Error::system("no cgroup v2 is mounted here (mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified)")
    })?;
    File::open(place).map_err(|error| failed(&format!("open {place}"), error))
}

/// Where a line of `mountinfo` has a cgroup v2 with its root.
fn root_of(line: &str) -> Option<&str> {
    let (mount, what) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let (root, place) = (fields.next()?, fields.next()?);
    (root == "/" && what.starts_with("cgroup2 ")).then_some(place)
}

fn detach(link: &Link) -> Result<()> {
    match link.detach() {
        // It is so already.
        Ok(()) | Err(Errno::NOLINK) => Ok(()),
        Err(error) => Err(failed("BPF_LINK_DETACH", error)),
    }
}

fn there(removed: rustix::io::Result<()>) -> Result<()> {
    match removed {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(failed("delete an entry of the map of ports", error)),
    }
}

fn failed(call: &str, error: Errno) -> Error {
    let hint = match error {
        Errno::PERM | Errno::ACCESS => "; it needs CAP_BPF and CAP_NET_ADMIN",
        Errno::INVAL | Errno::NOPROTOOPT | Errno::NOSYS => "; it needs Linux 5.14 with CONFIG_CGROUP_BPF",
        _ => "",
    };
    Error::system(format!("ports on ::1: {call}: {error}{hint}"))
}
