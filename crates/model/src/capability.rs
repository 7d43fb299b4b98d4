//! Linux capabilities by name and as sets: pure values, shared by the command line, the engine and the runtime.
//!
//! A [`Capability`] is one of the kernel's 41, a [`CapSet`] a set of them as the kernel's own 64-bit mask. People
//! write capabilities in several ways (`NET_ADMIN`, `cap_net_admin`, `ALL`); [`CapSet::adjust`] turns Docker's
//! `--cap-add` and `--cap-drop` lists into a set, with Docker's rules of precedence.

use std::fmt;

/// One capability, numbered as in the kernel's `linux/capability.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

/// A set of capabilities: bit N stands for capability number N.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CapSet(u64);

/// A name that is no capability.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown capability {name:?}: write a name such as NET_ADMIN or CAP_NET_ADMIN, or ALL")]
pub struct UnknownCapability {
    /// What was written.
    pub name: String,
}

/// The kernel's names without the `CAP_` prefix; the index is the kernel's number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

// === impl Capability ===

impl Capability {
    /// Override file ownership checks.
    pub const CHOWN: Self = Self(0);
    /// Override permission bits.
    pub const DAC_OVERRIDE: Self = Self(1);
    /// Read and search anything; also `open_by_handle_at`.
    pub const DAC_READ_SEARCH: Self = Self(2);
    /// Act as the owner of any file.
    pub const FOWNER: Self = Self(3);
    /// Keep set-id bits on change.
    pub const FSETID: Self = Self(4);
    /// Signal any process.
    pub const KILL: Self = Self(5);
    /// Change group ids.
    pub const SETGID: Self = Self(6);
    /// Change user ids.
    pub const SETUID: Self = Self(7);
    /// Change capability sets.
    pub const SETPCAP: Self = Self(8);
    /// Bind ports below 1024.
    pub const NET_BIND_SERVICE: Self = Self(10);
    /// Configure networks.
    pub const NET_ADMIN: Self = Self(12);
    /// Raw and packet sockets.
    pub const NET_RAW: Self = Self(13);
    /// Load kernel modules.
    pub const SYS_MODULE: Self = Self(16);
    /// I/O ports and raw memory.
    pub const SYS_RAWIO: Self = Self(17);
    /// `chroot`.
    pub const SYS_CHROOT: Self = Self(18);
    /// Trace any process.
    pub const SYS_PTRACE: Self = Self(19);
    /// Process accounting.
    pub const SYS_PACCT: Self = Self(20);
    /// Mounts, namespaces and much else.
    pub const SYS_ADMIN: Self = Self(21);
    /// `reboot`.
    pub const SYS_BOOT: Self = Self(22);
    /// Priorities and memory policy of others.
    pub const SYS_NICE: Self = Self(23);
    /// Set clocks.
    pub const SYS_TIME: Self = Self(25);
    /// `vhangup`.
    pub const SYS_TTY_CONFIG: Self = Self(26);
    /// Make device nodes.
    pub const MKNOD: Self = Self(27);
    /// Write to the audit log.
    pub const AUDIT_WRITE: Self = Self(29);
    /// Set file capabilities.
    pub const SETFCAP: Self = Self(31);
    /// The kernel's log.
    pub const SYSLOG: Self = Self(34);
    /// Performance monitoring.
    pub const PERFMON: Self = Self(38);
    /// BPF programs.
    pub const BPF: Self = Self(39);

    /// The capability of this number, if the table knows it.
    pub fn from_number(number: u8) -> Option<Self> {
        (usize::from(number) < NAMES.len()).then_some(Self(number))
    }

    /// Reads a name: any case, with or without `CAP_`. `ALL` is no single capability; see [`CapSet::adjust`].
    pub fn parse(name: &str) -> Result<Self, UnknownCapability> {
        let bare = without_prefix(name);
        let found = NAMES.iter().position(|known| known.eq_ignore_ascii_case(bare));
        found
            .and_then(|number| u8::try_from(number).ok())
            .map(Self)
            .ok_or_else(|| UnknownCapability { name: name.to_owned() })
    }

    /// The kernel's number.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The name without prefix, `NET_ADMIN`.
    pub fn name(self) -> &'static str {
        NAMES.get(usize::from(self.0)).copied().unwrap_or("UNKNOWN")
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CAP_{}", self.name())
    }
}

fn without_prefix(name: &str) -> &str {
    match name.get(..4) {
        Some(head) if head.eq_ignore_ascii_case("CAP_") => &name[4..],
        _ => name,
    }
}

// === impl CapSet ===

impl CapSet {
    /// No capability.
    pub const EMPTY: Self = Self(0);
    /// Every capability of the table.
    pub const ALL: Self = Self((1 << NAMES.len()) - 1);

    /// What a container gets when nothing is asked for: Docker's fourteen, which packages and services rely on.
    pub const CONTAINER_DEFAULT: Self = Self::of(&[
        Capability::CHOWN,
        Capability::DAC_OVERRIDE,
        Capability::FSETID,
        Capability::FOWNER,
        Capability::MKNOD,
        Capability::NET_RAW,
        Capability::SETGID,
        Capability::SETUID,
        Capability::SETFCAP,
        Capability::SETPCAP,
        Capability::NET_BIND_SERVICE,
        Capability::SYS_CHROOT,
        Capability::KILL,
        Capability::AUDIT_WRITE,
    ]);

    /// The nine of `--security-opt profile=strict`: nothing that makes nodes, raw packets or audit records.
    pub const CONTAINER_STRICT: Self = Self::of(&[
        Capability::CHOWN,
        Capability::DAC_OVERRIDE,
        Capability::FSETID,
        Capability::FOWNER,
        Capability::SETGID,
        Capability::SETUID,
        Capability::SETPCAP,
        Capability::NET_BIND_SERVICE,
        Capability::KILL,
    ]);

    /// The set of these.
    pub const fn of(list: &[Capability]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < list.len() {
            bits |= 1 << list[i].0;
            i += 1;
        }
        Self(bits)
    }

    /// The set with these bits; bits beyond the table are kept, a newer kernel may know them.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The kernel's mask.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether the set holds this one.
    pub const fn contains(self, cap: Capability) -> bool {
        self.0 & (1 << cap.0) != 0
    }

    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set with one more.
    #[must_use]
    pub const fn with(self, cap: Capability) -> Self {
        Self(self.0 | 1 << cap.0)
    }

    /// The set with one fewer.
    #[must_use]
    pub const fn without(self, cap: Capability) -> Self {
        Self(self.0 & !(1 << cap.0))
    }

    /// What is in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in this one and not in the other.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The members that the table names, by number.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        (0u8..).take(NAMES.len()).map(Capability).filter(move |cap| self.contains(*cap))
    }

    /// The members as the OCI configuration and `inspect` write them: `CAP_…`, in the kernel's order.
    pub fn names(self) -> Vec<String> {
        self.iter().map(|cap| cap.to_string()).collect()
    }

    /// Reads a list of names (no `ALL`), as in an OCI document.
    pub fn from_names<S: AsRef<str>>(names: &[S]) -> Result<Self, UnknownCapability> {
        names.iter().try_fold(Self::EMPTY, |set, name| Ok(set.with(Capability::parse(name.as_ref())?)))
    }

    /// The set of an OCI document.
    pub fn from_oci(set: &oci_spec::runtime::Capabilities) -> Result<Self, UnknownCapability> {
        set.iter().try_fold(Self::EMPTY, |all, cap| Ok(all.with(Capability::parse(&cap.to_string())?)))
    }

    /// Applies `--cap-add` and `--cap-drop` to this set.
    ///
    /// Docker's rules: without `ALL`, what is dropped goes and what is added comes, and a name in both lists stays;
    /// `--cap-add ALL` starts from everything and then drops; `--cap-drop ALL` starts from nothing and then adds; with
    /// `ALL` in both, adding wins and only names in `drop` are taken away again.
    pub fn adjust<A: AsRef<str>, D: AsRef<str>>(
        self,
        add: &[A],
        drop: &[D],
    ) -> Result<Self, UnknownCapability> {
        let (add_all, add) = parse_list(add)?;
        let (drop_all, drop) = parse_list(drop)?;
        Ok(match (add_all, drop_all) {
            (true, _) => Self::ALL.difference(drop),
            (false, true) => add,
            (false, false) => self.difference(drop).union(add),
        })
    }
}

/// Splits a list into "was `ALL` in it" and the set of the rest.
fn parse_list<S: AsRef<str>>(list: &[S]) -> Result<(bool, CapSet), UnknownCapability> {
    let mut all = false;
    let mut set = CapSet::EMPTY;
    for name in list {
        let name = name.as_ref().trim();
        if without_prefix(name).eq_ignore_ascii_case("ALL") {
            all = true;
        } else {
            set = set.with(Capability::parse(name)?);
        }
    }
    Ok((all, set))
}

impl fmt::Debug for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Capability::name)).finish()
    }
}

impl FromIterator<Capability> for CapSet {
    fn from_iter<I: IntoIterator<Item = Capability>>(iter: I) -> Self {
        iter.into_iter().fold(Self::EMPTY, Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: &[&str] = &[];

    #[test]
    fn every_name_of_the_oci_table_is_known_and_numbers_are_the_kernels() {
        assert_eq!(Capability::parse("CAP_SYS_ADMIN").map(Capability::number), Ok(21));
        assert_eq!(Capability::parse("CAP_CHECKPOINT_RESTORE").map(Capability::number), Ok(40));
        assert_eq!(Capability::parse("CAP_SETFCAP").map(Capability::number), Ok(31));
        use oci_spec::runtime::Capability as Oci;
        let some = [Oci::AuditRead, Oci::SysPacct, Oci::MacAdmin, Oci::NetBroadcast];
        for cap in some {
            assert!(Capability::parse(&cap.to_string()).is_ok(), "{cap} is unknown");
        }
    }

    #[test]
    fn constants_carry_their_own_names() {
        for (cap, name) in [
            (Capability::DAC_READ_SEARCH, "DAC_READ_SEARCH"),
            (Capability::SYS_TTY_CONFIG, "SYS_TTY_CONFIG"),
            (Capability::SYSLOG, "SYSLOG"),
            (Capability::BPF, "BPF"),
            (Capability::PERFMON, "PERFMON"),
            (Capability::SYS_TIME, "SYS_TIME"),
            (Capability::AUDIT_WRITE, "AUDIT_WRITE"),
            (Capability::MKNOD, "MKNOD"),
        ] {
            assert_eq!(cap.name(), name);
        }
    }

    #[test]
    fn names_are_read_in_any_case_with_and_without_prefix() {
        for name in ["net_admin", "NET_ADMIN", "cap_net_admin", "CAP_Net_Admin"] {
            assert_eq!(Capability::parse(name), Ok(Capability::NET_ADMIN), "{name}");
        }
    }

    #[test]
    fn a_wrong_name_is_refused_and_named() {
        let error = Capability::parse("CAP_FLY").unwrap_err();
        assert!(error.to_string().contains("\"CAP_FLY\""), "{error}");
        assert!(Capability::parse("").is_err());
        assert!(Capability::parse("CAP_").is_err());
        assert!(Capability::parse("CAP_CAP_CHOWN").is_err());
        assert!(Capability::parse("éé_X").is_err(), "a name that is not ASCII must not panic");
    }

    #[test]
    fn the_default_set_has_dockers_fourteen() {
        assert_eq!(CapSet::CONTAINER_DEFAULT.iter().count(), 14);
        assert!(!CapSet::CONTAINER_DEFAULT.contains(Capability::SYS_ADMIN));
        assert_eq!(
            CapSet::CONTAINER_DEFAULT.bits(),
            0xa804_25fb,
            "the mask that CapBnd of such a container shows"
        );
    }

    #[test]
    fn the_strict_set_is_part_of_the_default_one() {
        assert_eq!(CapSet::CONTAINER_STRICT.iter().count(), 9);
        assert!(CapSet::CONTAINER_STRICT.difference(CapSet::CONTAINER_DEFAULT).is_empty());
    }

    #[test]
    fn adding_and_dropping_single_names() {
        let set = CapSet::CONTAINER_DEFAULT.adjust(&["sys_time"], &["CAP_MKNOD"]).unwrap();
        assert!(set.contains(Capability::SYS_TIME));
        assert!(!set.contains(Capability::MKNOD));
        assert_eq!(set.iter().count(), 14);
    }

    #[test]
    fn dropping_all_and_adding_one_leaves_that_one() {
        let set = CapSet::CONTAINER_DEFAULT.adjust(&["NET_BIND_SERVICE"], &["all"]).unwrap();
        assert_eq!(set, CapSet::of(&[Capability::NET_BIND_SERVICE]));
    }

    #[test]
    fn adding_all_and_dropping_one_lacks_that_one() {
        let set = CapSet::CONTAINER_DEFAULT.adjust(&["CAP_ALL"], &["SYS_ADMIN"]).unwrap();
        assert_eq!(set, CapSet::ALL.without(Capability::SYS_ADMIN));
    }

    #[test]
    fn nothing_asked_changes_nothing() {
        assert_eq!(CapSet::CONTAINER_DEFAULT.adjust(NONE, NONE), Ok(CapSet::CONTAINER_DEFAULT));
    }

    #[test]
    fn oci_sets_and_names_come_back_as_they_went() {
        let names = CapSet::CONTAINER_DEFAULT.names();
        assert!(names.contains(&"CAP_NET_RAW".to_owned()));
        assert_eq!(CapSet::from_names(&names), Ok(CapSet::CONTAINER_DEFAULT));
        let oci: oci_spec::runtime::Capabilities = [oci_spec::runtime::Capability::Chown].into();
        assert_eq!(CapSet::from_oci(&oci), Ok(CapSet::of(&[Capability::CHOWN])));
    }
}
