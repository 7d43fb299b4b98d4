//! The engine's own filters: allow-lists that depend on the container's capabilities.
//!
//! [`Builtin::Default`] is the filter of every container that asks for none. What it allows equals Docker's list on x86_64
//! and aarch64 (309 calls of 385 on x86_64 with the default capabilities; a test counts), because images are made against
//! it. Stricter in three ways:
//!
//! - socket families are an allow-list compared by equality on the 32 bits the kernel uses; Docker refuses
//!   two by number. Every other family is kernel code that hardly any container needs and that escapes were made of.
//! - the same for `socketpair`, which makes two sockets of the family before it finds out that they cannot be paired.
//! - 32-bit calls (`int 0x80`) and x32 calls are refused unless asked for: [`ThirtyTwoBit`].
//!
//! [`Builtin::Strict`] leaves out of that what services do without ([`NOT_STRICT`] says what and why) and looks into more
//! arguments. [`Builtin::Docker`] is Docker 29.7's own, with its gaps: every family but two, all 32-bit calls.
//!
//! Refused calls answer `EPERM`, calls that are newer than this list `ENOSYS`, so that programs fall back.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use tare_model::capability::{CapSet, Capability};
use tare_sys::seccomp::{Flags, MAX_INSTRUCTIONS};

use super::allowed::{ALWAYS, BY_CAPABILITY, NOT_DOCKER, NOT_STRICT, PACKED_SOCKETS};
use super::arch::Arch;
use super::profile::{Action, Condition, ENOSYS, EPERM, Profile, Rule, Test};
use super::{Program, codegen};

/// Which of the engine's own filters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Builtin {
    /// For containers that ask for none.
    #[default]
    Default,
    /// For services that need little.
    Strict,
    /// For images that need what only Docker allows.
    Docker,
}

/// Whether 32-bit programs run: i386 ones on x86_64, ARM ones on aarch64. [`Builtin::Docker`] always runs them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ThirtyTwoBit {
    /// Their calls are refused.
    #[default]
    Refused,
    /// For images that are 32-bit. i386's C libraries make sockets through `socketcall`, whose arguments a filter cannot
    /// see: the list of socket families does not hold for i386 programs.
    Allowed,
}

const AF_UNIX: u64 = 1;
const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
/// Interfaces, routes, `ss`; the C library's `getifaddrs`.
const AF_NETLINK: u64 = 16;
/// Needs NET_RAW, which is a default capability for tcpdump, arping and DHCP clients.
const AF_PACKET: u64 = 17;
/// The kernel's cryptography; CVE-2026-31431.
const AF_ALG: u64 = 38;
/// To the hypervisor, past every network rule.
const AF_VSOCK: u64 = 40;

/// Families a container may make sockets of.
const SOCKET_FAMILIES: &[u64] = &[AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET];
/// And a strict one; netlink only for [`NETLINK_ROUTE`].
const STRICT_FAMILIES: &[u64] = &[AF_UNIX, AF_INET, AF_INET6];
/// The one netlink protocol that programs without NET_ADMIN use: the C library asks it for addresses.
const NETLINK_ROUTE: u64 = 0;
const EPROTONOSUPPORT: u16 = 93;

/// Execution domains that change nothing but what `uname` says; others switch off address-space randomisation and
/// the like.
const PERSONALITIES: &[u64] = &[
    0,           // PER_LINUX
    0x0008,      // PER_LINUX32
    0x0002_0000, // UNAME26
    0x0002_0008, // both
    0xffff_ffff, // only asks
];

/// For strict containers: PER_LINUX, and asking.
const STRICT_PERSONALITIES: &[u64] = &[0, 0xffff_ffff];

/// The flags of `clone` that make namespaces: mount, cgroup, uts, ipc, user, pid, network.
const CLONE_NEW: u64 = 0x7e02_0000;

/// Programs kept at once; a machine has a handful of capability sets.
const CACHE_SIZE: usize = 64;

/// What `mknod` makes without any capability: regular files, FIFOs, sockets.
const PLAIN_NODES: &[u64] = &[0, 0o100_000, 0o010_000, 0o140_000];
/// The bits of a mode that say what kind of file.
const KIND_OF_FILE: u64 = 0o170_000;

/// `ioctl`s that put input into a terminal, as if somebody had typed it: TIOCSTI, TIOCLINUX.
const TYPING: &[u64] = &[0x5412, 0x541c];

type Key = (Builtin, CapSet, ThirtyTwoBit);
static CACHE: LazyLock<Mutex<BTreeMap<Key, Arc<Program>>>> = LazyLock::new(Mutex::default);

/// The filter for a container with these (bounding) capabilities. Compiled once for each set that makes a difference.
pub fn builtin_program(kind: Builtin, caps: CapSet, thirty_two: ThirtyTwoBit) -> Arc<Program> {
    let key = (kind, kind.relevant(caps), thirty_two);
    // A panic elsewhere leaves the map whole: entries are inserted complete.
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = cache.get(&key) {
        return Arc::clone(program);
    }
    let program = Arc::new(build(kind, key.1, thirty_two));
    if cache.len() >= CACHE_SIZE {
        cache.clear();
    }
    cache.insert(key, Arc::clone(&program));
    program
}

fn build(kind: Builtin, caps: CapSet, thirty_two: ThirtyTwoBit) -> Program {
    let profile = profile(kind, caps, thirty_two, Arch::NATIVE);
    let code = codegen::generate(&profile).unwrap_or_default();
    // The tables are constants: a test compiles them for every capability set that differs.
    debug_assert!(!code.is_empty() && code.len() <= MAX_INSTRUCTIONS);
    Program { code, flags: Flags::SPEC_ALLOW, notes: Vec::new(), notifies: false }
}

/// The meaning of a filter.
pub(super) fn profile(
    kind: Builtin,
    caps: CapSet,
    thirty_two: ThirtyTwoBit,
    native: Arch,
) -> Profile<'static> {
    let mut rules: Vec<Rule<'static>> =
        ALWAYS.iter().map(|names| allow(kind.keep(names), Vec::new())).collect();
    for (any_of, names) in BY_CAPABILITY {
        if any_of.iter().any(|cap| caps.contains(*cap)) {
            rules.push(allow(names.to_vec(), Vec::new()));
        }
    }
    rules.extend(namespaces(caps));
    rules.extend(kind.sockets(caps));
    rules.extend(kind.personalities().iter().map(|persona| when(&["personality"], 0, Test::Equal(*persona))));
    if kind == Builtin::Strict {
        rules.extend(strict());
    }
    let arches = arches(kind, thirty_two, native);
    if kind == Builtin::Docker || thirty_two == ThirtyTwoBit::Allowed {
        rules.push(allow(PACKED_SOCKETS.to_vec(), Vec::new()));
    }
    let refused = Action::Errno(EPERM);
    Profile { default: refused, foreign: refused, newer: Some(Action::Errno(ENOSYS)), arches, rules }
}

fn arches(kind: Builtin, thirty_two: ThirtyTwoBit, native: Arch) -> Vec<Arch> {
    match (kind, thirty_two) {
        (Builtin::Docker, _) => native.family().to_vec(),
        // x32 is a 64-bit program's way around rules; no image is made of it.
        (_, ThirtyTwoBit::Allowed) => native.family().iter().copied().filter(|a| *a != Arch::X32).collect(),
        (_, ThirtyTwoBit::Refused) => vec![native],
    }
}

// === impl Builtin ===

impl Builtin {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Default, Self::Strict, Self::Docker];

    /// The capabilities that change the filter.
    fn relevant(self, caps: CapSet) -> CapSet {
        let by_call: CapSet = BY_CAPABILITY.iter().flat_map(|(any, _)| any.iter().copied()).collect();
        let by_argument: &[Capability] = match self {
            Self::Strict => &[Capability::NET_ADMIN, Capability::NET_RAW],
            Self::Default | Self::Docker => &[],
        };
        caps.intersection(by_call.union(CapSet::of(by_argument)))
    }

    fn keep(self, names: &[&'static str]) -> Vec<&'static str> {
        let without: &[&str] = match self {
            Self::Default => &[],
            Self::Strict => NOT_STRICT,
            Self::Docker => NOT_DOCKER,
        };
        names.iter().copied().filter(|name| !without.contains(name)).collect()
    }

    fn sockets(self, caps: CapSet) -> Vec<Rule<'static>> {
        let family = |calls, family: &u64| when(calls, 0, Test::Equal(*family));
        match self {
            Self::Default => SOCKET_FAMILIES.iter().map(|f| family(&["socket", "socketpair"], f)).collect(),
            Self::Strict => {
                let mut rules: Vec<_> = STRICT_FAMILIES.iter().map(|f| family(&["socket"], f)).collect();
                let mut netlink = family(&["socket"], &AF_NETLINK);
                if !caps.contains(Capability::NET_ADMIN) {
                    netlink.conditions.push(Condition::new(2, Test::Equal(NETLINK_ROUTE)));
                }
                // "No such protocol" is what PAM and its like take for a kernel without audit, and go on.
                let other =
                    Rule { action: Action::Errno(EPROTONOSUPPORT), ..family(&["socket"], &AF_NETLINK) };
                let packet = family(&["socket"], &AF_PACKET);
                rules.extend(caps.contains(Capability::NET_RAW).then_some(packet));
                rules.push(netlink);
                rules.extend((!caps.contains(Capability::NET_ADMIN)).then_some(other));
                rules.push(family(&["socketpair"], &AF_UNIX));
                rules
            }
            Self::Docker => vec![
                when(&["socket"], 0, Test::Less(AF_ALG)),
                when(&["socket"], 0, Test::Equal(AF_ALG + 1)),
                when(&["socket"], 0, Test::Greater(AF_VSOCK)),
                allow(vec!["socketpair"], Vec::new()),
            ],
        }
    }

    fn personalities(self) -> &'static [u64] {
        match self {
            Self::Default | Self::Docker => PERSONALITIES,
            Self::Strict => STRICT_PERSONALITIES,
        }
    }
}

/// No namespaces without SYS_ADMIN.
fn namespaces(caps: CapSet) -> Vec<Rule<'static>> {
    if caps.contains(Capability::SYS_ADMIN) {
        return Vec::new();
    }
    vec![
        when(&["clone"], 0, Test::Masked { mask: CLONE_NEW, value: 0 }),
        // Its flags are behind a pointer. "Not there" makes the C library use clone, which can be checked.
        Rule { names: vec!["clone3"], conditions: Vec::new(), action: Action::Errno(ENOSYS) },
    ]
}

/// Calls that the strict filter allows for some arguments only.
fn strict() -> Vec<Rule<'static>> {
    let no_typing = TYPING.iter().map(|request| Condition::new(1, Test::NotEqual(*request))).collect();
    let plain = |kind: &u64| Test::Masked { mask: KIND_OF_FILE, value: *kind };
    let mut rules = vec![allow(vec!["ioctl"], no_typing)];
    rules.extend(PLAIN_NODES.iter().map(|kind| when(&["mknod"], 1, plain(kind))));
    rules.extend(PLAIN_NODES.iter().map(|kind| when(&["mknodat"], 2, plain(kind))));
    rules
}

fn when(names: &[&'static str], argument: u8, test: Test) -> Rule<'static> {
    allow(names.to_vec(), vec![Condition::new(argument, test)])
}

fn allow(names: Vec<&'static str>, conditions: Vec<Condition>) -> Rule<'static> {
    Rule { names, conditions, action: Action::Allow }
}
