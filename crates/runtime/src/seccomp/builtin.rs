//! The filter of every container that asks for none: an allow-list that depends on the container's capabilities.
//!
//! What is allowed equals Docker's list on x86_64 and aarch64 (309 calls of 385 on x86_64 with the default capabilities;
//! a test counts), because images are made against it. Stricter in three ways:
//!
//! - socket families are an allow-list compared by equality on the 32 bits the kernel uses; Docker refuses
//!   two by number. Every other family is kernel code that hardly any container needs and that escapes were made of.
//! - the same for `socketpair`, which makes two sockets of the family before it finds out that they cannot be paired.
//! - 32-bit calls (`int 0x80`) and x32 calls are refused unless asked for: [`ThirtyTwoBit`].
//!
//! Refused calls answer `EPERM`, calls that are newer than this list `ENOSYS`, so that programs fall back.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use tare_model::capability::{CapSet, Capability};
use tare_sys::seccomp::{Flags, MAX_INSTRUCTIONS};

use super::allowed::{ALWAYS, BY_CAPABILITY, PACKED_SOCKETS};
use super::arch::Arch;
use super::profile::{Action, Condition, ENOSYS, EPERM, Profile, Rule, Test};
use super::{Program, codegen};

/// Whether 32-bit x86 programs run (on other machines there is no difference).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ThirtyTwoBit {
    /// Their calls are refused.
    #[default]
    Refused,
    /// For images that are 32-bit. Their C libraries make sockets through `socketcall`, whose arguments a filter cannot see:
    /// the list of socket families does not hold for 32-bit programs.
    Allowed,
}

/// Families a container may make sockets of.
const SOCKET_FAMILIES: &[u64] = &[
    1,  // AF_UNIX
    2,  // AF_INET
    10, // AF_INET6
    16, // AF_NETLINK: interfaces, routes, `ss`; the C library's getifaddrs
    17, // AF_PACKET: needs NET_RAW, which is a default capability for tcpdump, arping and DHCP clients
];

/// Execution domains that change nothing but what `uname` says; others switch off address-space randomisation and
/// the like.
const PERSONALITIES: &[u64] = &[
    0,           // PER_LINUX
    0x0008,      // PER_LINUX32
    0x0002_0000, // UNAME26
    0x0002_0008, // both
    0xffff_ffff, // only asks
];

/// The flags of `clone` that make namespaces: mount, cgroup, uts, ipc, user, pid, network.
const CLONE_NEW: u64 = 0x7e02_0000;

/// Programs kept at once; a machine has a handful of capability sets.
const CACHE_SIZE: usize = 64;

type Key = (CapSet, ThirtyTwoBit);
static CACHE: LazyLock<Mutex<BTreeMap<Key, Arc<Program>>>> = LazyLock::new(Mutex::default);

/// The default filter for a container with these (bounding) capabilities. Compiled once for each set.
pub fn default_program(caps: CapSet) -> Arc<Program> {
    default_program_for(caps, ThirtyTwoBit::Refused)
}

/// As [`default_program`], for images that need 32-bit calls.
pub fn default_program_for(caps: CapSet, thirty_two: ThirtyTwoBit) -> Arc<Program> {
    let key = (relevant(caps), thirty_two);
    // A panic elsewhere leaves the map whole: entries are inserted complete.
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = cache.get(&key) {
        return Arc::clone(program);
    }
    let program = Arc::new(build(key.0, thirty_two));
    if cache.len() >= CACHE_SIZE {
        cache.clear();
    }
    cache.insert(key, Arc::clone(&program));
    program
}

/// The capabilities that change the filter.
fn relevant(caps: CapSet) -> CapSet {
    let ours: CapSet = BY_CAPABILITY.iter().flat_map(|(any, _)| any.iter().copied()).collect();
    caps.intersection(ours)
}

fn build(caps: CapSet, thirty_two: ThirtyTwoBit) -> Program {
    let profile = profile(caps, thirty_two, Arch::NATIVE);
    let code = codegen::generate(&profile).unwrap_or_default();
    // The tables are constants: a test compiles them for every capability set that differs.
    debug_assert!(!code.is_empty() && code.len() <= MAX_INSTRUCTIONS);
    Program { code, flags: Flags::SPEC_ALLOW, notes: Vec::new(), notifies: false }
}

/// The meaning of the default filter.
pub(super) fn profile(caps: CapSet, thirty_two: ThirtyTwoBit, native: Arch) -> Profile<'static> {
    let mut arches = vec![native];
    if thirty_two == ThirtyTwoBit::Allowed && native == Arch::X86_64 {
        arches.push(Arch::I386);
    }
    let mut rules: Vec<Rule<'static>> =
        ALWAYS.iter().map(|names| allow(names.to_vec(), Vec::new())).collect();
    for (any_of, names) in BY_CAPABILITY {
        if any_of.iter().any(|cap| caps.contains(*cap)) {
            rules.push(allow(names.to_vec(), Vec::new()));
        }
    }
    rules.extend(with_arguments(caps));
    if thirty_two == ThirtyTwoBit::Allowed {
        rules.push(allow(PACKED_SOCKETS.to_vec(), Vec::new()));
    }
    let refused = Action::Errno(EPERM);
    Profile { default: refused, foreign: refused, newer: Some(Action::Errno(ENOSYS)), arches, rules }
}

/// Calls that are allowed for some arguments.
fn with_arguments(caps: CapSet) -> Vec<Rule<'static>> {
    let first_is = |value: u64| vec![Condition::new(0, Test::Equal(value))];
    let mut rules: Vec<Rule<'static>> = Vec::new();
    rules.extend(SOCKET_FAMILIES.iter().map(|family| allow(vec!["socket", "socketpair"], first_is(*family))));
    rules.extend(PERSONALITIES.iter().map(|persona| allow(vec!["personality"], first_is(*persona))));
    if !caps.contains(Capability::SYS_ADMIN) {
        let no_namespaces = Test::Masked { mask: CLONE_NEW, value: 0 };
        rules.push(allow(vec!["clone"], vec![Condition::new(0, no_namespaces)]));
        // Its flags are behind a pointer. "Not there" makes the C library use clone, which can be checked.
        rules.push(Rule { names: vec!["clone3"], conditions: Vec::new(), action: Action::Errno(ENOSYS) });
    }
    rules
}

fn allow(names: Vec<&'static str>, conditions: Vec<Condition>) -> Rule<'static> {
    Rule { names, conditions, action: Action::Allow }
}
